"""What a person sees while waiting: a bar on a terminal, plain lines elsewhere. All of it goes to standard error."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from vaelab.training import Progress as TrainingProgress

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
def work_bar() -> Iterator[Report]:
    """A bar for work of known size; silent where there is no terminal."""
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
            bar.update(tasks[what], completed=done, total=total)

        yield report


class TrainingDisplay:
    """The bar of a training, or a plain line now and then."""

    def __init__(self) -> None:
        self.bar = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TextColumn("{task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("starting", total=1.0, left="–")
        self.last_line = time.perf_counter()

    def __enter__(self) -> TrainingDisplay:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def show(self, progress: TrainingProgress) -> None:
        """Bring the display up to date."""
        text = describe(progress)
        if console.is_terminal:
            left = f"{progress.seconds_left:.0f} s"
            self.bar.update(self.task, completed=progress.fraction, description=text, left=left)
        elif progress.finished or time.perf_counter() - self.last_line >= PLAIN_EVERY:
            self.last_line = time.perf_counter()
            say(f"{progress.fraction:4.0%}  {text}  {progress.seconds:.0f} s, {progress.seconds_left:.0f} s left")


def describe(progress: TrainingProgress) -> str:
    """One line of figures; an autoencoder has no rate."""
    train = progress.train
    parts = [f"epoch {progress.epoch:.1f}", f"{train.nats:.1f} nats"]
    if progress.model.stochastic:
        parts[-1] += f" ({train.distortion:.1f} distortion + {train.rate:.1f} rate)"
    if progress.validation is not None:
        parts.append(f"validation {progress.validation.nats:.1f}")
    parts.append(f"{progress.images_per_second:,.0f} images/s")
    if progress.skipped:
        parts.append(f"{progress.skipped} steps skipped (NaN or infinite)")
    return "  ".join(parts)
