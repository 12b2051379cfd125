"""AdamW on gradients that are scaled down, skipped if the step is bad.

Both versions compute the same update on every device. `fused_adamw` calls PyTorch's fused kernel, which applies `divisor` and
`bad` itself on the CPU and on CUDA devices. On other devices that kernel may ignore them, so `adamw_for` gives those
`plain_adamw`.

Source: Loshchilov & Hutter 2019, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from vaelab.optim.state import TrainState

# Decay rates of the moments, and the constant in the denominator. 0.999 is worse for ladders (docs/decisions/ladder.md).
BETA1, BETA2, EPSILON = 0.9, 0.99, 1e-8
FUSED_DEVICES = ("cpu", "cuda")  # devices whose fused kernel honours `grad_scale` and `found_inf`


class Descent(NamedTuple):
    """What AdamW follows: gradients / `divisor` at `learning_rate`, or nothing if `bad` is 1."""

    gradients: Sequence[Tensor]
    divisor: Tensor
    bad: Tensor
    learning_rate: float | Tensor
    weight_decay: float


AdamW = Callable[[TrainState, Descent], None]
"""Updates weights and moments in place, unless the step is bad. `state.updates` counts this step already if it is good."""


def adamw_for(device: torch.device) -> AdamW:
    """Return the fastest version that is correct on this device."""
    return fused_adamw if device.type in FUSED_DEVICES else plain_adamw


def fused_adamw(state: TrainState, descent: Descent) -> None:
    """Update by PyTorch's fused kernel, which also overwrites the gradients by gradients / divisor."""
    weights, gradients = state.weights, list(descent.gradients)
    for index, (gradient, weight) in enumerate(zip(gradients, weights, strict=True)):
        if gradient.stride() != weight.stride():  # the kernel reads both in the order of memory
            gradients[index] = torch.empty_like(weight).copy_(gradient)
    # The kernel counts a good step itself, so it gets the number of updates before this step, one tensor per weight.
    before = (state.updates - (1 - descent.bad)).expand(len(weights)).clone()
    options: dict[str, Any] = {"beta1": BETA1, "beta2": BETA2, "eps": EPSILON, "amsgrad": False, "maximize": False}
    options |= {"lr": descent.learning_rate, "weight_decay": descent.weight_decay, "capturable": weights[0].is_cuda}
    options |= {"fused": True, "grad_scale": descent.divisor, "found_inf": descent.bad}
    adamw(weights, gradients, state.means, state.squares, [], list(before.unbind()), **options)


def plain_adamw(state: TrainState, descent: Descent) -> None:
    """Update by single operations, which a compiler fuses into one pass over each parameter and its moments."""
    updates, rate, bad = state.updates.clamp_min(1), descent.learning_rate, descent.bad
    corrections = [rate / (1 - BETA1**updates), 1 / (1 - BETA2**updates).sqrt()]
    scalars = [1 / descent.divisor, 1 - bad, *corrections, 1 - rate * descent.weight_decay]
    stacked = torch.stack([torch.as_tensor(scalar, device=bad.device) for scalar in scalars])[None]
    # The product with the identity is not fused, so these numbers are computed once and not for every weight. In it a NaN,
    # such as the scale of a bad step, would reach the other numbers.
    once = torch.nan_to_num(stacked) @ torch.eye(len(scalars), device=bad.device)
    scale, good, pace, square_scale, keep = once.squeeze(0).unbind()
    for weight, mean, square, gradient in zip(
        state.weights, state.means, state.squares, descent.gradients, strict=True
    ):
        scaled = gradient * scale
        new_mean = mean + (1 - BETA1) * (scaled - mean)
        new_square = square + (1 - BETA2) * (scaled.square() - square)
        new_weight = weight * keep - pace * new_mean / (new_square.sqrt() * square_scale + EPSILON)
        for old, new in ((mean, new_mean), (square, new_square), (weight, new_weight)):
            old.copy_(torch.where(good > 0, new, old))
