"""Held-out likelihood: −ELBO and the importance-weighted bound, per image, in nats.

Both are upper bounds on −log p(x[|y]) in expectation; the second falls towards it as K grows (Burda et al. 2016, eq. 8).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.errors import ConfigError
from vaelab.memory import map_batches, retry_halved
from vaelab.models.base import Model
from vaelab.objectives import elbo
from vaelab.objectives.elbo import Terms
from vaelab.optim.batches import generator_for, images_at_once, latent_noise, to_unit
from vaelab.precision import fast_products


def negative_elbo(model: Model, images: Tensor, labels: Tensor | None = None, *, seed: int = 0) -> Tensor:
    """Distortion + rate of each image with one draw of z, nats, (N,).

    Parameters
    ----------
    images
        As `held_out_levels` gives them, (N, *shape), or as the likelihood takes them.
    labels
        (N,), for a conditional model.
    seed
        Of the draws.
    """
    noise = latent_noise(len(images), model.latent_dim, seed).to(images.device)
    return held_out_terms(model, images, labels, noise).negative_elbo()


@fast_products()
def held_out_terms(model: Model, images: Tensor, labels: Tensor | None, noise: Float[Tensor, "n d"]) -> Terms:
    """Distortion and rate of every image, one draw of z each from its own `noise`; images as for `negative_elbo`."""

    def terms_of(part: slice) -> Terms:
        y = None if labels is None else labels[part]
        return elbo.held_out_terms(model, to_unit(images[part]), y, noise[part])

    parts = map_batches(len(images), images_at_once(model.shape), terms_of)
    return Terms(torch.cat([terms.distortion for terms in parts]), torch.cat([terms.rate for terms in parts]))


def negative_importance_bound(
    model: Model,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    samples: int,
    seed: int = 0,
    shared: bool = False,
    most_at_once: int = 500,
    progress: Callable[[int, int], None] | None = None,
) -> Float[Tensor, " n"]:
    """−log of the mean of K = `samples` importance weights of each image, nats, (N,), float64: see `negative_bound_curve`."""
    curve = negative_bound_curve(
        model,
        images,
        labels,
        samples=(samples,),
        seed=seed,
        shared=shared,
        most_at_once=most_at_once,
        progress=progress,
    )
    return curve[:, 0]


@fast_products()
@torch.no_grad()
def negative_bound_curve(
    model: Model,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    samples: Sequence[int],
    seed: int = 0,
    shared: bool = False,
    most_at_once: int = 500,
    progress: Callable[[int, int], None] | None = None,
) -> Float[Tensor, "n k"]:
    """−log of the mean of K importance weights of each image, nats, for every K asked for: (N, len(samples)), float64.

    The bound at a smaller K takes the first of the draws that the largest takes, so the curve is one set of draws.

    Parameters
    ----------
    images, labels, seed
        As for `negative_elbo`.
    samples
        The K: draws of z per image, rising.
    shared
        Whether all images take the same draws: then each figure is a function of its image alone, wherever that stands, but
        the errors of the figures go together, and their mean has no such standard error as that of independent ones.
    most_at_once
        Decoded images held in memory at a time, and fewer where it runs out. Weights of one image that fall in several chunks
        are combined by log-sum-exp, so the bound is that of all K whatever the chunks.
    progress
        Told of images done and images in all.

    Raises
    ------
    ConfigError
        If the model is an autoencoder, or the K do not rise from 1.
    """
    if not model.stochastic:
        raise ConfigError("got an autoencoder, which has no posterior to draw from; expected a vae or a cvae")
    if not samples or samples[0] < 1 or any(b <= a for a, b in itertools.pairwise(samples)):
        raise ConfigError(f"--importance-samples: got {list(samples)}; expected whole numbers of at least 1, rising")
    bounds, done = [], 0

    def of_next(most_at_once: int) -> Tensor:
        part = slice(done, min(done + max(1, most_at_once // samples[-1]), len(images)))
        x, y = to_unit(images[part]), None if labels is None else labels[part]
        noise = torch.stack(
            [_noise(model, samples[-1], seed, 0 if shared else index) for index in range(part.start, part.stop)], dim=1
        )
        total = torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)
        columns, begun = [], 0
        for k in samples:
            for draws in noise[begun:k].split(max(1, most_at_once // len(x))):
                weights = elbo.log_weights(model(x, y, draws.to(x)), x).double()
                total = torch.logaddexp(total, torch.logsumexp(weights, dim=0))
            columns.append(math.log(k) - total)
            begun = k
        return torch.stack(columns, dim=1)

    while done < len(images):
        found, most_at_once = retry_halved(of_next, most_at_once)
        bounds.append(found)
        done += len(found)
        if progress is not None:
            progress(done, len(images))
    return torch.cat(bounds)


def _noise(model: Model, samples: int, seed: int, index: int) -> Tensor:
    """ε of image number `index`, (K, d): the same whatever else is evaluated with it."""
    return torch.randn(samples, model.latent_dim, generator=generator_for("importance", seed, index))
