"""Image files, listed by a folder or a table, become a dataset: parted, selected, decoded or taken from the cache.

What is not needed is not decoded: splits, classes and limit are settled on the files' positions first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import __version__ as pillow_version

from vaelab.data.arrays import MOST_NAMED, Part, arrange, as_dataset, class_notes
from vaelab.data.cache import Entry, entry_for, load_entry, save_entry
from vaelab.data.dataset import Dataset
from vaelab.data.decoding import MANY_FILES, decode_images
from vaelab.data.formats import Decoded, header_size, only_bombs_warn
from vaelab.data.resize import Fit, Progress, fit_note
from vaelab.data.select import EVERYTHING, Selection, select
from vaelab.errors import DataError, counted


class Files(NamedTuple):
    """The files of one split, and the label of each as a position among the classes, or None."""

    paths: list[str]
    labels: np.ndarray | None


class Reading(NamedTuple):
    """How files are read; the fields are those of `load_dataset`."""

    size: tuple[int, int] | None = None
    fit: Fit = "crop"
    seed: int = 0
    skip_broken: bool = False
    selection: Selection = EVERYTHING
    progress: Progress | None = None


class _Read(NamedTuple):
    """uint8 images (M, C, H, W), which of the files (M,) they are of, and what was done."""

    images: np.ndarray
    positions: np.ndarray
    notes: list[str]


def load_image_files(
    source: Path,
    name: str,
    splits: Mapping[str, Files],
    classes: tuple[str, ...] | None,
    reading: Reading,
    notes: Sequence[str] = (),
) -> Dataset:
    """The dataset of a source's files.

    The images are grey if all of them are, else RGB. Raises `DataError` for a broken image (unless those are skipped), and
    for images of several sizes where no size is asked for.
    """
    paths = [path for files in splits.values() for path in files.paths]
    given, start = {}, 0
    for split, files in splits.items():
        stop = start + len(files.paths)
        given[split] = Part(np.arange(start, stop), files.labels)
        start = stop
    arranged = arrange(name, given, classes=classes, seed=reading.seed)
    chosen = select(arranged.parts, arranged.classes, reading.selection, reading.seed)

    needed = np.sort(np.concatenate([part.images for part in chosen.parts.values()]))
    read = _read_or_recall(source, [paths[i] for i in needed], reading)
    row = np.full(len(paths), -1)
    row[needed[read.positions]] = np.arange(len(read.positions))
    parts = {}
    for split, part in chosen.parts.items():
        present = part.at(np.flatnonzero(row[part.images] >= 0))
        parts[split] = Part(read.images[row[present.images]], present.labels)
    limited = reading.selection.limit is not None
    broken = [paths[i] for i in np.delete(needed, read.positions)]
    said = [*read.notes, *notes, *arranged.notes, *chosen.notes, *_left_out(source, broken, parts)]
    return as_dataset(name, parts, chosen.classes, [*said, *class_notes(parts, chosen.classes, limited=limited)])


def _read_or_recall(source: Path, paths: Sequence[str], reading: Reading) -> _Read:
    """The images, from the cache where all the files are as they were."""
    if len(paths) < MANY_FILES:
        return _read(source, paths, reading)
    entry = _entry(source, paths, reading)
    if (kept := load_entry(entry)) is not None:
        images, note = kept
        positions = np.setdiff1d(np.arange(len(paths)), np.array(note["left_out"], dtype=np.int64))
        if len(images) == len(positions):
            again = f"Took the decoded images from {entry.path}, since no file has changed."
            return _Read(images, positions, [*note["notes"], again])
    read = _read(source, paths, reading)
    left_out = np.setdiff1d(np.arange(len(paths)), read.positions).tolist()
    if save_entry(entry, read.images, {"notes": read.notes, "left_out": left_out}):
        read.notes.append(f"Kept the decoded images in {entry.path.parent}, for a quicker start.")
    return read


def _entry(source: Path, paths: Sequence[str], reading: Reading) -> Entry:
    """What the cache calls these files, read in this way, in the state that they are in."""
    root = str(_root(source))
    states = []
    for path in paths:
        name = path.removeprefix(root)
        try:
            state = os.stat(path)  # noqa: PTH116 - a Path for each of many files takes as long as all the rest
            states.append(f"{name}\0{state.st_size}\0{state.st_mtime_ns}")
        except OSError:
            states.append(name)
    request = (pillow_version, reading.size, reading.fit, reading.skip_broken, reading.selection)
    seed = reading.seed if reading.selection.limit is not None else None
    return entry_for(source, (*request, seed), os.fsencode("\n".join(states)))


def _read(source: Path, paths: Sequence[str], reading: Reading) -> _Read:
    """The images, decoded."""
    with only_bombs_warn():
        size = reading.size or _first_size(paths, reading.skip_broken)
        fit = reading.fit if reading.size else None
        return _collect(source, paths, size, fit, reading)


def _collect(source: Path, paths: Sequence[str], size: tuple[int, int], fit: Fit | None, reading: Reading) -> _Read:
    images = _allocate(source, (len(paths), 1, *size))
    read: list[Decoded] = []
    positions: list[int] = []
    for i, image in enumerate(decode_images(paths, size, fit)):
        if image.error:
            if not reading.skip_broken:
                raise DataError(image.error)
        elif image.pixels is None:
            raise _mixed(source, paths, image.size)
        else:
            if len(image.pixels) > images.shape[1]:  # the first image in colour
                wide = _allocate(source, (len(paths), 3, *size))
                wide[: len(read)] = images[: len(read)]
                images = wide
            images[len(read)] = image.pixels
            read.append(image._replace(pixels=image.pixels[:, :0]))  # its channels are still told
            positions.append(i)
        if reading.progress:
            reading.progress("reading images", i + 1, len(paths))
    if not read:
        which = "none of which can" if len(paths) > 1 else "which cannot"
        raise DataError(
            f"{source}: got {counted(len(paths), 'file')}, {which} be read; expected images: look at {paths[0]}"
        )
    return _Read(images[: len(read)], np.array(positions), _notes(read, size, fit))


def _notes(read: Sequence[Decoded], size: tuple[int, int], fit: Fit | None) -> list[str]:
    """What was done to the images."""
    notes = []
    if fit and (note := fit_note([image.size for image in read], size, fit)):
        notes.append(note)
    grey = sum(image.pixels is not None and len(image.pixels) == 1 for image in read)
    if 0 < grey < len(read):
        notes.append(f"Read {grey:,} grey images as RGB, like the other {len(read) - grey:,}.")
    if transparent := sum(image.transparent for image in read):
        notes.append(f"Laid {transparent:,} images with transparency on white.")
    if several := sum(image.several for image in read):
        notes.append(f"Took the first frame of {several:,} files that hold several (animations, or pages).")
    return notes


def _left_out(source: Path, broken: Sequence[str], parts: Mapping[str, Part]) -> list[str]:
    """The files that could not be read, and what that leaves: they were parted and counted with the others before."""
    if not broken:
        return []
    names = [os.path.relpath(path, _root(source)) for path in broken[:MOST_NAMED]]
    more = f" and {len(broken) - len(names):,} more" if len(broken) > len(names) else ""
    left = [f"{len(part.images):,} {'training' if split == 'train' else split}" for split, part in parts.items()]
    return [
        f"Left out {counted(len(broken), 'broken file')} of these: {', '.join(names)}{more}; "
        f"{', '.join(left[:-1])} and {left[-1]} images are left."
    ]


def _root(source: Path) -> Path:
    """The folder that a source's paths begin at."""
    return source if source.is_dir() else source.parent


def _allocate(source: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return np.empty(shape, dtype=np.uint8)
    except MemoryError:
        N, C, H, W = shape
        raise DataError(
            f"{source}: got {N:,} images of {C}×{H}×{W}, more than memory holds; expected smaller ones; "
            "type for instance --size 64"
        ) from None


def _first_size(paths: Sequence[str], skip_broken: bool) -> tuple[int, int]:
    """The (H, W) of the first image, told by its header; of the first that has one if broken ones are skipped."""
    for path in paths:
        try:
            return header_size(path)
        except DataError:
            if not skip_broken:
                raise
    return 1, 1  # decoding will say that none can be read


def _mixed(source: Path, paths: Sequence[str], seen: tuple[int, int]) -> DataError:
    """The error of images of more than one size; `seen` is one that no header tells."""
    sizes = {seen}
    for path in paths:
        try:
            sizes.add(header_size(path))
        except DataError:
            continue
    smallest, *_, largest = (f"{h}×{w}" for h, w in sorted(sizes, key=lambda size: (size[0] * size[1], size)))
    return DataError(
        f"{source}: got images of {len(sizes)} sizes, from {smallest} to {largest} (height×width); "
        "expected one size; type for instance --size 64 to bring all to 64×64"
    )
