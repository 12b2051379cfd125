"""Resize images: scale, then crop or pad around the centre.

Sizes are (H, W) in pixels throughout; Pillow's own order is (W, H).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal, TypeAlias, get_args

import numpy as np
from PIL import Image, ImageOps

from vaelab.data.dataset import Dataset, Split
from vaelab.errors import ConfigError, did_you_mean

Fit: TypeAlias = Literal["crop", "pad"]
Progress: TypeAlias = Callable[[str, int, int], None]
"""Progress callback: called with a description, the number of items done, and the total."""

MAX_SIDE = 4096
COMMON_SIDE, STEP = 64, 8
"""Largest side chosen for images of different sizes, and its step, in pixels."""

SCALING = Image.Resampling.LANCZOS


def parse_size(size: int | tuple[int, int] | str | None) -> tuple[int, int] | None:
    """Convert a size, given as one side of a square, two sides, or text such as "32" or "32x48", to (H, W).

    Raises `ConfigError` for anything else and for a side outside 1…4096.
    """
    if size is None:
        return None
    sides: object = size
    if isinstance(size, str) and (match := re.fullmatch(r"(\d{1,9})(?:[x×](\d{1,9}))?", size.strip())):
        sides = (int(match[1]), int(match[2] or match[1]))
    elif isinstance(size, int | np.integer) and not isinstance(size, bool):
        sides = (int(size), int(size))
    if isinstance(sides, tuple | list) and len(sides) == 2:
        height, width = sides
        if all(isinstance(side, int | np.integer) and 1 <= side <= MAX_SIDE for side in sides):
            return int(height), int(width)
    raise ConfigError(
        f"`size`: got {size!r}; expected one side or HxW, each 1…{MAX_SIDE} pixels; "
        "pass for instance `size=32` or `size='32x48'`"
    )


def check_fit(fit: str) -> None:
    """Raise `ConfigError` if `fit` is not one of `Fit`."""
    if fit not in get_args(Fit):
        raise ConfigError(
            f"`fit`: got {fit!r}; expected {' or '.join(get_args(Fit))}.{did_you_mean(fit, get_args(Fit))}"
        )


def fit_image(image: Image.Image, size: tuple[int, int], fit: Fit) -> Image.Image:
    """Resize a grey or RGB image to `size`.

    "crop" scales the image so that it covers the size and crops it around the centre. "pad" scales it so that it fits inside
    and fills the rest with the median colour of its border.
    """
    height, width = size
    if image.size == (width, height):
        return image
    if fit == "crop":
        return ImageOps.fit(image, (width, height), SCALING)
    scale = min(height / image.height, width / image.width)
    inner = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    scaled = image.resize(inner, SCALING)
    pixels = np.asarray(scaled)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    colour = np.median(border, axis=0).astype(np.uint8)
    canvas = np.full((height, width, *pixels.shape[2:]), colour, dtype=np.uint8)
    top, left = (height - scaled.height) // 2, (width - scaled.width) // 2
    canvas[top : top + scaled.height, left : left + scaled.width] = pixels
    return Image.fromarray(canvas)


def fit_note(sizes: Sequence[tuple[int, int]], size: tuple[int, int], fit: Fit) -> str | None:
    """Return a note on what `fit_image` does to images of these sizes, or None if it changes nothing."""
    height, width = size
    changed = [(h, w) for h, w in sizes if (h, w) != size]
    if not changed:
        return None
    reshaped = sum(h * width != w * height for h, w in changed)
    nearest = max if fit == "crop" else min
    enlarged = sum(nearest(height / h, width / w) > 1 for h, w in changed)
    details = []
    if reshaped:
        details.append(
            f"centre-cropped {reshaped:,} of them"
            if fit == "crop"
            else f"padded {reshaped:,} of them with the median colour of their border"
        )
    if enlarged:
        details.append(f"enlarged {enlarged:,} of them")
    return ", ".join([f"Scaled {len(changed):,} of {len(sizes):,} images to {height}×{width}", *details]) + "."


def common_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the (H, W) for images of different sizes: a square of their median short side, a multiple of 8 from 8 to 64."""
    side = int(np.median([min(size) for size in sizes]) / STEP + 0.5) * STEP
    side = min(max(side, STEP), COMMON_SIDE)
    return side, side


def common_size_note(sizes: Sequence[tuple[int, int]], size: tuple[int, int], fit: Fit) -> str:
    """Return the note on scaling images of these different sizes to `size`, their `common_size`."""
    distinct = [f"{h}×{w}" for h, w in sorted(set(sizes), key=lambda size: (size[0] * size[1], size))]
    median = np.median([min(size) for size in sizes])
    return (
        f"{fit_note(sizes, size, fit)} They have {len(distinct):,} sizes, from {distinct[0]} to {distinct[-1]} (height×width), "
        f"with a median short side of {median:g}; for another size, pass for instance "
        f"`size={2 * COMMON_SIDE if size[0] == COMMON_SIDE else COMMON_SIDE}`."
    )


def resize_dataset(dataset: Dataset, size: tuple[int, int], fit: Fit, progress: Progress | None = None) -> Dataset:
    """Resize the images of a dataset, which all have the same size, and add a note."""
    old = (dataset.shape[1], dataset.shape[2])
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    total = sum(map(len, splits.values()))
    note = fit_note([old] * total, size, fit)
    if note is None:
        return dataset
    done = 0
    resized: dict[str, Split] = {}
    for name, split in splits.items():
        images = np.empty((len(split), dataset.shape[0], *size), dtype=np.uint8)
        for i, pixels in enumerate(split.images):
            images[i] = to_pixels(fit_image(to_image(pixels), size, fit))
            done += 1
            if progress:
                progress("resizing images", done, total)
        resized[name] = replace(split, images=images)
    return replace(dataset, **resized, notes=(*dataset.notes, note))


def to_image(pixels: np.ndarray) -> Image.Image:
    """Convert uint8 pixels (C, H, W) to a Pillow image."""
    return Image.fromarray(np.ascontiguousarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)))


def to_pixels(image: Image.Image) -> np.ndarray:
    """Convert a grey ("L") or RGB image to uint8 pixels (C, H, W)."""
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
