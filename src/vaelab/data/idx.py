"""IDX files, the format of MNIST: two zero bytes, type, rank, dimensions as big-endian uint32, values.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import math
import os
import re
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vaelab.data.arrays import Part, assemble, channels_first, listed
from vaelab.data.dataset import Dataset
from vaelab.data.gunzip import Gunzip
from vaelab.data.image_files import Reading
from vaelab.data.layout import as_levels
from vaelab.data.limits import Budget, Limits
from vaelab.data.links import Links
from vaelab.errors import DataError
from vaelab.files import open_regular

UINT8 = 0x08
TYPES = {UINT8: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""NumPy's types by the number in the header; values are big-endian."""
DEFLATE_LIMIT = 1032
"""Maximum compression ratio of Deflate: a header that states more values is wrong, which shows without decompressing."""
NAME = re.compile(
    r"(?:.*[-_.])?(train|t10k|test)[-_.](images|labels)[-_.]idx\d?(?:[-_.](?:ubyte|byte|short|int|float|double))?(?:\.gz)?",
    re.IGNORECASE,
)
CHUNK = 1 << 20
"""Bytes per read; memory grows with the data read, not with the size stated in the header."""


def is_idx_name(name: str) -> bool:
    """Return whether the name is that of an IDX file of a data set."""
    return "idx" in name.lower() and NAME.fullmatch(name) is not None


def read_idx(path: Path, *, kinds: str = "u", budget: Budget | None = None, labels_of: int | None = None) -> np.ndarray:
    """Read the values of an IDX file, gzipped or not, in the shape stated in its header.

    `kinds` are the NumPy kinds of types that are expected: "u" (uint8), "i" (other integers), "f" (floats); `labels_of` is the
    number of images that the values are labels of. Memory is not allocated from the header alone. Raises `DataError` for a wrong
    magic number, another type or number of labels, a file that is shorter or longer than its header states, and one larger than
    `budget`, by default that of a file of its size.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            shape, dtype, expected = _read_header(stream := Gunzip(file) if zipped else file, path, kinds)
            if labels_of is not None and shape != (labels_of,):
                raise DataError(
                    f"{path}: got labels of shape {shape} for {labels_of:,} images; expected shape ({labels_of},), one label per "
                    "image"
                )
            stated = f"its header states {' × '.join(map(str, shape))} = {expected:,} bytes"
            if expected > (size * DEFLATE_LIMIT if zipped else size) - 4 - 4 * len(shape):
                raise DataError(f"{path}: {stated}, got fewer; the file is cut off or its header is wrong")
            (budget or Budget(Limits(), size)).take(expected, path)
            return np.frombuffer(_read_values(stream, expected, path, stated), dtype=dtype).reshape(shape)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(
            f"{path}: cannot be read ({reason}); expected a complete IDX file, gzipped or not; copy or download it again"
        ) from None


def _read_header(stream: BinaryIO | Gunzip, path: Path, kinds: str) -> tuple[tuple[int, ...], np.dtype, int]:
    """Read a header; return shape and type of the values, and their size in bytes."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or magic[3] == 0:
        raise DataError(
            f"{path}: got the first bytes {magic.hex(' ') or '(none)'}; expected an IDX file, which starts with "
            "00 00 08 03 (images) or 00 00 08 01 (labels)"
        )
    dtype = np.dtype(TYPES[magic[2]])
    if dtype.kind not in kinds:
        raise DataError(f"{path}: got IDX values of type {dtype.name}; expected uint8, which starts with 00 00 08")
    rank = magic[3]
    dimensions = stream.read(4 * rank)
    if len(dimensions) < 4 * rank:
        raise DataError(
            f"{path}: got a header of {4 + len(dimensions)} bytes; expected {4 + 4 * rank}; the file is cut off"
        )
    shape = struct.unpack(f">{rank}I", dimensions)
    if rank > 4 or 0 in shape:
        raise DataError(
            f"{path}: got a header of shape {' × '.join(map(str, shape[:9]))}; expected up to 4 dimensions, none of them 0"
        )
    return shape, dtype, math.prod(shape) * dtype.itemsize


def _read_values(stream: BinaryIO | Gunzip, expected: int, path: Path, stated: str) -> bytearray:
    """Read the values, of the size that the header states."""
    values = bytearray()
    # Requesting one byte more than expected detects trailing data and makes gzip verify its checksum.
    while chunk := stream.read(min(CHUNK, expected + 1 - len(values))):
        values += chunk
    if len(values) != expected:
        found, cause = "more", "the file has trailing data"
        if len(values) < expected:
            found, cause = f"{len(values):,}", "the file is cut off"
        raise DataError(f"{path}: {stated}, got {found}; {cause} or its header is wrong")
    return values


def load_idx_folder(folder: Path, reading: Reading = Reading()) -> Dataset:  # noqa: B008 - immutable
    """Load a folder of IDX files named like those of MNIST: train-images…, train-labels…, t10k-… or test-….

    The labels may be missing, and so may the test files or the training files. The classes are the sorted distinct labels. Other
    files are named in a note. Raises `DataError` for broken files, files that do not match in number or shape, and labels without
    images.
    """
    files, others = _find_files(folder)
    links = Links(os.path.realpath(folder), reading.follow_links)
    for path in files.values():
        links.expect_inside(str(path))
    budget = Budget(reading.limits, sum(path.stat().st_size for path in files.values()))
    notes = []
    if others:
        notes.append(
            f"Ignored {listed(others)}: files of images and labels have names such as train-images-idx3-ubyte, "
            "train-labels-idx1-ubyte and t10k-images-idx3-ubyte."
        )
    if any("emnist" in path.name.lower() for part, path in files.items() if part.endswith("images")):
        notes.append(
            "The files of EMNIST store images with rows and columns exchanged: these lie on their side. The built-in source "
            "emnist-letters turns them; others can be saved upright as an .npz file, with images.transpose(0, 2, 1)."
        )
    parts = {part for part in ("train", "test") if {f"{part}-images", f"{part}-labels"} & files.keys()}
    train = _read_part(files, "train", folder, notes, budget) if parts != {"test"} else None
    test = _read_part(files, "test", folder, notes, budget) if "test" in parts else None
    name = folder.absolute().name
    if train is not None and test is not None and test.images.shape[1:] != train.images.shape[1:]:
        raise DataError(
            f"{folder}: got test images of shape {test.images.shape[1:]}; expected that of the training "
            f"images, {train.images.shape[1:]}; put each data set into a separate folder"
        )
    return assemble(name, train, test=test, seed=reading.seed, notes=notes, limits=reading.limits)


def _find_files(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Find the IDX files of a folder, by part such as "train-images"; also return the names of its other files."""
    found: dict[str, list[Path]] = {}
    others = []
    for name in sorted(os.listdir(folder)):  # noqa: PTH208 - faster for many files
        if match := NAME.fullmatch(name):
            part = "train" if match[1].lower() == "train" else "test"
            found.setdefault(f"{part}-{match[2].lower()}", []).append(folder / name)
        elif not name.startswith("."):
            others.append(name)
    for part, paths in found.items():
        if len({path.name.removesuffix(".gz") for path in paths}) > 1:
            raise DataError(
                f"{folder}: got {', '.join(path.name for path in paths)}; expected one file of {part}; "
                "put each data set into a separate folder"
            )
    # Sorted: the uncompressed file comes before its .gz.
    return {part: paths[0] for part, paths in found.items()}, others


def _read_part(files: dict[str, Path], part: str, folder: Path, notes: list[str], budget: Budget) -> Part:
    """Read the images and labels of a part within `budget`, and add to `notes`."""
    if f"{part}-images" not in files:
        raise DataError(
            f"{folder}: got {', '.join(path.name for path in files.values())}; expected "
            f"{'train' if part == 'train' else 't10k'}-images-idx3-ubyte (or .gz) as well; copy it there"
        )
    path = files[f"{part}-images"]
    values = channels_first(read_idx(path, kinds="uf", budget=budget), str(path))
    if values.dtype.kind == "f":
        notes.append(f"Scaled the floating-point images of {path.name} from [0, 1] to 0…255 and rounded them.")
    images = as_levels(values, f"{path}: ")
    labels = None
    if (labels_path := files.get(f"{part}-labels")) is not None:
        labels = read_idx(labels_path, kinds="iu", budget=budget, labels_of=len(images))
    return Part(images, labels)
