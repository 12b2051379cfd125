"""A dataset: uint8 images and, where there are any, their labels, in three splits.

Symbols: N images, C channels (1 grey, 3 RGB), H×W pixels, K classes. Pixels are 0…255. A table of reals stands in the
same place as float32 of shape (N, D).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from vaelab.config import LikelihoodName
from vaelab.errors import DataError

NEAR_BINARY_SHARE = 0.2
"""Grey images count as near-binary when at most this share of their pixels lies strictly between 10 % and 90 % of white."""


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Images with their labels, in one order.

    Attributes
    ----------
    images
        uint8 (N, C, H, W), contiguous; or a table of reals, float32 (N, D), finite.
    labels
        int64 (N,), each in 0…K−1, or None for unlabelled data.
    factors
        The true factors of variation of drawn data, each float32 (N,), by name; empty for all else.
    """

    images: np.ndarray
    labels: np.ndarray | None = None
    factors: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.ndim == 4:
            if images.dtype != np.uint8 or images.shape[1] not in (1, 3):
                raise DataError(
                    f"got images of type {images.dtype} and shape {images.shape}; expected uint8 of shape "
                    "(N, C, H, W) with C = 1 (grey) or 3 (RGB)"
                )
        elif images.ndim == 2:
            if images.dtype != np.float32 or not np.isfinite(images).all():
                raise DataError(
                    "got a table that is not float32 or holds NaN or infinity; expected finite float32 (N, D)"
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
        """The images at `index`, with their labels and factors."""
        labels = None if self.labels is None else self.labels[index]
        return Split(self.images[index], labels, {name: values[index] for name, values in self.factors.items()})


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """What a source loads as.

    Attributes
    ----------
    name
        What the source was called: a built-in name or the last part of a path.
    train, validation, test
        Disjoint. The model learns from `train`; `validation` chooses among its states; `test` is for the end.
        The last two may be empty where a source is too small to part, and `train` where it brings test images alone.
    classes
        The K class names in the order of the labels; empty for unlabelled data.
    notes
        What loading did that the user should know (cropped, padded, split), one sentence each.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not any(map(len, self._splits().values())):
            raise DataError(f"{self.name}: got no images; expected at least one")
        for split in (self.train, self.validation, self.test):
            if split.images.shape[1:] != self.shape:
                raise DataError(
                    f"{self.name}: got splits of different shapes, {self.shape} and {split.images.shape[1:]}"
                )
            if (split.labels is not None) != self.labelled:
                raise DataError(f"{self.name}: got labels for some splits only; expected them for all or none")
            if (
                split.labels is not None
                and len(split)
                and not 0 <= split.labels.min() <= split.labels.max() < len(self.classes)
            ):
                raise DataError(f"{self.name}: got a label outside 0…{len(self.classes) - 1}")

    @property
    def shown(self) -> tuple[str, Split]:
        """The first split that has images, and its name."""
        return next((name, split) for name, split in self._splits().items() if len(split))

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
        digest = hashlib.sha256(repr((self.train.images.shape, self.train.images.dtype.str, self.classes)).encode())
        digest.update(self.train.images.data)
        if self.train.labels is not None:
            digest.update(self.train.labels.data)
        return digest.hexdigest()


def between_share(images: np.ndarray) -> float:
    """Share of the values of uint8 `images`, 0…1, that lie strictly between 10 % and 90 % of white (26…229)."""
    # in parts, since the comparisons of a whole set take as much memory as the set
    parts = (images[first : first + 1000] for first in range(0, len(images), 1000))
    return sum(np.count_nonzero((part > 25) & (part < 230)) for part in parts) / max(1, images.size)


def default_likelihood(split: Split) -> LikelihoodName:
    """The likelihood that suits the data.

    Bernoulli for grey images that are near-binary (`between_share` ≤ `NEAR_BINARY_SHARE`), discretised logistic for all
    other images, Gaussian for tables of reals.
    """
    if split.images.ndim == 2:
        return "gaussian"
    if split.images.shape[1] == 1 and between_share(split.images) <= NEAR_BINARY_SHARE:
        return "bernoulli"
    return "logistic"
