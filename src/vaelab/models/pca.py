"""Probabilistic PCA: the best linear VAE of images in closed form, as the start of the lower of two levels.

Symbols: x an image of P values with mean m; z its d latents; W loadings. The linear model is x = m + W z + noise, where the noise
is Gaussian and independent between pixels, with the same covariance of the channels at every pixel, up to a factor that of the
differences of neighbouring pixels: these contain little of what a latent describes. After a change of units in which the noise of
the channels is σ² I, with eigenvectors U and eigenvalues λ of the covariance of x, W = U (λ − σ²)^½ for the largest λ, and σ² is
the mean of all others. The posterior has mean V (x − m), V = λ⁻¹ (λ − σ²)^½ Uᵀ, and variance σ²/λ in each dimension.

Sources: Tipping & Bishop 1999, section 3 (probabilistic PCA); Lucas et al. 2019 (it is the optimum of a linear VAE).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.models.base import MIN_LOG_VARIANCE
from vaelab.models.moments import Moments
from vaelab.models.two_level import TwoLevelVAE
from vaelab.random import generator_for

MOST_VALUES = 2**26  # of the images that components are computed from
MOST_ROWS = 3072  # of them, if each has more values than there are images
IMAGES_PER_COMPONENT = 10  # at least: with fewer, the components describe these images only
LEAST_VARIANCE = 1e-6  # of the differences between neighbours, a sixteenth of a squared grey level
LEAST_RATIO = 1.0001  # of an eigenvalue to σ²


class LinearModel(NamedTuple):
    """A linear model with d latents for images of P values, and its posterior."""

    loadings: Float[Tensor, "d p"]
    """Wᵀ."""

    encoder: Float[Tensor, "d p"]
    """V."""

    log_variance: Float[Tensor, " d"]
    """Log-variance of the posterior."""


@torch.no_grad()
def start_as_pca(model: TwoLevelVAE, images: Tensor) -> None:
    """Set the lower level of a model to probabilistic PCA of `images`, uint8 (N, C, H, W), and its likelihood to what is left.

    All other networks have no effect at the start, nor have latents for which there are too few images.
    """
    count = min(len(images), MOST_VALUES // math.prod(model.shape))
    if count < math.prod(model.shape):
        count = min(count, MOST_ROWS)
    order = torch.randperm(len(images), generator=generator_for("pca", 0, 0))
    x = images[order[:count]].float().div_(255) - model.location
    lower = model.linear_encoder.out_features
    found = linear_model(x, min(lower, x[0].numel(), max(1, count // IMAGES_PER_COMPONENT)))
    used = len(found.loadings)
    # What `bounded_gaussian` makes of the bias is the log-variance.
    raw = MIN_LOG_VARIANCE * torch.atanh((found.log_variance / MIN_LOG_VARIANCE).clamp_max(1 - 1e-6))
    model.head.bias[lower:][:used] = raw
    noise = torch.randn(count, used, generator=generator_for("pca", 0, 1))
    z = x.flatten(1) @ found.encoder.T + torch.exp(0.5 * found.log_variance) * noise
    left = Moments.of(x - (z @ found.loadings).unflatten(1, model.shape))
    moments = left._replace(mean=left.mean + model.location.double())
    model.lower_unit[:used] = torch.exp(0.5 * found.log_variance)
    model.value_unit.copy_(left.variance.clamp_min(LEAST_VARIANCE).sqrt().flatten())
    model.linear_encoder.weight[:used] = found.encoder / model.lower_unit[:used, None]
    model.linear_decoder.weight[:, :used] = found.loadings.T / model.value_unit[:, None]
    first, *others = model.likelihood_type.initial(moments)
    start = torch.stack([first / model.value_unit.view(model.shape), *others])
    model.decoder.output.bias.copy_(start.flatten())


def linear_model(x: Float[Tensor, "n c h w"], components: int) -> LinearModel:
    """Return the linear model of highest likelihood for centred images, with at most min(n, c·h·w) components."""
    count, size = len(x), math.prod(x.shape[1:])
    differences = (x[..., 1:] - x[..., :-1]).transpose(0, 1).flatten(1)
    variances, axes = torch.linalg.eigh(differences @ differences.T / differences.shape[1])
    deviations = variances.clamp_min(LEAST_VARIANCE).sqrt()
    rows = torch.einsum("nchw,ce->nehw", x, (axes / deviations) @ axes.T).flatten(1)
    wide = size > count  # the products of images have the same eigenvalues as those of values, and are fewer
    products = (rows @ rows.T if wide else rows.T @ rows) / count
    eigenvalues, vectors = (each.flip(-1)[..., :components] for each in torch.linalg.eigh(products))
    noise = ((products.trace() - eigenvalues.sum()) / max(1, size - components)).clamp_min(torch.finfo(x.dtype).eps)
    eigenvalues = eigenvalues.clamp_min(LEAST_RATIO * noise)
    if wide:
        vectors = rows.T @ vectors / (count * eigenvalues).sqrt()
    gain = (eigenvalues - noise).sqrt()
    return LinearModel(
        _in_channels(gain * vectors, (axes * deviations) @ axes.T, x.shape[1:]),
        _in_channels(gain / eigenvalues * vectors, (axes / deviations) @ axes.T, x.shape[1:]),
        (noise / eigenvalues).log(),
    )


def _in_channels(
    columns: Float[Tensor, "p d"], change: Float[Tensor, "c c"], shape: torch.Size
) -> Float[Tensor, "d p"]:
    """Return the columns as rows, with the change of units applied to the channels of each."""
    return torch.einsum("dchw,ce->dehw", columns.T.unflatten(1, shape), change).flatten(1)
