"""What changes over a training: the learning rate and the weight β of the rate.

Sources: Loshchilov & Hutter 2017 (cosine decay); Bowman et al. 2016 (KL warm-up).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from vaelab.config import ResolvedTrainConfig

INITIAL_LEARNING_RATE, FINAL_LEARNING_RATE = 1e-3, 0.01  # fractions of the peak


class Schedule(NamedTuple):
    """β and the learning rate of one step, as numbers or as tensors of one element."""

    beta: float | Tensor
    learning_rate: float | Tensor


def schedule_at(
    config: ResolvedTrainConfig, fraction: float, halvings: int = 0, factor: float | None = None
) -> Schedule:
    """Return the schedule after this fraction of the training, 0…1, with the learning rate halved that many times.

    `factor` is the learning rate relative to its peak, by default `learning_rate_factor`.
    """
    factor = learning_rate_factor(fraction, config.warmup) if factor is None else factor
    beta = config.beta * (min(1.0, fraction / config.kl_warmup) if config.kl_warmup else 1.0)
    return Schedule(beta, config.learning_rate * 0.5**halvings * factor)


def learning_rate_factor(fraction: float, warmup: float) -> float:
    """Return the learning rate relative to its peak: a linear rise over `warmup`, then a cosine decay to 1 %."""
    if fraction < warmup:
        return INITIAL_LEARNING_RATE + fraction / warmup
    remaining = (fraction - warmup) / max(1 - warmup, 1e-9)
    cosine = 0.5 * (1 + math.cos(math.pi * min(remaining, 1.0)))
    return FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * cosine
