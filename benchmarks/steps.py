"""Speed of vaelab's training step, and of the matrix products alone for the 784-400-20 model."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial

import torch

from vaelab.acceleration.runner import AcceleratedRunner
from vaelab.config import Config, ModelConfig, PrecisionName, TrainConfig
from vaelab.data.dataset import Dataset
from vaelab.data.strokes import draw_strokes
from vaelab.training.fit import make_trainer
from vaelab.training.resolve import resolve
from vaelab.training.trainer import Trainer

DENSE = ModelConfig(model="vae", network="mlp", latent_dim=20, width=400, depth=1, likelihood="bernoulli")
"""784-400-20."""

CONV = ModelConfig(model="vae", network="conv", likelihood="bernoulli")
"""The default convolutional network."""

WIDTHS = ((784, 400), (400, 40), (20, 400), (400, 784))
"""Inputs and outputs of the four dense layers; half of the outputs of the second are log-variances."""

FLOPS = 2 * (3 * sum(n * m for n, m in WIDTHS) - WIDTHS[0][0] * WIDTHS[0][1])
"""Per image in training: forward and both gradients, except for the gradient of the first layer's input."""

STEPS, STEPS_ON_A_GPU = 20, 500
"""Steps between two readings of the statistics, which synchronise with the device."""


@cache
def drawings(count: int) -> Dataset:
    """Return `count` training drawings and a sixth as many test drawings, the ratio of MNIST."""
    drawn = draw_strokes(count + count // 6, seed=0)
    return Dataset("strokes", drawn[:count], drawn[:0], drawn[count:], tuple("0123456789"))


def trainer_for(
    model: ModelConfig, dataset: Dataset, batch: int, device: str = "cpu", precision: PrecisionName = "float32"
) -> Trainer:
    """Return a trainer for the model."""
    config = Config(model, TrainConfig(epochs=1, batch_size=batch, device=device, precision=precision, compile="auto"))
    return make_trainer(resolve(config, dataset), dataset)


def compile_step(trainer: Trainer) -> tuple[float, float]:
    """Compile the step; return the seconds to the end of the next step and of the first compiled step."""
    began, first, runner = time.perf_counter(), 0.0, runner_of(trainer)
    runner.compile()
    while True:
        ready = runner.compiled
        trainer.take_step(0.5)
        trainer.take_sums()
        taken = time.perf_counter() - began
        first = first or taken
        if ready:
            if not runner.compiled:
                raise RuntimeError(runner.remarks[-1])
            return first, taken


def runner_of(trainer: Trainer) -> AcceleratedRunner:
    """Return the accelerated runner of a trainer."""
    assert isinstance(trainer.runner, AcceleratedRunner)
    return trainer.runner


def speed(trainer: Trainer, seconds: float) -> float:
    """Return images per second of the complete step: schedule, binarisation, clipping, weight average, statistics."""
    between = STEPS if trainer.stats.bad.device.type == "cpu" else STEPS_ON_A_GPU
    return images_per_second(
        trainer.batches.order.batch_size, seconds, partial(trainer.take_step, 0.5), trainer.take_sums, between
    )


def products_speed(batch: int, seconds: float, dtype: torch.dtype = torch.float32) -> float:
    """Return images per second of the matrix products alone, forward and backward, into preallocated memory."""
    inputs = [torch.randn(batch, n, dtype=dtype) for n, _ in WIDTHS]
    outputs = [torch.randn(batch, m, dtype=dtype) for _, m in WIDTHS]
    weights = [torch.randn(n, m, dtype=dtype) for n, m in WIDTHS]
    made, upstream = [torch.empty_like(each) for each in outputs], [torch.empty_like(each) for each in inputs]
    gradients = [torch.empty_like(each) for each in weights]

    def multiply() -> None:
        for x, w, y in zip(inputs, weights, made, strict=True):
            torch.mm(x, w, out=y)
        for layer in (3, 2, 1, 0):
            torch.mm(inputs[layer].t(), outputs[layer], out=gradients[layer])
            if layer:
                torch.mm(outputs[layer], weights[layer].t(), out=upstream[layer])

    return images_per_second(batch, seconds, multiply)


def images_per_second(
    batch: int,
    seconds: float,
    step: Callable[[], object],
    settle: Callable[[], object] = lambda: None,
    between: int = STEPS,
) -> float:
    """Return images per second of `step` with batches of `batch`; `settle` synchronises every `between` steps."""
    taken, began = 0, time.perf_counter()
    while not taken or time.perf_counter() - began < seconds:
        step()
        taken += 1
        if taken % between == 0:
            settle()
    settle()
    return taken * batch / (time.perf_counter() - began)
