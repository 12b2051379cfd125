"""The dense VAE with two levels of latents, whose lower level is linear in the image when training starts.

Symbols: x an image, y its label, m its mean over the data; z₁ a few latents for what the image shows, z₂ many for how it looks.
The generative model is p(z₁) = N(0, I), p(z₂ | z₁, y) = N(a, b²) with a and b networks of z₁ and y, and p(x | z₂, y), whose first
parameter is W z₂ plus a network of z₂ and y. The posterior is q(z₂ | x, y) with mean V (x − m) plus a network of x and y, and
q(z₁ | x, y), computed from that mean. `vaelab.models.pca` sets W and V; the networks beside them, and a and log b, start at zero.

What is trained gives the mean of q(z₂ | x, y) in units of its standard deviation at the start, and the first parameter in units
of the noise at the start (`lower_unit`, `value_unit`): a step of AdamW, which is about as large for every weight, is then
small for every output.

Latents are whitened: the z of this module is z₁ and (z₂ − a)/b, which is N(0, I) under the prior, and the rate of z₂ is the KL of
q(z₂ | x, y), in these units, from N(0, I). a and b let the latents of the lower level depend on each other and on the label.

Sources: Sønderby et al. 2016 (levels of latents); Dai & Wipf 2019 (a second VAE on the latents of the first); Vahdat & Kautz
2020, section 3.2 (posterior relative to the prior).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Unpack, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.models.base import Inference, Model, ModelArguments, bounded_gaussian
from vaelab.models.distributions import Gaussian, at_least_float32
from vaelab.models.hierarchical import MAX_LOG_SCALE
from vaelab.models.networks import DenseDecoder, DenseEncoder, DenseStack

MOST_UPPER, LOWER_PER_UPPER = 32, 4  # latents of the upper level at most, and lower ones for each of them at least


def level_sizes(latent_dim: int) -> tuple[int, int]:
    """Return the numbers of latents of the upper and of the lower level, from their sum, at least 2."""
    upper = min(MOST_UPPER, max(1, latent_dim // (1 + LOWER_PER_UPPER)))
    return upper, latent_dim - upper


@final
class TwoLevelVAE(Model):
    """Dense networks beside linear maps, and a second, smaller level above.

    Parameters
    ----------
    width, depth
        Units and layers of the encoder, and of the decoder.
    upper_width
        Units of the two layers between the levels, each way.
    """

    lower_unit: Float[Tensor, " lower"]
    value_unit: Float[Tensor, " values"]

    def __init__(self, *, width: int, depth: int, upper_width: int, **common: Unpack[ModelArguments]) -> None:
        super().__init__(**common)
        assert self.stochastic, "the upper level is a prior"
        self.groups = upper, lower = level_sizes(self.latent_dim)
        values, planes = math.prod(self.shape), self.likelihood_type.n_parameters
        self.encoder, self.head = DenseEncoder(self.shape, self.classes, width, depth), nn.Linear(width, 2 * lower)
        self.decoder = DenseDecoder(self.shape, planes, lower, self.classes, width, depth)
        self.linear_encoder, self.linear_decoder = (
            nn.Linear(*sizes, bias=False) for sizes in ((values, lower), (lower, values))
        )
        self.register_buffer("lower_unit", torch.ones(lower))
        self.register_buffer("value_unit", torch.ones(values))
        self.upper_encoder = DenseStack(lower, self.classes, upper_width, 2)
        self.upper_head = nn.Linear(upper_width, 2 * upper)
        self.prior_stack, self.prior = (
            DenseStack(upper, self.classes, upper_width, 2),
            nn.Linear(upper_width, 2 * lower),
        )
        for layer in (self.head, self.prior, self.linear_encoder, self.linear_decoder):
            nn.init.zeros_(layer.weight)
        for layer in (self.head, self.prior):
            nn.init.zeros_(layer.bias)

    def posterior(self, images: Float[Tensor, "batch *shape"], labels: Tensor | None = None) -> Gaussian:
        """Return q(z|x[, y]), (batch, d): that of the lower level at the mean of the upper one."""
        return self.forward(images, labels, images.new_zeros(images.shape[0], self.latent_dim)).posterior

    def likelihood_parameters(
        self, latent: Float[Tensor, "batch d"], one_hot: Float[Tensor, "batch k"] | None
    ) -> Float[Tensor, "batch planes *shape"]:
        upper, whitened = latent.split(self.groups, dim=-1)
        shift, log_scale = self._prior_of_lower(upper, one_hot)
        return self._decoded(shift + torch.exp(log_scale) * whitened, one_hot)

    def forward(self, images: Tensor, labels: Tensor | None, noise: Float[Tensor, "*samples batch d"]) -> Inference:
        """Sample z₁, then z₂ given z₁, and decode in the same pass."""
        return self._infer(images, labels, noise, Gaussian.sample)

    def infer_at(self, images: Tensor, labels: Tensor | None, latent: Float[Tensor, "*samples batch d"]) -> Inference:
        """Return the pass that would have sampled `latent`."""
        return self._infer(images, labels, latent, lambda _, latent: latent)

    def output_bias(self) -> Tensor | None:
        """Return the bias of the decoder's last layer, one number per value and parameter."""
        return self.decoder.output.bias

    def _infer(
        self, images: Tensor, labels: Tensor | None, values: Tensor, sample: Callable[[Gaussian, Tensor], Tensor]
    ) -> Inference:
        """Return the pass whose latents are `sample(posterior, values)` of each level; images are encoded once."""
        x, one_hot = self.standardise(images), self.one_hot(labels)
        mean, log_variance = at_least_float32(self.head(self.encoder(x, one_hot))).chunk(2, dim=-1)
        mean = self.lower_unit * (mean + self.linear_encoder(x.flatten(1)))
        lower = bounded_gaussian(torch.cat([mean, log_variance], dim=-1))
        upper = bounded_gaussian(self.upper_head(self.upper_encoder(lower.mean, one_hot)))
        count = math.prod(values.shape[:-2])
        if one_hot is not None:
            one_hot = one_hot.repeat(count, 1)
        lower, upper = (Gaussian(q.mean.repeat(count, 1), q.log_variance.repeat(count, 1)) for q in (lower, upper))
        first, second = values.flatten(0, -2).split(self.groups, dim=-1)
        drawn = sample(upper, first)
        shift, log_scale = self._prior_of_lower(drawn, one_hot)
        whitened = Gaussian((lower.mean - shift) * torch.exp(-log_scale), lower.log_variance - 2 * log_scale)
        below = sample(whitened, second)
        parameters = self._decoded(shift + torch.exp(log_scale) * below, one_hot).unflatten(0, values.shape[:-1])
        mean, log_variance, latent = (
            torch.cat(pair, dim=-1).unflatten(0, values.shape[:-1])
            for pair in (
                (upper.mean, whitened.mean),
                (upper.log_variance, whitened.log_variance),
                (drawn, below),
            )
        )
        posterior = Gaussian(mean, log_variance)
        return Inference(posterior, latent, posterior.rate(), self.likelihood_of(parameters))

    def _prior_of_lower(self, upper: Tensor, one_hot: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return a and log b, (batch, lower)."""
        shift, log_scale = at_least_float32(self.prior(self.prior_stack(upper, one_hot))).chunk(2, dim=-1)
        return shift, MAX_LOG_SCALE * torch.tanh(log_scale / MAX_LOG_SCALE)

    def _decoded(
        self, lower: Float[Tensor, "batch lower"], one_hot: Tensor | None
    ) -> Float[Tensor, "batch planes *shape"]:
        first, *others = at_least_float32(self.decoder(lower, one_hot)).unbind(1)
        first = first + self.linear_decoder(lower).unflatten(1, self.shape)
        return torch.stack([self.value_unit.view(self.shape) * first, *others], 1)
