"""Arrays to pictures: sheets of images with their names, and the training curve.

Images are uint8, (N, H, W) or (N, H, W, 3). Sheets are exact: every pixel of an image becomes a square of whole pixels.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vaelab.data.dataset import Dataset
from vaelab.output import written_whole

PAPER, INK = (255, 255, 255), (40, 40, 40)
GAP = 2
CELL = 56
"""Pixels of the longer side of an image on a sheet, at least: small images are enlarged by a whole factor."""

DOTS_PER_INCH = 120


def sheet(
    rows: Sequence[np.ndarray],
    *,
    names: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
    title: str = "",
) -> Image.Image:
    """Rows of images on white.

    Parameters
    ----------
    rows
        Images of each row, uint8 (n, H, W[, 3]), all of one size; rows may differ in length.
    names
        A name to the left of each row.
    captions
        For each row, a line below each of its images; an empty entry leaves no room.
    title
        A line on top.
    """
    height, width = rows[0].shape[1:3]
    factor = max(1, -(-CELL // max(height, width)))
    cell_height, cell_width = height * factor, width * factor
    font, small = _font(14), _font(max(9, min(12, cell_width // 4)))
    left = max((int(font.getlength(name)) for name in names), default=-10) + 14 if names else GAP
    line = 16
    heights = [cell_height + (line if row < len(captions) and captions[row] else 0) + GAP for row in range(len(rows))]
    top = 26 if title else GAP
    columns = max(len(row) for row in rows)
    page = Image.new("RGB", (left + columns * (cell_width + GAP), top + sum(heights)), PAPER)
    draw = ImageDraw.Draw(page)
    if title:
        draw.text((left, 13), title, INK, font, anchor="lm")
    y = top
    for row, images in enumerate(rows):
        if row < len(names):
            draw.text((left - 8, y + cell_height // 2), names[row], INK, font, anchor="rm")
        for column, image in enumerate(images):
            x = left + column * (cell_width + GAP)
            page.paste(Image.fromarray(image).resize((cell_width, cell_height), Image.Resampling.NEAREST), (x, y))
            if row < len(captions) and column < len(captions[row]):
                draw.text(
                    (x + cell_width // 2, y + cell_height + line // 2),
                    captions[row][column],
                    INK,
                    small,
                    anchor="mm",
                )
        y += heights[row]
    return page


def tiles(images: np.ndarray, columns: int, *, title: str = "") -> Image.Image:
    """Images (N, H, W[, 3]) in rows of `columns`."""
    return sheet([images[first : first + columns] for first in range(0, len(images), columns)], title=title)


def label_rows(images: np.ndarray, names: Sequence[str], *, title: str = "") -> Image.Image:
    """A row per name: images (rows · n, H, W[, 3]), row after row."""
    return sheet(np.split(images, len(names)), names=names, title=title)


def contact_sheet(dataset: Dataset, *, columns: int = 16, most_rows: int = 20) -> Image.Image:
    """Training images, a row per class for labelled data."""
    title = f"{dataset.name}: training images"
    images, labels = dataset.train.images, dataset.train.labels
    shown = np.moveaxis(images, 1, -1) if images.shape[1] == 3 else images[:, 0]
    if labels is None:
        return tiles(shown[: columns * most_rows], columns, title=title)
    names = dataset.classes[:most_rows]
    rows = [shown[np.flatnonzero(labels == label)[:columns]] for label in range(len(names))]
    if len(dataset.classes) > most_rows:
        title += f" (the first {most_rows} of {len(dataset.classes)} classes)"
    return sheet(rows, names=names, title=title)


def reconstruction_sheet(
    originals: np.ndarray, images: np.ndarray, nats: np.ndarray, *, columns: int = 10, title: str = ""
) -> Image.Image:
    """Originals above their reconstructions, the nats of each below."""
    rows, names, captions = [], [], []
    for first in range(0, len(images), columns):
        part = slice(first, first + columns)
        rows += [originals[part], images[part]]
        names += ["original", "reconstructed"]
        captions += [[], [f"{value:.1f}" for value in nats[part]]]
    return sheet(rows, names=names, captions=captions, title=title)


def training_curve(lines: Sequence[dict[str, Any]], title: str) -> Image.Image:
    """Nats per image over the epochs, from the lines of `metrics.jsonl`: training and validation −ELBO, and its two halves."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained", dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    total, halves = figure.subplots(1, 2)
    lines = [line for line in lines if "train" in line]
    epochs = [line["epoch"] for line in lines]
    total.plot(epochs, [line["train"]["nats"] for line in lines], color="#999999", label="training, as it went")
    checked = [line for line in lines if "validation" in line]
    if checked:
        at = [line["epoch"] for line in checked]
        total.plot(
            at,
            [line["validation"]["nats"] for line in checked],
            "o-",
            ms=3,
            color="#0b6fa4",
            label="validation",
        )
        halves.plot(
            at,
            [line["validation"]["distortion"] for line in checked],
            "o-",
            ms=3,
            color="#b5651d",
            label="distortion",
        )
        halves.plot(at, [line["validation"]["rate"] for line in checked], "o-", ms=3, color="#3a7d44", label="rate")
    # The first fall from an untrained model would flatten all that follows.
    later = [line["train"]["nats"] for line in lines[len(lines) // 10 :]]
    later += [line["validation"]["nats"] for line in checked[len(checked) // 10 :]]
    if len(later) > 4 and np.isfinite(later).all():
        low, high = min(later), max(later)
        total.set_ylim(low - 0.05 * (high - low) - 0.5, high + 0.05 * (high - low) + 0.5)
    total.set_title(title, fontsize=10)
    halves.set_title("its two halves, validation", fontsize=10)
    for axes in (total, halves):
        axes.set_xlabel("epochs")
        axes.set_ylabel("nats per image")
        axes.grid(alpha=0.25)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: it has the minus sign, Greek and Cyrillic."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def save_picture(path: Path, picture: Image.Image) -> None:
    """Write a PNG, whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with written_whole(path) as temporary:
        picture.save(temporary, format="PNG")
