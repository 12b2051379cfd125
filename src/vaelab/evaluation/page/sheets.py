"""Sheets of images: one picture of all rows or, if the captions are long, each image with its own caption."""

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
"""Maximum number of pixels of an image's longer side."""

LONG_CAPTION = 8
"""Maximum number of characters of a caption that fits below an image on one line."""


def sheet(plot: Sheet, alt: str) -> Html:
    """Return images on white in a frame that scrolls horizontally if they are too wide."""
    shown = [index for index, row in enumerate(plot.rows) if len(row)]
    if not shown:
        return tag("p", "No images.", class_="note")
    rows = [_reduced(plot.rows[index]) for index in shown]
    names = [plot.names[index] for index in shown] if plot.names else []
    captions = [plot.captions[index] if index < len(plot.captions) else () for index in shown]
    if any(len(text) > LONG_CAPTION for row in captions for text in row):
        return _captioned(rows, names, captions, plot.title)
    picture = plots.sheet(rows, names=[shortened(name, 28) for name in names], captions=captions)
    if rows[0].ndim == 3:
        picture = picture.convert("L")
    width, height = picture.size
    least = min(width, max(320, width * 5 // 8))  # the images are unrecognisable when smaller
    size = {"width": width, "height": height, "style": f"min-width:{least}px"}
    return _frame(void("img", src=data_uri(picture), alt=alt, **size), plot.title, "scroll sheet")


def _captioned(rows: list[np.ndarray], names: list[str], captions: list[tuple[str, ...]], title: str) -> Html:
    """Return captioned images: a wrapping list for one row, a table for several."""
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
    """Return a frame that scrolls horizontally, also with the keyboard."""
    return tag("div", inside, class_=kind, tabindex="0", role="region", aria_label=title)


def data_uri(picture: Image.Image) -> str:
    """Return a picture as a PNG data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _reduced(images: np.ndarray) -> np.ndarray:
    """Reduce images to at most `MOST_SIDE` pixels per side."""
    height, width = images.shape[1:3]
    factor = MOST_SIDE / max(height, width)
    if factor >= 1:
        return images
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS)) for image in images])
