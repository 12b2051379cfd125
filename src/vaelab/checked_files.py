"""Reading files that a stranger may have written: regular files only, of limited size, and JSON of a limited number of values.

The limits are checked before memory is taken. They are far above what vaelab writes.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from vaelab.files import open_regular

MAX_JSON_BYTES = 4_000_000
"""Largest JSON file: 10,000 class names of 400 bytes."""

MAX_JSON_VALUES = 200_000
"""Largest number of brackets, commas and colons in a JSON file: each value takes up to a hundred bytes of memory."""


def read_regular(path: Path, most: int, *, follow_links: bool = True) -> bytes:
    """Return the content of a file.

    Parameters
    ----------
    path
        The file.
    most
        Largest number of bytes.
    follow_links
        Whether the file may be a symbolic link.

    Raises
    ------
    OSError
        If it cannot be read, is larger, or is no regular file, such as a pipe, which would be waited for.
    """
    with open_regular(path, follow_links=follow_links) as file:
        if (size := os.fstat(file.fileno()).st_size) > most:
            raise OSError(f"{size:,} bytes; expected at most {most:,}")
        return file.read(size)


def read_json(path: Path, *, follow_links: bool = True) -> Any:
    """Return what a JSON file holds; an OSError as from `read_regular`, a ValueError as from `parse_json`."""
    return parse_json(read_regular(path, MAX_JSON_BYTES, follow_links=follow_links))


def parse_json(text: bytes, most: int = MAX_JSON_VALUES) -> Any:
    """Return what a JSON text in UTF-8 holds.

    Raises
    ------
    ValueError
        If it is none, holds NaN or infinity, is nested too deeply, or has more than `most` brackets, commas and colons.
    """
    if (count := sum(map(text.count, (b"[", b"{", b",", b":")))) > most:
        raise ValueError(f"about {count:,} values; expected at most {most:,}")
    try:
        return json.loads(text.decode("utf-8"), parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def is_private(path: Path) -> bool:
    """Return whether a path is a file or folder, no link, that this user owns and nobody else can write to."""
    with suppress(OSError):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            return not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not others)
    return False
