"""Held-out likelihood: −ELBO and the importance-weighted bound, per image, in nats.

Both are upper bounds on −log p(x[|y]) in expectation; the second falls towards it as K grows (Burda et al. 2016, eq. 8).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vaelab import objective
from vaelab.data.batches import generator_for, latent_noise
from vaelab.errors import ConfigError
from vaelab.model import Model
from vaelab.products import fast_products


@fast_products()
def negative_elbo(model: Model, images: Tensor, labels: Tensor | None = None, *, seed: int = 0) -> Tensor:
    """Distortion + rate of each image with one draw of z, nats, (N,).

    Parameters
    ----------
    images
        As `held_out_input` gives them, (N, *shape).
    labels
        (N,), for a conditional model.
    seed
        Of the draws.
    """
    noise = latent_noise(len(images), model.latent_dim, seed).to(images.device)
    return objective.held_out_terms(model, images, labels, noise).negative_elbo()


@fast_products()
@torch.no_grad()
def negative_importance_bound(
    model: Model,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    samples: int,
    seed: int = 0,
    most_at_once: int = 5000,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """−log of the mean of K importance weights of each image, nats, (N,), float64.

    Parameters
    ----------
    images, labels, seed
        As for `negative_elbo`.
    samples
        K, draws of z per image.
    most_at_once
        Decoded images held in memory at a time. Weights of one image that fall in several chunks are combined by
        log-sum-exp, so the bound is that of all K whatever the chunks.
    progress
        Told of images done and images in all.

    Raises
    ------
    ConfigError
        If the model is an autoencoder.
    """
    if not model.stochastic:
        raise ConfigError("got an autoencoder, which has no posterior to draw from; expected a vae or a cvae")
    bounds = []
    at_once = max(1, most_at_once // samples)
    for first in range(0, len(images), at_once):
        part = slice(first, min(first + at_once, len(images)))
        x, y = images[part], None if labels is None else labels[part]
        noise = torch.stack([_noise(model, samples, seed, index) for index in range(part.start, part.stop)], dim=1)
        weights = [objective.log_weights(model(x, y, draws.to(x)), x).double() for draws in noise.split(most_at_once)]
        bounds.append(-objective.importance_weighted_bound(torch.cat(weights)))
        if progress is not None:
            progress(part.stop, len(images))
    return torch.cat(bounds)


def _noise(model: Model, samples: int, seed: int, index: int) -> Tensor:
    """ε of image number `index`, (K, d): the same whatever else is evaluated with it."""
    return torch.randn(samples, model.latent_dim, generator=generator_for("importance", seed, index))
