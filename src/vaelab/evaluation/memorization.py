"""The memorisation section: generated images compared with their nearest training images.

Distances are Euclidean, of pixels in 0…1. A small distance alone says little, so there are two baselines: the distance of
held-out images to the training images, and whether generated images are nearer to training images than to equally many
unseen images, which cannot have been copied (after the three-sample test of Meehan et al. 2020). The unseen images are the
validation images, because they come from the same source as the training images, or held-out images if those are too few.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.data.dataset import Split
from vaelab.errors import counted
from vaelab.evaluation.context import EvaluationContext
from vaelab.evaluation.generated import affordable, generate_images
from vaelab.evaluation.results import Estimate, Points, Quantity, Section, Sheet

IMAGES, QUICK_IMAGES = 1_000, 200
"""Number of generated images, and of held-out images for comparison."""

QUICK_TRAINING = 10_000
"""Number of training images searched in quick mode."""

TRAINING_VALUES = 2**28
"""Maximum number of pixel values searched: 340,000 grey images of 28×28, or 21,000 colour images of 64×64."""

LEAST_IMAGES = 10
"""Minimum number of held-out images for the comparison."""

SHOWN = 10


class Nearest(NamedTuple):
    """Nearest neighbour of each image: its distance, float32 (N,), and its index, int64 (N,)."""

    distance: np.ndarray
    place: np.ndarray


def nearest(
    images: np.ndarray,
    among: np.ndarray,
    *,
    most_at_once: int = 2**23,
    progress: Callable[[int, int], None] | None = None,
) -> Nearest:
    """Find the nearest of `among` to each of `images`, by Euclidean distance of pixels in 0…1 (or of table columns).

    Parameters
    ----------
    images, among
        uint8 or real values, (N, D) and (M, D).
    most_at_once
        Maximum number of values of `among` held as floats at a time; does not change the result.
    progress
        Called with the number of rows of `among` done, and their total.
    """
    left = _units(images)
    best = torch.full((len(left),), torch.inf)
    index = torch.zeros(len(left), dtype=torch.int64)
    rows = max(1, most_at_once // among.shape[1])
    for first in range(0, len(among), rows):
        right = _units(among[first : first + rows])
        # |left|² is the same for all of `among`, so the comparison does not need it.
        squared = torch.addmm(right.square().sum(1), left, right.T, alpha=-2)
        smallest, where = squared.min(1)
        index = torch.where(smallest < best, where + first, index)
        best = torch.minimum(smallest, best)
        if progress is not None:
            progress(min(first + rows, len(among)), len(among))
    distance = torch.linalg.vector_norm(left - _units(among[index.numpy()]), dim=1)
    return Nearest(distance.numpy(), index.numpy())


def nearer_share(one: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"]) -> Estimate:
    """Return the share of images that are nearer to one set than to the other, 0…1; ties count half."""
    return Estimate.of((one < other).astype(np.float64) + 0.5 * (one == other))


def memorization_section(context: EvaluationContext) -> Section:
    """Compare the distances of generated and of held-out images to the training images, and show the neighbours."""
    key, title = "memory", "Memorisation"
    train, held_out, quick = context.dataset.train, context.held_out, context.settings.quick
    if not context.model.model.stochastic:
        return Section(key, title, left_out="An autoencoder has no prior to sample from.")
    if len(train) == 0:
        return Section(key, title, left_out="There are no training images to compare with.")
    if len(held_out) < LEAST_IMAGES:
        found = counted(len(held_out), f"{context.split} image")
        reason = f"Got {found}; at least {LEAST_IMAGES} are needed."
        return Section(key, title, left_out=reason)
    rng = np.random.default_rng(context.settings.seed)
    wanted = affordable(QUICK_IMAGES if quick else IMAGES, context.dataset.shape)
    order = rng.permutation(len(held_out))
    count = min(wanted, len(held_out) // 2)
    compared, unseen = held_out[np.sort(order[:count])], _unseen(context, order[count:])
    images = generate_images(context, count if compared.labels is None else rng.permutation(compared.labels))
    generated, real, others = _rows(context, images), _flat(compared.images), _flat(unseen.images)
    among = _some(_flat(train.images), QUICK_TRAINING if quick else len(train), rng)
    found = nearest(
        np.concatenate([generated, real]),
        among,
        progress=lambda done, total: context.work("nearest training images", done, total),
    )
    to_train, real_to_train = found.distance[:count], found.distance[count:]
    equal = min(len(among), len(others))
    both = np.concatenate([generated, real])
    near_train, near_unseen = (nearest(both, _some(rows, equal, rng)).distance for rows in (among, others))
    copied = nearer_share(near_train[:count], near_unseen[:count])
    real_copied = nearer_share(near_train[count:], near_unseen[count:])
    quantities = _quantities(context, to_train, real_to_train, copied, real_copied, (count, len(among), equal))
    plots = (_quantile_plot(to_train, real_to_train),)
    if len(context.dataset.shape) == 3:
        plots += (_sheet(context, images, among, found.place[:count], (to_train, near_unseen[:count])),)
    return Section(key, title, _words(quantities, count, len(among)), quantities, plots)


def _quantities(
    context: EvaluationContext,
    to_train: np.ndarray,
    real: np.ndarray,
    copied: Estimate,
    real_copied: Estimate,
    sizes: tuple[int, int, int],
) -> tuple[Quantity, ...]:
    count, among, equal = sizes
    median, real_median = float(np.median(to_train)), float(np.median(real))
    ratio = median / real_median if real_median > 0 else float("nan")
    where = f" {count:,} generated images, {among:,} training images."
    return (
        Quantity(
            "nearest_training_distance",
            "distance to the nearest training image",
            median,
            "",
            DISTANCE + where,
            None,
            count,
            "",
            ((f"{context.split} images", real_median),),
        ),
        Quantity(
            "nearest_training_ratio",
            "distance to the nearest training image, generated / real",
            ratio,
            "",
            RATIO + where,
            None,
            count,
            "",
            (("held-out images", 1.0),),
        ),
        Quantity(
            "nearer_to_training",
            "generated images nearer to training than to unseen images",
            100 * copied.value,
            "%",
            NEARER + f" {count:,} generated images, {equal:,} images in each set.",
            100 * copied.error,
            count,
            "lower",
            (("no memorisation", 50.0), (f"real {context.split} images", 100 * real_copied.value)),
        ),
    )


def _words(quantities: tuple[Quantity, ...], count: int, among: int) -> tuple[str, ...]:
    distance, ratio, nearer = quantities
    baseline = nearer.beside[1][1]
    smooth = (
        " Decoded means are smoother than real images, which alone makes the distance smaller."
        if ratio.value < 1
        else ""
    )
    words = [
        f"The median distance to the nearest of {among:,} training images is {distance.value:.2f} for generated images and "
        f"{distance.beside[0][1]:.2f} for held-out images, a ratio of {ratio.value:.2f}.{smooth}",
        f"{nearer.value:.1f} ± {nearer.error or 0:.1f} % of {count:,} generated images are nearer to a training image than to "
        f"any of as many unseen images (50 % without memorisation; real held-out images: {baseline:.1f} %).",
    ]
    if nearer.value - max(50.0, baseline) > 4 * (nearer.error or 0):
        words.append("This is significantly more than expected: some generated images are copies of training images.")
    else:
        words.append("There is no sign that the model copies training images.")
    return tuple(words)


def _quantile_plot(generated: np.ndarray, real: np.ndarray) -> Points:
    """Plot the quantiles of both distances; below the diagonal, generated images are nearer."""
    shares = np.linspace(0, 1, min(101, len(generated)))
    pairs = np.stack([np.quantile(real, shares), np.quantile(generated, shares)], axis=1)
    return Points(
        "nearest_quantiles",
        "Quantiles of the distance to the nearest training image",
        "held-out images",
        "generated images",
        (("quantiles", pairs),),
        diagonal=True,
    )


def _sheet(
    context: EvaluationContext,
    images: np.ndarray,
    among: np.ndarray,
    index: np.ndarray,
    distances: tuple[np.ndarray, np.ndarray],
) -> Sheet:
    """Show ten generated images, and the ten most likely copies, each above its nearest training image."""
    to_train, to_unseen = distances
    likeness = to_train / np.maximum(to_unseen, np.finfo(np.float32).tiny)
    first, copies = np.arange(min(SHOWN, len(images))), np.argsort(likeness, kind="stable")[:SHOWN]
    C, H, W = context.dataset.shape
    rows, captions = [], []
    for chosen in (first, copies):
        neighbours = np.moveaxis(among[index[chosen]].reshape(-1, C, H, W), 1, -1)
        rows += [images[chosen], neighbours[..., 0] if C == 1 else neighbours]
        captions += [
            ("",) * len(chosen),
            tuple(f"distance {to_train[i]:.1f}; unseen {to_unseen[i]:.1f}" for i in chosen),
        ]
    names = ("generated", "nearest training image", "most likely copies", "nearest training image")
    title = "Generated images and their nearest training images. Captions: distance to that image and to the nearest unseen one"
    return Sheet("neighbours", title, tuple(rows), names, tuple(captions))


def _rows(context: EvaluationContext, images: np.ndarray) -> np.ndarray:
    """Convert generated images to rows (N, D) in the layout of the dataset."""
    if images.ndim == 4:
        images = np.moveaxis(images, -1, 1)
    return np.ascontiguousarray(images).reshape(len(images), -1)


def _unseen(context: EvaluationContext, rest: np.ndarray) -> Split:
    """Return images that cannot have been copied: the validation images if there are enough, else `rest` of the held-out."""
    validation = context.dataset.validation
    if context.split == "test" and len(validation) >= LEAST_IMAGES:
        return validation
    return context.held_out[np.sort(rest)]


def _some(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Return at most `most` random rows, fewer if the search would take too long; the same array if all are used."""
    most = min(most, max(1, TRAINING_VALUES // rows.shape[1]))
    return rows if len(rows) <= most else rows[np.sort(rng.permutation(len(rows))[:most])]


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


def _units(values: np.ndarray) -> Tensor:
    floats = torch.from_numpy(np.ascontiguousarray(values)).float()
    return floats / 255 if values.dtype == np.uint8 else floats


DISTANCE = "Median over generated images of the Euclidean distance, pixels in 0…1, to the nearest training image."
RATIO = (
    "Median distance of generated images to their nearest training image, divided by that of held-out images: near 0 for copies. "
    "Decoded means are smoother than real images, which alone makes the ratio smaller than 1."
)
NEARER = (
    "Share of generated images that are nearer to their nearest training image than to their nearest unseen image, among equally "
    "many of both. Unseen images (validation images if there are enough) cannot have been copied, so the expected value without "
    "memorization is 50 % (after Meehan et al. 2020)."
)
