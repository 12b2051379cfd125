"""The model with one latent vector: autoencoder, VAE and conditional VAE.

Symbols: x an image, y its label, z the latent of dimension d, ε ~ N(0, I), z = μ(x, y) + σ(x, y)·ε.

Source: Kingma & Welling 2014, sections 2.4 and 3; Sohn et al. 2015 (conditional VAE).
"""

from __future__ import annotations

import math
from typing import Unpack, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.models.base import Inference, Model, ModelArguments, bounded_gaussian
from vaelab.models.distributions import Gaussian, at_least_float32


@final
class SingleLatentVAE(Model):
    """Encoder, one latent, decoder: the autoencoder, the VAE and the conditional VAE of the textbooks.

    Parameters
    ----------
    encoder, decoder
        Bodies with the signatures that `vaelab.models.networks` documents.
    features
        Size of the encoder body's output.
    common
        What every model has, see `Model`.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, *, features: int, **common: Unpack[ModelArguments]
    ) -> None:
        super().__init__(**common)
        self.encoder, self.decoder = encoder, decoder
        self.head = nn.Linear(features, (1 + self.stochastic) * self.latent_dim)

    def posterior(self, images: Float[Tensor, "batch *shape"], labels: Tensor | None = None) -> Gaussian:
        """Of each image: (batch, d), independent of one another."""
        output = self.head(self.encoder(self.standardise(images), self.one_hot(labels)))
        if not self.stochastic:
            output = at_least_float32(output)
            return Gaussian(output, torch.full_like(output, -math.inf))
        return bounded_gaussian(output)

    def likelihood_parameters(
        self, latent: Float[Tensor, "batch d"], labels: Tensor | None
    ) -> Float[Tensor, "batch *planes"]:
        """By the decoder body."""
        return self.decoder(latent, labels)

    def forward(self, images: Tensor, labels: Tensor | None, noise: Float[Tensor, "*samples batch d"]) -> Inference:
        """Z = μ + σ·`noise`, decoded."""
        posterior = self.posterior(images, labels)
        latent = posterior.sample(noise)
        rate = posterior.rate() if self.stochastic else torch.zeros_like(posterior.mean)
        return Inference(posterior, latent, rate, self.decode(latent, labels))

    def infer_at(self, images: Tensor, labels: Tensor | None, latent: Float[Tensor, "*samples batch d"]) -> Inference:
        """The posterior does not depend on them."""
        posterior = self.posterior(images, labels)
        return Inference(posterior, latent, posterior.rate(), self.decode(latent, labels))

    def output_bias(self) -> Tensor | None:
        """That of the decoder body's layer `output`, if it has one for every value, or is a convolution."""
        layer = getattr(self.decoder, "output", None)
        if isinstance(layer, nn.Linear) and layer.out_features < self.likelihood.n_parameters * math.prod(self.shape):
            return None  # a body of one's own may share its last layer between places
        return layer.bias if isinstance(layer, nn.Linear | nn.Conv2d) else None
