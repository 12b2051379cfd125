"""Packs: the images and labels of a data set in files that are memory-mapped, for data larger than memory.

A pack is a folder of

    pack.json                  what `_index` writes
    train.npy, …               images of each split that is not empty, uint8 (N, C, H, W)
    train-labels.npy, …        their labels, int64 (N,), if there are any
    moments.npy                mean, variance and covariance of the training images' pixels, as `vaelab.models.moments` has them

It is written as FOLDER.partial, block by block, and renamed when it is complete. The checksums of the blocks that are on the disk
are in `blocks.jsonl`, so a pack that was interrupted is continued.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from vaelab.data.dataset import Dataset, Known, Loading, Split, begun_fingerprint
from vaelab.data.resize import Progress
from vaelab.errors import DataError, OutputError
from vaelab.files import append_line, atomic_write, cannot_write, open_regular
from vaelab.parts import in_parts
from vaelab.run_lock import holder, locked_by
from vaelab.version import __version__

INDEX, BLOCKS, MOMENTS, PLAN = "pack.json", "blocks.jsonl", "moments.npy", "plan.json"
FORMAT = 1
BLOCK_BYTES = 16 << 20  # of images, which are written and checked together
CHECKED_BYTES = 1 << 30  # of a pack: if it has more, checksums are compared by `vaelab data` only
MAX_INDEX = 256 << 20  # bytes of an index: of a pack of 20 TB
SPARE_BYTES = 64 << 20  # that stay free on the disk

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


def source_of(dataset: Dataset) -> Source:
    """Return a data set that is in memory as the source of a pack. A DataError if it is a table of numbers."""
    splits = {name: dataset.part(name) for name in ("train", "validation", "test")}
    shape = dataset.shape
    if len(shape) != 3:
        raise DataError(f"{dataset.name}: got a table of numbers; expected images: tables are kept in memory")

    def reader(split: Split) -> Read:
        labels = split.labels
        return lambda first, last: (split.images[first:last], None if labels is None else labels[first:last])

    return Source(
        dataset.name,
        (shape[0], shape[1], shape[2]),
        dataset.classes,
        {name: len(split) for name, split in splits.items()},
        {name: reader(split) for name, split in splits.items()},
        dataset.notes,
        dataset.loading,
    )


def partial_folder(out: Path) -> Path:
    """Return where a pack is written before it is complete."""
    return out.with_name(f"{out.name}.partial")


class MomentsOfParts(Protocol):
    """Computes the content of `moments.npy` from parts of the training images."""

    def add(self, images: np.ndarray, /) -> None: ...
    def planes(self) -> np.ndarray: ...


def write_pack(
    source: Source, out: Path, moments: Callable[[], MomentsOfParts], progress: Progress | None = None
) -> None:
    """Write `source` as the pack `out`, or continue to do so.

    Parameters
    ----------
    source
        The images. Reading the same ones again must give the same result.
    out
        Folder that does not exist yet.
    moments
        Makes what computes the content of `moments.npy`.
    progress
        Callback with a description, the number of images written, and the total.

    Raises
    ------
    OutputError
        If `out` exists, another process is packing to it, another pack was interrupted there, or the disk is full or cannot be
        written.
    """
    lock = out.with_name(f"{out.name}.partial.lock")

    def in_use() -> OutputError:
        return OutputError(f"{out}: {holder(lock)} is packing to it; wait for its end, or give another `out`")

    with locked_by(lock, in_use):
        if os.path.lexists(out):
            raise OutputError(f"{out}: exists; expected the name of a new pack; delete it or give another `out`")
        _write(source, out, moments, progress)


def _write(source: Source, out: Path, moments: Callable[[], MomentsOfParts], progress: Progress | None) -> None:
    """Write a pack whose name is locked."""
    folder = partial_folder(out)
    count, total, written = source.counts["train"], sum(source.counts.values()), 0
    fingerprint = begun_fingerprint((count, *source.shape), np.dtype(np.uint8), source.classes)
    of_train = moments()

    def content(block: Block) -> tuple[list[np.ndarray], list[str] | None]:
        """Return the arrays of a block, and their checksums if they are on the disk."""
        split, first, last = block
        if (checks := done.get(f"{split} {first}")) is not None:
            arrays = [array[first:last] for array in _mapped(folder, split, source)]
            if _sums(arrays) == checks:
                return arrays, checks
        read = zip(_arrays(split, source, last - first), source.read[split](first, last), strict=False)
        return [np.ascontiguousarray(values, dtype) for (_, dtype, _), values in read], None

    def keep(block: Block, found: tuple[list[np.ndarray], list[str] | None]) -> None:
        nonlocal written
        (split, first, last), (arrays, checks) = block, found
        if checks is None:
            checks = done[key := f"{split} {first}"] = _sums(arrays)
            _write_block(folder, split, source, first, arrays)
            append_line(folder / BLOCKS, json.dumps([key, checks]))
        if split == "train":
            fingerprint.update(arrays[0].data)
            of_train.add(arrays[0])
        written += last - first
        if progress:
            progress("packing", written, total)

    try:
        _begin(source, folder)
        done, blocks = _recorded(folder), list(_blocks_of(source))
        in_parts(content, blocks, keep)
        if count:
            for labels in _mapped(folder, "train", source)[1:]:
                fingerprint.update(labels.data)
            with atomic_write(folder / MOMENTS) as temporary:
                np.save(temporary, of_train.planes())
        with atomic_write(folder / INDEX) as temporary:
            temporary.write_text(json.dumps(_index(source, blocks, done, fingerprint.hexdigest())), "utf-8")
        folder.rename(out)
        for file in (BLOCKS, PLAN):
            (out / file).unlink()
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise cannot_write(folder, error) from error


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


def _begin(source: Source, folder: Path) -> None:
    """Create the folder and files of full size; an OutputError if something else was begun there, or the disk is too small."""
    plan = folder / PLAN
    facts = (source.name, source.shape, source.classes, dict(source.counts), source.loading, source.identity)
    wanted = json.dumps([FORMAT, __version__, _block_size(source.shape), *facts])
    folder.mkdir(parents=True, exist_ok=True)
    if plan.exists():
        if plan.read_text("utf-8") != wanted:
            raise OutputError(
                f"{folder}: holds the beginning of a pack of other images; delete it, or give another `out`"
            )
        return
    needed = sum(source.counts.values()) * (int(np.prod(source.shape)) + 8) + SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"{folder}: got {free / 2**30:.3g} GiB free on this disk; expected {needed / 2**30:.3g} GiB for the pack; make room, "
            "or give another `out`"
        )
    for split, count in source.counts.items():
        for file, dtype, shape in _arrays(split, source, count):
            with (folder / file).open("wb") as sink:
                header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(sink, header)
                sink.truncate(sink.tell() + int(np.prod(shape)) * np.dtype(dtype).itemsize)
    (folder / BLOCKS).touch()
    with atomic_write(plan) as temporary:
        temporary.write_text(wanted, "utf-8")


def _arrays(split: str, source: Source, count: int) -> Iterator[tuple[str, type, tuple[int, ...]]]:
    """Yield name, type and shape of the arrays of a split."""
    if count:
        yield f"{split}.npy", np.uint8, (count, *source.shape)
        if source.classes:
            yield f"{split}-labels.npy", np.int64, (count,)


def _block_size(shape: tuple[int, ...]) -> int:
    return max(1, BLOCK_BYTES // int(np.prod(shape)))


def _blocks(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Return the first image of each block of `size`, and the one after its last."""
    return ((first, min(first + size, count)) for first in range(0, count, size))


def _blocks_of(source: Source) -> Iterator[Block]:
    for split, count in source.counts.items():
        yield from ((split, first, last) for first, last in _blocks(count, _block_size(source.shape)))


def _recorded(folder: Path) -> dict[str, list[str]]:
    """Return the checksums of the blocks that were written; a last line that is cut off counts for nothing."""
    found = {}
    for line in (folder / BLOCKS).read_text("utf-8").splitlines():
        try:
            key, sums = json.loads(line)
        except ValueError:
            continue
        found[key] = sums
    return found


def _write_block(folder: Path, split: str, source: Source, first: int, arrays: list[np.ndarray]) -> None:
    for (file, _, _), content in zip(_arrays(split, source, len(arrays[0])), arrays, strict=True):
        with (folder / file).open("r+b") as sink:  # written, not mapped: a full disk is then an error, not a signal
            np.lib.format.read_magic(sink)
            np.lib.format.read_array_header_1_0(sink)
            sink.seek(first * content[:1].nbytes, os.SEEK_CUR)
            sink.write(content.data)
            sink.flush()
            os.fsync(sink.fileno())


def _mapped(folder: Path, split: str, source: Source) -> list[np.ndarray]:
    """Return the images of a split, mapped, and its labels if there are any; a DataError if they are not those of the index."""
    found: list[np.ndarray] = []
    for file, dtype, shape in _arrays(split, source, source.counts[split]):
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
        images, *labels = _mapped(folder, split, source)
        return Split(images, labels[0] if labels else None)
    return Split(np.empty((0, *source.shape), np.uint8), np.empty(0, np.int64) if source.classes else None)


def _sums(arrays: list[np.ndarray]) -> list[str]:
    """Return SHA-256 of the images of a block, and of their labels if there are any."""
    return [hashlib.sha256(array.data).hexdigest() for array in arrays]


def _check(
    path: Path, source: Source, size: int, blocks: Mapping[str, list[list[str]]], progress: Progress | None
) -> None:
    """Raise a DataError if a block has another checksum than in the index."""
    total, checked = sum(source.counts.values()), 0
    for split, count in source.counts.items():
        for (first, last), expected in zip(_blocks(count, size), blocks.get(split, []), strict=True):
            if _sums([array[first:last] for array in _mapped(path, split, source)]) != expected:
                raise DataError(
                    f"{path / split}.npy: got images {first:,} to {last - 1:,}, or labels, that were altered; expected "
                    "the checksum in the index; copy the pack again, or pack the source again"
                )
            checked += last - first
            if progress:
                progress("checking the pack", checked, total)


def _index(source: Source, blocks: list[Block], done: Mapping[str, list[str]], fingerprint: str) -> dict[str, Any]:
    splits = [split for split, count in source.counts.items() if count]
    return {
        "format": FORMAT,
        "vaelab": __version__,
        "name": source.name,
        "shape": source.shape,
        "classes": source.classes,
        "counts": source.counts,
        "notes": (*source.notes, *(source.later() if source.later else ())),
        "fingerprint": fingerprint,
        "block_size": _block_size(source.shape),
        "blocks": {name: [done[f"{split} {first}"] for split, first, _ in blocks if split == name] for name in splits},
    }
