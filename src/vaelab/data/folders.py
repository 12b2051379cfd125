"""Folders of images: one folder per class or a single flat folder, optionally inside train/, test/ and validation/.

Class names are folder names. Images in subfolders of a class folder belong to that class.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vaelab.data.dataset import Dataset
from vaelab.data.formats import EXTENSIONS, KINDS
from vaelab.data.image_files import Files, Reading, load_image_files
from vaelab.data.resize import Fit, Progress
from vaelab.data.select import EVERYTHING, Selection
from vaelab.errors import DataError

SPLIT_FOLDERS = {"train": "train", "test": "test", "validation": "validation", "val": "validation"}
IGNORED_NAMES = frozenset({"__MACOSX"})
EXPECTED = f"expected {KINDS} images, or one folder of them per class"


class Listing(NamedTuple):
    """Image paths of one split, their labels, and the class names; `classes` is None for a flat folder without labels."""

    paths: list[str]
    labels: list[str]
    classes: list[str] | None
    ignored: Counter[str]
    subfolders: int
    """Number of folders inside class folders."""


class _Content(NamedTuple):
    """Image paths, subfolders (both in natural order), and counts of other files by kind."""

    images: list[str]
    folders: list[os.DirEntry[str]]
    others: Counter[str]


def load_image_folder(
    folder: Path,
    *,
    size: tuple[int, int] | None = None,
    fit: Fit = "crop",
    seed: int = 0,
    skip_broken: bool = False,
    selection: Selection = EVERYTHING,
    progress: Progress | None = None,
) -> Dataset:
    """Load a folder of images.

    The folders `train/`, `test/` and `validation/` or `val/` are used as splits; without `train/` there are no training images.
    The result is grey if all images are grey, otherwise RGB. Images of different sizes require `size` (H, W). Raises
    `DataError` for a folder without images, for images beside class folders, a broken image, different sizes without `size`,
    and a class that is missing from `train/`.
    """
    listings = _list_splits(folder)
    classes = None
    if all(listing.classes is not None for listing in listings.values()):
        names = {name for listing in listings.values() for name in listing.classes or ()}
        classes = tuple(sorted(names, key=natural_order))
    notes = []
    if ignored := sum((listing.ignored for listing in listings.values()), Counter[str]()):
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(ignored.items()))
        notes.append(f"Ignored everything but {KINDS} images: {kinds}.")
    if subfolders := sum(listing.subfolders for listing in listings.values()):
        notes.append(f"Assigned the images of {subfolders:,} subfolders to the class of the folder that contains them.")
    number = {name: k for k, name in enumerate(classes or ())}
    splits = {
        split: Files(
            listing.paths,
            None if classes is None else np.array([number[name] for name in listing.labels], dtype=np.int64),
        )
        for split, listing in listings.items()
    }
    reading = Reading(size, fit, seed, skip_broken, selection, progress)
    return load_image_files(folder, folder.absolute().name, splits, classes, reading, notes)


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Sort key that puts "2" before "10"."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _list_splits(folder: Path) -> dict[str, Listing]:
    """List the images of each split; "train" comes first if present."""
    content = _content(folder)
    names = [entry.name for entry in content.folders]
    splits = [name for name in SPLIT_FOLDERS if name in names]
    if not splits:
        return {"train": _list_images(folder, content)}
    others = [name for name in names if name not in SPLIT_FOLDERS]
    if others or {"val", "validation"} <= set(splits):
        raise DataError(
            f"{folder}: got the folders {', '.join(sorted([*splits, *others]))}; expected only train/, test/ and "
            "validation/ (or val/), or only class folders with other names; rename or move some"
        )
    listings = {SPLIT_FOLDERS[name]: _list_images(folder / name, _content(folder / name)) for name in splits}
    first = next(iter(listings))
    classes = listings[first].classes
    for split, listing in listings.items():
        if (listing.classes is None) != (classes is None):
            raise DataError(
                f"{folder}: got class folders in only one of {first}/ and {split}/; expected them in both or "
                "neither; move the images into class folders"
            )
        if first == "train" and (unknown := sorted(set(listing.classes or ()) - set(classes or ()))):
            raise DataError(
                f"{folder}: got the class {', '.join(map(repr, unknown))} in {split}/ but not in train/; "
                f"expected only {', '.join(classes or ())}"
            )
    if content.images:
        raise DataError(
            f"{folder}: got images beside {first}/; expected none there; move them into {first}/ or one of the other folders"
        )
    listings[first].ignored.update(content.others)
    return listings


def _list_images(folder: Path, content: _Content) -> Listing:
    """List the images of class folders, or those of a flat folder, in natural order."""
    ignored = Counter(content.others)
    paths: list[str] = []
    labels: list[str] = []
    classes: list[str] = []
    subfolders = 0
    for entry in content.folders:
        before = len(paths)
        visited, others = _collect_recursively(entry.path, paths, ())
        ignored += others
        if len(paths) == before:
            ignored["folder without images" if others or visited > 1 else "empty folder"] += 1
            continue
        subfolders += visited - 1
        classes.append(entry.name)
        labels += [entry.name] * (len(paths) - before)
    if content.images and paths:
        name = os.path.basename(content.images[0])  # noqa: PTH119
        raise DataError(
            f"{folder}: got {len(content.images)} images ({name}, …) beside class folders ({classes[0]}, …); "
            "expected only images or only class folders; move the images into class folders"
        )
    if not content.images and not paths:
        got = ", ".join(f"{count} {kind}" for kind, count in sorted(ignored.items())) or "nothing"
        raise DataError(f"{folder}: got {got}; {EXPECTED}")
    return Listing(content.images or paths, labels, classes if paths else None, ignored, subfolders)


def _collect_recursively(folder: str, paths: list[str], parents: Sequence[tuple[int, int]]) -> tuple[int, Counter[str]]:
    """Append the images of a folder and its subfolders to `paths`; return the number of folders and the other files by kind."""
    state = os.stat(folder)  # noqa: PTH116
    identity = (state.st_dev, state.st_ino)
    if identity in parents:  # a symbolic link to one of its parents
        return 0, Counter()
    content = _content(folder)
    paths += content.images
    visited, others = 1, Counter(content.others)
    for entry in content.folders:
        visited_below, others_below = _collect_recursively(entry.path, paths, (*parents, identity))
        visited += visited_below
        others += others_below
    return visited, others


def _content(folder: str | Path) -> _Content:
    """List the images of a folder (by extension), its subfolders, and the number of other files of each kind.

    Uses file names: creating a `Path` for each of 100,000 files takes seconds.
    """
    images: list[str] = []
    folders: list[os.DirEntry[str]] = []
    others = Counter[str]()
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            hidden = name.startswith(".") or name in IGNORED_NAMES
            if not hidden and os.path.splitext(name)[1].lower() in EXTENSIONS and not entry.is_dir():  # noqa: PTH122
                images.append(name)
            elif not entry.is_dir():
                others["hidden" if hidden else os.path.splitext(name)[1].lower() or "without extension"] += 1  # noqa: PTH122
            elif not hidden:
                folders.append(entry)
    images.sort(key=natural_order)
    folders.sort(key=lambda entry: natural_order(entry.name))
    return _Content([os.path.join(folder, name) for name in images], folders, others)  # noqa: PTH118
