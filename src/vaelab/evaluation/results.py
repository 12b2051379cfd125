"""What an evaluation is made of: quantities with unit, error and definition, plots as data, and sections of both.

A section says in words what its figures mean, and why it was left out where it was. Nothing here measures or draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

Better = Literal["higher", "lower", ""]


@dataclass(frozen=True)
class Quantity:
    """One figure, with all that is needed to read it.

    Attributes
    ----------
    key
        Its name in `report.json`: lower case, words joined by underscores.
    name
        Its name for a reader.
    value
        The figure; NaN where it could not be had.
    unit
        nats per image, bits per dimension, %, or "" for a pure number.
    definition
        What it is, in a sentence or two, with the source if it has one.
    error
        Standard error, in the same unit; None where there is none.
    count
        What it was averaged over: images, samples; None where that says nothing.
    better
        Which way is better; "" where neither is.
    beside
        Yardsticks to read it by, such as real images against real images: (name, value) each.
    """

    key: str
    name: str
    value: float
    unit: str
    definition: str
    error: float | None = None
    count: int | None = None
    better: Better = ""
    beside: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Series:
    """One line of a plot: y over x, and a standard error of each y or none."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    error: Sequence[float] | None = None


@dataclass(frozen=True)
class Lines:
    """Lines over one axis."""

    key: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_x: bool = False


@dataclass(frozen=True)
class Bars:
    """A bar for each name; those in `marked` are crossed out (collapsed, left out)."""

    key: str
    title: str
    x_label: str
    y_label: str
    names: tuple[str, ...]
    values: Sequence[float]
    marked: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Matrix:
    """Counts or shares, a row and a column for each name (rows: what was asked for; columns: what was found)."""

    key: str
    title: str
    row_label: str
    column_label: str
    names: tuple[str, ...]
    values: np.ndarray
    column_names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Points:
    """Points in a plane, in named groups: (name, (N, 2))."""

    key: str
    title: str
    x_label: str
    y_label: str
    groups: tuple[tuple[str, np.ndarray], ...]
    rings: bool = False
    """Whether the rings of N(0, I) at 1, 2 and 3 σ are drawn."""
    diagonal: bool = False
    """Whether the line y = x is drawn."""


@dataclass(frozen=True)
class Sheet:
    """Rows of images, uint8 (n, H, W[, 3]) each, with a name per row and a caption per image."""

    key: str
    title: str
    rows: tuple[np.ndarray, ...]
    names: tuple[str, ...] = ()
    captions: tuple[tuple[str, ...], ...] = ()


Plot = Lines | Bars | Matrix | Points | Sheet


@dataclass(frozen=True)
class Section:
    """One chapter of a report.

    Attributes
    ----------
    key, title
        Its name in `report.json`, and for a reader.
    words
        What the figures say, a sentence each.
    quantities, plots
        The figures themselves.
    left_out
        Why it was left out; "" where it was not.
    seconds
        Wall time that it took.
    """

    key: str
    title: str
    words: tuple[str, ...] = ()
    quantities: tuple[Quantity, ...] = ()
    plots: tuple[Plot, ...] = field(default=(), repr=False)
    left_out: str = ""
    seconds: float = 0.0

    def __getitem__(self, key: str) -> Quantity:
        """The quantity of that key."""
        return next(quantity for quantity in self.quantities if quantity.key == key)


@dataclass(frozen=True)
class Estimate:
    """A mean over independent figures, its standard error, and how many there were."""

    value: float
    error: float
    count: int

    @staticmethod
    def of(figures: np.ndarray) -> Estimate:
        """The mean of one figure per image, (N,); the error is NaN for a single one."""
        count = len(figures)
        error = float(np.std(figures, ddof=1) / math.sqrt(count)) if count > 1 else math.nan
        return Estimate(float(np.mean(figures)), error, count)

    @staticmethod
    def of_share(hits: int, count: int) -> Estimate:
        """A share of `count`, 0…1, with the binomial standard error (never 0: by the rule of Agresti and Coull, 1998)."""
        adjusted, size = (hits + 2) / (count + 4), count + 4
        return Estimate(hits / count, math.sqrt(adjusted * (1 - adjusted) / size), count)
