"""Skeletons of the ten digits: pen paths for the different ways of writing each digit.

A path is text: points "x,y" in hundredths of the digit's height (x to the right, y downwards), joined by a smooth curve; "!"
after a point makes it a corner, "/" lifts the pen. Equal points of a path are the same control point and move together. The
weights are relative frequencies of the variants of a digit, set by eye from sheets of MNIST.

Symbols: V skeletons, K control points, P dashes. A dash is a short straight piece of a curve; its midpoint and its extent are
linear in the control points, so drawing many deformed copies of a skeleton is a matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

DASHES = 96
"""P, the number of dashes per skeleton."""

# digit: {name: (weight, path)}
PATHS: dict[int, dict[str, tuple[float, str]]] = {
    0: {
        "oval": (5, "54,4 30,3 9,28 4,60 20,94 46,97 66,74 72,38 60,8 38,2"),
        "overlapped": (2, "42,10 24,12 7,42 10,78 34,98 60,84 72,46 62,12 40,1 20,12"),
        "open": (1.5, "38,3 16,20 4,55 18,92 44,98 68,76 72,36 60,8"),
        "hooked": (1, "28,4 46,22 28,16 8,44 10,80 36,98 64,80 72,42 56,8 34,8"),
    },
    1: {
        "line": (8, "30,0 30,50 30,100"),
        "bowed": (2, "34,0 29,35 28,70 33,100"),
        "flagged": (0.7, "24,14 31,8 38,0! 37,50 36,100"),
        "serifed": (0.5, "16,20 28,11 38,0! 37,50 36,98! / 12,99 36,98 64,97"),
    },
    2: {
        "round": (3, "8,24 32,1 60,18 48,56 6,96! 42,92 80,95"),
        "looped": (3, "8,22 34,1 60,16 52,48 24,84 6,92 12,78 36,86 78,93"),
        "great loop": (1.5, "10,20 36,1 62,20 58,56 36,88 12,94 4,80 24,68 50,84 80,86"),
        "bowl": (0.8, "14,18 38,1 62,26 58,68 30,97 4,86 14,66 44,70 76,84"),
        "zed": (1.5, "8,12 36,5 60,10! 38,48 8,94! 42,92 78,94"),
        "curled": (1, "22,30 8,22 32,1 62,14 54,48 8,95! 44,90 82,92"),
        "swan": (1, "8,20 34,1 58,18 44,58 14,88! 34,84 54,94 76,86"),
        "narrow": (0.8, "14,22 30,2 46,20 38,60 20,94! 50,92 90,90"),
        "ell": (0.5, "26,10 36,2 38,24 28,60 10,93! 50,91 96,86"),
        "angular": (0.8, "5,8 34,7 64,5! 36,48 10,92! 40,95 70,95"),
        "closed head": (0.8, "28,34 10,20 32,1 60,22 50,68 18,97 6,84 22,72 46,86 80,91"),
    },
    3: {
        "round": (4, "8,14 36,1 62,18 50,40 26,47! 58,54 70,76 46,99 4,90"),
        "looped": (1.5, "12,12 40,1 62,16 46,40 28,50 24,44 38,45 64,60 62,88 34,99 4,88"),
        "smooth": (2, "8,12 40,1 60,18 36,44 48,50 66,68 50,95 2,93"),
        "flat": (1, "8,5 36,4 64,3! 34,42! 62,54 66,82 38,100 6,91"),
        "slanted": (1, "14,10 44,1 66,12 46,36 30,44! 56,52 54,78 28,98 0,97"),
        "curled": (1.2, "10,22 14,6 38,0 60,16 48,38 26,46! 58,50 70,74 44,99 14,95 4,84"),
        "small head": (1, "18,8 38,2 50,16 30,38! 60,46 68,74 40,99 4,90"),
        "small belly": (0.7, "4,12 34,1 58,14 30,46! 52,54 54,78 34,100"),
    },
    4: {
        "open": (3, "16,4 8,30 5,56! 40,55 76,50 / 60,8 57,50 54,100"),
        "round": (2, "20,4 5,40 16,56 42,54 62,45 / 64,4 58,50 50,100"),
        "closed": (1, "54,1 28,32 2,64! 40,64 78,61 / 54,1 53,50 50,100"),
        "sail": (0.7, "38,1 20,46 4,72! 40,72 78,71 / 38,1! 50,50 58,100"),
        "one stroke": (1.5, "12,4 7,42! 32,49 54,38 64,2! 60,50 54,100"),
        "dashed": (2.5, "26,1 14,26 4,54! 36,53 78,44 / 62,20 52,56 40,100"),
        "square": (1, "6,4 6,30 6,52! 32,54 60,52! / 62,2 60,52 60,100"),
    },
    5: {
        "capped": (3, "20,5 14,42! 42,38 64,62 48,95 4,92 / 20,5 46,4 76,1"),
        "one stroke": (3, "72,2 46,4 22,6! 16,42! 44,38 64,64 46,96 4,92"),
        "detached": (1, "18,12 14,44! 42,40 62,64 48,96 4,92 / 26,5 50,4 78,0"),
        "snake": (1.5, "68,4 36,5 16,22 28,42 56,60 52,90 6,95"),
        "wide": (1.5, "84,1 58,4 32,9! 20,42! 40,40 56,62 38,94 2,94"),
        "closed": (1, "70,3 44,4 20,6! 14,44! 40,38 62,62 48,96 16,95 6,76"),
        "tall": (1, "62,4 36,4 12,3! 12,50! 40,42 62,66 40,98 6,86"),
        "low": (0.8, "78,2 48,4 16,5! 12,58! 36,52 54,72 36,98 4,92"),
    },
    6: {
        "round": (3.5, "52,1 22,30 5,68 22,98 52,88 56,64 34,56 10,74"),
        "wide": (1.5, "58,1 22,34 4,72 30,99 64,86 64,62 40,58 18,82"),
        "straight": (2, "38,1 18,36 8,72 20,97 46,92 54,70 38,56 12,72"),
        "hooked": (0.6, "62,10 46,1 18,28 5,66 24,98 54,90 58,64 36,54 10,70"),
        "small": (1.5, "48,1 24,36 10,74 20,98 44,92 46,72 28,68 12,80"),
        "crossed": (1, "40,1 16,40 10,80 32,98 58,80 46,56 20,66 8,84"),
        "bowl": (1.5, "22,1 8,36 8,76 30,98 60,80 60,48 42,44 30,66 32,90"),
        "hanging": (1, "34,1 14,36 6,74 30,98 60,80 57,52 41,49 32,66 32,92"),
    },
    7: {
        "plain": (4, "4,9 36,7 66,5! 46,50 32,100"),
        "serifed": (1.5, "7,22 8,8! 36,7 68,5! 46,50 34,100"),
        "round": (2, "4,14 30,5 62,8 54,42 30,100"),
        "barred": (1.2, "4,9 36,7 66,5! 46,50 32,100 / 16,54 42,51 68,49"),
        "serifed and barred": (0.7, "6,24 8,9! 36,7 68,5! 46,50 34,100 / 18,56 42,52 66,50"),
        "low bar": (0.7, "6,18 26,3 60,6 56,36 32,100 / 14,66 42,60 72,58"),
        "waved": (1.5, "4,22 18,6 40,12 68,4! 42,52 26,100"),
        "hooked": (1, "4,26 16,8 48,3 62,14 54,50 44,100"),
        "arched": (0.7, "5,34 9,12! 36,5 60,12 52,50 40,100"),
    },
    8: {
        "one curve": (3, "62,12 40,1 16,16 30,40 58,66 50,94 22,98 10,76 40,46 62,24 58,8"),
        "two loops": (1.5, "40,2 17,22 40,46! 62,24 40,2! / 40,46 10,72 38,99 68,74 40,46"),
        "open": (2, "66,12 42,1 17,17 32,42 56,70 38,98 10,84 32,52 72,4"),
        "wide open": (1, "72,16 46,2 16,14 22,36 52,56 58,86 34,99 16,82 42,52 78,14"),
        "mirrored": (1.5, "28,3 58,20 36,47 12,78 36,99 60,78 38,47 15,20 42,2"),
        "slim": (1, "52,8 36,1 20,20 34,42 50,72 34,99 16,78 34,46 54,20 48,4"),
        "large head": (1, "56,3 20,6 8,32 38,54 54,78 36,99 18,80 40,54 68,32 62,8 40,1"),
        "small head": (0.6, "58,5 40,1 24,14 38,36 66,66 48,98 12,92 10,66 40,38 56,18 50,4"),
    },
    9: {
        "straight": (3, "56,12 34,1 8,26 20,47 44,40 58,8! 56,55 52,100"),
        "slanted": (3, "56,12 32,1 8,28 24,46 46,36 58,10! 46,55 28,100"),
        "round": (2, "56,16 34,1 9,24 22,46 48,40 58,18 58,56 48,100"),
        "hooked": (1.2, "58,16 36,1 10,24 24,46 50,38 60,16 60,60 42,98 12,90"),
        "open": (1.3, "46,3 16,14 8,38 30,46 54,36 66,4! 58,54 50,100"),
        "flat": (1, "68,8 40,2 10,24 16,44 44,40 64,10! 54,55 46,100"),
        "large": (1, "58,10 34,1 6,30 22,62 50,46 62,8! 60,56 62,100"),
        "small": (1, "50,8 36,1 22,18 30,36 50,26 54,6! 50,50 38,100"),
        "snake": (1, "58,8 34,2 12,14 14,36 34,42 54,34! 54,60 46,100"),
        "wide": (0.8, "62,14 36,1 6,26 14,58 44,58 62,12! 64,60 76,98"),
    },
}


@dataclass(frozen=True, eq=False)
class Skeletons:
    """All V skeletons as arrays of equal shape; unused control points are zero.

    Attributes
    ----------
    digit
        int64 (V,), digit of each skeleton.
    weight
        float64 (V,), relative frequency among the skeletons of the same digit; sums to 1 per digit.
    points
        float32 (V, K, 2), control points x, y in units of the digit height.
    middles, extents
        float32 (V, P, 2, K), matrices that map control points to the midpoints and the extents (end minus start) of the
        dashes: [:, :, 0] along a polygon through the points, [:, :, 1] along a smooth curve through them.
    """

    digit: np.ndarray
    weight: np.ndarray
    points: np.ndarray
    middles: np.ndarray
    extents: np.ndarray


def _parse(path: str) -> tuple[np.ndarray, list[list[int]]]:
    """Return the control points (K, 2) of a path, and its smooth pieces as lists of point indices."""
    index: dict[str, int] = {}
    pieces: list[list[int]] = []
    for stroke in path.split("/"):
        piece: list[int] = []
        for word in stroke.split():
            piece.append(index.setdefault(word.rstrip("!"), len(index)))
            if word.endswith("!") and len(piece) > 1:
                pieces.append(piece)
                piece = piece[-1:]
        if len(piece) > 1:
            pieces.append(piece)
    points = np.array([[float(value) / 100 for value in word.split(",")] for word in index])
    return points, pieces


def _curve(points: np.ndarray, piece: list[int], count: int) -> np.ndarray:
    """Return weights (count + 1, 2, K) of the control points at the ends of `count` dashes: polygon, cubic Hermite spline.

    Knot spacing is the square root of the chord lengths (centripetal Catmull–Rom spline).
    """
    chords = np.linalg.norm(np.diff(points[piece], axis=0), axis=1)
    knots = np.concatenate([[0.0], np.cumsum(np.sqrt(chords))])
    at = np.interp(np.linspace(0, chords.sum(), count + 1), np.concatenate([[0.0], np.cumsum(chords)]), knots)
    unit = np.eye(len(points))[piece]
    slopes = np.diff(unit, axis=0) / np.diff(knots)[:, None]
    tangents = np.empty_like(unit)
    if len(piece) == 2:
        tangents[:] = slopes
    else:
        before, after = np.diff(knots)[:-1, None], np.diff(knots)[1:, None]
        tangents[1:-1] = (slopes[:-1] * after + slopes[1:] * before) / (before + after)
        # The first and last segment are parabolas.
        tangents[0] = 2 * slopes[0] - tangents[1]
        tangents[-1] = 2 * slopes[-1] - tangents[-2]
    left = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(piece) - 2)
    gap = np.diff(knots)[left]
    u = ((at - knots[left]) / gap)[:, None]
    gap = gap[:, None]
    smooth = (
        unit[left] * (1 + 2 * u) * (1 - u) ** 2
        + unit[left + 1] * u**2 * (3 - 2 * u)
        + gap * (tangents[left] * u * (1 - u) ** 2 - tangents[left + 1] * u**2 * (1 - u))
    )
    straight = unit[left] * (1 - u) + unit[left + 1] * u
    return np.stack([straight, smooth], axis=1)


def _dashes(points: np.ndarray, pieces: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    """Return weights (P, 2, K) of the control points for the midpoints and for the extents of the dashes."""
    lengths = np.array([np.linalg.norm(np.diff(points[piece], axis=0), axis=1).sum() for piece in pieces])
    ends = np.rint(np.concatenate([[0.0], np.cumsum(lengths)]) / lengths.sum() * DASHES).astype(int)
    curves = [_curve(points, piece, count) for piece, count in zip(pieces, np.diff(ends), strict=True)]
    middles = np.concatenate([(curve[1:] + curve[:-1]) / 2 for curve in curves])
    return middles, np.concatenate([np.diff(curve, axis=0) for curve in curves])


@cache
def skeletons() -> Skeletons:
    """Return all skeletons in the order of `PATHS`."""
    entries = [(digit, weight, path) for digit, ways in PATHS.items() for weight, path in ways.values()]
    parsed = [_parse(path) for _, _, path in entries]
    count = max(len(points) for points, _ in parsed)
    V = len(entries)
    all_points = np.zeros((V, count, 2), np.float32)
    middles = np.zeros((V, DASHES, 2, count), np.float32)
    extents = np.zeros((V, DASHES, 2, count), np.float32)
    for v, (points, pieces) in enumerate(parsed):
        used = len(points)
        all_points[v, :used] = points
        middles[v, ..., :used], extents[v, ..., :used] = _dashes(points, pieces)
    digit = np.array([digit for digit, _, _ in entries], np.int64)
    weight = np.array([weight for _, weight, _ in entries])
    weight /= np.bincount(digit, weight)[digit]
    return Skeletons(digit, weight, all_points, middles, extents)
