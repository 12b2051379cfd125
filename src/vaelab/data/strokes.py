"""`strokes`: synthetic handwritten digits, 28×28 grey, with the true factors of variation of every drawing.

A drawing is a skeleton (`vaelab.data.glyphs`) whose control points are moved, sheared, stretched and bent, divided into P short
dashes, scaled to fit a box like the digits of MNIST, and inked. Ink is a function of the distance to the pen path. With dashes
of length ℓ at m, the squared distance of a pixel p from the path is a soft minimum,

    −2s² log Σ ℓ/(s√2π) exp(−|p − m|²/2s²),

which is exact for a straight line. The sum is a product of two small matrices, because the Gaussian is the product of a factor
in x and one in y.

Drawing i depends on the seed and i only: drawings are always made in full blocks of `BLOCK`, each with a separate generator,
whatever the number of drawings requested and of threads.
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
"""Position of the centre of mass to within half a pixel, counting pixels from 0: the convention of MNIST."""
BOX = 20
"""Height and width in pixels of the box around the ink."""
BLOCK = 250
"""Number of drawings made at once; each block contains every digit equally often."""
SOFTNESS = 0.7
"""s, the scale of the soft minimum, in pixels."""
EDGE = 1.1
"""Width in pixels of the ramp from full ink to none."""

FARTHEST = np.float32(-40)
"""Lower limit of exponents."""

TRAIN, VALIDATION, TEST = 50_000, 10_000, 10_000


def _normal(rng: np.random.Generator, mean: float, deviation: float, low: float, high: float) -> np.ndarray:
    """Draw `BLOCK` normal values, clipped to low…high."""
    return np.clip(mean + deviation * rng.standard_normal(BLOCK), low, high)


def _sample_factors(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw the factors of a block except `variant`, each (BLOCK,); for units see `draw_strokes`."""
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
    """Return smooth noise of variance about 1 at the positions `along` the path, (BLOCK, P), in units of the digit height."""
    phases = 2 * np.pi * (along[..., None] / wavelengths + rng.random((BLOCK, 1, len(wavelengths))))
    weights = rng.standard_normal((BLOCK, len(wavelengths), 1)) * np.sqrt(2 / len(wavelengths))
    return (np.sin(phases) @ weights)[..., 0]


def _path(
    rng: np.random.Generator, variant: np.ndarray, factors: dict[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return midpoints (BLOCK, P, 2) and lengths (BLOCK, P) of the dashes after deformation, in units of the digit height."""
    shapes = skeletons()
    points = shapes.points[variant]
    # Neighbouring points share half of their shift, for smooth deviations without zigzags.
    shifts = rng.standard_normal((BLOCK, points.shape[1] + 1, 2))
    points = points + factors["curvature"][:, None, None] * (shifts[:, 1:] + shifts[:, :-1]) / np.sqrt(2)
    # The proportions of a hand: a quadratic map of the page, the same for all points of a drawing.
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
    """Scale to pixels and centre in the box; the longer side of the ink becomes `size` pixels or slightly less."""
    reach = radii[..., None] + EDGE / 2
    longer = np.ptp(middles, axis=1).max(axis=1)
    scale = (size - 2 * reach.max(axis=(1, 2))) / longer
    # The scale assumes the largest radius everywhere, so the ink is slightly too small; correct it once.
    inked = middles * scale[:, None, None]
    extent = ((inked + reach).max(axis=1) - (inked - reach).min(axis=1)).max(axis=1)
    scale += (size - extent) / longer
    inked = middles * scale[:, None, None]
    low, high = (inked - reach).min(axis=1), (inked + reach).max(axis=1)
    # Pixel 0 covers −0.5…0.5.
    return inked + ((BOX - 1) / 2 - (low + high) / 2)[:, None], lengths * scale[:, None]


def _ink(middles: np.ndarray, lengths: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return the ink, uint8 (BLOCK, BOX, BOX), of paths in pixels; `radii` (BLOCK, P) is half the pen width."""
    middles, lengths, radii = (a.astype(np.float32) for a in (middles, lengths, radii))
    radius = radii.mean(axis=1, keepdims=True)
    pixels = np.arange(BOX, dtype=np.float32)
    exponents = (middles[:, :, :, None] - pixels) ** 2
    exponents *= np.float32(-0.5 / SOFTNESS**2)
    # Dashes further away leave no ink, and their products would be denormal, which is ten times slower.
    near = np.exp(np.maximum(exponents, FARTHEST, out=exponents), out=exponents)
    # Dashes with a thicker pen count as nearer, so that their edge is at their radius instead of the mean radius.
    weight = lengths / (SOFTNESS * np.sqrt(2 * np.pi)) * np.exp((radii**2 - radius**2) / (2 * SOFTNESS**2))
    mass = np.swapaxes(near[:, :, 1] * weight[:, :, None].astype(np.float32), 1, 2) @ near[:, :, 0]
    squared = -2 * SOFTNESS**2 * np.log(np.maximum(mass, np.float32(1e-30)))
    ink = (radius[:, :, None] - np.sqrt(np.maximum(squared, 0))) / EDGE + 0.5
    return np.rint(255 * np.clip(ink, 0, 1)).astype(np.uint8)


def _centre(ink: np.ndarray) -> np.ndarray:
    """Shift the boxes of ink by whole pixels, as close to `CENTRE` as possible; return images, uint8 (BLOCK, SIDE, SIDE)."""
    mass = ink.sum(axis=(1, 2))
    rows, columns = ink.sum(axis=2) @ np.arange(BOX) / mass, ink.sum(axis=1) @ np.arange(BOX) / mass
    corners = np.clip(np.rint(CENTRE - np.stack([rows, columns], axis=1)), 0, SIDE - BOX).astype(int)
    images = np.zeros((BLOCK, SIDE, SIDE), np.uint8)
    for image, drawing, (row, column) in zip(images, ink, corners, strict=True):
        image[row : row + BOX, column : column + BOX] = drawing
    return images


def _draw_block(seed: int, block: int) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return images, labels and factors of the drawings from `block`·`BLOCK` on."""
    rng = np.random.default_rng([seed, block])
    shapes = skeletons()
    labels = rng.permutation(np.arange(BLOCK) % 10)
    # Skeletons are ordered by digit with weights that sum to 1: invert the cumulative sum at digit + u.
    variant = np.searchsorted(np.cumsum(shapes.weight), labels + rng.uniform(1e-6, 1 - 1e-6, BLOCK))
    factors = _sample_factors(rng)
    middles, lengths = _path(rng, variant, factors)
    # In MNIST, long paths have thinner lines: an 8 is thinner than a 1.
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
    """Draw `count` digits, the drawings `start`, `start` + 1, … of a seed.

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

        - `slant`: shear, widths to the right per height upwards, −0.5…0.7
        - `rotation`: radians, clockwise, −0.2…0.2
        - `width`: pen width, pixels, 1.4…4.6
        - `aspect`: stretch in x before the slant, 0.6…1.7
        - `size`: longer side of the ink, pixels, 18.8…20
        - `curvature`: standard deviation of the control points, digit heights, 0.015…0.055
        - `roundness`: from a polygon, 0, to a smooth curve, 1, and slightly beyond, 0.1…1.1
        - `pressure`: maximum relative variation of the pen width, 0…0.35
        - `wobble`: standard deviation of the tremor, digit heights, 0…0.017
        - `variant`: index of the skeleton in `vaelab.data.glyphs.PATHS`

        The bend of the skeleton and the phases of pressure and wobble are random as well, but not factors.
    """
    if min(count, seed, start) < 0:
        raise DataError(f"`count`, `seed`, `start`: got {count}, {seed}, {start}; expected whole numbers of at least 0")
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
    """Load the built-in data set `strokes`: 50,000 + 10,000 + 10,000 distinct drawings of one seed.

    The drawings are cached (58 MB) and drawn again only if the code that draws them has changed. `progress` is called with the
    number of drawings made since its last call, 70,000 in total, unless they are read from the cache.
    """
    count = TRAIN + VALIDATION + TEST
    entry = entry_for_drawings("strokes", (count, seed), _code())
    cached = load_entry(entry)
    if cached is not None:
        drawings = _unpacked(*cached)
    else:
        drawings = draw_strokes(count, seed=seed, progress=progress)
        save_entry(entry, *_packed(drawings))
    return Dataset(
        name="strokes",
        train=drawings[:TRAIN],
        validation=drawings[TRAIN : TRAIN + VALIDATION],
        test=drawings[TRAIN + VALIDATION :],
        classes=tuple("0123456789"),
    )


def _code() -> bytes:
    """Return what the pixels of a seed depend on: this file, the skeletons, and NumPy, whose versions may round differently."""
    here = Path(__file__)
    return b"".join([here.read_bytes(), here.with_name("glyphs.py").read_bytes(), np.__version__.encode()])


def _packed(drawings: Split) -> tuple[np.ndarray, dict[str, list[str]]]:
    """Concatenate images, labels and factors as bytes (n,); the note lists the names of the factors."""
    assert drawings.labels is not None
    parts = [drawings.images, drawings.labels, *drawings.factors.values()]
    return np.concatenate([part.reshape(-1).view(np.uint8) for part in parts]), {"factors": list(drawings.factors)}


def _unpacked(content: np.ndarray, note: dict[str, list[str]]) -> Split:
    """Restore packed drawings as a copy in memory."""
    content, factors = np.array(content), note["factors"]
    count = len(content) // (SIDE**2 + 8 + 4 * len(factors))
    images, labels, values = np.split(content, [SIDE**2 * count, (SIDE**2 + 8) * count])
    rows = values.view(np.float32).reshape(len(factors), count)
    return Split(images.reshape(count, 1, SIDE, SIDE), labels.view(np.int64), dict(zip(factors, rows, strict=True)))
