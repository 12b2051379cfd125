"""One step of gradient descent, from raw pixels to moved weights: a function of tensors, run as it stands or compiled.

What changes from step to step enters as a tensor or a number, and what is kept is changed in place: nothing waits for the
device, and a compiler sees the whole step as one graph and fuses what lies between the matrix products.

Sources: Kingma & Welling 2014, algorithm 1 (the step); Loshchilov & Hutter 2019, algorithm 2 (AdamW).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vaelab import objective
from vaelab.config import LikelihoodName, TrainConfig
from vaelab.errors import ConfigError
from vaelab.model import Model

DECAY_OF_MEAN, DECAY_OF_SQUARE, EPSILON = 0.9, 0.99, 1e-8
"""AdamW's β₁ and β₂, and what keeps its division finite."""

FOLLOWING = 0.02
"""Share by which the running average of the gradient's norm follows it."""


class Schedule(NamedTuple):
    """What changes over a training: β, the learning rate, and the share by which the averaged weights follow."""

    beta: float | Tensor
    learning_rate: float | Tensor
    share: float | Tensor


@dataclass(frozen=True)
class Batch:
    """What a step sees: images as the likelihood takes them (batch, *shape), labels (batch,), noise ε (batch, d)."""

    images: Tensor
    labels: Int[Tensor, " batch"] | None
    noise: Float[Tensor, "batch d"]


@dataclass(frozen=True)
class Moving:
    """What a step moves, with a tensor per parameter: weights, their average, AdamW's moments; and the updates so far."""

    weights: list[Tensor]
    averaged: list[Tensor]
    means: list[Tensor]
    squares: list[Tensor]
    updates: Float[Tensor, ""]


@dataclass(frozen=True)
class Tally:
    """What a training keeps count of on its device, and reads seldom.

    Attributes
    ----------
    sums
        Over the good steps since the last reading: distortion and rate in nats per image, and their number, (3,).
    bad
        Steps left out because loss or gradient was NaN or infinite: in all, and in a row, (2,).
    usual_norm
        Running average of the gradient's norm; 0 before the first step.
    """

    sums: Float[Tensor, "3"]
    bad: Float[Tensor, "2"]
    usual_norm: Float[Tensor, ""]


def descend(
    model: Model,
    moving: Moving,
    tally: Tally,
    batch: Batch,
    schedule: Schedule,
    config: TrainConfig,
    likelihood: LikelihoodName,
) -> None:
    """Move the weights down the gradient of the objective, and their average after them; or leave a bad step out."""
    terms = objective.terms(model(batch.images, batch.labels, batch.noise), batch.images)
    loss = objective.loss(terms, beta=schedule.beta, free_bits=config.free_bits)
    gradients = torch.autograd.grad(loss, moving.weights, allow_unused=True, materialize_grads=True)
    with torch.no_grad():
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
        bad = (~torch.isfinite(norm + loss)).float()
        usual = torch.where(tally.usual_norm > 0, tally.usual_norm, norm)
        limit = config.gradient_clip * usual
        # a gradient of exactly zero is no reason to divide by zero
        divisor = (norm / limit.clamp_min(torch.finfo(norm.dtype).tiny)).clamp_min(1)
        moving.updates.add_(1 - bad)
        move = _adamw if torch.compiler.is_compiling() else _fused_adamw
        move(moving, gradients, divisor, bad, schedule, config.weight_decay)
        followed = torch.lerp(usual, torch.minimum(norm, limit), FOLLOWING)
        tally.usual_norm.copy_(torch.where(bad > 0, tally.usual_norm, followed))
        figures = torch.stack([terms.distortion.mean(), terms.rate.sum(-1).mean(), torch.ones_like(bad)])
        tally.sums.add_(torch.where(bad > 0, torch.zeros_like(figures), figures))
        tally.bad.copy_(torch.stack([tally.bad[0] + bad, (tally.bad[1] + 1) * bad]))


def check_compiler() -> None:
    """Make sure that PyTorch's compiler finds the C++ compiler that it needs.

    Raises
    ------
    ConfigError
        If there is none.
    """
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise ConfigError(
            f"--compile: got no {compiler} on this machine; expected a C++ compiler: install it (on Debian apt-get install g++), "
            "name another in CXX, or leave --compile out"
        )


def compile_descend(device: torch.device) -> Callable[..., None]:
    """`descend` as one compiled graph; its schedule must be of tensors, and every call of the same shapes.

    The first call compiles, in some 10 s, and once that is cached on disk in about 2.
    """
    wrapper: dict[str, Any] = {
        "cpp_wrapper": device.type == "cpu"
    }  # graph and kernels called from C++, not from Python
    compiled = torch.compile(descend, fullgraph=True, dynamic=False, options=wrapper)
    fresh = True

    def call(*arguments: Any) -> None:
        nonlocal fresh
        if not fresh:
            compiled(*arguments)
            return
        from torch._dynamo import config

        with config.patch(trace_autograd_ops=True):
            compiled(*arguments)
        fresh = False

    return call


def _fused_adamw(
    moving: Moving, gradients: Sequence[Tensor], divisor: Tensor, bad: Tensor, schedule: Schedule, weight_decay: float
) -> None:
    """AdamW on `gradients` / `divisor` by PyTorch's fused kernel, which leaves the step out by itself where `bad` is 1."""
    rate, share = schedule.learning_rate, schedule.share
    assert isinstance(rate, float)
    assert isinstance(share, float)
    torch._fused_adamw_(  # pyright: ignore[reportPrivateImportUsage] - as torch.optim.AdamW(fused=True) does
        moving.weights,
        list(gradients),
        moving.means,
        moving.squares,
        [],
        [moving.updates.clamp_min(1)] * len(gradients),
        lr=rate,
        beta1=DECAY_OF_MEAN,
        beta2=DECAY_OF_SQUARE,
        weight_decay=weight_decay,
        eps=EPSILON,
        amsgrad=False,
        maximize=False,
        grad_scale=divisor,
        found_inf=bad,
    )
    torch._foreach_lerp_(moving.averaged, moving.weights, share)  # pyright: ignore[reportPrivateImportUsage]


def _adamw(
    moving: Moving, gradients: Sequence[Tensor], divisor: Tensor, bad: Tensor, schedule: Schedule, weight_decay: float
) -> None:
    """The same in single operations, for a compiler to fuse: one pass over each parameter, its moments and its average."""
    updates, rate = moving.updates.clamp_min(1), schedule.learning_rate
    scalars = [
        1 / divisor,
        1 - bad,
        rate / (1 - DECAY_OF_MEAN**updates),
        1 / (1 - DECAY_OF_SQUARE**updates).sqrt(),
        1 - rate * weight_decay,
    ]
    # A product with the identity: what the compiler cannot see through, it works out once, and not again for every weight.
    once = torch.nan_to_num(torch.stack([torch.as_tensor(scalar) for scalar in scalars]))[None]
    shrink, good, pace, square_scale, keep = (once @ torch.eye(5, device=once.device)).squeeze(0).unbind()
    for weight, averaged, mean, square, gradient in zip(
        moving.weights, moving.averaged, moving.means, moving.squares, gradients, strict=True
    ):
        scaled = gradient * shrink
        new_mean = mean + (1 - DECAY_OF_MEAN) * (scaled - mean)
        new_square = square + (1 - DECAY_OF_SQUARE) * (scaled.square() - square)
        new_weight = weight * keep - pace * new_mean / (new_square.sqrt() * square_scale + EPSILON)
        for old, new in ((mean, new_mean), (square, new_square), (weight, new_weight)):
            old.copy_(torch.where(good > 0, new, old))
        averaged.lerp_(weight, schedule.share)
