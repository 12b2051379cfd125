"""Ctrl-C, and the signals that ask a process to end, wait for a safe point."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, final

NUMBERS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@final
class Signals:
    """Ctrl-C, SIGTERM and SIGHUP, until `close`: within `with signals:` the first waits until `deliver`; a second acts at once.

    SIGTERM and SIGHUP raise SystemExit with status 128 + number, so that files are closed and processes ended, unless the
    program handles or ignores them itself. Outside the main thread signals cannot be handled, and nothing changes.

    Attributes
    ----------
    waiting
        Number of the signal that waits; 0 if there is none.
    patient
        Whether a second SIGTERM or SIGHUP waits too: torchrun and schedulers of clusters repeat them.
    """

    def __init__(self) -> None:
        self.waiting, self.patient, self._held = 0, False, 0
        self._before: dict[int, Any] = {}
        for number in NUMBERS:
            before = signal.getsignal(number)
            if callable(before) or (before is signal.SIG_DFL and number != signal.SIGINT):
                with suppress(ValueError):  # outside the main thread
                    signal.signal(number, self._receive)
                    self._before[number] = before

    def __enter__(self) -> None:
        self._held += 1

    def __exit__(self, *_: object) -> None:
        self._held -= 1

    def deliver(self, number: int | None = None) -> None:
        """Act on the signal that waits, or on that of `number` unless it is 0: most raise KeyboardInterrupt or SystemExit."""
        number = self.waiting if number is None else number
        if number:
            self.waiting = 0
            self._act(number, None)

    def close(self) -> None:
        """Restore the handlers from before, except those that were replaced meanwhile."""
        if sys.is_finalizing():
            return
        for number, before in self._before.items():
            if signal.getsignal(number) == self._receive:
                with suppress(ValueError):  # closed in another thread
                    signal.signal(number, before)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._held and not self.waiting:
            self.waiting = number
        elif not (self._held and self.patient and number != signal.SIGINT):
            self._act(number, frame)

    def _act(self, number: int, frame: FrameType | None) -> None:
        before = self._before.get(number)  # None for a signal that only another process got
        if not callable(before):
            raise SystemExit(128 + number)
        before(number, frame)


@contextmanager
def open_signals() -> Iterator[Signals]:
    """Yield `Signals` that are closed at the end."""
    signals = Signals()
    try:
        yield signals
    finally:
        signals.close()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Within it, the first signal waits until the end."""
    with open_signals() as signals:
        with signals:
            yield
        signals.deliver()
