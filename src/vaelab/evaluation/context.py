"""The evaluation context: a trained model, the data it is measured on, and the settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from vaelab.data.dataset import Dataset, Split
from vaelab.data.layout import describe_shape
from vaelab.errors import DataError, LabelError
from vaelab.evaluation.label_free import label_free_network_for
from vaelab.evaluation.reference_classifier import ReferenceClassifier, reference_classifier_for
from vaelab.evaluation.work import Work, silent
from vaelab.inference.trained import TrainedModel
from vaelab.objectives.batch import held_out_levels
from vaelab.runs import Run


@dataclass(frozen=True)
class Settings:
    """Settings of an evaluation.

    Attributes
    ----------
    importance_samples
        K of the importance-weighted bound.
    quick
        Whether to use fewer images and samples, for a first result in one to three minutes.
    seed
        Seed of all random draws.
    most_decoded
        Maximum number of decoded images held in memory at a time.
    """

    importance_samples: int = 500
    quick: bool = False
    seed: int = 0
    most_decoded: int = 500


@dataclass(frozen=True)
class EvaluationContext:
    """A model, the data to measure it on, and the settings.

    Attributes
    ----------
    model
        The model to measure.
    dataset
        Source of the held-out images; generated images are compared with its training images.
    settings
        Settings of the evaluation.
    work
        Progress callback.
    versus
        Data of the same shape from another source, used as outliers; or None.
    run
        The run of the model, from which the diagnosis judges its training; or None.

    Raises
    ------
    DataError
        If the shapes of model and data differ.
    LabelError
        If the model needs labels and the data have none, or have a class that the model does not know.
    """

    model: TrainedModel
    dataset: Dataset
    settings: Settings = field(default_factory=Settings)
    work: Work = silent
    versus: Dataset | None = None
    run: Run | None = None

    def __post_init__(self) -> None:
        for data in (self.dataset, self.versus):
            if data is not None and self.model.model.shape != data.shape:
                raise DataError(
                    f"{data.name}: got {describe_shape(data.shape)}; expected "
                    f"{describe_shape(self.model.model.shape)}, as the model was trained on{_how_to_fit(data, self.model)}"
                )
        self.labels  # noqa: B018 - raises if the model needs labels that the data lack

    @property
    def split(self) -> str:
        """Name of the held-out split: "test", or "validation" if the data have no test images."""
        return "test" if len(self.dataset.test) else "validation"

    @cached_property
    def held_out(self) -> Split:
        """The held-out images, unchanged."""
        split = self.dataset.test if len(self.dataset.test) else self.dataset.validation
        if len(split) == 0:
            raise DataError(f"{self.dataset.name}: got no test and no validation images; expected some to evaluate on")
        return split

    @cached_property
    def levels(self) -> Tensor:
        """The held-out images as the likelihood takes them, (N, *shape): binarised once if it is Bernoulli."""
        return held_out_levels(self.held_out.images, self.model.likelihood)

    @cached_property
    def labels(self) -> Tensor | None:
        """Class indices of the held-out images in the model's order, (N,); None for an unconditional model.

        Raises
        ------
        LabelError
            If the model needs labels and the data have none, or have a class that the model does not know.
        """
        try:
            matched = self.model.matched_labels(self.held_out.labels, self.dataset.classes)
        except LabelError as error:
            raise LabelError(f"{self.dataset.name}: {error}") from error
        return None if matched is None else torch.from_numpy(matched)

    @cached_property
    def classifier(self) -> ReferenceClassifier:
        """The reference classifier, trained on real training images only and cached by their fingerprint."""
        return reference_classifier_for(self.dataset, work=self.work)

    @cached_property
    def features(self) -> ReferenceClassifier:
        """The network in whose features images are compared: the reference classifier or, below two classes, a label-free one.

        Raises
        ------
        DataError
            If the data are not images, or have no training images.
        """
        if len(self.dataset.classes) >= 2:
            return self.classifier
        return label_free_network_for(self.dataset, work=self.work)


def _how_to_fit(dataset: Dataset, model: TrainedModel) -> str:
    """Return the hint to scale the images if only their size differs from the model's, else ""."""
    shape = model.model.shape
    if len(shape) != 3 or len(dataset.shape) != 3 or shape[0] != dataset.shape[0]:
        return ""
    return f"; pass `size='{shape[1]}x{shape[2]}'` to scale them"
