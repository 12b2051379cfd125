"""The style of drawings, measured on their pixels: how far they lean, and how wide their strokes are.

Drawings are light on black, (N, H, W); μ_pq is an image's central moment Σ (x − x̄)^p (y − ȳ)^q · level, x to the right and
y downwards.

What they are worth shows on `strokes`, whose drawings come with the slant and the pen's width that they were drawn with.
Drawn again with another slant, or another width, and all else as it was, the change of the measure explains 99 % of the
change of the slant, 97 % of that of the width (R², a test). From one drawing to the next it is 69 % and 93 %: a 7 leans with
no slant at all, loops close under a wide pen, and a hand's other whims lean a drawing too. Whoever knew the skeleton, the
turn of the page, and the best affine map from one to the other would have 94 % of the slant.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import ndimage

FINER = 4
"""Factor by which a drawing is enlarged before its strokes are measured: they are but two or three pixels wide."""


def slant(images: np.ndarray) -> np.ndarray:
    """How far each drawing leans: widths to the right per height upwards, −μ₁₁/μ₀₂; 0 is upright, / is above 0.

    Parameters
    ----------
    images
        (N, H, W), of any real type, at least 0.

    Returns
    -------
    float64 (N,)
        0 for an image that is black all over, or lit in one row alone.
    """
    levels = images.astype(np.float64)
    _, H, W = levels.shape
    mass = np.maximum(levels.sum((1, 2)), np.finfo(np.float64).tiny)
    dx = np.arange(W) - (levels.sum(1) @ np.arange(W) / mass)[:, None]
    dy = np.arange(H) - (levels.sum(2) @ np.arange(H) / mass)[:, None]
    mu11 = np.einsum("nyx,ny,nx->n", levels, dy, dx)
    mu02 = np.einsum("nyx,ny->n", levels, dy**2)
    return np.divide(-mu11, mu02, out=np.zeros_like(mass), where=mu02 > 1e-9 * mass)


def stroke_width(images: np.ndarray) -> np.ndarray:
    """Width of the strokes of each drawing in pixels: twice the distance to their edge, along their middle.

    The edge is where the level, interpolated, crosses half of the drawing's brightest; the middle is where the distance to
    the edge has no slope. The harmonic mean is taken along it, so that crossings, which are far from any edge, count for little.

    Parameters
    ----------
    images
        (N, H, W), of any real type, at least 0.

    Returns
    -------
    float64 (N,)
        0 for an image that is black all over.
    """
    rows, columns = (_enlarging(side + 2) for side in images.shape[1:])
    padded = np.pad(images.astype(np.float32), ((0, 0), (1, 1), (1, 1)))
    return np.array([_stroke_width(image, rows, columns) for image in padded])


@cache
def _enlarging(side: int) -> np.ndarray:
    """Cubic splines through `side` levels as a matrix, (`FINER` · side, side), for one axis."""
    fine = ndimage.zoom(np.eye(side), (FINER, 1), order=3, grid_mode=True, mode="grid-constant")
    return np.asarray(fine, dtype=np.float32)


def _stroke_width(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> float:
    ink = rows @ image @ columns.T > image.max() / 2
    if not ink.any():
        return 0.0
    top, *_, bottom = np.flatnonzero(ink.any(1)).tolist() * 2
    left, *_, right = np.flatnonzero(ink.any(0)).tolist() * 2
    distance = np.asarray(ndimage.distance_transform_edt(np.pad(ink[top : bottom + 1, left : right + 1], 1)))
    slope = np.hypot(distance[2:, 1:-1] - distance[:-2, 1:-1], distance[1:-1, 2:] - distance[1:-1, :-2]) / 2
    # To the edge, not to the first pixel beyond it: half a pixel less where the stroke is an odd number of pixels wide and its
    # middle is flat; none where it is even and its middle lies between two, at a slope of one half.
    half = distance[1:-1, 1:-1] - 0.5 + slope
    inside = distance[1:-1, 1:-1] > 0
    middle = inside & (slope <= 0.5 + 1e-6)
    return float(2 / np.mean(1 / half[middle if middle.any() else inside]) / FINER)
