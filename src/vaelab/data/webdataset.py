"""WebDataset: tar files of samples, whose members have the same name up to its first dot, such as `0001.jpg` and `0001.cls`.

The image of a sample is the member with the extension of an image, its label is in `.cls` (an integer or text) or in `.json` (see
`LABELS`). Nothing is extracted: members are read from where they lie in the tar.
"""

from __future__ import annotations

import json
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from vaelab.data.dataset import Dataset
from vaelab.data.encoded import Range
from vaelab.data.formats import EXTENSIONS
from vaelab.data.image_files import Reading
from vaelab.data.names import checked_name, class_name
from vaelab.data.shards import Shard, load_shards, splits_of_shards
from vaelab.data.table import COLUMNS
from vaelab.errors import DataError, counted
from vaelab.files import open_regular

LABELS = ("label", *COLUMNS["label"])
"""Keys of the label in a `.json` member."""

MAX_LABEL = 1 << 20
"""Largest size in bytes of a member with a label, and of a header of the tar."""

REPORT_EVERY = 5000
"""Number of members from one report of progress to the next."""


def load_webdataset(source: Path, files: Sequence[Path], reading: Reading) -> Dataset:
    """Load the samples of tar files.

    Splits are those of the names of the files. The result is as in `load_image_files`. Raises `DataError` for a compressed,
    broken or incomplete tar, a sample of several images, labels of only some samples, and a broken image.
    """
    ignored = Counter[str]()
    shards = [
        _indexed(path, split, ignored, reading)
        for path, split in zip(files, splits_of_shards(source, files), strict=True)
    ]
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(ignored.items()))
    return load_shards(source, shards, reading, [f"Ignored members of the tars: {kinds}."] if kinds else [])


class _SmallReads:
    """A tar file of which no header is read that states an extreme size."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_LABEL:
            raise ValueError(f"a header of {size:,} bytes")
        return self.file.read(size)


def _indexed(path: Path, split: str, ignored: Counter[str], reading: Reading) -> Shard:
    """Return the samples of a tar, from one pass over its headers and labels."""
    if path.suffix.lower() != ".tar":
        raise DataError(
            f"{path}: got a compressed tar; expected an uncompressed one, whose images are read in any order; unpack it "
            "to .tar, for instance with gunzip"
        )
    images: dict[str, Range] = {}
    labels: dict[str, str] = {}
    try:
        with open_regular(path) as file:
            size = file.seek(0, 2)
            file.seek(0)
            small: Any = _SmallReads(file)
            tar: Any
            with tarfile.open(fileobj=small, mode="r:") as tar:
                for number, member in enumerate(tar):
                    tar.members.clear()  # which would grow with the tar
                    first, last = member.offset_data, member.offset_data + member.size
                    if not 0 <= first <= last <= size:
                        raise DataError(f"{path}: member {member.name!r} ends after the file; expected a complete tar")
                    _add(path, member, file, images, labels, ignored)
                    if reading.progress and number % REPORT_EVERY == 0:
                        reading.progress(f"listing {path.name} (bytes)", last, size)
                file.seek(tar.offset)
                if file.read(tarfile.BLOCKSIZE).strip(b"\0") or file.tell() == tar.offset:
                    raise ValueError(f"no member and no end mark at byte {tar.offset:,}")
    except (DataError, PermissionError):
        raise
    except Exception as error:  # tarfile raises many types on broken files, also ValueError and RecursionError
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataError(
            f"{path}: cannot be read ({reason}); expected a complete, uncompressed tar; copy it again"
        ) from None
    if labels and (missing := [key for key in images if key not in labels]):
        raise DataError(
            f"{path}: got no label for {missing[0]!r}, one of {counted(len(missing), 'image')} without; expected a .cls, or a "
            ".json with a label, in every sample or in none"
        )
    names = [labels[key] for key in images] if labels else None
    return Shard(list(images.values()), [split] * len(images), names)


def _add(
    path: Path,
    member: tarfile.TarInfo,
    file: IO[bytes],
    images: dict[str, Range],
    labels: dict[str, str],
    ignored: Counter[str],
) -> None:
    """Add the image or the label that a member of a tar is."""
    folder, slash, name = member.name.rpartition("/")
    stem, dot, kind = name.partition(".")
    key, kind = f"{folder}{slash}{stem}", kind.lower()
    where = f"{path}: {member.name}"
    if member.isdir():
        return
    if not member.isreg() or member.issparse():
        ignored["links, devices and sparse files"] += 1
    elif not stem or not dot:
        ignored["without a name or extension"] += 1
    elif f".{kind}" in EXTENSIONS:
        if key in images:
            raise DataError(f"{where}: is the second image of its sample, beside {images[key].name}; expected one")
        images[key] = Range(str(path), member.name, member.offset_data, member.size)
    elif kind in ("cls", "json"):
        if member.size > MAX_LABEL:
            raise DataError(f"{where}: got {member.size:,} bytes; expected a label, of at most {MAX_LABEL:,} bytes")
        file.seek(member.offset_data)
        label = _label(file.read(member.size), kind, where)
        if label is not None and (kind == "cls" or key not in labels):
            labels[key] = label
    else:
        ignored[f".{kind}"] += 1


def _label(content: bytes, kind: str, where: str) -> str | None:
    """Return the class name in a `.cls` or `.json` member, or None if it has none."""
    try:
        text = content.decode().strip()
        found = json.loads(text) if kind == "json" else None
    except (ValueError, RecursionError):
        raise DataError(f"{where}: is not UTF-8 {'JSON' if kind == 'json' else 'text'}; expected a label") from None
    if kind == "cls":
        if not text:
            raise DataError(f"{where}: is empty; expected a label")
        return checked_name(text, where)
    if not isinstance(found, dict):
        return None
    return class_name(next((found[name] for name in LABELS if name in found), None), where) or None
