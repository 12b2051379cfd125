"""Tables of image paths, CSV or Parquet, with the column `path` and optionally `label` and `split`, or other names in `COLUMNS`.

Splits are train, validation and test. Paths are relative to the folder of the table. CSV is UTF-8 with a header line and commas.
"""

from __future__ import annotations

import csv
import os
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vaelab.data.arrays import listed
from vaelab.data.dataset import Dataset
from vaelab.data.folders import natural_order
from vaelab.data.image_files import Files, Reading, load_image_files
from vaelab.data.names import SPLITS, canonical, class_name, renamed_notes, split_named
from vaelab.errors import DataError, did_you_mean

SUFFIXES = (".csv", ".parquet")
COLUMNS = {
    "path": (
        *("paths", "file", "files", "filename", "filenames", "file_name", "filepath", "file_path"),
        *("image", "images", "image_path", "image_file", "img", "img_path"),
    ),
    "label": ("labels", "class", "classes", "class_name", "category", "categories"),
    "split": ("splits", "subset"),
}
"""Columns that are used, each with other names for it."""

EXPECTED = "expected a column 'path' and optionally 'label' and 'split', each at most once"


class _Table(NamedTuple):
    """The columns used, by their names in `COLUMNS`, of equal length; a name for each row; notes on the columns."""

    columns: Mapping[str, Sequence[Any]]
    rows: Sequence[str]
    notes: list[str]


def load_path_table(path: Path, reading: Reading = Reading()) -> Dataset:  # noqa: B008 - immutable
    """Load a table of image files with one row per image.

    The classes are the distinct labels in natural order. Validation or test images that `split` does not define are held out
    of the training images. Raises `DataError` for a broken table, a missing column or several of the same meaning, a row without
    path or label, an unknown split, a missing file, and in the cases of `load_image_files`.
    """
    table = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    if not table.rows:
        raise DataError(f"{path}: got no rows; expected one row per image")
    columns = {name: _texts(path, name, values, table.rows) for name, values in table.columns.items()}
    files = [_file(path.parent, name) for name in columns["path"]]
    if not reading.skip_broken:
        _expect_files(path, columns["path"], table.rows, files)

    labels, classes = None, None
    if (names := columns.get("label")) is not None:
        classes = tuple(sorted(set(names), key=natural_order))
        number = {name: k for k, name in enumerate(classes)}
        labels = np.array([number[name] for name in names], dtype=np.int64)
    split_of_row = np.array(_splits(path, columns.get("split"), table.rows))
    splits = {}
    for split in SPLITS:
        if len(rows := np.flatnonzero(split_of_row == split)):
            splits[split] = Files([files[i] for i in rows], None if labels is None else labels[rows])
    return load_image_files(path, path.absolute().stem, splits, classes, reading, table.notes)


def _read_csv(path: Path) -> _Table:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True, skipinitialspace=True)
            header = next(reader, [])
            meant = _expect_columns(path, header)
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
    return _Table({key: columns[name] for key, name in meant.items() if rows}, lines, _notes(header, meant))


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
            header = file.schema_arrow.names
            meant = _expect_columns(path, header)
            table = file.read(columns=list(meant.values()))
    except (pyarrow.ArrowException, OSError) as error:
        if isinstance(error, PermissionError):
            raise
        raise DataError(f"{path}: cannot be read ({error}); expected a valid Parquet file; save it again") from None
    columns = {key: table[name].to_pylist() for key, name in meant.items()}
    return _Table(columns, [f"row {i + 1}" for i in range(table.num_rows)], _notes(header, meant))


def _expect_columns(path: Path, header: Sequence[str]) -> dict[str, str]:
    """Return the columns used by their names in `COLUMNS`; raise `DataError` if `path` is missing or one occurs twice."""
    if not header:
        raise DataError(f"{path}: got an empty table; {EXPECTED}, and one row per image")
    meant = canonical(header, COLUMNS, str(path), "column")
    if "path" not in meant or max(map(header.count, meant.values())) > 1:
        hint = "; put commas between the columns" if len(header) == 1 and ";" in header[0] else ""
        raise DataError(f"{path}: got the columns {listed(header, 10)}; {EXPECTED}{hint}")
    return meant


def _notes(header: Sequence[str], meant: Mapping[str, str]) -> list[str]:
    """Return notes on columns that have other names, and on those that are ignored."""
    others = [name for name in header if name not in meant.values()]
    return [*renamed_notes(meant, "column"), *([f"Ignored the columns {listed(others)}."] if others else [])]


def _texts(path: Path, column: str, values: Sequence[Any], rows: Sequence[str]) -> list[str]:
    """Return the values of a column as text, labels as class names. Raises `DataError` for a missing value or another type."""
    convert = class_name if column == "label" else _text
    texts = [convert(value, f"{path}: {row}") for value, row in zip(values, rows, strict=True)]
    if "" in texts:
        raise DataError(f"{path}: got no {column} in {rows[texts.index('')]}; expected a {column} in every row")
    return texts


def _text(value: Any, where: str) -> str:
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if not isinstance(value, str | None):
        raise DataError(
            f"{where}: got a value of type {type(value).__name__}; expected text: a path, or the name of a split"
        )
    return value or ""


def _file(folder: Path, name: str) -> str:
    """Return the path of a file of a table; composed and decomposed accents in its name are equivalent."""
    file = os.path.join(folder, name)  # noqa: PTH118 - creating a Path per file takes seconds for many files
    if name.isascii() or os.path.exists(file):  # noqa: PTH110
        return file
    forms = (os.path.join(folder, unicodedata.normalize(form, name)) for form in ("NFC", "NFD"))  # noqa: PTH118
    return next((form for form in forms if os.path.exists(form)), file)  # noqa: PTH110


def _expect_files(path: Path, names: Sequence[str], rows: Sequence[str], files: Sequence[str]) -> None:
    missing = [i for i, file in enumerate(files) if not os.path.isfile(file)]  # noqa: PTH113
    if missing:
        first = missing[0]
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise DataError(
            f"{path}: file {names[first]!r} ({rows[first]}){more} not found; expected paths relative to "
            f"{path.parent}; correct them, or pass `skip_broken=True`"
        )


def _splits(path: Path, names: Sequence[str] | None, rows: Sequence[str]) -> list[str]:
    """Return the split of each row."""
    splits = []
    for row, name in zip(rows, names or ["train"] * len(rows), strict=True):
        split = split_named(name)
        if split is None:
            choices = ("train", "validation", "test")
            raise DataError(
                f"{path}: got the split {name!r} in {row}; expected {', '.join(choices[:-1])} or {choices[-1]}."
                f"{did_you_mean(name, choices)}"
            )
        splits.append(split)
    return splits
