"""Load any data source: a built-in name, a folder, or a file of a kind that `EXPECTED` lists."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from vaelab.data.builtin import BUILTIN, load_builtin
from vaelab.data.dataset import Dataset, Loading, SkipBroken
from vaelab.data.depth import EIGHT_BITS, brightest_level, dark_notes, parse_white, rescaled
from vaelab.data.folders import load_image_folder
from vaelab.data.idx import is_idx_name, load_idx_folder
from vaelab.data.image_files import Reading
from vaelab.data.limits import Limits
from vaelab.data.names import existing_form
from vaelab.data.npz import load_npz
from vaelab.data.pack import is_pack, load_pack
from vaelab.data.parquet import holds_images, load_parquet
from vaelab.data.resize import Fit, Progress, check_fit, parse_size, resize_dataset
from vaelab.data.saved_dataset import is_saved, load_saved
from vaelab.data.select import parse_selection, select_from
from vaelab.data.shards import find_shards, shard_kind
from vaelab.data.table import SUFFIXES as TABLES
from vaelab.data.table import load_path_table
from vaelab.data.webdataset import load_webdataset
from vaelab.errors import ConfigError, DataError, OutputError, did_you_mean, printable, shortened

EXPECTED = (
    f"expected a built-in name ({', '.join(BUILTIN)}), a folder (of images, IDX files, .parquet or .tar files, or a pack), "
    "an .npz file, a table of paths (.csv, .parquet), or images in a .parquet or .tar file"
)

SUFFIXES = (".npz", *TABLES, ".tar")
"""Ends of the names of files that are sources, which may be left out of the name of a source that a run records."""


def load_dataset(
    source: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | str | None = None,
    fit: Fit = "crop",
    seed: int = 0,
    skip_broken: SkipBroken = False,
    limit: int | None = None,
    classes: str | Sequence[str | int] | None = None,
    white: float | None = None,
    max_pixels: int | None = None,
    max_bytes: int | None = None,
    max_classes: int | None = None,
    follow_links: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """Load a dataset.

    Parameters
    ----------
    source
        A built-in name (see `BUILTIN`); a folder of images (PNG, JPEG, WebP, BMP, TIFF, GIF), with or without class
        folders; a folder of IDX files; an .npz file; a pack (`vaelab data pack`); a table of paths and labels, .csv or
        .parquet; a Parquet file with a column of encoded images, or a folder of them; a folder written by `save_to_disk` of
        Hugging Face; or a WebDataset, a .tar file or a folder of them. A string equal to a built-in name always selects the
        built-in source; use "./mnist" or a `Path` for a folder of that name.
    size
        Side of a square in pixels, (H, W), or text such as "32x48". Images of another size are scaled and then cropped or
        padded, as recorded in `notes`. Without it, image files of different sizes are scaled to a square of their median short
        side, a multiple of 8 from 8 to 64.
    fit
        How images of another aspect ratio are fitted: "crop" cuts off the excess, "pad" adds borders of the median colour of
        the image's border.
    seed
        Seed of random splits (if the source has none), of the images selected by `limit`, and of synthetic data.
    skip_broken
        Skip images that cannot be read, as if they were not there; `notes` counts them and names the first ones. "0.1"
        counts them in the split, as vaelab 0.1 did. By default, the first such file raises an error. Has no effect on arrays.
    limit
        Maximum number of training images, selected at random with the class proportions kept. Does not change the validation
        and test images.
    classes
        Classes to keep, as names or as text with commas between them; their labels become 0, 1, … in this order. Does not
        change the split of an image.
    white
        Stored value of white, if it is not the largest that the format can store: 4095 for 12-bit levels in 16-bit files, 1 for
        masks of 0 and 1. Files of fewer bits than that keep their own white. If images look too dark for their format, `notes`
        says so.
    max_pixels
        Largest number of pixels of an image file; 64 million by default. This and the next two protect from files that are small
        and decode to very much.
    max_bytes
        Largest size of the decoded images in bytes; by default 16 GiB, and for an .npz file, compressed IDX files and each row
        group of a Parquet file 250 times the size of the file if that is less (but at least 64 MiB).
    max_classes
        Largest number of classes; 10,000 by default.
    follow_links
        Follow links in a folder that lead out of it. By default, they raise an error.
    progress
        Callback with a description, the number of items done, and the total.

    Raises
    ------
    DataError
        If the source is missing, broken, of an unknown kind or beyond a limit, or has values above `white`.
    ConfigError
        If an option is out of range, or the source does not have all of `classes`.
    """
    return load_as(source, reading(locals()))


def reading(options: Mapping[str, Any]) -> Reading:
    """Return the options of `load_dataset`, with their defaults, as `Reading` has them. A ConfigError if one is out of range."""
    check_fit(options["fit"])
    if options["seed"] < 0:
        raise ConfigError(f"`seed`: got {options['seed']}; expected a whole number of at least 0")
    return Reading(
        size=parse_size(options["size"]),
        fit=options["fit"],
        seed=options["seed"],
        skip_broken=options["skip_broken"],
        selection=parse_selection(options["classes"], options["limit"]),
        progress=options["progress"],
        white=parse_white(options["white"]),
        limits=Limits(options["max_pixels"], options["max_bytes"], options["max_classes"]).checked(),
        follow_links=options["follow_links"],
    )


def load_as(source: str | os.PathLike[str], reading: Reading) -> Dataset:
    """Load a dataset with parsed options; see `load_dataset`."""
    try:
        dataset = _load(source, reading)
    except DataError as error:  # may contain names of files and classes
        raise DataError(shortened(printable(str(error)))) from None
    loading = Loading(reading.fit, reading.skip_broken, reading.white, reading.seed)
    return replace(dataset, loading=loading, notes=tuple(map(printable, dataset.notes)))


def _load(source: str | os.PathLike[str], reading: Reading) -> Dataset:
    """Load a source of any kind."""
    if isinstance(source, str) and source in BUILTIN:
        dataset = load_builtin(source, seed=reading.seed, progress=reading.progress)
        return _finished(rescaled(dataset, reading.white), reading)
    expect_source(source)
    path = _located(source)
    if path.is_dir() and is_pack(path):
        if reading.size is not None:
            raise ConfigError(f"`size`: got one for the pack {path}, whose images have theirs; give it when packing")
        return select_from(load_pack(path, progress=reading.progress), reading.selection, reading.seed)
    try:
        if is_saved(path):
            return load_saved(path, reading)
        if path.is_dir() and any(map(is_idx_name, os.listdir(path))):  # noqa: PTH208 - faster for many files
            return _finished(rescaled(load_idx_folder(path, reading), reading.white), reading)
        if shards := find_shards(path, reading):
            if shard_kind(shards[0].name) == ".tar":
                return load_webdataset(path, shards, reading)
            if any(map(holds_images, shards)):
                return load_parquet(path, shards, reading)
        if path.is_dir():
            return load_image_folder(path, reading)
        if path.suffix.lower() in TABLES:
            return load_path_table(path, reading)
        if path.suffix.lower() == ".npz":
            return _finished(load_npz(path, reading), reading)
        hint = f"; pass its folder, {path.parent}" if is_idx_name(path.name) else ""
        raise DataError(f"{path}: got a file of kind {path.suffix or '(none)'}; {EXPECTED}{hint}")
    except OutputError:  # of a pack that is written while reading
        raise
    except OSError as error:
        raise DataError(
            f"{error.filename or path}: cannot be read ({error.strerror or error}); expected a readable file or "
            "folder; check its name and permissions"
        ) from None


def _finished(dataset: Dataset, reading: Reading) -> Dataset:
    """Select from a dataset that was loaded as arrays, resize it, and note dark images."""
    if reading.white is None:
        splits = (dataset.train, dataset.validation, dataset.test)
        notes = dark_notes((brightest_level(split.images), EIGHT_BITS) for split in splits)
        dataset = replace(dataset, notes=(*dataset.notes, *notes))
    dataset = select_from(dataset, reading.selection, reading.seed)
    return dataset if reading.size is None else resize_dataset(dataset, reading.size, reading.fit, reading.progress)


def expect_source(source: str | os.PathLike[str]) -> None:
    """Raise a DataError if `source` is neither a built-in name nor a path that exists."""
    if isinstance(source, str) and source in BUILTIN:
        return
    if not os.fspath(source) or not os.path.lexists(_located(source)):
        name = shortened(os.fspath(source), 100)
        raise DataError(f"no data source {name!r}: {EXPECTED}.{did_you_mean(name, BUILTIN)}")


def is_of_image_files(source: str) -> bool:
    """Return whether a source consists of encoded images, which may differ in size."""
    path = _located(source)
    if source in BUILTIN or not path.exists() or is_pack(path):
        return False
    if path.is_dir():
        return not any(map(is_idx_name, os.listdir(path)))  # noqa: PTH208
    return path.suffix.lower() in TABLES or shard_kind(path.name) is not None


def found_again(name: str) -> str | None:
    """Find the source of a dataset by its name: a built-in one, or a file or folder in the current folder; else None."""
    candidates = (f"{name}{suffix}" for suffix in ("", *SUFFIXES))
    return next((source for source in candidates if source in BUILTIN or Path(source).exists()), None)


def _located(source: str | os.PathLike[str]) -> Path:
    """Return the path of a source: in the Unicode form in which it exists, and with the user's home folder for a leading ~.

    Shells do not replace ~ after an equals sign.
    """
    path = Path(source)
    return Path(existing_form(str(path.expanduser() if path.parts[:1] == ("~",) else path)))
