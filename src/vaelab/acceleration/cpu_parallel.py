"""CPU data parallelism for hierarchical models: each core processes its own part of a batch, and the gradients are averaged.

Threads that share one step wait for each other hundreds of times; cores with their own images wait once. The result is the
same: each pixel is binarised by its position in the whole batch, and the loss is a mean over images.

A part runs as a compiled library, called by its C interface (`AOTInductorModelContainerRun` of PyTorch's `interface.h`),
because PyTorch's Python bindings hold the global interpreter lock while it runs. When pytorch/pytorch#197516 is fixed, this
module can use them.
"""

from __future__ import annotations

import ctypes
import tempfile
import weakref
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import torch
from torch import Tensor

from vaelab.acceleration.graph import gradient_inputs
from vaelab.config import ResolvedConfig
from vaelab.objectives.batch import Batch
from vaelab.optim.schedule import Schedule
from vaelab.optim.state import LossAndGrad
from vaelab.optim.step import PlainRunner

FEWEST_IMAGES = 32
"""Images in a part, at least: with fewer, matrix products are too small to be fast."""


def part_count(config: ResolvedConfig, images: int, threads: int) -> int:
    """Return the number of parts of a batch that are processed in parallel; 1 disables splitting.

    Only ladders are split, whose steps are long. A loss of the batch's mean, as with free bits, is not a mean over parts.
    """
    if config.model.network != "ladder" or config.train.free_bits > 0:
        return 1
    most = min(threads, images // FEWEST_IMAGES)
    return max((count for count in range(1, most + 1) if images % count == 0), default=1)


class ParallelStep:
    """Takes steps whose batch is processed in parts, one per worker thread."""

    def __init__(self, package: Path, plain: PlainRunner, parts: int, threads: int) -> None:
        """Use the library in `package`, with `threads` threads for each part; an OSError or RuntimeError if it cannot be
        loaded.
        """
        self.plain, self.count = plain, parts
        self._library = Library(package, parts)
        # of each part: a gradient per weight; mean distortion, mean rate and loss
        self._gradients = [[torch.zeros_like(weight) for weight in plain.state.weights] for _ in range(parts)]
        self._figures = torch.zeros(parts, 3)
        before = torch.get_num_threads()
        self._pool = ThreadPoolExecutor(parts, "part", _use_threads, (threads,))
        started = Barrier(parts + 1)
        for _ in range(parts):
            self._pool.submit(started.wait)
        started.wait()
        torch.set_num_threads(before)

    def __call__(self, batch: Batch, schedule: Schedule) -> None:
        """Take one step; its schedule is of tensors. If a part fails, nothing has changed."""
        plain, beta = self.plain, torch.as_tensor(schedule.beta)
        model, weights = plain.model, plain.state.weights
        batches = batch.split(len(batch.images) // self.count)
        inputs = [
            gradient_inputs(model, weights, gradients, figures, part, beta)
            for gradients, figures, part in zip(self._gradients, self._figures, batches, strict=True)
        ]
        for done in [self._pool.submit(self._library.run, tensors) for tensors in inputs]:
            done.result()
        plain.update(self._averaged(), schedule, len(batch.images))

    @torch.no_grad()
    def _averaged(self) -> LossAndGrad:
        first, *others = self._gradients
        for other in others:
            torch._foreach_add_(first, other)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_div_(first, float(self.count))  # pyright: ignore[reportPrivateImportUsage]
        distortion, rate, loss = self._figures.mean(0)
        return LossAndGrad(distortion, rate, loss, first)


def _use_threads(count: int) -> None:
    """Let this Python thread compute on `count` threads, whatever is set for others later."""
    torch.set_num_threads(count)
    torch.get_num_threads()  # a thread takes over the number that was set last when it first asks


class Library:
    """A compiled library that several Python threads can run at the same time."""

    def __init__(self, package: Path, at_once: int) -> None:
        """Load the library of a package, for `at_once` calls at a time; an OSError or RuntimeError if it cannot be loaded."""
        with zipfile.ZipFile(package) as archive, tempfile.TemporaryDirectory(prefix="vaelab-") as folder:
            names = [name for name in archive.namelist() if name.endswith(".so")]
            if len(names) != 1:
                raise OSError(f"{package} holds {len(names)} libraries")
            opened = ctypes.CDLL(archive.extract(names[0], folder))
        pointer, number = ctypes.c_void_p, ctypes.c_size_t
        try:
            make, self._run = opened.AOTInductorModelContainerCreateWithDevice, opened.AOTInductorModelContainerRun
            self._handles = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors  # pyright: ignore[reportAttributeAccessIssue]
        except AttributeError as error:
            raise OSError(f"the C interface of this PyTorch's libraries differs: {error}") from error
        make.argtypes = [ctypes.POINTER(pointer), number, ctypes.c_char_p, ctypes.c_char_p]
        tensors = ctypes.POINTER(pointer)
        self._run.argtypes = [pointer, tensors, number, tensors, number, pointer, pointer]
        self._container = pointer()
        _expect_success(make(ctypes.byref(self._container), at_once, b"cpu", None))
        weakref.finalize(self, opened.AOTInductorModelContainerDelete, self._container)

    def run(self, tensors: list[Tensor]) -> None:
        """Run it on `tensors`, which it changes in place; if it fails, PyTorch writes the reason to standard error."""
        handles = [_address(capsule, None) for capsule in self._handles(tensors)]  # owned by the library from here on
        addresses = (ctypes.c_void_p * len(handles))(*handles)
        _expect_success(self._run(self._container, addresses, len(handles), None, 0, None, None))


_address: Any = ctypes.pythonapi.PyCapsule_GetPointer
_address.restype, _address.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def _expect_success(status: int) -> None:
    if status != 0:
        raise RuntimeError("the compiled step failed")
