"""Custom likelihoods for tests, by import path."""

from typing import ClassVar

import torch
from torch import Tensor

from vaelab.models.distributions import Likelihood
from vaelab.models.moments import Moments


class Laplace(Likelihood):
    """Laplace density of grey values in 0…1, of a fixed scale of 0.1; the decoder outputs its centre."""

    n_parameters: ClassVar[int] = 1
    parameter_names: ClassVar[tuple[str, ...]] = ("centre",)
    scale = 0.1

    def log_prob(self, x: Tensor) -> Tensor:
        far = (x - self.plane(0)).abs() / self.scale
        return -(far + torch.log(torch.tensor(2 * self.scale))).flatten(-self.event_dims).sum(-1)

    def mean(self) -> Tensor:
        return self.plane(0).clamp(0, 1)

    def sample(self, generator: torch.Generator) -> Tensor:
        uniform = torch.rand(self.plane(0).shape, generator=generator) - 0.5
        return (self.plane(0) - self.scale * uniform.sign() * torch.log1p(-2 * uniform.abs())).clamp(0, 1)

    @staticmethod
    def initial(moments: Moments) -> Tensor:
        return moments.mean[None]


class WrongShape(Laplace):
    """Returns a figure per pixel."""

    def log_prob(self, x: Tensor) -> Tensor:
        return x - self.plane(0)


class NotNumbers(Laplace):
    """Returns NaN."""

    def log_prob(self, x: Tensor) -> Tensor:
        return super().log_prob(x) * float("nan")


class Unfinished(Likelihood):
    """Has no methods."""


class NoLikelihood:
    """Is something else."""
