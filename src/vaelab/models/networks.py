"""Encoder and decoder networks: dense and strided convolutional.

An encoder maps images (batch, *shape) and one-hot labels (batch, K), or None, to features (batch, features). A decoder
maps latents (batch, d) and one-hot labels to the likelihood's parameters (batch, planes, *shape), where planes is the number
of parameters per value of x (`Likelihood.n_parameters`). A model without labels has K = 0, and its labels are None. The last
layer of a decoder, `output`, starts with weights of zero and a bias that the model takes from the data. Attribute names are
part of the checkpoint format.
"""

from __future__ import annotations

import itertools
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.errors import ConfigError

MIN_SIDE, MAX_SIDE = 8, 128  # pixels per side that the convolutional networks accept


def with_labels(values: Float[Tensor, "batch n"], labels: Float[Tensor, "batch k"] | None) -> Float[Tensor, "batch m"]:
    """Return `values` with the one-hot `labels` appended, (batch, n + K)."""
    return values if labels is None else torch.cat([values, labels], dim=1)


@final
class DenseStack(nn.Module):
    """`depth` dense layers of `width` units with SiLU, the later ones residual: h ← h + SiLU(W·[h, y] + b).

    Every layer receives the label y, so no layer has to pass it on.
    """

    def __init__(self, inputs: int, classes: int, width: int, depth: int) -> None:
        super().__init__()
        sizes = [inputs, *[width] * (depth - 1)]
        self.layers = nn.ModuleList([nn.Linear(size + classes, width) for size in sizes])

    def forward(self, values: Float[Tensor, "batch n"], labels: Tensor | None) -> Float[Tensor, "batch width"]:
        first, *later = self.layers
        hidden = F.silu(first(with_labels(values, labels)))
        for layer in later:
            hidden = hidden + F.silu(layer(with_labels(hidden, labels)))
        return hidden


@final
class DenseEncoder(nn.Module):
    """Flattened x and label → `depth` layers of `width` units."""

    def __init__(self, shape: tuple[int, ...], classes: int, width: int, depth: int) -> None:
        super().__init__()
        self.features = width
        self.stack = DenseStack(torch.Size(shape).numel(), classes, width, depth)

    def forward(self, images: Float[Tensor, "batch *shape"], labels: Tensor | None) -> Float[Tensor, "batch features"]:
        return self.stack(images.flatten(1), labels)


@final
class DenseDecoder(nn.Module):
    """z and label → `depth` layers of `width` units → the likelihood's parameters."""

    def __init__(
        self, shape: tuple[int, ...], planes: int, latent_dim: int, classes: int, width: int, depth: int
    ) -> None:
        super().__init__()
        self.stack = DenseStack(latent_dim, classes, width, depth)
        self.output = nn.Linear(width, planes * torch.Size(shape).numel())
        nn.init.zeros_(self.output.weight)
        self.shape = (planes, *shape)

    def forward(self, latent: Float[Tensor, "batch d"], labels: Tensor | None) -> Float[Tensor, "batch planes *shape"]:
        return self.output(self.stack(latent, labels)).unflatten(1, self.shape)


def conv_sizes(shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the sizes (H, W) of the feature maps, from the image down to at most 4×4: each half the last, rounded up.

    A ConfigError if `shape` is not (C, H, W) with sides of 8 to 128 pixels.
    """
    if len(shape) != 3 or not all(MIN_SIDE <= side <= MAX_SIDE for side in shape[1:]):
        got = "×".join(map(str, shape[1:])) if len(shape) == 3 else f"rows of {shape[0]} numbers"
        raise ConfigError(
            f"`network='conv'`: got {got}; expected images of {MIN_SIDE} to {MAX_SIDE} pixels per side; "
            "pass `size=64` or `network='mlp'`"
        )
    sizes = [(shape[1], shape[2])]
    while max(sizes[-1]) > 4:
        sizes.append(((sizes[-1][0] + 1) // 2, (sizes[-1][1] + 1) // 2))
    return sizes


def channel_counts(width: int, count: int) -> list[int]:
    """Return the channels after each of `count` halvings: `width`, doubled each time up to 4 × `width`."""
    return [width * min(2**level, 4) for level in range(count)]


@final
class ConvEncoder(nn.Module):
    """Strided 3×3 convolutions, then one dense layer; the one-hot label is appended to the channels as constant planes."""

    def __init__(self, shape: tuple[int, ...], classes: int, width: int) -> None:
        super().__init__()
        sizes = conv_sizes(shape)
        counts = [shape[0] + classes, *channel_counts(width, len(sizes) - 1)]
        self.features = 8 * width
        stack: list[nn.Module] = []
        for n, m in itertools.pairwise(counts):
            stack += [nn.Conv2d(n, m, 3, stride=2, padding=1), nn.SiLU()]
        last = nn.Linear(counts[-1] * sizes[-1][0] * sizes[-1][1], self.features)
        self.stack = nn.Sequential(*stack, nn.Flatten(), last, nn.SiLU())

    def forward(self, images: Float[Tensor, "batch c h w"], labels: Tensor | None) -> Float[Tensor, "batch features"]:
        if labels is not None:
            planes = labels[:, :, None, None].expand(-1, -1, *images.shape[2:])
            images = torch.cat([images, planes], dim=1)
        return self.stack(images)


@final
class ConvDecoder(nn.Module):
    """Mirror image of the encoder: dense layers, then transposed 3×3 convolutions through the same sizes."""

    def __init__(self, shape: tuple[int, ...], planes: int, latent_dim: int, classes: int, width: int) -> None:
        super().__init__()
        sizes = conv_sizes(shape)[::-1]
        counts = channel_counts(width, len(sizes) - 1)[::-1]
        self.shape = (planes, *shape)
        self.seed = nn.Sequential(  # makes the smallest feature map
            nn.Linear(latent_dim + classes, 8 * width),
            nn.SiLU(),
            nn.Linear(8 * width, counts[0] * sizes[0][0] * sizes[0][1]),
            nn.SiLU(),
            nn.Unflatten(1, (counts[0], *sizes[0])),
        )
        stack: list[nn.Module] = []
        for (small, large), n, m in zip(itertools.pairwise(sizes), counts, [*counts[1:], counts[-1]], strict=True):
            # A stride of 2 turns n pixels into 2n − 1; the output padding restores even sides.
            padding = (large[0] - 2 * small[0] + 1, large[1] - 2 * small[1] + 1)
            stack += [nn.ConvTranspose2d(n, m, 3, stride=2, padding=1, output_padding=padding), nn.SiLU()]
        self.stack = nn.Sequential(*stack)
        self.output = nn.Conv2d(counts[-1], planes * shape[0], 3, padding=1)
        nn.init.zeros_(self.output.weight)

    def forward(self, latent: Float[Tensor, "batch d"], labels: Tensor | None) -> Float[Tensor, "batch planes c h w"]:
        return self.output(self.stack(self.seed(with_labels(latent, labels)))).unflatten(1, self.shape[:2])


NETWORKS = {"mlp": (DenseEncoder, DenseDecoder), "conv": (ConvEncoder, ConvDecoder)}
"""Encoder and decoder by the value of `ModelConfig.network`; models with levels have their own."""
