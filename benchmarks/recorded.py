"""Speed limit of a training step: its matrix products and convolutions alone, recorded and replayed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from steps import images_per_second
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from vaelab.training.trainer import Trainer

aten = torch.ops.aten
HEAVY = {aten.mm, aten.addmm, aten.bmm, aten.baddbmm, aten.convolution, aten.convolution_backward}


class _Recorder(TorchDispatchMode):
    """Records calls of the operators in `HEAVY` with their arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in HEAVY:
            self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))


class Recorded:
    """The matrix products and convolutions of one step of `trainer`, which must not be compiled.

    Attributes
    ----------
    flops
        Floating-point operations per image.
    """

    def __init__(self, trainer: Trainer) -> None:
        self.batch = trainer.batches.order.batch_size
        trainer.take_step(0.5)  # the first step of a process also runs probes, which do not belong to the step
        with FlopCounterMode(display=False) as counter, _Recorder() as recorder:
            trainer.take_step(0.5)
        self.flops = counter.get_total_flops() / self.batch
        self.calls = recorder.calls

    @torch.no_grad()
    def speed(self, seconds: float) -> float:
        """Return images per second of the recorded calls alone."""
        return images_per_second(self.batch, seconds, self._run)

    def _run(self) -> None:
        for call, arguments, keywords in self.calls:
            call(*arguments, **keywords)
