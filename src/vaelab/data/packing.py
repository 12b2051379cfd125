"""Write a data source as a pack: encoded images are decoded and `strokes` are drawn block by block, the rest is in memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vaelab.data.dataset import Dataset, Loading
from vaelab.data.decoding import decode_images
from vaelab.data.depth import dark_notes
from vaelab.data.encoded import ImageFile, state
from vaelab.data.formats import Decoded, header_size, pixel_limit
from vaelab.data.image_files import FilePlan, Reading
from vaelab.data.pack import Read, Source, load_pack
from vaelab.data.pack_writing import MomentsOfParts, partial_folder, source_of, write_pack
from vaelab.data.resize import Progress, common_size, common_size_note, fit_note
from vaelab.data.sources import load_as, load_dataset, reading
from vaelab.data.strokes import SIDE, TEST, VALIDATION, draw_strokes
from vaelab.errors import ConfigError, DataError

JUDGED = 2000  # images, of which one in colour makes a pack RGB from the beginning
OPTIONS = {name: value for name, value in (load_dataset.__kwdefaults__ or {}).items() if name != "progress"}


def pack_source(
    source: str | os.PathLike[str],
    out: Path,
    moments: Callable[[], MomentsOfParts],
    *,
    count: int | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> None:
    """Write a data source as the pack `out`; see `vaelab.data.pack_writing.write_pack`.

    Parameters
    ----------
    source
        As for `load_dataset`. Encoded images are decoded in blocks, so they need not fit into memory.
    out, moments
        As for `write_pack`.
    count
        Number of training images of `strokes`, which can be drawn in any number. Default: 50,000.
    progress
        Callback with a description, the number of images done, and the total.
    **options
        Options of `load_dataset`.

    Raises
    ------
    ConfigError
        If `count` is given for another source, or an option is out of range.
    DataError
        If the source is missing, broken or a table of numbers.
    OutputError
        If `out` exists or cannot be written.
    """
    if count is not None:
        if source != "strokes":
            raise ConfigError(
                f"`count`: got {count} for {source}; expected it only for strokes, which are drawn; see `limit`"
            )
        if count < 1:
            raise ConfigError(f"`count`: got {count}; expected a whole number of at least 1")
        write_pack(_strokes(count, options.get("seed", 0)), out, moments, progress)
        return

    def pack_files(plan: FilePlan) -> Dataset:
        levels = _Levels()
        colour = _first_in_colour(plan, levels)
        try:
            write_pack(_of_files(plan, levels, colour=colour), out, moments, progress)
        except _ColourError:  # the first images were grey
            _forget(out)
            write_pack(_of_files(plan, levels, colour=True), out, moments, progress)
        return load_pack(out)

    asked = reading(OPTIONS | options | {"progress": progress})
    dataset = load_as(source, asked._replace(instead=pack_files))
    if not out.exists():
        write_pack(source_of(dataset), out, moments, progress)


class _ColourError(Exception):
    """An image in colour in a pack of grey images."""


class _Levels:
    """The brightest level of the images that were decoded, for each value of white."""

    def __init__(self) -> None:
        self.brightest: dict[float, float] = {}

    def add(self, image: Decoded) -> None:
        self.brightest[image.white] = max(image.brightest, self.brightest.get(image.white, 0))

    def notes(self) -> Iterator[str]:
        """Yield notes on images that are dark at the depth of their files."""
        return dark_notes((level, white) for white, level in self.brightest.items())


def _strokes(count: int, seed: int) -> Source:
    """Return `count` training drawings, and after them as many for validation and test as the built-in data set has."""
    counts = {"train": count, "validation": VALIDATION, "test": TEST}

    def reader(start: int) -> Read:
        def read(first: int, last: int) -> tuple[np.ndarray, np.ndarray | None]:
            drawn = draw_strokes(last - first, seed=seed, start=start + first)
            return drawn.images, drawn.labels

        return read

    starts = {"train": 0, "validation": count, "test": count + VALIDATION}
    classes = tuple(map(str, range(10)))
    return Source(
        "strokes",
        (1, SIDE, SIDE),
        classes,
        counts,
        {name: reader(start) for name, start in starts.items()},
        (),
        Loading(seed=seed),
    )


def _of_files(plan: FilePlan, levels: _Levels, *, colour: bool) -> Source:
    """Return the images of a plan as the source of a pack of grey or RGB images; `levels` gets those of the images read."""
    options = plan.reading
    files = _files(plan)
    notes = list(plan.notes)
    if options.size is None:
        sizes = _sizes(files, options)
        size, fit = sizes[0], None
        if any(other != size for other in sizes):
            size, fit = common_size(sizes), options.fit
            notes.append(common_size_note(sizes, size, fit))
    else:
        size, fit = options.size, options.fit
        notes.append(fit_note([size], size, fit) or f"Scaled the images to {size[0]}×{size[1]}.")
    channels = 3 if colour else 1

    def reader(split: str) -> Read:
        images_of, labels = plan.splits[split]

        def read(first: int, last: int) -> tuple[np.ndarray, np.ndarray | None]:
            images = np.empty((last - first, channels, *size), np.uint8)
            with pixel_limit(options.limits.pixels):
                decoded = decode_images(images_of[first:last], size, fit, options.white)
                for target, file, image in zip(images, images_of[first:last], decoded, strict=True):
                    if image.error:
                        raise DataError(image.error)
                    if image.pixels is None:
                        raise DataError(
                            f"{file}: got another size than before; expected that it does not change meanwhile"
                        )
                    if len(image.pixels) > channels:
                        raise _ColourError
                    target[:] = image.pixels
                    levels.add(image)
            return images, None if labels is None else labels[first:last]

        return read

    counts = {split: len(of_split.images) for split, of_split in plan.splits.items()}
    loading = Loading(options.fit, options.skip_broken, options.white, options.seed)
    readers = {split: reader(split) for split in counts}
    identity = hashlib.sha256("\n".join(map(state, files)).encode("utf-8", "surrogateescape")).hexdigest()
    later = None if options.white else levels.notes
    return Source(plan.name, (channels, *size), plan.classes, counts, readers, tuple(notes), loading, identity, later)


def _files(plan: FilePlan) -> list[ImageFile]:
    return [file for of_split in plan.splits.values() for file in of_split.images]


def _sizes(files: Sequence[ImageFile], options: Reading) -> list[tuple[int, int]]:
    """Return the (H, W) of images from their headers."""
    sizes = []
    with pixel_limit(options.limits.pixels):
        for file in files:
            sizes.append(header_size(file))
            if options.progress:
                options.progress("reading sizes", len(sizes), len(files))
    return sizes


def _first_in_colour(plan: FilePlan, levels: _Levels) -> bool:
    """Return whether one of the first images is in colour; `levels` gets theirs."""
    colour = False
    with pixel_limit(plan.reading.limits.pixels):
        for image in decode_images(_files(plan)[:JUDGED], (1, 1), "crop", plan.reading.white):
            if image.pixels is not None:
                levels.add(image)
                colour = colour or len(image.pixels) == 3
    return colour


def _forget(out: Path) -> None:
    """Delete what was written of a pack."""
    folder = partial_folder(out)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
