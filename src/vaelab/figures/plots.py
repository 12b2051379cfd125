"""Image grids, the training curve and the posterior map.

Images are uint8, (N, H, W) or (N, H, W, 3). Grids are exact: images are enlarged by an integer factor, without smoothing.
"""

from __future__ import annotations

import io
import itertools
import math
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from vaelab.data.dataset import Dataset
from vaelab.errors import printable
from vaelab.figures.fonts import families_for, font_for
from vaelab.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER, INK = (255, 255, 255), (40, 40, 40)
GAP = 2
CELL = 56
"""Minimum pixels of the longer side of an image on a sheet; smaller images are enlarged by an integer factor."""

APART = 12
"""Pixels of white space between groups of images."""

DOTS_PER_INCH = 120

TITLE = 56
"""Maximum number of characters of a line of a plot's title."""

COLOURS = ("#1f77b4", "#d95f02", "#2a8a3c", "#c22b2b", "#7b52ab", "#7a4a3a", "#d45ca8", "#5f5f5f", "#8f8f00", "#1298a8")
SHAPES = ("o", "s", "^", "v", "D", "P", "X", "*", "<", ">", "h", "d", "8")
"""Label k has colour k mod 10 and marker k mod 13; as 10 and 13 are coprime, 130 labels are distinct."""
MOST_IN_LEGEND = 26
BRIGHTEST = 0.995
"""Quantile of the nats per pixel that are drawn brightest."""

DISTORTION, RATE = "#b5651d", "#3a7d44"
"""Colours of the two terms of −ELBO."""


def sheet(
    rows: Sequence[np.ndarray],
    *,
    names: Sequence[str] = (),
    captions: Sequence[Sequence[str]] = (),
    title: str = "",
    cell: int = CELL,
    gap: int = GAP,
    apart: int = 0,
) -> Image.Image:
    """Draw rows of images on white.

    Parameters
    ----------
    rows
        Images of each row, uint8 (n, H, W[, 3]), all of the same size; rows may differ in length.
    names
        Name to the left of each row.
    captions
        For each row, the captions below its images; no space is reserved for an empty entry.
    title
        Line at the top.
    cell
        Minimum pixels of the longer side of an image.
    gap
        Pixels between images.
    apart
        Additional pixels after the first image of each row, to set off an original.
    """
    height, width = rows[0].shape[1:3]
    factor = max(1, -(-cell // max(height, width)))
    cell_height, cell_width = height * factor, width * factor
    title, names = printable(title), [printable(name) for name in names]
    captions = [[printable(caption) for caption in row] for row in captions]
    font = font_for([title, *names], 14)
    small = font_for(itertools.chain(*captions), max(9, min(12, cell_width // 4)))
    left = max((int(font.getlength(name)) for name in names), default=-10) + 14 if names else GAP
    line = 16
    heights = [cell_height + (line if row < len(captions) and captions[row] else 0) + gap for row in range(len(rows))]
    top = 26 if title else GAP
    columns = max(len(row) for row in rows)
    wide = left + columns * (cell_width + gap) + apart
    if title:
        wide = max(wide, left + math.ceil(font.getlength(title)) + GAP)
    page = Image.new("RGB", (wide, top + sum(heights)), PAPER)
    draw = ImageDraw.Draw(page)
    if title:
        draw.text((left, 13), title, INK, font, anchor="lm")
    y = top
    for row, images in enumerate(rows):
        if row < len(names):
            draw.text((left - 8, y + cell_height // 2), names[row], INK, font, anchor="rm")
        for column, image in enumerate(images):
            x = left + column * (cell_width + gap) + (apart if column else 0)
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


def page(pictures: Sequence[Image.Image], *, title: str, columns: int) -> Image.Image:
    """Arrange pictures in rows of `columns` on white, with a title at the top."""
    width, height = (max(sides) + APART for sides in zip(*(picture.size for picture in pictures), strict=True))
    columns = min(columns, len(pictures))
    title = printable(title)
    font, top = font_for([title], 14), 26
    size = (max(columns * width, int(font.getlength(title))) + APART, top + -(-len(pictures) // columns) * height)
    result = Image.new("RGB", size, PAPER)
    ImageDraw.Draw(result).text((APART, top // 2), title, INK, font, anchor="lm")
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        result.paste(picture, (APART + column * width, top + row * height))
    return result


def tiles(images: np.ndarray, columns: int, *, title: str = "") -> Image.Image:
    """Draw images (N, H, W[, 3]) in rows of `columns`."""
    return sheet([images[first : first + columns] for first in range(0, len(images), columns)], title=title)


def label_rows(images: np.ndarray, names: Sequence[str], *, title: str = "") -> Image.Image:
    """Draw one row per name; `images` holds all rows in order, (rows · n, H, W[, 3])."""
    return sheet(np.split(images, len(names)), names=names, title=title)


def contact_sheet(dataset: Dataset, *, columns: int = 16, most_rows: int = 20) -> Image.Image:
    """Draw training images (or other images if there are none), one row per class for labelled data."""
    name, split = dataset.shown
    title = f"{dataset.name}: {'training' if name == 'train' else name} images"
    images, labels = split.images, split.labels
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
    """Draw originals above their reconstructions, with the nats of each below."""
    rows, names, captions = [], [], []
    for first in range(0, len(images), columns):
        part = slice(first, first + columns)
        rows += [originals[part], images[part]]
        names += ["original", "reconstructed"]
        captions += [[], [f"{value:.1f}" for value in nats[part]]]
    return sheet(rows, names=names, captions=captions, title=title)


def oddest_sheet(
    originals: np.ndarray,
    images: np.ndarray,
    nats: np.ndarray,
    captions: Sequence[str],
    *,
    columns: int = 10,
    title: str,
) -> Image.Image:
    """Draw originals above their reconstructions and maps of the nats of each pixel, (N, H, W); the title states the scale."""
    from matplotlib import colormaps

    low, high = float(nats.min()), float(np.quantile(nats, BRIGHTEST))
    maps = colormaps["inferno"](((nats - low) / max(high - low, 1e-9)).clip(0, 1), bytes=True)[..., :3]
    rows, names, below = [], [], []
    for first in range(0, len(images), columns):
        part = slice(first, first + columns)
        rows += [originals[part], images[part], maps[part]]
        names += ["original", "reconstructed", "nats per pixel"]
        below += [[], [], captions[part]]
    return sheet(
        rows, names=names, captions=below, title=f"{title}; {low:.2f} nats (black) to {high:.2f} and more (yellow)"
    )


def training_curve(lines: Sequence[dict[str, Any]], title: str, *, stochastic: bool = True) -> Image.Image:
    """Plot −ELBO of training and validation over epochs, in nats per image, from `metrics.jsonl`, and below each other its terms.

    An autoencoder is not `stochastic`: it has no rate, and its distortion is drawn alone.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9 if stochastic else 4.8, 3.6), layout="constrained", dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 1 + stochastic)
    total = figure.add_subplot(grid[:, 0])
    panels = [(total, "nats", "#0b6fa4")]
    if (
        stochastic
    ):  # a panel each: the rate is often a tenth of the distortion, and lines of two scales would cross anywhere
        upper = figure.add_subplot(grid[0, 1])
        upper.set_title("the two terms of −ELBO, validation", fontsize=10)
        panels += [(upper, "distortion", DISTORTION), (figure.add_subplot(grid[1, 1], sharex=upper), "rate", RATE)]
        upper.tick_params(labelbottom=False)
    lines = [line for line in lines if "train" in line]
    epochs, training = _even_intervals(lines)
    total.plot(epochs, training, color="#999999", label="training")
    checked = [line for line in lines if "validation" in line]
    at = [line["epoch"] for line in checked]
    nats = [line["validation"]["nats"] for line in checked]
    first = min(len(nats) // 10, nats.index(min(nats))) if nats else 0  # the best is always seen
    for axes, name, colour in panels:
        values = [line["validation"][name] for line in checked]
        axes.plot(at, values, "o-", ms=3, color=colour, label="validation")
        _scale(axes, values[first:] + (training[len(training) // 10 :] if axes is total else []))
        axes.set_ylabel(
            "nats per image" if axes is total else f"{name} (nats)", color="black" if axes is total else colour
        )
        axes.grid(alpha=0.25)
    for axes in (total, panels[-1][0]):
        axes.set_xlabel("epochs")
    figure.align_ylabels([axes for axes, *_ in panels[1:]])
    total.set_title(title, fontsize=10)
    if epochs:
        total.legend(fontsize=8, frameon=False)
    return _render(figure)


def _scale(axes: Axes, later: Sequence[float]) -> None:
    """Scale to the values of the last 90 % of the training: the initial change would flatten the rest."""
    if len(later) > 4 and np.isfinite(later).all():
        low, high = min(later), max(later)
        margin = 0.05 * (high - low) or 0.5
        axes.set_ylim(low - margin, high + margin)


def _even_intervals(lines: Sequence[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Return epochs and nats of the training images; intervals of less than half the usual length are joined to those before.

    A short interval, as at the end of a training or before an interruption, averages few steps, which looks like a jump.
    """
    steps = np.diff([0, *(line["step"] for line in lines)])
    usual = float(np.median(steps)) if len(steps) else 0.0
    epochs, sums, counts = list[float](), list[float](), list[float]()
    for line, count in zip(lines, steps, strict=True):
        nats, count = line["train"]["nats"], max(1.0, float(count))
        if epochs and count < usual / 2:
            epochs[-1], sums[-1], counts[-1] = line["epoch"], sums[-1] + count * nats, counts[-1] + count
        else:
            epochs.append(line["epoch"])
            sums.append(count * nats)
            counts.append(count)
    return epochs, [total / count for total, count in zip(sums, counts, strict=True)]


def posterior_map(
    mean: np.ndarray,
    deviation: np.ndarray,
    *,
    labels: np.ndarray | None,
    classes: Sequence[str],
    axes: tuple[str, str],
    title: str,
) -> Image.Image:
    """Draw means and 1σ ellipses of posteriors on two latent axes, over the 1, 2 and 3σ circles of N(0, I).

    Labels differ in colour and marker. The marker is the class name if all names are single characters, else a shape.

    Parameters
    ----------
    mean, deviation
        Means and standard deviations, (N, 2); a deviation of 0 is drawn as a point.
    labels
        (N,), indices into `classes`, or None.
    axes
        Labels of the x and y axes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import EllipseCollection
    from matplotlib.figure import Figure
    from matplotlib.patches import Circle

    short = all(len(name) == 1 and name.isascii() and name.isalnum() for name in classes)
    named = labels is not None and not short
    figure = Figure(figsize=(6.6 if short else 8.2, 6.6), layout="constrained", dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    plane = figure.subplots()
    reach = 1.04 * max(3.2, float((np.abs(mean) + deviation).max()))
    plane.set(xlim=(-reach, reach), ylim=(-reach, reach), xlabel=axes[0], ylabel=axes[1], aspect="equal")
    for ring in (1, 2, 3):
        plane.add_patch(Circle((0, 0), ring, fill=False, color="#bbbbbb", lw=1, ls="--", zorder=0))
        paper = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}
        plane.annotate(
            f"{ring}σ", (0, ring), ha="center", va="center", fontsize=8, color="#777777", zorder=0, bbox=paper
        )
    for label in [None] if labels is None else np.unique(labels):
        chosen = np.arange(len(mean)) if labels is None else np.flatnonzero(labels == label)
        colour = COLOURS[(label or 0) % len(COLOURS)]
        ellipses = EllipseCollection(
            2 * deviation[chosen, 0],
            2 * deviation[chosen, 1],
            np.zeros(len(chosen)),
            units="xy",
            offsets=mean[chosen],
            offset_transform=plane.transData,
            facecolors=colour + "18",
            edgecolors=colour + "90",
            linewidths=0.6,
            zorder=3 if named else 1,
        )
        plane.add_collection(ellipses)
        name = "" if label is None else classes[label]
        mark = "." if label is None else rf"$\mathrm{{{name}}}$" if short else SHAPES[label % len(SHAPES)]
        few = label is None or label < MOST_IN_LEGEND
        size = 8 if named else 26  # letters must be legible, shapes must not hide the ellipses
        plane.scatter(*mean[chosen].T, s=size, marker=mark, color=colour, linewidths=0.4, label=name if few else None)
    if named:
        more = f"the first {MOST_IN_LEGEND} of {len(classes)}" if len(classes) > MOST_IN_LEGEND else None
        figure.legend(loc="outside right upper", frameon=False, fontsize=9, title=more, alignment="left")
    plane.set_title(title, fontsize=10)
    return _render(figure)


def _render(figure: Figure) -> Image.Image:
    """Draw a figure with literal texts: `$` starts no formula; characters without a glyph are escaped or drawn as boxes."""
    from matplotlib.text import Text

    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    families = families_for(text.get_text() for text in texts)
    titles = [axes.title for axes in figure.axes]
    for text in texts:
        text.set_parse_math(False)
        shown = printable(text.get_text())
        text.set_text(textwrap.fill(shown, TITLE) if text in titles else shown)
        text.set_fontfamily(families)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


def save_picture(path: Path, picture: Image.Image) -> None:
    """Save a PNG atomically.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    with atomic_write(path) as temporary:
        picture.save(temporary, format="PNG")


def save_animation(path: Path, frames: Sequence[Image.Image], *, per_second: float) -> None:
    """Save frames atomically as an animated GIF or WebP (by suffix) that plays forwards and backwards in a loop.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    round_trip = [*frames, *frames[-2:0:-1]]
    lossless = {"format": "WEBP", "lossless": True} if path.suffix.lower() == ".webp" else {"format": "GIF"}
    with atomic_write(path) as temporary:
        round_trip[0].save(
            temporary,
            save_all=True,
            append_images=round_trip[1:],
            duration=round(1000 / per_second),
            loop=0,
            **lossless,
        )
