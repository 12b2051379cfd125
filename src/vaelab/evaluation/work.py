"""The progress callback of an evaluation."""

from __future__ import annotations

from collections.abc import Callable

Work = Callable[[str, int, int], None]
"""Receives the name of the task, the number of steps done, and the total."""


def silent(what: str, done: int, total: int) -> None:
    """Ignore progress."""
