"""Is the model memorising? The nearest training images beside drawn ones, and how near they are.

Distances are Euclidean, of pixels in 0…1. A small distance alone says little, so there are two yardsticks: how near held-out
images come to the training images; and whether drawn images come nearer to training images than to as many unseen ones,
which were not there to be copied (after the three-sample test of Meehan et al. 2020). Unseen are the validation images,
since they come from where the training images do; where there are too few, held-out images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.data.dataset import Split
from vaelab.evaluation.context import Subject
from vaelab.evaluation.generated import affordable, drawn
from vaelab.evaluation.results import Estimate, Points, Quantity, Section, Sheet

IMAGES, QUICK_IMAGES = 1_000, 200
"""Drawn images, and held-out ones beside them, whose neighbours are looked for."""

QUICK_TRAINING = 10_000
"""Training images that `quick` looks among."""

TRAINING_VALUES = 2**28
"""Pixel values of training images looked among at the most: 340,000 grey images of 28×28, 21,000 colour images of 64×64."""

LEAST_IMAGES = 10
"""Held-out images below which there is nothing to compare with."""

SHOWN = 10


class Nearest(NamedTuple):
    """The nearest of a set to each image: its distance, float32 (N,), and its place in the set, int64 (N,)."""

    distance: np.ndarray
    place: np.ndarray


def nearest(
    images: np.ndarray,
    among: np.ndarray,
    *,
    most_at_once: int = 2**23,
    progress: Callable[[int, int], None] | None = None,
) -> Nearest:
    """The nearest of `among` to each of `images`, by Euclidean distance of pixels in 0…1 (of columns, for reals).

    Parameters
    ----------
    images, among
        uint8 or reals, (N, D) and (M, D).
    most_at_once
        Values of `among` held as floats at a time; it changes nothing else.
    progress
        Told of how many of `among` are done, and how many there are.
    """
    left = _units(images)
    best = torch.full((len(left),), torch.inf)
    place = torch.zeros(len(left), dtype=torch.int64)
    rows = max(1, most_at_once // among.shape[1])
    for first in range(0, len(among), rows):
        right = _units(among[first : first + rows])
        # |a|² is the same for all of `among`, and so left out of the comparison
        squared = torch.addmm(right.square().sum(1), left, right.T, alpha=-2)
        found, where = squared.min(1)
        place = torch.where(found < best, where + first, place)
        best = torch.minimum(found, best)
        if progress is not None:
            progress(min(first + rows, len(among)), len(among))
    distance = torch.linalg.vector_norm(left - _units(among[place.numpy()]), dim=1)
    return Nearest(distance.numpy(), place.numpy())


def nearer_share(one: Float[np.ndarray, " n"], other: Float[np.ndarray, " n"]) -> Estimate:
    """Share of images whose distance to one set is less than to the other, 0…1; equal distances count half."""
    return Estimate.of((one < other).astype(np.float64) + 0.5 * (one == other))


def memory_section(subject: Subject) -> Section:
    """Distances of drawn images to the training images beside those of held-out ones, and the neighbours themselves."""
    key, title = "memory", "Is it memorising?"
    train, held_out, quick = subject.dataset.train, subject.held_out, subject.settings.quick
    if not subject.model.model.stochastic:
        return Section(key, title, left_out="An autoencoder has no prior to draw images from.")
    if len(train) == 0:
        return Section(key, title, left_out="There are no training images to compare with.")
    if len(held_out) < LEAST_IMAGES:
        reason = (
            f"{len(held_out)} {subject.split} images are too few to compare with; at least {LEAST_IMAGES} are needed."
        )
        return Section(key, title, left_out=reason)
    rng = np.random.default_rng(subject.settings.seed)
    wanted = affordable(QUICK_IMAGES if quick else IMAGES, subject.dataset.shape)
    order = rng.permutation(len(held_out))
    count = min(wanted, len(held_out) // 2)
    beside, unseen = held_out[np.sort(order[:count])], _unseen(subject, order[count:])
    images = drawn(subject, count if beside.labels is None else rng.permutation(beside.labels))
    generated, real, others = _rows(subject, images), _flat(beside.images), _flat(unseen.images)
    among = _some(_flat(train.images), QUICK_TRAINING if quick else len(train), rng)
    found = nearest(
        np.concatenate([generated, real]),
        among,
        progress=lambda done, total: subject.work("nearest training images", done, total),
    )
    to_train, real_to_train = found.distance[:count], found.distance[count:]
    equal = min(len(among), len(others))
    both = np.concatenate([generated, real])
    near_train, near_unseen = (nearest(both, _some(rows, equal, rng)).distance for rows in (among, others))
    copied = nearer_share(near_train[:count], near_unseen[:count])
    real_copied = nearer_share(near_train[count:], near_unseen[count:])
    quantities = _quantities(subject, to_train, real_to_train, copied, real_copied, (count, len(among), equal))
    plots = (_ordered(to_train, real_to_train),)
    if len(subject.dataset.shape) == 3:
        plots += (_sheet(subject, images, among, found.place[:count], (to_train, near_unseen[:count])),)
    return Section(key, title, _words(quantities, count, len(among)), quantities, plots)


def _quantities(
    subject: Subject,
    to_train: np.ndarray,
    real: np.ndarray,
    copied: Estimate,
    real_copied: Estimate,
    sizes: tuple[int, int, int],
) -> tuple[Quantity, ...]:
    count, among, equal = sizes
    median, real_median = float(np.median(to_train)), float(np.median(real))
    ratio = median / real_median if real_median > 0 else float("nan")
    where = f" {count:,} drawn images, {among:,} training images."
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
            ((f"{subject.split} images to theirs", real_median),),
        ),
        Quantity(
            "nearest_training_ratio",
            "that distance, drawn / real",
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
            "drawn images nearer to training than to unseen images",
            100 * copied.value,
            "%",
            NEARER + f" {count:,} drawn images, {equal:,} images of either set.",
            100 * copied.error,
            count,
            "lower",
            (("nothing memorised", 50.0), (f"real {subject.split} images in their place", 100 * real_copied.value)),
        ),
    )


def _words(quantities: tuple[Quantity, ...], count: int, among: int) -> tuple[str, ...]:
    distance, ratio, nearer = quantities
    yardstick = nearer.beside[1][1]
    smooth = " Means are smoother than real images, and so nearer to all of them." if ratio.value < 1 else ""
    words = [
        f"A drawn image lies {distance.value:.2f} from the nearest of {among:,} training images, a held-out image "
        f"{distance.beside[0][1]:.2f}: {ratio.value:.2f} times as far.{smooth}",
        f"{nearer.value:.1f} ± {nearer.error or 0:.1f} % of {count:,} drawn images lie nearer to a training image than to the "
        f"nearest of as many that it never saw (50 % if nothing is memorised; real held-out images: {yardstick:.1f} %).",
    ]
    if nearer.value - max(50.0, yardstick) > 4 * (nearer.error or 0):
        words.append("That is more than chance allows: some of what it draws is copied from the training images.")
    else:
        words.append("There is no sign that it draws copies of its training images.")
    return tuple(words)


def _ordered(drawn_distance: np.ndarray, real_distance: np.ndarray) -> Points:
    """Quantiles of one against those of the other: below the diagonal, drawn images are nearer."""
    shares = np.linspace(0, 1, min(101, len(drawn_distance)))
    pairs = np.stack([np.quantile(real_distance, shares), np.quantile(drawn_distance, shares)], axis=1)
    return Points(
        "nearest_quantiles",
        "Distance to the nearest training image, quantile by quantile",
        "held-out images",
        "drawn images",
        (("quantiles", pairs),),
        diagonal=True,
    )


def _sheet(
    subject: Subject, images: np.ndarray, among: np.ndarray, place: np.ndarray, distances: tuple[np.ndarray, np.ndarray]
) -> Sheet:
    """Ten drawn images, and the ten that are most like copies, each over its nearest training image."""
    to_train, to_unseen = distances
    likeness = to_train / np.maximum(to_unseen, np.finfo(np.float32).tiny)
    first, copies = np.arange(min(SHOWN, len(images))), np.argsort(likeness, kind="stable")[:SHOWN]
    C, H, W = subject.dataset.shape
    rows, captions = [], []
    for chosen in (first, copies):
        neighbours = np.moveaxis(among[place[chosen]].reshape(-1, C, H, W), 1, -1)
        rows += [images[chosen], neighbours[..., 0] if C == 1 else neighbours]
        captions += [
            ("",) * len(chosen),
            tuple(f"{to_train[i]:.1f} away; unseen {to_unseen[i]:.1f}" for i in chosen),
        ]
    names = ("drawn", "nearest in training", "most like copies", "nearest in training")
    title = "Drawn images over their nearest training images; the distance, and that to the nearest unseen image"
    return Sheet("neighbours", title, tuple(rows), names, tuple(captions))


def _rows(subject: Subject, images: np.ndarray) -> np.ndarray:
    """Drawn images as the data set lays its own out, (N, D)."""
    if images.ndim == 4:
        images = np.moveaxis(images, -1, 1)
    return np.ascontiguousarray(images).reshape(len(images), -1)


def _unseen(subject: Subject, rest: np.ndarray) -> Split:
    """Images that were not there to be copied: validation images, which come from where the training images do, or `rest`."""
    validation = subject.dataset.validation
    if subject.split == "test" and len(validation) >= LEAST_IMAGES:
        return validation
    return subject.held_out[np.sort(rest)]


def _some(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """At most so many rows, and no more than time allows: the very array where that is all of them, else random ones."""
    most = min(most, max(1, TRAINING_VALUES // rows.shape[1]))
    return rows if len(rows) <= most else rows[np.sort(rng.permutation(len(rows))[:most])]


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)


def _units(values: np.ndarray) -> Tensor:
    floats = torch.from_numpy(np.ascontiguousarray(values)).float()
    return floats / 255 if values.dtype == np.uint8 else floats


DISTANCE = "Median over drawn images of the Euclidean distance, pixels in 0…1, to the nearest training image."
RATIO = (
    "The median distance of drawn images to their nearest training image, divided by that of held-out images: near 0 for copies. "
    "Means are smoother than real images, which alone brings it below 1."
)
NEARER = (
    "Share of drawn images whose nearest neighbour among training images is nearer than that among as many unseen ones "
    "(validation images, where there are enough), which the model cannot have copied: 50 % where nothing is memorised "
    "(after Meehan et al. 2020)."
)
