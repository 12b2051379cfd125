"""Reports side by side: read from their files, refused where their protocols differ, and what is better beyond its error.

A difference of two figures has the standard error √(a² + b²), a and b being theirs. They are measured on the same images, and
so mostly rise and fall together: the error of the difference is smaller than that, and a mark is on the safe side.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaelab.errors import DataError, RunError
from vaelab.evaluation.report import REPORT, SCHEMA

BEYOND = 2.0
"""Standard errors of a difference from which on the better one is marked."""

BITS = "bits per dimension"
NATS_GIVEN_LABELS = ("rate", "negative_elbo", "bound")
"""Of the likelihood section: what a conditional model measures given the label, −log p(x|y), and is another quantity then."""


@dataclass(frozen=True)
class Cell:
    """A figure of one report; NaN where it has none. `best`: better than all others by more than the error."""

    value: float
    error: float | None = None
    best: bool = False


@dataclass(frozen=True)
class Row:
    """A quantity and its figure in each report."""

    section: str
    name: str
    unit: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Comparison:
    """What reports have in common, side by side.

    Attributes
    ----------
    names
        Of the reports.
    rows
        The figures that have a better and a worse, in the order of the sections; in nats, not in bits again.
    notes
        What must be known to read them, a sentence each.
    """

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


def read_report(path: Path) -> dict[str, Any]:
    """A report as its JSON holds it: `path` is a run folder, or a file.

    Raises
    ------
    RunError
        If there is none, or it is damaged, or of a newer schema.
    """
    file = path / REPORT if path.is_dir() else path
    if not file.is_file():
        what = f"{path} holds no {REPORT}" if path.is_dir() else f"{path}: no such folder or file"
        raise RunError(f"{what}; expected a report of the run: type vaelab evaluate {path if path.is_dir() else 'RUN'}")
    try:
        report = json.loads(file.read_text(encoding="utf-8"))
        newer = isinstance(report["schema"], int) and report["schema"] > SCHEMA
        if not newer:
            _expect_whole(report)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"{file}: damaged, or no report ({type(error).__name__}: {error}); expected it as `vaelab evaluate` wrote it"
        ) from error
    if newer:
        raise RunError(
            f"{file}: got a report of schema {report['schema']}; this vaelab reads up to {SCHEMA}: pip install --upgrade "
            "vaelab"
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
"""What a report says of how it was made, in the words of the refusal."""

FOLLOWS = {"images": ("data", "split", "number of images"), "binarisation": ("likelihood",)}
"""What differs in any case where one of these does, and need not be said as well."""


def _expect_whole(report: dict[str, Any]) -> None:
    """Raise a KeyError or TypeError where what a comparison needs is not there."""
    for asked in PROTOCOL.values():
        asked(report)
    for key in ("kind", "classes"):
        report["model"][key]
    for section in report["sections"].values():
        section["title"].split()
        for quantity in section["quantities"].values():
            for key in ("name", "value", "error", "unit", "better"):
                quantity[key]


def compare_reports(reports: Mapping[str, dict[str, Any]]) -> Comparison:
    """Reports side by side.

    Parameters
    ----------
    reports
        As `read_report` gives them, by name.

    Raises
    ------
    DataError
        If they were not measured in the same way: on the same images, binarised alike, under the same likelihood, with the
        same number of draws.
    """
    _expect_alike(reports)
    many = list(reports.values())
    rows = []
    titles = {key: section["title"] for report in many for key, section in report["sections"].items()}
    for key, title in titles.items():
        parts = [report["sections"].get(key, {"quantities": {}})["quantities"] for report in many]
        known = {name: one for part in parts for name, one in part.items() if one["better"] and one["unit"] != BITS}
        for name, one in known.items():
            figures = [_cell(part.get(name)) for part in parts]
            if all(math.isnan(cell.value) for cell in figures):
                continue
            alike = key != "likelihood" or not name.startswith(NATS_GIVEN_LABELS) or len(_conditions(many)) == 1
            best = _best(figures, one["better"]) if alike else None
            cells = tuple(Cell(cell.value, cell.error, index == best) for index, cell in enumerate(figures))
            rows.append(Row(title, one["name"], one["unit"], cells))
    return Comparison(tuple(reports), tuple(rows), tuple(_notes(many)))


def _expect_alike(reports: Mapping[str, dict[str, Any]]) -> None:
    stochastic = {name: report for name, report in reports.items() if report["model"]["kind"] != "ae"}
    differing: dict[str, str] = {}
    for what, asked in PROTOCOL.items():
        compared = stochastic if what == "importance samples" else reports  # an autoencoder draws none
        found = {name: asked(report) for name, report in compared.items()}
        if what == "outliers":
            found = {name: versus for name, versus in found.items() if versus is not None}
        told = differing.keys() & FOLLOWS.get(what, ())
        if len(set(found.values())) > 1 and not told:
            differing[what] = ", ".join(f"{name}: {_said(value)}" for name, value in found.items())
    if differing:
        those = "; ".join(f"{what} ({values})" for what, values in differing.items())
        raise DataError(
            f"got reports that differ in {those}; expected the same for figures that can be compared: type "
            "vaelab evaluate for each RUN with the same SOURCE and options"
        )


def _said(value: object) -> str:
    if isinstance(value, tuple):
        return f"{value[0]} {value[1]}…"
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value).rstrip(".")


def _cell(quantity: dict[str, Any] | None) -> Cell:
    if quantity is None or quantity["value"] is None:
        return Cell(math.nan)
    return Cell(quantity["value"], quantity["error"])


def _best(cells: Sequence[Cell], better: str) -> int | None:
    """The place of the cell that is better than every other by more than the error of their difference; None if none is."""
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
    """Whether the models that have a likelihood are given the label."""
    return {report["model"]["kind"] == "cvae" for report in reports if report["model"]["kind"] != "ae"}


def _notes(reports: Sequence[dict[str, Any]]) -> list[str]:
    data = reports[0]["data"]
    notes = [f"On {data['images']:,} {data['split']} images of {data['name']}. {data['protocol']}"]
    kinds = {report["model"]["kind"] for report in reports}
    if "ae" in kinds and len(kinds) > 1:
        notes.append(
            "An autoencoder has no likelihood: of its nats only the distortion compares, and it pays no rate for that."
        )
    if len(_conditions(reports)) > 1:
        classes = max(len(report["model"]["classes"]) for report in reports)
        notes.append(
            "A conditional model is given the label, and bounds −log p(x|y), the others −log p(x): a label that says all it "
            f"can is worth ln {classes} = {math.log(classes):.2f} nats, so none is marked there."
        )
    if reports[0]["settings"]["quick"]:
        notes.append("These were quick looks, of fewer images and samples.")
    return notes
