"""Ctrl-C that waits for a safe point."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collected_signals(*numbers: signal.Signals) -> Iterator[list[int]]:
    """Collect these signals in a list instead of stopping at once; after the first, Ctrl-C stops at once.

    Outside the main thread signals cannot be handled, and the list stays empty.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def note(number: int, _: object) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Within it, Ctrl-C waits until the end, unless the program handles it in its own way."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    with collected_signals(signal.SIGINT) as received:
        yield
    if received:
        raise KeyboardInterrupt
