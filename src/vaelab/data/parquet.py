"""Parquet files with a column of encoded images: one file, or a folder of files for each split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vaelab.data.arrow import arrow_errors, open_parquet, read_columns
from vaelab.data.dataset import Dataset
from vaelab.data.encoded import Encoded
from vaelab.data.image_columns import column_notes, image_columns, shard_of
from vaelab.data.image_files import Reading
from vaelab.data.shards import load_shards, splits_of_shards
from vaelab.errors import DataError
from vaelab.files import open_regular

BUFFER = 1 << 20
"""Bytes that are read at once from a column, instead of the whole column of a row group."""


def holds_images(path: Path) -> bool:
    """Return whether a Parquet file has a column of encoded images. Raises `DataError` if it cannot be read."""
    with open_parquet(path) as file:
        return image_columns(file.schema_arrow, path) is not None


def load_parquet(source: Path, files: Sequence[Path], reading: Reading) -> Dataset:
    """Load the images of Parquet files.

    The images are read row by row when they are decoded, so at most a few pages of a column are in memory. Splits are those of
    the column `split`, or else of the names of the files. The result is as in `load_image_files`. Raises `DataError` for a broken
    file, a file without a column of images, a row without label, a broken image, and more bytes than the limits allow.
    """
    rows = _Rows()
    shards, notes = [], []
    for path, split in zip(files, splits_of_shards(source, files), strict=True):
        with open_parquet(path) as file:
            schema = file.schema_arrow
            if (columns := image_columns(schema, path)) is None:
                raise DataError(f"{path}: got no column of encoded images; expected 'image'; move the file")
        found, numbers = read_columns(path, columns.others, reading.limits)
        name = str(path)
        rows.columns[name] = columns.leaf
        images = [_Row(rows, name, row) for row in range(len(numbers))]
        shards.append(shard_of(path, schema, columns, found, images, split))
        notes += column_notes(schema, columns)
        if reading.progress:
            reading.progress("reading labels", len(shards), len(files))
    return load_shards(source, shards, reading, list(dict.fromkeys(notes)))


class _Row(Encoded):
    """An image in a row of a Parquet file."""

    __slots__ = ("row", "rows")

    def __init__(self, rows: _Rows, path: str, row: int) -> None:
        self.path, self.row, self.rows = path, row, rows

    @property
    def place(self) -> str:
        return f"row {self.row + 1}"

    def read(self, most: int) -> bytes:
        with arrow_errors(Path(str(self)), "Parquet"):
            return self.rows.read(self.path, self.row)[:most]


class _Rows:
    """Reads images of Parquet files; fast in ascending order of the rows. One file is open at a time."""

    def __init__(self) -> None:
        self.columns: dict[str, str] = {}
        """The column of images of each file."""
        self.path, self.file = "", None
        self.next = self.end = 0
        self.values: Iterator[bytes] = iter(())

    def read(self, path: str, row: int) -> bytes:
        """Return the image in a row; empty if there is none."""
        if path != self.path:
            self._open(path)
        if not self.next <= row < self.end:
            self._seek(row)
        value = None
        while self.next <= row:
            value = next(self.values, None)
            self.next += 1
        if value is None:
            raise DataError(f"{path}: has no row {row + 1}; expected as many rows as it states; save it again")
        return value

    def _open(self, path: str) -> None:
        from pyarrow import parquet

        open_regular(path).close()  # raises for a pipe
        self.path, self.next, self.end = path, 0, 0
        self.file = parquet.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False)

    def _seek(self, row: int) -> None:
        """Go to the beginning of the row group that contains a row."""
        file: Any = self.file
        self.end = 0
        for group in range(file.num_row_groups):
            self.next, self.end = self.end, self.end + file.metadata.row_group(group).num_rows
            if row < self.end:
                self.values = self._values(file, group)
                return
        raise DataError(
            f"{self.path}: has fewer rows than before; expected that the file does not change while it is read"
        )

    def _values(self, file: Any, group: int) -> Iterator[bytes]:
        # One row at a time: a dictionary of one large value may stand for any number of rows.
        leaf = self.columns[self.path]
        for batch in file.iter_batches(1, row_groups=[group], columns=[leaf], use_threads=False):
            column = batch.column(0)
            yield (column.field("bytes") if "." in leaf else column)[0].as_py() or b""
