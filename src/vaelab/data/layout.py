"""Conversion of image arrays between the layouts that users pass, the stored one and the displayed one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vaelab.errors import DataError, counted


def as_stored(images: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Convert images (N, H, W), (N, H, W, C) or (N, C, H, W), or rows (N, D), to (N, *shape), contiguous.

    Images are uint8, or floats in [0, 1], and become uint8; rows become float32.

    Raises
    ------
    DataError
        If the array is empty or not of `shape`, (C, H, W) or (D,), or if images are of another type or range.
    """
    raw = np.asarray(images)
    if len(shape) == 3 and raw.shape[1:] != tuple(shape):
        if raw.ndim == 3:
            raw = raw[:, None]
        elif raw.ndim == 4 and raw.shape[-1] in (1, 3):
            raw = np.moveaxis(raw, -1, 1)
    if raw.shape[1:] != tuple(shape) or len(raw) == 0:
        raise DataError(
            f"got {describe_shape(raw.shape[1:])}; expected {describe_shape(shape)}, the shape of the training data"
        )
    if len(shape) == 3:
        raw = as_levels(raw)
    return np.ascontiguousarray(raw, dtype=np.uint8 if len(shape) == 3 else np.float32)


def as_levels(images: np.ndarray, where: str = "") -> np.ndarray:
    """Return images as uint8 levels: uint8 unchanged, floats in [0, 1] scaled to 0…255 and rounded.

    Raises
    ------
    DataError
        For floats of another range and for other types; `where` is a prefix of the message.
    """
    if images.dtype == np.uint8:
        return images
    expected = "expected uint8 in 0…255 or floats in [0, 1]"
    if images.dtype.kind != "f":
        raise DataError(
            f"{where}got images of type {images.dtype}; {expected}; if the values are in 0…255, convert with "
            "images.astype(np.uint8)"
        )
    low, high = float(images.min()), float(images.max())  # NaN if any value is NaN
    if not 0 <= low <= high <= 1:
        got = "NaN" if np.isnan(low) else f"floats from {low:g} to {high:g}"
        raise DataError(f"{where}got {got}; {expected}")
    return np.rint(images * images.dtype.type(255)).astype(np.uint8)


def as_shown(stored: np.ndarray) -> np.ndarray:
    """Convert stored images (N, C, H, W) to (N, H, W) if grey, (N, H, W, 3) if RGB; return rows of a table unchanged."""
    if stored.ndim != 4:
        return stored
    return stored[:, 0] if stored.shape[1] == 1 else np.ascontiguousarray(np.moveaxis(stored, 1, -1))


def describe_shape(shape: Sequence[int]) -> str:
    """Describe a shape in words, such as `grey images of 28×28` (height × width)."""
    if len(shape) == 3 and shape[0] in (1, 3):
        return f"{'grey' if shape[0] == 1 else 'RGB'} images of {shape[1]}×{shape[2]}"
    if len(shape) == 1:
        return f"rows of {shape[0]} reals"
    return f"arrays of shape {tuple(shape)}"


def grey_note(grey: int, colour: int) -> str:
    """Return the note on `grey` images that were converted to RGB because `colour` others are RGB."""
    others = "the other is" if colour == 1 else f"the other {colour:,} are"
    return f"Converted {counted(grey, 'grey image')} to RGB, because {others} RGB."
