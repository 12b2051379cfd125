"""Where memory runs out: the same work again, on half as many images at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from vaelab.errors import ConfigError

Done = TypeVar("Done")

MESSAGES = ("can't allocate memory", "not enough memory", "out of memory")
"""What PyTorch says where memory is not to be had: on the CPU of Linux, on that of Windows, on a GPU."""


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether `error` is PyTorch's for memory that is not to be had."""
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in MESSAGES)


def half(count: int) -> int:
    """Half of `count`, rounded up; of 1 it is 1."""
    return (count + 1) // 2


def retry_halved(work: Callable[[int], Done], most: int) -> tuple[Done, int]:
    """What `work(most)` gives, or that of half, of a quarter … as long as memory runs out; and how many it was.

    Raises
    ------
    ConfigError
        If there is not enough even for 1.
    """
    while True:
        try:
            return work(most), most
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # not in the handler, where the error still holds on to what was made so far
        release_cache()
        if most == 1:
            raise ConfigError(
                "got too little memory for a single image; expected enough for one: free some, or take a smaller model or images"
            )
        most = half(most)


def map_batches(count: int, at_once: int, work: Callable[[slice], Done]) -> list[Done]:
    """What `work` gives for each part of `count` images, `at_once` of them, or fewer from where memory runs out.

    Raises
    ------
    ConfigError
        If there is not enough of it for one image.
    """
    done: list[Done] = []
    first = 0

    def next_part(most: int) -> Done:
        return work(slice(first, first + most))

    while first < count:
        part, at_once = retry_halved(next_part, min(at_once, count - first))
        done.append(part)
        first += at_once
    return done


def release_cache() -> None:
    """Give back what PyTorch keeps of a GPU's memory for later, so that smaller pieces find room."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
