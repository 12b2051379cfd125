"""Distributions of a variational autoencoder: the Gaussian of the latent, and the likelihoods p(x|z).

Symbols: x a data point of any shape (for images C×H×W), z the latent of dimension d. A likelihood is constructed from the
decoder's output, `n_parameters` numbers per value of x. Its `log_prob` is a normalised log-probability (of 0/1 pixels, of
8-bit levels) or log-density (on the unit interval, on the reals) in nats, one number per data point, summed over its values.
Leading dimensions before the batch (several samples of z per image) are kept, and x is broadcast against them.

Sources: Kingma & Welling 2014 (Gaussian posterior, closed-form KL, appendix B); Loaiza-Ganem & Cunningham 2019
(continuous Bernoulli); Kingma et al. 2016 and Salimans et al. 2017 (discretised logistic).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vaelab.models.moments import Moments

LOG_2PI = math.log(2 * math.pi)


def at_least_float32(values: Tensor) -> Tensor:
    """Return bfloat16 and float16 values as float32, and others unchanged."""
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


@final
@dataclass(frozen=True)
class Gaussian:
    """Diagonal Gaussian with `mean` and `log_variance`, both (..., d). A log-variance of −∞ means a point mass."""

    mean: Float[Tensor, "*batch d"]
    log_variance: Float[Tensor, "*batch d"]

    def sample(self, noise: Float[Tensor, "*more d"]) -> Float[Tensor, "*more d"]:
        """Return μ + σ·ε for ε = `noise`, differentiable in μ and σ (reparameterisation, Kingma & Welling 2014, eq. 4)."""
        return torch.addcmul(self.mean, torch.exp(0.5 * self.log_variance), noise)

    def log_prob(self, value: Float[Tensor, "*value d"]) -> Float[Tensor, "*broadcast"]:
        """Return the log-density of `value` in nats, summed over d; `value` and the Gaussian broadcast."""
        squared = (value - self.mean).square() * torch.exp(-self.log_variance)
        return -0.5 * (squared + self.log_variance + LOG_2PI).sum(-1)

    def rate(self) -> Float[Tensor, "*batch d"]:
        """Return KL(self ‖ N(0, I)) of each dimension in nats, ≥ 0 (Kingma & Welling 2014, appendix B)."""
        return 0.5 * (self.mean.square() + torch.exp(self.log_variance) - self.log_variance - 1)


def standard_normal_log_prob(value: Float[Tensor, "*batch d"]) -> Float[Tensor, "*batch"]:
    """Return the log-density of `value` under N(0, I) in nats, summed over d."""
    return -0.5 * (value.square() + LOG_2PI).sum(-1)


LEAST_VARIANCE = 1e-4  # of data that a likelihood is fitted to


class Likelihood(ABC):
    """p(x|z), constructed from the decoder's output `parameters`, (..., batch, n_parameters, *shape of x)."""

    n_parameters: ClassVar[int]
    """Number of decoder outputs per value of x."""

    parameter_names: ClassVar[tuple[str, ...]]
    """Names of `distribution_parameters`, in order."""

    event_dims: int

    def __init__(self, parameters: Tensor, event_dims: int) -> None:
        assert parameters.shape[-event_dims - 1] == self.n_parameters, (parameters.shape, event_dims)
        self.event_dims = event_dims
        self.parameters = parameters

    def plane(self, index: int) -> Tensor:
        """Return the decoder output with this index for every value, (..., batch, *shape of x)."""
        return self.parameters.select(-self.event_dims - 1, index)

    def _sum(self, per_value: Tensor) -> Tensor:
        return per_value.flatten(-self.event_dims).sum(-1)

    @abstractmethod
    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-probability or log-density of each x in nats, (..., batch); x is (batch, *shape)."""

    def distribution_parameters(self) -> Tensor:
        """Return the parameters of the distribution's formula on x's scale, (..., batch, len(parameter_names), *shape of x)."""
        return self.parameters

    @abstractmethod
    def mean(self) -> Tensor:
        """Return E[x|z], (..., batch, *shape), on x's scale (images: 0…1)."""

    @abstractmethod
    def sample(self, generator: torch.Generator) -> Tensor:
        """Sample x given z, (..., batch, *shape), on x's scale."""

    @staticmethod
    @abstractmethod
    def initial(moments: Moments) -> Tensor:
        """Return the constant decoder output, (n_parameters, *shape), that fits data with these moments."""


@final
class Bernoulli(Likelihood):
    """Pixels that are 0 or 1; the decoder outputs the log-odds of 1."""

    n_parameters = 1
    parameter_names = ("logit",)

    def log_prob(self, x: Tensor) -> Tensor:
        logits = self.plane(0)
        return -self._sum(F.binary_cross_entropy_with_logits(logits, x.expand_as(logits), reduction="none"))

    def mean(self) -> Tensor:
        return torch.sigmoid(self.plane(0))

    def sample(self, generator: torch.Generator) -> Tensor:
        return torch.bernoulli(self.mean(), generator=generator)

    @staticmethod
    def initial(moments: Moments) -> Tensor:
        return torch.logit(moments.mean, eps=1e-3)[None]


@final
class ContinuousBernoulli(Likelihood):
    """Values in [0, 1] with density C(λ) λˣ (1−λ)¹⁻ˣ (Loaiza-Ganem & Cunningham 2019, eq. 2); the decoder outputs logit λ."""

    n_parameters = 1
    parameter_names = ("logit",)

    def log_prob(self, x: Tensor) -> Tensor:
        # With η = logit λ the density is exp(ηx) η / (e^η − 1) = exp(η(x − ½)) · (η/2) / sinh(η/2), and near η = 0
        # log((η/2)/sinh(η/2)) = −η²/24 + η⁴/2880 − …, used for |η| < ½, where the next term is below 1e-7.
        # `safe` keeps the unused branch of `where` finite, and with it the gradient.
        eta = self.plane(0)
        small = eta.abs() < 0.5
        safe = torch.where(small, torch.ones_like(eta), eta.abs())
        far = torch.log(safe) - 0.5 * safe - torch.log1p(-torch.exp(-safe))
        square = eta.square()
        near = square * (-1 / 24 + square / 2880)
        return self._sum(eta * (x - 0.5) + torch.where(small, near, far))

    def mean(self) -> Tensor:
        # 1/(1 − e^−η) − 1/η; near η = 0: ½ + η/12 − η³/720.
        eta = self.plane(0)
        small = eta.abs() < 0.1
        safe = torch.where(small, torch.ones_like(eta), eta)
        return torch.where(small, 0.5 + eta / 12 - eta**3 / 720, -1 / torch.expm1(-safe) - 1 / safe)

    def sample(self, generator: torch.Generator) -> Tensor:
        # Inverse of the distribution function (e^{ηx} − 1)/(e^η − 1); for η > 0 by the mirror image x → 1 − x, to avoid
        # overflow.
        eta = self.plane(0)
        uniform = torch.rand(eta.shape, generator=generator, device=eta.device)
        small = eta.abs() < 1e-3
        negative = torch.where(small, -torch.ones_like(eta), -eta.abs())
        x = torch.log1p(uniform * torch.expm1(negative)) / negative
        x = torch.where(eta > 0, 1 - x, x)
        return torch.where(small, uniform, x).clamp(0, 1)

    @staticmethod
    def initial(moments: Moments) -> Tensor:
        # The mean increases with η and its inverse has no closed form: bisection.
        mean = moments.mean
        low, high = torch.full_like(mean, -50), torch.full_like(mean, 50)  # means of 0.02 and 0.98
        for _ in range(40):
            eta = (low + high) / 2
            too_low = ContinuousBernoulli(eta[None], eta.ndim).mean() < mean
            low, high = torch.where(too_low, eta, low), torch.where(too_low, high, eta)
        return low[None]


HALF_BIN = 0.5 / 255
MIN_LOG_SCALE = -7.0  # a quarter of a grey level; with a smaller scale the level is all but certain


def bounded_log_scale(output: Tensor) -> Tensor:
    """Return the logarithm of a logistic's scale from the decoder's output: the output itself, above `MIN_LOG_SCALE`."""
    return F.softplus(output - MIN_LOG_SCALE) + MIN_LOG_SCALE


def log_scale_of(variance: Tensor) -> Tensor:
    """Return the logarithm of the scale s of a logistic distribution of this variance, s²π²/3."""
    return 0.5 * torch.log(variance.clamp_min(LEAST_VARIANCE) * 3 / math.pi**2)


def level_log_prob(x: Tensor, centre: Tensor, log_scale: Tensor) -> Tensor:
    """Return the log-probability in nats of each grey level `x`, in units of 0…1, of a logistic distribution in 256 bins."""
    inverse_scale = torch.exp(-log_scale)
    middle = (x - centre) * inverse_scale
    half = HALF_BIN * inverse_scale
    upper, lower = middle + half, middle - half
    # log(σ(u) − σ(l)) = −softplus(−u) − softplus(l) + log(1 − e^{l−u}), u − l = 2·half: exact, stable in the tails. Of the last
    # term, log(u − l) is taken apart, so that value and gradient are finite where u − l underflows.
    between = (2 * half).clamp_min(1e-30)
    width = torch.log(-torch.expm1(-between) / between) - log_scale + math.log(2 * HALF_BIN)
    below_upper = -F.softplus(-upper)
    above_lower = -F.softplus(lower)
    inside = below_upper + above_lower + width
    return torch.where(x < HALF_BIN, below_upper, torch.where(x > 1 - HALF_BIN, above_lower, inside))


def clipped_mean(centre: Tensor, scale: Tensor) -> Tensor:
    """Return E[min(max(X, 0), 1)] = ∫₀¹ P(X > t) dt of a logistic X; 256 levels change it by less than half a level."""
    return scale * (F.softplus(centre / scale) - F.softplus((centre - 1) / scale))


def mass_inside(centre: Tensor, scale: Tensor) -> Tensor:
    """Return P(0 < X < 1) of a logistic X."""
    return torch.sigmoid((1 - centre) / scale) - torch.sigmoid(-centre / scale)


def logistic_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Sample a standard logistic distribution, with the shape and device of `like`."""
    return torch.logit(torch.rand(like.shape, generator=generator, device=like.device), eps=1e-6)


def nearest_level(value: Tensor) -> Tensor:
    """Return the nearest of the 256 grey levels, in units of 0…1."""
    return torch.round(value.clamp(0, 1) * 255) / 255


@final
class DiscretisedLogistic(Likelihood):
    """Grey levels 0…255, as x = level/255, of a logistic distribution with 256 bins (Salimans et al. 2017, eq. 2).

    The decoder outputs the logistic's mean minus ½, in units of [0, 1], and the logarithm of its scale, which a softplus bounds
    below. The bins of 0 and 255 include the tails, so the 256 probabilities sum to one. Channels are independent given z.
    """

    n_parameters = 2
    parameter_names = ("centre", "log_scale")

    def _centre_and_log_scale(self) -> tuple[Tensor, Tensor]:
        return self.plane(0) + 0.5, bounded_log_scale(self.plane(1))

    def log_prob(self, x: Tensor) -> Tensor:
        return self._sum(level_log_prob(x, *self._centre_and_log_scale()))

    def distribution_parameters(self) -> Tensor:
        return torch.stack(self._centre_and_log_scale(), -self.event_dims - 1)

    def mean(self) -> Tensor:
        centre, log_scale = self._centre_and_log_scale()
        return clipped_mean(centre, torch.exp(log_scale))

    def sample(self, generator: torch.Generator) -> Tensor:
        centre, log_scale = self._centre_and_log_scale()
        return nearest_level(centre + torch.exp(log_scale) * logistic_noise(centre, generator))

    @staticmethod
    def initial(moments: Moments) -> Tensor:
        return torch.stack([moments.mean - 0.5, log_scale_of(moments.variance)])


@final
class GaussianLikelihood(Likelihood):
    """Real values; the decoder outputs mean and log-variance of (x − location) / scale, with `location` and `scale` of x's
    shape.

    `log_prob` is a density in the units of x, so −log p may be negative. Training does not depend on the units.
    """

    n_parameters = 2
    parameter_names = ("mean", "log_variance")
    min_log_variance = -10.0

    def __init__(
        self, parameters: Tensor, event_dims: int, location: Tensor | float = 0.0, scale: Tensor | float = 1.0
    ) -> None:
        super().__init__(parameters, event_dims)
        self.location, self.scale = torch.as_tensor(location).to(parameters), torch.as_tensor(scale).to(parameters)

    def _standardised(self) -> Gaussian:
        return Gaussian(self.plane(0), F.softplus(self.plane(1) - self.min_log_variance) + self.min_log_variance)

    def log_prob(self, x: Tensor) -> Tensor:
        # The squares of small or large units would leave the range of float32.
        log_scale = torch.log(self.scale).expand(x.shape[-self.event_dims :]).sum()
        gaussian, x = self._standardised(), (x - self.location) / self.scale
        mean, log_variance, x = (v.flatten(-self.event_dims) for v in (gaussian.mean, gaussian.log_variance, x))
        return Gaussian(mean, log_variance).log_prob(x) - log_scale

    def distribution_parameters(self) -> Tensor:
        log_variance = self._standardised().log_variance + 2 * torch.log(self.scale)
        return torch.stack([self.mean(), log_variance], -self.event_dims - 1)

    def mean(self) -> Tensor:
        return self.location + self.scale * self.plane(0)

    def sample(self, generator: torch.Generator) -> Tensor:
        gaussian = self._standardised()
        noise = torch.randn(gaussian.mean.shape, generator=generator, device=gaussian.mean.device)
        return self.location + self.scale * gaussian.sample(noise)

    @staticmethod
    def initial(moments: Moments) -> Tensor:
        return torch.stack([moments.mean, torch.log(moments.variance.clamp_min(LEAST_VARIANCE))])
