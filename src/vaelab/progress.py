"""Progress on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from vaelab.errors import printable

PLAIN_EVERY = 10.0
"""Seconds between two plain lines of a training, or of other work, without a terminal."""

SILENT, SHORT = 1.0, 0.3
"""Seconds without a line after which work is announced by one, without a terminal; work of less than `SHORT` is not."""

UPDATE_EVERY = 0.05
"""Seconds between two updates of a bar; an update takes as long as decoding a small image."""

console = Console(stderr=True, highlight=False, emoji=False)

_spoken = time.perf_counter()
"""When the last line was printed."""


class Report(Protocol):
    """Callback for progress of some work: its name, the amount done, the total."""

    def __call__(self, what: str, done: int, total: int, /) -> None: ...


class Nats(Protocol):
    """Nats per image; `nats` is the sum of the two."""

    @property
    def nats(self) -> float: ...
    @property
    def distortion(self) -> float: ...
    @property
    def rate(self) -> float: ...


class ModelKind(Protocol):
    """The model that is trained; an autoencoder is not stochastic."""

    @property
    def stochastic(self) -> bool: ...


class TrainingProgress(Protocol):
    """What is displayed of a training; documented in `vaelab.Progress`."""

    @property
    def epoch(self) -> float: ...
    @property
    def fraction(self) -> float: ...
    @property
    def seconds_left(self) -> float: ...
    @property
    def images_per_second(self) -> float: ...
    @property
    def train(self) -> Nats: ...
    @property
    def validation(self) -> Nats | None: ...
    @property
    def skipped(self) -> int: ...
    @property
    def finished(self) -> bool: ...
    @property
    def model(self) -> ModelKind: ...
    @property
    def remark(self) -> str | None: ...


def say(text: str) -> None:
    """Print a line on standard error, with characters that cannot be printed escaped."""
    global _spoken
    _spoken = time.perf_counter()
    console.print(Text(printable(text)), soft_wrap=True)


@contextmanager
def work_bar(over: str = "", waiting: str = "") -> Iterator[Report]:
    """Show a progress bar for work; without a terminal, a plain line for a part before `SILENT` seconds without a line are over.

    Every `PLAIN_EVERY` seconds, another plain line says how far the part is, and estimates the time left.

    Parameters
    ----------
    over
        Name of the work that comprises the others; its bar stays visible beside theirs.
    waiting
        What is done until the first report.

    Yields
    ------
    report
        Callback that updates the bar.
    """
    columns = (
        TextColumn("{task.description}", markup=False),  # a name is no markup
        BarColumn(),
        TextColumn("{task.fields[amount]}"),
        TimeRemainingColumn(),
    )
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar,
        _announced() as announce,
    ):
        tasks: dict[str, TaskID] = {}
        began: dict[str, float] = {}
        last_line, last_update = time.perf_counter(), 0.0

        def begin(what: str) -> None:
            tasks[what] = bar.add_task(printable(what), total=None, amount="")
            began[what] = time.perf_counter()
            if what != over:
                announce(what)

        def report(what: str, done: int, total: int, /) -> None:
            nonlocal last_line, last_update
            if what not in tasks:
                begin(what)
            elif done < total and time.perf_counter() - last_update < UPDATE_EVERY:
                return
            now = last_update = time.perf_counter()
            for name, task in tasks.items():
                bar.update(task, visible=name in (what, over))
            bar.update(tasks[what], completed=done, total=total, amount=f"{done:,}/{total:,}")
            if what != over and not console.is_terminal and now - last_line >= PLAIN_EVERY:
                last_line = now
                left = f", about {(now - began[what]) * (total - done) / done:,.0f} s left" if 0 < done < total else ""
                say(f"{what}: {done:,} of {total:,}{left}")

        if waiting:
            begin(waiting)
        yield report


@contextmanager
def _announced() -> Iterator[Callable[[str], None]]:
    """Yield a function to call when work begins: its name is printed if no other begins while it is silent for too long."""
    timer = threading.Timer(0.0, say)

    def announce(what: str) -> None:
        nonlocal timer
        timer.cancel()
        if not console.is_terminal:
            timer = threading.Timer(max(SHORT, SILENT - (time.perf_counter() - _spoken)), say, [what])
            timer.daemon = True
            timer.start()

    try:
        yield announce
    finally:
        timer.cancel()


class TrainingDisplay:
    """Progress of a training: a bar, or a plain line every 10 seconds."""

    def __init__(self) -> None:
        self.bar = Progress(
            BarColumn(bar_width=6 if console.width < 100 else 24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("starting", total=1.0)
        self.last_line = time.perf_counter()
        self.last_validation: Nats | None = None

    def __enter__(self) -> TrainingDisplay:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # the terminal may be gone
            self.bar.stop()

    def show(self, progress: TrainingProgress) -> None:
        """Update the display, and print a remark on its own line."""
        if progress.remark is not None:
            say(f"note: {progress.remark}")
        left = "compiling the step" if math.isinf(progress.seconds_left) else f"{progress.seconds_left:.0f} s left"
        if console.is_terminal:
            text = f"{describe(progress, progress.validation)}  {left}"
            self.bar.update(self.task, completed=progress.fraction, description=text)
        elif progress.finished or time.perf_counter() - self.last_line >= PLAIN_EVERY:
            self.last_line = time.perf_counter()
            new = progress.finished or progress.validation != self.last_validation
            text = f"{describe(progress, progress.validation if new else None)}  {left}"
            self.last_validation = progress.validation
            say(f"{progress.fraction:4.0%}  {text}")


def describe(progress: TrainingProgress, validation: Nats | None) -> str:
    """Return epoch, nats (distortion + rate), nats of `validation` and images per second as text of about 55 characters.

    An autoencoder has no rate: its nats are the distortion alone. At the end, the validation is that of the best weights.
    """
    train = progress.train
    parts = [f"epoch {progress.epoch:.1f}"]
    if not math.isnan(train.nats):
        terms = f" ({train.distortion:.1f} + {train.rate:.1f})" if progress.model.stochastic else ""
        parts.append(f"{train.nats:.1f} nats{terms}")
    if validation is not None:
        parts.append(f"{'best val.' if progress.finished else 'val.'} {validation.nats:.1f}")
    parts.append(f"{progress.images_per_second:,.0f}/s")
    if progress.skipped:
        parts.append(f"{progress.skipped} steps skipped (NaN)")
    return "  ".join(parts)
