"""Columns of Parquet and Arrow files: what they mean, and their values. Needs pyarrow, which is imported when it is used."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vaelab.data.limits import Budget, Limits
from vaelab.errors import DataError
from vaelab.files import open_regular

ROW_BYTES = 64
"""Memory of a row in bytes, at least; rows that repeat take almost none in a file."""


@contextmanager
def arrow_errors(path: Path, kind: str, advice: str = "") -> Iterator[None]:
    """Raise a DataError where pyarrow is missing or cannot read a file of a kind, such as "Parquet"."""
    try:
        import pyarrow
    except ImportError:
        raise DataError(
            f"{path}: got {kind}, which needs pyarrow; install it with pip install 'vaelab[parquet]'{advice}"
        ) from None
    try:
        yield
    except (pyarrow.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        if isinstance(error, PermissionError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: cannot be read ({reason}); expected a valid {kind} file; save it again") from None


@contextmanager
def open_parquet(path: Path, **options: Any) -> Iterator[Any]:
    """Open a Parquet file, a `pyarrow.parquet.ParquetFile` with these options. Raises `DataError` if it cannot be read."""
    with arrow_errors(path, "Parquet", ", or save the table as CSV"):
        from pyarrow import parquet

        with open_regular(path) as stream, parquet.ParquetFile(stream, **options) as file:
            yield file


def read_columns(path: Path, meant: Mapping[str, str], limits: Limits) -> tuple[dict[str, list[Any]], range]:
    """Return the values of columns of a Parquet file, by what they mean, and the numbers of the rows, from 1.

    Raises `DataError` if the file cannot be read or states more than the limits allow.
    """
    with open_parquet(path) as file:
        flat = {file.schema.column(i).path for i in range(len(file.schema.names))}
        stored = os.stat(path).st_size  # noqa: PTH116
        groups = [file.metadata.row_group(i) for i in range(file.num_row_groups)]
        Budget(limits, stored).take(ROW_BYTES * (count := sum(group.num_rows for group in groups)), path)
        # Of whole groups: pyarrow ends the process if the metadata of a column are forged.
        for group in groups:
            Budget(limits, stored).take(group.total_byte_size, f"{path}: a row group")
    found: dict[str, list[Any]] = {key: [] for key in meant}
    budget = Budget(limits, stored)
    with open_parquet(path, read_dictionary=sorted(flat.intersection(meant.values()))) as file:
        for number in range(len(groups) if meant else 0):
            table = file.read_row_group(number, columns=list(meant.values()))
            budget.take(table.nbytes, path)
            for key, name in meant.items():
                found[key] += values(table[name])
    if any(len(column) != count for column in found.values()):
        raise DataError(f"{path}: has columns of other lengths than it states; expected {count:,} rows; save it again")
    return found, range(1, count + 1)


def values(column: Any) -> list[Any]:
    """Return the values of a column; text that repeats is one object, as in the file."""
    found = []
    for chunk in column.chunks:
        if not hasattr(chunk, "dictionary"):
            found += chunk.to_pylist()
            continue
        distinct = chunk.dictionary.to_pylist()
        found += [None if i is None else distinct[i] for i in chunk.indices.to_pylist()]
    return found
