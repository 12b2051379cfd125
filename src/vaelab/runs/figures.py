"""Distortion and rate of a training: sums over steps, and averages."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Averages:
    """Distortion and rate in nats per image, averaged over images; `nats` is −ELBO, whatever the objective."""

    distortion: float
    rate: float

    @property
    def nats(self) -> float:
        """Distortion + rate, nats per image; lower is better."""
        return self.distortion + self.rate


@dataclass(frozen=True)
class Sums:
    """Distortion and rate in nats per image, summed over steps of equal size."""

    distortion: float = 0.0
    rate: float = 0.0
    steps: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.distortion + other.distortion, self.rate + other.rate, self.steps + other.steps)

    def __sub__(self, other: Sums) -> Sums:
        return Sums(self.distortion - other.distortion, self.rate - other.rate, self.steps - other.steps)

    def averages(self) -> Averages:
        """Return the averages per step; NaN if there was none."""
        steps = self.steps or math.nan
        return Averages(self.distortion / steps, self.rate / steps)
