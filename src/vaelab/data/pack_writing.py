"""Writing packs, block by block; `vaelab.data.pack` describes and reads them.

A pack is written as FOLDER.partial, and renamed when it is complete. The checksums of the blocks that are on the disk are in
`blocks.jsonl`, so a pack that was interrupted is continued.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vaelab.data.dataset import Dataset, Split, begun_fingerprint
from vaelab.data.pack import (
    FORMAT,
    INDEX,
    MOMENTS,
    Block,
    Read,
    Source,
    arrays_of,
    block_size,
    blocks_of,
    mapped,
    sums_of,
)
from vaelab.data.resize import Progress
from vaelab.errors import DataError, OutputError
from vaelab.files import append_line, atomic_write, cannot_write, expect_room
from vaelab.parts import in_parts
from vaelab.run_lock import holder, locked_by
from vaelab.version import __version__

BLOCKS, PLAN = "blocks.jsonl", "plan.json"
SPARE_BYTES = 64 << 20  # that stay free on the disk


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
    source: Source,
    out: Path,
    moments: Callable[[], MomentsOfParts],
    progress: Progress | None = None,
    *,
    together: bool = False,
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
    together
        Whether all of several processes call this, and each reads some of the images; the first writes (`vaelab.distributed`).

    Raises
    ------
    OutputError
        If `out` exists, another process is packing to it, another pack was interrupted there, or the disk is full or cannot be
        written.
    """
    if together:
        from vaelab import distributed  # imports torch

        if not distributed.is_first():
            done = distributed.broadcast(frozenset[str]())
            in_parts(
                lambda block: _missing(source, block, done), list(blocks_of(source)), lambda *_: None, together=True
            )
            return
    lock = out.with_name(f"{out.name}.partial.lock")

    def in_use() -> OutputError:
        return OutputError(f"{out}: {holder(lock)} is packing to it; wait for its end, or give another `out`")

    with locked_by(lock, in_use):
        if os.path.lexists(out):
            raise OutputError(f"{out}: exists; expected the name of a new pack; delete it or give another `out`")
        _write(source, out, moments, progress, together)


def _write(
    source: Source, out: Path, moments: Callable[[], MomentsOfParts], progress: Progress | None, together: bool
) -> None:
    """Write a pack whose name is locked."""
    folder = partial_folder(out)
    count, total, written = source.counts["train"], sum(source.counts.values()), 0
    fingerprint = begun_fingerprint((count, *source.shape), np.dtype(np.uint8), source.classes)
    of_train = moments()

    def keep(block: Block, read: list[np.ndarray] | None) -> None:
        nonlocal written
        split, first, last = block
        arrays = read or [array[first:last] for array in mapped(folder, split, source)]
        if read is None and sums_of(arrays) != done[_key(block)]:  # altered on the disk
            arrays = read = _read(source, block)
        if read is not None:
            done[_key(block)] = sums_of(read)
            _write_block(folder, split, source, first, read)
            append_line(folder / BLOCKS, json.dumps([_key(block), done[_key(block)]]))
        if split == "train":
            fingerprint.update(arrays[0].data)
            of_train.add(arrays[0])
        written += last - first
        if progress:
            progress("packing", written, total)

    try:
        _begin(source, folder)
        done, blocks = _recorded(folder), list(blocks_of(source))
        known = frozenset(done)
        if together:
            from vaelab import distributed  # imports torch

            distributed.broadcast(known)
        in_parts(lambda block: _missing(source, block, known), blocks, keep, together=together)
        if count:
            for labels in mapped(folder, "train", source)[1:]:
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


def _key(block: Block) -> str:
    return f"{block[0]} {block[1]}"


def _missing(source: Source, block: Block, done: Collection[str]) -> list[np.ndarray] | None:
    """Return the arrays of a block, or None if it is on the disk."""
    return None if _key(block) in done else _read(source, block)


def _read(source: Source, block: Block) -> list[np.ndarray]:
    split, first, last = block
    found = zip(arrays_of(split, source, last - first), source.read[split](first, last), strict=False)
    return [np.ascontiguousarray(values, dtype) for (_, dtype, _), values in found]


def _begin(source: Source, folder: Path) -> None:
    """Create the folder and files of full size; an OutputError if something else was begun there, or the disk is too small."""
    plan = folder / PLAN
    facts = (source.name, source.shape, source.classes, dict(source.counts), source.loading, source.identity)
    wanted = json.dumps([FORMAT, __version__, block_size(source.shape), *facts])
    folder.mkdir(parents=True, exist_ok=True)
    if plan.exists():
        if plan.read_text("utf-8") != wanted:
            raise OutputError(
                f"{folder}: holds the beginning of a pack of other images; delete it, or give another `out`"
            )
        return
    needed = sum(source.counts.values()) * (int(np.prod(source.shape)) + 8) + SPARE_BYTES
    expect_room(folder, needed, "the pack")
    for split, count in source.counts.items():
        for file, dtype, shape in arrays_of(split, source, count):
            with (folder / file).open("wb") as sink:
                header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(sink, header)
                sink.truncate(sink.tell() + int(np.prod(shape)) * np.dtype(dtype).itemsize)
    (folder / BLOCKS).touch()
    with atomic_write(plan) as temporary:
        temporary.write_text(wanted, "utf-8")


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
    for (file, _, _), content in zip(arrays_of(split, source, len(arrays[0])), arrays, strict=True):
        with (folder / file).open("r+b") as sink:  # written, not mapped: a full disk is then an error, not a signal
            np.lib.format.read_magic(sink)
            np.lib.format.read_array_header_1_0(sink)
            sink.seek(first * content[:1].nbytes, os.SEEK_CUR)
            sink.write(content.data)
            sink.flush()
            os.fsync(sink.fileno())


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
        "block_size": block_size(source.shape),
        "blocks": {name: [done[f"{split} {first}"] for split, first, _ in blocks if split == name] for name in splits},
    }
