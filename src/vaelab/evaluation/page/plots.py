"""The plots of a report as SVG: lines, bars, matrices and points."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image

from vaelab.evaluation.page.axes import (
    CHARACTER,
    HEIGHT,
    LINE,
    WIDTH,
    Scale,
    axes,
    drawing,
    room_for,
    span,
    words,
)
from vaelab.evaluation.page.markup import Html, joined, tag, void
from vaelab.evaluation.page.sheets import data_uri
from vaelab.evaluation.results import Bars, Lines, Matrix, Points, Series

COLOURS = 10
"""Number of colours of the page, used in turn; beyond it, dashes distinguish the lines."""

MOST_POINTS = 3000
"""Maximum number of points drawn; more would overlap and make the page large."""

MOST_VERTICES = 400
MOST_TICKS = 10
"""Maximum number of x values that each get a tick; with more, the ticks are round values."""

MOST_CELLS = 400
"""Maximum number of cells drawn one by one; a larger matrix is drawn as a picture."""

BELOW_ZERO, ABOVE_ZERO = (201, 106, 26), (43, 132, 188)
"""RGB colours of such a picture, chosen for both the light and the dark scheme."""

TOP = 24.0
BELOW = 2 * LINE + 10


def lines(plot: Lines, alt: str) -> Html:
    """Draw lines, with a band of one standard error."""
    known = [
        [(x, y, e) for x, y, e in _triples(one) if math.isfinite(y) and (x > 0 or not plot.log_x)]
        for one in plot.series
    ]
    every = [point for one in known for point in one]
    y_low, y_high = span(value for _, y, e in every for value in (y - e, y + e))
    x_low, x_high = span((x for x, _, _ in every), room=0.02, log=plot.log_x)
    left = _left(y_low, y_high)
    x = Scale(x_low, x_high, left, WIDTH - 12, plot.log_x)
    y = Scale(y_low, y_high, HEIGHT - BELOW, TOP)
    at = sorted({x for x, _, _ in every})
    ticks = at if len(at) <= MOST_TICKS else None
    parts = [axes(x, y, plot.x_label, plot.y_label, x_ticks=ticks)]
    for index, points in enumerate(known):
        parts.append(_line(points, x, y, index))
    if not every:
        parts.append(_nothing(HEIGHT))
    return drawing(HEIGHT, *parts, alt=alt)


def _line(points: list[tuple[float, float, float]], x: Scale, y: Scale, index: int) -> Html:
    colour = f"c{index % COLOURS}"
    shown = _thinned(points, MOST_VERTICES)
    places = [(x(px), y(py)) for px, py, _ in shown]
    parts = []
    if any(e > 0 for _, _, e in shown):
        upper = [(x(px), y(py + e)) for px, py, e in shown]
        lower = [(x(px), y(py - e)) for px, py, e in reversed(shown)]
        parts.append(void("path", d=_path(upper + lower) + "Z", class_=f"band {colour}"))
    parts.append(void("path", d=_path(places), class_=f"line {colour}", stroke_dasharray=dashes(index)))
    if len(places) <= 30:
        parts.append(void("path", d="".join(f"M{px:.1f} {py:.1f}h0" for px, py in places), class_=f"dot {colour}"))
    return joined(*parts)


def dashes(index: int) -> str | None:
    """Return the dash pattern of a line, so that lines differ not only by colour."""
    return (None, "7 4", "2 4", "9 3 2 3")[index % 4]


def bars(plot: Bars, alt: str) -> Html:
    """Draw bars: vertical if the names are short or many, else horizontal."""
    longest = max(map(len, plot.names), default=0)
    if longest > 4 and len(plot.names) <= 40:
        return _lying(plot, alt)
    low, high = span([0.0, *plot.values])
    low, high = (0.0 if low > -0.06 * high else low), (0.0 if high < -0.06 * low else high)
    left = _left(low, high)
    y = Scale(low, high * (1.06 if high > 0 else 1), HEIGHT - BELOW, TOP)
    pitch = (WIDTH - 12 - left) / max(1, len(plot.values))
    every, places = math.ceil((min(longest, 8) * CHARACTER + 4) / pitch), _places(plot.values)
    x = Scale(0, max(1, len(plot.values)), left, WIDTH - 12)
    parts = [axes(x, y, plot.x_label, plot.y_label, x_ticks=())]
    for index, (name, value) in enumerate(zip(plot.names, plot.values, strict=True)):
        middle = x(index + 0.5)
        ends = (y(0), y(value) if math.isfinite(value) else y(0))
        box = (middle - 0.38 * pitch, min(ends), 0.76 * pitch, abs(ends[1] - ends[0]))
        parts.append(_bar(box, f"{name}: {_brief(value, places)}", index in plot.marked))
        if len(plot.values) <= 10 and index not in plot.marked:
            parts.append(words(middle, min(ends) - 4, _brief(value, places), anchor="middle", class_="small"))
        if index % every == 0:
            parts.append(words(middle, HEIGHT - BELOW + LINE, name, anchor="middle", most=8, class_="soft"))
    return drawing(HEIGHT, *parts, alt=alt)


def _lying(plot: Bars, alt: str) -> Html:
    low, high = span([0.0, *plot.values])
    low, high = (0.0 if low > -0.06 * high else low), (0.0 if high < -0.06 * low else high)
    left, pitch, places = room_for(plot.names, 22) + 8, LINE + 4, _places(plot.values)
    bottom = TOP + pitch * len(plot.values)
    x = Scale(low, high, left, WIDTH - 52)
    y = Scale(0, max(1, len(plot.values)), bottom, TOP)
    parts = [axes(x, y, plot.y_label, plot.x_label, y_ticks=False)]
    for index, (name, value) in enumerate(zip(plot.names, plot.values, strict=True)):
        top = TOP + pitch * index
        ends = (x(0), x(value) if math.isfinite(value) else x(0))
        box = (min(ends), top + 3, abs(ends[1] - ends[0]), pitch - 6)
        parts.append(words(left - 8, top + 14, name, anchor="end", most=22))
        parts.append(_bar(box, f"{name}: {_brief(value, places)}", index in plot.marked))
        parts.append(words(max(ends) + 5, top + 14, _brief(value, places), class_="small"))
    return drawing(bottom + BELOW, *parts, alt=alt)


def _bar(box: tuple[float, float, float, float], says: str, marked: bool) -> Html:
    """Draw a bar that shows its name and value on hover; a marked bar is hollow and crossed out."""
    x, y, width, height = box
    kind = "bar hollow" if marked else "bar"
    rect = tag("rect", tag("title", says), x=x, y=y, width=width, height=height, class_=kind)
    if not marked:
        return rect
    half = min(5.0, max(width, height) / 2)
    x, y = (x + width / 2, y + height - half - 3) if width > height or height < 16 else (x + width / 2, y + height / 2)
    cross = (
        f"M{x - half:.1f} {y - half:.1f}l{2 * half:.1f} {2 * half:.1f}m0 {-2 * half:.1f}l{-2 * half:.1f} {2 * half:.1f}"
    )
    return joined(rect, void("path", d=cross, class_="cross"))


def matrix(plot: Matrix, alt: str) -> Html:
    """Draw a square for each cell, darker for larger absolute values, with the value inside if there is room."""
    values = np.asarray(plot.values, dtype=float)
    rows, columns = values.shape
    across = plot.column_names or plot.names
    left = room_for(plot.names, 14) + 10
    wide = min(40.0, (WIDTH - left - 2) / columns)
    high = min(max(min(wide, 30.0), 14.0), 560.0 / rows) if columns < rows else min(wide, 30.0)
    upright = max(map(len, across), default=0) * CHARACTER > wide
    top = (room_for(across, 14) if upright else LINE) + 8
    parts = [_cells(values, left, top, wide, high)]
    every = math.ceil(LINE / high)
    for row in range(0, rows, every):
        y = top + (row + 0.5) * high + 4
        parts.append(words(left - 6, y, plot.names[row], anchor="end", most=14, class_="soft"))
    every = math.ceil((LINE if upright else 1) / wide)
    for column in range(0, columns, every):
        x = left + (column + 0.5) * wide
        if upright:
            turn = f"translate({x + 4:.1f} {top - 6:.1f}) rotate(-90)"
            parts.append(words(0, 0, across[column], most=14, class_="soft", transform=turn))
        else:
            parts.append(words(x, top - 6, across[column], anchor="middle", class_="soft"))
    return drawing(top + rows * high + 2, *parts, alt=alt)


def _cells(values: np.ndarray, left: float, top: float, wide: float, high: float) -> Html:
    rows, columns = values.shape
    most = float(np.nanmax(np.abs(values))) if np.isfinite(values).any() else 1.0
    shade = np.abs(np.nan_to_num(values)) / (most or 1.0)
    if not (values < 0).any():
        shade = np.sqrt(shade)  # keeps a cell with 1 % of the maximum visible
    if values.size > MOST_CELLS:
        return _shades(values, shade, left, top, wide, high)
    parts, places = [], _places(values)
    for row, column in itertools.product(range(rows), range(columns)):
        value, depth = values[row, column], shade[row, column]
        x, y = left + column * wide, top + row * high
        kind = "cell" if not value < 0 else "cell minus"
        parts.append(void("rect", x=x, y=y, width=wide - 1, height=high - 1, class_=kind, fill_opacity=f"{depth:.2f}"))
        text = _brief(value, places)
        if wide >= 5.6 * len(text) and high >= 13:
            kind = "small over" if depth > 0.6 else "small"
            parts.append(words(x + wide / 2 - 0.5, y + high / 2 + 3.5, text, anchor="middle", class_=kind))
    return joined(*parts)


def _shades(values: np.ndarray, shade: np.ndarray, left: float, top: float, wide: float, high: float) -> Html:
    rows, columns = values.shape
    pixels = np.empty((rows, columns, 4), np.uint8)
    pixels[..., :3] = np.where(values[..., None] < 0, BELOW_ZERO, ABOVE_ZERO)
    pixels[..., 3] = np.rint(255 * shade)
    frame = {"x": left, "y": top, "width": wide * columns, "height": high * rows}
    picture = void(
        "image", href=data_uri(Image.fromarray(pixels)), preserveAspectRatio="none", class_="pixels", **frame
    )
    return joined(picture, void("rect", class_="box", **frame))


def points(plot: Points, alt: str) -> Html:
    """Draw points in groups, optionally with the circles of N(0, I) or the line y = x."""
    groups = [(name, _finite(np.asarray(places, dtype=float))) for name, places in plot.groups]
    count = sum(len(places) for _, places in groups)
    step = max(1, math.ceil(count / MOST_POINTS))
    every = np.concatenate([places for _, places in groups]) if count else np.zeros((0, 2))
    height, left = (WIDTH - 10, 44.0) if plot.rings or plot.diagonal else (HEIGHT + 40, 44.0)
    if plot.rings:
        reach = 1.04 * max(3.2, float(np.abs(every).max(initial=0)))
        x_span = y_span = (-reach, reach)
    elif plot.diagonal:
        x_span = y_span = span(every.ravel())
    else:
        x_span, y_span = span(every[:, 0]), span(every[:, 1])
        left = _left(*y_span)
    bottom = TOP + (WIDTH - 12 - left) if plot.rings or plot.diagonal else height - BELOW
    x, y = Scale(*x_span, left, WIDTH - 12), Scale(*y_span, bottom, TOP)
    parts = [axes(x, y, plot.x_label, plot.y_label)]
    for ring in (1, 2, 3) if plot.rings else ():
        radius = x(ring) - x(0)
        parts.append(void("circle", cx=x(0), cy=y(0), r=radius, class_="ring"))
        parts.append(words(x(0), y(ring) + 4, f"{ring}σ", anchor="middle", class_="soft halo"))
    if plot.diagonal:
        parts.append(void("path", d=f"M{x(x.low):.1f} {y(x.low):.1f}L{x(x.high):.1f} {y(x.high):.1f}", class_="ring"))
    for index, (_, places) in enumerate(groups):
        marks = "".join(f"M{x(px):.1f} {y(py):.1f}h0" for px, py in places[::step])
        parts.append(void("path", d=marks, class_=f"point c{index % COLOURS}"))
    if len(groups) > 2 and not plot.diagonal:  # a name at the group is easier to read than a colour
        for name, places in groups:
            if len(places):
                at = np.median(places, axis=0)
                parts.append(words(x(at[0]), y(at[1]) + 4, name, anchor="middle", most=16, class_="halo strong"))
    if not count:
        parts.append(_nothing(bottom))
    return drawing(bottom + BELOW, *parts, alt=alt)


def _triples(one: Series) -> Iterable[tuple[float, float, float]]:
    errors = one.error if one.error is not None else [0.0] * len(one.x)
    return [
        (float(x), float(y), float(e) if math.isfinite(e) else 0.0)
        for x, y, e in zip(one.x, one.y, errors, strict=True)
    ]


def _thinned(points: list[tuple[float, float, float]], most: int) -> list[tuple[float, float, float]]:
    step = math.ceil(len(points) / most) if points else 1
    return points if step == 1 else [*points[:-1:step], points[-1]]


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "".join(f"{'L' if index else 'M'}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(places))


def _finite(places: np.ndarray) -> np.ndarray:
    places = places.reshape(-1, 2)
    return places[np.isfinite(places).all(axis=1)]


def _left(low: float, high: float) -> float:
    """Return the width of the tick labels of a vertical axis."""
    return room_for((text for _, text in Scale(low, high, 1, 0).ticks()), 10) + 10


def _brief(value: float, places: int) -> str:
    """Format a value in a few characters."""
    if not math.isfinite(value):
        return "–"
    text = f"{value:,.{places}f}"
    return text.replace("-", "−" if text.strip("-0.,") else "")


def _places(values: Sequence[float] | np.ndarray) -> int:
    """Return the number of decimals for the values of a plot: none if all are whole, more if all are small."""
    array = np.asarray(values, dtype=float).ravel()
    array = np.abs(array[np.isfinite(array)])
    most = array.max(initial=0)
    if np.array_equal(array, np.rint(array)) or most >= 1000:
        return 0
    return 1 if most >= 10 else min(6, max(2, 1 - math.floor(math.log10(most))))


def _nothing(height: float) -> Html:
    return words(WIDTH / 2, height / 2, "no finite values", anchor="middle", class_="soft")
