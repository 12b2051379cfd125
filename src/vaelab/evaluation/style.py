"""Style of drawings, measured on their pixels: slant and stroke width.

Drawings are light on black, (N, H, W); μ_pq is an image's central moment Σ (x − x̄)^p (y − ȳ)^q · level, with x to the right
and y downwards.

Accuracy, on `strokes`, whose true slant and pen width are known: when a drawing is repeated with another slant or another
width and all else equal, the change of the measure explains 99 % of the change of the slant and 97 % of that of the width (R²,
a test). Between different drawings it explains 69 % and 93 %, because a 7 leans without slant, loops close under a wide pen,
and other variations of the hand also lean a drawing. Knowing the skeleton, the rotation of the page and the best affine map
between two drawings would explain 94 % of the slant.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import ndimage

FINER = 4
"""Upsampling factor before strokes are measured, because they are only two or three pixels wide."""


def slant(images: np.ndarray) -> np.ndarray:
    """Return the slant of each drawing, width to the right per height upwards, −μ₁₁/μ₀₂; 0 is upright, / is positive.

    Parameters
    ----------
    images
        (N, H, W), of any real type, non-negative.

    Returns
    -------
    float64 (N,)
        0 for an image that is entirely black or has a single non-black row.
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
    """Return the stroke width of each drawing in pixels: twice the distance to the edge, along the centre line.

    The edge is where the interpolated level crosses half of the drawing's maximum; the centre line is where the distance to the
    edge has no slope. The mean along it is harmonic, so that crossings, which are far from any edge, have little weight.

    Parameters
    ----------
    images
        (N, H, W), of any real type, non-negative.

    Returns
    -------
    float64 (N,)
        0 for an image that is entirely black.
    """
    rows, columns = (_enlarging(side + 2) for side in images.shape[1:])
    padded = np.pad(images.astype(np.float32), ((0, 0), (1, 1), (1, 1)))
    return np.array([_stroke_width(image, rows, columns) for image in padded])


@cache
def _enlarging(side: int) -> np.ndarray:
    """Return cubic spline interpolation of `side` levels as a matrix, (`FINER` · side, side), for one axis."""
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
    # Distance to the edge, not to the first pixel beyond it: half a pixel less if the stroke is an odd number of pixels wide
    # (its centre line is flat); no correction if it is even (the centre line lies between two pixels, with a slope of 1/2).
    half = distance[1:-1, 1:-1] - 0.5 + slope
    inside = distance[1:-1, 1:-1] > 0
    middle = inside & (slope <= 0.5 + 1e-6)
    return float(2 / np.mean(1 / half[middle if middle.any() else inside]) / FINER)


MEASURES = {"slant": ("slant", slant), "width": ("stroke width", stroke_width)}
"""Name and function of each measure, by key."""


def dark_on_white(images: np.ndarray) -> bool:
    """Return whether drawings are dark on white; they are inverted before they are measured."""
    return bool(np.median(images) > 127)


def measured(images: np.ndarray, *, inverted: bool) -> np.ndarray:
    """Return all `MEASURES` of drawings, float64 (N, 2).

    Parameters
    ----------
    images
        uint8 (N, H, W).
    inverted
        Whether the drawings are dark on white.
    """
    levels = 255 - images if inverted else images
    return np.stack([measure(levels) for _, measure in MEASURES.values()], axis=1)
