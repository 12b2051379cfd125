"""The latent space held against its prior: the average of all posteriors beside N(0, I), which axes are used, what is near what.

Symbols: q(z|x) the posterior of an image, q(z) = 1/N Σ q(z|xᵢ) the aggregate posterior, p(z) = N(0, I), k(z, z') a kernel.

Sources: Hoffman & Johnson 2016 (rate = mutual information of image and latent + KL(q(z) ‖ p(z))); Burda et al. 2016,
section 4 (active units); Gretton et al. 2012 (kernel two-sample test); Xie et al. 2016 (accuracy of clusters).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vaelab.models.distributions import LOG_2PI, Gaussian, standard_normal_log_prob
from vaelab.random import generator_for

ACTIVE_VARIANCE = 0.01
"""Variance of the posterior mean over images above which a latent dimension counts as active (Burda et al. 2016)."""


class Divergence(NamedTuple):
    """An estimate of KL(q(z) ‖ N(0, I)), and its standard error over the draws, in nats."""

    nats: float
    error: float


def aggregate_log_prob(
    z: Float[Tensor, "m d"],
    posteriors: Gaussian,
    *,
    without: Int[Tensor, " m"] | None = None,
    most_at_once: int = 2**23,
) -> Float[Tensor, " m"]:
    """Log q(z) in nats: the log of the mean of the N posteriors' densities at each of M points.

    Parameters
    ----------
    z
        Points, (M, d).
    posteriors
        q(z|x) of N images, (N, d).
    without
        For each point a posterior that the mean leaves out, 0…N−1.
    most_at_once
        Numbers held in memory at a time; it changes nothing else.
    """
    # Σ (z − μ)²/σ² multiplied out, as products of matrices: ten times as fast, and in float64 as exact as is needed.
    mean, log_variance = posteriors.mean.double(), posteriors.log_variance.double()
    precision = torch.exp(-log_variance)
    constant = -0.5 * (mean.square() * precision + log_variance + LOG_2PI).sum(-1)
    linear, square = (mean * precision).T, -0.5 * precision.T
    count, parts = len(mean), []
    rows = max(1, most_at_once // count)
    for first in range(0, len(z), rows):
        part = z[first : first + rows].double()
        densities = torch.addmm(constant, part, linear).addmm_(part.square(), square)
        if without is not None:
            densities.scatter_(1, without[first : first + rows, None], -math.inf)
        parts.append(torch.logsumexp(densities, dim=1))
    return (torch.cat(parts) - math.log(count - (without is not None))).to(z.dtype)


def aggregate_divergence(
    posteriors: Gaussian, *, samples: int = 2000, seed: int = 0, leave_one_out: bool = False
) -> Divergence:
    """KL(q(z) ‖ N(0, I)) by draws from q(z), whose density is the mixture of the very N posteriors that are given.

    The mixture stands for that of all images there could be. It knows the images it is made of, so the estimate is too high
    (never, in expectation, below that of endless images) and cannot fall below rate − ln N: with a rate of more than ln N
    nats give more images, or read it as a bound from above. With `leave_one_out` the mixture is that of the other images, and
    the estimate is too low, by the concavity of the logarithm: the two enclose the truth, as N grows ever closer.

    Parameters
    ----------
    posteriors
        q(z|x) of N images, (N, d); their log-variance must be finite.
    samples
        Draws, from posteriors taken evenly.
    seed
        Of the draws.
    leave_one_out
        Whether the posterior that a draw comes from is left out of the mixture at that draw; it takes N ≥ 2.
    """
    wide = Gaussian(posteriors.mean.double(), posteriors.log_variance.double())
    generator = generator_for("aggregate", seed, 0)
    chosen = torch.randint(len(wide.mean), (samples,), generator=generator)
    noise = torch.randn(samples, wide.mean.shape[1], generator=generator, dtype=torch.float64)
    z = Gaussian(wide.mean[chosen], wide.log_variance[chosen]).sample(noise)
    density = aggregate_log_prob(z, wide, without=chosen if leave_one_out else None)
    ratio = density - standard_normal_log_prob(z)
    return Divergence(ratio.mean().item(), (ratio.std() / math.sqrt(samples)).item())


def moment_divergence(posteriors: Gaussian) -> float:
    """KL(N(m, S) ‖ N(0, I)) in nats, m and S the mean and covariance of q(z): what its first two moments tell, exactly."""
    mean, variance = posteriors.mean.double(), posteriors.log_variance.double().exp()
    centre = mean.mean(0)
    covariance = torch.atleast_2d(torch.cov(mean.T, correction=0)) + torch.diag(variance.mean(0))
    return 0.5 * (torch.trace(covariance) + centre.square().sum() - len(centre) - torch.logdet(covariance)).item()


def active_units(mean: Float[Tensor, "n d"]) -> int:
    """Latent dimensions whose posterior mean varies over images by more than `ACTIVE_VARIANCE`."""
    return mean.shape[1] - len(collapsed_units(mean))


def collapsed_units(mean: Float[Tensor, "n d"]) -> tuple[int, ...]:
    """The latent dimensions that are not active, counted from 0: they tell no image from another."""
    still = mean.double().var(0, correction=0) <= ACTIVE_VARIANCE
    return tuple(still.nonzero().flatten().tolist())


class TwoSample(NamedTuple):
    """A kernel two-sample test.

    Attributes
    ----------
    squared
        MMD², the unbiased estimate: about 0 for two samples of one distribution, and then as often below it as above.
    p_value
        Share of the permutations, this one among them, whose MMD² is no smaller.
    chance
        What 95 % of the permutations stay below.
    """

    squared: float
    p_value: float
    chance: float


def kernel_two_sample(
    one: Float[Tensor, "n d"], other: Float[Tensor, "m d"], *, permutations: int = 500, seed: int = 0
) -> TwoSample:
    """Whether two samples are of one distribution, by their maximum mean discrepancy under a Gaussian kernel.

    k(z, z') = exp(−‖z − z'‖²/2h²), h the median distance between two of all the points; MMD² is eq. 3 of Gretton et al. 2012,
    unbiased; its distribution where there is no difference is had by dealing all points anew to the two samples.

    Parameters
    ----------
    one, other
        At least 2 points each.
    permutations
        How often; the p-value is at least 1/(1 + permutations).
    seed
        Of the permutations.
    """
    n, m = len(one), len(other)
    every = torch.cat([one, other]).double()
    squared = torch.cdist(every, every).square()
    apart = squared[*torch.triu_indices(n + m, n + m, 1)].median()
    kernel = torch.exp(squared / (-2 * apart.clamp_min(torch.finfo(torch.float64).tiny))).fill_diagonal_(0)
    generator = generator_for("permutations", seed, 0)
    deals = [torch.arange(n + m), *(torch.randperm(n + m, generator=generator) for _ in range(permutations))]
    first = torch.stack(
        [(deal < n).double() for deal in deals], dim=1
    )  # a column for each deal: 1 for the first sample
    within = (first * (kernel @ first)).sum(0)
    across = kernel.sum(0) @ first - within
    discrepancy = within / (n * (n - 1)) + (kernel.sum() - within - 2 * across) / (m * (m - 1)) - 2 * across / (n * m)
    found, dealt = discrepancy[0], discrepancy[1:]
    return TwoSample(
        found.item(), (1 + int((dealt >= found - 1e-12).sum())) / (1 + permutations), dealt.quantile(0.95).item()
    )


def normal_quantiles(values: Float[Tensor, "n d"], points: int = 99) -> Float[Tensor, "d k 2"]:
    """For each column, K pairs for a QQ plot: the quantile of N(0, 1), and that of the column, at i/(K + 1), i = 1…K."""
    shares = torch.arange(1, points + 1, dtype=torch.float64) / (points + 1)
    found = values.double().quantile(shares, dim=0).T
    return torch.stack([torch.special.ndtri(shares).expand_as(found), found], dim=-1)


def neighbour_accuracy(
    known: np.ndarray, labels: np.ndarray, asked: np.ndarray, truth: np.ndarray, *, neighbours: int = 5
) -> float:
    """Share of points whose label is the commonest among their nearest known points, 0…1.

    Parameters
    ----------
    known, labels
        Latents (N, d) and their labels (N,).
    asked, truth
        Latents (M, d) and their true labels (M,).
    neighbours
        How many are asked; all of the known, where there are fewer.
    """
    from sklearn.neighbors import KNeighborsClassifier

    classifier = KNeighborsClassifier(min(neighbours, len(known))).fit(known, labels)
    return float((classifier.predict(asked) == truth).mean())


def cluster_accuracy(known: np.ndarray, asked: np.ndarray, truth: np.ndarray, *, classes: int, seed: int = 0) -> float:
    """Share of points whose label is that of their cluster, 0…1: k-means with as many clusters as labels, which it never sees.

    Each cluster gets a label of its own, by the matching that is right most often (Xie et al. 2016, eq. 10).

    Parameters
    ----------
    known
        Latents (N, d) that the clusters are found in.
    asked, truth
        Latents (M, d) and their true labels (M,), each 0…K−1.
    classes
        K.
    seed
        Of the first centres.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.cluster import KMeans

    clusters = min(classes, len(np.unique(known, axis=0)))
    starts: dict[str, Any] = {"n_init": 4}  # its stub knows only "auto"
    found = KMeans(clusters, random_state=seed, **starts).fit(known).predict(asked)
    counts = np.zeros((clusters, classes), dtype=np.int64)
    np.add.at(counts, (found, truth), 1)
    return float(counts[linear_sum_assignment(counts, maximize=True)].sum() / len(truth))
