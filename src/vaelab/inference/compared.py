"""Two models compared image by image: the mean difference of their nats, and its standard error."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from vaelab.errors import ConfigError, DataError, counted
from vaelab.inference.trained import Labels, TrainedModel


@dataclass(frozen=True)
class PairedScores:
    """Scores of two models on the same images, nats per image, lower is better; `str` of it is one line."""

    first: float
    second: float
    """Mean nats of each."""

    difference: float
    """Mean of second − first: below 0 if the second is better."""

    standard_error: float
    """Standard error of the mean of the paired differences over images; other seeds of the training are not included."""

    count: int
    """Number of images, n."""

    def __str__(self) -> str:
        return (
            f"second − first: {self.difference:+.2f} ± {self.standard_error:.2f} nats per image (first {self.first:.2f}, "
            f"second {self.second:.2f}, n = {self.count:,})"
        )


def compare_scores(
    first: TrainedModel | np.ndarray,
    second: TrainedModel | np.ndarray,
    images: np.ndarray | None = None,
    labels: Labels | None = None,
    *,
    samples: int | None = None,
    seed: int = 0,
) -> PairedScores:
    """Compare two models, or two arrays of nats, on the same images.

    The standard error is that of the differences per image, which is smaller than that of two separate means, since images that
    are hard for one model are hard for the other.

    Parameters
    ----------
    first, second
        Two trained models; or the nats of the same images in the same order, (N,), lower is better.
    images, labels
        As for `TrainedModel.reconstruct`, for two models. Without labels, conditional models infer them for −ELBO, and sum over
        all labels for the bound.
    samples
        Compare the importance-weighted bound with this number of draws of z per image; by default −ELBO with one draw. Needed
        to compare a conditional model with an unconditional one: its bound without labels is on log p(x), too.
    seed
        Seed of the draws of z.

    Raises
    ------
    ConfigError
        If images are missing or given with arrays, or the nats of the two models measure different quantities: one is an
        autoencoder, their likelihoods differ, or one is of log p(x) and the other of log p(x|y).
    DataError
        If the arrays differ in length, have fewer than two values, or hold NaN or infinity.
    """
    if isinstance(first, TrainedModel) and isinstance(second, TrainedModel):
        if images is None:
            raise ConfigError("`images`: got none for two models; expected the images to compare them on")
        _expect_comparable(first, second, of_label=labels is not None or samples is None)
        first, second = (_nats(model, images, labels, samples, seed) for model in (first, second))
    elif isinstance(first, TrainedModel) or isinstance(second, TrainedModel) or images is not None:
        raise ConfigError("`first`, `second`: expected two models and `images`, or two arrays of nats alone")
    a, b = (np.asarray(nats, dtype=np.float64) for nats in (first, second))
    if a.ndim != 1 or a.shape != b.shape or len(a) < 2:
        raise DataError(
            f"`first`, `second`: got nats of shapes {a.shape} and {b.shape}; expected two of shape (N,), of the same "
            "images in one order, at least 2"
        )
    if bad := int((~np.isfinite(a + b)).sum()):
        raise DataError(
            f"`first`, `second`: got NaN or infinity as nats of {counted(bad, 'image')}; expected finite numbers"
        )
    difference = b - a
    error = difference.std(ddof=1) / math.sqrt(len(difference))
    return PairedScores(float(a.mean()), float(b.mean()), float(difference.mean()), float(error), len(difference))


def _nats(model: TrainedModel, images: np.ndarray, labels: Labels | None, samples: int | None, seed: int) -> np.ndarray:
    if samples is None:
        return model.reconstruct(images, labels, seed=seed).nats
    return -model.score_samples(images, labels, samples=samples, seed=seed)


def _expect_comparable(first: TrainedModel, second: TrainedModel, *, of_label: bool) -> None:
    """Raise a ConfigError if nats measure different quantities; `of_label`: those of a conditional model are of log p(x|y)."""
    if of_label and first.conditional != second.conditional:
        raise ConfigError(
            "`first`, `second`: got a conditional model, whose nats given the label are of log p(x|y), and an unconditional one, "
            "whose are of log p(x); expected two of the same kind, or `samples` and no `labels`"
        )
    if first.likelihood != second.likelihood:
        raise ConfigError(
            f"`second`: got a likelihood of {second.likelihood}, and the first has {first.likelihood}; expected the same: nats "
            "of different likelihoods are not comparable"
        )
    if first.model.stochastic != second.model.stochastic:
        raise ConfigError(
            "`first`, `second`: got an autoencoder, whose distortion is no bound on log p(x), and a variational one; expected "
            "two of the same kind"
        )
