"""Tables of image paths, CSV or Parquet, with the column `path` and optionally `label` and `split`, or other names in `COLUMNS`.

Splits are train, validation and test. Paths are relative to the folder of the table. CSV is UTF-8 with a header line and commas.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vaelab.data.arrays import listed
from vaelab.data.arrow import open_parquet, read_columns
from vaelab.data.dataset import Dataset
from vaelab.data.image_files import Reading
from vaelab.data.names import SPLITS, canonical, class_name, existing_form, renamed_notes, split_named
from vaelab.data.resize import Progress
from vaelab.data.shards import Shard, load_shards
from vaelab.errors import DataError, did_you_mean
from vaelab.files import open_regular

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

MAX_LINE = 1 << 20
"""Largest length of a line of CSV in characters."""

MAX_PATH = 4096
"""Largest length of a path in characters; operating systems take no longer ones."""

REPORT_EVERY = 20_000
"""Number of rows from one report of progress to the next."""


class Table(NamedTuple):
    """The columns used, by their names in `COLUMNS`, of equal length; the number of each row; notes; what a row is called."""

    columns: Mapping[str, Sequence[Any]]
    rows: Sequence[int]
    notes: list[str]
    noun: str

    def row(self, i: int) -> str:
        """Return the name of a row for messages."""
        return f"{self.noun} {self.rows[i]}"


def load_path_table(path: Path, reading: Reading = Reading()) -> Dataset:  # noqa: B008 - immutable
    """Load a table of image files with one row per image.

    The classes are the distinct labels in natural order. Validation or test images that `split` does not define are held out
    of the training images. Raises `DataError` for a broken table, a missing column or several of the same meaning, a row without
    path or label, an unknown split, a missing file, and in the cases of `load_image_files`.
    """
    table = _read_csv(path, reading.progress) if path.suffix.lower() == ".csv" else _read_parquet(path, reading)
    if not table.rows:
        raise DataError(f"{path}: got no rows; expected one row per image")
    columns = {name: texts(path, name, table) for name in table.columns}
    files = [
        existing_form(os.path.join(path.parent, name))  # noqa: PTH118 - creating a Path per file takes seconds for many files
        for name in columns["path"]
    ]
    if not reading.skip_broken:
        _expect_files(path, columns["path"], table, files)

    shard = Shard(files, splits_of(path, columns.get("split"), table), columns.get("label"))
    return load_shards(path, [shard], reading, table.notes)


def _read_csv(path: Path, progress: Progress | None) -> Table:
    try:
        with open_regular(path) as file, io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text:
            size = os.fstat(file.fileno()).st_size
            reader = csv.reader(_lines(text, path), strict=True, skipinitialspace=True)
            header = next(reader, [])
            meant = _expect_columns(path, header)
            places = {key: header.index(name) for key, name in meant.items()}
            columns: dict[str, list[str]] = {key: [] for key in places}
            rows: list[int] = []
            for row in reader:
                if not row:
                    continue  # an empty line
                if len(row) != len(header):
                    raise DataError(
                        f"{path}: got {len(row)} values in line {reader.line_num}; expected {len(header)}, one per "
                        "column; put quotes around values that contain a comma"
                    )
                rows.append(reader.line_num)
                for key, place in places.items():
                    columns[key].append(row[place])
                if progress and len(rows) % REPORT_EVERY == 0:
                    progress(f"reading {path.name} (bytes)", file.tell(), size)
    except (UnicodeDecodeError, csv.Error) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error
        raise DataError(f"{path}: cannot be read ({reason}); expected CSV in UTF-8; save it again") from None
    return Table(columns, rows, _notes(header, meant), "line")


def _lines(file: io.TextIOWrapper, path: Path) -> Iterator[str]:
    """Yield the lines of a file. Raises `DataError` for one of more than `MAX_LINE` characters."""
    while line := file.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise DataError(f"{path}: got a line of {MAX_LINE:,} characters or more; expected CSV, one line per image")
        yield line


def _read_parquet(path: Path, reading: Reading) -> Table:
    with open_parquet(path) as file:
        header = file.schema_arrow.names
    meant = _expect_columns(path, header)
    return Table(*read_columns(path, meant, reading.limits), _notes(header, meant), "row")


def _expect_columns(path: Path, header: Sequence[str]) -> dict[str, str]:
    """Return the columns used by their names in `COLUMNS`; raise `DataError` if `path` is missing or one occurs twice."""
    if not header:
        raise DataError(f"{path}: got an empty table; {EXPECTED}, and one row per image")
    meant = canonical(header, COLUMNS, str(path), "column")
    if "path" not in meant or max(map(header.count, meant.values())) > 1:
        hint = "; put commas between the columns" if len(header) == 1 and ";" in header[0] else ""
        if path.suffix.lower() == ".parquet":
            hint = "; or a column 'image' with the bytes of an image file in every row"
        raise DataError(f"{path}: got the columns {listed(header, 10)}; {EXPECTED}{hint}")
    return meant


def _notes(header: Sequence[str], meant: Mapping[str, str]) -> list[str]:
    """Return notes on columns that have other names, and on those that are ignored."""
    others = [name for name in header if name not in meant.values()]
    return [*renamed_notes(meant, "column"), *([f"Ignored the columns {listed(others)}."] if others else [])]


def texts(path: Path, column: str, table: Table) -> list[str]:
    """Return the values of a column as text, labels as class names. Raises `DataError` for a missing value or another type."""
    convert = class_name if column == "label" else _text
    known: dict[str, str] = {}  # texts repeat
    found = []
    for i, value in enumerate(table.columns[column]):
        text = known.get(value) if isinstance(value, str) else None
        if text is None:
            text = convert(value, f"{path}: {table.row(i)}")
            if not text:
                raise DataError(f"{path}: got no {column} in {table.row(i)}; expected a {column} in every row")
            if column != "path" and isinstance(value, str):
                known[value] = text
        found.append(text)
    return found


def _text(value: Any, where: str) -> str:
    if isinstance(value, bytes):
        return os.fsdecode(value)
    if not isinstance(value, str | None):
        raise DataError(
            f"{where}: got a value of type {type(value).__name__}; expected text: a path, or the name of a split"
        )
    if value and len(value) > MAX_PATH:
        raise DataError(f"{where}: got {len(value):,} characters, {value[:20]!r}…; expected at most {MAX_PATH}")
    return value or ""


def _expect_files(path: Path, names: Sequence[str], table: Table, files: Sequence[str]) -> None:
    present = {file: os.path.isfile(file) for file in dict.fromkeys(files)}  # noqa: PTH113
    missing = [i for i, file in enumerate(files) if not present[file]]
    if missing:
        first = missing[0]
        more = f" and {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise DataError(
            f"{path}: file {names[first]!r} ({table.row(first)}){more} not found; expected paths relative to "
            f"{path.parent}; correct them, or pass `skip_broken=True`"
        )


def splits_of(path: Path, names: Sequence[str] | None, table: Table) -> list[str]:
    """Return the split of each row."""
    if names is None:
        return ["train"] * len(table.rows)
    known = {name: split_named(name) for name in dict.fromkeys(names)}
    splits = []
    for i, name in enumerate(names):
        if (split := known[name]) is None:
            raise DataError(
                f"{path}: got the split {name!r} in {table.row(i)}; expected train, validation or test."
                f"{did_you_mean(name, SPLITS)}"
            )
        splits.append(split)
    return splits
