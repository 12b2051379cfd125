"""How many threads the steps of a training run on: as many as are quickest on this machine, now.

The parts of a step are short, and after each its threads wait for one another. Where another program wants a core, or waking a
thread takes long, two threads can take twice as long as one (docs/decisions/threads.md); and that changes while a training runs.
So it is tried out, again and again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch

FIRST = 3
"""Steps before the first trial, in which memory is taken."""

ROUND, ROUNDS = 4, 3
"""Steps of one number of threads and then of the other, and how often that is done in a trial."""

EVERY = 10.0
"""Seconds from one trial to the next, at least."""

SHARE = 0.02
"""Share of the time that may go into steps on another number of threads than the one that is settled on."""

WORTH = 0.95
"""A number of threads is taken if its steps take no more than this share of the other's time."""


class Team:
    """Takes steps on `size` threads, and unless it is steady tries half or twice as many now and then."""

    def __init__(
        self,
        most: int | None = None,
        *,
        steady: bool = False,
        clock: Callable[[], float] = time.perf_counter,
        set_threads: Callable[[int], None] = torch.set_num_threads,
    ) -> None:
        """Of as many threads as `most`, which is PyTorch's present number if None.

        Products round by the number of threads, so who wants the same weights again stays with one.
        """
        self.most = self.limit = self.size = self._set = most or torch.get_num_threads()
        self.steady = steady
        self._clock, self._set_threads = clock, set_threads
        self._growing = False  # the way that is tried next
        self._due = 0.0
        self._before_trial = FIRST
        self._trial: list[tuple[int, float]] | None = None  # threads and seconds of its steps
        self._other = 0

    def take(self, step: Callable[[], None]) -> None:
        """Take `step`, which must have ended when it returns."""
        threads = self._threads_of_next()
        self._use(threads)
        began = self._clock()
        step()
        now = self._clock()
        if self._trial is not None:
            self._trial.append((threads, now - began))
            if len(self._trial) == 2 * ROUND * ROUNDS:
                self._settle(now)
        elif self._before_trial > 0:
            self._before_trial -= 1

    def limit_to(self, most: int) -> None:
        """Use no more threads than this, until told otherwise."""
        self.limit = max(1, min(most, self.most))
        self.size = self.limit if self.steady else min(self.size, self.limit)
        self._try_anew()

    def settle(self) -> None:
        """Stay with all threads: those of a step in shares have each their own images, and do not wait for one another."""
        self.steady = True
        self.limit_to(self.most)

    def _try_anew(self) -> None:
        self._trial, self._due, self._before_trial = None, 0.0, FIRST

    def rest(self) -> None:
        """Leave PyTorch with as many threads as it had, for whoever computes between steps."""
        self._use(self.most)

    def _use(self, threads: int) -> None:
        if threads != self._set:
            self._set_threads(threads)
            self._set = threads

    def _threads_of_next(self) -> int:
        due = not self.steady and not self._before_trial and self._clock() >= self._due
        if due and self._trial is None:
            if self._that_way() == self.size:
                self._growing = not self._growing
            self._other = self._that_way()
            self._trial = [] if self._other != self.size else None
        if self._trial is None:
            return self.size
        return (self.size, self._other)[len(self._trial) // ROUND % 2]

    def _that_way(self) -> int:
        return min(self.limit, 2 * self.size) if self._growing else max(1, self.size // 2)

    def _settle(self, now: float) -> None:
        assert self._trial is not None
        own, others = ([seconds for size, seconds in self._trial if size == each] for each in (self.size, self._other))
        if median(others) <= WORTH * median(own):
            self.size = self._other
            further = self._that_way() != self.size
        else:
            self._growing, further = not self._growing, False
        self._due = now if further else now + max(EVERY, sum(others) / SHARE)
        self._trial = None
