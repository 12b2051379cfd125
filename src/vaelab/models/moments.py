"""Mean, variance and covariance of the channels of data, to which a model is fitted before its first step."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

VALUES_AT_ONCE = 2**18  # converted to floats at a time, so that they stay in the cache
EXACT = 256  # sums of so many squares of levels are exact in float32
CHANNEL_PAIRS = ((0, 1), (0, 2), (1, 2))


class Moments(NamedTuple):
    """Moments of data over its images or rows, each of x's shape, in units of x."""

    mean: Tensor
    variance: Tensor

    covariance: Tensor | None = None
    """Covariance of red with green, of red with blue, and of green with blue, (3, H, W); None unless x has three channels."""

    @staticmethod
    def of(data: Tensor) -> Moments:
        """Return the moments of every pixel (of uint8 images in units of 0…1) or column of data (N, *shape), float64."""
        sums = MomentSums()
        sums.add(data)
        return sums.moments()

    def planes(self) -> Tensor:
        """Return mean, variance and covariance, if there is one, of images as one tensor (planes, H, W)."""
        return torch.cat([part for part in self if part is not None])

    @staticmethod
    def of_planes(planes: Tensor, channels: int) -> Moments:
        """Return the moments of images of so many channels from their `planes`."""
        mean, variance, covariance = planes.split([channels, channels, len(planes) - 2 * channels])
        return Moments(mean, variance, covariance if len(covariance) else None)

    def over_pixels(self) -> Moments:
        """Return the moments of each channel over all pixels of images, (C, 1, 1)."""
        mean = self.mean.mean((1, 2), keepdim=True)
        deviation = self.mean - mean
        variance = (self.variance + deviation.square()).mean((1, 2), keepdim=True)
        if self.covariance is None:
            return Moments(mean, variance)
        return Moments(mean, variance, (self.covariance + _pairs(deviation)).mean((1, 2), keepdim=True))


class MomentSums:
    """Sums over data that are added part by part, in units of levels for uint8 images, of which they are exact."""

    def __init__(self) -> None:
        self.count, self.unit, self.sums = 0, 1.0, [torch.zeros(())]

    def add(self, data: Tensor) -> None:
        """Add uint8 images or rows of reals (N, *shape)."""
        shape, levels = data.shape[1:], data.dtype == torch.uint8
        colour = len(shape) == 3 and shape[0] == 3
        if not self.count:
            zeros = torch.zeros(shape, dtype=torch.float64, device=data.device)
            self.sums = [zeros, zeros.clone()] + ([zeros.clone()] if colour else [])
            self.unit = 255.0 if levels else 1.0
        self.count += len(data)
        for part in data.split(max(1, min(EXACT, VALUES_AT_ONCE // math.prod(shape)))):
            values = part.to(torch.float32 if levels else torch.float64)
            self.sums[0] += values.sum(0)
            if colour:
                self.sums[2] += torch.stack([(values[:, i] * values[:, j]).sum(0) for i, j in CHANNEL_PAIRS])
            self.sums[1] += values.square_().sum(0) if levels else values.square().sum(0)

    def moments(self) -> Moments:
        """Return the moments of all data that were added."""
        mean, squares, *products = (each / self.count for each in self.sums)
        variance = (squares - mean.square()).clamp_min(0) / self.unit**2
        covariance = [(each - _pairs(mean)) / self.unit**2 for each in products]
        return Moments(mean / self.unit, variance, *covariance)


def _pairs(values: Tensor) -> Tensor:
    return torch.stack([values[i] * values[j] for i, j in CHANNEL_PAIRS])
