"""Packs: the images and labels of a data set in files that are memory-mapped, for data larger than memory.

A pack is a folder of

    pack.json                  names, counts, fingerprint, and the checksums of all blocks
    train.npy, …               images of each split that is not empty, uint8 (N, C, H, W)
    train-labels.npy, …        their labels, int64 (N,), if there are any
    moments.npy                mean, variance and covariance of the training images' pixels, as `vaelab.models.moments` has them

`vaelab.data.pack_writing` writes packs.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaelab.data.dataset import Dataset, Known, Loading, Split
from vaelab.data.resize import Progress
from vaelab.errors import DataError
from vaelab.files import open_regular

INDEX, MOMENTS = "pack.json", "moments.npy"
FORMAT = 1
BLOCK_BYTES = 16 << 20  # of images, which are written and checked together
CHECKED_BYTES = 1 << 30  # of a pack: if it has more, checksums are compared by `vaelab data` only
MAX_INDEX = 256 << 20  # bytes of an index: of a pack of 20 TB

Read = Callable[[int, int], tuple[np.ndarray, np.ndarray | None]]
"""Images first…last−1 of a split, uint8 (n, C, H, W), and their labels."""


Block = tuple[str, int, int]
"""A split, the first of its images in a block, and the one after the last."""


class Source(NamedTuple):
    """What is packed, and how its images are read."""

    name: str
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    counts: Mapping[str, int]
    """Images of "train", "validation" and "test"."""

    read: Mapping[str, Read]
    notes: tuple[str, ...] = ()
    loading: Loading = Loading()
    identity: str = ""
    """What else determines the images: with another one, a pack that was interrupted is not continued."""

    later: Callable[[], Iterable[str]] | None = None
    """Returns notes that are known once the images were read; after an interruption, only the remaining ones are."""


def is_pack(path: Path) -> bool:
    """Return whether a path is the folder of a pack."""
    try:
        return (path / INDEX).is_file()
    except OSError:  # a name that no file can have
        return False


def load_pack(path: Path, progress: Progress | None = None) -> Dataset:
    """Load a pack: its images are memory-mapped, so they take no memory of the process.

    Parameters
    ----------
    path
        Folder of the pack.
    progress
        Callback with a description, the number of images checked, and the total.

    Raises
    ------
    DataError
        If it is of another format, a file is missing or of another size, or if it has at most `CHECKED_BYTES` and was altered.
    """
    return _loaded(path, CHECKED_BYTES, progress)


def check_pack(path: Path, progress: Progress | None = None) -> None:
    """Raise a DataError as `load_pack` does, and if any block of images or labels was altered; reads all images."""
    _loaded(path, math.inf, progress)


def _loaded(path: Path, checked_bytes: float, progress: Progress | None) -> Dataset:
    try:
        with open_regular(path / INDEX) as file:
            content = file.read(MAX_INDEX + 1)
        if len(content) > MAX_INDEX:
            raise DataError(f"{path / INDEX}: got more than {MAX_INDEX >> 20} MiB; expected the index of a pack")
        index = json.loads(content)
        if index.get("format") != FORMAT:
            raise DataError(
                f"{path}: got a pack of format {index.get('format')}; expected {FORMAT}; pack its source again with this vaelab"
            )
        counts = {split: int(index["counts"][split]) for split in ("train", "validation", "test")}
        C, H, W = (int(size) for size in index["shape"])
        classes = tuple(map(str, index["classes"]))
        source = Source(str(index["name"]), (C, H, W), classes, counts, {}, tuple(map(str, index["notes"])))
        size = sum(counts.values()) * C * H * W
        if size <= checked_bytes:
            _check(path, source, int(index["block_size"]), index["blocks"], progress)
        train, validation, test = (_split(path, split, source) for split in ("train", "validation", "test"))
        if counts["train"]:
            moments = np.array(_opened(path / MOMENTS))
            if moments.dtype != np.float64 or moments.shape != (9 if C == 3 else 2 * C, H, W):
                raise DataError(f"{path / MOMENTS}: got another content than expected; pack the source again")
            images, announce = _announced(path / "train.npy", train.images.shape)
            train = Split(images, train.labels, known=Known(str(index["fingerprint"]), classes, moments, announce))
    except OSError as error:
        raise DataError(
            f"{error.filename or path}: cannot be read ({error.strerror or error}); expected all files of the pack"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path / INDEX}: got no valid index of a pack ({error}); pack the source again") from None
    note = f"Mapped {sum(counts.values()):,} images ({size / 2**30:.2g} GiB) from {path}: they are read as they are needed."
    return Dataset(source.name, train, validation, test, classes, (*source.notes, note))


def arrays_of(split: str, source: Source, count: int) -> Iterator[tuple[str, type, tuple[int, ...]]]:
    """Yield name, type and shape of the arrays of a split."""
    if count:
        yield f"{split}.npy", np.uint8, (count, *source.shape)
        if source.classes:
            yield f"{split}-labels.npy", np.int64, (count,)


def block_size(shape: tuple[int, ...]) -> int:
    """Return the number of images in a block."""
    return max(1, BLOCK_BYTES // int(np.prod(shape)))


def _blocks(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Return the first image of each block of `size`, and the one after its last."""
    return ((first, min(first + size, count)) for first in range(0, count, size))


def blocks_of(source: Source) -> Iterator[Block]:
    """Yield all blocks, in the order in which they are written."""
    for split, count in source.counts.items():
        yield from ((split, first, last) for first, last in _blocks(count, block_size(source.shape)))


def mapped(folder: Path, split: str, source: Source) -> list[np.ndarray]:
    """Return the images of a split, mapped, and its labels if there are any; a DataError if they are not those of the index."""
    found: list[np.ndarray] = []
    for file, dtype, shape in arrays_of(split, source, source.counts[split]):
        array = _opened(folder / file)
        if array.dtype != dtype or array.shape != shape:
            raise DataError(
                f"{folder / file}: got {array.dtype} {array.shape}; expected {np.dtype(dtype)} {shape}; pack again"
            )
        found.append(np.asarray(array))
    return found


def _opened(path: Path) -> np.ndarray:
    """Return the array in a file, mapped; changes to it would be private, so PyTorch does not warn that it may write to it."""
    open_regular(path).close()  # raises for a pipe, for which NumPy would wait
    return np.load(path, mmap_mode="c", allow_pickle=False)


def _announced(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, Callable[[np.ndarray], None]]:
    """Return the images in a file, mapped, and what announces those that are needed next.

    Training reads images in random order. Without being told, the operating system reads 128 KiB for each of them, and one after
    another; told early, it reads only them, many at once, while the processor is busy with others.
    """
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        offset = file.tell()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    images = np.frombuffer(mapped, np.uint8, offset=offset).reshape(shape)
    if not hasattr(mmap, "MADV_WILLNEED"):  # Windows
        return images, lambda _: None
    size = int(np.prod(shape[1:]))

    def announce(indices: np.ndarray) -> None:
        for start in np.sort(offset + indices * size).tolist():
            first = start - start % mmap.PAGESIZE
            mapped.madvise(mmap.MADV_WILLNEED, first, start + size - first)

    return images, announce


def _split(folder: Path, split: str, source: Source) -> Split:
    if source.counts[split]:
        images, *labels = mapped(folder, split, source)
        return Split(images, labels[0] if labels else None)
    return Split(np.empty((0, *source.shape), np.uint8), np.empty(0, np.int64) if source.classes else None)


def sums_of(arrays: list[np.ndarray]) -> list[str]:
    """Return SHA-256 of the images of a block, and of their labels if there are any."""
    return [hashlib.sha256(array.data).hexdigest() for array in arrays]


def _check(
    path: Path, source: Source, size: int, blocks: Mapping[str, list[list[str]]], progress: Progress | None
) -> None:
    """Raise a DataError if a block has another checksum than in the index."""
    total, checked = sum(source.counts.values()), 0
    for split, count in source.counts.items():
        for (first, last), expected in zip(_blocks(count, size), blocks.get(split, []), strict=True):
            if sums_of([array[first:last] for array in mapped(path, split, source)]) != expected:
                raise DataError(
                    f"{path / split}.npy: got images {first:,} to {last - 1:,}, or labels, that were altered; expected "
                    "the checksum in the index; copy the pack again, or pack the source again"
                )
            checked += last - first
            if progress:
                progress("checking the pack", checked, total)
