"""The moving average of the weights, which is evaluated and saved."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

# The average is updated after each of the first 256 steps, then every 16 steps: the same to within noise, while an update at
# every step takes a seventh of a small model's step.
EVERY_STEP_UNTIL, UPDATE_EVERY = 256, 16


def is_due(step: int) -> bool:
    """Return whether the average is updated after `step` steps."""
    return step <= EVERY_STEP_UNTIL or step % UPDATE_EVERY == 0


def averaging_fraction(step: int, decay: float) -> float:
    """Return how far the average moves towards the weights after `step` steps, 0…1, for all steps since the last update.

    The decay of step t is at most (1 + t) / (10 + t), so that the initial weights are soon forgotten.
    """
    since = range(step - (UPDATE_EVERY if step > EVERY_STEP_UNTIL else 1), step)
    return 1 - math.prod(min(decay, (1 + t) / (10 + t)) for t in since)


@torch.no_grad()
def update_average(averaged: Sequence[Tensor], weights: Sequence[Tensor], fraction: float) -> None:
    """Move the average of the weights by this fraction of the way to them, in place."""
    torch._foreach_lerp_(list(averaged), list(weights), fraction)  # pyright: ignore[reportPrivateImportUsage]
