"""What is evaluated: a trained model and the held-out images that it is measured on, with the settings of the evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from vaelab.data.dataset import Dataset, Split
from vaelab.data.layout import describe_shape
from vaelab.errors import DataError, LabelError
from vaelab.evaluation.reference_classifier import Judge, judge_of
from vaelab.inference.trained import TrainedModel
from vaelab.objectives.batch import held_out_levels

Work = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Settings:
    """How an evaluation is made.

    Attributes
    ----------
    importance_samples
        K of the importance-weighted bound.
    quick
        Fewer images and samples, for a first look in a minute.
    seed
        Of every draw.
    most_decoded
        Decoded images held in memory at a time.
    """

    importance_samples: int = 500
    quick: bool = False
    seed: int = 0
    most_decoded: int = 500


@dataclass(frozen=True)
class Subject:
    """A model and the data to measure it on.

    Attributes
    ----------
    model
        What is measured.
    dataset
        Where the held-out images come from; its training images are what samples are compared with.
    settings
        How.
    work
        Told of progress.
    versus
        Other data of the same shape, whose images are outliers to tell from the held-out ones; or None.
    """

    model: TrainedModel
    dataset: Dataset
    settings: Settings = field(default_factory=Settings)
    work: Work = silent
    versus: Dataset | None = None

    def __post_init__(self) -> None:
        for data in (self.dataset, self.versus):
            if data is not None and self.model.model.shape != data.shape:
                raise DataError(
                    f"{data.name}: got {describe_shape(data.shape)}; expected "
                    f"{describe_shape(self.model.model.shape)}, as the model was trained on{_how_to_fit(data, self.model)}"
                )
        self.labels  # noqa: B018 - raises where the model needs labels that are not there

    @property
    def split(self) -> str:
        """The split that is measured on: test, or validation where there is no test."""
        return "test" if len(self.dataset.test) else "validation"

    @cached_property
    def held_out(self) -> Split:
        """The images that are measured on, as they came."""
        found = self.dataset.test if len(self.dataset.test) else self.dataset.validation
        if len(found) == 0:
            raise DataError(f"{self.dataset.name}: got no test and no validation images; expected some to measure on")
        return found

    @cached_property
    def levels(self) -> Tensor:
        """The same as they are compared with: (N, *shape), binarised once where the likelihood is Bernoulli."""
        return held_out_levels(self.held_out.images, self.model.likelihood)

    @cached_property
    def labels(self) -> Tensor | None:
        """Their labels as the model counts them, (N,); None for a model that takes none.

        Raises
        ------
        LabelError
            If the model needs labels and the data have none, or a class that it does not know.
        """
        try:
            matched = self.model.matched_labels(self.held_out.labels, self.dataset.classes)
        except LabelError as error:
            raise LabelError(f"{self.dataset.name}: {error}") from error
        return None if matched is None else torch.from_numpy(matched)

    @cached_property
    def judge(self) -> Judge:
        """A classifier trained on the data's training images alone, cached by their fingerprint."""
        return judge_of(self.dataset, work=self.work)

    @property
    def train_images(self) -> np.ndarray:
        """The training images, uint8 (N, C, H, W)."""
        return self.dataset.train.images


def _how_to_fit(dataset: Dataset, model: TrainedModel) -> str:
    """What to type where images have another size than the model's, and nothing else is between them."""
    want = model.model.shape
    if len(want) != 3 or len(dataset.shape) != 3 or want[0] != dataset.shape[0]:
        return ""
    return f": type --size {want[1]}x{want[2]} to scale them"
