"""NumPy archives of `images` and optionally `labels`, and of the same for validation and test: `test_images`, `test_labels`.

The spellings of other libraries are read as well, such as `X` and `y`, or `x_train` and `y_test`. Pickled objects are not loaded.
"""

from __future__ import annotations

import io
import math
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from vaelab.data.arrays import Part, assemble, channels_first
from vaelab.data.dataset import Dataset
from vaelab.data.depth import scaled_levels
from vaelab.data.image_files import Reading
from vaelab.data.layout import as_levels
from vaelab.data.limits import Budget
from vaelab.data.names import SPLITS, canonical, renamed_notes
from vaelab.errors import DataError
from vaelab.files import open_regular

HOW_TO_SAVE = "save it with np.savez(path, images=images, labels=labels)"
ROLES = {"images": ("images", "image", "imgs", "x"), "labels": ("labels", "label", "targets", "target", "y")}


def _spellings() -> dict[str, list[str]]:
    """Return the known names of arrays, each with other spellings."""
    known = {}
    for split, (role, names) in product(SPLITS, ROLES.items()):
        both = product(SPLITS[split], names)
        spellings = [spelling for word, name in both for spelling in (f"{word}_{name}", f"{name}_{word}")]
        known[role if split == "train" else f"{split}_{role}"] = [*spellings, *(names if split == "train" else ())]
    return known


SPELLINGS = _spellings()

MAX_DIRECTORY = 1 << 20
"""Largest size in bytes of the directory of an archive, for which `zipfile` takes 20 times the memory."""


class _Header(NamedTuple):
    """The array that a member of an archive states."""

    shape: tuple[int, ...]
    dtype: np.dtype


def load_npz(path: Path, reading: Reading = Reading()) -> Dataset:  # noqa: B008 - immutable
    """Load an archive.

    Images are uint8, or floats in [0, 1], which are scaled to 0…255 and rounded, or of any type with the value of `white`; the
    shape is (N, H, W), (N, H, W, C) or (N, C, H, W). Labels are integers or text, shape (N,); the classes are the sorted distinct
    labels. An archive with test images only has no training images. Raises `DataError` for a broken archive, pickled objects,
    wrong types, shapes or ranges, labels that do not match the images, and several arrays of the same meaning.
    """
    white = reading.white
    arrays, meant, ignored = _read_arrays(path, reading)
    if "images" not in arrays and ("labels" in arrays or not any(key.endswith("images") for key in arrays)):
        got = ", ".join([*arrays, *ignored]) or "no array"
        raise DataError(f"{path}: got {got}; expected an array named 'images'; {HOW_TO_SAVE}")
    notes = list(renamed_notes(meant, "array"))
    if ignored:
        notes.append(
            f"Ignored the arrays {', '.join(ignored)}; only images, labels, test_images and the like are read."
        )
    if white is None and any(key.endswith("images") and array.dtype.kind == "f" for key, array in arrays.items()):
        notes.append("Scaled floating-point images from [0, 1] to 0…255 and rounded them.")
    parts = {}
    for split in SPLITS:
        prefix = "" if split == "train" else f"{split}_"
        images, labels = arrays.get(f"{prefix}images"), arrays.get(f"{prefix}labels")
        if images is not None:
            pixels = _pixels(images, f"{path}: {prefix}images", white)
            parts[split] = Part(pixels, _label_values(labels, f"{prefix}labels", path))
        elif labels is not None:
            raise DataError(f"{path}: got {prefix}labels without {prefix}images; expected both; {HOW_TO_SAVE}")
    train = parts.get("train")
    for split, part in parts.items():
        if train is not None and part.images.shape[1:] != train.images.shape[1:]:
            raise DataError(
                f"{path}: got {split}_images of shape {part.images.shape[1:]} each; expected the shape of images, "
                f"{train.images.shape[1:]}"
            )
    kinds = {part.labels.dtype.kind == "U" for part in parts.values() if part.labels is not None}
    if len(kinds) > 1:
        raise DataError(f"{path}: got text labels and integer labels; expected the same type in labels and test_labels")
    train, validation, test = (parts.get(split) for split in SPLITS)
    name = path.absolute().stem
    return assemble(
        name, train, validation=validation, test=test, seed=reading.seed, notes=notes, limits=reading.limits
    )


def _read_arrays(path: Path, reading: Reading) -> tuple[dict[str, np.ndarray], dict[str, str], list[str]]:
    """Read the arrays of an archive, by known name; also return their own names, by known name, and those of other arrays."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if file.peek(6).startswith(np.lib.format.MAGIC_PREFIX):
                _read_header(file)
                raise DataError(f"{path}: got a single .npy array; expected an .npz archive; {HOW_TO_SAVE}")
            with zipfile.ZipFile(_SmallReads(file)) as archive:
                members = {name.removesuffix(".npy"): name for name in archive.namelist()}
                meant = canonical(members, SPELLINGS, str(path), "array")
                headers = {}
                budget = Budget(reading.limits, size)
                for key, name in meant.items():
                    with _member(archive, members[name]) as member:
                        headers[key] = _read_header(member)
                    budget.take(math.prod(headers[key].shape) * max(1, headers[key].dtype.itemsize), f"{path}: {name}")
                _expect_matching(headers, path)
                arrays = {}
                for key, name in meant.items():
                    with _member(archive, members[name]) as member:
                        arrays[key] = np.lib.format.read_array(member, allow_pickle=False)
                return arrays, meant, sorted(set(members) - set(meant.values()))
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy's parser of headers raise many types on broken archives
        if str(error).startswith("Object arrays"):
            raise DataError(
                f"{path}: got pickled Python objects, which can execute code; expected plain arrays of uint8 "
                f"images and integer or text labels; {HOW_TO_SAVE}"
            ) from None
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(f"{path}: cannot be read ({reason}); expected a complete .npz archive; {HOW_TO_SAVE}") from None


class _SmallReads(io.BufferedReader):
    """A file of which only the directory of an archive of too many members would be read in one large part."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(io.FileIO(file.fileno(), closefd=False))

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MAX_DIRECTORY:
            raise ValueError(f"its directory states {size:,} bytes; expected at most {MAX_DIRECTORY:,}")
        return super().read(size)


@contextmanager
def _member(archive: zipfile.ZipFile, name: str) -> Iterator[IO[bytes]]:
    """Open a member of an archive. Raises ValueError if it is compressed in other ways than those of NumPy."""
    if archive.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is compressed in another way than by NumPy")  # bzip2 decodes to any size at once
    with archive.open(name) as member:
        yield member


def _read_header(member: IO[bytes]) -> _Header:
    """Read the header of an array."""
    version = np.lib.format.read_magic(member)
    if version != (1, 0):  # others are for headers of more than 64 kB, which NumPy reads before it refuses them
        raise ValueError(f"an array in version {version} of the format")
    shape, _, dtype = np.lib.format.read_array_header_1_0(member)
    if min(shape, default=0) < 0:
        raise ValueError(f"an array of shape {shape}")
    return _Header(shape, dtype)


def _expect_matching(headers: dict[str, _Header], path: Path) -> None:
    """Raise `DataError` unless each array of labels has as many as its images, before these are read."""
    for key, header in headers.items():
        split, _, role = f"training_{key}".rpartition("_")
        images = headers.get(key.replace("labels", "images"))
        if role == "labels" and images and images.shape and header.shape != images.shape[:1]:
            raise DataError(
                f"{path}: got {images.shape[0]} {split.removeprefix('training_')} images and labels of shape {header.shape}; "
                f"expected shape ({images.shape[0]},), one label per image"
            )


def _pixels(images: np.ndarray, where: str, white: float | None) -> np.ndarray:
    """Convert images to uint8 (N, C, H, W)."""
    images = channels_first(images, where)
    return as_levels(images, f"{where}: ") if white is None else scaled_levels(images, white, where)


def _label_values(labels: np.ndarray | None, key: str, path: Path) -> np.ndarray | None:
    """Return labels as integers or text of shape (N,), or None."""
    if labels is None:
        return None
    if labels.dtype.kind == "S":
        try:
            labels = np.char.decode(labels, "utf-8")
        except UnicodeDecodeError:
            raise DataError(f"{path}: {key}: got bytes that are not UTF-8; expected integers or text") from None
    if labels.dtype.kind not in "iuU":
        raise DataError(
            f"{path}: {key}: got type {labels.dtype}; expected integers or text; convert with {key}.astype(int) or "
            f"{key}.astype(str)"
        )
    return labels if labels.dtype.kind == "U" else labels.astype(np.int64)
