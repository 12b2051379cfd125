"""Networks for images of two colours, such as letters, icons and line drawings: a shape, and the colours it is painted with.

Symbols: x an image of P pixels; c₁ the colour of most of them and c₂ that of the others; s the positions of the pixels between
c₁ and c₂; z the latent. The first six dimensions of z are c₁ and c₂ in units of their standard deviations over the data, up to a
small learned correction; a dense network computes the other ones from s, and another one from these the weights of the two
colours and of their blend at each pixel, for the likelihood `vaelab.models.colour.TwoColour`. This separates
shape and colours from the start, and the networks learn shapes that all colours share.

c₁ and c₂ are the means of two clusters of pixels along the axis of largest variance of an image's colours, which Lloyd's
algorithm (Lloyd 1982, k-means) finds.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.models.distributions import at_least_float32
from vaelab.models.networks import DenseStack

COLOURS = 6  # latent dimensions of two colours
COMPONENTS = 3  # of the likelihood: two colours and their blend
CORRECTION = 0.05  # of the latents of the colours by the network, so that a step of AdamW changes them little
START_LOG_VARIANCE, START_LOG_SCALES = -6.0, (-4.0, -4.0, -2.0)  # of these latents, and of the components
SQUARINGS, ROUNDS = 5, 3  # of the covariance, for its first eigenvector, and of Lloyd's algorithm
CORE = 0.75  # how far the pixels that a colour is taken from are from the other one at least; others are blends
LEAST_VARIANCE = 1e-5  # of an image's colours, half a squared grey level
STATED_ON = 10_000  # images that mean and deviation of the colours are computed of


def separate(
    x: Float[Tensor, "batch 3 pixels"],
) -> tuple[Float[Tensor, "batch pixels"], Float[Tensor, "batch 6"]]:
    """Return s, with mean 0 and variance 1 over the pixels and c₂ on its positive side, and c₁ and c₂ in units of x."""
    left = x - x.mean(2, keepdim=True)
    # Products of elements instead of matrices, which autocast would round.
    covariance = (left[:, :, None] * left[:, None]).mean(3) + LEAST_VARIANCE * torch.eye(3, device=x.device)
    for _ in range(SQUARINGS):
        covariance = covariance / covariance.diagonal(dim1=1, dim2=2).sum(1)[:, None, None]
        covariance = (covariance[:, :, :, None] * covariance[:, None]).sum(2)
    longest = F.one_hot(
        covariance.diagonal(dim1=1, dim2=2).argmax(1), 3
    )  # of its columns, which are multiples of the axis
    axis = (covariance * longest[:, None]).sum(2, keepdim=True)
    along = (left * axis).sum(1)
    along = along / (along.square().mean(1, keepdim=True) + LEAST_VARIANCE * axis.square().sum(1)).sqrt()
    middle = torch.zeros_like(along[:, :1])
    for _ in range(ROUNDS):
        low, high = _clusters(along, middle)
        middle = (low + high) / 2
    low, high = _clusters(along, middle)
    sign = torch.where(
        (along > middle).to(x.dtype).mean(1, keepdim=True) > 0.5, -1.0, 1.0
    )  # c₂ is the colour of fewer pixels
    along, low, high = sign * along, torch.where(sign > 0, low, -high), torch.where(sign > 0, high, -low)
    near_low, near_high = along <= high + CORE * (low - high), along >= low + CORE * (high - low)
    return along, torch.cat([_mean_where(near[:, None], x).squeeze(2) for near in (near_low, near_high)], 1)


@final
class TwoColourEncoder(nn.Module):
    """Image and label → features of the shape, and the colours in units of their deviations, for a `ColourHead`."""

    colour_mean: Float[Tensor, " 6"]
    colour_deviation: Float[Tensor, " 6"]

    def __init__(self, shape: tuple[int, ...], classes: int, width: int, depth: int) -> None:
        super().__init__()
        assert shape[0] == 3
        self.stack = DenseStack(shape[1] * shape[2] + COLOURS, classes, width, depth)
        self.register_buffer("colour_mean", torch.full((COLOURS,), 0.5))
        self.register_buffer("colour_deviation", torch.ones(COLOURS))

    def forward(self, images: Float[Tensor, "batch 3 h w"], labels: Tensor | None) -> Float[Tensor, "batch features"]:
        along, colours = separate(images.flatten(2))
        colours = (colours - self.colour_mean) / self.colour_deviation
        return torch.cat([colours, self.stack(torch.cat([along, colours], 1), labels)], 1)


@final
class ColourHead(nn.Linear):
    """Colours and features of the shape → means, and for a stochastic model log-variances, of the latents."""

    def __init__(self, width: int, latent_dim: int, *, stochastic: bool) -> None:
        super().__init__(width, latent_dim * (2 if stochastic else 1))
        nn.init.zeros_(self.weight[:COLOURS])
        nn.init.zeros_(self.bias)
        if stochastic:
            nn.init.constant_(self.bias[latent_dim : latent_dim + COLOURS], START_LOG_VARIANCE)

    def forward(self, input: Float[Tensor, "batch features"]) -> Float[Tensor, "batch outputs"]:  # noqa: A002 - as in nn.Linear
        output = at_least_float32(super().forward(input[:, COLOURS:]))
        return torch.cat([input[:, :COLOURS] + CORRECTION * output[:, :COLOURS], output[:, COLOURS:]], 1)


@final
class TwoColourDecoder(nn.Module):
    """z and label → the parameters of `TwoColour`: dense layers for weights and scales; the colours are linear in z."""

    colour_mean: Float[Tensor, " 6"]
    colour_deviation: Float[Tensor, " 6"]

    def __init__(self, shape: tuple[int, ...], latent_dim: int, classes: int, width: int, depth: int) -> None:
        super().__init__()
        self.shape = shape
        self.stack = DenseStack(latent_dim - COLOURS, classes, width, depth)
        self.output = nn.Linear(width, COMPONENTS * shape[1] * shape[2])
        self.scales = nn.Linear(width, COMPONENTS)
        self.register_buffer("colour_mean", torch.full((COLOURS,), 0.5))
        self.register_buffer("colour_deviation", torch.ones(COLOURS))
        for layer in (self.output, self.scales):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        with torch.no_grad():
            self.scales.bias.copy_(torch.tensor(START_LOG_SCALES))

    def forward(self, latent: Float[Tensor, "batch d"], labels: Tensor | None) -> Float[Tensor, "batch 4 3 h w"]:
        hidden = self.stack(latent[:, COLOURS:], labels)
        weights, scales = at_least_float32(self.output(hidden)), at_least_float32(self.scales(hidden))
        colours = self.colour_mean - 0.5 + self.colour_deviation * latent[:, :COLOURS]
        uniform = torch.cat([colours, scales], 1).unflatten(1, (3, 3, 1, 1)).expand(-1, -1, *self.shape)
        return torch.cat([weights.unflatten(1, (1, *self.shape)), uniform], 1)


@torch.no_grad()
def set_colours(encoder: TwoColourEncoder, decoder: TwoColourDecoder, images: Tensor) -> None:
    """Set mean and deviation of the colours to those of uint8 images (N, 3, H, W)."""
    found = torch.cat([separate(part.flatten(2).float() / 255)[1] for part in images[:STATED_ON].split(1000)])
    for network in (encoder, decoder):
        network.colour_mean.copy_(found.mean(0))
        network.colour_deviation.copy_(found.var(0, correction=0).clamp_min(LEAST_VARIANCE).sqrt())


def _clusters(along: Tensor, middle: Tensor) -> tuple[Tensor, Tensor]:
    """Return the means of the positions below and above `middle`, (batch, 1)."""
    above = along > middle
    return _mean_where(~above, along), _mean_where(above, along)


def _mean_where(chosen: Tensor, values: Tensor) -> Tensor:
    """Return the mean over the last dimension of the chosen values, (..., 1); 0 if there is none."""
    return (chosen * values).sum(-1, keepdim=True) / chosen.sum(-1, keepdim=True).clamp_min(1)
