"""A photograph or a drawing read as MNIST was made, so that a model of such images takes it.

MNIST's digits are bilevel scans, fitted into a box of 20×20 pixels in their own proportions, their edges grey from the
scaling, and moved until their centre of mass is the middle of 28×28 (LeCun et al. 1998, section III). Here:

1. What is transparent becomes white; colour becomes grey.
2. A smooth shading of the paper is taken off if the ink then parts from it more clearly.
3. Otsu's threshold parts ink from paper; paper is what the border is made of. Dark ink on light paper is inverted.
4. Paper becomes 0 and ink 255, and the edge between them keeps its greys. Specks of less than 1 % of the ink are dropped.
5. The ink is scaled to fit the box (each pixel the mean of the area that it covers), brightened until its brightest pixel is
   white, since a fine pen would hardly be seen, and moved by whole pixels.

Sources: Otsu 1979 (the threshold, and η, the share of the variance that it explains).
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
"""MNIST's: pixels of a side, of the box that holds the ink, and where the centre of mass falls, counting from 0."""

LARGEST = 512
"""Pixels of the longer side that a photograph is read at: more is only slower."""

SPECK = 0.01
"""Share of the ink below which a piece that stands alone is dust."""

LEAST_CONTRAST = 8
"""Grey levels between ink and paper below which there is nothing to see."""

DARKEST_PAPER = 16
"""Grey levels below which paper is too dark to tell its shading."""

Picture: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray


class Drawing(NamedTuple):
    """A drawing as MNIST has them, uint8 (H, W), and what reading it took."""

    levels: np.ndarray
    inverted: bool
    shading: bool

    def told(self) -> str:
        """What was done, in words."""
        done = ["inverted (dark on light)"] if self.inverted else []
        done += ["shading taken off"] if self.shading else []
        H, W = self.levels.shape
        return ", ".join(["grey", *done, "thresholded by Otsu", f"fitted and centred in {H}×{W}"])


def prepare(image: Picture, size: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """A photograph or drawing of one character as MNIST was made: light on black, thresholded, fitted and centred.

    Parameters
    ----------
    image
        A file, a Pillow image, or uint8 (H, W), (H, W, 3) or (H, W, 4); on plain paper, dark on light or light on dark.
    size
        (H, W) to make; the box and the centre keep MNIST's proportions.

    Returns
    -------
    uint8 (H, W)

    Raises
    ------
    DataError
        If the file cannot be read, or there is no drawing in it.
    """
    return read_drawing(image, size).levels


def read_drawing(image: Picture, size: tuple[int, int] = (SIDE, SIDE)) -> Drawing:
    """As `prepare`, with what was done."""
    name = os.fspath(image) if isinstance(image, str | os.PathLike) else "the image"
    grey = _opened(image).convert("L")
    grey.thumbnail((LARGEST, LARGEST), Image.Resampling.BOX)
    levels = np.asarray(grey).astype(np.float64)
    flat, level = _without_shading(levels), _part(levels)
    shading = flat is not None and flat.explained > level.explained + 0.01
    parted = flat if shading and flat is not None else level
    if parted.contrast < LEAST_CONTRAST:
        raise DataError(
            f"{name}: got an image of one grey; expected a drawing on plain paper, such as a black pen on white"
        )
    return Drawing(_fitted(_without_specks(parted.ink()), size), parted.light_paper, shading)


def _opened(image: Picture) -> Image.Image:
    if isinstance(image, str | os.PathLike):
        return open_image(os.fspath(image))
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
    return flattened(image)[0]


class _Parted(NamedTuple):
    """Levels (H, W) with Otsu's threshold, the mean level on either side of it, and η; paper is on the border's side."""

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
        """0…1, (H, W): 1 where the ink's mean level is, 0 where the paper's is and wherever no ink is near."""
        paper, ink = (self.light, self.dark) if self.light_paper else (self.dark, self.light)
        near = ndimage.binary_dilation(~self.paper(), np.ones((3, 3)))
        return near * np.clip((self.levels - paper) / (ink - paper), 0, 1)


def _part(levels: np.ndarray) -> _Parted:
    low, high = float(levels.min()), float(levels.max())
    if high - low < 1e-6:
        return _Parted(levels, low, low, low, 0.0, False)
    counts, edges = np.histogram(levels, bins=256, range=(low, high))
    middles = (edges[1:] + edges[:-1]) / 2
    below, total = np.cumsum(counts)[:-1], levels.size
    sums, whole = np.cumsum(counts * middles)[:-1], float((counts * middles).sum())
    dark, light = sums / below, (whole - sums) / np.maximum(total - below, 1)
    between = below * (total - below) * (light - dark) ** 2 / total**2
    # Every empty bin between two peaks explains the same: the middle one is as far from both.
    best = int(np.median(np.flatnonzero(between >= between.max() * (1 - 1e-9))))
    border = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
    variance = float((counts * (middles - whole / total) ** 2).sum()) / total
    return _Parted(
        levels,
        float(edges[best + 1]),
        float(dark[best]),
        float(light[best]),
        float(between[best]) / variance,
        bool(np.median(border) > edges[best + 1]),
    )


def _without_shading(levels: np.ndarray, rounds: int = 5) -> _Parted | None:
    """Levels by the quadratic in x and y that fits the paper best, as if it were lit evenly; None where that fails.

    Which is paper is found anew in each round. Light dims paper and ink in proportion, so that levels are divided by the
    paper's; None if it is too dark for that.
    """
    H, W = levels.shape
    if min(H, W) < 16:
        return None
    y, x = np.meshgrid(np.linspace(-1, 1, H), np.linspace(-1, 1, W), indexing="ij")
    basis = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    paper, parted = np.ones_like(levels, dtype=bool), None
    for _ in range(rounds):
        if paper.sum() < levels.size / 4:
            return None
        weights = np.linalg.lstsq(basis[paper], levels[paper], rcond=None)[0]
        surface = basis @ weights
        if surface.min() < DARKEST_PAPER:
            return None
        parted = _part(levels / surface * surface.mean())
        paper = parted.paper()
    return parted


def _without_specks(ink: np.ndarray) -> np.ndarray:
    pieces = np.zeros(ink.shape, dtype=np.int32)
    ndimage.label(ink > 0, np.ones((3, 3)), output=pieces)
    amounts = ndimage.sum_labels(ink, pieces, np.arange(pieces.max() + 1))
    return ink * (amounts >= SPECK * amounts.sum())[pieces]


def _fitted(ink: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Ink 0…1 (h, w) as levels (H, W): its longer side as long as the box, its centre of mass where MNIST has it."""
    rows, columns = np.flatnonzero(ink.max(1)), np.flatnonzero(ink.max(0))
    drawing = Image.fromarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32))
    box = [BOX / SIDE * side for side in size]
    scale = min(box[0] / drawing.height, box[1] / drawing.width)
    inner = (max(1, round(scale * drawing.width)), max(1, round(scale * drawing.height)))
    way = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    scaled = np.asarray(drawing.resize(inner, way)).clip(0, 1)
    scaled = scaled / scaled.max()
    middle = np.array(ndimage.center_of_mass(scaled))
    corner = np.rint(np.array(size) * CENTRE / SIDE - middle).astype(int)
    top, left = np.clip(corner, 0, np.array(size) - scaled.shape)
    levels = np.zeros(size, dtype=np.uint8)
    levels[top : top + scaled.shape[0], left : left + scaled.shape[1]] = np.rint(255 * scaled)
    return levels
