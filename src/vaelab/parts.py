"""Work on many images in numbered parts, whose results are used in order.

The noise and the binarisation of held-out images are drawn part by part, too, so the figures of a part follow from its number and
its images alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

PART = 10_000
"""Images of a part. The test images of MNIST are one part, as the published binarisation needs it."""

BEHIND = 2
"""Results that wait to be used, at most."""

Part = TypeVar("Part")
Result = TypeVar("Result")


def parts_of(count: int, size: int | None = None) -> list[range]:
    """Return the parts of `count` images, at most `size` each, by default `PART`."""
    size = size or PART
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def in_parts(work: Callable[[Part], Result], parts: Iterable[Part], use: Callable[[Part, Result], None]) -> None:
    """Call `use(part, work(part))` for each part, in order. `use` runs in a thread while `work` computes the next result.

    An exception of either ends the loop and is raised; results that are waiting then are used before.
    """
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1) as thread:
        for part in parts:
            waiting.append(thread.submit(use, part, work(part)))
            if len(waiting) > BEHIND:
                waiting.popleft().result()
        for each in waiting:
            each.result()
