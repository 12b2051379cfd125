"""What a person sees while waiting: a bar on a terminal, plain lines elsewhere. All of it goes to standard error."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from vaelab.training.fit import Progress as TrainingProgress

PLAIN_EVERY = 10.0
"""Seconds between two plain lines of a training, where there is no terminal."""

console = Console(stderr=True, highlight=False)


class Report(Protocol):
    """Told of work done: what it is, how much is done, how much there is in all."""

    def __call__(self, what: str, done: int, total: int, /) -> None: ...


def say(text: str) -> None:
    """A line for the person."""
    console.print(escape(text), soft_wrap=True)


@contextmanager
def work_bar(over: str = "") -> Iterator[Report]:
    """A bar for the work at hand, of known size; silent where there is no terminal.

    Parameters
    ----------
    over
        The name of a work that the others are parts of: its bar stays beside theirs.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,}/{task.total:,}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int, /) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            for name, task in tasks.items():
                bar.update(task, visible=name in (what, over))
            bar.update(tasks[what], completed=done, total=total)

        yield report


class TrainingDisplay:
    """The bar of a training, or a plain line now and then."""

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

    def __enter__(self) -> TrainingDisplay:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def show(self, progress: TrainingProgress) -> None:
        """Bring the display up to date; a remark becomes a line of its own."""
        if progress.remark is not None:
            say(f"note: {progress.remark}")
        left = "compiling the step" if math.isinf(progress.seconds_left) else f"{progress.seconds_left:.0f} s left"
        text = f"{describe(progress)}  {left}"
        if console.is_terminal:
            self.bar.update(self.task, completed=progress.fraction, description=text)
        elif progress.finished or time.perf_counter() - self.last_line >= PLAIN_EVERY:
            self.last_line = time.perf_counter()
            say(f"{progress.fraction:4.0%}  {text}")


def describe(progress: TrainingProgress) -> str:
    """Epoch, nats (distortion + rate; an autoencoder has no rate), validation nats, images a second: 55 characters or so."""
    train = progress.train
    parts = [f"epoch {progress.epoch:.1f}"]
    if not math.isnan(train.nats):
        halves = f" ({train.distortion:.1f} + {train.rate:.1f})" if progress.model.stochastic else ""
        parts.append(f"{train.nats:.1f} nats{halves}")
    if progress.validation is not None:
        parts.append(f"val. {progress.validation.nats:.1f}")
    parts.append(f"{progress.images_per_second:,.0f}/s")
    if progress.skipped:
        parts.append(f"{progress.skipped} steps skipped (NaN)")
    return "  ".join(parts)
