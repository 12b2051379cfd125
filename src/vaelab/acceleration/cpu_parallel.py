"""A step whose images are shared out: every core takes some of them through the whole model, and the gradients are averaged.

The parts of a step are short, and threads that work on each together wait for one another hundreds of times in a step. A core
that has its own images waits once. What comes out is the same: each pixel is binarised by its place in the whole batch, and the
loss is a mean over images.

A share runs as a compiled library, called by its C interface (`AOTInductorModelContainerRun` of PyTorch's `interface.h`), which
lets the other threads of Python run meanwhile.
"""

from __future__ import annotations

import ctypes
import weakref
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import torch
from torch import Tensor

from vaelab.config import Config, TrainConfig
from vaelab.models.base import Model
from vaelab.optim.step import Batch, Found, Schedule, StepStats, TrainState, fused_adamw, move

FEWEST_IMAGES = 32
"""Images that a share has at the least: with fewer, its products are too small to be quick."""


def how_many(config: Config, images: int, threads: int) -> int:
    """Into how many shares a step on so many images is cut; 1: it is not.

    Ladders are, whose steps are long. A loss that looks at the mean over the batch, as free bits do, is no mean of shares.
    """
    if config.model.network != "ladder" or config.train.free_bits > 0:
        return 1
    most = min(threads, images // FEWEST_IMAGES)
    return max((count for count in range(1, most + 1) if images % count == 0), default=1)


class Share:
    """What one share of a step reads and writes.

    Attributes
    ----------
    gradients
        Of the share's mean loss, a tensor for each weight.
    figures
        Mean distortion, mean rate and loss, (3,).
    """

    def __init__(self, model: Model, weights: list[Tensor]) -> None:
        self.lasting = [*weights, *model.buffers()]
        self.gradients = [torch.zeros_like(weight) for weight in weights]
        self.figures = torch.zeros(3)

    def tensors(self, batch: Batch, beta: Tensor) -> list[Tensor]:
        """All of them, in the order that the compiled look takes them in, for its part of a batch."""
        assert batch.key is not None
        labels = [] if batch.labels is None else [batch.labels]
        lasting = [*self.lasting, *self.gradients, self.figures]
        return [*lasting, beta, batch.images, batch.noise, batch.key, *labels]


class Shared:
    """Takes steps, each in `shares` parts at a time; in place of a step that is compiled as a whole."""

    def __init__(self, path: str, shares: int, threads: int) -> None:
        """By the library at `path`, a compiled look at a share, on so many threads each.

        Raises
        ------
        OSError, RuntimeError
            If it cannot be loaded.
        """
        self.count = shares
        self._library = Library(path, shares)
        keep_memory()
        self._shares: list[Share] = []
        before = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(shares, "share", _own_threads, (threads,))
        wait = Barrier(shares + 1)
        for _ in range(shares):
            self._pool.submit(wait.wait)
        wait.wait()  # all of them have begun
        torch.set_num_threads(before)

    def __call__(
        self, model: Model, moving: TrainState, tally: StepStats, batch: Batch, schedule: Schedule, config: TrainConfig
    ) -> None:
        """One step; its schedule is of tensors.

        Raises
        ------
        RuntimeError
            If a share fails. Nothing has moved then.
        """
        if not self._shares:
            self._shares = [Share(model, moving.weights) for _ in range(self.count)]
        beta = torch.as_tensor(schedule.beta)
        parts = batch.parts(len(batch.images) // self.count)
        given = [share.tensors(part, beta) for share, part in zip(self._shares, parts, strict=True)]
        for done in [self._pool.submit(self._library.run, tensors) for tensors in given]:
            done.result()
        move(moving, tally, self._found(), schedule, config, fused_adamw)

    @torch.no_grad()
    def _found(self) -> Found:
        """What all shares together say: the mean of what each does."""
        first, *others = self._shares
        for other in others:
            torch._foreach_add_(first.gradients, other.gradients)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_div_(first.gradients, float(self.count))  # pyright: ignore[reportPrivateImportUsage]
        distortion, rate, loss = torch.stack([share.figures for share in self._shares]).mean(0)
        return Found(distortion, rate, loss, first.gradients)


def _own_threads(count: int) -> None:
    """Have this thread of Python compute on so many threads, whatever the others are told from now on."""
    torch.set_num_threads(count)
    torch.get_num_threads()  # the first time a thread asks, it takes over the number that was set last


def keep_memory() -> None:
    """Have the threads of GNU's C library keep the memory of a step for the next one.

    Left alone, the memory of a thread goes back to the system after each step, and coming by it again, a page at a time, takes a
    tenth of the step; the main thread's does not. Each thread keeps up to `KEPT` bytes so. Elsewhere nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return
    for parameter, value in _MALLOC.items():
        mallopt(parameter, value)


KEPT = 2**28
"""Bytes that stay with a thread."""

_MALLOC = {-3: 2**25, -1: KEPT, -2: 2**26}
"""Of `malloc.h`: M_MMAP_THRESHOLD at its largest, M_TRIM_THRESHOLD, and M_TOP_PAD, by which no arena of a thread is given up."""


class Library:
    """A library that PyTorch's compiler made, for several threads at a time.

    The runner that PyTorch has for Python keeps all other threads of Python waiting.
    """

    def __init__(self, path: str, at_once: int) -> None:
        """For so many calls `at_once`.

        Raises
        ------
        OSError, RuntimeError
            If it cannot be loaded.
        """
        opened = ctypes.CDLL(path)
        pointer, number = ctypes.c_void_p, ctypes.c_size_t
        try:
            make, self._run = opened.AOTInductorModelContainerCreateWithDevice, opened.AOTInductorModelContainerRun
            self._handles = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors  # pyright: ignore[reportAttributeAccessIssue]
        except AttributeError as error:
            raise OSError(f"this PyTorch's libraries are called otherwise: {error}") from error
        make.argtypes = [ctypes.POINTER(pointer), number, ctypes.c_char_p, ctypes.c_char_p]
        tensors = ctypes.POINTER(pointer)
        self._run.argtypes = [pointer, tensors, number, tensors, number, pointer, pointer]
        self._container = pointer()
        _checked(make(ctypes.byref(self._container), at_once, b"cpu", None))
        weakref.finalize(self, opened.AOTInductorModelContainerDelete, self._container)

    def run(self, tensors: list[Tensor]) -> None:
        """Run it on `tensors`, which it changes in place.

        Raises
        ------
        RuntimeError
            If it fails; why, PyTorch writes to standard error.
        """
        given = [_address(capsule, None) for capsule in self._handles(tensors)]  # which the library then owns
        addresses = (ctypes.c_void_p * len(given))(*given)
        _checked(self._run(self._container, addresses, len(given), None, 0, None, None))


_address: Any = ctypes.pythonapi.PyCapsule_GetPointer
_address.restype, _address.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def _checked(status: int) -> None:
    if status != 0:
        raise RuntimeError("the compiled step failed")
