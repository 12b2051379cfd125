"""What training updates in place: weights, optimiser moments, and counters on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class TrainState:
    """Weights, their moving average, AdamW's moments (a tensor per parameter each), and the number of updates."""

    weights: list[Tensor]
    averaged: list[Tensor]
    means: list[Tensor]
    squares: list[Tensor]
    updates: Float[Tensor, ""]

    @staticmethod
    def of(weights: Sequence[Tensor], averaged: Sequence[Tensor]) -> TrainState:
        """Return the state before the first step."""
        means, squares = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
        updates = torch.zeros((), device=weights[0].device)
        return TrainState(list(weights), list(averaged), means, squares, updates)


@dataclass(frozen=True)
class StepStats:
    """Counters that a training keeps on its device and reads seldom."""

    sums: Float[Tensor, "3"]
    """Distortion and rate in nats per image, summed over the good steps since the last reading, and their number."""

    bad: Float[Tensor, "2"]
    """Steps skipped because loss or gradient was NaN or infinite: in all, and in a row."""

    usual_norm: Float[Tensor, ""]
    """Running average of the gradient norm; 0 before the first step."""

    @staticmethod
    def zeros(device: torch.device) -> StepStats:
        """Return the counters before the first step."""
        return StepStats(*(torch.zeros(shape, device=device) for shape in ((3,), (2,), ())))


class LossAndGrad(NamedTuple):
    """Loss, mean distortion and rate in nats per image, and gradients of a batch."""

    distortion: Float[Tensor, ""]
    rate: Float[Tensor, ""]
    loss: Float[Tensor, ""]
    gradients: Sequence[Tensor]
