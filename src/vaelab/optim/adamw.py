"""AdamW on gradients that are scaled down, skipped if the step is bad.

Both versions compute the same update on every device. `fused_adamw` calls PyTorch's fused kernel, which applies `divisor` and
`bad` itself on the CPU and on CUDA devices. On other devices that kernel may ignore them, so `adamw_for` gives those
`plain_adamw`.

Source: Loshchilov & Hutter 2019, algorithm 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from vaelab.optim.schedule import Schedule
from vaelab.optim.state import TrainState

BETA1, BETA2, EPSILON = 0.9, 0.99, 1e-8
"""AdamW's decay rates of the moments, and the constant in its denominator."""

FUSED_DEVICES = ("cpu", "cuda")
"""Devices whose fused kernel honours `grad_scale` and `found_inf`."""


class AdamW(Protocol):
    """Updates weights and moments with gradients / divisor; leaves both unchanged if `bad` is 1."""

    def __call__(
        self,
        state: TrainState,
        gradients: Sequence[Tensor],
        divisor: Tensor,
        bad: Tensor,
        schedule: Schedule,
        weight_decay: float,
    ) -> None: ...


def adamw_for(device: torch.device) -> AdamW:
    """Return the fastest version that is correct on this device."""
    return fused_adamw if device.type in FUSED_DEVICES else plain_adamw


def fused_adamw(
    state: TrainState,
    gradients: Sequence[Tensor],
    divisor: Tensor,
    bad: Tensor,
    schedule: Schedule,
    weight_decay: float,
) -> None:
    """Update by PyTorch's fused kernel. `state.updates` already counts this step if it is good."""
    before = (state.updates - (1 - bad)).expand(len(gradients)).clone()  # the kernel's wrapper adds 1
    adamw(
        state.weights,
        _laid_out_as(gradients, state.weights),
        state.means,
        state.squares,
        [],
        list(before.unbind()),
        fused=True,
        capturable=state.weights[0].is_cuda,
        grad_scale=divisor,
        found_inf=bad,
        amsgrad=False,
        maximize=False,
        beta1=BETA1,
        beta2=BETA2,
        lr=schedule.learning_rate,
        weight_decay=weight_decay,
        eps=EPSILON,
    )


def _laid_out_as(gradients: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """Return `gradients` with the strides of `weights`, as the fused kernel requires."""
    return [
        gradient if gradient.stride() == weight.stride() else torch.empty_like(weight).copy_(gradient)
        for gradient, weight in zip(gradients, weights, strict=True)
    ]


def plain_adamw(
    state: TrainState,
    gradients: Sequence[Tensor],
    divisor: Tensor,
    bad: Tensor,
    schedule: Schedule,
    weight_decay: float,
) -> None:
    """Update by single operations, which a compiler fuses into one pass over each parameter and its moments."""
    updates, rate = state.updates.clamp_min(1), schedule.learning_rate
    scalars = [
        1 / divisor,
        1 - bad,
        rate / (1 - BETA1**updates),
        1 / (1 - BETA2**updates).sqrt(),
        1 - rate * weight_decay,
    ]
    # A product with the identity: the compiler cannot fuse it, so it computes these numbers once and not for every weight.
    once = torch.nan_to_num(torch.stack([torch.as_tensor(scalar, device=bad.device) for scalar in scalars]))[None]
    scale, good, pace, square_scale, keep = (once @ torch.eye(5, device=once.device)).squeeze(0).unbind()
    for weight, mean, square, gradient in zip(state.weights, state.means, state.squares, gradients, strict=True):
        scaled = gradient * scale
        new_mean = mean + (1 - BETA1) * (scaled - mean)
        new_square = square + (1 - BETA2) * (scaled.square() - square)
        new_weight = weight * keep - pace * new_mean / (new_square.sqrt() * square_scale + EPSILON)
        for old, new in ((mean, new_mean), (square, new_square), (weight, new_weight)):
            old.copy_(torch.where(good > 0, new, old))
