"""How threads that wait for one another wait: what OpenMP is told, before PyTorch is imported (docs/decisions/threads.md).

A thread that has nothing to do at the end of a piece of work may spin until the others are there, or give its core away and be
woken. Spinning is quicker, as long as no other program wants the core. How much quicker hangs on what waking takes: a few
microseconds, or in some virtual machines, whose idle cores are given to others, so long that a training is half as fast.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

SHORTLY, LONG = 100, 3_000
"""Turns that a waiting thread spins for before it gives its core away."""

SLOW_WAKING = 25e-6
"""Seconds for waking a thread and being woken by it, from which it pays to spin for long."""

ROUNDS = 40
"""Times that waking is measured; one takes some 10 to 70 µs."""

LOOKS, APART = 5, 0.004
"""Looks at what runs, and seconds between two: many a program runs for a moment only, such as the one that started this one."""


def wait_policy(*, trains: bool) -> dict[str, str]:
    """What OpenMP is told by: the first variable for GNU's, which PyTorch has on Linux, the second for others.

    A command that `trains` keeps its cores for a while, so there it is looked whether they are free, and how long waking takes.
    """
    patient = trains and sys.platform == "linux" and cores_are_free() and waking() > SLOW_WAKING
    return {"GOMP_SPINCOUNT": str(LONG if patient else SHORTLY), "OMP_WAIT_POLICY": "PASSIVE"}


def cores_are_free() -> bool:
    """Whether no other program keeps the cores that this one may use."""
    for look in range(LOOKS):
        time.sleep(APART if look else 0)
        try:
            running = int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].split("/")[0])
            usable, cores = len(os.sched_getaffinity(0)), os.cpu_count() or 1
        except (AttributeError, OSError, ValueError, IndexError):
            return False
        if max(running - 1, 0) + usable <= cores:  # one of those running is this one
            return True
    return False


def waking() -> float:
    """Seconds from waking another thread to being woken by it, the median of some rounds."""
    there, back = os.pipe(), os.pipe()

    def answer() -> None:
        for _ in range(ROUNDS):
            os.read(there[0], 1)
            os.write(back[1], b".")

    other, times = threading.Thread(target=answer), []
    other.start()
    for _ in range(ROUNDS):
        began = time.perf_counter()
        os.write(there[1], b".")
        os.read(back[0], 1)
        times.append(time.perf_counter() - began)
    other.join()
    for end in (*there, *back):
        os.close(end)
    return sorted(times)[ROUNDS // 2]
