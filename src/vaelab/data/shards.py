"""Sources made of files that hold many images each, such as `data/train-00000-of-00002.parquet` or `train-000000.tar`."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaelab.data.dataset import Dataset
from vaelab.data.encoded import ImageFile
from vaelab.data.folders import SYSTEM_NAMES, Identity, identity_of, kind_of, natural_order, naturally_sorted
from vaelab.data.formats import EXTENSIONS
from vaelab.data.image_files import Files, Reading, load_image_files
from vaelab.data.links import Links
from vaelab.data.names import SPLITS, split_named
from vaelab.errors import DataError

KINDS = {
    ".parquet": (".parquet",),
    ".tar": (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst"),
}
"""Kinds of files that hold many images, each with the ends of their names."""

MAX_DEPTH = 3
"""Largest number of folders inside one another in which such files are looked for."""


class Shard(NamedTuple):
    """Images of a file, their splits, and their class names, or None; and the order of the classes, if the file has one."""

    images: Sequence[ImageFile]
    splits: Sequence[str]
    labels: Sequence[str] | None
    classes: Sequence[str] = ()


def shard_kind(name: str) -> str | None:
    """Return the kind of a file that holds many images, a key of `KINDS`, by its name; otherwise None."""
    return next((kind for kind, ends in KINDS.items() if name.lower().endswith(ends)), None)


def find_shards(path: Path, reading: Reading) -> list[Path]:
    """Return the files of one kind that a source consists of, in natural order; none if it is something else.

    A folder with image files is one of images, whatever else it contains. Raises `DataError` for a folder with files of several
    kinds, and for a link that leads out of it.
    """
    if not path.is_dir():
        return [path] if shard_kind(path.name) else []
    found = []
    for file in _walk(path, Links(os.path.realpath(path), reading.follow_links), set()):
        if os.path.splitext(file)[1].lower() in EXTENSIONS:  # noqa: PTH122
            return []
        if shard_kind(file):
            found.append(file)
    if len(kinds := {shard_kind(file) for file in found}) > 1:
        raise DataError(
            f"{path}: got files of the kinds {', '.join(sorted(map(str, kinds)))}; expected one; move the others"
        )
    return [Path(file) for file in sorted(found, key=natural_order)]


def _walk(folder: str | Path, links: Links, seen: set[Identity], depth: int = 0) -> Iterator[str]:
    """Yield the files of a folder and then those of its subfolders, each once, but not hidden ones."""
    if (identity := identity_of(folder)) in seen:
        return
    seen.add(identity)
    folders = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in SYSTEM_NAMES:
                continue
            kind = kind_of(entry)
            if entry.is_symlink() and (kind == "folder" or shard_kind(entry.name)):
                links.expect_inside(entry.path)
            if kind == "folder":
                folders.append(entry.path)
            elif kind == "file":
                yield entry.path
    for inner in folders if depth < MAX_DEPTH else ():
        yield from _walk(inner, links, seen, depth + 1)


def splits_of_shards(source: Path, files: Sequence[Path]) -> list[str]:
    """Return the split of each file of a folder: a word of its name, or the name of a folder that contains it; else "train".

    Raises `DataError` if only some of the files name a split.
    """
    if not source.is_dir():
        return ["train"]
    found = [_split_named_in(file.relative_to(source)) for file in files]
    if None in found and any(found):
        raise DataError(
            f"{files[found.index(None)]}: names no split, unlike other files in {source}; expected {', '.join(SPLITS)} in all "
            "names or in none; rename or move it"
        )
    return [split or "train" for split in found]


def _split_named_in(file: Path) -> str | None:
    words = re.split(r"[\s_.-]+", file.name)
    named = {split for word in words if (split := split_named(word))}
    named = named or {split for folder in file.parts[:-1] if (split := split_named(folder))}
    return named.pop() if len(named) == 1 else None


def load_shards(source: Path, shards: Sequence[Shard], reading: Reading, notes: Sequence[str] = ()) -> Dataset:
    """Load the images of the shards of a source, as in `load_image_files`.

    The classes are in the order that the shards state, or in natural order. Raises `DataError` if only some shards have labels.
    """
    shards = [shard for shard in shards if shard.images]
    if not shards:
        raise DataError(f"{source}: got no images; expected at least one")
    images = [image for shard in shards for image in shard.images]
    split_of = np.array([split for shard in shards for split in shard.splits])
    labels, classes = None, None
    if all(shard.labels is not None for shard in shards):
        names = [name for shard in shards for name in shard.labels or ()]
        reading.limits.expect_classes(len(distinct := set(names)), source)
        order = dict.fromkeys(name for shard in shards for name in shard.classes)
        classes = tuple(filter(distinct.__contains__, order) if distinct <= set(order) else naturally_sorted(distinct))
        number = {name: k for k, name in enumerate(classes)}
        labels = np.array([number[name] for name in names], dtype=np.int64)
    elif any(shard.labels is not None for shard in shards):
        raise DataError(
            f"{source}: got labels in only some of its files; expected them in all or none; remove the others"
        )
    splits = {}
    for split in SPLITS:
        if len(rows := np.flatnonzero(split_of == split)):
            splits[split] = Files([images[i] for i in rows], None if labels is None else labels[rows])
    name = source.absolute().name if source.is_dir() else source.absolute().stem
    return load_image_files(source, name, splits, classes, reading, notes)
