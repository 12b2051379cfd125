"""Several processes that train or measure one model together, as `torchrun` starts them: on several devices or machines.

Every function works in a single process too, where it does nothing. All processes must call those that exchange something in the
same order. The term for the number of a process is rank; rank 0 alone writes files and prints.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed import PrefixStore, Store  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.rendezvous import rendezvous

from vaelab.errors import ConfigError

Value = TypeVar("Value")

# How long a process waits for the others, such as one that reads images for the first time. One that has ended is noticed at
# once, and torchrun ends all processes if it loses a machine.
PATIENCE = timedelta(hours=12)


class Disconnected(SystemExit):
    """Another process has ended, and reports the reason. It ends this one with status 1, like the `SystemExit` that it is."""


@contextmanager
def joined() -> Iterator[Store]:
    """Join the processes of torchrun; yields a store that all of them can read and write.

    Raises
    ------
    ConfigError
        If there are fewer GPUs on this machine than processes.
    """
    gpu = torch.cuda.is_available()
    if gpu:
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise ConfigError(
                f"`processes`: got process number {local + 1} on a machine of {torch.cuda.device_count()} GPUs; expected at most "
                "one process per GPU"
            )
        torch.cuda.set_device(local)
    store, number, count = next(iter(rendezvous("env://", timeout=PATIENCE)))
    store.set_timeout(PATIENCE)
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun's store keeps what an earlier one wrote
    store = PrefixStore(f"vaelab {attempt}", store)
    backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=PATIENCE)
    try:
        yield store
    finally:
        dist.destroy_process_group()


def processes() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Return whether this process writes and prints."""
    return rank() == 0


def is_first_here() -> bool:
    """Return whether this process is the first one of its machine."""
    return processes() == 1 or os.environ.get("LOCAL_RANK", "0") == "0"


def share(count: int) -> slice:
    """Return which of `count` things are those of this process: as many as those of others, or one more."""
    size, number = processes(), rank()
    return slice(count * number // size, count * (number + 1) // size)


def in_turn(work: Callable[[], Value]) -> Value:
    """Return `work()`, done by the first process of each machine before the others, which find what it left in a cache."""
    if processes() == 1:
        return work()
    result = [work()] if is_first_here() else []
    wait_for_all()
    result = result or [work()]
    wait_for_all()
    return result[0]


def wait_for_all() -> None:
    """Wait until all processes are here."""
    if processes() > 1:
        _exchanged(lambda: dist.barrier())


def from_first(value: Value) -> Value:
    """Return the value of the first process."""
    if processes() == 1:
        return value
    values: list[Any] = [value]
    _exchanged(lambda: dist.broadcast_object_list(values, src=0))
    return values[0]


def to_first(value: Value) -> list[Value]:
    """Return the values of all processes, in order, in the first one; nothing in the others."""
    if processes() == 1:
        return [value]
    values: list[Any] | None = [None] * processes() if is_first() else None
    _exchanged(lambda: dist.gather_object(value, values, dst=0))
    return values or []


def from_all(value: Value) -> list[Value]:
    """Return the values of all processes, in order."""
    if processes() == 1:
        return [value]
    values: list[Any] = [None] * processes()
    _exchanged(lambda: dist.all_gather_object(values, value))
    return values


def largest(*numbers: float) -> list[float]:
    """Return the largest of each number over all processes."""
    if processes() == 1:
        return list(numbers)
    found = torch.tensor(numbers, dtype=torch.float64)
    _exchanged(lambda: dist.all_reduce(found, dist.ReduceOp.MAX))
    return found.tolist()


@torch.no_grad()
def summed(tensors: Sequence[Tensor], weight: float) -> Sequence[Tensor]:
    """Return the sums over all processes of `weight` times each tensor; all are of one type and device."""
    if processes() == 1:
        return tensors
    flat = torch.cat([tensor.flatten() for tensor in tensors]).mul_(weight)
    _exchanged(lambda: dist.all_reduce(flat))
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


@torch.no_grad()
def as_first(tensors: Sequence[Tensor]) -> None:
    """Change tensors in place to those of the first process."""
    if processes() > 1:
        for tensor in tensors:
            _exchanged(lambda tensor=tensor: dist.broadcast(tensor, src=0))


def _exchanged(exchange: Callable[[], object]) -> None:
    try:
        exchange()
    except RuntimeError as error:  # of gloo or NCCL, if a process has ended
        raise Disconnected(1) from error
