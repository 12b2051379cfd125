"""Autoencoder, VAE and conditional VAE with scikit-learn's manners, over all that lies below.

What is learnt from are images, uint8 of shape (N, H, W), (N, H, W, C) or (N, C, H, W), or the rows of a table of reals,
(N, D). Latents z have shape (N, d). Figures are in nats per image or row.

scikit-learn's law is kept: no logic in `__init__`, `fit` returns the estimator, what was fitted ends in `_`. Inheriting from
its base classes is part of that law. The parameters are those of `vaelab.estimators.parameters`.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Generator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar, Self, final

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Tags, check_consistent_length, column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, check_is_fitted, validate_data

from vaelab.config import Config, ModelConfig, ModelName, TrainConfig
from vaelab.data import Dataset, Split
from vaelab.data.arrays import channels_first, label_values
from vaelab.data.layout import describe_shape, expect_levels
from vaelab.data.split import hold_out
from vaelab.errors import DataError, LabelError, RunError, TrainingError, expect_list, unknown_label
from vaelab.estimators.parameters import OF_MODEL, OF_TRAINING, Parameters
from vaelab.figures.pictures import Pictures
from vaelab.inference.explore import restyle
from vaelab.inference.latents import place
from vaelab.inference.trained import Decode, Reconstructions, TrainedModel, load
from vaelab.models.factory import build_model
from vaelab.progress import TrainingDisplay
from vaelab.training import fit, runs
from vaelab.training.fit import Progress
from vaelab.training.validation import Averages


class _Estimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, Parameters):
    """What the three share: see `VAE`."""

    kind: ClassVar[ModelName]
    trained_: TrainedModel
    config_: Config
    data_: runs.DataCard
    validation_: Averages | None
    n_steps_: int
    n_features_in_: int
    classes_: np.ndarray

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on images or rows, and return the estimator.

        Parameters
        ----------
        X
            uint8 images, (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3, or reals, (N, D).
        y
            The label of each, integers or text, for a `ConditionalVAE`. The others learn without, whatever is given.

        Raises
        ------
        ConfigError, DataError, LabelError
            If a parameter or the data cannot be. They are `ValueError`s, as are those that scikit-learn raises of a table.
        TrainingError
            If the loss stays NaN or infinite; nothing is fitted then.
        """
        with TrainingDisplay() if self.verbose else nullcontext() as display:
            for progress in self.fit_steps(X, y):
                if display is not None:
                    display.show(progress)
        return self

    def fit_steps(self, X: Any, y: Any = None) -> Generator[Progress]:
        """Train as `fit` does and yield progress a few times a second; the estimator is fitted when the loop ends.

        Leaving the loop before its end (`break`, Ctrl-C) keeps the averaged weights of that moment.
        """
        model = ModelConfig(model=self.kind, **{own.name: getattr(self, own.name) for own in OF_MODEL})
        train = TrainConfig(**{own.name: getattr(self, own.name) for own in OF_TRAINING})
        dataset = self._dataset(X, y)
        config = fit.complete(Config(model, train), dataset)
        steps = fit.fit(config, dataset)
        last = None
        try:
            for last in steps:
                yield last
        except TrainingError:
            last = None
            raise
        finally:
            steps.close()
            if last is not None:
                self._keep(config, dataset, last)

    def transform(self, X: Any, labels: Any = None) -> np.ndarray:
        """The mean of the posterior of each image or row, float32 (N, d): a function of it alone, with no noise.

        Grey levels are seen as they are, not binarised.

        Parameters
        ----------
        X
            As `fit` takes it, of the same shape.
        labels
            One each, for a `ConditionalVAE`. Without them each is encoded under the label that the model itself finds
            likeliest for it, which takes K passes. So it is in a `Pipeline`, when it is fitted too: what comes after never
            sees a latent that was made with a label that it will not be given later.
        """
        check_is_fitted(self, "trained_")
        return place(self.trained_, self._read(X), self._indices(labels)).z

    def inverse_transform(self, z: Any, labels: Any = None) -> np.ndarray:
        """Latents decoded to their mean: images, uint8 (N, H, W[, 3]), or rows, float32 (N, D); `labels` as for `sample`."""
        check_is_fitted(self, "trained_")
        return self.trained_.decode(np.asarray(z), self._indices(labels))

    def sample(
        self,
        labels: Any = None,
        *,
        count: int | None = None,
        temperature: float = 1.0,
        seed: int = 0,
        decode: Decode = "mean",
    ) -> np.ndarray:
        """New images or rows, each from a latent of its own.

        Parameters
        ----------
        labels
            For a `ConditionalVAE`: what to make, one label of `classes_` each.
        count
            For the others: how many, by default 1.
        temperature
            Standard deviation of the latents, 0 or more; 1 is the prior's.
        seed
            Of the latents and the draw.
        decode
            `mean` shows the mean of p(x|z), `sample` a draw from it.

        Returns
        -------
        uint8 (N, H, W[, 3]), or float32 (N, D)

        Raises
        ------
        LabelError
            If labels are missing, unknown, or given to a model that takes none.
        """
        check_is_fitted(self, "trained_")
        expect_list(labels, conditional=self.kind == "cvae", grid="trained_.grid")
        return self.trained_.sample(
            self._indices(labels), count=count, temperature=temperature, seed=seed, decode=decode
        )

    def reconstruct(self, X: Any, y: Any = None) -> Reconstructions:
        """Each image or row encoded and decoded again, and its nats: see `TrainedModel.reconstruct`; X, y as for `score`."""
        check_is_fitted(self, "trained_")
        return self.trained_.reconstruct(self._read(X), self._indices(y) if self.kind == "cvae" else None)

    def score(self, X: Any, y: Any = None) -> float:
        """Mean −(rate + distortion), nats per image or row, of one seeded draw of z each: the ELBO; higher is better.

        Parameters
        ----------
        X
            As `fit` takes it, of the same shape.
        y
            The label of each, for a `ConditionalVAE`; the others do without. Of an `Autoencoder` it is −distortion: not to be
            compared with the others'.
        """
        return -float(self.reconstruct(X, y).nats.mean(dtype=np.float64))

    @available_if(lambda self: self.kind != "ae")
    def score_samples(self, X: Any, y: Any = None, *, samples: int = 100) -> np.ndarray:
        """The importance-weighted bound of each on log p, nats, (N,): see `TrainedModel.score_samples`; X, y as for `score`."""
        check_is_fitted(self, "trained_")
        indices = self._indices(y) if self.kind == "cvae" and y is not None else None
        return self.trained_.score_samples(self._read(X), indices, samples=samples)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write a run folder, as `vaelab train` does: `vaelab.load`, `load` and the command line read it.

        It holds the weights and the configuration, never code; there is nothing in it to resume a training with.

        Raises
        ------
        RunError
            If the folder holds something already.
        OutputError
            If it cannot be written.
        """
        check_is_fitted(self, "trained_")
        run = runs.create_run(Path(folder), self.config_, self.data_)
        figures = {} if self.validation_ is None else dataclasses.asdict(self.validation_)
        axes = {} if self.trained_.axes is None else {"axes": dataclasses.asdict(self.trained_.axes)}
        runs.save_weights(run, self.trained_.model.state_dict(), {"step": self.n_steps_, **figures, **axes})

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """The fitted estimator of a run folder, of `save` or of `vaelab train`.

        `classes_` are the class names; integers, if all names are.

        Raises
        ------
        RunError
            If there is no run, it is damaged, or it is of a model of another kind.
        ConfigError
            If a network of one's own cannot be imported.
        """
        run = runs.open_run(Path(folder))
        if (kind := run.config.model.model) != cls.kind:
            name = next(other.__name__ for other in (Autoencoder, VAE, ConditionalVAE) if other.kind == kind)
            raise RunError(f"{folder}: got a run of a {kind}; expected a {cls.kind}: type {name}.load")
        values = dataclasses.asdict(run.config.model) | dataclasses.asdict(run.config.train)
        estimator = cls(**{name: value for name, value in values.items() if name != "model"})
        facts = runs.weight_facts(run)
        estimator.trained_, estimator.config_, estimator.data_ = load(folder), run.config, run.data
        estimator.validation_ = Averages(facts["distortion"], facts["rate"]) if "rate" in facts else None
        estimator.n_steps_ = facts["step"]
        estimator.n_features_in_ = math.prod(run.data.shape)
        if cls.kind == "cvae":
            estimator.classes_ = label_values(run.data.classes)
        return estimator

    def _dataset(self, X: Any, y: Any) -> Dataset:
        """What is to be learnt from, a tenth of it held out to choose the weights by."""
        images, labels, classes = self._read(X, reset=True), None, ()
        if self.kind == "cvae":
            if y is None:
                raise LabelError(
                    f"{type(self).__name__} requires y to be passed, but the target y is None: got no labels; expected one "
                    "for every image: give them, or take a VAE"
                )
            y = column_or_1d(y, warn=True)
            assert_all_finite(y, input_name="y")
            check_classification_targets(y)
            check_consistent_length(images, y)
            self.classes_, labels = np.unique(y, return_inverse=True)
            classes = tuple(map(str, self.classes_))
        kept, held = hold_out(len(images) if labels is None else labels, seed=self.seed)
        whole = Split(images, labels)
        return Dataset("arrays", whole[kept], whole[held], whole[:0], classes)

    def _read(self, X: Any, *, reset: bool = False) -> np.ndarray:
        """Images as uint8 (N, C, H, W), or rows as float32 (N, D); of the shape that was fitted, unless `reset`."""
        if isinstance(X, list | tuple):
            X = np.asarray(X)
        if getattr(X, "ndim", 2) > 2:
            images = channels_first(np.asarray(X), "X")
            expect_levels(images, "X: ")
            if reset:
                self.n_features_in_ = math.prod(images.shape[1:])
        else:
            images = np.asarray(validate_data(self, X, dtype=np.float32, reset=reset))
        if not reset and images.shape[1:] != self.data_.shape:
            got, expected = describe_shape(images.shape[1:]), describe_shape(self.data_.shape)
            raise DataError(f"X: got {got}; expected {expected}, as the model was trained on")
        return images

    def _indices(self, labels: Any) -> Any:
        """Labels as the trained model counts them; it has a word of its own for those that are missing or out of place."""
        if self.kind != "cvae" or labels is None:
            return labels
        known: dict[Any, int] = {name: index for index, name in enumerate(self.data_.classes)}
        known |= {value: index for index, value in enumerate(self.classes_.tolist())}
        given = column_or_1d(np.atleast_1d(labels)).tolist()
        for label in given:
            if label not in known and str(label) not in known:
                raise unknown_label(label, self.data_.classes, indices=False)
        return np.array([known[label] if label in known else known[str(label)] for label in given], dtype=np.int64)

    def _keep(self, config: Config, dataset: Dataset, last: Progress) -> None:
        assert config.model.likelihood is not None
        model = build_model(config.model, dataset.shape, len(dataset.classes)).eval().requires_grad_(False)
        model.load_state_dict(last.model.state_dict())  # a copy on the CPU, that nothing else trains
        self.trained_ = TrainedModel(model, self.kind, config.model.likelihood, dataset.classes, last.axes)
        self.config_, self.data_ = config, runs.DataCard.of(dataset)
        self.validation_, self.n_steps_ = last.validation, last.step

    @property
    def _n_features_out(self) -> int:
        return self.trained_.model.latent_dim

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.target_tags.required = self.kind == "cvae"
        assert tags.transformer_tags is not None
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


@final
class Autoencoder(_Estimator):
    """The autoencoder: the VAE with no noise and no rate. Its random samples are rubbish, since nothing arranged its codes.

    Parameters, attributes and methods are those of `VAE`.
    """

    kind = "ae"


@final
class VAE(_Estimator):
    """The variational autoencoder, as a transformer that also generates.

    Parameters
    ----------
    latent_dim, network, likelihood, …
        What is trained: the fields of `vaelab.ModelConfig`, by keyword, with its defaults.
    epochs, seconds, learning_rate, …
        How: the fields of `vaelab.TrainConfig`. With `epochs` what is fitted is a function of `seed` and the data.
    verbose
        Show the progress of `fit` on standard error.

    Attributes
    ----------
    trained_ : TrainedModel
        The model, on the CPU, as `vaelab.load` gives it: with `grid`, `reconstruct` and `encode`.
    config_ : Config
        The parameters, with what was left to the data chosen.
    data_ : DataCard
        What is remembered of the data.
    validation_ : Averages or None
        Distortion and rate, in nats per image or row, of the tenth that was held out to choose the weights by; None where
        there was too little to hold any out.
    n_steps_ : int
        Steps of training made.
    n_features_in_, feature_names_in_
        As everywhere in scikit-learn; of an image, its number of values.

    Examples
    --------
    >>> from vaelab import VAE
    >>> from sklearn.datasets import load_wine
    >>> table = load_wine().data
    >>> VAE(latent_dim=2, epochs=1).fit(table).transform(table).shape
    (178, 2)
    """

    kind = "vae"


@final
class ConditionalVAE(_Estimator):
    """The conditional VAE: it is fitted with labels, and generates the label that it is asked for.

    Parameters and methods are those of `VAE`; the attributes too, and

    Attributes
    ----------
    classes_ : array
        The labels, sorted, as they were given. A label that is asked for is one of them.
    """

    kind = "cvae"

    def restyle(self, image: Any, label: Any = None) -> Pictures:
        """One image's style under every label: see `vaelab.inference.explore.restyle`.

        Parameters
        ----------
        image
            uint8 (H, W), (H, W, C) or (C, H, W).
        label
            What it shows; without it, the model reads it.

        Returns
        -------
        Pictures
            As an array uint8 (1, K, H, W[, 3]): an image for each of `classes_`. In a notebook it shows itself.
        """
        check_is_fitted(self, "trained_")
        return restyle(self.trained_, image, None if label is None else self._indices([label]))
