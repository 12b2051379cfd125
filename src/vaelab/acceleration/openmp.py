"""How OpenMP's threads wait for each other: variables to set before PyTorch is imported (docs/decisions/threads.md).

A thread without work may spin until the others are done, or sleep and be woken. Spinning is faster unless another program
needs the core. Waking takes a few microseconds; in some virtual machines, whose idle cores are given to others, it takes so
long that a training is half as fast.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

SHORT_SPIN, LONG_SPIN = 100, 3_000
"""Turns that a waiting thread spins before it sleeps."""

SLOW_WAKING = 25e-6
"""Seconds for waking a thread and being woken by it, from which on long spinning is faster."""

ROUNDS = 40  # of waking, each 10 to 70 µs

LOOKS, LOOK_INTERVAL = 5, 0.004
"""Looks at what runs, and seconds between two: many programs run for a moment only."""


def wait_policy(*, trains: bool) -> dict[str, str]:
    """Return the environment variables for GNU's OpenMP, which PyTorch has on Linux, and for others.

    A command that `trains` keeps its cores for long, so it looks whether they are free, and measures how long waking takes.
    """
    long = trains and sys.platform == "linux" and cores_are_free() and waking_time() > SLOW_WAKING
    return {"GOMP_SPINCOUNT": str(LONG_SPIN if long else SHORT_SPIN), "OMP_WAIT_POLICY": "PASSIVE"}


def cores_are_free() -> bool:
    """Return whether no other program uses the cores that this one may use."""
    for look in range(LOOKS):
        time.sleep(LOOK_INTERVAL if look else 0)
        try:
            running = int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].split("/")[0])
            usable, cores = len(os.sched_getaffinity(0)), os.cpu_count() or 1
        except (AttributeError, OSError, ValueError, IndexError):
            return False
        if max(running - 1, 0) + usable <= cores:  # one of those running is this one
            return True
    return False


def waking_time() -> float:
    """Return the median time in seconds from waking another thread to being woken by it."""
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
