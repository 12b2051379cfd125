"""Images in whatever layout they come, and in the one that is shown: uint8 (N, H, W) for grey, (N, H, W, 3) for RGB."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vaelab.errors import DataError


def as_stored(images: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Images (N, H, W), (N, H, W, C) or (N, C, H, W), or rows (N, D), as (N, *shape), uint8 or float32, contiguous.

    Raises
    ------
    DataError
        If they are not of `shape`, (C, H, W) or (D,), or there are none, or images are not uint8.
    """
    raw = np.asarray(images)
    if len(shape) == 3 and raw.shape[1:] != tuple(shape):
        if raw.ndim == 3:
            raw = raw[:, None]
        elif raw.ndim == 4 and raw.shape[-1] in (1, 3):
            raw = np.moveaxis(raw, -1, 1)
    if raw.shape[1:] != tuple(shape) or len(raw) == 0:
        raise DataError(
            f"got {describe_shape(raw.shape[1:])}; expected {describe_shape(shape)}, as the model was trained on"
        )
    if len(shape) == 3:
        expect_levels(raw)
    return np.ascontiguousarray(raw, dtype=np.uint8 if len(shape) == 3 else np.float32)


def expect_levels(images: np.ndarray, where: str = "") -> None:
    """Refuse images that are not uint8; `where` begins the error."""
    if images.dtype == np.uint8:
        return
    mend = ""
    if images.dtype.kind == "f" and images.size and 0 <= images.min() <= images.max() <= 1:
        mend = ': type (255 * X).round().astype("uint8")'
    raise DataError(f"{where}got images of type {images.dtype}; expected uint8 levels 0…255{mend}")


def as_shown(stored: np.ndarray) -> np.ndarray:
    """Stored images (N, C, H, W) as (N, H, W) or (N, H, W, 3); rows of a table stay as they are."""
    if stored.ndim != 4:
        return stored
    return stored[:, 0] if stored.shape[1] == 1 else np.ascontiguousarray(np.moveaxis(stored, 1, -1))


def describe_shape(shape: Sequence[int]) -> str:
    """A shape in words, such as `grey images of 28×28` (height × width)."""
    if len(shape) == 3 and shape[0] in (1, 3):
        return f"{'grey' if shape[0] == 1 else 'RGB'} images of {shape[1]}×{shape[2]}"
    if len(shape) == 1:
        return f"rows of {shape[0]} reals"
    return f"arrays of shape {tuple(shape)}"
