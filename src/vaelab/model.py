"""The model: encode → reparameterise → decode, labels optional.

Symbols: x an image, y its label (an integer 0…K−1, one-hot inside), z the latent of dimension d, ε ~ N(0, I).

A variant is a choice of parts, not a class: the conditional VAE is the VAE whose bodies also see the label, and the
autoencoder is the VAE with no noise and no rate. Latents are whitened: under the model's prior z is N(0, I), and `decode`
is a deterministic function of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vaelab.bodies import build_decoder, build_encoder
from vaelab.config import LikelihoodName, ModelConfig
from vaelab.distributions import LIKELIHOODS, Gaussian, GaussianLikelihood, Likelihood

MOST_LOG_VARIANCE = 12.0
"""The encoder's log-variance stays within ± this (nats), by a tanh, so that no step can overflow its exponential."""


@dataclass(frozen=True)
class Inference:
    """One pass of images through the model.

    Attributes
    ----------
    posterior
        q(z|x), whitened, (batch, d).
    latent
        The sample z of it that was decoded, (..., batch, d).
    rate
        KL of each latent dimension in nats, (batch, d); zero for an autoencoder, which has none.
    likelihood
        p(x|z) at that sample.
    """

    posterior: Gaussian
    latent: Float[Tensor, "*samples batch d"]
    rate: Float[Tensor, "batch d"]
    likelihood: Likelihood


@final
class Model(nn.Module):
    """Encoder, latent and decoder.

    Parameters
    ----------
    encoder, decoder
        Bodies with the signatures that `vaelab.networks` documents.
    features
        Size of the encoder body's output.
    shape
        Shape of one image, (C, H, W), or of one row of a table, (D,).
    classes
        K for a conditional model, 0 for one without labels.
    stochastic
        False for an autoencoder: its posterior is a point and its rate is not counted.
    """

    location: Tensor
    scale: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        features: int,
        latent_dim: int,
        likelihood: LikelihoodName,
        shape: tuple[int, ...],
        classes: int,
        stochastic: bool,
    ) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.head = nn.Linear(features, 2 * latent_dim if stochastic else latent_dim)
        self.likelihood = LIKELIHOODS[likelihood]
        self.latent_dim, self.shape, self.classes, self.stochastic = latent_dim, shape, classes, stochastic
        self.register_buffer("location", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))

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

    def posterior(self, images: Float[Tensor, "batch *shape"], labels: Tensor | None = None) -> Gaussian:
        """q(z|x[, y]) of each image: (batch, d). For an autoencoder it is a point, its log-variance −∞."""
        centred = (images - self.location) / self.scale
        output = self.head(self.encoder(centred, self.one_hot(labels)))
        if not self.stochastic:
            return Gaussian(output, torch.full_like(output, -math.inf))
        mean, log_variance = output.chunk(2, dim=-1)
        return Gaussian(mean, MOST_LOG_VARIANCE * torch.tanh(log_variance / MOST_LOG_VARIANCE))

    def decode(self, latent: Float[Tensor, "*samples batch d"], labels: Tensor | None = None) -> Likelihood:
        """p(x|z[, y]) for whitened latents; labels are (batch,), or weights of the labels, (batch, K)."""
        samples = latent.shape[:-2]
        flat = latent.flatten(0, -2)
        if labels is not None and samples:
            labels = labels.expand(*samples, *labels.shape).flatten(0, len(samples))
        parameters = self.decoder(flat, self.one_hot(labels)).unflatten(0, latent.shape[:-1])
        if self.likelihood is GaussianLikelihood:
            return GaussianLikelihood(parameters, len(self.shape), self.location, self.scale)
        return self.likelihood(parameters, len(self.shape))

    def forward(self, images: Tensor, labels: Tensor | None, noise: Float[Tensor, "*samples batch d"]) -> Inference:
        """Infer z = μ + σ·`noise` from the images and decode it; leading dimensions of `noise` are further samples."""
        posterior = self.posterior(images, labels)
        latent = posterior.sample(noise)
        rate = posterior.rate() if self.stochastic else torch.zeros_like(posterior.mean)
        return Inference(posterior, latent, rate, self.decode(latent, labels))

    @torch.no_grad()
    def fit_to(self, mean: Tensor, variance: Tensor) -> None:
        """Start from the data's `mean` and `variance`, each of an image's shape, on the likelihood's own scale.

        The encoder sees deviations from the mean, and the decoder's bias starts where the data are: training then begins
        at the nats of the best model without a latent. For tables both sides work in units of the standard deviation of each
        column, and the density is that of the table's own units.
        """
        self.location.copy_(mean)
        if len(self.shape) == 1:
            self.scale.copy_(variance.clamp_min(1e-12).sqrt())
        output = getattr(self.decoder, "output", None)
        if isinstance(output, nn.Linear | nn.Conv2d) and output.bias is not None:
            if isinstance(output, nn.Conv2d):  # one bias per plane and channel: mean and variance over all its pixels
                level = mean.mean((1, 2), keepdim=True)
                mean, variance = level, (variance + (mean - level).square()).mean((1, 2), keepdim=True)
            if self.likelihood is GaussianLikelihood:  # which takes it in units of the standard deviation
                mean, variance = (mean - self.location) / self.scale, variance / self.scale.square()
            initial = self.likelihood.initial(mean, variance).flatten()
            if output.bias.shape == initial.shape:  # a body of one's own may share its last layer between places
                output.bias.copy_(initial)


def build_model(config: ModelConfig, shape: tuple[int, ...], classes: int, *, seed: int = 0) -> Model:
    """The model that a complete `config` describes, for images of `shape` and K = `classes` labels.

    Parameters
    ----------
    config
        With no field left at None: see `vaelab.training.complete`.
    classes
        Class count of the data; used by a conditional model alone.
    seed
        Of the initial weights. The global random state is left as it was.

    Raises
    ------
    ConfigError
        If the network does not take images of this shape, or a body of one's own cannot be had or does not fit.
    """
    assert config.latent_dim is not None
    assert config.likelihood is not None
    classes = classes if config.model == "cvae" else 0
    planes = LIKELIHOODS[config.likelihood].planes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder, features = build_encoder(config, shape, classes)
        decoder = build_decoder(config, shape, planes, classes)
        return Model(
            encoder,
            decoder,
            features=features,
            latent_dim=config.latent_dim,
            likelihood=config.likelihood,
            shape=shape,
            classes=classes,
            stochastic=config.model != "ae",
        )
