"""The model with a single latent vector: autoencoder, VAE and conditional VAE.

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
    """Encoder, one latent vector, decoder: the textbook autoencoder, VAE and conditional VAE.

    `encoder` and `decoder` are as described in `vaelab.models.networks`; `head` maps the encoder's output to the means of z, and
    for a stochastic model its log-variances.
    """

    def __init__(
        self, encoder: nn.Module, decoder: nn.Module, *, head: nn.Linear, **common: Unpack[ModelArguments]
    ) -> None:
        super().__init__(**common)
        self.encoder, self.decoder, self.head = encoder, decoder, head

    def posterior(self, images: Float[Tensor, "batch *shape"], labels: Tensor | None = None) -> Gaussian:
        """Return q(z|x[, y]), (batch, d); each image is encoded independently of the others."""
        output = self.head(self.encoder(self.standardise(images), self.one_hot(labels)))
        if not self.stochastic:
            output = at_least_float32(output)
            return Gaussian(output, torch.full_like(output, -math.inf))
        return bounded_gaussian(output)

    def likelihood_parameters(
        self, latent: Float[Tensor, "batch d"], one_hot: Float[Tensor, "batch k"] | None
    ) -> Float[Tensor, "batch planes *shape"]:
        return self.decoder(latent, one_hot)

    def forward(self, images: Tensor, labels: Tensor | None, noise: Float[Tensor, "*samples batch d"]) -> Inference:
        """Decode z = μ + σ·`noise`."""
        posterior = self.posterior(images, labels)
        return self._decoded(posterior, posterior.sample(noise), labels)

    def infer_at(self, images: Tensor, labels: Tensor | None, latent: Float[Tensor, "*samples batch d"]) -> Inference:
        """Return the pass that would have sampled `latent`, on which the posterior does not depend."""
        return self._decoded(self.posterior(images, labels), latent, labels)

    def _decoded(self, posterior: Gaussian, latent: Tensor, labels: Tensor | None) -> Inference:
        rate = posterior.rate() if self.stochastic else torch.zeros_like(posterior.mean)
        return Inference(posterior, latent, rate, self.decode(latent, labels))

    def output_bias(self) -> Tensor | None:
        """Return the bias of the decoder's layer `output`, if it is a linear layer with an output per value or a convolution."""
        layer = getattr(self.decoder, "output", None)
        if isinstance(layer, nn.Linear) and layer.out_features < self.likelihood_type.n_parameters * math.prod(
            self.shape
        ):
            return None  # a custom decoder may apply one small layer at several positions
        return layer.bias if isinstance(layer, nn.Linear | nn.Conv2d) else None
