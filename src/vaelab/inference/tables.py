"""Files of results, one row per image: Parquet, CSV or NumPy arrays, written part by part."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from vaelab.errors import OutputError
from vaelab.files import atomic_write, expect_suffix

Columns = dict[str, np.ndarray]
"""Results of some images, (N,) or (N, d), by name. `classes` are the names of `labels`, the same for all images."""


def expect_table(path: Path) -> None:
    """Raise an OutputError if a table cannot be written under this name, or pyarrow is not installed for it."""
    expect_suffix(path, ".parquet", ".csv", ".npz")
    expect_pyarrow(path)


def expect_pyarrow(path: Path) -> None:
    """Raise an OutputError if a file is Parquet and pyarrow is not installed."""
    if path.suffix.lower() == ".parquet" and find_spec("pyarrow") is None:
        raise OutputError(
            f"{path}: Parquet needs pyarrow; install it with pip install 'vaelab[parquet]', or give a file of another kind"
        )


def write_table(path: Path, parts: Iterable[Columns]) -> None:
    """Write results as a table, atomically.

    In .npz they are arrays. In .csv and .parquet, the columns of a vector are its name with `_0`, `_1`, … appended, `labels` are
    class names and called `label`, and `paths` are called `path`. Only .npz takes memory for all images.
    """
    with atomic_write(path) as temporary:
        {".npz": _write_npz, ".csv": _write_csv, ".parquet": _write_parquet}[path.suffix.lower()](temporary, parts)


def write_npz(path: Path, **arrays: np.ndarray) -> None:
    """Write named arrays as a compressed .npz file, atomically."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def _write_npz(path: Path, parts: Iterable[Columns]) -> None:
    every = list(parts)
    joined = {name: np.concatenate([part[name] for part in every]) for name in every[0] if name != "classes"}
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **{name: joined.get(name, every[0][name]) for name in every[0]})


def _write_csv(path: Path, parts: Iterable[Columns]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:  # undecodable names of files
        writer = csv.writer(file)
        for number, part in enumerate(parts):
            columns = dict(_flat(part))
            if number == 0:
                writer.writerow(columns)
            texts = (part["classes"][values] if name == "label" else values for name, values in columns.items())
            writer.writerows(zip(*(values.tolist() for values in texts), strict=True))


def _write_parquet(path: Path, parts: Iterable[Columns]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    def array(name: str, values: np.ndarray, part: Columns) -> Any:
        if name == "label":
            return pa.DictionaryArray.from_arrays(values.astype(np.int32), _texts(part["classes"]))
        return pa.array(_texts(values) if values.dtype.kind == "U" else values)

    writer = None
    try:
        for part in parts:
            table = pa.table({name: array(name, values, part) for name, values in _flat(part)})
            writer = writer or parquet.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()


def _flat(part: Columns) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the columns of a table with their names."""
    for name, values in part.items():
        if values.ndim == 2:
            yield from ((f"{name}_{k}", each) for k, each in enumerate(values.T))
        elif name != "classes":
            yield {"paths": "path", "labels": "label"}.get(name, name), values


def _texts(values: np.ndarray) -> list[str]:
    """Return texts with undecodable bytes, which Parquet does not take, escaped."""
    return [text.encode("utf-8", "backslashreplace").decode() for text in values.tolist()]
