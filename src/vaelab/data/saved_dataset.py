"""Folders written by `save_to_disk` of the Hugging Face library `datasets`: Arrow files of a data set, or of one per split.

dataset_dict.json          names of the splits, each of which is a folder; only if there are several
state.json                 names of the Arrow files, in order
data-00000-of-00002.arrow  an Arrow stream, uncompressed
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vaelab.data.arrow import ROW_BYTES, arrow_errors, values
from vaelab.data.dataset import Dataset
from vaelab.data.encoded import Encoded, Range
from vaelab.data.image_columns import ImageColumns, column_notes, image_columns, shard_of
from vaelab.data.image_files import Reading
from vaelab.data.limits import Budget
from vaelab.data.links import Links
from vaelab.data.names import SPLITS, split_named
from vaelab.data.shards import Shard, load_shards
from vaelab.errors import DataError
from vaelab.files import open_regular

SPLIT_NAMES, STATE = "dataset_dict.json", "state.json"
MAX_JSON = 16 << 20
"""Largest size in bytes of the JSON files."""


def is_saved(folder: Path) -> bool:
    """Return whether a folder was written with `save_to_disk`."""
    return (folder / SPLIT_NAMES).is_file() or all((folder / name).is_file() for name in (STATE, "dataset_info.json"))


def load_saved(folder: Path, reading: Reading) -> Dataset:
    """Load the images of a folder that was written with `save_to_disk`.

    The images are read from the Arrow files when they are decoded. The result is as in `load_image_files`. Raises `DataError`
    for a broken file, a split of another name, a file without a column of images, a row without label, and a broken image.
    """
    links = Links(str(folder.resolve()), reading.follow_links)
    shards: list[Shard] = []
    notes: list[str] = []
    for name, part in _parts(folder):
        for file in _listed(_json(part / STATE), "_data_files"):
            path = part / str(file.get("filename") if isinstance(file, dict) else file)
            links.expect_inside(str(path))
            with arrow_errors(path, "Arrow"):
                shards.append(_indexed(path, name, notes, reading))
            if reading.progress:
                reading.progress("reading labels", len(shards), len(shards))
    return load_shards(folder, shards, reading, list(dict.fromkeys(notes)))


def _parts(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield each split with its folder."""
    if not (folder / SPLIT_NAMES).is_file():
        yield "train", folder
        return
    for name in map(str, _listed(_json(folder / SPLIT_NAMES), "splits")):
        if (split := split_named(name)) is None:
            raise DataError(
                f"{folder}: got the split {name!r}; expected {', '.join(SPLITS)}; save it without the others"
            )
        yield split, folder / name


def _json(path: Path) -> Any:
    with open_regular(path) as file:
        content = file.read(MAX_JSON + 1)
    try:
        if len(content) > MAX_JSON:
            raise ValueError(f"more than {MAX_JSON:,} bytes")
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error}); expected JSON; save the data set again") from None


def _listed(content: Any, key: str) -> list[Any]:
    found = content.get(key) if isinstance(content, dict) else None
    if not isinstance(found, list):
        raise DataError(f"got no list {key!r} in the JSON of a data set; expected one; save it again with save_to_disk")
    return found


def _indexed(path: Path, split: str, notes: list[str], reading: Reading) -> Shard:
    """Return the images of an Arrow file with their labels; only the labels are read."""
    import pyarrow

    open_regular(path).close()  # raises for a pipe
    with pyarrow.memory_map(str(path)) as file:
        content = file.read_buffer()
    if any(
        map(_is_compressed, pyarrow.ipc.MessageReader.open_stream(content))
    ):  # before it is decompressed to any size
        raise DataError(
            f"{path}: got a compressed Arrow file; expected an uncompressed one; write it with save_to_disk"
        )
    reader = pyarrow.ipc.open_stream(content)
    if (columns := image_columns(reader.schema, path)) is None:
        raise DataError(f"{path}: got no column of encoded images; expected 'image'")
    images: list[Encoded] = []
    found: dict[str, list[Any]] = {key: [] for key in columns.others}
    budget = Budget(reading.limits, content.size)
    for batch in reader:
        budget.take(ROW_BYTES * batch.num_rows, path)
        for place in _places(path, batch, columns, content):
            images.append(Range(str(path), f"row {len(images) + 1}", *place))
        for key, name in columns.others.items():
            column = batch.column(name)
            column.validate(full=True)
            budget.take(column.nbytes, path)
            found[key] += values(pyarrow.chunked_array([column]))
    notes += column_notes(reader.schema, columns)
    return shard_of(path, reader.schema, columns, found, images, split)


def _is_compressed(message: Any) -> bool:
    """Return whether a message of an Arrow file is a batch with compressed buffers (Message.fbs of Arrow)."""
    content = memoryview(message.metadata)

    def field(table: int, number: int) -> int:
        """Return where a field of a table begins, or 0 if the table has none."""
        (back,) = struct.unpack_from("<i", content, table)
        (size,) = struct.unpack_from("<H", content, table - back)
        place = 4 + 2 * number
        (offset,) = struct.unpack_from("<H", content, table - back + place) if place < size else (0,)
        return table + offset if offset else 0

    def inner(place: int) -> int:
        return place + struct.unpack_from("<I", content, place)[0]

    header = inner(field(inner(0), 2))
    if message.type == "dictionary":
        header = inner(field(header, 1))
    return message.type in ("dictionary", "record batch") and field(header, 3) > 0


def _places(path: Path, batch: Any, columns: ImageColumns, content: Any) -> Iterator[tuple[int, int]]:
    """Yield where each image of a batch begins in its file, and its size in bytes; 0 if there is none."""
    import pyarrow

    column = batch.column(columns.image)
    column.validate(full=True)
    missing = column.is_null().to_numpy(zero_copy_only=False)
    if columns.leaf != columns.image:
        column = column.field("bytes")
        missing |= column.is_null().to_numpy(zero_copy_only=False)
    wide = pyarrow.types.is_large_binary(column.type)
    if not (wide or pyarrow.types.is_binary(column.type)):
        raise DataError(f"{path}: got images of type {column.type}; expected binary")
    if len(column) == 0:
        return
    _, offsets, data = column.buffers()
    bounds = np.frombuffer(offsets, np.int64 if wide else np.int32)[column.offset : column.offset + len(column) + 1]
    first = data.address - content.address if data else 0
    if not 0 <= first <= first + bounds[-1] <= content.size:
        raise DataError(f"{path}: got images outside of the file; expected a valid Arrow file; save it again")
    for start, end, gone in zip(bounds[:-1].tolist(), bounds[1:].tolist(), missing.tolist(), strict=True):
        yield first + start, 0 if gone else end - start
