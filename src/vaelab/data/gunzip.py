"""Decompress gzip in parts, in time and memory that the size of the file limits.

Python's `gzip` reads the names in headers byte by byte and decodes any number of empty parts: a small file can take minutes.
"""

from __future__ import annotations

import zlib
from typing import BinaryIO

GZIP = 16 + zlib.MAX_WBITS
"""`wbits` of a gzip header and checksum."""

READ = 1 << 16
"""Compressed bytes per read."""

MAX_MEMBERS = 10_000
"""Largest number of concatenated gzip streams in a file; tools that compress in blocks make one for each 64 kB."""


class Gunzip:
    """The decompressed content of a gzip file; checksums are verified."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.stream = zlib.decompressobj(GZIP)
        self.compressed, self.members = b"", 1

    def read(self, count: int) -> bytes:
        """Return `count` bytes, or fewer at the end.

        Raises
        ------
        EOFError, zlib.error
            If the file is cut off, damaged or not gzip, or consists of more than `MAX_MEMBERS` streams.
        """
        content = bytearray()
        while len(content) < count:
            self.compressed = self.compressed or self.file.read(READ)
            if self.stream.eof:
                self.compressed = self.compressed.lstrip(b"\0") or self.file.read(READ).lstrip(b"\0")  # padding
                if not self.compressed:
                    break
                if self.members == MAX_MEMBERS:
                    raise zlib.error(f"more than {MAX_MEMBERS:,} gzip streams")
                self.stream, self.members = zlib.decompressobj(GZIP), self.members + 1
            cut_off = not self.compressed
            more = self.stream.decompress(self.compressed, count - len(content))
            if cut_off and not more and not self.stream.eof:
                raise EOFError("compressed file ended before the end of its stream")
            content += more
            self.compressed = self.stream.unused_data if self.stream.eof else self.stream.unconsumed_tail
        return bytes(content)
