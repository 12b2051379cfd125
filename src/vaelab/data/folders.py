"""Folders of images: a folder for each class or all in one, with train/ and test/ or without.

Class names are the folders' names; the images of folders further in belong to the class folder that they are in.
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
NOT_LISTED = frozenset({"__MACOSX"})
EXPECTED = f"expected {KINDS} images, or a folder of them for each class"


class Listing(NamedTuple):
    """The images of one folder by class; `classes` is None for a flat folder without labels."""

    paths: list[str]
    labels: list[str]
    classes: list[str] | None
    ignored: Counter[str]
    inner: int
    """How many folders there are inside class folders."""


class _Content(NamedTuple):
    """What a folder holds, each in natural order."""

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
    """The dataset of a folder of images.

    `train/`, `test/` and `validation/` or `val/` are honoured; without `train/` there is nothing to train on. The images
    are grey if all of them are, else RGB. Images of mixed sizes need a `size` (H, W). Raises `DataError` for a folder
    without images or with loose images beside class folders, a broken image, mixed sizes without `size`, and a class
    that train/ does not have.
    """
    listings = _list_splits(folder)
    classes = None
    if all(listing.classes is not None for listing in listings.values()):
        names = {name for listing in listings.values() for name in listing.classes or ()}
        classes = tuple(sorted(names, key=natural_order))
    notes = []
    if ignored := sum((listing.ignored for listing in listings.values()), Counter[str]()):
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(ignored.items()))
        notes.append(f"Ignored what is no {KINDS} image: {kinds}.")
    if inner := sum(listing.inner for listing in listings.values()):
        notes.append(f"Counted the images of {inner:,} inner folders to the class folders that they are in.")
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
    """Sorting key under which "2" comes before "10"."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _list_splits(folder: Path) -> dict[str, Listing]:
    """What the folder holds, by split; "train" comes first where it is there."""
    content = _content(folder)
    names = [entry.name for entry in content.folders]
    splits = [name for name in SPLIT_FOLDERS if name in names]
    if not splits:
        return {"train": _list_images(folder, content)}
    others = [name for name in names if name not in SPLIT_FOLDERS]
    if others or {"val", "validation"} <= set(splits):
        raise DataError(
            f"{folder}: got the folders {', '.join(sorted([*splits, *others]))}; expected train/ and "
            "beside it only test/ and validation/ (or val/), or else class folders of other names; "
            "rename or move some"
        )
    listings = {SPLIT_FOLDERS[name]: _list_images(folder / name, _content(folder / name)) for name in splits}
    first, leading = next(iter(listings.items()))
    for split, listing in listings.items():
        if (listing.classes is None) != (leading.classes is None):
            raise DataError(
                f"{folder}: got class folders in only one of {first}/ and {split}/; expected them in both or "
                "neither; move the images into class folders"
            )
        if first == "train" and (unknown := sorted(set(listing.classes or ()) - set(leading.classes or ()))):
            raise DataError(
                f"{folder}: got the class {', '.join(map(repr, unknown))} in {split}/ but not in train/; "
                f"expected only {', '.join(leading.classes or ())}"
            )
    if content.images:
        raise DataError(
            f"{folder}: got loose images beside {first}/; expected all images in {first}/ or the other folders"
        )
    leading.ignored.update(content.others)
    return listings


def _list_images(folder: Path, content: _Content) -> Listing:
    """The images of class folders, or those of the folder itself, in natural order."""
    ignored = Counter(content.others)
    paths: list[str] = []
    labels: list[str] = []
    classes: list[str] = []
    folders_inside = 0
    for entry in content.folders:
        before = len(paths)
        walked, others = _collect_below(entry.path, paths, ())
        ignored += others
        if len(paths) == before:
            ignored["folder without images" if others or walked > 1 else "empty folder"] += 1
            continue
        folders_inside += walked - 1
        classes.append(entry.name)
        labels += [entry.name] * (len(paths) - before)
    if content.images and paths:
        loose = os.path.basename(content.images[0])  # noqa: PTH119
        raise DataError(
            f"{folder}: got {len(content.images)} loose images ({loose}, …) beside class folders "
            f"({classes[0]}, …); expected one or the other; move the images into class folders"
        )
    if not content.images and not paths:
        got = ", ".join(f"{count} {kind}" for kind, count in sorted(ignored.items())) or "nothing"
        raise DataError(f"{folder}: got {got}; {EXPECTED}")
    return Listing(content.images or paths, labels, classes if paths else None, ignored, folders_inside)


def _collect_below(folder: str, paths: list[str], above: Sequence[tuple[int, int]]) -> tuple[int, Counter[str]]:
    """Add the images in a folder and further in to `paths`; how many folders that are, and what else is in them."""
    state = os.stat(folder)  # noqa: PTH116
    here = (state.st_dev, state.st_ino)
    if here in above:  # a link to a folder that it is in
        return 0, Counter()
    content = _content(folder)
    paths += content.images
    walked, others = 1, Counter(content.others)
    for entry in content.folders:
        more, kinds = _collect_below(entry.path, paths, (*above, here))
        walked += more
        others += kinds
    return walked, others


def _content(folder: str | Path) -> _Content:
    """The images of a folder by their names' endings, the folders in it, and how many other files there are of each kind.

    Works on names, not on a `Path` for each file, which would take seconds for 100,000.
    """
    images: list[str] = []
    folders: list[os.DirEntry[str]] = []
    others = Counter[str]()
    with os.scandir(folder) as entries:
        for entry in entries:
            name = entry.name
            hidden = name.startswith(".") or name in NOT_LISTED
            if not hidden and os.path.splitext(name)[1].lower() in EXTENSIONS and not entry.is_dir():  # noqa: PTH122
                images.append(name)
            elif not entry.is_dir():
                others["hidden" if hidden else os.path.splitext(name)[1].lower() or "without extension"] += 1  # noqa: PTH122
            elif not hidden:
                folders.append(entry)
    images.sort(key=natural_order)
    folders.sort(key=lambda entry: natural_order(entry.name))
    return _Content([os.path.join(folder, name) for name in images], folders, others)  # noqa: PTH118
