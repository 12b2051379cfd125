"""Tables of image paths, CSV or Parquet, with the column `path` and optionally `label` and `split`.

Splits are train, validation and test. Paths are relative to the folder of the table. CSV is UTF-8 with a header line and commas.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaelab.data.arrays import listed
from vaelab.data.dataset import Dataset
from vaelab.data.folders import SPLIT_FOLDERS, natural_order
from vaelab.data.image_files import Files, Reading, load_image_files
from vaelab.data.resize import Fit, Progress
from vaelab.data.select import EVERYTHING, Selection
from vaelab.errors import DataError, did_you_mean

SUFFIXES = (".csv", ".parquet")
COLUMNS = ("path", "label", "split")
EXPECTED = "expected a column 'path' and optionally 'label' and 'split', each at most once"


class _Table(NamedTuple):
    """The columns used, as sequences of text of equal length; the names of the other columns; a name for each row."""

    columns: Mapping[str, Sequence[str]]
    others: list[str]
    rows: Sequence[str]


def load_path_table(
    path: Path,
    *,
    size: tuple[int, int] | None = None,
    fit: Fit = "crop",
    seed: int = 0,
    skip_broken: bool = False,
    selection: Selection = EVERYTHING,
    progress: Progress | None = None,
) -> Dataset:
    """Load a table of image files with one row per image.

    The classes are the distinct labels in natural order. Validation or test images that `split` does not define are held out
    of the training images. Raises `DataError` for a broken table, a missing column, a row without path or label, an unknown
    split, a missing file, and in the cases of `load_image_files`.
    """
    table = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    if not table.rows:
        raise DataError(f"{path}: got no rows; expected one row per image")
    for column, values in table.columns.items():
        if "" in values:
            row = table.rows[values.index("")]
            raise DataError(f"{path}: got no {column} in {row}; expected a {column} in every row")
    files = [os.path.join(path.parent, name) for name in table.columns["path"]]  # noqa: PTH118
    if not skip_broken:
        _expect_files(path, table, files)

    labels, classes = None, None
    if (names := table.columns.get("label")) is not None:
        classes = tuple(sorted(set(names), key=natural_order))
        number = {name: k for k, name in enumerate(classes)}
        labels = np.array([number[name] for name in names], dtype=np.int64)
    split_of_row = np.array(_splits(path, table))
    splits = {}
    for split in ("train", "validation", "test"):
        if len(rows := np.flatnonzero(split_of_row == split)):
            splits[split] = Files([files[i] for i in rows], None if labels is None else labels[rows])
    notes = [f"Ignored the columns {listed(table.others)}."] if table.others else []
    reading = Reading(size, fit, seed, skip_broken, selection, progress)
    return load_image_files(path, path.absolute().stem, splits, classes, reading, notes)


def _read_csv(path: Path) -> _Table:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = _expect_columns(path, next(reader, []))
            lines, rows = [], []
            for row in reader:
                if not row:
                    continue  # an empty line
                if len(row) != len(header):
                    raise DataError(
                        f"{path}: got {len(row)} values in line {reader.line_num}; expected {len(header)}, one per "
                        "column; put quotes around values that contain a comma"
                    )
                lines.append(f"line {reader.line_num}")
                rows.append(row)
    except (UnicodeDecodeError, csv.Error) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise DataError(f"{path}: cannot be read ({reason}); expected CSV in UTF-8; save it again") from None
    columns = dict(zip(header, zip(*rows, strict=True), strict=True)) if rows else {}
    return _Table({name: columns[name] for name in COLUMNS if name in columns}, _others(header), lines)


def _read_parquet(path: Path) -> _Table:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise DataError(
            f"{path}: got Parquet, which needs pyarrow; install it with pip install 'vaelab[parquet]', or save the table as CSV"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            header = _expect_columns(path, file.schema_arrow.names)
            table = file.read(columns=[name for name in COLUMNS if name in header])
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, PermissionError):
            raise
        raise DataError(f"{path}: cannot be read ({error}); expected a valid Parquet file; save it again") from None
    columns = {
        name: ["" if value is None else str(value) for value in table[name].to_pylist()] for name in table.column_names
    }
    return _Table(columns, _others(header), [f"row {i + 1}" for i in range(table.num_rows)])


def _expect_columns(path: Path, header: Sequence[str]) -> Sequence[str]:
    """Return the column names; raise `DataError` if `path` is missing or a column that is used occurs twice."""
    if not header:
        raise DataError(f"{path}: got an empty table; {EXPECTED}, and one row per image")
    if header.count("path") != 1 or max(map(header.count, COLUMNS)) > 1:
        hint = "; put commas between the columns" if len(header) == 1 and ";" in header[0] else ""
        raise DataError(f"{path}: got the columns {listed(header, 10)}; {EXPECTED}{hint}")
    return header


def _others(header: Sequence[str]) -> list[str]:
    return [name for name in header if name not in COLUMNS]


def _expect_files(path: Path, table: _Table, files: Sequence[str]) -> None:
    missing = [i for i, file in enumerate(files) if not os.path.isfile(file)]  # noqa: PTH113
    if missing:
        first = missing[0]
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise DataError(
            f"{path}: file {table.columns['path'][first]!r} ({table.rows[first]}){more} not found; expected paths relative to "
            f"{path.parent}; correct them, or pass `skip_broken=True`"
        )


def _splits(path: Path, table: _Table) -> list[str]:
    """Return the split of each row."""
    names = table.columns.get("split")
    if names is None:
        return ["train"] * len(table.rows)
    for row, name in zip(table.rows, names, strict=True):
        if name not in SPLIT_FOLDERS:
            choices = ("train", "validation", "test")
            raise DataError(
                f"{path}: got the split {name!r} in {row}; expected {', '.join(choices[:-1])} or {choices[-1]}."
                f"{did_you_mean(name, choices)}"
            )
    return [SPLIT_FOLDERS[name] for name in names]
