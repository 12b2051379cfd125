"""IDX files, the format of MNIST: two zero bytes, type, rank, the sides as big-endian uint32, the values.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".
"""

from __future__ import annotations

import gzip
import math
import os
import re
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from vaelab.data.arrays import Part, assemble, channels_first
from vaelab.data.dataset import Dataset
from vaelab.errors import DataError

UINT8 = 0x08
TYPES = {UINT8: "uint8", 0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
DEFLATE_LIMIT = 1032
"""Deflate inflates no byte to more than this many, so a longer promise is a lie that needs no inflating."""
NAME = re.compile(r"(?:.*[-_.])?(train|t10k|test)[-_](images|labels)[-_.]idx\d?(?:[-_.]ubyte)?(?:\.gz)?", re.IGNORECASE)
CHUNK = 1 << 20
"""Bytes read at a time, so that no memory is taken for values that are not there."""


def is_idx_name(name: str) -> bool:
    """Whether a file of this name is one of a folder of IDX files."""
    return NAME.fullmatch(name) is not None


def read_idx(path: Path) -> np.ndarray:
    """The uint8 values of one IDX file, gzipped or not, in the shape that its header states.

    Nothing is allocated on the header's word alone. Raises `DataError` for a wrong magic number, a type other
    than uint8, and a file that ends before or goes on after what its header promises.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            zipped = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if zipped:
                with gzip.open(file) as inflated:
                    return _read_values(inflated, size * DEFLATE_LIMIT, path)
            return _read_values(file, size, path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); expected a whole IDX file, gzipped or not; copy or download it anew"
        ) from None


def _read_values(stream: BinaryIO | gzip.GzipFile, most: int, path: Path) -> np.ndarray:
    """The values of `stream`, which holds at most `most` bytes."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or magic[3] == 0:
        raise DataError(
            f"{path}: got the first bytes {magic.hex(' ') or '(none)'}; expected an IDX file, which begins "
            "00 00 08 03 (images) or 00 00 08 01 (labels)"
        )
    if magic[2] != UINT8:
        raise DataError(f"{path}: got IDX values of type {TYPES[magic[2]]}; expected uint8, which begins 00 00 08")
    rank = magic[3]
    sides = stream.read(4 * rank)
    if len(sides) < 4 * rank:
        raise DataError(f"{path}: got a header of {4 + len(sides)} bytes; expected {4 + 4 * rank}; the file is cut off")
    shape = struct.unpack(f">{rank}I", sides)
    if rank > 4 or 0 in shape:
        raise DataError(
            f"{path}: got a header of shape {' × '.join(map(str, shape[:9]))}; expected up to 4 sides, none of them 0"
        )
    expected = math.prod(shape)
    promise = f"its header promises {' × '.join(map(str, shape))} = {expected:,} bytes"
    if expected > most - 4 - 4 * rank:
        raise DataError(f"{path}: {promise}, got fewer; the file is cut off or its header is wrong")
    values = bytearray()
    # One byte more than promised is asked for: it must not be there, and asking makes gzip check its sum.
    while chunk := stream.read(min(CHUNK, expected + 1 - len(values))):
        values += chunk
    if len(values) != expected:
        found, cause = "more", "data follow its end"
        if len(values) < expected:
            found, cause = f"{len(values):,}", "the file is cut off"
        raise DataError(f"{path}: {promise}, got {found}; {cause} or its header is wrong")
    return np.frombuffer(values, dtype=np.uint8).reshape(shape)


def load_idx_folder(folder: Path, *, seed: int = 0) -> Dataset:
    """The dataset of a folder of IDX files named as MNIST's: train-images…, train-labels…, t10k-… or test-….

    Labels may be missing, and the test files or the training files. The classes are the distinct labels, in order. Raises
    `DataError` for broken files, files that do not match in number or shape, and labels without images.
    """
    files = _find_files(folder)
    parts = {part for part in ("train", "test") if {f"{part}-images", f"{part}-labels"} & files.keys()}
    train = _read_part(files, "train", folder) if parts != {"test"} else None
    test = _read_part(files, "test", folder) if "test" in parts else None
    name = folder.absolute().name
    if train is not None and test is not None and test.images.shape[1:] != train.images.shape[1:]:
        raise DataError(
            f"{folder}: got test images of shape {test.images.shape[1:]}; expected that of the training "
            f"images, {train.images.shape[1:]}; keep each set in a folder of its own"
        )
    return assemble(name, train, test=test, seed=seed)


def _find_files(folder: Path) -> dict[str, Path]:
    """The folder's IDX files by their part, such as "train-images"."""
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if match := NAME.fullmatch(path.name):
            part = "train" if match[1].lower() == "train" else "test"
            found.setdefault(f"{part}-{match[2].lower()}", []).append(path)
    for part, paths in found.items():
        if len({path.name.removesuffix(".gz") for path in paths}) > 1:
            raise DataError(
                f"{folder}: got {', '.join(path.name for path in paths)}; expected one file of {part}; "
                "keep each set in a folder of its own"
            )
    return {part: paths[0] for part, paths in found.items()}  # sorted: the plain file comes before its .gz


def _read_part(files: dict[str, Path], part: str, folder: Path) -> Part:
    if f"{part}-images" not in files:
        raise DataError(
            f"{folder}: got {', '.join(path.name for path in files.values())}; expected "
            f"{'train' if part == 'train' else 't10k'}-images-idx3-ubyte (or .gz) among them; copy it there"
        )
    path = files[f"{part}-images"]
    images = channels_first(read_idx(path), str(path))
    labels = None
    if (labels_path := files.get(f"{part}-labels")) is not None:
        labels = read_idx(labels_path)
        if labels.shape != (len(images),):
            raise DataError(
                f"{labels_path}: got labels of shape {labels.shape} for {len(images):,} images; "
                f"expected shape ({len(images)},), one label per image"
            )
    return Part(images, labels)
