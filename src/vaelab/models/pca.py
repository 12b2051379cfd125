"""Probabilistic PCA: the best linear VAE of images in closed form, as the start of a model with linear maps.

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
from vaelab.models.vae import SingleLatentVAE
from vaelab.random import generator_for

MOST_VALUES, MOST_ROWS = (
    2**26,
    3072,
)  # values of the images used, and images if each has more values than there are images
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
def start_as_pca(model: SingleLatentVAE, images: Tensor) -> None:
    """Set a model with linear maps to probabilistic PCA of `images`, uint8 (N, C, H, W), and its likelihood to what is left.

    The rest of the networks has no effect at the start, nor have latents for which there are too few images.
    """
    linear, decoder_bias = model.linear, model.output_bias()
    assert linear is not None
    assert decoder_bias is not None
    count = min(len(images), MOST_VALUES // math.prod(model.shape))
    if count < math.prod(model.shape):
        count = min(count, MOST_ROWS)
    order = torch.randperm(len(images), generator=generator_for("pca", 0, 0))
    x = images[order[:count]].float().div_(255) - model.location
    found = linear_model(x, min(model.latent_dim, max(1, count // IMAGES_PER_COMPONENT)))
    used = len(found.loadings)
    z = x.flatten(1) @ found.encoder.T
    if model.stochastic:
        noise = torch.randn(z.shape, generator=generator_for("pca", 0, 1))
        z += torch.exp(0.5 * found.log_variance) * noise
        raw = MIN_LOG_VARIANCE * torch.atanh((found.log_variance / MIN_LOG_VARIANCE).clamp_max(1 - 1e-6))
        model.head.bias[model.latent_dim :][:used] = raw  # what `bounded_gaussian` makes of it is `log_variance`
    linear.encode.weight[:used] = found.encoder
    linear.decode.weight[:, :used] = found.loadings.T
    left = Moments.of(x - (z @ found.loadings).unflatten(1, model.shape))
    mean = left.mean + model.location.double()
    decoder_bias.copy_(model.likelihood_type.initial(left._replace(mean=mean)).view_as(decoder_bias))


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
