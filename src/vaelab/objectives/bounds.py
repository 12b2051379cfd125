"""Held-out likelihood: −ELBO and the importance-weighted bound of every image, in nats, by one loop over the images.

Both are upper bounds on −log p(x[|y]) in expectation; the second falls towards it as K grows (Burda et al. 2016, eq. 8).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab import distributed
from vaelab.errors import ConfigError
from vaelab.memory import map_batches
from vaelab.models.base import Inference, Model
from vaelab.objectives.batch import to_unit
from vaelab.objectives.elbo import Terms, terms_of
from vaelab.objectives.importance import log_weights
from vaelab.precision import exact_convolutions
from vaelab.random import generator_for, latent_noise

Result = TypeVar("Result")

Infer = Callable[[Tensor], Inference]
"""Passes a part of the images through the model with this noise."""


@torch.no_grad()
def map_held_out(
    model: Model,
    images: Tensor,
    labels: Tensor | None,
    work: Callable[[slice, Tensor, Infer], Result],
    *,
    at_once: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    together: bool = False,
) -> list[Result]:
    """Return the results of `work` on consecutive parts of held-out images: the one loop behind every held-out figure.

    Images are evaluated without gradients, in float32, and fewer at a time after an out-of-memory error. Since noise belongs
    to an image and not to its batch, the size of a part changes no figure.

    Parameters
    ----------
    images, labels
        Raw data as `held_out_levels` gives them, or in units of the likelihood, (N, *shape); labels (N,), or weights (N, K).
    work
        Called with the part's slice, its images in units of the likelihood, and a function that passes them through the
        model with given noise, (part, d) or (K, part, d).
    at_once
        Images per part; by default `images_at_once`.
    progress
        Called with images done and images in all.
    together
        Whether all processes call this, each for its share of the images; all get all results (`vaelab.distributed`).
    """
    mine = distributed.share(len(images)) if together else slice(0, len(images))

    def part_of(part: slice) -> Result:
        part = slice(mine.start + part.start, mine.start + part.stop)
        x, y = to_unit(images[part]), None if labels is None else labels[part]
        with exact_convolutions():
            result = work(part, x, lambda noise: model(x, y, noise.to(x.device)))
        if progress is not None:
            progress(part.stop - mine.start, mine.stop - mine.start)
        return result

    results = map_batches(mine.stop - mine.start, at_once or images_at_once(model.shape), part_of)
    return list(itertools.chain.from_iterable(distributed.all_gather(results))) if together else results


def images_at_once(shape: tuple[int, ...]) -> int:
    """Return how many held-out images of `shape` to evaluate at a time: at most 1,000, fewer if they are large."""
    return max(1, min(1000, 2**20 // math.prod(shape)))


def held_out_terms(
    model: Model,
    images: Tensor,
    labels: Tensor | None = None,
    noise: Float[Tensor, "n d"] | None = None,
    *,
    together: bool = False,
) -> Terms:
    """Return distortion and rate of every image, with one draw of z each from its own `noise`, by default
    `latent_noise` of seed 0; see `map_held_out`.
    """
    noise = latent_noise(len(images), model.latent_dim, seed=0) if noise is None else noise
    parts = map_held_out(
        model, images, labels, lambda part, x, infer: terms_of(infer(noise[part]), x), together=together
    )
    return Terms(torch.cat([part.distortion for part in parts]), torch.cat([part.rate for part in parts]))


def negative_bounds(
    model: Model,
    images: Tensor,
    labels: Tensor | None = None,
    *,
    samples: Sequence[int],
    seed: int = 0,
    shared: bool = False,
    most_at_once: int = 500,
    progress: Callable[[int, int], None] | None = None,
    together: bool = False,
) -> Float[Tensor, "n k"]:
    """Return −log of the mean of K importance weights of each image, nats, for every K: (N, len(samples)), float64.

    The bound at a smaller K uses the first draws of the largest K, so the curve comes from one set of draws.

    Parameters
    ----------
    model, images, labels, progress, together
        As for `map_held_out`.
    samples
        The values of K, draws of z per image, increasing from at least 1.
    shared
        Whether all images use the same draws. Each value then depends on its image alone, but the errors are correlated, so
        the standard error for independent values does not apply to their mean.
    most_at_once
        Decoded images in memory at a time. Weights of one image from several chunks are combined by log-sum-exp, so the result
        does not depend on it.

    Raises
    ------
    ConfigError
        If the model is an autoencoder, or the values of K do not increase from at least 1.
    """
    if not model.stochastic:
        raise ConfigError("got an autoencoder, which has no posterior to draw from; expected a vae or a cvae")
    if not samples or samples[0] < 1 or any(b <= a for a, b in itertools.pairwise(samples)):
        raise ConfigError(f"`samples`: got {list(samples)}; expected whole numbers of at least 1, increasing")

    def weights_of(draws: Tensor, x: Tensor, infer: Infer) -> list[Tensor]:
        size = max(1, most_at_once // len(x))
        if len(x) == 1:  # fewer draws at a time if memory is short; with several images, fewer of those
            return map_batches(len(draws), size, lambda part: log_weights(infer(draws[part]), x))
        return [log_weights(infer(chunk), x) for chunk in draws.split(size)]

    def bounds(part: slice, x: Tensor, infer: Infer) -> Tensor:
        indices = [0 if shared else index for index in range(part.start, part.stop)]
        noise = torch.stack([_noise(model, samples[-1], seed, index) for index in indices], dim=1)
        total = torch.full((len(x),), -math.inf, dtype=torch.float64, device=x.device)
        columns, first = [], 0
        for k in samples:
            for weights in weights_of(noise[first:k], x, infer):
                total = torch.logaddexp(total, torch.logsumexp(weights.double(), dim=0))
            columns.append(math.log(k) - total)
            first = k
        return torch.stack(columns, dim=1)

    at_once = max(1, most_at_once // samples[-1])
    return torch.cat(map_held_out(model, images, labels, bounds, at_once=at_once, progress=progress, together=together))


def _noise(model: Model, samples: int, seed: int, index: int) -> Float[Tensor, "k d"]:
    """Return ε of image number `index`, independent of which other images are evaluated."""
    return torch.randn(samples, model.latent_dim, generator=generator_for("importance", seed, index))
