"""The latent space held against its prior: the average of all posteriors beside N(0, I), and which axes are used.

Symbols: q(z|x) the posterior of an image, q(z) = 1/N Σ q(z|xᵢ) the aggregate posterior, p(z) = N(0, I).

Sources: Hoffman & Johnson 2016 (rate = mutual information of image and latent + KL(q(z) ‖ p(z))); Burda et al. 2016,
section 4 (active units).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.data.batches import generator_for
from vaelab.distributions import Gaussian, standard_normal_log_prob

ACTIVE_VARIANCE = 0.01
"""Variance of the posterior mean over images above which a latent dimension counts as active (Burda et al. 2016)."""


class Divergence(NamedTuple):
    """An estimate of KL(q(z) ‖ N(0, I)), and its standard error over the draws, in nats."""

    nats: float
    error: float


def aggregate_log_prob(
    z: Float[Tensor, "m d"], posteriors: Gaussian, *, most_at_once: int = 2**23
) -> Float[Tensor, " m"]:
    """Log q(z) in nats: the log of the mean of the N posteriors' densities at each of M points.

    Parameters
    ----------
    z
        Points, (M, d).
    posteriors
        q(z|x) of N images, (N, d).
    most_at_once
        Numbers held in memory at a time; it changes nothing else.
    """
    count, width = posteriors.mean.shape
    rows = max(1, most_at_once // (count * width))
    parts = [torch.logsumexp(posteriors.log_prob(part[:, None]), dim=1) for part in z.split(rows)]
    return torch.cat(parts) - math.log(count)


def aggregate_divergence(posteriors: Gaussian, *, samples: int = 2000, seed: int = 0) -> Divergence:
    """KL(q(z) ‖ N(0, I)) by draws from q(z), whose density is the mixture of the very N posteriors that are given.

    The mixture stands for that of all images there could be. It knows the images it is made of, so the estimate is too high
    (never, in expectation, below that of endless images) and cannot fall below rate − ln N: with a rate of more than ln N
    nats give more images, or read it as a bound from above.

    Parameters
    ----------
    posteriors
        q(z|x) of N images, (N, d); their log-variance must be finite.
    samples
        Draws, from posteriors taken evenly.
    """
    wide = Gaussian(posteriors.mean.double(), posteriors.log_variance.double())
    generator = generator_for("aggregate", seed, 0)
    chosen = torch.randint(len(wide.mean), (samples,), generator=generator)
    noise = torch.randn(samples, wide.mean.shape[1], generator=generator, dtype=torch.float64)
    z = Gaussian(wide.mean[chosen], wide.log_variance[chosen]).sample(noise)
    ratio = aggregate_log_prob(z, wide) - standard_normal_log_prob(z)
    return Divergence(ratio.mean().item(), (ratio.std() / math.sqrt(samples)).item())


def moment_divergence(posteriors: Gaussian) -> float:
    """KL(N(m, S) ‖ N(0, I)) in nats, m and S the mean and covariance of q(z): what its first two moments tell, exactly."""
    mean, variance = posteriors.mean.double(), posteriors.log_variance.double().exp()
    centre = mean.mean(0)
    covariance = torch.atleast_2d(torch.cov(mean.T, correction=0)) + torch.diag(variance.mean(0))
    return 0.5 * (torch.trace(covariance) + centre.square().sum() - len(centre) - torch.logdet(covariance)).item()


def active_units(mean: Float[Tensor, "n d"]) -> int:
    """Latent dimensions whose posterior mean varies over images by more than `ACTIVE_VARIANCE`."""
    return int((mean.double().var(0, correction=0) > ACTIVE_VARIANCE).sum())
