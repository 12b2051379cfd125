"""Datasets: uint8 images and optional labels in three splits.

Symbols: N images, C channels (1 grey, 3 RGB), H×W pixels, K classes. Pixel values are 0…255. A table of real numbers is
stored in the same way, as float32 of shape (N, D).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from vaelab.config import LikelihoodName
from vaelab.errors import DataError

NEAR_BINARY_SHARE = 0.2
"""Grey images are near-binary if at most this share of their pixels lies strictly between 10 % and 90 % of white."""

TWO_COLOUR_SHARE = 0.88
"""Colour images are of two colours if the median of `two_colour_share` is at least this. Letters have 0.93, photographs 0.70."""

JUDGED = 5000
"""Images that these shares are computed of, at most."""

MAX_DEVIATIONS = 1e18
"""Largest distance of a held-out value of a table from the mean of its column, in standard deviations of the training set."""


SkipBroken = bool | Literal["0.1"]


class Loading(NamedTuple):
    """Options of `load_dataset` that determine the images of a dataset and are not seen in it; a run records them."""

    fit: str = "crop"
    skip_broken: SkipBroken = False
    white: float | None = None
    seed: int = 0


class Known(NamedTuple):
    """What was computed of training images when they were packed, and how to read them."""

    fingerprint: str
    classes: tuple[str, ...]
    """The class names that the fingerprint is of."""

    moments: np.ndarray | None
    """Mean, variance and covariance of the pixels, as `vaelab.models.moments.Moments` has them, float64 (planes, H, W)."""

    announce: Callable[[np.ndarray], None] = lambda _: None
    """Starts to read the images at these indices from the disk, without waiting for them."""


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Images and their labels.

    Attributes
    ----------
    images
        uint8 (N, C, H, W), contiguous; or a table of real numbers, float32 (N, D), finite.
    labels
        int64 (N,), each in 0…K−1, or None for unlabelled data.
    factors
        True factors of variation of synthetic data by name, each float32 (N,); otherwise empty.
    paths
        Path of the file of each image, text in an object array (N,), or None if the source is not image files.
    known
        What is known of all these images together, or None.
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    factors: Mapping[str, np.ndarray] = field(default_factory=dict)
    paths: np.ndarray | None = None
    known: Known | None = None

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.ndim == 4:
            if images.dtype != np.uint8 or images.shape[1] not in (1, 3):
                raise DataError(
                    f"got images of type {images.dtype} and shape {images.shape}; expected uint8 of shape "
                    "(N, C, H, W) with C = 1 (grey) or 3 (RGB)"
                )
        elif images.ndim == 2:
            if images.dtype != np.float32:
                raise DataError(f"got a table of type {images.dtype}; expected float32 (N, D)")
            if not np.isfinite(images).all():
                row, column = np.argwhere(~np.isfinite(images))[0]
                got = "NaN" if np.isnan(images[row, column]) else "infinity"
                raise DataError(
                    f"got {got} in column {column} (row {row}) of a table; expected finite float32; check it"
                )
        else:
            raise DataError(f"got an array of shape {images.shape}; expected images (N, C, H, W) or a table (N, D)")
        object.__setattr__(self, "images", np.ascontiguousarray(images))
        if labels is not None:
            if labels.shape != (len(images),):
                raise DataError(
                    f"got {len(images)} images and labels of shape {labels.shape}; expected one label per image"
                )
            object.__setattr__(self, "labels", np.ascontiguousarray(labels, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        labelled = "no labels" if self.labels is None else "labelled"
        return f"Split({len(self):,} × {self.images.shape[1:]}, {labelled})"

    def __getitem__(self, index: slice | np.ndarray) -> Split:
        """Return the images at `index`, with their labels, factors and paths."""
        labels, paths = (None if values is None else values[index] for values in (self.labels, self.paths))
        return Split(self.images[index], labels, {name: values[index] for name, values in self.factors.items()}, paths)


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A data set with disjoint splits for training, validation and test.

    Attributes
    ----------
    name
        Built-in name of the source, or the last part of its path.
    train, validation, test
        Splits for fitting the weights, for selecting among them during training, and for the final evaluation. The last two
        are empty if the source is too small to split; `train` is empty if the source contains test images only.
    classes
        The K class names in the order of the labels; empty for unlabelled data.
    notes
        What was done during loading (cropping, padding, splitting), one sentence each.
    loading
        How it was loaded.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    loading: Loading = field(default_factory=Loading)

    def __post_init__(self) -> None:
        if not any(map(len, self._splits().values())):
            raise DataError(f"{self.name}: got no images; expected at least one")
        for split in (self.train, self.validation, self.test):
            if split.images.shape[1:] != self.shape:
                raise DataError(
                    f"{self.name}: got splits of different shapes, {self.shape} and {split.images.shape[1:]}; expected one shape"
                )
            if (split.labels is not None) != self.labelled:
                raise DataError(f"{self.name}: got labels for only some of the splits; expected labels for all or none")
            if (
                split.labels is not None
                and len(split)
                and not 0 <= split.labels.min() <= split.labels.max() < len(self.classes)
            ):
                raise DataError(f"{self.name}: got a label out of range; expected 0…{len(self.classes) - 1}")
        if len(self.shape) == 1 and len(self.train):
            self._expect_near()

    def _expect_near(self) -> None:
        """Raise `DataError` for a held-out value of a table so far from those of its column that its square leaves float32."""
        mean = np.asarray(self.train.images.mean(axis=0, dtype=np.float64))
        deviation = self.train.images.std(axis=0, dtype=np.float64)
        unit = np.where(deviation > np.finfo(np.float32).eps * np.abs(mean), deviation, 1.0)
        for split, part in (("validation", self.validation), ("test", self.test)):
            for row, column in np.argwhere(np.abs(part.images - mean) > MAX_DEVIATIONS * unit)[:1]:
                raise DataError(
                    f"{self.name}: got {part.images[row, column]:g} in column {column} (row {row} of the {split} set), where the "
                    f"training set has {mean[column]:g} ± {unit[column]:g}; expected values of that magnitude; check the column"
                )

    @property
    def shown(self) -> tuple[str, Split]:
        """Name and content of the first split that is not empty."""
        return next((name, split) for name, split in self._splits().items() if len(split))

    def count(self, split: str) -> int:
        """Return the number of images of a split, or of "all"."""
        return sum(map(len, self._splits().values())) if split == "all" else len(self._splits()[split])

    def part(self, split: str) -> Split:
        """Return the split "train", "validation" or "test", or a copy of "all" images in this order."""
        if split != "all":
            return self._splits()[split]
        parts = [part for part in self._splits().values() if len(part)]

        def joined(values: list[np.ndarray | None]) -> np.ndarray | None:
            found = [value for value in values if value is not None]
            return np.concatenate(found) if len(found) == len(parts) else None

        images = np.concatenate([part.images for part in parts])
        return Split(images, joined([part.labels for part in parts]), paths=joined([part.paths for part in parts]))

    def __repr__(self) -> str:
        counts = " + ".join(f"{len(part):,} {name}" for name, part in self._splits().items())
        return f"Dataset({self.name!r}, {counts}, each {self.shape}, {len(self.classes)} classes)"

    def _splits(self) -> dict[str, Split]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image, (C, H, W), or of one row of a table, (D,)."""
        return self.train.images.shape[1:]

    @property
    def labelled(self) -> bool:
        """Whether the images have labels."""
        return bool(self.classes)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the training images, their labels and the class names, in hexadecimal."""
        if (known := self.train.known) is not None and known.classes == self.classes:
            return known.fingerprint
        digest = begun_fingerprint(self.train.images.shape, self.train.images.dtype, self.classes)
        digest.update(self.train.images.data)
        if self.train.labels is not None:
            digest.update(self.train.labels.data)
        return digest.hexdigest()


def begun_fingerprint(shape: tuple[int, ...], dtype: np.dtype, classes: tuple[str, ...]) -> hashlib._Hash:
    """Return the digest of a fingerprint, before it is updated with the training images and, after them, their labels."""
    return hashlib.sha256(repr((shape, dtype.str, classes)).encode())


def judged(images: np.ndarray) -> np.ndarray:
    """Return `JUDGED` images at equal distances, or all if there are fewer."""
    return images[:: max(1, len(images) // JUDGED)][:JUDGED]


def between_share(images: np.ndarray) -> float:
    """Return the share, 0…1, of the values of uint8 images strictly between 10 % and 90 % of white (26…229)."""
    # In chunks: each comparison of all images takes as much memory as they do.
    chunks = (images[first : first + 1000] for first in range(0, len(images), 1000))
    return sum(np.count_nonzero((chunk > 25) & (chunk < 230)) for chunk in chunks) / max(1, images.size)


def two_colour_share(images: np.ndarray) -> np.ndarray:
    """Return the share, 0…1, of the variance of each image's pixels that two colours explain; images are uint8 (N, 3, H, W).

    The two are the means of two clusters along the channel that varies most, from Lloyd's algorithm (Lloyd 1982).
    """
    x = images.reshape(len(images), 3, -1).astype(np.float32)
    along = x[np.arange(len(x)), x.var(2).argmax(1)]
    middle = along.mean(1, keepdims=True)
    for _ in range(4):
        above = along > middle
        middle = sum(_mean_where(part, along) for part in (above, ~above)) / 2
    parts = [part[:, None] for part in (along > middle, along <= middle)]
    within = sum((part * (x - _mean_where(part, x)) ** 2).sum((1, 2)) for part in parts)
    return 1 - within / np.maximum(x.shape[2] * x.var(2).sum(1), 1e-6)


def _mean_where(chosen: np.ndarray, values: np.ndarray) -> np.ndarray:
    return (chosen * values).sum(-1, keepdims=True) / np.maximum(chosen.sum(-1, keepdims=True), 1)


def default_likelihood(split: Split) -> LikelihoodName:
    """Choose the likelihood for a split.

    Bernoulli for near-binary grey images (`between_share` ≤ `NEAR_BINARY_SHARE`), discretised logistic for other grey images,
    two-colour for colour images of two colours (median of `two_colour_share` ≥ `TWO_COLOUR_SHARE`), colour logistic for other
    colour images, Gaussian for tables of real numbers.
    """
    if split.images.ndim == 2:
        return "gaussian"
    images = judged(split.images)
    if split.images.shape[1] == 3:
        shares = two_colour_share(images)
        return "two-colour" if len(shares) and np.median(shares) >= TWO_COLOUR_SHARE else "colour-logistic"
    return "bernoulli" if between_share(images) <= NEAR_BINARY_SHARE else "logistic"
