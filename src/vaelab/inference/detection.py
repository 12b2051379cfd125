"""Which images are odd: conformal p-values of their scores among those of held-out images.

Symbols: s the score of an image, s₁…sₙ those of n calibration images, which the model was not trained on. The p-value is
p = (1 + #{sᵢ ≥ s}) / (n + 1). An image like the calibration images has p ≤ α with a probability of at most α, whatever the
model and the score: its rank among n + 1 exchangeable images is uniform. An image is odd if p is at most the rate of false alarms
that was asked for.

For this, a score must be a function of its image alone. All images therefore have the same noise, and each is binarised as if it
were the only one.

Sources: Vovk, Gammerman & Shafer 2005 (conformal prediction); Bates et al. 2023, Testing for outliers with conformal p-values.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import betabinom
from torch import Tensor

from vaelab.config import ModelName
from vaelab.data.layout import as_stored
from vaelab.errors import ConfigError, DataError, counted
from vaelab.inference.given import Given
from vaelab.inference.labels import likeliest_labels
from vaelab.inference.outlier_scores import ScoreName, Scores, outlier_scores
from vaelab.inference.tables import Columns
from vaelab.inference.trained import TrainedModel
from vaelab.models.distributions import Likelihood
from vaelab.objectives.bounds import Infer, map_held_out
from vaelab.parts import parts_of
from vaelab.random import latent_noise

SAMPLES = 20
"""Default K of the importance-weighted bound."""

DEFAULT_SCORE: ScoreName = "likelihood"

DIGITS = 2
"""Decimal digits of scores in nats."""

ROUNDING = 1e-9
"""Relative error of a rate that is allowed for, so that 0.07 is 7 of 100."""


class Detection(NamedTuple):
    """Which of N images are odd.

    Attributes
    ----------
    scores
        Scores of the images by name, in nats, float64 (N,); higher is odder.
    p_values
        Share of images like the calibration images that are at least as odd, float64 (N,), in 1/(n + 1)…1.
    odd
        Whether the p-value is at most the rate of false alarms, bool (N,).
    """

    scores: Scores
    p_values: np.ndarray
    odd: np.ndarray


def detect(
    model: TrainedModel,
    images: np.ndarray,
    calibration: np.ndarray,
    *,
    false_alarms: float = 0.01,
    score: ScoreName | None = None,
    samples: int = SAMPLES,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Detection:
    """Find the images, or rows of a table, that are unlike calibration images, at a stated rate of false alarms.

    Parameters
    ----------
    model
        A trained model, from `vaelab.load`. A conditional model scores each image under the label that it finds most probable.
    images
        uint8 (N, H, W), (N, H, W, 3) or (N, C, H, W), or rows (N, D), as the model was trained on.
    calibration
        n images of the same form that are as they should be, and that the model was not trained on.
    false_alarms
        Share of images like the calibration images that may be called odd, in 0…1; 1/(n + 1) or more.
    score
        `likelihood`: −log p(x), by the importance-weighted bound. `corrected`: the same minus the length of the image's PNG, in
        nats. `reconstruction`: the distortion −log p(x|z). Default: likelihood; reconstruction for an autoencoder.
    samples
        Draws of z per image for the bound.
    seed
        Seed of these draws.
    progress
        Called with images done and images in all, calibration images included.

    Raises
    ------
    ConfigError
        If there are too few calibration images for the rate, or the model has no such score.
    DataError
        If there are no images, or they do not have the shape that the model was trained on.
    """
    name = chosen_score(model.kind, model.model.shape, score)
    expect_supported(false_alarms, len(calibration))
    if not len(images):
        raise DataError("`images`: got none; expected at least one")
    total = len(calibration) + len(images)

    def scored(some: np.ndarray, before: int) -> Scores:
        def report(done: int, _: int) -> None:
            if progress is not None:
                progress(before + done, total)

        return score_images(model, some, samples=samples, seed=seed, progress=report)

    reference, scores = scored(calibration, 0), scored(images, len(calibration))
    p_values = conformal_p_values(reference[name], scores[name])
    return Detection(scores, p_values, flagged(p_values, false_alarms))


def score_images(
    model: TrainedModel,
    images: np.ndarray,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Return all scores of images, each a function of its image alone; the parameters are those of `detect`.

    They are rounded to 0.01 nats: further digits of float32 sums depend on how many images are computed together. A score
    that is not a number, as of a row far outside float32, is infinite.
    """
    expect_samples(samples)
    levels = binarised_alone(model, images)
    scores = outlier_scores(model, levels, samples=samples, seed=seed, shared=True, progress=progress)
    return {name: np.where(np.isnan(values), np.inf, values.round(DIGITS)) for name, values in scores.items()}


def binarised_alone(model: TrainedModel, images: np.ndarray) -> Tensor:
    """Return images as the likelihood takes them, (N, *shape), each binarised as if it were the only one."""
    stored = as_stored(images, model.model.shape)
    if model.likelihood != "bernoulli":
        return model.levels(stored)
    return torch.cat([model.levels(image[None]) for image in stored])


def chosen_score(kind: ModelName, shape: tuple[int, ...], score: str | None, parameter: str = "score") -> ScoreName:
    """Return the score by which to detect, by default `DEFAULT_SCORE`, or the only one of an autoencoder.

    Raises
    ------
    ConfigError
        If there is no such score for this kind of model and shape of an image or row; the message names the `parameter`.
    """
    known: list[ScoreName] = ["reconstruction"]
    if kind != "ae":
        known = ["likelihood", "corrected", "reconstruction"] if len(shape) == 3 else ["likelihood", "reconstruction"]
    if score is None:
        return DEFAULT_SCORE if DEFAULT_SCORE in known else known[0]
    for name in known:
        if name == score:
            return name
    whose = "an autoencoder" if kind == "ae" else "a model of images" if len(shape) == 3 else "a model of a table"
    raise ConfigError(f"`{parameter}`: got {score} for {whose}; expected {' or '.join(known)}")


def expect_samples(samples: int) -> None:
    """Raise a ConfigError if the number of draws of z per image is below 1."""
    if samples < 1:
        raise ConfigError(f"`samples`: got {samples}; expected a whole number of at least 1")


def conformal_p_values(
    calibration: Float[np.ndarray, " n"], scores: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " m"]:
    """Return (1 + #{calibration ≥ score}) / (n + 1) for each score; a score that is NaN counts as higher than all others."""
    at_least = len(calibration) - np.searchsorted(np.sort(calibration), scores, "left")
    return (1 + at_least) / (len(calibration) + 1)


def flagged(p_values: np.ndarray, false_alarms: float) -> np.ndarray:
    """Return whether each p-value is at most the rate of false alarms, bool (N,)."""
    return p_values <= false_alarms * (1 + ROUNDING)


def rank_of(false_alarms: float, count: int) -> int:
    """Return k: an image is odd if it scores above the k highest of `count` calibration scores, but for k − 1 of them."""
    return math.floor(false_alarms * (1 + ROUNDING) * (count + 1))


def expect_rate(false_alarms: float) -> None:
    """Raise a ConfigError if a rate of false alarms is not above 0 and below 1."""
    if not 0 < false_alarms < 1:
        raise ConfigError(
            f"`false_alarms`: got {false_alarms:g}; expected a share above 0 and below 1, such as 0.01 for 1 %"
        )


def expect_supported(false_alarms: float, count: int, remedy: str = "give at least {} as `calibration`") -> None:
    """Raise a ConfigError if a rate is below the smallest p-value of `count` calibration images, or out of range.

    `remedy` says how to compare with the number of images that is needed.
    """
    expect_rate(false_alarms)
    if count == 0:
        raise DataError("`calibration`: got no images; expected some that the model was not trained on")
    if rank_of(false_alarms, count) == 0:
        smallest = math.ceil(1e4 / (count + 1)) / 1e4  # in 0.01 %
        raise ConfigError(
            f"`false_alarms`: got {false_alarms:.4g} with {counted(count, 'held-out image')} to compare with; expected at least "
            f"{smallest:.4g} ({100 * smallest:.4g}%), or "
            + remedy.format(f"{math.ceil((1 - ROUNDING) / false_alarms) - 1:,}")
        )


def flagged_by_chance(false_alarms: float, count: int, images: int) -> tuple[float, int, int]:
    """Return how many of `images` are odd by chance if all are like the `count` calibration images: mean, and 95 % interval.

    With k = `rank_of`, the number has a beta-binomial distribution with parameters k and count + 1 − k.
    """
    k = rank_of(false_alarms, count)
    number = betabinom(images, k, count + 1 - k)
    return float(number.mean()), int(number.ppf(0.025)), int(number.ppf(0.975))


def detect_given(
    given: Given,
    reference: np.ndarray,
    score: ScoreName,
    *,
    false_alarms: float,
    samples: int = SAMPLES,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[Columns]:
    """Return facts, scores, `p_value` and `odd` of given images as the parts of a table; images are read part by part.

    Parameters
    ----------
    given
        The images, of any label.
    reference
        Scores of the calibration images by `score`, (n,).
    score, false_alarms, samples, seed
        As for `detect`.
    progress
        Called with images done and images in all.
    """
    parts = []
    for part in parts_of(given.count):
        images, _, facts = given.take(np.array(part))

        def report(done: int, _: int, before: int = part.start) -> None:
            if progress is not None:
                progress(before + done, given.count)

        scores = score_images(given.model, images, samples=samples, seed=seed, progress=report)
        p_values = conformal_p_values(reference, scores[score])
        parts.append(
            facts | dict(scores) | {"p_value": p_values, "odd": flagged(p_values, false_alarms).astype(np.int8)}
        )
    return parts


def nats_per_pixel(model: TrainedModel, images: np.ndarray, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return reconstructions, uint8 (N, H, W[, 3]), and −log p of each pixel given z, (N, H, W), from the draws of `detect`.

    The sum over an image's pixels is its score `reconstruction`.
    """
    levels = binarised_alone(model, images)
    labels = likeliest_labels(model.model, levels) if model.conditional else None
    noise = latent_noise(1, model.model.latent_dim, seed).expand(len(levels), -1)

    def work(part: slice, x: Tensor, infer: Infer) -> tuple[Tensor, Tensor]:
        inference = infer(noise[part])
        return inference.latent, _pixel_nats(inference.likelihood, x)

    latents, nats = (torch.cat(part) for part in zip(*map_held_out(model.model, levels, labels, work), strict=True))
    return model.decode(latents.numpy(), None if labels is None else labels.numpy()), nats.numpy()


def _pixel_nats(likelihood: Likelihood, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w"]:
    """Return −log p of each pixel: pixels are independent given z, so each is an image of 1×1 of the same likelihood."""
    parameters = likelihood.parameters.permute(0, 3, 4, 1, 2)[..., None, None]
    return -type(likelihood)(parameters, 3).log_prob(x.permute(0, 2, 3, 1)[..., None, None])
