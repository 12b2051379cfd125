"""Convert a photograph or a drawing of a character to the format of MNIST, so that a model of such images can use it.

MNIST's digits are bilevel scans, scaled to fit a box of 20×20 pixels with their aspect ratio preserved, which makes their edges
grey, and shifted so that their centre of mass is the centre of 28×28 pixels (LeCun et al. 1998, section III). Steps here:

1. Transparent pixels become white; colour becomes grey.
2. Smooth shading of the paper is removed if that separates ink and paper better.
3. Otsu's threshold separates ink and paper; the border of the image is assumed to be paper. Dark ink on light paper is inverted.
4. Paper becomes 0 and ink 255; the edges between them stay grey. Specks of less than 1 % of the ink are removed.
5. The ink is scaled to fit the box (each pixel is the mean of the area it covers), brightened until its brightest pixel is
   white (otherwise thin lines would be hardly visible), and shifted by whole pixels.

Source: Otsu 1979 (the threshold, and η, the share of the variance that it explains).
"""

from __future__ import annotations

import os
from typing import NamedTuple, TypeAlias

import numpy as np
from PIL import Image
from scipy import ndimage

from vaelab.data.formats import flattened, open_image
from vaelab.errors import DataError

SIDE, BOX, CENTRE = 28, 20, 14
"""Conventions of MNIST in pixels: image side, side of the box around the ink, and position of the centre of mass, from 0."""

MAX_SIDE = 512
"""Longer side in pixels to which a photograph is reduced; more is slower without a benefit."""

SPECK = 0.01
"""Share of the ink below which a connected piece is treated as dust."""

MIN_CONTRAST = 8
"""Difference in grey levels between ink and paper below which the image counts as empty."""

DARKEST_PAPER = 16
"""Grey level of the paper below which its shading cannot be estimated."""

Picture: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray


class Drawing(NamedTuple):
    """A drawing in the format of MNIST, uint8 (H, W), and the conversions applied."""

    levels: np.ndarray
    inverted: bool
    shading: bool

    def told(self) -> str:
        """Describe the conversions in words."""
        done = ["inverted (dark on light)"] if self.inverted else []
        done += ["shading removed"] if self.shading else []
        H, W = self.levels.shape
        return ", ".join(["grey", *done, "thresholded by Otsu", f"fitted and centred in {H}×{W}"])


def prepare(image: Picture, size: tuple[int, int] = (SIDE, SIDE), *, max_pixels: int | None = None) -> np.ndarray:
    """Convert a photograph or drawing of one character to the format of MNIST: light on black, thresholded, centred.

    Parameters
    ----------
    image
        A file, a Pillow image, or uint8 (H, W), (H, W, 3) or (H, W, 4); dark on light plain paper, or light on dark.
    size
        (H, W) of the result; the box and the centre scale with it.
    max_pixels
        Largest number of pixels of an image file, as in `load_dataset`.

    Returns
    -------
    uint8 (H, W)

    Raises
    ------
    DataError
        If the file cannot be read or contains no drawing.
    """
    return read_drawing(image, size, max_pixels).levels


def read_drawing(
    image: Picture, size: tuple[int, int] = (SIDE, SIDE), max_pixels: int | None = None, white: float | None = None
) -> Drawing:
    """Convert like `prepare`, and also return the conversions applied; `white` of a file is as in `load_dataset`."""
    name = os.fspath(image) if isinstance(image, str | os.PathLike) else "the image"
    grey = _opened(image, max_pixels, white).convert("L")
    grey.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BOX)
    levels = np.asarray(grey).astype(np.float64)
    unshaded, plain = _without_shading(levels), _separate(levels)
    shading = unshaded is not None and unshaded.explained > plain.explained + 0.01
    separated = unshaded if shading and unshaded is not None else plain
    if separated.contrast < MIN_CONTRAST:
        raise DataError(
            f"{name}: got an image of a single grey level; expected a drawing on plain paper, such as a black pen on white"
        )
    return Drawing(_fitted(_without_specks(separated.ink()), size), separated.light_paper, shading)


def _opened(image: Picture, max_pixels: int | None, white: float | None) -> Image.Image:
    if isinstance(image, str | os.PathLike):
        return open_image(os.fspath(image), max_pixels, white)
    if isinstance(image, np.ndarray):
        shape = image.shape
        if (
            image.dtype != np.uint8
            or len(shape) not in (2, 3)
            or 0 in shape
            or (len(shape) == 3 and shape[2] not in (3, 4))
        ):
            raise DataError(
                f"got an array of type {image.dtype} and shape {shape}; expected uint8 (H, W), (H, W, 3) or (H, W, 4)"
            )
        image = Image.fromarray(image)
    try:
        return flattened(image).image
    except ValueError as error:
        raise DataError(f"got an image that cannot be converted to 8 bits ({error}); convert it first") from None


class _Separation(NamedTuple):
    """Levels (H, W), Otsu's threshold, the mean level below and above it, η (`explained`), and the side of the paper."""

    levels: np.ndarray
    threshold: float
    dark: float
    light: float
    explained: float
    light_paper: bool

    @property
    def contrast(self) -> float:
        return self.light - self.dark

    def paper(self) -> np.ndarray:
        return (self.levels > self.threshold) == self.light_paper

    def ink(self) -> np.ndarray:
        """Return ink 0…1, (H, W): 1 at the mean level of the ink; 0 at that of the paper and away from any ink."""
        paper, ink = (self.light, self.dark) if self.light_paper else (self.dark, self.light)
        near = ndimage.binary_dilation(~self.paper(), np.ones((3, 3)))
        return near * np.clip((self.levels - paper) / (ink - paper), 0, 1)


def _separate(levels: np.ndarray) -> _Separation:
    """Separate dark and light levels by Otsu's threshold."""
    low, high = float(levels.min()), float(levels.max())
    if high - low < 1e-6:
        return _Separation(levels, low, low, low, 0.0, False)
    counts, edges = np.histogram(levels, bins=256, range=(low, high))
    centres = (edges[1:] + edges[:-1]) / 2
    below, total = np.cumsum(counts)[:-1], levels.size
    sums, total_sum = np.cumsum(counts * centres)[:-1], float((counts * centres).sum())
    dark, light = sums / below, (total_sum - sums) / np.maximum(total - below, 1)
    between = below * (total - below) * (light - dark) ** 2 / total**2
    # All empty bins between two peaks explain the same variance: use the middle one.
    best = int(np.median(np.flatnonzero(between >= between.max() * (1 - 1e-9))))
    border = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
    variance = float((counts * (centres - total_sum / total) ** 2).sum()) / total
    return _Separation(
        levels,
        float(edges[best + 1]),
        float(dark[best]),
        float(light[best]),
        float(between[best]) / variance,
        bool(np.median(border) > edges[best + 1]),
    )


def _without_shading(levels: np.ndarray, rounds: int = 5) -> _Separation | None:
    """Divide the levels by the least-squares quadratic in x and y of the paper, and separate; return None if that fails.

    Illumination scales paper and ink alike, hence the division. The paper is determined again in each round. Fails for small
    images, little paper, and paper too dark to divide by.
    """
    H, W = levels.shape
    if min(H, W) < 16:
        return None
    y, x = np.meshgrid(np.linspace(-1, 1, H), np.linspace(-1, 1, W), indexing="ij")
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    paper, separated = np.ones_like(levels, dtype=bool), None
    for _ in range(rounds):
        if paper.sum() < levels.size / 4:
            return None
        weights = np.linalg.lstsq(basis[paper], levels[paper], rcond=None)[0]
        surface = basis @ weights
        if surface.min() < DARKEST_PAPER:
            return None
        separated = _separate(levels / surface * surface.mean())
        paper = separated.paper()
    return separated


def _without_specks(ink: np.ndarray) -> np.ndarray:
    pieces = np.zeros(ink.shape, dtype=np.int32)
    ndimage.label(ink > 0, np.ones((3, 3)), output=pieces)
    amounts = ndimage.sum_labels(ink, pieces, np.arange(pieces.max() + 1))
    return ink * (amounts >= SPECK * amounts.sum())[pieces]


def _fitted(ink: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Scale ink 0…1 (h, w) to fit the box and place its centre of mass as in MNIST; return levels, uint8 (H, W)."""
    rows, columns = np.flatnonzero(ink.max(1)), np.flatnonzero(ink.max(0))
    drawing = Image.fromarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32))
    box = [BOX / SIDE * side for side in size]
    scale = min(box[0] / drawing.height, box[1] / drawing.width)
    inner = (max(1, round(scale * drawing.width)), max(1, round(scale * drawing.height)))
    resampling = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    scaled = np.asarray(drawing.resize(inner, resampling)).clip(0, 1)
    scaled = scaled / scaled.max()
    centre = np.array(ndimage.center_of_mass(scaled))
    corner = np.rint(np.array(size) * CENTRE / SIDE - centre).astype(int)
    top, left = np.clip(corner, 0, np.array(size) - scaled.shape)
    levels = np.zeros(size, dtype=np.uint8)
    levels[top : top + scaled.shape[0], left : left + scaled.shape[1]] = np.rint(255 * scaled)
    return levels
