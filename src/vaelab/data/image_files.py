"""Load encoded images, such as the files of a folder or a table, as a dataset: split, select, then decode or read from the cache.

Splits, classes and limit are applied to file indices first, so that only the images needed are decoded. If broken files are
skipped, they are found before, so that the splits are those of the folder without them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import __version__ as pillow_version

from vaelab.data.arrays import MOST_NAMED, Part, arrange, class_notes
from vaelab.data.cache import Entry, entry_for, load_entry, save_entry
from vaelab.data.dataset import Dataset, SkipBroken, Split
from vaelab.data.decoding import MANY_FILES, decode_images
from vaelab.data.depth import dark_notes
from vaelab.data.encoded import ImageFile, state
from vaelab.data.formats import Decoded, header_size, pixel_limit
from vaelab.data.layout import grey_note
from vaelab.data.limits import Budget, Limits
from vaelab.data.resize import Fit, Progress, common_size, common_size_note, fit_note
from vaelab.data.select import EVERYTHING, Selection, select
from vaelab.errors import DataError, counted


class Files(NamedTuple):
    """The files of a split, or images inside files, and their labels, as indices of classes, or None."""

    images: Sequence[ImageFile]
    labels: np.ndarray | None


class Reading(NamedTuple):
    """Options for reading files; the fields are parameters of `load_dataset`."""

    size: tuple[int, int] | None = None
    fit: Fit = "crop"
    seed: int = 0
    skip_broken: SkipBroken = False
    selection: Selection = EVERYTHING
    progress: Progress | None = None
    white: float | None = None
    limits: Limits = Limits()
    follow_links: bool = False
    instead: Callable[[FilePlan], Dataset] | None = None
    """What is done with the files instead of reading all of them into memory."""


class FilePlan(NamedTuple):
    """The files of each split, before any of them is read."""

    source: Path
    name: str
    splits: Mapping[str, Files]
    classes: tuple[str, ...]
    notes: list[str]
    reading: Reading


NO_PIXELS = {channels: np.empty((channels, 0, 0), np.uint8) for channels in (1, 3)}
"""Stand-ins for pixels that have been copied, with the number of channels; a view would keep the memory."""


class _Images(NamedTuple):
    """uint8 images (M, C, H, W), the indices (M,) of their files, and notes on how they were read."""

    images: np.ndarray
    indices: np.ndarray
    notes: list[str]


class _Collected(NamedTuple):
    """uint8 images (M, C, H, W), the indices (M,) of their files, and what else was found in each file."""

    images: np.ndarray
    indices: np.ndarray
    facts: list[Decoded]


def load_image_files(
    source: Path,
    name: str,
    splits: Mapping[str, Files],
    classes: tuple[str, ...] | None,
    reading: Reading,
    notes: Sequence[str] = (),
) -> Dataset:
    """Load the encoded images of a source. A file that occurs several times is read once.

    The result is grey if all images are grey, otherwise RGB. Images of different sizes are scaled to `common_size` if no size is
    given. Raises `DataError` for a broken image, unless broken images are skipped.
    """
    files = np.array([file for of_split in splits.values() for file in of_split.images], dtype=object)
    source_parts, start = {}, 0
    for split, of_split in splits.items():
        stop = start + len(of_split.images)
        source_parts[split] = Part(np.arange(start, stop), of_split.labels)
        start = stop
    broken = _broken(source, list(dict.fromkeys(files)), reading) if reading.skip_broken else []
    gone = set(broken)
    readable = np.array([file not in gone for file in files])

    def without_broken(parts: Mapping[str, Part]) -> dict[str, Part]:
        return {split: part.at(np.flatnonzero(readable[part.images])) for split, part in parts.items()}

    if broken and reading.skip_broken != "0.1":
        source_parts = without_broken(source_parts)
        if classes is not None:
            source_parts, classes = _with_images(source_parts, classes)
    arranged = arrange(name, source_parts, classes=classes, seed=reading.seed)
    selected = select(arranged.parts, arranged.classes, reading.selection, reading.seed)
    parts = without_broken(selected.parts)

    all_notes = [*notes, *_skipped_notes(source, broken), *arranged.notes, *selected.notes]
    all_notes += class_notes(parts, selected.classes, limited=reading.selection.limit is not None)
    if reading.instead is not None:
        chosen = {split: Files(list(files[part.images]), part.labels) for split, part in parts.items()}
        return reading.instead(FilePlan(source, name, chosen, selected.classes, all_notes, reading))

    needed = np.sort(np.concatenate([part.images for part in parts.values()]))
    position = {file: i for i, file in enumerate(dict.fromkeys(files[needed]))}
    read = _read_cached(source, list(position), reading._replace(skip_broken=False))
    Budget(reading.limits).take(len(needed) * read.images[0].size, f"{source}: {len(needed):,} images")
    row = np.full(len(files), -1)
    row[needed] = [position[file] for file in files[needed]]
    named = all(isinstance(file, str) for file in files)
    train, validation, test = (
        Split(read.images[row[part.images]], part.labels, paths=files[part.images] if named else None)
        for part in (parts["train"], parts["validation"], parts["test"])
    )
    return Dataset(name, train, validation, test, selected.classes, (*read.notes, *all_notes))


def _with_images(parts: Mapping[str, Part], classes: tuple[str, ...]) -> tuple[dict[str, Part], tuple[str, ...]]:
    """Leave out the classes without images."""
    labels = {split: part.labels for split, part in parts.items() if part.labels is not None}
    kept = np.unique(np.concatenate(list(labels.values())))
    numbered = {split: part._replace(labels=np.searchsorted(kept, labels[split])) for split, part in parts.items()}
    return numbered, tuple(classes[k] for k in kept)


def _broken(source: Path, files: list[ImageFile], reading: Reading) -> list[ImageFile]:
    """Return the files that cannot be read."""
    report = reading.progress
    progress = report and (lambda _, done, total: report("looking for broken files", done, total))
    checked = _read_cached(source, files, reading._replace(size=(1, 1), selection=EVERYTHING, progress=progress))
    return [files[i] for i in np.setdiff1d(np.arange(len(files)), checked.indices)]


def _read_cached(source: Path, files: Sequence[ImageFile], reading: Reading) -> _Images:
    """Read the images, from the cache if no file has changed."""
    if len(files) < MANY_FILES:
        return _read(source, files, reading)
    entry = _entry(source, files, reading)
    if (cached := load_entry(entry)) is not None:
        images, note = cached
        indices = np.setdiff1d(np.arange(len(files)), np.array(note["left_out"], dtype=np.int64))
        if len(images) == len(indices):
            cache_note = f"Read the decoded images from the cache {entry.path}: no file has changed."
            return _Images(images, indices, [*note["notes"], cache_note])
    read = _read(source, files, reading)
    left_out = np.setdiff1d(np.arange(len(files)), read.indices).tolist()
    if save_entry(entry, read.images, {"notes": read.notes, "left_out": left_out}):
        read.notes.append(f"Cached the decoded images in {entry.path.parent}, for a faster start next time.")
    return read


def _entry(source: Path, files: Sequence[ImageFile], reading: Reading) -> Entry:
    """Return the cache entry for these files in their current state, read with these options."""
    root = str(_root(source))
    request = (pillow_version, reading.size, reading.fit, reading.skip_broken, reading.selection, reading.white)
    seed = reading.seed if reading.selection.limit is not None else None
    return entry_for(source, (*request, seed), os.fsencode("\n".join(state(file, root) for file in files)))


def _read(source: Path, files: Sequence[ImageFile], reading: Reading) -> _Images:
    """Decode the images at the requested size, at that of all images, or at their `common_size`."""
    with pixel_limit(reading.limits.pixels):
        size, fit = reading.size, reading.fit if reading.size else None
        read = _collect(source, files, size or header_size(files[0]), fit, reading)
        notes = []
        if read is None:  # no size was requested, and the images have several
            size, fit = common_size([header_size(file) for file in files]), reading.fit
            read = _collect(source, files, size, fit, reading)
            assert read is not None
            notes.append(common_size_note([image.size for image in read.facts], size, fit))
        if reading.white is None and (white := _stated_white(read.facts)):
            notes.append(
                f"Read the levels 0…{white} as black to white: the files state this depth (sBIT or MaxSampleValue)."
            )
            height, width = read.images.shape[2:]
            read = _collect(source, files, (height, width), fit, reading._replace(white=white))
            assert read is not None
        elif reading.white is None:
            notes += _depth_notes(read.facts)
    if reading.size and (note := fit_note([image.size for image in read.facts], reading.size, reading.fit)):
        notes.append(note)
    return _Images(read.images, read.indices, [*notes, *_notes(read.facts)])


def _collect(
    source: Path, files: Sequence[ImageFile], size: tuple[int, int], fit: Fit | None, reading: Reading
) -> _Collected | None:
    """Decode the images at `size`; return None if `fit` is None and one has another size."""
    images = _allocate(source, (len(files), 1, *size), reading.limits)
    decoded: list[Decoded] = []
    indices: list[int] = []
    for i, image in enumerate(decode_images(files, size, fit, reading.white)):
        if image.error:
            if not reading.skip_broken or "as `white` says" in image.error:  # which is wrong, not the file
                raise DataError(image.error)
        elif image.pixels is None:
            return None
        else:
            if len(image.pixels) > images.shape[1]:  # the first image in colour
                rgb = _allocate(source, (len(files), 3, *size), reading.limits)
                rgb[: len(decoded)] = images[: len(decoded)]
                images = rgb
            images[len(decoded)] = image.pixels
            decoded.append(image._replace(pixels=NO_PIXELS[len(image.pixels)]))
            indices.append(i)
        if reading.progress:
            reading.progress("reading images", i + 1, len(files))
    if not decoded:
        which = "none of which can" if len(files) > 1 else "which cannot"
        raise DataError(
            f"{source}: got {counted(len(files), 'file')}, {which} be read; expected images; check {files[0]}"
        )
    return _Collected(images[: len(decoded)], np.array(indices), decoded)


def _stated_white(decoded: Sequence[Decoded]) -> int:
    """Return the value of white for the depth that the files state, if all images that are not black agree with it; else 0."""
    shown = [image for image in decoded if image.brightest]
    if not all(image.stated for image in shown):
        return 0
    white = max((image.stated for image in shown), default=0)
    return white if all(image.brightest <= white for image in shown) else 0


def _depth_notes(decoded: Sequence[Decoded]) -> Iterator[str]:
    """Yield notes on float images, and on images that are dark at the depth of their files."""
    if floats := sum(image.white == 1 for image in decoded):
        yield f"Scaled {counted(floats, 'floating-point image')} from [0, 1] to 0…255 and rounded them."
    yield from dark_notes((image.brightest, image.white) for image in decoded)


def _notes(decoded: Sequence[Decoded]) -> Iterator[str]:
    """Yield notes on the conversions of the images."""
    grey = sum(image.pixels is not None and len(image.pixels) == 1 for image in decoded)
    if 0 < grey < len(decoded):
        yield grey_note(grey, len(decoded) - grey)
    if transparent := sum(image.transparent for image in decoded):
        yield f"Composited {counted(transparent, 'image')} with transparency on white."
    if several := sum(image.several for image in decoded):
        yield f"Read only the first frame or page of {counted(several, 'file')} with several."


def _skipped_notes(source: Path, broken: Sequence[ImageFile]) -> list[str]:
    """Return a note on skipped files."""
    if not broken:
        return []
    names = [os.path.relpath(str(file), _root(source)) for file in broken[:MOST_NAMED]]
    more = f" and {len(broken) - len(names):,} more" if len(broken) > len(names) else ""
    return [f"Skipped {counted(len(broken), 'broken file')}: {', '.join(names)}{more}."]


def _root(source: Path) -> Path:
    """Return the folder that the paths of a source are relative to."""
    return source if source.is_dir() else source.parent


def _allocate(source: Path, shape: tuple[int, ...], limits: Limits) -> np.ndarray:
    N, C, H, W = shape
    where = f"{source}: {N:,} images of {C}×{H}×{W}, which `size` scales and `limit` reduces"
    Budget(limits).take(N * C * H * W, where)
    try:
        return np.empty(shape, dtype=np.uint8)
    except MemoryError:
        raise DataError(
            f"{source}: {N:,} images of {C}×{H}×{W} do not fit into memory; scale them down, "
            "for instance with `size=64`, or pass a `limit`"
        ) from None
