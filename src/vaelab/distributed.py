"""Several processes that train or measure one model together, as `torchrun` starts them: on several devices or machines.

Every function works in a single process too, without exchanging anything. All processes must call those that exchange something
in the same order. The process of rank 0, the first one, alone writes files and prints.
"""

from __future__ import annotations

import os
import time
import uuid
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
from vaelab.version import __version__

Value = TypeVar("Value")

# How long a process waits for the others, such as one that reads images for the first time. One that has ended is noticed at
# once, and torchrun ends all processes if it loses a machine.
TIMEOUT = timedelta(hours=12)

MEETING = timedelta(minutes=10)  # until all processes have started


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
    store, number, count = next(iter(rendezvous("env://", timeout=MEETING)))
    store = PrefixStore(_agreed_name(store, number, count), store)
    store.set_timeout(TIMEOUT)
    backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=TIMEOUT)
    try:
        yield store
    finally:
        dist.destroy_process_group()


def _agreed_name(store: Store, number: int, count: int) -> str:
    """Return a name that the processes of this start have in common, and those of an earlier one, which a failure ended, had not.

    torchrun's store keeps what the earlier processes wrote, and its count of restarts differs between machines.
    """
    store.set_timeout(MEETING)
    own = uuid.uuid4().hex
    if number > 0:
        store.set(f"hello {number}", own)
        name = store.get(f"welcome {own}").decode()
        store.set(f"{name} {number}", "here")
        return name
    missing, end = set(range(1, count)), time.monotonic() + MEETING.total_seconds()
    while missing:
        for other in list(missing):
            if store.check([f"hello {other}"]):  # possibly that of an earlier process, which nobody answers
                store.set(f"welcome {store.get(f'hello {other}').decode()}", own)
            if store.check([f"{own} {other}"]):
                missing.remove(other)
        if time.monotonic() > end:
            raise ConfigError(
                f"`processes`: waited {MEETING.seconds // 60} min for processes {sorted(missing)}; start them too"
            )
        time.sleep(0.01)
    return own


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def is_first() -> bool:
    """Return whether this process writes and prints."""
    return rank() == 0


def share(count: int) -> slice:
    """Return which of `count` things are those of this process; the shares of two processes differ by at most one."""
    size, number = world_size(), rank()
    return slice(count * number // size, count * (number + 1) // size)


def in_turn(work: Callable[[], Value]) -> Value:
    """Return `work()`, done by the first process of each machine before the others, which find what it left in a cache."""
    if world_size() == 1:
        return work()
    result = [work()] if os.environ.get("LOCAL_RANK", "0") == "0" else []
    barrier()
    result = result or [work()]
    barrier()
    return result[0]


def barrier() -> None:
    """Wait until all processes are here."""
    if world_size() > 1:
        _exchanged(lambda: dist.barrier())


def broadcast(value: Value) -> Value:
    """Return the value of the first process."""
    if world_size() == 1:
        return value
    values: list[Any] = [value]
    _exchanged(lambda: dist.broadcast_object_list(values, src=0))
    return values[0]


def gather(value: Value) -> list[Value]:
    """Return the values of all processes, in order, in the first one; nothing in the others."""
    if world_size() == 1:
        return [value]
    values: list[Any] | None = [None] * world_size() if is_first() else None
    _exchanged(lambda: dist.gather_object(value, values, dst=0))
    return values or []


def all_gather(value: Value) -> list[Value]:
    """Return the values of all processes, in order."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    _exchanged(lambda: dist.all_gather_object(values, value))
    return values


def expect_same(**facts: object) -> None:
    """Raise a ConfigError unless these facts, and the versions of vaelab and PyTorch, are the same in all processes."""
    facts |= {"vaelab": __version__, "torch": torch.__version__}
    first, *others = all_gather(facts)
    for number, other in enumerate(others, 1):
        for what, value in other.items():
            if value != first[what]:
                raise ConfigError(
                    f"`processes`: got {what} {first[what]} in process 0 and {value} in process {number}; expected the same"
                )


def all_reduce_max(*numbers: float) -> list[float]:
    """Return the largest of each number over all processes."""
    if world_size() == 1:
        return list(numbers)
    found = torch.tensor(numbers, dtype=torch.float64)
    _exchanged(lambda: dist.all_reduce(found, dist.ReduceOp.MAX))
    return found.tolist()


@torch.no_grad()
def all_reduce_sum(tensors: Sequence[Tensor], weight: float) -> Sequence[Tensor]:
    """Return the sums over all processes of `weight` times each tensor; all are of one type and device.

    A single process has all of the weight, and gets its tensors.
    """
    if world_size() == 1:
        return tensors
    flat = torch.cat([tensor.flatten() for tensor in tensors]).mul_(weight)
    _exchanged(lambda: dist.all_reduce(flat))
    parts = flat.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


@torch.no_grad()
def broadcast_tensors(tensors: Sequence[Tensor]) -> None:
    """Change tensors in place to those of the first process."""
    if world_size() > 1:
        for tensor in tensors:
            _exchanged(lambda tensor=tensor: dist.broadcast(tensor, src=0))


def _exchanged(exchange: Callable[[], object]) -> None:
    try:
        exchange()
    except RuntimeError as error:  # of gloo or NCCL, if a process has ended
        raise Disconnected(1) from error
