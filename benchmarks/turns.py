"""Measurement in turns, so that ratios are valid on a machine whose speed varies, and Markdown tables."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Size of the measurements.

    Attributes
    ----------
    rounds
        Turns per contestant.
    seconds
        Length of a turn that has no fixed length.
    images, conv_images
        Drawings per turn of the other libraries' loops, for the dense and for the convolutional model.
    commands
        Runs per command.
    counts
        Numbers of training images whose cost is compared, ascending.
    """

    rounds: int = 5
    seconds: float = 3.0
    images: int = 60_000
    conv_images: int = 6_000
    commands: int = 5
    counts: tuple[int, ...] = (10_000, 60_000, 240_000)


QUICK = Scale(2, 0.3, 2_560, 512, 1, (2_560, 5_120, 10_240))
"""Scale to check that everything runs; its figures are meaningless."""


def take_turns(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Call each contestant once per round; return its figures, one per round."""
    figures: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        note(f"round {number + 1} of {rounds}")
        for name, contestant in contestants.items():
            figures[name].append(contestant())
    return figures


def note(text: str) -> None:
    """Print progress to standard error, separate from the tables."""
    print(f"  {text}", file=sys.stderr, flush=True)


def spread(values: Sequence[float], form: str = ",.0f") -> str:
    """Format the median and range: `12,345 (12,001 to 12,888)`."""
    if len(values) == 1:
        return format(values[0], form)
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Return the ratios round by round, because turns of one round ran under similar conditions."""
    return [top / bottom for top, bottom in zip(above, below, strict=True)]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
