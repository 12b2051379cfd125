"""The frame of a plot: scales from values to coordinates, ticks, and the axes as SVG.

Colours are CSS classes of the page, so a plot follows the light and the dark scheme. Text stays text, so it can be read aloud,
searched and copied.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vaelab.evaluation.page.markup import Html, joined, tag, void

WIDTH, HEIGHT = 420.0, 270.0
CHARACTER = 7.2
"""Approximate width of a character, to leave room for text."""

LINE = 16.0
"""Line height of the text."""


@dataclass(frozen=True)
class Scale:
    """A linear or logarithmic scale: maps values from `low` to `high` to coordinates from `first` to `last`."""

    low: float
    high: float
    first: float
    last: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the coordinate of a value."""
        low, high, at = (math.log(one) if self.log else one for one in (self.low, self.high, value))
        return self.first + (self.last - self.first) * (at - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Return about six round values within the scale and their texts, such as −0.5, 1,000 or 2e+06."""
        return _log_ticks(self.low, self.high) if self.log else _even_ticks(self.low, self.high)


def span(values: Iterable[float], *, room: float = 0.05, log: bool = False) -> tuple[float, float]:
    """Return the range of the finite values with a margin; (0, 1), or (1, 10) for a log scale, if there are none."""
    finite = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    if not finite:
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = min(finite), max(finite)
    if log:
        margin = max((high / low) ** room, 1.05)
        return low / margin, high * margin
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        half = abs(low) / 10 or 0.5
        return low - half, high + half
    return low - room * (high - low), high + room * (high - low)


def _even_ticks(low: float, high: float) -> list[tuple[float, str]]:
    rough = (high - low) / 5
    power = 10 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    places = next((places for places in range(7) if math.isclose(round(step, places), step)), 7)
    indices = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    values = [index * step for index in indices]
    plain = places < 7 and max(map(abs, values)) < 1e6
    return [(value, _signed(f"{value:,.{places}f}" if plain else f"{value:.6g}")) for value in values]


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if len(decades) > 5 else (1, 2, 5)
    found = [factor * 10.0**power for power in decades for factor in factors]
    inside = [value for value in found if low <= value <= high] or [low, high]
    return [(value, f"{value:,.0f}" if 1 <= value < 1e6 else f"{value:.4g}") for value in inside]


def _signed(text: str) -> str:
    return text.replace("-", "−")


def shortened(text: str, most: int) -> str:
    """Shorten `text` to `most` characters by replacing its middle with …, because similar names often differ at the end."""
    if len(text) <= most:
        return text
    end = most // 3
    return f"{text[: most - end - 1].rstrip()}…{text[len(text) - end :].lstrip()}"


def words(x: float, y: float, text: str, *, anchor: str = "start", most: int = 60, **attributes: object) -> Html:
    """Return a line of text; if it is too long it is shortened, with the full text as its title."""
    cut = shortened(text, most)
    title = (tag("title", text),) if cut != text else ()
    return tag("text", cut, *title, x=x, y=y, text_anchor=None if anchor == "start" else anchor, **attributes)


def room_for(names: Iterable[str], most: int) -> float:
    """Return the width of the longest name, shortened to `most` characters."""
    return CHARACTER * max((min(len(name), most) for name in names), default=0)


def axes(
    x: Scale, y: Scale, x_label: str, y_label: str, *, x_ticks: Sequence[float] | None = None, y_ticks: bool = True
) -> Html:
    """Return grid lines, ticks and labels of both axes; `x_ticks` replaces the round values of x."""
    parts = [words(0, 11, y_label, class_="soft")]
    bottom, left, right = y.first, x.first, x.last
    for value, text in y.ticks() if y_ticks else ():
        at = y(value)
        parts.append(void("path", d=f"M{left:.1f} {at:.1f}H{right:.1f}", class_="rule"))
        parts.append(words(left - 6, at + 4, text, anchor="end", class_="soft"))
    parts.append(void("path", d=f"M{left:.1f} {bottom:.1f}H{right:.1f}", class_="axis"))
    free = -math.inf
    for value, text in x.ticks() if x_ticks is None else [(value, _signed(f"{value:,.6g}")) for value in x_ticks]:
        at = x(value)
        half = len(text) * CHARACTER / 2
        if at - half < free:
            continue
        free = at + half + 4
        parts.append(void("path", d=f"M{at:.1f} {bottom:.1f}v4", class_="axis"))
        parts.append(words(at, bottom + LINE, text, anchor="middle", class_="soft"))
    parts.append(words((left + right) / 2, bottom + 2 * LINE + 3, x_label, anchor="middle", class_="soft"))
    return joined(*parts)


def drawing(height: float, *parts: str, alt: str, width: float = WIDTH) -> Html:
    """Return a plot as an SVG element that scales with its column."""
    box = f"0 0 {width:.0f} {math.ceil(height)}"
    return tag("svg", *parts, viewBox=box, role="img", aria_label=alt, class_="plot")
