"""The model: encode → reparameterise → decode, labels optional.

Symbols: x an image, y its label (an integer 0…K−1, one-hot inside), z the latent of dimension d, ε ~ N(0, I).

A variant is a choice of parts, not a class: the conditional VAE is the VAE whose bodies also see the label, and the
autoencoder is the VAE with no noise and no rate. Latents are whitened: under the model's prior z is N(0, I), and `decode`
is a deterministic function of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypedDict

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vaelab.config import LikelihoodName
from vaelab.models.distributions import LIKELIHOODS, Gaussian, GaussianLikelihood, Likelihood, at_least_float32

MIN_LOG_VARIANCE, MAX_LOG_VARIANCE = -12.0, 1.0
"""The log-variance of q(z|x), relative to the prior's, stays within these (nats), by a tanh on either side of 0.

So no step overflows its exponential. And to know x hardly ever makes z less certain than the prior has it: an encoder that says
so is far from all it has learnt from. Where it may say e¹² in place of e, one such image costs a million nats.
"""


@dataclass(frozen=True)
class Inference:
    """One pass of images through the model.

    Attributes
    ----------
    posterior
        q(z|x), whitened, (batch, d); of a ladder, each rung's given the rungs above as they were drawn, (..., batch, d).
    latent
        The sample z of it that was decoded, (..., batch, d).
    rate
        KL of each latent dimension in nats, of the posterior's shape; zero for an autoencoder, which has none.
    likelihood
        p(x|z) at that sample.
    """

    posterior: Gaussian
    latent: Float[Tensor, "*samples batch d"]
    rate: Float[Tensor, "*drawn batch d"]
    likelihood: Likelihood


class ModelArguments(TypedDict):
    """What every model is made with: see the attributes of `Model`."""

    latent_dim: int
    likelihood: LikelihoodName
    shape: tuple[int, ...]
    classes: int
    stochastic: bool


def bounded_gaussian(output: Float[Tensor, "*batch two_d"]) -> Gaussian:
    """The Gaussian whose mean and log-variance a network gives side by side, the latter kept within its bounds.

    It is in float32, whatever the network's products were made in.
    """
    mean, log_variance = at_least_float32(output).chunk(2, dim=-1)
    bound = torch.where(log_variance > 0, MAX_LOG_VARIANCE, -MIN_LOG_VARIANCE)
    return Gaussian(mean, bound * torch.tanh(log_variance / bound))


class Model(nn.Module, ABC):
    """What all models share: the data's place and scale, labels, the likelihood, and the verbs written on `parameters`.

    Attributes
    ----------
    latent_dim
        d, the size of the whitened latent vector.
    shape
        Shape of one image, (C, H, W), or of one row of a table, (D,).
    classes
        K for a conditional model, 0 for one without labels.
    stochastic
        False for an autoencoder: its posterior is a point and its rate is not counted.
    groups
        Numbers of latent dimensions that free bits take together; None if each is taken by itself.
    """

    location: Tensor
    scale: Tensor

    def __init__(
        self, *, latent_dim: int, likelihood: LikelihoodName, shape: tuple[int, ...], classes: int, stochastic: bool
    ) -> None:
        super().__init__()
        self.likelihood = LIKELIHOODS[likelihood]
        self.likelihood_name: LikelihoodName = likelihood
        self.latent_dim, self.shape, self.classes, self.stochastic = latent_dim, shape, classes, stochastic
        self.groups: tuple[int, ...] | None = None
        self.register_buffer("location", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))

    @abstractmethod
    def posterior(self, images: Float[Tensor, "batch *shape"], labels: Tensor | None = None) -> Gaussian:
        """q(z|x[, y]) of each image, whitened: (batch, d). For an autoencoder it is a point, its log-variance −∞."""

    @abstractmethod
    def likelihood_parameters(
        self, latent: Float[Tensor, "batch d"], labels: Tensor | None
    ) -> Float[Tensor, "batch *planes"]:
        """The likelihood's parameters for latents and one-hot labels, (batch, planes, *shape)."""

    @abstractmethod
    def forward(self, images: Tensor, labels: Tensor | None, noise: Float[Tensor, "*samples batch d"]) -> Inference:
        """Infer z from the images with ε = `noise` and decode it; leading dimensions of `noise` are further samples."""

    @abstractmethod
    def infer_at(self, images: Tensor, labels: Tensor | None, latent: Float[Tensor, "*samples batch d"]) -> Inference:
        """The pass that would have drawn these latents: the posterior that they are weighed by, and what they decode to."""

    @abstractmethod
    def output_bias(self) -> Tensor | None:
        """The last bias, which starts where the data are: for every value, or for every channel; None if there is none."""

    def one_hot(
        self, labels: Int[Tensor, " batch"] | Float[Tensor, "batch k"] | None
    ) -> Float[Tensor, "batch k"] | None:
        """Labels as the bodies take them: one-hot for a conditional model, None for another, whatever was given.

        Weights (batch, K) of the labels, between which an image is to lie, pass as they are.
        """
        if self.classes == 0:
            return None
        assert labels is not None, "a conditional model needs labels"
        return (labels if labels.is_floating_point() else F.one_hot(labels, self.classes)).to(self.location.dtype)

    def standardise(self, images: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """Images as an encoder sees them: as deviations from the data's mean, in units of `scale`."""
        return (images - self.location) / self.scale

    def decode(self, latent: Float[Tensor, "*samples batch d"], labels: Tensor | None = None) -> Likelihood:
        """p(x|z[, y]) for whitened latents; labels are (batch,), or weights of the labels, (batch, K)."""
        samples = latent.shape[:-2]
        flat = latent.flatten(0, -2)
        if labels is not None and samples:
            labels = labels.expand(*samples, *labels.shape).flatten(0, len(samples))
        return self.likelihood_of(
            self.likelihood_parameters(flat, self.one_hot(labels)).unflatten(0, latent.shape[:-1])
        )

    def likelihood_of(self, parameters: Tensor) -> Likelihood:
        """p(x|z) with these parameters, (..., batch, planes, *shape), in float32 whatever they were made in."""
        parameters = at_least_float32(parameters)
        if self.likelihood is GaussianLikelihood:
            return GaussianLikelihood(parameters, len(self.shape), self.location, self.scale)
        return self.likelihood(parameters, len(self.shape))

    @torch.no_grad()
    def initialise_from_data(self, mean: Tensor, variance: Tensor) -> None:
        """Start from the data's `mean` and `variance`, each of an image's shape, on the likelihood's own scale.

        The encoder sees deviations from the mean, and the decoder's bias starts where the data are: training then begins
        at the nats of the best model without a latent. For tables both sides work in units of the standard deviation of each
        column, and the density is that of the table's own units.
        """
        self.location.copy_(mean)
        if len(self.shape) == 1:
            self.scale.copy_(variance.clamp_min(1e-12).sqrt())
        bias = self.output_bias()
        values, planes = mean.numel(), self.likelihood.n_parameters
        if bias is None or bias.numel() not in (planes * values, planes * self.shape[0]):
            return
        if bias.numel() < planes * values:  # one for each channel: mean and variance over all its pixels
            level = mean.mean((1, 2), keepdim=True)
            mean, variance = level, (variance + (mean - level).square()).mean((1, 2), keepdim=True)
        if self.likelihood is GaussianLikelihood:  # which takes it in units of the standard deviation
            mean, variance = (mean - self.location) / self.scale, variance / self.scale.square()
        bias.copy_(self.likelihood.initial(mean, variance).view_as(bias))
