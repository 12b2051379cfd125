"""Autoencoder, VAE and conditional VAE as scikit-learn estimators.

X holds images, uint8 (N, H, W), (N, H, W, C) or (N, C, H, W), or rows of a table, (N, D). Latents z have shape (N, d). Losses
and scores are in nats per image or row.

The classes follow scikit-learn's conventions: they inherit from its base classes, `__init__` only stores its parameters (see
`vaelab.estimators.parameters`), `fit` returns the estimator, and the names of fitted attributes end in `_`.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Generator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, ClassVar, Self, final

import numpy as np
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags, check_consistent_length, column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import assert_all_finite, check_is_fitted

from vaelab import runs
from vaelab.config import Config, ModelConfig, ModelName, ResolvedConfig, TrainConfig
from vaelab.data import Dataset, Split
from vaelab.data.arrays import label_values
from vaelab.data.split import hold_out
from vaelab.errors import LabelError, RunError, TrainingError, expect_list, unknown_label
from vaelab.estimators.parameters import DEFAULTS, MODEL_FIELDS, TRAIN_FIELDS, Parameters
from vaelab.estimators.samples import as_samples
from vaelab.figures.pictures import Pictures
from vaelab.inference.class_names import composed
from vaelab.inference.explore import restyle
from vaelab.inference.latents import place
from vaelab.inference.trained import Decode, Reconstructions, TrainedModel, load
from vaelab.interruption import uninterrupted
from vaelab.models.factory import build_model
from vaelab.progress import TrainingDisplay
from vaelab.training import fit
from vaelab.training.fit import Progress
from vaelab.training.resolve import resolve


class _Estimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator, Parameters):
    """Common implementation of the estimators; see `VAE`."""

    kind: ClassVar[ModelName]
    trained_: TrainedModel
    config_: ResolvedConfig
    data_: runs.DataCard
    validation_: runs.Averages | None
    n_steps_: int
    n_features_in_: int
    classes_: np.ndarray

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on images or rows and return the estimator.

        Ctrl-C stops the training with a ConvergenceWarning, and the estimator has the averaged weights reached so far; before
        the first reported step, KeyboardInterrupt is raised.

        Parameters
        ----------
        X
            uint8 images, (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3, or reals, (N, D).
        y
            Labels, integers or strings, for a `ConditionalVAE`; ignored by the other estimators.

        Raises
        ------
        ConfigError, DataError, LabelError
            If a parameter or the data are invalid. All are `ValueError`s, like those that scikit-learn raises for tables.
        TrainingError
            If the loss stays NaN or infinite; the estimator is not fitted.
        """
        last = None
        try:
            with TrainingDisplay() if self.verbose else nullcontext() as shown, closing(self.fit_steps(X, y)) as steps:
                for last in steps:
                    if shown is not None:
                        shown.show(last)
        except KeyboardInterrupt:
            if last is None or last.step == 0:
                raise
            reached = f"step {last.step:,}, after {100 * last.fraction:.0f} % of the training"
            warnings.warn(f"fit was interrupted at {reached}", ConvergenceWarning, stacklevel=2)
        return self

    def fit_steps(self, X: Any, y: Any = None) -> Generator[Progress]:
        """Train like `fit` and yield progress a few times per second.

        If the loop is left early (`break`, Ctrl-C), the estimator has the averaged weights reached so far.
        """
        model = ModelConfig(model=self.kind, **{field.name: getattr(self, field.name) for field in MODEL_FIELDS})
        train = TrainConfig(**{field.name: getattr(self, field.name) for field in TRAIN_FIELDS})
        dataset = self._dataset(X, y)
        asked = Config(model, train)
        config = resolve(asked, dataset)
        steps, last = fit.fit(asked, dataset), None
        try:
            for last in steps:
                yield last
        except TrainingError:
            last = None
            raise
        finally:
            steps.close()
            if last is not None and last.step > 0:
                with uninterrupted():
                    self._set_fitted(config, dataset, last)

    def transform(self, X: Any, labels: Any = None) -> np.ndarray:
        """Return the posterior mean of each image or row, float32 (N, d), without noise.

        Grey levels are not binarised. The result for an image does not depend on the others.

        Parameters
        ----------
        X
            As for `fit`, with the same shape per image or row.
        labels
            One label per image or row, for a `ConditionalVAE`. Without labels, each is encoded under the label that is most
            probable under the model, which takes K passes. A `Pipeline` passes no labels, not even in `fit`, so the next step
            receives latents computed in the same way in training and in prediction.
        """
        check_is_fitted(self, "trained_")
        return place(self.trained_, self._read(X), self._indices(labels)).z

    def inverse_transform(self, z: Any, labels: Any = None) -> np.ndarray:
        """Decode latents to the mean of p(x|z), uint8 (N, H, W[, 3]) or float32 (N, D); `labels` are as for `sample`."""
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
        """Generate images or rows from independent latents.

        Parameters
        ----------
        labels
            For a `ConditionalVAE`: one label of `classes_` per image or row to generate.
        count
            For the other estimators: the number of images or rows. Default: 1.
        temperature
            Standard deviation of the latents, 0 or more; 1 is that of the prior.
        seed
            Seed of the latents and of `decode="sample"`.
        decode
            `mean` for the mean of p(x|z), `sample` for a sample of it.

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
        """Encode and decode images or rows, with the nats of each; see `TrainedModel.reconstruct`. X and y are as for `score`."""
        check_is_fitted(self, "trained_")
        return self.trained_.reconstruct(self._read(X), self._indices(y) if self.kind == "cvae" else None)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean ELBO, −(rate + distortion), in nats per image or row, from one seeded sample of z each.

        Higher is better. The score of an `Autoencoder` is −distortion and cannot be compared with those of the other estimators.
        Images or rows in X have the shape of those in `fit`; a `ConditionalVAE` needs y.
        """
        return -float(self.reconstruct(X, () if y is None else y).nats.mean(dtype=np.float64))

    @available_if(lambda self: self.kind != "ae")
    def score_samples(self, X: Any, y: Any = None, *, samples: int = 100) -> np.ndarray:
        """Return the importance-weighted bound on log p of each, in nats, (N,): see `TrainedModel.score_samples`."""
        check_is_fitted(self, "trained_")
        indices = self._indices(y) if self.kind == "cvae" and y is not None else None
        return self.trained_.score_samples(self._read(X), indices, samples=samples)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Save a run folder that `vaelab.load`, `load` and the command line can read.

        It contains weights and configuration, no code and no optimiser state, so training cannot be resumed from it.

        Raises
        ------
        RunError
            If the folder is not empty.
        OutputError
            If it cannot be written.
        """
        check_is_fitted(self, "trained_")
        self.trained_.save(folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, trust_code: bool = False) -> Self:
        """Load a fitted estimator from a run folder written by `save` or `vaelab train`; `trust_code` as for `vaelab.load`.

        `classes_` are the class names, as integers if all names are integers. The parameters are those of the run, but
        `compile="auto"` becomes `"no"`.

        Raises
        ------
        RunError
            If the run does not exist, is damaged, holds another kind of model, or needs `trust_code`.
        ConfigError
            If a custom network cannot be imported.
        """
        run = runs.open_run(Path(folder))
        if (kind := run.config.model.model) != cls.kind:
            name = next(other.__name__ for other in (Autoencoder, VAE, ConditionalVAE) if other.kind == kind)
            raise RunError(f"{folder}: got a run of a {kind}; expected a {cls.kind}: use {name}.load")
        config = run.config.as_config()
        values = vars(config.model) | vars(config.train)
        if values["compile"] == "auto":  # the default of `vaelab train`, not a choice
            values |= DEFAULTS
        estimator = cls(**{name: value for name, value in values.items() if name != "model"})
        facts, estimator.trained_ = runs.weight_facts(run), load(folder, trust_code=trust_code)
        estimator.config_, estimator.data_ = run.config, run.data
        estimator.validation_ = runs.Averages(facts["distortion"], facts["rate"]) if "rate" in facts else None
        estimator.n_steps_ = facts.get("step", 0)
        estimator.n_features_in_ = math.prod(run.data.shape)
        if cls.kind == "cvae":
            estimator.classes_ = label_values(run.data.classes)
        return estimator

    def _dataset(self, X: Any, y: Any) -> Dataset:
        """Return the training data as a dataset; a tenth is held out for validation."""
        images, labels, classes = as_samples(self, X), None, ()
        if self.kind == "cvae":
            if y is None:
                raise LabelError(
                    f"{type(self).__name__} requires y to be passed, but the target y is None; expected a label for every "
                    "image: pass `y`, or use a VAE"
                )
            y = column_or_1d(y, warn=True)
            assert_all_finite(y, input_name="y")
            check_classification_targets(y)
            check_consistent_length(images, y)
            self.classes_, labels = np.unique(y, return_inverse=True)
            classes = tuple(map(str, self.classes_))
        training, validation = hold_out(len(images) if labels is None else labels, seed=self.seed)
        data = Split(images, labels)
        return Dataset("arrays", data[training], data[validation], data[:0], classes)

    def _read(self, X: Any) -> np.ndarray:
        """Convert X to images, uint8 (N, C, H, W), or rows, float32 (N, D), of the fitted shape."""
        return as_samples(self, X, self.data_.shape)

    def _indices(self, labels: Any) -> Any:
        """Convert labels to indices of the trained model, which itself refuses missing or unexpected labels."""
        if self.kind != "cvae" or labels is None:
            return labels
        both = (self.data_.classes, self.classes_.tolist())
        known: dict[Any, int] = {composed(label): at for each in both for at, label in enumerate(each)}
        requested = column_or_1d(np.atleast_1d(labels)).tolist()
        if None in (found := [known.get(composed(label), known.get(composed(str(label)))) for label in requested]):
            raise unknown_label(requested[found.index(None)], self.data_.classes, indices=False)
        return np.array(found, dtype=np.int64)

    def _set_fitted(self, config: ResolvedConfig, dataset: Dataset, last: Progress) -> None:
        """Set the fitted attributes from the model that `last` reports."""
        model = build_model(config.model, dataset.shape, len(dataset.classes)).eval().requires_grad_(False)
        model.load_state_dict(last.model.state_dict())  # a copy on the CPU, independent of the training
        self.config_, self.data_ = config, runs.DataCard.of(dataset)
        self.validation_, self.n_steps_ = last.validation, last.step
        facts = runs.facts_of_weights(last.validation, last.axes) | {"step": last.step}
        origin = runs.Origin(config, self.data_, facts)
        self.trained_ = TrainedModel(model, self.kind, config.model.likelihood, dataset.classes, last.axes, origin)

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
    """Autoencoder: the VAE without noise and rate.

    It has no prior, so random samples of it are meaningless. Parameters, attributes and methods are those of `VAE`.
    """

    kind = "ae"


@final
class VAE(_Estimator):
    """Variational autoencoder: a transformer that can also generate.

    Parameters
    ----------
    latent_dim, network, likelihood, …
        Model: the fields of `vaelab.ModelConfig` except `model`, with the same defaults; keywords only.
    epochs, seconds, learning_rate, …
        Training: the fields of `vaelab.TrainConfig`, with the same defaults except for `compile`. With `epochs`, the result
        depends only on `seed` and the data.
    compile : {"no", "auto", "yes"}, default="no"
        Whether `fit` compiles the training step; see `vaelab.TrainConfig`. The default never starts a compiler. `"auto"`, the
        default of `vaelab train`, compiles with a C++ compiler if that saves time, and records a CUDA graph on a GPU.
    verbose : bool, default=False
        Show the progress of `fit` on standard error.

    Attributes
    ----------
    trained_ : TrainedModel
        The model, on the CPU, as returned by `vaelab.load`, with `grid`, `reconstruct` and `encode`.
    config_ : ResolvedConfig
        The configuration, with the defaults that depend on the data filled in.
    data_ : DataCard
        Shape, classes and fingerprint of the training data.
    validation_ : Averages or None
        Distortion and rate, in nats per image or row, on the held-out tenth that selects the weights; None if there are too
        few images to hold any out.
    n_steps_ : int
        Number of training steps.
    n_features_in_, feature_names_in_
        As in scikit-learn; for images, the number of values per image.

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
    """Conditional VAE: fitted with labels, generates images or rows of a given label.

    Parameters, attributes and methods are those of `VAE`, with one additional attribute.

    Attributes
    ----------
    classes_ : ndarray
        The unique labels of `y`, sorted; `sample` and `transform` accept these values.
    """

    kind = "cvae"

    def restyle(self, image: Any, label: Any = None) -> Pictures:
        """Decode the style of one image under every label; see `vaelab.inference.explore.restyle`.

        Parameters
        ----------
        image
            uint8 (H, W), (H, W, C) or (C, H, W).
        label
            Label of the image. Default: inferred by the model.

        Returns
        -------
        Pictures
            uint8 (1, K, H, W[, 3]) as an array: one image for each of `classes_`. Notebooks display it.
        """
        check_is_fitted(self, "trained_")
        return restyle(self.trained_, image, None if label is None else self._indices([label]))
