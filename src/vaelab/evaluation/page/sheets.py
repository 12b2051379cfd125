"""Sheets of images: one picture of all rows; or, where what stands below an image is long, each image with its own words."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from vaelab.evaluation.page.axes import shortened
from vaelab.evaluation.page.markup import Html, tag, void
from vaelab.evaluation.results import Sheet
from vaelab.figures import plots

MOST_SIDE = 96
"""Pixels of the longer side of an image on a sheet, at most."""

LONG_CAPTION = 8
"""Characters that fit below an image on a line of their own."""


def sheet(plot: Sheet, alt: str) -> Html:
    """Images on white, as on paper; what is too wide is moved sideways within its own frame."""
    kept = [index for index, row in enumerate(plot.rows) if len(row)]
    if not kept:
        return tag("p", "No images.", class_="note")
    rows = [_reduced(plot.rows[index]) for index in kept]
    names = [plot.names[index] for index in kept] if plot.names else []
    captions = [plot.captions[index] if index < len(plot.captions) else () for index in kept]
    if any(len(text) > LONG_CAPTION for row in captions for text in row):
        return _told(rows, names, captions, plot.title)
    picture = plots.sheet(rows, names=[shortened(name, 28) for name in names], captions=captions)
    if rows[0].ndim == 3:
        picture = picture.convert("L")
    width, height = picture.size
    least = min(width, max(320, width * 5 // 8))  # below which the images are no longer to be recognised
    size = {"width": width, "height": height, "style": f"min-width:{least}px"}
    return _frame(void("img", src=data_uri(picture), alt=alt, **size), plot.title, "scroll sheet")


def _told(rows: list[np.ndarray], names: list[str], captions: list[tuple[str, ...]], title: str) -> Html:
    """A list of images that wraps, or, of several rows, a table that keeps its columns."""
    cells = [
        [
            _cell(image, captions[row][at] if at < len(captions[row]) else "", names[row] if names else title)
            for at, image in enumerate(images)
        ]
        for row, images in enumerate(rows)
    ]
    if len(rows) == 1:
        return tag("ul", *(tag("li", cell) for cell in cells[0]), class_="tiles")
    lines = [
        tag("tr", tag("th", names[row] if names else "", scope="row"), *(tag("td", cell) for cell in cells[row]))
        for row in range(len(rows))
    ]
    table = tag("table", tag("caption", title, class_="unseen"), tag("tbody", *lines), class_="tiles")
    return _frame(table, title, "scroll")


def _cell(image: np.ndarray, caption: str, name: str) -> Html:
    picture = void("img", src=data_uri(Image.fromarray(image)), alt=caption or name, width=64, height=_height(image))
    return Html(picture + (tag("span", caption) if caption else ""))


def _height(image: np.ndarray) -> int:
    return max(1, round(64 * image.shape[0] / image.shape[1]))


def _frame(inside: Html, title: str, kind: str) -> Html:
    """What can be moved sideways, by key as well."""
    return tag("div", inside, class_=kind, tabindex="0", role="region", aria_label=title)


def data_uri(picture: Image.Image) -> str:
    """A picture as the text that stands for it in a page, PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _reduced(images: np.ndarray) -> np.ndarray:
    """Images of at most `MOST_SIDE` pixels a side."""
    height, width = images.shape[1:3]
    factor = MOST_SIDE / max(height, width)
    if factor >= 1:
        return images
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)) for image in images])
