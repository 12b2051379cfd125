"""Work on many images in numbered parts, whose results are used in order.

The noise and the binarisation of held-out images are drawn part by part, too, so the figures of a part follow from its number and
its images alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
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


def in_parts(
    work: Callable[[Part], Result],
    parts: Sequence[Part],
    use: Callable[[Part, Result], None],
    *,
    together: bool = False,
) -> None:
    """Call `use(part, work(part))` for each part, in order. `use` runs in a thread while `work` computes the next result.

    An exception of either ends the loop and is raised; results that are waiting then are used before. With `together`, all
    processes call this with the same parts: each works on some of them, and the first uses all results (`vaelab.distributed`).
    """
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1) as thread:
        for part, result in _of_all(work, parts) if together else ((part, work(part)) for part in parts):
            waiting.append(thread.submit(use, part, result))
            if len(waiting) > BEHIND:
                waiting.popleft().result()
        for each in waiting:
            each.result()


def _of_all(work: Callable[[Part], Result], parts: Sequence[Part]) -> Iterator[tuple[Part, Result]]:
    """Yield each part with its result, in order, in the first process; nothing in the others, which work on some of the parts."""
    from vaelab import distributed  # imports torch

    count, rank = distributed.world_size(), distributed.rank()
    for start in range(0, len(parts), count):
        some = parts[start : start + count]
        results = distributed.gather([work(part) for part in some[rank : rank + 1]])
        for part, (result,) in zip(some, results, strict=False):
            yield part, result
