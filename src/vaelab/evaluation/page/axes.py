"""The frame of a plot: scales from values to places, their ticks, and the axes as SVG.

Colours are the page's own, by class, so that a plot follows the light and the dark scheme. Text is text: it can be read out,
searched and copied.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vaelab.evaluation.page.markup import Html, joined, tag, void

WIDTH, HEIGHT = 420.0, 270.0
CHARACTER = 7.2
"""Width of a character of a plot's text, near enough to leave room for it."""

LINE = 16.0
"""Height of a line of it."""


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high`, laid out from place `first` to place `last`; evenly, or by their logarithm."""

    low: float
    high: float
    first: float
    last: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The place of a value."""
        low, high, at = (math.log(one) if self.log else one for one in (self.low, self.high, value))
        return self.first + (self.last - self.first) * (at - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values within the scale, about six, and how they are read: −0.5, 1,000, 2e+06."""
        return _log_ticks(self.low, self.high) if self.log else _even_ticks(self.low, self.high)


def span(values: Iterable[float], *, room: float = 0.05, log: bool = False) -> tuple[float, float]:
    """The least and the greatest of the finite values, with some room around them; (0, 1) where there are none."""
    finite = [value for value in values if math.isfinite(value) and (value > 0 or not log)]
    if not finite:
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = min(finite), max(finite)
    if log:
        beyond = max((high / low) ** room, 1.05)
        return low / beyond, high * beyond
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
    """`text` of at most so many characters: its middle becomes …, since names of a kind often differ at their ends."""
    if len(text) <= most:
        return text
    end = most // 3
    return f"{text[: most - end - 1].rstrip()}…{text[len(text) - end :].lstrip()}"


def words(x: float, y: float, text: str, *, anchor: str = "start", most: int = 60, **attributes: object) -> Html:
    """A line of text; one too long is cut, and whole in its title."""
    cut = shortened(text, most)
    whole = (tag("title", text),) if cut != text else ()
    return tag("text", cut, *whole, x=x, y=y, text_anchor=None if anchor == "start" else anchor, **attributes)


def room_for(names: Iterable[str], most: int) -> float:
    """The width of the longest of some names, cut at `most` characters."""
    return CHARACTER * max((min(len(name), most) for name in names), default=0)


def axes(
    x: Scale, y: Scale, x_label: str, y_label: str, *, x_ticks: Sequence[float] | None = None, y_ticks: bool = True
) -> Html:
    """Rules and ticks of a plane, and what its axes hold: y on top, x below; `x_ticks` in place of round values of x."""
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
    """The whole of a plot, which grows and shrinks with its column."""
    box = f"0 0 {width:.0f} {math.ceil(height)}"
    return tag("svg", *parts, viewBox=box, role="img", aria_label=alt, class_="plot")
