"""The outliers section: how well three scores separate images of another source from held-out images.

The scores are those of `vaelab.inference.outlier_scores`. Source: DeLong et al. 1988 (the standard error of an area under the
curve).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float

from vaelab.data.dataset import Dataset
from vaelab.data.of_run import not_trained_on
from vaelab.errors import counted
from vaelab.evaluation.context import EvaluationContext
from vaelab.evaluation.results import Estimate, Lines, Quantity, Section, Series, Sheet
from vaelab.inference.outlier_scores import outlier_scores
from vaelab.objectives.batch import held_out_levels

IMAGES, QUICK_IMAGES = 2_000, 500
"""Maximum number of images from each source."""

SAMPLES, QUICK_SAMPLES = 100, 20
"""Maximum K of the importance-weighted bound."""

SHOWN = 10


def auroc(inside: Float[np.ndarray, " n"], outside: Float[np.ndarray, " m"]) -> Estimate:
    """Return the area under the ROC curve, 0…1: the share of pairs in which the outlier scores higher; ties count half.

    The standard error is DeLong's: that of a U-statistic, with both sets of images as random samples. It is NaN if a set has
    a single image.
    """
    below = _below(inside, outside)  # for each outlier, the share of inliers that score lower
    above = 1 - _below(outside, inside)
    variance = sum(np.var(part, ddof=1) / len(part) if len(part) > 1 else math.nan for part in (below, above))
    return Estimate(float(below.mean()), math.sqrt(variance), len(inside) + len(outside))


def _below(others: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return for each value the share of `others` below it; ties count half."""
    order = np.sort(others)
    return (np.searchsorted(order, values, "left") + np.searchsorted(order, values, "right")) / (2 * len(order))


def roc_curve(
    inside: Float[np.ndarray, " n"], outside: Float[np.ndarray, " m"], points: int = 101
) -> Float[np.ndarray, "k 2"]:
    """Return K points of the ROC curve: the false positive rate, 0…1, and the true positive rate."""
    false = np.linspace(0, 1, points)
    thresholds = np.quantile(inside, 1 - false, method="higher")
    found = 1 - np.searchsorted(np.sort(outside), thresholds, "right") / len(outside)
    found[-1] = 1
    return np.stack([false, found], axis=1)


def ood_section(context: EvaluationContext) -> Section:
    """Measure how well each score separates images of `context.versus` from held-out ones.

    A conditional model scores both under the label that it finds most probable itself, because outliers have no label and the
    held-out images must not have an advantage.
    """
    key, title = "outliers", "Outliers"
    other = context.versus
    if other is None:
        return Section(key, title, left_out="No outliers were given: pass another data source as `versus`.")
    settings = context.settings
    most = QUICK_IMAGES if settings.quick else IMAGES
    parts = not_trained_on(other, context.dataset.fingerprint)
    own_index = _some(len(context.held_out), most, settings.seed)
    outliers = _taken(parts, _some(sum(map(len, parts)), most, settings.seed))
    other_levels = held_out_levels(outliers, context.model.likelihood)
    levels = torch.cat([context.levels[torch.from_numpy(own_index)], other_levels])
    context.work("scoring outliers", 0, 1)
    scores = outlier_scores(
        context.model,
        levels,
        samples=min(settings.importance_samples, QUICK_SAMPLES if settings.quick else SAMPLES),
        seed=settings.seed,
        most_at_once=settings.most_decoded,
        progress=lambda done, total: context.work("scoring outliers", done, total),
        together=True,
    )
    sides = {name: (score[: len(own_index)], score[len(own_index) :]) for name, score in scores.items()}
    areas = {name: auroc(*pair) for name, pair in sides.items()}
    plots = (_curves(sides), *_sheets(context, outliers, own_index, sides))
    quantities = tuple(_quantity(name, areas[name], sides[name], context.dataset, other) for name in areas)
    return Section(key, title, _words(context, other, sides, areas), quantities, plots)


def _some(count: int, most: int, seed: int) -> np.ndarray:
    """Return the indices of at most `most` of `count` images, chosen at random, ascending."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def _taken(parts: list[np.ndarray], index: np.ndarray) -> np.ndarray:
    """Return the images at an ascending index over consecutive parts."""
    starts = np.cumsum([0, *map(len, parts)])
    bounds = np.searchsorted(index, starts)
    pieces = zip(parts, starts[:-1], bounds[:-1], bounds[1:], strict=True)
    return np.concatenate([part[index[first:last] - start] for part, start, first, last in pieces])


def _quantity(
    name: str, estimate: Estimate, sides: tuple[np.ndarray, np.ndarray], own: Dataset, other: Dataset
) -> Quantity:
    shown, definition = SCORES[name]
    threshold = np.quantile(sides[1], 0.05, method="lower")
    alarms = float((sides[0] >= threshold).mean())
    return Quantity(
        f"auroc_{name}",
        f"AUROC by {shown}",
        estimate.value,
        "",
        f"{definition} AUROC is the share of pairs of one image of {own.name} and one of {other.name} in which the latter "
        "has the higher score; 0.5 is chance, 1 is perfect. The error is DeLong's standard error.",
        estimate.error,
        estimate.count,
        "higher",
        (("chance", 0.5), ("false alarm rate when 95 % of the outliers are detected", alarms)),
    )


def _words(
    context: EvaluationContext,
    other: Dataset,
    sides: dict[str, tuple[np.ndarray, np.ndarray]],
    areas: dict[str, Estimate],
) -> tuple[str, ...]:
    each = ", ".join(
        f"{SCORES[name][0]} {estimate.value:.3f} ± {estimate.error:.3f}" for name, estimate in areas.items()
    )
    own_count, other_count = map(len, next(iter(sides.values())))
    words = [
        f"AUROC for detecting {other.name} ({counted(other_count, 'image')}) against {context.dataset.name} "
        f"({counted(own_count, 'image')}): {each} (0.5 is chance, 1 is perfect)."
    ]
    if "likelihood" not in areas:
        words.append("An autoencoder has no likelihood, so only the reconstruction error is used.")
    else:
        words.append(
            _likelihood_verdict(areas["likelihood"], other.name, *(side.mean() for side in sides["likelihood"]))
        )
    if context.model.conditional:
        words.append("Every image was scored under the label that the model itself finds most probable for it.")
    return tuple(words)


def _likelihood_verdict(estimate: Estimate, name: str, own: float, other: float) -> str:
    """Interpret the AUROC of the raw likelihood in a sentence or two."""
    margin = 2 * estimate.error
    if estimate.value < 0.5 - margin:
        return (
            f"The raw likelihood fails: images of {name} have an average −log p(x) of {other:.1f} nats, the model's own images "
            f"{own:.1f}. Simple images have a high likelihood whatever they show (Nalisnick et al. 2019); the PNG correction "
            "accounts for this."
        )
    if estimate.value > 0.5 + margin:
        return (
            "The raw likelihood detects these outliers. It is known to fail for images that are simpler than the training "
            "images (Nalisnick et al. 2019), so do not rely on it alone."
        )
    return "The raw likelihood does not separate the two sources."


def _curves(sides: dict[str, tuple[np.ndarray, np.ndarray]]) -> Lines:
    curves = {name: roc_curve(*pair) for name, pair in sides.items()}
    series = tuple(
        Series(SCORES[name][0], curve[:, 0].tolist(), curve[:, 1].tolist()) for name, curve in curves.items()
    )
    chance = Series("chance", [0.0, 1.0], [0.0, 1.0])
    return Lines("roc", "ROC curve", "false positive rate", "true positive rate", (*series, chance))


def _sheets(
    context: EvaluationContext,
    outliers: np.ndarray,
    own_index: np.ndarray,
    sides: dict[str, tuple[np.ndarray, np.ndarray]],
) -> tuple[Sheet, ...]:
    """Show the outliers with the lowest scores and the model's own images with the highest, by the best available score."""
    if len(context.model.model.shape) != 3:
        return ()
    name = "corrected" if "corrected" in sides else "reconstruction"
    own, other = sides[name]
    missed, suspect = np.argsort(other)[:SHOWN], np.argsort(-own)[:SHOWN]
    rows = tuple(
        images[:, 0] if images.shape[1] == 1 else np.moveaxis(images, 1, -1)
        for images in (outliers[missed], context.held_out.images[own_index[suspect]])
    )
    captions = tuple(
        tuple(f"{value:.0f}".replace("-", "−") for value in side) for side in (other[missed], own[suspect])
    )
    names = ("outliers, lowest scores", "own images, highest scores")
    return (Sheet("outliers", f"Score: {SCORES[name][0]}, in nats", rows, names, captions),)


SCORES = {
    "likelihood": (
        "raw likelihood",
        "Score: the importance-weighted bound on −log p(x), known to fail for simple images (Nalisnick et al. 2019).",
    ),
    "corrected": (
        "likelihood corrected by PNG length",
        "Score: the importance-weighted bound on −log p(x) minus ln 2 times the bits of the image's PNG (Serrà et al. 2020). "
        "The PNG is made of the image as the model receives it.",
    ),
    "reconstruction": ("reconstruction", "Score: the distortion −log p(x|z), for one draw of z from q(z|x)."),
}
