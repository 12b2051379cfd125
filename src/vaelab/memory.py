"""Retry with half the batch after an out-of-memory error."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from vaelab.errors import ConfigError

Result = TypeVar("Result")


class NoMemoryError(ConfigError):
    """Too little memory for a single image."""


MESSAGES = ("can't allocate memory", "not enough memory", "out of memory")
"""Parts of PyTorch's out-of-memory messages: on the CPU under Linux, on the CPU under Windows, on a GPU."""


def is_out_of_memory(error: RuntimeError) -> bool:
    """Return whether `error` is an out-of-memory error of PyTorch."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in MESSAGES)


def half(count: int) -> int:
    """Return half of `count`, rounded up; at least 1."""
    return (count + 1) // 2


def retry_halved(work: Callable[[int], Result], size: int, *, once: bool = False) -> tuple[Result, int]:
    """Return `work(size)` and `size`; while that runs out of memory, halve `size`, unless it may be called `once`.

    Raises
    ------
    NoMemoryError
        If memory is not sufficient, even for a size of 1 unless it may be called `once`.
    """
    while True:
        try:
            return work(size), size
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # outside the handler, where the error's traceback would keep tensors alive
        release_cache()
        if size == 1 or once:
            raise NoMemoryError(
                "out of memory: a single image does not fit; free some memory, or use a smaller model or smaller images"
            )
        size = half(size)


def map_batches(count: int, batch_size: int, work: Callable[[slice], Result]) -> list[Result]:
    """Return `work` of consecutive slices of `count` images; the batch size is halved when memory runs out.

    Raises
    ------
    NoMemoryError
        If memory is not sufficient even for one image.
    """
    results: list[Result] = []
    start = 0

    def work_on_next(size: int) -> Result:
        return work(slice(start, start + size))

    while start < count:
        result, batch_size = retry_halved(work_on_next, min(batch_size, count - start))
        results.append(result)
        start += batch_size
    return results


def release_cache() -> None:
    """Return unused cached memory to the GPU, so that smaller allocations fit."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
