"""Folders of images: one folder per class or a single flat folder, optionally inside folders for train, validation and test.

Class names are folder names. Images in subfolders of a class folder belong to that class. A folder that contains nothing but one
folder is the same as that folder.
"""

from __future__ import annotations

import errno
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from vaelab.data.dataset import Dataset
from vaelab.data.formats import EXTENSIONS, KINDS
from vaelab.data.image_files import Files, Reading, load_image_files
from vaelab.data.limits import Limits
from vaelab.data.links import Links
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

MAX_DEPTH = 64
"""Largest number of folders inside one another, within a class folder."""

_ASCII_DIGITS = str.maketrans("0123456789", "0" * 10)


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


Identity = tuple[int, int]
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
    reader = _Reader(Links(os.path.realpath(folder), reading.follow_links), reading.limits)
    inner = _unwrapped(folder, reader)
    listings = _list_splits(inner, reader)
    classes = None
    if all(listing.classes is not None for listing in listings.values()):
        names = {name for listing in listings.values() for name in listing.classes or ()}
        reading.limits.expect_classes(len(names), folder)
        classes = tuple(naturally_sorted(names))
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


def naturally_sorted(names: Iterable[str]) -> list[str]:
    """Return names in natural order."""
    names = list(names)
    same_digits = len({name.translate(_ASCII_DIGITS) for name in names}) < 2  # numbers of one length at the same places
    return sorted(names, key=None if same_digits else natural_order)


def _unwrapped(folder: Path, reader: _Reader) -> Path:
    """Return the folder that a folder consists of: its only folder, if that contains class folders; else itself.

    A single folder inside that one makes it a class folder with a subfolder, unless the outer two have the same name, as after
    unpacking an archive.
    """
    seen = set[Identity]()
    while (identity := identity_of(folder)) not in seen:
        seen.add(identity)
        content = reader.content(folder)
        if content.images or len(content.folders) != 1 or split_folders([content.folders[0].name]):
            break
        (only,) = content.folders
        inner = reader.content(only.path)
        names = [entry.name for entry in inner.folders]
        several = len(names) > 1 or split_folders(names)
        if inner.images or not (several or (names and only.name == folder.absolute().name)):
            break
        folder = Path(only.path)
    return folder


def _list_splits(folder: Path, reader: _Reader) -> dict[str, Listing]:
    """List the images of each split; "train" comes first if present."""
    content = reader.content(folder)
    names = [entry.name for entry in content.folders]
    found = split_folders(names)
    if not found:
        return {"train": _list_images([folder], reader)[0]}
    others = [name for name in names if name not in found]
    if others or len(set(found.values())) < len(found):
        raise DataError(
            f"{folder}: got the folders {', '.join(sorted([*found, *others]))}; expected only train/, test/ and "
            "validation/ (or val/), or only class folders with other names; rename or move some"
        )
    named = {split: name for split in SPLITS for name in found if found[name] == split}
    inner = [_unwrapped(folder / name, reader) for name in named.values()]
    listings = dict(zip(named, _list_images(inner, reader), strict=True))
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


def _list_images(folders: Sequence[Path], reader: _Reader) -> list[Listing]:
    """List the images of each of several folders: those of class folders, or those of a flat folder, in natural order.

    A folder is visited once: first the folders themselves, then the targets of links that are not among them.
    """
    contents = [reader.content(folder) for folder in folders]
    class_folders = [[_ClassFolder(entry) for entry in content.folders] for content in contents]
    root = folders[0].resolve()
    seen = {identity_of(path) for path in (root, *root.parents, *folders)}
    links: list[tuple[_ClassFolder, os.DirEntry[str]]] = []
    for each in (each for several in class_folders for each in several):
        reader.visit(each, each.entry, seen, links)
    for class_folder, entry in links:  # grows in the loop
        reader.visit(class_folder, entry, seen, links, follow=True)
    return [_listing(*each) for each in zip(folders, contents, class_folders, strict=True)]


class _Reader(NamedTuple):
    """Read the content of folders, within the limits of what links and folders may do."""

    links: Links
    limits: Limits

    def visit(
        self,
        into: _ClassFolder,
        entry: os.DirEntry[str],
        seen: set[Identity],
        links: list[tuple[_ClassFolder, os.DirEntry[str]]],
        *,
        follow: bool = False,
        depth: int = 0,
    ) -> None:
        """Add the images of a folder and its subfolders to a class folder, and links to folders to `links` unless `follow`."""
        if entry.is_symlink() and not follow:
            links.append((into, entry))
            return
        identity = identity_of(entry.path)
        if identity in seen:
            into.others["link to a folder that is read already"] += 1
            return
        if depth > MAX_DEPTH:
            raise DataError(
                f"{entry.path}: got more than {MAX_DEPTH} folders inside one another; expected fewer; move the images up"
            )
        seen.add(identity)
        content = self.content(entry.path, of_classes=False)
        into.visited += 1
        into.paths += content.images
        into.others += content.others
        for inner in content.folders:
            self.visit(into, inner, seen, links, depth=depth + 1)

    def content(self, folder: str | Path, *, of_classes: bool = True) -> _Content:
        """List the images of a folder (by extension), its subfolders, and the number of other files of each kind.

        With `of_classes`, the number of subfolders is limited to that of classes. Uses file names: creating a `Path` for each of
        100,000 files takes seconds.
        """
        images: list[str] = []
        folders: list[os.DirEntry[str]] = []
        others = Counter[str]()
        with os.scandir(folder) as entries:
            for entry in entries:
                name, kind = entry.name, kind_of(entry)
                extension = os.path.splitext(name)[1].lower()  # noqa: PTH122
                if name.startswith(".") or name.lower() in SYSTEM_NAMES:
                    others["hidden"] += kind != "folder"
                    continue
                if kind == "folder":
                    folders.append(entry)
                    if of_classes and len(folders) > self.limits.classes:
                        raise DataError(
                            f"{folder}: got more than {self.limits.classes:,} folders; expected one per class; `max_classes` "
                            "raises the limit"
                        )
                elif kind == "file" and extension in EXTENSIONS:
                    images.append(name)
                else:
                    others["pipe, socket or device" if kind == "special" else extension or "without extension"] += 1
                    continue
                if entry.is_symlink():
                    self.links.expect_inside(entry.path)
        images = naturally_sorted(images)
        folders.sort(key=lambda entry: natural_order(entry.name))
        return _Content([os.path.join(folder, name) for name in images], folders, +others)  # noqa: PTH118


def kind_of(entry: os.DirEntry[str]) -> Literal["folder", "file", "special"]:
    """Return the kind of an entry or of its link's target; a link that leads nowhere is a file, which cannot be read."""
    try:
        if entry.is_dir():
            return "folder"
        regular = entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))  # noqa: PTH110
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        regular = True
    return "file" if regular else "special"


def identity_of(folder: str | Path) -> Identity:
    """Return the identity of a folder, or of the one that a link leads to."""
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
