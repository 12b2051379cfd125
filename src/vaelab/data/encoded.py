"""Encoded images: files, and the images inside files of many, such as the members of a tar or the rows of a table.

A source refers to an image by an `ImageFile`: a path, or an `Encoded`. Both are read in the same way, and the text of both names
the image in messages.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import TypeAlias

from vaelab.errors import DataError
from vaelab.files import open_regular


class Encoded(ABC):
    """An image inside a file.

    Attributes
    ----------
    path
        Path of the file.
    """

    __slots__ = ("path",)

    path: str

    @property
    @abstractmethod
    def place(self) -> str:
        """Name of the image within the file."""

    @abstractmethod
    def read(self, most: int) -> bytes:
        """Return the encoded image, cut off after `most` bytes. Raises `DataError` if the file cannot be read."""

    def __str__(self) -> str:
        return f"{self.path}: {self.place}"


ImageFile: TypeAlias = str | Encoded
"""An encoded image: the path of a file, or an image inside a file."""


class Range(Encoded):
    """An image whose encoded bytes are `first` to `first + size` of a file."""

    __slots__ = ("first", "name", "size")

    def __init__(self, path: str, name: str, first: int, size: int) -> None:
        self.path, self.name, self.first, self.size = path, name, first, size

    @property
    def place(self) -> str:
        return self.name

    def read(self, most: int) -> bytes:
        try:
            with open_regular(self.path) as file:
                file.seek(self.first)
                content = file.read(min(self.size, most))
        except OSError as error:
            raise DataError(f"{self}: cannot be read ({error.strerror or error}); expected a readable file") from None
        if len(content) < min(self.size, most):
            raise DataError(f"{self}: ends too early; expected that the file does not change while it is read")
        return content


class Loaded(Encoded):
    """An image whose encoded bytes are in memory; its path is its name for messages."""

    __slots__ = ("content",)

    def __init__(self, name: str, content: bytes) -> None:
        self.path, self.content = name, content

    @property
    def place(self) -> str:
        return ""

    def __str__(self) -> str:
        return self.path

    def read(self, most: int) -> bytes:
        return self.content[:most]


def state(image: ImageFile, root: str = "") -> str:
    """Return the name of an image, relative to `root`, and size and modification time of its file, if it exists."""
    name = str(image).removeprefix(root)
    try:
        # Creating a Path per file doubles the time for many files.
        found = os.stat(image if isinstance(image, str) else image.path)  # noqa: PTH116
    except OSError:
        return name
    return f"{name}\0{found.st_size}\0{found.st_mtime_ns}"
