"""Images kept on disk, so that a large folder is decoded once, and strokes are drawn once: one file for each way of reading.

The file is a NumPy array with a note at its end, `array.npy | JSON | length of the JSON | CRC-32 of all before`, and its
name is made of three hashes: of the folder, of what was asked for, and of the files' names, sizes and times. So a
changed file is another name. It is mapped into memory, since reading it at once would hold the images twice. What cannot be
read or written is as if it were not there.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from vaelab.errors import OutputError
from vaelab.files import atomic_write

FORMAT = 1
"""Of the file and of what decoding does: to be raised when either changes."""

MOST_KEPT = 3
"""Entries kept of one folder: the newest."""

CHECKSUM = struct.Struct("<L")
TAIL = struct.Struct("<QL")


def cache_folder() -> Path:
    """Where downloads, decoded and drawn images are kept: `VAELAB_CACHE_DIR`, or the user's cache folder."""
    if named := os.environ.get("VAELAB_CACHE_DIR"):
        return Path(named)
    import pooch

    return Path(pooch.os_cache("vaelab"))


class Entry(NamedTuple):
    """The name of what is kept: hashes of a folder, of what was asked for, of the state of its files.

    Of what is drawn: hashes of its name, of what was asked for, of the code that draws it.
    """

    folder: str
    request: str
    state: str

    @property
    def path(self) -> Path:
        """Where it is kept."""
        return cache_folder() / "decoded" / f"{self.folder}-{self.request}-{self.state}.npy"


def entry_for(folder: Path, request: object, files: bytes) -> Entry:
    """The entry of a folder, what was asked for (anything with a repr) and the state of its files."""
    return _named(os.fsencode(folder.resolve()), request, files)


def entry_for_drawings(name: str, request: object, code: bytes) -> Entry:
    """The entry of a source that is drawn, what was asked for (anything with a repr) and all that its pixels hang on."""
    return _named(name.encode(), request, code)


def _named(folder: bytes, request: object, state: bytes) -> Entry:
    parts = (folder, repr((FORMAT, request)).encode(), state)
    return Entry(*(hashlib.blake2b(part, digest_size=8).hexdigest() for part in parts))


def load_entry(entry: Entry) -> tuple[np.ndarray, dict[str, Any]] | None:
    """The array, mapped from the file and read-only, and the note; None where there is none that is whole."""
    try:
        with entry.path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            length, checksum = TAIL.unpack(mapped[-TAIL.size :])
            if zlib.crc32(memoryview(mapped)[: -CHECKSUM.size]) != checksum:
                return None
            note = json.loads(mapped[-TAIL.size - length : -TAIL.size])
            array = np.load(entry.path, mmap_mode="r", allow_pickle=False)
        os.utime(entry.path)  # it is in use: not to be the first to go
        return array, note
    except (OSError, ValueError, EOFError, struct.error):
        return None


def save_entry(entry: Entry, array: np.ndarray, note: dict[str, Any]) -> bool:
    """Keep an array and a note (of JSON's types), and let older entries of the same folder go; whether it was kept."""
    with suppress(OSError, OutputError):
        entry.path.parent.mkdir(parents=True, exist_ok=True)
        if array.nbytes > shutil.disk_usage(entry.path.parent).free // 2:
            return False
        for old in _others(entry):
            old.unlink(missing_ok=True)
        with atomic_write(entry.path) as temporary, temporary.open("wb") as file:
            sink = _Summed(file)
            np.lib.format.write_array_header_1_0(sink, np.lib.format.header_data_from_array_1_0(array))
            sink.write(array.data)
            text = json.dumps(note).encode()
            sink.write(text)
            sink.write(struct.pack("<Q", len(text)))
            file.write(CHECKSUM.pack(sink.checksum))
        return True
    return False


def _others(entry: Entry) -> list[Path]:
    """The entries that one replaces: those of the same request, and all but the newest of the others."""
    found = [path for path in entry.path.parent.glob(f"{entry.folder}-*.npy") if path != entry.path]
    same = [path for path in found if path.name.startswith(f"{entry.folder}-{entry.request}-")]
    rest = sorted((path for path in found if path not in same), key=lambda path: -path.stat().st_mtime)
    return [*same, *rest[MOST_KEPT - 1 :]]


class _Summed:
    """A file and the CRC-32 of what was written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.checksum = file, 0

    def write(self, content: bytes | memoryview) -> None:
        self.file.write(content)
        self.checksum = zlib.crc32(content, self.checksum)
