"""The model with a single latent vector: autoencoder, VAE and conditional VAE.

Symbols: x an image, y its label, z the latent of dimension d, ε ~ N(0, I), z = μ(x, y) + σ(x, y)·ε.

Source: Kingma & Welling 2014, sections 2.4 and 3; Sohn et al. 2015 (conditional VAE).
"""

from __future__ import annotations

import math
from typing import Unpack, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.models.base import Inference, Model, ModelArguments, bounded_gaussian
from vaelab.models.distributions import Gaussian, at_least_float32


@final
class LinearMaps(nn.Module):
    """Linear parts of encoder and decoder, zero until they are set: x − m → μ, and z → first parameter of p(x|z)."""

    def __init__(self, values: int, latent_dim: int) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(values, latent_dim, bias=False), nn.Linear(latent_dim, values, bias=False)
        nn.init.zeros_(self.encode.weight)
        nn.init.zeros_(self.decode.weight)


@final
class SingleLatentVAE(Model):
    """Encoder, one latent vector, decoder: the textbook autoencoder, VAE and conditional VAE.

    `encoder` and `decoder` are as described in `vaelab.models.networks`; `features` is the size of the encoder's output. With
    `linear`, μ and the first parameter of the likelihood are sums of what the networks and the `LinearMaps` give.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        *,
        features: int,
        linear: bool = False,
        **common: Unpack[ModelArguments],
    ) -> None:
        super().__init__(**common)
        self.encoder, self.decoder = encoder, decoder
        self.head = nn.Linear(features, (2 if self.stochastic else 1) * self.latent_dim)
        self.linear = LinearMaps(math.prod(self.shape), self.latent_dim) if linear else None
        if linear:
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

    def posterior(self, images: Float[Tensor, "batch *shape"], labels: Tensor | None = None) -> Gaussian:
        """Return q(z|x[, y]), (batch, d); each image is encoded independently of the others."""
        x = self.standardise(images)
        output = self.head(self.encoder(x, self.one_hot(labels)))
        if self.linear is not None:
            mean = self.linear.encode(x.flatten(1))
            output = at_least_float32(output) + F.pad(mean, (0, output.shape[1] - self.latent_dim))
        if not self.stochastic:
            output = at_least_float32(output)
            return Gaussian(output, torch.full_like(output, -math.inf))
        return bounded_gaussian(output)

    def likelihood_parameters(
        self, latent: Float[Tensor, "batch d"], one_hot: Float[Tensor, "batch k"] | None
    ) -> Float[Tensor, "batch planes *shape"]:
        parameters = self.decoder(latent, one_hot)
        if self.linear is None:
            return parameters
        first, *others = at_least_float32(parameters).unbind(1)
        return torch.stack([first + self.linear.decode(latent).unflatten(1, self.shape), *others], 1)

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
