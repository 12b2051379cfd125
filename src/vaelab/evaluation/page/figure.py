"""A plot as an HTML figure with title, legend and a table of its values; or a sheet of images."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from vaelab.evaluation.formatting import rounded
from vaelab.evaluation.page import plots
from vaelab.evaluation.page.axes import shortened
from vaelab.evaluation.page.markup import Html, tag, void
from vaelab.evaluation.page.sheets import sheet
from vaelab.evaluation.results import Bars, Lines, Matrix, Plot, Points, Sheet

MOST_ROWS = 60
"""Maximum number of table rows below a plot; larger tables are only in report.json."""


def figure(plot: Plot, key: str, says: str = "") -> Html:
    """Return a plot as an HTML element.

    Parameters
    ----------
    plot
        The plot.
    key
        Its id on the page.
    says
        A sentence of its section, added to the description for screen readers.
    """
    alt = " ".join(f"{plot.title}. {_outline(plot)} {says}".split())
    if isinstance(plot, Sheet):
        drawn, kind = sheet(plot, alt), "wide"
    elif isinstance(plot, Lines):
        drawn, kind = plots.lines(plot, alt), ""
    elif isinstance(plot, Bars):
        drawn, kind = plots.bars(plot, alt), ""
    elif isinstance(plot, Matrix):
        drawn, kind = plots.matrix(plot, alt), ""
    else:
        drawn, kind = plots.points(plot, alt), ""
    caption = tag("figcaption", tag("h3", plot.title), *(tag("p", note, class_="note") for note in _notes(plot)))
    return tag("figure", caption, drawn, _legend(plot), _table(plot), id=key, class_=kind or None)


def _outline(plot: Plot) -> str:
    """Describe in words what a plot shows."""
    if isinstance(plot, Lines):
        ends = [
            f"{one.name}: {rounded(float(one.y[0]))} to {rounded(float(one.y[-1]))}"
            for one in plot.series
            if len(one.y)
        ]
        return f"{plot.y_label} over {plot.x_label}; {'; '.join(ends)}."
    if isinstance(plot, Bars):
        finite = [(value, name) for value, name in zip(plot.values, plot.names, strict=True) if math.isfinite(value)]
        most = f"; the largest, {max(finite)[1]}: {rounded(float(max(finite)[0]))}" if finite else ""
        return f"{plot.y_label} of {len(plot.names)} {plot.x_label}{most}."
    if isinstance(plot, Matrix):
        rows, columns = np.shape(plot.values)
        return f"A matrix of {rows} by {columns}: {plot.row_label} in rows, {plot.column_label} in columns."
    if isinstance(plot, Points):
        return f"{sum(len(places) for _, places in plot.groups):,} points: {plot.y_label} over {plot.x_label}."
    rows = f" Rows: {', '.join(plot.names)}." if plot.names else ""
    return f"{sum(map(len, plot.rows)):,} images in {len(plot.rows)} rows.{rows}"


def _notes(plot: Plot) -> list[str]:
    """Return notes that are needed to read the plot."""
    if isinstance(plot, Matrix):
        most = np.nanmax(np.abs(plot.values)) if np.isfinite(plot.values).any() else math.nan
        return [f"Rows: {plot.row_label}. Columns: {plot.column_label}. The darkest cells are {rounded(float(most))}."]
    if isinstance(plot, Bars) and plot.marked:
        crossed = [shortened(plot.names[index], 20) for index in sorted(plot.marked)]
        more = f" and {len(crossed) - 12} more" if len(crossed) > 12 else ""
        return [f"Crossed out: {', '.join(crossed[:12])}{more}."]
    if isinstance(plot, Points):
        count = sum(len(places) for _, places in plot.groups)
        step = math.ceil(count / plots.MOST_POINTS)
        return [f"One in {step} of {count:,} points is shown."] if step > 1 else []
    if isinstance(plot, Lines) and any(one.error is not None for one in plot.series):
        return ["The band is ± one standard error."]
    return []


def _legend(plot: Plot) -> Html:
    """Return the names of the colours, if there is more than one."""
    if isinstance(plot, Lines):
        names = [one.name for one in plot.series]
    elif isinstance(plot, Points):
        names = [name for name, _ in plot.groups]
    else:
        names = []
    if len(names) < 2:
        return Html("")
    items = []
    for index, name in enumerate(names):
        colour = f"c{index % plots.COLOURS}"
        mark = (
            void("path", d="M1 6H27", class_=f"line {colour}", stroke_dasharray=plots.dashes(index))
            if isinstance(plot, Lines)
            else void("path", d="M6 6h0", class_=f"dot {colour}")
        )
        wide = 28 if isinstance(plot, Lines) else 12
        items.append(
            tag("li", tag("svg", mark, viewBox=f"0 0 {wide} 12", width=wide, height=12, aria_hidden="true"), name)
        )
    return tag("ul", *items, class_="legend")


def _table(plot: Plot) -> Html:
    """Return the values of a plot as a table that opens on demand; none for points or for large tables."""
    if isinstance(plot, Lines):
        head: Sequence[str] = ("", plot.x_label, plot.y_label)
        rows = [
            (one.name, rounded(float(x)), rounded(float(y), None if one.error is None else float(one.error[at])))
            for one in plot.series
            for at, (x, y) in enumerate(zip(one.x, one.y, strict=True))
        ]
        if len(plot.series) == 1:
            head, rows = head[1:], [row[1:] for row in rows]
    elif isinstance(plot, Bars):
        head = (plot.x_label, plot.y_label)
        rows = [(name, rounded(float(value))) for name, value in zip(plot.names, plot.values, strict=True)]
    elif isinstance(plot, Matrix):
        across = plot.column_names or plot.names
        head = (f"{plot.row_label} \\ {plot.column_label}", *across)
        rows = [
            (name, *(rounded(float(value)) for value in row)) for name, row in zip(plot.names, plot.values, strict=True)
        ]
        if len(across) > MOST_ROWS / 2:
            return Html("")
    else:
        return Html("")
    if not 0 < len(rows) <= MOST_ROWS:
        return Html("")
    top = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in head)))
    body = tag(
        "tbody",
        *(tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows),
    )
    table = tag("table", tag("caption", plot.title, class_="unseen"), top, body)
    name = f"Values of: {plot.title}"
    return tag(
        "details",
        tag("summary", "as a table"),
        tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=name),
        class_="data",
    )
