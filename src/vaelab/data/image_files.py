"""Load the image files of a folder or a table as a dataset: split, select, then decode or read from the cache.

Splits, classes and limit are applied to file indices first, so that only the images needed are decoded.
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
    """The files of a split and their labels, as indices of classes, or None."""

    paths: list[str]
    labels: np.ndarray | None


class Reading(NamedTuple):
    """Options for reading files; the fields are parameters of `load_dataset`."""

    size: tuple[int, int] | None = None
    fit: Fit = "crop"
    seed: int = 0
    skip_broken: bool = False
    selection: Selection = EVERYTHING
    progress: Progress | None = None


class _Images(NamedTuple):
    """uint8 images (M, C, H, W), the indices (M,) of their files, and notes on how they were read."""

    images: np.ndarray
    indices: np.ndarray
    notes: list[str]


def load_image_files(
    source: Path,
    name: str,
    splits: Mapping[str, Files],
    classes: tuple[str, ...] | None,
    reading: Reading,
    notes: Sequence[str] = (),
) -> Dataset:
    """Load the files of a source.

    The result is grey if all images are grey, otherwise RGB. Raises `DataError` for a broken image (unless broken images are
    skipped), and for images of different sizes if no size is given.
    """
    paths = [path for files in splits.values() for path in files.paths]
    source_parts, start = {}, 0
    for split, files in splits.items():
        stop = start + len(files.paths)
        source_parts[split] = Part(np.arange(start, stop), files.labels)
        start = stop
    arranged = arrange(name, source_parts, classes=classes, seed=reading.seed)
    selected = select(arranged.parts, arranged.classes, reading.selection, reading.seed)

    needed = np.sort(np.concatenate([part.images for part in selected.parts.values()]))
    read = _read_cached(source, [paths[i] for i in needed], reading)
    row = np.full(len(paths), -1)
    row[needed[read.indices]] = np.arange(len(read.indices))
    parts = {}
    for split, part in selected.parts.items():
        present = part.at(np.flatnonzero(row[part.images] >= 0))
        parts[split] = Part(read.images[row[present.images]], present.labels)
    limited = reading.selection.limit is not None
    broken = [paths[i] for i in np.delete(needed, read.indices)]
    all_notes = [*read.notes, *notes, *arranged.notes, *selected.notes, *_skipped_notes(source, broken, parts)]
    all_notes += class_notes(parts, selected.classes, limited=limited)
    return as_dataset(name, parts, selected.classes, all_notes)


def _read_cached(source: Path, paths: Sequence[str], reading: Reading) -> _Images:
    """Read the images, from the cache if no file has changed."""
    if len(paths) < MANY_FILES:
        return _read(source, paths, reading)
    entry = _entry(source, paths, reading)
    if (cached := load_entry(entry)) is not None:
        images, note = cached
        indices = np.setdiff1d(np.arange(len(paths)), np.array(note["left_out"], dtype=np.int64))
        if len(images) == len(indices):
            cache_note = f"Read the decoded images from the cache {entry.path}: no file has changed."
            return _Images(images, indices, [*note["notes"], cache_note])
    read = _read(source, paths, reading)
    left_out = np.setdiff1d(np.arange(len(paths)), read.indices).tolist()
    if save_entry(entry, read.images, {"notes": read.notes, "left_out": left_out}):
        read.notes.append(f"Cached the decoded images in {entry.path.parent}, for a faster start next time.")
    return read


def _entry(source: Path, paths: Sequence[str], reading: Reading) -> Entry:
    """Return the cache entry for these files in their current state, read with these options."""
    root = str(_root(source))
    states = []
    for path in paths:
        name = path.removeprefix(root)
        try:
            state = os.stat(path)  # noqa: PTH116 - creating a Path per file doubles the time for many files
            states.append(f"{name}\0{state.st_size}\0{state.st_mtime_ns}")
        except OSError:
            states.append(name)
    request = (pillow_version, reading.size, reading.fit, reading.skip_broken, reading.selection)
    seed = reading.seed if reading.selection.limit is not None else None
    return entry_for(source, (*request, seed), os.fsencode("\n".join(states)))


def _read(source: Path, paths: Sequence[str], reading: Reading) -> _Images:
    """Decode the images at the requested size, or at that of the first image."""
    with only_bombs_warn():
        size = reading.size or _first_size(paths, reading.skip_broken)
        fit = reading.fit if reading.size else None
        return _collect(source, paths, size, fit, reading)


def _collect(source: Path, paths: Sequence[str], size: tuple[int, int], fit: Fit | None, reading: Reading) -> _Images:
    images = _allocate(source, (len(paths), 1, *size))
    decoded: list[Decoded] = []
    indices: list[int] = []
    for i, image in enumerate(decode_images(paths, size, fit)):
        if image.error:
            if not reading.skip_broken:
                raise DataError(image.error)
        elif image.pixels is None:
            raise _different_sizes(source, paths, image.size)
        else:
            if len(image.pixels) > images.shape[1]:  # the first image in colour
                rgb = _allocate(source, (len(paths), 3, *size))
                rgb[: len(decoded)] = images[: len(decoded)]
                images = rgb
            images[len(decoded)] = image.pixels
            decoded.append(image._replace(pixels=image.pixels[:, :0]))  # keeps only the number of channels
            indices.append(i)
        if reading.progress:
            reading.progress("reading images", i + 1, len(paths))
    if not decoded:
        which = "none of which can" if len(paths) > 1 else "which cannot"
        raise DataError(
            f"{source}: got {counted(len(paths), 'file')}, {which} be read; expected images; check {paths[0]}"
        )
    return _Images(images[: len(decoded)], np.array(indices), _notes(decoded, size, fit))


def _notes(decoded: Sequence[Decoded], size: tuple[int, int], fit: Fit | None) -> list[str]:
    """Return notes on the conversions of the images."""
    notes = []
    if fit and (note := fit_note([image.size for image in decoded], size, fit)):
        notes.append(note)
    grey = sum(image.pixels is not None and len(image.pixels) == 1 for image in decoded)
    if 0 < grey < len(decoded):
        notes.append(f"Converted {grey:,} grey images to RGB, because the other {len(decoded) - grey:,} are RGB.")
    if transparent := sum(image.transparent for image in decoded):
        notes.append(f"Composited {transparent:,} images with transparency on white.")
    if several := sum(image.several for image in decoded):
        notes.append(f"Read only the first frame or page of {several:,} files with several.")
    return notes


def _skipped_notes(source: Path, broken: Sequence[str], parts: Mapping[str, Part]) -> list[str]:
    """Return a note on skipped files with the final sizes of the splits; the counts in earlier notes include these files."""
    if not broken:
        return []
    names = [os.path.relpath(path, _root(source)) for path in broken[:MOST_NAMED]]
    more = f" and {len(broken) - len(names):,} more" if len(broken) > len(names) else ""
    remaining = [f"{len(part.images):,} {'training' if split == 'train' else split}" for split, part in parts.items()]
    return [
        f"Skipped {counted(len(broken), 'broken file')}: {', '.join(names)}{more}; "
        f"{', '.join(remaining[:-1])} and {remaining[-1]} images remain."
    ]


def _root(source: Path) -> Path:
    """Return the folder that the paths of a source are relative to."""
    return source if source.is_dir() else source.parent


def _allocate(source: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return np.empty(shape, dtype=np.uint8)
    except MemoryError:
        N, C, H, W = shape
        raise DataError(
            f"{source}: {N:,} images of {C}×{H}×{W} do not fit into memory; scale them down, "
            "for instance with `size=64`, or pass a `limit`"
        ) from None


def _first_size(paths: Sequence[str], skip_broken: bool) -> tuple[int, int]:
    """Return the (H, W) of the first image from its header; skip broken files if `skip_broken`."""
    for path in paths:
        try:
            return header_size(path)
        except DataError:
            if not skip_broken:
                raise
    return 1, 1  # decoding then reports that no file can be read


def _different_sizes(source: Path, paths: Sequence[str], decoded_size: tuple[int, int]) -> DataError:
    """Return the error for images of different sizes; `decoded_size` is a size that the headers may not show."""
    sizes = {decoded_size}
    for path in paths:
        try:
            sizes.add(header_size(path))
        except DataError:
            continue
    smallest, *_, largest = (f"{h}×{w}" for h, w in sorted(sizes, key=lambda size: (size[0] * size[1], size)))
    return DataError(
        f"{source}: got images of {len(sizes)} sizes, from {smallest} to {largest} (height×width); "
        "expected one size; pass one, for instance `size=64`, to scale all images to 64×64"
    )
