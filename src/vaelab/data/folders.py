"""Folders of PNG and JPEG images: a folder for each class or all in one, with train/ and test/ or without.

Class names are the folders' names. Transparency is laid on white, and a camera's EXIF orientation is applied.
"""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from vaelab.data.arrays import Part, assemble
from vaelab.data.dataset import Dataset
from vaelab.data.resize import Fit, Progress, fit_image, fit_note, to_pixels
from vaelab.errors import DataError

EXTENSIONS = (".png", ".jpg", ".jpeg")
FORMATS = ("PNG", "JPEG")
GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16B"})
SPLIT_FOLDERS = {"train": "train", "test": "test", "validation": "validation", "val": "validation"}
NOT_LISTED = frozenset({"__MACOSX"})
EXPECTED = "expected PNG or JPEG images, or a folder of them for each class"


class Listing(NamedTuple):
    """The images of one folder by class; `classes` is None for a flat folder without labels."""

    paths: list[Path]
    labels: list[str]
    classes: list[str] | None
    ignored: Counter[str]


class Decoded(NamedTuple):
    """One image: uint8 (C, H, W), the (H, W) it has in its file, and whether it has transparency."""

    pixels: np.ndarray
    size: tuple[int, int]
    transparent: bool


def load_image_folder(
    folder: Path,
    *,
    size: tuple[int, int] | None = None,
    fit: Fit = "crop",
    seed: int = 0,
    progress: Progress | None = None,
) -> Dataset:
    """The dataset of a folder of images.

    `train/` and, beside it, `test/` and `validation/` or `val/` are honoured. The images are grey if all of
    them are, else RGB. Images of mixed sizes need a `size` (H, W). Raises `DataError` for a folder without
    images or with loose images beside class folders, a broken image, mixed sizes without `size`, and a class
    that train/ does not have.
    """
    listings = _list_splits(folder)
    classes = listings["train"].classes
    paths = [path for listing in listings.values() for path in listing.paths]
    images, notes = _read_images(folder, paths, size, fit, progress)

    ignored = sum((listing.ignored for listing in listings.values()), Counter[str]())
    if ignored:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(ignored.items()))
        notes.append(f"Ignored what is no PNG or JPEG image: {kinds}.")

    parts: dict[str, Part] = {}
    start = 0
    for split, listing in listings.items():
        stop = start + len(listing.paths)
        labels = None
        if classes is not None:
            number = {name: k for k, name in enumerate(classes)}
            labels = np.array([number[name] for name in listing.labels], dtype=np.int64)
        parts[split] = Part(images[start:stop], labels)
        start = stop
    return assemble(
        folder.absolute().name,
        parts["train"],
        validation=parts.get("validation"),
        test=parts.get("test"),
        classes=None if classes is None else tuple(classes),
        seed=seed,
        notes=notes,
    )


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Sorting key under which "2" comes before "10"."""
    parts = re.split(r"(\d+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _list_splits(folder: Path) -> dict[str, Listing]:
    """What the folder holds, by split; "train" is always there and comes first."""
    names = [entry.name for entry in _entries(folder) if entry.is_dir()]
    splits = [name for name in SPLIT_FOLDERS if name in names]
    if not splits:
        return {"train": _list_images(folder)}
    others = [name for name in names if name not in SPLIT_FOLDERS and not _is_hidden(name)]
    if "train" not in splits or others or {"val", "validation"} <= set(splits):
        raise DataError(
            f"{folder}: got the folders {', '.join(sorted([*splits, *others]))}; expected train/ and "
            "beside it only test/ and validation/ (or val/), or else class folders of other names; "
            "rename or move some"
        )
    listings = {SPLIT_FOLDERS[name]: _list_images(folder / name) for name in splits}
    trained = listings["train"].classes
    for split, listing in listings.items():
        if (listing.classes is None) != (trained is None):
            raise DataError(
                f"{folder}: got class folders in only one of train/ and {split}/; expected them in both or "
                "neither; move the images into class folders"
            )
        if unknown := sorted(set(listing.classes or ()) - set(trained or ())):
            raise DataError(
                f"{folder}: got the class {', '.join(map(repr, unknown))} in {split}/ but not in train/; "
                f"expected only {', '.join(trained or ())}"
            )
    loose = Counter(_kind(entry) for entry in _entries(folder) if not entry.is_dir())
    if any(kind in EXTENSIONS for kind in loose):
        raise DataError(f"{folder}: got loose images beside train/; expected all images in train/ or the other folders")
    listings["train"].ignored.update(loose)
    return listings


def _list_images(folder: Path) -> Listing:
    """The images of class folders, or those of the folder itself, in natural order."""
    entries = _entries(folder)
    loose, ignored = _images_among(entries)
    folders = [entry for entry in entries if entry.is_dir() and not _is_hidden(entry.name)]
    paths: list[Path] = []
    labels: list[str] = []
    classes: list[str] = []
    for entry in folders:
        inside = _entries(entry)
        images, others = _images_among(inside)
        ignored += others
        nested = [child for child in inside if child.is_dir() and not _is_hidden(child.name)]
        if nested:
            raise DataError(
                f"{entry}: got the folder {nested[0].name}/ inside a class folder; expected only images "
                "there; move it, or name a folder further in as the source"
            )
        if not images:
            ignored["empty folder" if not inside else "folder without images"] += 1
            continue
        classes.append(entry.name)
        paths += images
        labels += [entry.name] * len(images)
    if loose and paths:
        raise DataError(
            f"{folder}: got {len(loose)} loose images ({loose[0].name}, …) beside class folders "
            f"({classes[0]}, …); expected one or the other; move the images into class folders"
        )
    if not loose and not paths:
        got = ", ".join(f"{count} {kind}" for kind, count in sorted(ignored.items())) or "nothing"
        raise DataError(f"{folder}: got {got}; {EXPECTED}")
    return Listing(loose or paths, labels, classes if paths else None, ignored)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: natural_order(path.name))


def _images_among(entries: Sequence[Path]) -> tuple[list[Path], Counter[str]]:
    """The images, by extension, and how many other files there are of each kind."""
    files = [entry for entry in entries if not entry.is_dir()]
    images = [file for file in files if _kind(file) in EXTENSIONS]
    return images, Counter(_kind(file) for file in files if _kind(file) not in EXTENSIONS)


def _kind(file: Path) -> str:
    return "hidden" if _is_hidden(file.name) else file.suffix.lower() or "without extension"


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in NOT_LISTED


def _read_images(
    folder: Path, paths: Sequence[Path], size: tuple[int, int] | None, fit: Fit, progress: Progress | None
) -> tuple[np.ndarray, list[str]]:
    """The images as uint8 (N, C, H, W), and what was done to them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # malformed EXIF and the like; the pixels are what counts
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        target = size or _common_size(folder, paths)
        return _decode_all(folder, paths, target, fit if size else None, progress)


def _decode_all(
    folder: Path, paths: Sequence[Path], size: tuple[int, int], fit: Fit | None, progress: Progress | None
) -> tuple[np.ndarray, list[str]]:
    images = _allocate(folder, (len(paths), 1, *size))
    sizes: list[tuple[int, int]] = []
    grey = transparent = 0
    for i, image in enumerate(_decoded(paths, size, fit)):
        if len(image.pixels) > images.shape[1]:  # the first image in colour
            wide = _allocate(folder, (len(paths), 3, *size))
            wide[:i] = images[:i]
            images = wide
        images[i] = image.pixels
        sizes.append(image.size)
        grey += len(image.pixels) == 1
        transparent += image.transparent
        if progress:
            progress("reading images", i + 1, len(paths))

    notes = []
    if fit and (note := fit_note(sizes, size, fit)):
        notes.append(note)
    if 0 < grey < len(paths):
        notes.append(f"Read {grey:,} grey images as RGB, like the other {len(paths) - grey:,}.")
    if transparent:
        notes.append(f"Laid {transparent:,} images with transparency on white.")
    return images, notes


def _allocate(folder: Path, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return np.empty(shape, dtype=np.uint8)
    except MemoryError:
        N, C, H, W = shape
        raise DataError(
            f"{folder}: got {N:,} images of {C}×{H}×{W}, more than memory holds; expected smaller ones; "
            "type for instance --size 64"
        ) from None


def _decoded(paths: Sequence[Path], size: tuple[int, int], fit: Fit | None) -> Iterator[Decoded]:
    """Each image in turn, decoded ahead by a pool of threads."""
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        yield from pool.map(lambda path: _decode(path, size, fit), paths)
    finally:
        pool.shutdown(cancel_futures=True)


def _decode(path: Path, size: tuple[int, int], fit: Fit | None) -> Decoded:
    """The image at `size`; without `fit` it must have that size."""
    try:
        with Image.open(path, formats=FORMATS) as file:
            grey = file.mode in GREY_MODES
            image = ImageOps.exif_transpose(file)
        if image.mode.startswith("I"):  # 16 bits a pixel
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        transparent = image.has_transparency_data
        if transparent:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("L" if grey else "RGB")
        old = (image.height, image.width)
        if fit:
            image = fit_image(image, size, fit)
        pixels = to_pixels(image)
    except Exception as error:  # on a broken file Pillow raises nearly anything, from SyntaxError to struct.error
        raise _broken(path, error) from None
    if pixels.shape[1:] != size:
        raise _mixed(path.parent, [size, old])
    return Decoded(pixels, old, transparent)


def _broken(path: Path, error: Exception) -> DataError:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return DataError(
            f"{path}: got more than {Image.MAX_IMAGE_PIXELS:,} pixels; expected an image that is safe to "
            "decompress; scale it down or remove it"
        )
    reason = "not PNG or JPEG inside" if isinstance(error, Image.UnidentifiedImageError) else error
    return DataError(f"{path}: cannot be read ({reason}); expected a whole PNG or JPEG image; mend or remove it")


def _common_size(folder: Path, paths: Sequence[Path]) -> tuple[int, int]:
    """The (H, W) of all images, told by their headers alone."""
    sizes = set(map(_header_size, paths))
    if len(sizes) > 1:
        raise _mixed(folder, sizes)
    return sizes.pop()


def _header_size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path, formats=FORMATS) as file:
            # A PNG's orientation, which is rare, can only be told by decoding it, and is seen then.
            turned = file.format != "PNG" and file.getexif().get(0x0112, 1) >= 5
            return (file.width, file.height) if turned else (file.height, file.width)
    except Exception as error:  # as in `_decode`
        raise _broken(path, error) from None


def _mixed(folder: Path, sizes: Sequence[tuple[int, int]] | set[tuple[int, int]]) -> DataError:
    smallest, *_, largest = (f"{h}×{w}" for h, w in sorted(sizes, key=lambda size: (size[0] * size[1], size)))
    return DataError(
        f"{folder}: got images of {len(sizes)} sizes, from {smallest} to {largest} (height×width); "
        "expected one size; type for instance --size 64 to bring all to 64×64"
    )
