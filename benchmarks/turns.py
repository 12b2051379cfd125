"""Contestants that take turns, so that their ratios hold on a machine whose speed wanders; and tables of what came out."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """How much a table measures.

    Attributes
    ----------
    rounds
        Turns of every contestant.
    seconds
        Length of a turn, where a turn has no length of its own.
    images, conv_images
        Drawings that the loops of others go over in a turn: of the dense model, and of the convolutional one.
    commands
        Runs of every command.
    counts
        Training images between which the cost is compared, rising.
    """

    rounds: int = 5
    seconds: float = 3.0
    images: int = 60_000
    conv_images: int = 6_000
    commands: int = 5
    counts: tuple[int, ...] = (10_000, 60_000, 240_000)


QUICK = Scale(2, 0.3, 2_560, 512, 1, (2_560, 5_120, 10_240))
"""Whether everything runs; its figures are of no worth."""


def take_turns(contestants: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each gives, one figure a round: in every round each has its turn."""
    given: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds):
        note(f"round {number + 1} of {rounds}")
        for name, contestant in contestants.items():
            given[name].append(contestant())
    return given


def note(text: str) -> None:
    """What is going on, on standard error: it is no part of the table."""
    print(f"  {text}", file=sys.stderr, flush=True)


def spread(values: Sequence[float], form: str = ",.0f") -> str:
    """Median and range: `12,345 (12,001 to 12,888)`."""
    if len(values) == 1:
        return format(values[0], form)
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Round by round, since a round's turns saw the same machine."""
    return [top / bottom for top, bottom in zip(above, below, strict=True)]


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
