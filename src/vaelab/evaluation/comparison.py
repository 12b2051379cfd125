"""Comparison of reports: reads them, checks that they were measured alike, and marks significant differences.

The standard error of a difference is taken as √(a² + b²), with a and b the errors of the two values. Both are measured on the
same images and therefore positively correlated, so the true error is smaller and the marks are conservative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaelab.checked_files import parse_json, read_regular
from vaelab.errors import DataError, RunError, counted
from vaelab.evaluation.results import MAX_BYTES, MAX_VALUES, REPORT, SCHEMA

BEYOND = 2.0
"""The better value is marked if it differs by more than this many standard errors."""

BITS = "bits per dimension"
NATS_GIVEN_LABELS = ("rate", "negative_elbo", "bound")
"""Quantities of the likelihood section that a conditional model measures as −log p(x|y), which is not comparable."""


@dataclass(frozen=True)
class Cell:
    """A value of one report; NaN if it has none. `best`: significantly better than all others."""

    value: float
    error: float | None = None
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A quantity and its value in each report."""

    section: str
    name: str
    unit: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Comparison:
    """Reports side by side.

    Attributes
    ----------
    names
        Names of the reports.
    rows
        Quantities of which higher or lower values are better, in the order of the sections; nats only, not bits.
    notes
        Sentences needed to interpret the values.
    """

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def read_report(path: Path) -> dict[str, Any]:
    """Read the JSON of a report; `path` is a run folder or a file.

    Raises
    ------
    RunError
        If there is no report, it is damaged, or its schema is newer.
    """
    file = path / REPORT if path.is_dir() else path
    if not file.is_file():
        what = f"{path}: has no {REPORT}" if path.is_dir() else f"{path}: no such folder or file"
        raise RunError(f"{what}; make a report with `vaelab evaluate {path if path.is_dir() else 'RUN'}`")
    try:
        report = parse_json(read_regular(file, MAX_BYTES), MAX_VALUES)
        newer = isinstance(report["schema"], int) and report["schema"] > SCHEMA
        if not newer:
            _expect_complete(report)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{file}: damaged, or not a report ({type(error).__name__}: {error}); evaluate the run again"
        ) from error
    if newer:
        raise RunError(
            f"{file}: got a report of schema {report['schema']}; this version of vaelab reads up to {SCHEMA}: upgrade vaelab"
        )
    return report


PROTOCOL: dict[str, Callable[[dict[str, Any]], object]] = {
    "data": lambda report: (report["data"]["name"], report["data"]["fingerprint"][:8]),
    "split": lambda report: report["data"]["split"],
    "number of images": lambda report: report["data"]["images"],
    "images": lambda report: report["data"]["images_sha256"][:8],
    "likelihood": lambda report: report["model"]["likelihood"],
    "binarisation": lambda report: report["data"]["protocol"],
    "outliers": lambda report: None if report["versus"] is None else report["versus"]["name"],
    "quick": lambda report: report["settings"]["quick"],
    "importance samples": lambda report: report["settings"]["importance_samples"],
}
"""The protocol of a report: what must agree, by the name used in the error message."""

FOLLOWS = {"images": ("data", "split", "number of images"), "binarisation": ("likelihood",)}
"""Entries that follow from others and are not listed if one of those differs."""


def _expect_complete(report: dict[str, Any]) -> None:
    """Raise KeyError or TypeError if an entry that a comparison needs is missing."""
    for entry in PROTOCOL.values():
        entry(report)
    for key in ("kind", "classes"):
        report["model"][key]
    for section in report["sections"].values():
        section["title"].split()
        for quantity in section["quantities"].values():
            for key in ("name", "value", "error", "unit", "better"):
                quantity[key]


def compare_reports(reports: Mapping[str, dict[str, Any]]) -> Comparison:
    """Compare reports.

    Parameters
    ----------
    reports
        Reports as returned by `read_report`, by name.

    Raises
    ------
    DataError
        If they differ in images, binarisation, likelihood or number of draws.
    """
    _expect_alike(reports)
    many = list(reports.values())
    rows = []
    titles = {key: section["title"] for report in many for key, section in report["sections"].items()}
    for key, title in titles.items():
        parts = [report["sections"].get(key, {"quantities": {}})["quantities"] for report in many]
        known = {name: one for part in parts for name, one in part.items() if one["better"] and one["unit"] != BITS}
        for name, one in known.items():
            values = [_cell(part.get(name)) for part in parts]
            if all(math.isnan(cell.value) for cell in values):
                continue
            alike = key != "likelihood" or not name.startswith(NATS_GIVEN_LABELS) or len(_conditions(many)) == 1
            best = _best(values, one["better"]) if alike else None
            cells = tuple(Cell(cell.value, cell.error, index == best) for index, cell in enumerate(values))
            rows.append(Row(title, one["name"], one["unit"], cells))
    return Comparison(tuple(reports), tuple(rows), tuple(_notes(many)))


def _expect_alike(reports: Mapping[str, dict[str, Any]]) -> None:
    stochastic = {name: report for name, report in reports.items() if report["model"]["kind"] != "ae"}
    differing: dict[str, str] = {}
    for what, entry in PROTOCOL.items():
        compared = stochastic if what == "importance samples" else reports  # an autoencoder draws none
        found = {name: entry(report) for name, report in compared.items()}
        if what == "outliers":
            found = {name: versus for name, versus in found.items() if versus is not None}
        implied = differing.keys() & FOLLOWS.get(what, ())
        if len(set(found.values())) > 1 and not implied:
            differing[what] = ", ".join(f"{name}: {_shown(value)}" for name, value in found.items())
    if differing:
        listed = "; ".join(f"{what} ({values})" for what, values in differing.items())
        raise DataError(f"got reports that differ in {listed}; evaluate all runs with the same data and settings")


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return f"{value[0]} {value[1]}…"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value).rstrip(".")


def _cell(quantity: dict[str, Any] | None) -> Cell:
    if quantity is None or quantity["value"] is None:
        return Cell(math.nan)
    return Cell(quantity["value"], quantity["error"])


def _best(cells: Sequence[Cell], better: str) -> int | None:
    """Return the index of the cell that is significantly better than every other; None if there is none."""
    finite = [index for index, cell in enumerate(cells) if math.isfinite(cell.value)]
    if len(finite) < 2 or any(cells[index].error is None for index in finite):
        return None
    sign = 1 if better == "higher" else -1
    first, *others = sorted(finite, key=lambda index: -sign * cells[index].value)
    for other in others:
        error = math.hypot(cells[first].error or 0.0, cells[other].error or 0.0)
        if sign * (cells[first].value - cells[other].value) <= BEYOND * error:
            return None
    return first


def _conditions(reports: Sequence[dict[str, Any]]) -> set[bool]:
    """Return whether the models with a likelihood are given the label."""
    return {report["model"]["kind"] == "cvae" for report in reports if report["model"]["kind"] != "ae"}


def _notes(reports: Sequence[dict[str, Any]]) -> list[str]:
    data = reports[0]["data"]
    notes = [f"On {counted(data['images'], data['split'] + ' image')} of {data['name']}. {data['protocol']}"]
    kinds = {report["model"]["kind"] for report in reports}
    if "ae" in kinds and len(kinds) > 1:
        notes.append(
            "An autoencoder has no likelihood: only its distortion can be compared, and it pays no rate for it."
        )
    if len(_conditions(reports)) > 1:
        classes = max(len(report["model"]["classes"]) for report in reports)
        notes.append(
            "A conditional model is given the label and bounds −log p(x|y); the others bound −log p(x). Knowing the label is "
            f"worth up to ln {classes} = {math.log(classes):.2f} nats, so no rate, −ELBO and "
            "bound is marked. The distortion is compared as it is."
        )
    if reports[0]["settings"]["quick"]:
        notes.append("Quick evaluations, with fewer images and samples.")
    return notes
