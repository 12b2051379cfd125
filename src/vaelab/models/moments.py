"""Mean, variance and covariance of the channels of data, to which a model is fitted before its first step."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

VALUES_AT_ONCE = 2**22  # converted to float64 at a time
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
        shape = data.shape[1:]
        total = torch.zeros(shape, dtype=torch.float64, device=data.device)
        squares = torch.zeros_like(total)
        products = torch.zeros_like(total) if len(shape) == 3 and shape[0] == 3 else None
        for part in data.split(max(1, VALUES_AT_ONCE // math.prod(shape))):
            values = part.to(torch.float64) / (255 if data.dtype == torch.uint8 else 1)
            total += values.sum(0)
            squares += values.square().sum(0)
            if products is not None:
                products += torch.stack([(values[:, i] * values[:, j]).sum(0) for i, j in CHANNEL_PAIRS])
        mean = total / len(data)
        variance = (squares / len(data) - mean.square()).clamp_min(0)
        if products is None:
            return Moments(mean, variance)
        return Moments(mean, variance, products / len(data) - _pairs(mean))

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


def _pairs(values: Tensor) -> Tensor:
    return torch.stack([values[i] * values[j] for i, j in CHANNEL_PAIRS])
