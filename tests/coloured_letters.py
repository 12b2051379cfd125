"""Coloured letters: eight classes in mixed inks on mixed backgrounds, with masks that say where the ink is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LETTERS = "AEHKMRSX"
SIDE, LARGE = 32, 96  # pixels of an image, and of the sheet it is drawn on before it is reduced
LEAST_CONTRAST = 60.0  # mean absolute difference of ink and background, in grey levels


class Letters(NamedTuple):
    """Letters drawn from a seed."""

    images: np.ndarray
    """uint8 (N, 32, 32, 3)."""

    labels: np.ndarray
    """Indices into `LETTERS`, int64 (N,)."""

    masks: np.ndarray
    """Share of ink of each pixel, 0…1, float32 (N, 32, 32)."""


def draw_letters(count: int, seed: int) -> Letters:
    """Draw `count` letters of random class, size, position, slant, ink and background."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(LETTERS), size=count)
    masks = np.stack([_mask(LETTERS[label], rng) for label in labels])
    inks, backgrounds = (np.empty((count, 3)) for _ in range(2))
    todo = np.arange(count)
    while len(todo):
        inks[todo], backgrounds[todo] = rng.uniform(0, 255, (2, len(todo), 3))
        todo = todo[np.abs(inks - backgrounds)[todo].mean(1) < LEAST_CONTRAST]
    share = masks[..., None]
    levels = (
        share * inks[:, None, None]
        + (1 - share) * backgrounds[:, None, None]
        + rng.normal(0, 3, (count, SIDE, SIDE, 3))
    )
    return Letters(levels.clip(0, 255).round().astype(np.uint8), labels, masks)


def mean_colours(images: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean colour of ink and of background, (N, 3) each, where `masks` is above 0.9 and below 0.1."""
    found = []
    for inside in (masks > 0.9, masks < 0.1):
        weights = inside[..., None]
        found.append((images * weights).sum((1, 2)) / weights.sum((1, 2)).clip(1))
    return found[0], found[1]


def colour_correlations(images: np.ndarray, others: np.ndarray, masks: np.ndarray) -> tuple[float, float]:
    """Return the correlation over images and channels of the mean ink of two sets of images, and of the mean background."""
    pairs = zip(mean_colours(images, masks), mean_colours(others, masks), strict=True)
    ink, background = (float(np.corrcoef(one.ravel(), other.ravel())[0, 1]) for one, other in pairs)
    return ink, background


def _mask(letter: str, rng: np.random.Generator) -> np.ndarray:
    font = ImageFont.load_default(size=float(rng.uniform(0.55, 0.85) * LARGE))
    sheet = Image.new("L", (LARGE, LARGE))
    ImageDraw.Draw(sheet).text(
        (LARGE / 2, LARGE / 2), letter, fill=255, font=font, anchor="mm", stroke_width=int(rng.integers(1, 4))
    )
    slant, (right, down) = rng.uniform(-0.25, 0.25), rng.uniform(-8, 8, 2)
    moved = sheet.transform(
        sheet.size,
        Image.Transform.AFFINE,
        (1, slant, -slant * LARGE / 2 - right, 0, 1, -down),
        Image.Resampling.BILINEAR,
    )
    return np.asarray(moved.resize((SIDE, SIDE), Image.Resampling.BOX), np.float32) / 255
