"""`strokes`: handwritten digits drawn by formula, 28×28 grey, with the true factors of every drawing.

A drawing is a skeleton (`vaelab.data.glyphs`) whose control points are moved, sheared, stretched and bent, cut into
P short dashes, fitted into a box as MNIST's digits are, and inked. Ink is a function of the distance to the pen's path.
With dashes of length ℓ at m, the path's squared distance from a pixel p is that of a soft minimum,

    −2s² log Σ ℓ/(s√2π) exp(−|p − m|²/2s²),

which is exact for a straight line, and whose sum is a product of two small matrices, for the Gaussian parts into a
factor of x and one of y.

Drawing i of a seed depends on the seed and i alone: drawings are always made in whole blocks of `BLOCK`, each from a
generator of its own, however many are asked for and on however many threads.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from vaelab.data.cache import entry_for_drawings, load_entry, save_entry
from vaelab.data.dataset import Dataset, Split
from vaelab.data.glyphs import skeletons
from vaelab.errors import DataError

SIDE = 28
"""Height and width of a drawing in pixels."""
CENTRE = 14
"""Where the centre of mass falls, to within half a pixel, counting pixels from 0: MNIST's own convention."""
BOX = 20
"""Height and width in pixels of the box that holds a drawing's ink."""
BLOCK = 250
"""Drawings made at once; each block holds every digit equally often."""
SOFTNESS = 0.7
"""s, the reach of the soft minimum, in pixels."""
EDGE = 1.1
"""Width in pixels of the ramp from full ink to none."""

FARTHEST = np.float32(-40)
"""Exponent that stands for all smaller ones."""

TRAIN, VALIDATION, TEST = 50_000, 10_000, 10_000


def _normal(rng: np.random.Generator, mean: float, deviation: float, low: float, high: float) -> np.ndarray:
    """`BLOCK` normal draws, clipped to low…high."""
    return np.clip(mean + deviation * rng.standard_normal(BLOCK), low, high)


def _sample_factors(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The factors of a block, each (BLOCK,), but for `variant`; their units stand in `draw_strokes`."""
    return {
        "slant": _normal(rng, 0.14, 0.24, -0.5, 0.7),
        "rotation": _normal(rng, 0.0, 0.07, -0.2, 0.2),
        "width": 2.85 * np.exp(0.25 * rng.standard_normal(BLOCK)),
        "aspect": np.clip(1.1 * np.exp(0.2 * rng.standard_normal(BLOCK)), 0.6, 1.7),
        "size": 20 - 1.2 * rng.random(BLOCK) ** 3,
        "curvature": 0.015 + 0.04 * rng.random(BLOCK),
        "roundness": _normal(rng, 0.8, 0.25, 0.1, 1.1),
        "pressure": 0.35 * rng.random(BLOCK) ** 1.5,
        "wobble": 0.017 * rng.random(BLOCK) ** 1.5,
    }


def _waves(rng: np.random.Generator, along: np.ndarray, wavelengths: np.ndarray) -> np.ndarray:
    """Smooth noise along the path, like `along` (BLOCK, P), of variance about 1; lengths in heights of a digit."""
    phases = 2 * np.pi * (along[..., None] / wavelengths + rng.random((BLOCK, 1, len(wavelengths))))
    weights = rng.standard_normal((BLOCK, len(wavelengths), 1)) * np.sqrt(2 / len(wavelengths))
    return (np.sin(phases) @ weights)[..., 0]


def _path(
    rng: np.random.Generator, variant: np.ndarray, factors: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Middles (BLOCK, P, 2) and lengths (BLOCK, P) of the dashes, in heights of a digit, upright or slanted."""
    shapes = skeletons()
    points = shapes.points[variant]
    # Half of each point's shift is its neighbour's too: a hand strays, it does not zigzag.
    shifts = rng.standard_normal((BLOCK, points.shape[1] + 1, 2))
    points = points + factors["curvature"][:, None, None] * (shifts[:, 1:] + shifts[:, :-1]) / np.sqrt(2)
    # A hand's proportions: the page is bent by a quadratic map, the same for all points of a drawing.
    x, y = points[..., 0] - 0.35, points[..., 1] - 0.5
    bend = 0.16 * rng.standard_normal((6, BLOCK, 1))
    x, y = (
        x + bend[0] * x * x + bend[1] * x * y + bend[2] * y * y,
        y + bend[3] * x * x + bend[4] * x * y + bend[5] * y * y,
    )
    x = x * factors["aspect"][:, None] - factors["slant"][:, None] * y
    cos, sin = np.cos(factors["rotation"])[:, None], np.sin(factors["rotation"])[:, None]
    points = np.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)

    smooth = factors["roundness"][:, None, None]

    def of_dashes(corners_and_curves: np.ndarray) -> np.ndarray:
        corners = corners_and_curves[:, :, 0][variant] * (1 - smooth)
        corners += corners_and_curves[:, :, 1][variant] * smooth
        return corners @ points

    middles, extents = of_dashes(shapes.middles), of_dashes(shapes.extents)
    return middles, np.hypot(extents[..., 0], extents[..., 1])


def _fit(
    middles: np.ndarray, lengths: np.ndarray, radii: np.ndarray, size: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Middles and lengths in pixels, in the middle of the box, the ink's longer side `size` pixels or a hair less."""
    reach = radii[..., None] + EDGE / 2
    longer = np.ptp(middles, axis=1).max(axis=1)
    scale = (size - 2 * reach.max(axis=(1, 2))) / longer
    # The pen is not everywhere at its thickest, so the ink is a little short; a second look makes up for it.
    inked = middles * scale[:, None, None]
    extent = ((inked + reach).max(axis=1) - (inked - reach).min(axis=1)).max(axis=1)
    scale += (size - extent) / longer
    inked = middles * scale[:, None, None]
    low, high = (inked - reach).min(axis=1), (inked + reach).max(axis=1)
    # Pixel 0 covers −0.5…0.5.
    return inked + ((BOX - 1) / 2 - (low + high) / 2)[:, None], lengths * scale[:, None]


def _ink(middles: np.ndarray, lengths: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Ink, uint8 (BLOCK, BOX, BOX), of paths given in pixels; `radii` (BLOCK, P) is half the pen's width."""
    middles, lengths, radii = (a.astype(np.float32) for a in (middles, lengths, radii))
    radius = radii.mean(axis=1, keepdims=True)
    pixels = np.arange(BOX, dtype=np.float32)
    exponents = (middles[:, :, :, None] - pixels) ** 2
    exponents *= np.float32(-0.5 / SOFTNESS**2)
    # What is further away leaves no ink, and its products would be denormal, which processors take ten times as long over.
    near = np.exp(np.maximum(exponents, FARTHEST, out=exponents), out=exponents)
    # A dash with a thicker pen counts as nearer, by just so much that its edge comes to lie at its own radius.
    weight = lengths / (SOFTNESS * np.sqrt(2 * np.pi)) * np.exp((radii**2 - radius**2) / (2 * SOFTNESS**2))
    mass = np.swapaxes(near[:, :, 1] * weight[:, :, None].astype(np.float32), 1, 2) @ near[:, :, 0]
    squared = -2 * SOFTNESS**2 * np.log(np.maximum(mass, np.float32(1e-30)))
    ink = (radius[:, :, None] - np.sqrt(np.maximum(squared, 0))) / EDGE + 0.5
    return np.rint(255 * np.clip(ink, 0, 1)).astype(np.uint8)


def _centre(ink: np.ndarray) -> np.ndarray:
    """Images, uint8 (BLOCK, SIDE, SIDE): the boxes of ink moved by whole pixels, as near to `CENTRE` as they can be."""
    mass = ink.sum(axis=(1, 2))
    rows, columns = ink.sum(axis=2) @ np.arange(BOX) / mass, ink.sum(axis=1) @ np.arange(BOX) / mass
    corners = np.clip(np.rint(CENTRE - np.stack([rows, columns], axis=1)), 0, SIDE - BOX).astype(int)
    images = np.zeros((BLOCK, SIDE, SIDE), np.uint8)
    for image, drawing, (row, column) in zip(images, ink, corners, strict=True):
        image[row : row + BOX, column : column + BOX] = drawing
    return images


def _draw_block(seed: int, block: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Images, labels and factors of the drawings `block`·`BLOCK` … of the seed."""
    rng = np.random.default_rng([seed, block])
    shapes = skeletons()
    labels = rng.permutation(np.arange(BLOCK) % 10)
    # Skeletons stand in the order of their digits, so the running sum of the weights crosses digit + u at the choice.
    variant = np.searchsorted(np.cumsum(shapes.weight), labels + rng.uniform(1e-6, 1 - 1e-6, BLOCK))
    factors = _sample_factors(rng)
    middles, lengths = _path(rng, variant, factors)
    # In MNIST the long paths are drawn with the finer pens: an 8 is thinner than a 1.
    finer = (2 / lengths.sum(axis=1)) ** 0.15
    factors["width"] = np.clip(finer * factors["width"], 1.4, 4.6)
    along = np.cumsum(lengths, axis=1)
    swell = np.tanh(_waves(rng, along, np.array([0.6, 1.0, 1.6, 2.5])))
    radii = factors["width"][:, None] / 2 * (1 + factors["pressure"][:, None] * swell)
    shake = np.stack([_waves(rng, along, np.array([0.25, 0.35, 0.5, 0.8])) for _ in "xy"], axis=2)
    middles = middles + factors["wobble"][:, None, None] * shake
    middles, lengths = _fit(middles, lengths, radii, factors["size"])
    images = _centre(_ink(middles, lengths, radii))
    factors["variant"] = variant
    return images, labels, {name: values.astype(np.float32) for name, values in factors.items()}


def draw_strokes(count: int, *, seed: int, start: int = 0, progress: Callable[[int], None] | None = None) -> Split:
    """Draw the `count` drawings `start`, `start` + 1, … of a seed.

    Parameters
    ----------
    count, start, seed
        Whole numbers ≥ 0.
    progress
        Called after each block with the number of drawings made since its last call.

    Returns
    -------
    Split
        Images uint8 (count, 1, 28, 28), labels 0…9, and the factors, float32 (count,):

        - `slant`: the shear, in widths to the right per height upwards, −0.5…0.7
        - `rotation`: radians, clockwise, −0.2…0.2
        - `width`: the pen's, pixels, 1.4…4.6
        - `aspect`: the stretch in x before the slant, 0.6…1.7
        - `size`: the longer side of the ink, pixels, 18.8…20
        - `curvature`: the standard deviation of the control points, heights of a digit, 0.015…0.055
        - `roundness`: from a polygon, 0, to a smooth curve, 1, and a little beyond, 0.1…1.1
        - `pressure`: how far the pen's width swells and shrinks at most, as a share of it, 0…0.35
        - `wobble`: the standard deviation of the hand's tremor, heights of a digit, 0…0.017
        - `variant`: which skeleton, as its place among all in `vaelab.data.glyphs.PATHS`

        How a skeleton is bent, and the phases of pressure and wobble, are drawn too, but are no factors.
    """
    if min(count, seed, start) < 0:
        raise DataError(f"strokes: got count {count}, seed {seed}, start {start}; expected whole numbers ≥ 0")
    blocks = range(start // BLOCK, -(-(start + count) // BLOCK))
    images = np.empty((count, 1, SIDE, SIDE), np.uint8)
    labels = np.empty(count, np.int64)
    factors: dict[str, np.ndarray] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for block, drawn in zip(blocks, pool.map(lambda block: _draw_block(seed, block), blocks), strict=True):
            first = block * BLOCK - start
            inside = slice(max(0, -first), min(BLOCK, count - first))
            here = slice(first + inside.start, first + inside.stop)
            images[here, 0], labels[here] = drawn[0][inside], drawn[1][inside]
            for name, values in drawn[2].items():
                factors.setdefault(name, np.empty(count, np.float32))[here] = values[inside]
            if progress:
                progress(inside.stop - inside.start)
    return Split(images, labels, factors)


def load_strokes(*, seed: int = 0, progress: Callable[[int], None] | None = None) -> Dataset:
    """The built-in data set `strokes`: 50,000 + 10,000 + 10,000 drawings, all different, of one seed.

    They are kept in the cache folder, 58 MB, and drawn again only where the code that draws them is another.
    `progress` is called with the number of drawings made since its last call, 70,000 in all, unless they were kept.
    """
    count = TRAIN + VALIDATION + TEST
    entry = entry_for_drawings("strokes", (count, seed), _code())
    kept = load_entry(entry)
    if kept is not None:
        every = _unpacked(*kept)
    else:
        every = draw_strokes(count, seed=seed, progress=progress)
        save_entry(entry, *_packed(every))
    return Dataset(
        name="strokes",
        train=every[:TRAIN],
        validation=every[TRAIN : TRAIN + VALIDATION],
        test=every[TRAIN + VALIDATION :],
        classes=tuple("0123456789"),
    )


def _code() -> bytes:
    """All that the pixels of a seed hang on: this file, the skeletons, and NumPy, whose versions may round apart."""
    here = Path(__file__)
    return b"".join([here.read_bytes(), here.with_name("glyphs.py").read_bytes(), np.__version__.encode()])


def _packed(drawn: Split) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Images, labels and factors one after the other, as bytes (n,), and a note of which factors there are."""
    assert drawn.labels is not None
    parts = [drawn.images, drawn.labels, *drawn.factors.values()]
    return np.concatenate([part.reshape(-1).view(np.uint8) for part in parts]), {"factors": list(drawn.factors)}


def _unpacked(content: np.ndarray, note: dict[str, list[str]]) -> Split:
    """What was packed, in memory of its own."""
    content, factors = np.array(content), note["factors"]
    count = len(content) // (SIDE**2 + 8 + 4 * len(factors))
    images, labels, values = np.split(content, [SIDE**2 * count, (SIDE**2 + 8) * count])
    rows = values.view(np.float32).reshape(len(factors), count)
    return Split(images.reshape(count, 1, SIDE, SIDE), labels.view(np.int64), dict(zip(factors, rows, strict=True)))
