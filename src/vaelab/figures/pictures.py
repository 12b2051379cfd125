"""Results of latent exploration: arrays of images with captions, displayed by notebooks and saved as PNG, GIF or WebP.

Each image is uint8, (H, W) or (H, W, 3).
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from PIL import Image

from vaelab.errors import ConfigError
from vaelab.figures.plots import APART, CELL, GAP, page, posterior_map, save_animation, save_picture, sheet
from vaelab.files import expect_suffix

ANIMATED = (".gif", ".webp")
FRAME, SMALL_FRAME = 224, 112
"""Minimum pixels of the longer side of an image in an animation, for a single image and for one of several."""


@final
@dataclass(frozen=True, eq=False, repr=False)
class Pictures:
    """A grid of decoded images.

    Attributes
    ----------
    images
        uint8 (rows, columns, H, W[, 3]); `np.asarray` returns it.
    names
        Name of each row.
    captions
        Caption of each column.
    title
        Title of the grid.
    subject
        Name of the label that is drawn, if there is exactly one.
    originals
        uint8 (rows, H, W[, 3]): original image of each row, if any; shown before the row.
    ends
        uint8 (rows, H, W[, 3]): original image at the end of each row, if any; shown after the row.
    seamless
        Whether images are drawn without gaps.
    """

    images: np.ndarray
    names: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    title: str = ""
    subject: str = ""
    originals: np.ndarray | None = None
    ends: np.ndarray | None = None
    seamless: bool = False

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.images, dtype=dtype, copy=True if copy is None else copy)

    def __repr__(self) -> str:
        rows, columns = self.images.shape[:2]
        return f"Pictures({self.title!r}, {rows} × {columns} images of {'×'.join(map(str, self.images.shape[2:]))})"

    def _repr_png_(self) -> bytes:
        return _png(self.sheet())

    def sheet(self) -> Image.Image:
        """Draw all images on one sheet, enlarged by an integer factor."""
        rows = list(self.images)
        captions = self.captions
        if self.originals is not None:
            rows = [np.concatenate([first[None], row]) for first, row in zip(self.originals, rows, strict=True)]
            captions = captions and ("original", *captions)
        if self.ends is not None:
            rows = [np.concatenate([row, last[None]]) for row, last in zip(rows, self.ends, strict=True)]
            captions = captions and (*captions, "original")
        below = [*[()] * (len(rows) - 1), captions]
        return sheet(
            rows,
            names=self.names,
            captions=below,
            title=": ".join(filter(None, (self.subject, self.title))),
            cell=CELL // 2 if self.seamless else CELL,
            gap=0 if self.seamless else GAP,
            apart=0 if self.originals is None else APART,
        )

    def frames(self) -> list[Image.Image]:
        """Draw one frame per column with the images of all rows and their names."""
        rows, columns = self.images.shape[:2]
        across = math.ceil(math.sqrt(rows))
        cell = FRAME if rows == 1 else SMALL_FRAME
        frames = []
        for column in range(columns):
            images = self.images[:, column]
            parts = [slice(first, first + across) for first in range(0, rows, across)]
            caption = self.captions[column] if self.captions else ""
            names = [self.names[part] for part in parts] if rows > 1 else [(": ".join([*self.names, caption]),)]
            frames.append(
                sheet([images[part] for part in parts], captions=names, title=caption if rows > 1 else "", cell=cell)
            )
        return frames

    def save(self, path: str | os.PathLike[str], *, fps: float = 10.0) -> None:
        """Save the sheet as PNG, or the columns as an animated GIF or WebP that plays forwards and backwards.

        Parameters
        ----------
        path
            FILE.png, FILE.gif or FILE.webp.
        fps
            Frames per second, 1…50.

        Raises
        ------
        OutputError
            If the file has another suffix or cannot be written.
        ConfigError
            If `fps` is out of range.
        """
        file = Path(path)
        expect_suffix(file, ".png", *ANIMATED, parameter="path")
        if not 1 <= fps <= 50:
            raise ConfigError(f"`fps`: got {fps:g}; expected 1 to 50 frames per second")
        if file.suffix.lower() in ANIMATED:
            save_animation(file, self.frames(), per_second=fps)
        else:
            save_picture(file, self.sheet())


@final
@dataclass(frozen=True, eq=False, repr=False)
class PosteriorMap:
    """Posteriors of images, drawn on two latent axes.

    Attributes
    ----------
    mean, log_variance
        Mean and log-variance of each image and dimension, float32 (N, d); `np.asarray` returns the mean.
    labels
        (N,), indices into `classes`, or None.
    classes
        Names of the labels.
    axes
        The two dimensions to draw.
    names
        Axis labels.
    title
        Title of the map.
    """

    mean: np.ndarray
    log_variance: np.ndarray
    labels: np.ndarray | None
    classes: tuple[str, ...]
    axes: tuple[int, int]
    names: tuple[str, str]
    title: str

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.mean, dtype=dtype, copy=True if copy is None else copy)

    def __repr__(self) -> str:
        return f"PosteriorMap({self.title!r}, {len(self.mean):,} images, axes {self.axes[0]} and {self.axes[1]})"

    def _repr_png_(self) -> bytes:
        return _png(self.picture())

    def picture(self) -> Image.Image:
        """Draw means and 1σ ellipses over the 1, 2 and 3σ circles of N(0, I)."""
        chosen = list(self.axes)
        return posterior_map(
            self.mean[:, chosen],
            np.exp(0.5 * self.log_variance[:, chosen]),
            labels=self.labels,
            classes=self.classes,
            axes=self.names,
            title=self.title,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the map as PNG.

        Raises
        ------
        OutputError
            If the file has another suffix or cannot be written.
        """
        expect_suffix(Path(path), ".png", parameter="path")
        save_picture(Path(path), self.picture())


def beside(pictures: Sequence[Pictures], *, columns: int = 5) -> Image.Image:
    """Arrange several grids on one page, each under its subject and without row and column names."""
    pages = [replace(one, names=(), captions=(), title="").sheet() for one in pictures]
    return page(pages, title=pictures[0].title, columns=columns)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()
