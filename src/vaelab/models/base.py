"""Base class of all models: encode → reparameterise → decode, with optional labels.

Symbols: x an image, y its label, z the latent of dimension d, ε ~ N(0, I). Arguments named `labels` are integers 0…K−1, (batch,),
or weights of the classes, (batch, K); the networks receive them as `one_hot`, (batch, K), or None without labels.

A variant is a choice of parts, not a class. The conditional VAE is the VAE whose networks also receive the label; the
autoencoder is the VAE without noise and without a rate. Latents are whitened: under the prior of every model z ~ N(0, I),
and `decode` is a deterministic function of z.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypedDict

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vaelab.config import LikelihoodName, ResolvedModelConfig
from vaelab.models.distributions import Gaussian, GaussianLikelihood, Likelihood, at_least_float32
from vaelab.models.likelihoods import likelihood_class
from vaelab.models.moments import Moments

# Bounds of the log-variance of q(z|x) relative to the prior's, enforced by a tanh on either side of 0. They keep its exponential
# from overflowing. The upper bound is tight because observing x hardly ever makes z less certain than the prior: an encoder that
# gives it a larger variance is extrapolating. With a bound of e¹² instead of e, one such image costs a million nats.
MIN_LOG_VARIANCE, MAX_LOG_VARIANCE = -12.0, 1.0


@dataclass(frozen=True)
class Inference:
    """Result of one forward pass."""

    posterior: Gaussian
    """q(z|x), whitened, (batch, d). In a hierarchy, that of each level given the sampled levels above, (..., batch, d)."""

    latent: Float[Tensor, "*samples batch d"]
    """The sample of z that was decoded."""

    rate: Float[Tensor, "*drawn batch d"]
    """KL(q(z|x) ‖ N(0, I)) of each latent dimension in nats, of the posterior's shape; zero for an autoencoder."""

    likelihood: Likelihood
    """p(x|z) at that sample."""


class ModelArguments(TypedDict):
    """Constructor arguments that all models share; see the attributes of `Model`."""

    latent_dim: int
    likelihood: LikelihoodName
    shape: tuple[int, ...]
    classes: int
    stochastic: bool


def bounded_gaussian(output: Float[Tensor, "*batch two_d"]) -> Gaussian:
    """Return the float32 Gaussian of a network's output: d means, then d log-variances, which are bounded."""
    mean, log_variance = at_least_float32(output).chunk(2, dim=-1)
    bound = torch.where(log_variance > 0, MAX_LOG_VARIANCE, -MIN_LOG_VARIANCE)
    return Gaussian(mean, bound * torch.tanh(log_variance / bound))


class Model(nn.Module, ABC):
    """Abstract model: standardisation of the data, labels, the likelihood, and `decode`.

    Attributes
    ----------
    latent_dim
        d, the size of the whitened latent vector.
    shape
        Shape of one image, (C, H, W), or of one row of a table, (D,).
    likelihood_type, likelihood_name
        The class of p(x|z), and its name in the configuration.
    classes
        K for a conditional model, 0 for one without labels.
    stochastic
        False for an autoencoder: its posterior is a point and its rate is zero.
    groups
        Sizes of the groups of latent dimensions that share free bits; None if every dimension is its own group.
    location, scale
        Mean and unit of the data, of an image's shape, set by `initialise_from_data`. The scale of images is 1.
    config
        The configuration that it was built from, if `build_model` built it.
    """

    location: Tensor
    scale: Tensor
    config: ResolvedModelConfig | None = None

    def __init__(
        self, *, latent_dim: int, likelihood: LikelihoodName, shape: tuple[int, ...], classes: int, stochastic: bool
    ) -> None:
        super().__init__()
        self.likelihood_type = likelihood_class(likelihood)
        self.likelihood_name: LikelihoodName = likelihood
        self.latent_dim, self.shape, self.classes, self.stochastic = latent_dim, shape, classes, stochastic
        self.groups: tuple[int, ...] | None = None
        self.register_buffer("location", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))

    @abstractmethod
    def posterior(self, images: Float[Tensor, "batch *shape"], labels: Tensor | None = None) -> Gaussian:
        """Return q(z|x[, y]), whitened, (batch, d). For an autoencoder it is a point: its log-variance is −∞."""

    @abstractmethod
    def likelihood_parameters(
        self, latent: Float[Tensor, "batch d"], one_hot: Float[Tensor, "batch k"] | None
    ) -> Float[Tensor, "batch planes *shape"]:
        """Return the likelihood's parameters, (batch, planes, *shape)."""

    @abstractmethod
    def forward(self, images: Tensor, labels: Tensor | None, noise: Float[Tensor, "*samples batch d"]) -> Inference:
        """Sample z from q(z|x[, y]) with ε = `noise` and decode it; leading dimensions of `noise` are further samples."""

    @abstractmethod
    def infer_at(self, images: Tensor, labels: Tensor | None, latent: Float[Tensor, "*samples batch d"]) -> Inference:
        """Return the forward pass that would have sampled `latent`: its posterior, rate and likelihood."""

    @abstractmethod
    def output_bias(self) -> Tensor | None:
        """Return the last bias, one number per value or per channel of each parameter; None if there is no such bias."""

    def one_hot(
        self, labels: Int[Tensor, " batch"] | Float[Tensor, "batch k"] | None
    ) -> Float[Tensor, "batch k"] | None:
        """Return labels as the networks receive them; weights of the classes, for interpolation, are returned unchanged."""
        if self.classes == 0:
            return None
        assert labels is not None, "a conditional model needs labels"
        return (labels if labels.is_floating_point() else F.one_hot(labels, self.classes)).to(self.location.dtype)

    def standardise(self, images: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Return the encoder's input: (x − location) / scale."""
        return (images - self.location) / self.scale

    def decode(self, latent: Float[Tensor, "*samples batch d"], labels: Tensor | None = None) -> Likelihood:
        """Return p(x|z[, y]) for whitened latents."""
        samples = latent.shape[:-2]
        flat = latent.flatten(0, -2)
        if labels is not None and samples:
            labels = labels.expand(*samples, *labels.shape).flatten(0, len(samples))
        parameters = self.likelihood_parameters(flat, self.one_hot(labels))
        return self.likelihood_of(parameters.unflatten(0, latent.shape[:-1]))

    def likelihood_of(self, parameters: Tensor) -> Likelihood:
        """Return p(x|z) with these parameters, (..., batch, planes, *shape), in float32 even if they are bfloat16."""
        parameters = at_least_float32(parameters)
        if self.likelihood_type is GaussianLikelihood:
            return GaussianLikelihood(parameters, len(self.shape), self.location, self.scale)
        return self.likelihood_type(parameters, len(self.shape))

    @torch.no_grad()
    def initialise_from_data(self, moments: Moments) -> None:
        """Set `location`, `scale` and the output bias from the moments of the data.

        Built-in networks, whose last weights are zero, then start as a model without a latent. Each column of a table is
        standardised to unit variance for encoder and decoder; a constant column keeps scale 1. The density stays in its units.
        """
        mean, variance, _ = moments
        self.location.copy_(mean)
        if len(self.shape) == 1:
            self.scale.copy_(_standard_deviation(mean, variance))
        bias = self.output_bias()
        values, planes = mean.numel(), self.likelihood_type.n_parameters
        if bias is None or bias.numel() not in (planes * values, planes * self.shape[0]):
            return
        if bias.numel() < planes * values:
            moments = moments.over_pixels()
        if self.likelihood_type is GaussianLikelihood:  # its parameters are in standardised units
            moments = Moments((mean - self.location) / self.scale, (variance.sqrt() / self.scale).square())
        bias.copy_(self.likelihood_type.initial(moments).view_as(bias))


def _standard_deviation(mean: Tensor, variance: Tensor) -> Tensor:
    """Return √variance, or 1 where a column is constant: where √variance is within the rounding error of a float32 mean."""
    deviation = variance.sqrt()
    return torch.where(deviation <= torch.finfo(torch.float32).eps * mean.abs(), 1.0, deviation)
