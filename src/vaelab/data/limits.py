"""Limits of what a source of data may take, which protect from files that are small and decode to very much.

They are checked against what headers state, before the memory is taken. Those that a user may raise are parameters of
`load_dataset`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vaelab.errors import ConfigError, DataError

MAX_PIXELS = 64_000_000
"""Default limit of the pixels of an image."""

MAX_CLASSES = 10_000
"""Default limit of the number of classes."""

MAX_BYTES = 16 << 30
"""Default limit of the decoded bytes of a source."""

MAX_RATIO = 250
"""Default limit of the decoded bytes per byte of a file. Published data reach 115 (dSprites); Deflate can reach 1,032."""

ALWAYS_BYTES = 64 << 20
"""Decoded bytes that the ratio does not limit, because they harm nobody."""


class Limits(NamedTuple):
    """Limits that a user may raise; None is the default."""

    max_pixels: int | None = None
    max_bytes: int | None = None
    max_classes: int | None = None

    def checked(self) -> Limits:
        """Return the limits. Raises `ConfigError` unless each is None or a whole number of at least 1."""
        for name, value in self._asdict().items():
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1):
                raise ConfigError(f"`{name}`: got {value!r}; expected a whole number of at least 1")
        return self

    @property
    def pixels(self) -> int:
        """Largest number of pixels of an image."""
        return self.max_pixels or MAX_PIXELS

    @property
    def classes(self) -> int:
        """Largest number of classes."""
        return self.max_classes or MAX_CLASSES

    def expect_classes(self, count: int, where: object) -> None:
        """Raise `DataError`, with `where` in front, if a source has more than the largest number of classes."""
        if count > self.classes:
            raise DataError(
                f"{where}: got {count:,} classes; expected at most {self.classes:,}; give the images labels that they share, "
                f"or pass `max_classes={count}`"
            )


class Budget:
    """Counts the bytes that a source decodes to, and refuses more than its limits allow.

    Parameters
    ----------
    limits
        The limits.
    stored
        Size in bytes of the files of the source, if these may be compressed.
    """

    def __init__(self, limits: Limits, stored: int | None = None) -> None:
        by_ratio = MAX_BYTES if stored is None else max(ALWAYS_BYTES, MAX_RATIO * stored)
        self.most = limits.max_bytes or min(MAX_BYTES, by_ratio)
        self.stored, self.taken = stored, 0

    def take(self, count: int, where: object) -> None:
        """Count `count` more bytes. Raises `DataError`, with `where` in front, if that is more than allowed."""
        self.taken += count
        if self.taken > self.most:
            stored = "" if self.stored is None else f", from {self.stored:,} bytes of files"
            raise DataError(
                f"{where}: got {self.taken:,} bytes when decoded{stored}; expected at most {self.most:,}; if that is right, "
                f"pass `max_bytes={self.taken}`"
            )
