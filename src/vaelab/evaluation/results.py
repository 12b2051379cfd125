"""Data types of a report: quantities with unit, error and definition; plots as data; sections that hold both.

A section also explains its results in sentences, or gives the reason it was left out. Nothing is measured or drawn here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

SCHEMA = 1
"""Version of `report.json`, raised when a key is removed or changes its meaning."""

REPORT = "report.json"
"""File name of the report in a run folder."""

MAX_BYTES, MAX_VALUES = 16_000_000, 600_000
"""Largest report that is read: bytes, and brackets, commas and colons."""

Better = Literal["higher", "lower", ""]


@dataclass(frozen=True)
class Quantity:
    """A measured value with its unit, error, definition and reference values.

    Attributes
    ----------
    key
        Key in `report.json`: lower case, words joined by underscores.
    name
        Name shown to the reader.
    value
        The value; NaN if it could not be computed.
    unit
        nats per image, bits per dimension, %, or "" for a dimensionless number.
    definition
        What is measured, in a sentence or two, with the source if there is one.
    error
        Standard error, in the same unit; None if there is none.
    count
        Number of images or samples averaged over; None if not applicable.
    better
        Whether higher or lower values are better; "" if neither is.
    beside
        Reference values to compare with, such as real images against real images: pairs (name, value).
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
    """One line of a plot: y over x, with an optional standard error for each y."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    error: Sequence[float] | None = None


@dataclass(frozen=True)
class Lines:
    """A line plot; all lines share the axes."""

    key: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_x: bool = False


@dataclass(frozen=True)
class Bars:
    """A bar for each name; the indices in `marked` are crossed out (for example collapsed dimensions)."""

    key: str
    title: str
    x_label: str
    y_label: str
    names: tuple[str, ...]
    values: Sequence[float]
    marked: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Matrix:
    """Counts or shares with named rows and columns; `column_names` defaults to `names`."""

    key: str
    title: str
    row_label: str
    column_label: str
    names: tuple[str, ...]
    values: np.ndarray
    column_names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Points:
    """A scatter plot of named groups: pairs (name, points of shape (N, 2))."""

    key: str
    title: str
    x_label: str
    y_label: str
    groups: tuple[tuple[str, np.ndarray], ...]
    rings: bool = False
    """Whether to draw the circles of N(0, I) at 1, 2 and 3 σ."""
    diagonal: bool = False
    """Whether to draw the line y = x."""


@dataclass(frozen=True)
class Sheet:
    """Rows of images, each uint8 (n, H, W[, 3]), with a name per row and a caption per image."""

    key: str
    title: str
    rows: tuple[np.ndarray, ...]
    names: tuple[str, ...] = ()
    captions: tuple[tuple[str, ...], ...] = ()


Plot = Lines | Bars | Matrix | Points | Sheet


@dataclass(frozen=True)
class Section:
    """One section of a report.

    Attributes
    ----------
    key, title
        Key in `report.json`, and title shown to the reader.
    words
        Sentences that explain the results.
    quantities, plots
        The results.
    left_out
        The reason the section was left out; "" if it was not.
    seconds
        Wall time of the measurement.
    """

    key: str
    title: str
    words: tuple[str, ...] = ()
    quantities: tuple[Quantity, ...] = ()
    plots: tuple[Plot, ...] = field(default=(), repr=False)
    left_out: str = ""
    seconds: float = 0.0

    def __getitem__(self, key: str) -> Quantity:
        """Return the quantity with the given key."""
        return next(quantity for quantity in self.quantities if quantity.key == key)


def joined(key: str, title: str, parts: Sequence[Section]) -> Section:
    """Return a section with the sentences, quantities and plots of all parts, in order."""
    return Section(
        key,
        title,
        tuple(word for part in parts for word in part.words),
        tuple(quantity for part in parts for quantity in part.quantities),
        tuple(plot for part in parts for plot in part.plots),
    )


@dataclass(frozen=True)
class Estimate:
    """A mean over independent values, its standard error, and their number."""

    value: float
    error: float
    count: int

    @staticmethod
    def of(values: np.ndarray) -> Estimate:
        """Return the mean of one value per image, (N,); the error is NaN for N = 1."""
        count = len(values)
        error = float(np.std(values, ddof=1) / math.sqrt(count)) if count > 1 else math.nan
        return Estimate(float(np.mean(values)), error, count)

    @staticmethod
    def of_share(hits: int, count: int) -> Estimate:
        """Return the share hits/count, 0…1, with a binomial standard error that is never 0 (Agresti & Coull 1998)."""
        adjusted, size = (hits + 2) / (count + 4), count + 4
        return Estimate(hits / count, math.sqrt(adjusted * (1 - adjusted) / size), count)
