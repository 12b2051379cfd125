"""Folders of images: one folder per class or a single flat folder, optionally inside folders for train, validation and test.

Class names are folder names. Images in subfolders of a class folder belong to that class. A folder that contains nothing but one
folder is the same as that folder.
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
from vaelab.data.names import SPLITS, checked_name, split_folders
from vaelab.errors import DataError

SYSTEM_NAMES = frozenset(
    {
        "__macosx",
        "__pycache__",
        "@eadir",
        "@recycle",
        "@recently-snapshot",
        "#recycle",
        "#snapshot",
        "$recycle.bin",
        "recycler",
        "lost+found",
        "system volume information",
        "found.000",
    }
)
"""Folders, in lower case, that operating systems and network drives put beside a user's own; they are passed over."""

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


_Identity = tuple[int, int]
"""Device and inode of a folder, the same for all links to it."""


def load_image_folder(
    folder: Path,
    reading: Reading = Reading(),  # noqa: B008 - immutable
) -> Dataset:
    """Load a folder of images.

    Folders named like `names.SPLITS`, such as `train/` and `Testing/`, are used as splits; without one for training there are no
    training images. The result is as in `load_image_files`. Raises `DataError` for a folder without images, for images beside
    class folders, a broken image, splits beside other folders, and a class that is missing from `train/`.
    """
    inner = _unwrapped(folder)
    listings = _list_splits(inner)
    classes = None
    if all(listing.classes is not None for listing in listings.values()):
        names = {name for listing in listings.values() for name in listing.classes or ()}
        classes = tuple(sorted(names, key=natural_order))
    notes = []
    if inner != folder:
        notes.append(f"Read the folder {inner.relative_to(folder)} inside it: there are no other images.")
    if subfolders := sum(listing.subfolders for listing in listings.values()):
        notes.append(f"Assigned the images of {subfolders:,} subfolders to the class of the folder that contains them.")
    if ignored := sum((listing.ignored for listing in listings.values()), Counter[str]()):
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(ignored.items()))
        notes.append(f"Ignored everything but {KINDS} images: {kinds}.")
    number = {name: k for k, name in enumerate(classes or ())}
    splits = {
        split: Files(
            listing.paths,
            None if classes is None else np.array([number[name] for name in listing.labels], dtype=np.int64),
        )
        for split, listing in listings.items()
    }
    return load_image_files(folder, folder.absolute().name, splits, classes, reading, notes)


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Sort key that puts "2" before "10"."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _unwrapped(folder: Path) -> Path:
    """Return the folder that a folder consists of: its only folder, if that contains class folders; else itself.

    A single folder inside that one makes it a class folder with a subfolder, unless the outer two have the same name, as after
    unpacking an archive.
    """
    seen = set[_Identity]()
    while (identity := _identity(folder)) not in seen:
        seen.add(identity)
        content = _content(folder)
        if content.images or len(content.folders) != 1 or split_folders([content.folders[0].name]):
            break
        (only,) = content.folders
        inner = _content(only.path)
        names = [entry.name for entry in inner.folders]
        several = len(names) > 1 or split_folders(names)
        if inner.images or not (several or (names and only.name == folder.absolute().name)):
            break
        folder = Path(only.path)
    return folder


def _list_splits(folder: Path) -> dict[str, Listing]:
    """List the images of each split; "train" comes first if present."""
    content = _content(folder)
    names = [entry.name for entry in content.folders]
    found = split_folders(names)
    if not found:
        return {"train": _list_images([folder])[0]}
    others = [name for name in names if name not in found]
    if others or len(set(found.values())) < len(found):
        raise DataError(
            f"{folder}: got the folders {', '.join(sorted([*found, *others]))}; expected only train/, test/ and "
            "validation/ (or val/), or only class folders with other names; rename or move some"
        )
    named = {split: name for split in SPLITS for name in found if found[name] == split}
    listings = dict(zip(named, _list_images([_unwrapped(folder / name) for name in named.values()]), strict=True))
    first = next(iter(listings))
    classes = listings[first].classes
    for split, listing in listings.items():
        if (listing.classes is None) != (classes is None):
            raise DataError(
                f"{folder}: got class folders in only one of {named[first]}/ and {named[split]}/; expected them in both or "
                "neither; move the images into class folders"
            )
        if first == "train" and (unknown := sorted(set(listing.classes or ()) - set(classes or ()))):
            raise DataError(
                f"{folder}: got the class {', '.join(map(repr, unknown))} in {named[split]}/ but not in {named[first]}/; "
                f"expected only {', '.join(classes or ())}"
            )
    if content.images:
        raise DataError(
            f"{folder}: got images beside {named[first]}/; expected none there; move them into {named[first]}/ or one of the "
            "other folders"
        )
    listings[first].ignored.update(content.others)
    return listings


class _ClassFolder:
    """A class folder and what was found in it so far: image paths, counts of other files, and the number of folders."""

    def __init__(self, entry: os.DirEntry[str]) -> None:
        self.entry = entry
        self.paths: list[str] = []
        self.others = Counter[str]()
        self.visited = 0


def _list_images(folders: Sequence[Path]) -> list[Listing]:
    """List the images of each of several folders: those of class folders, or those of a flat folder, in natural order.

    A folder is visited once: first the folders themselves, then the targets of links that are not among them.
    """
    contents = [_content(folder) for folder in folders]
    class_folders = [[_ClassFolder(entry) for entry in content.folders] for content in contents]
    root = folders[0].resolve()
    seen = {_identity(path) for path in (root, *root.parents, *folders)}
    links: list[tuple[_ClassFolder, os.DirEntry[str]]] = []
    for each in (each for several in class_folders for each in several):
        _visit(each, each.entry, seen, links)
    for class_folder, entry in links:  # grows in the loop
        _visit(class_folder, entry, seen, links, follow=True)
    return [_listing(*each) for each in zip(folders, contents, class_folders, strict=True)]


def _visit(
    into: _ClassFolder,
    entry: os.DirEntry[str],
    seen: set[_Identity],
    links: list[tuple[_ClassFolder, os.DirEntry[str]]],
    *,
    follow: bool = False,
) -> None:
    """Add the images of a folder and its subfolders to a class folder, and links to folders to `links` unless `follow`."""
    if entry.is_symlink() and not follow:
        links.append((into, entry))
        return
    identity = _identity(entry.path)
    if identity in seen:
        into.others["link to a folder that is read already"] += 1
        return
    seen.add(identity)
    content = _content(entry.path)
    into.visited += 1
    into.paths += content.images
    into.others += content.others
    for inner in content.folders:
        _visit(into, inner, seen, links)


def _identity(folder: str | Path) -> _Identity:
    state = os.stat(folder)  # noqa: PTH116
    return state.st_dev, state.st_ino


def _listing(folder: Path, content: _Content, class_folders: Sequence[_ClassFolder]) -> Listing:
    """Return the listing of a folder from what was found in its class folders."""
    ignored = Counter(content.others)
    paths: dict[str, list[str]] = {}
    subfolders = 0
    for each in class_folders:
        ignored += each.others
        if each.paths:
            paths.setdefault(checked_name(each.entry.name, str(folder)), []).extend(each.paths)
            subfolders += each.visited - 1
        elif each.visited:
            ignored["folder without images" if each.others or each.visited > 1 else "empty folder"] += 1
    classes = list(paths)
    if content.images and paths:
        name = os.path.basename(content.images[0])  # noqa: PTH119
        raise DataError(
            f"{folder}: got {len(content.images)} images ({name}, …) beside class folders ({classes[0]}, …); "
            "expected only images or only class folders; move the images into class folders"
        )
    if not content.images and not paths:
        got = ", ".join(f"{count} {kind}" for kind, count in sorted(ignored.items())) or "nothing"
        raise DataError(f"{folder}: got {got}; {EXPECTED}")
    labels = [name for name, of_class in paths.items() for _ in of_class]
    listed = [path for of_class in paths.values() for path in of_class]
    return Listing(content.images or listed, labels, classes if paths else None, ignored, subfolders)


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
            hidden = name.startswith(".") or name.lower() in SYSTEM_NAMES
            if not hidden and os.path.splitext(name)[1].lower() in EXTENSIONS and not entry.is_dir():  # noqa: PTH122
                images.append(name)
            elif not entry.is_dir():
                others["hidden" if hidden else os.path.splitext(name)[1].lower() or "without extension"] += 1  # noqa: PTH122
            elif not hidden:
                folders.append(entry)
    images.sort(key=natural_order)
    folders.sort(key=lambda entry: natural_order(entry.name))
    return _Content([os.path.join(folder, name) for name in images], folders, others)  # noqa: PTH118
