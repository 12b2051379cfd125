"""On-disk cache of decoded image folders and generated strokes: one file per source and set of options.

File format: a NumPy array followed by a note, `array.npy | JSON | length of the JSON | CRC-32 of everything before`. The file
name consists of three hashes: of the folder, of the request (the options), and of the names, sizes and modification times of
the source files, so that a changed file leads to another name. The file is memory-mapped, because reading it would hold the
images in memory twice. Errors when reading or writing the cache are ignored.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import struct
import time
import warnings
import zlib
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from vaelab.errors import OutputError
from vaelab.files import atomic_write

FORMAT = 2
"""Version of the file format and of the decoding; increase it when either changes."""

MAX_ENTRIES = 3
"""Maximum number of entries per folder; the oldest are deleted."""

ABANDONED = 3600.0
"""Age in seconds from which the temporary file of a process that was killed is deleted."""

CHECKSUM = struct.Struct("<L")
TAIL = struct.Struct("<QL")


def cache_folder() -> Path:
    """Return the folder of downloads and cached images: `VAELAB_CACHE_DIR`, or the user's cache folder."""
    if named := os.environ.get("VAELAB_CACHE_DIR"):
        return Path(named)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in a notebook without ipywidgets, its progress bar warns when it is imported
        import pooch

    return Path(pooch.os_cache("vaelab"))


class Entry(NamedTuple):
    """Key of a cache entry: hashes of the folder, of the request, and of the state of the files.

    For generated data: hashes of the name, of the request, and of the code that generates it.
    """

    folder: str
    request: str
    state: str

    @property
    def path(self) -> Path:
        """Path of the cache file."""
        return cache_folder() / "decoded" / f"{self.folder}-{self.request}-{self.state}.npy"


def entry_for(folder: Path, request: object, files: bytes) -> Entry:
    """Return the entry for a folder, a request (any value with a deterministic repr) and the state of the files."""
    return _entry(os.fsencode(folder.resolve()), request, files)


def entry_for_drawings(name: str, request: object, code: bytes) -> Entry:
    """Return the entry for generated data, a request (any value with a deterministic repr) and the generating code."""
    return _entry(name.encode(), request, code)


def _entry(folder: bytes, request: object, state: bytes) -> Entry:
    parts = (folder, repr((FORMAT, request)).encode(), state)
    return Entry(*(hashlib.blake2b(part, digest_size=8).hexdigest() for part in parts))


def load_entry(entry: Entry) -> tuple[np.ndarray, dict[str, Any]] | None:
    """Return the array (memory-mapped, read-only) and the note of an entry; None if it is missing or damaged."""
    try:
        with entry.path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            length, checksum = TAIL.unpack(mapped[-TAIL.size :])
            if zlib.crc32(memoryview(mapped)[: -CHECKSUM.size]) != checksum:
                return None
            note = json.loads(mapped[-TAIL.size - length : -TAIL.size])
            array = np.load(entry.path, mmap_mode="r", allow_pickle=False)
        os.utime(entry.path)  # mark as recently used, so that it is not deleted first
        return array, note
    except (OSError, ValueError, EOFError, struct.error):
        return None


def save_entry(entry: Entry, array: np.ndarray, note: dict[str, Any]) -> bool:
    """Save an array and a note (JSON types), delete older entries of the folder, and return whether it was saved."""
    with suppress(OSError, OutputError):
        entry.path.parent.mkdir(parents=True, exist_ok=True)
        if array.nbytes > shutil.disk_usage(entry.path.parent).free // 2:
            return False
        for old in [*_replaced_by(entry), *_abandoned(entry.path.parent)]:
            old.unlink(missing_ok=True)
        with atomic_write(entry.path) as temporary, temporary.open("wb") as file:
            sink = _ChecksumWriter(file)
            np.lib.format.write_array_header_1_0(sink, np.lib.format.header_data_from_array_1_0(array))
            sink.write(array.data)
            text = json.dumps(note).encode()
            sink.write(text)
            sink.write(struct.pack("<Q", len(text)))
            file.write(CHECKSUM.pack(sink.checksum))
        return True
    return False


def _replaced_by(entry: Entry) -> list[Path]:
    """Return the entries to delete: those of the same request, and the oldest of the others."""
    found = [path for path in entry.path.parent.glob(f"{entry.folder}-*.npy") if path != entry.path]
    same = [path for path in found if path.name.startswith(f"{entry.folder}-{entry.request}-")]
    rest = sorted((path for path in found if path not in same), key=lambda path: -path.stat().st_mtime)
    return [*same, *rest[MAX_ENTRIES - 1 :]]


def _abandoned(folder: Path) -> list[Path]:
    """Return the temporary files of processes that were killed while they wrote an entry."""
    return [path for path in folder.glob(".*.npy") if time.time() - path.stat().st_mtime > ABANDONED]


class _ChecksumWriter:
    """Write to a file and compute the CRC-32 of its content."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.checksum = file, 0

    def write(self, content: bytes | memoryview) -> None:
        self.file.write(content)
        self.checksum = zlib.crc32(content, self.checksum)
