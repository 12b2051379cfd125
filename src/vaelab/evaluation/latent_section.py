"""The latent section: active dimensions, divergence of the aggregate posterior from N(0, I), and label structure.

The formulas are in `vaelab.evaluation.latent`.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from vaelab.evaluation.context import EvaluationContext
from vaelab.evaluation.formatting import exponential, rounded
from vaelab.evaluation.latent import (
    ACTIVE_VARIANCE,
    Divergence,
    aggregate_divergence,
    cluster_accuracy,
    collapsed_units,
    kernel_two_sample,
    moment_divergence,
    neighbour_accuracy,
    normal_quantiles,
)
from vaelab.evaluation.results import Bars, Estimate, Plot, Points, Quantity, Section, joined
from vaelab.inference.latents import latent_name
from vaelab.models.distributions import Gaussian
from vaelab.random import generator_for, latent_noise

IMAGES, QUICK_IMAGES = 10_000, 2_000
"""Maximum number of posteriors in the mixture, and of training images for nearest neighbours and clusters."""

MARGINAL_IMAGES = 2_000
"""Maximum number of posteriors in the mixture of one dimension: enough for one dimension, and there may be many."""

TESTED = 1_000
"""Maximum number of points in each of the two samples of the kernel test."""

NEIGHBOURS = 5
SHOWN = 8
"""Maximum number of dimensions in the QQ plot: those with the highest rate."""


def latent_section(context: EvaluationContext) -> Section:
    """Measure the latent space on the held-out images."""
    key, title = "latent", "The latent space"
    count = len(context.held_out)
    if count < 2:
        return Section(key, title, left_out=f"{count} {context.split} image is too few; at least 2 are needed.")
    settings = context.settings
    most = QUICK_IMAGES if settings.quick else IMAGES
    context.work("encoding", 0, 1)
    encoded = context.model.encode(context.held_out.images, None if context.labels is None else context.labels.numpy())
    posteriors = Gaussian(torch.from_numpy(encoded.mean), torch.from_numpy(encoded.log_variance))
    some = _some(posteriors, most, settings.seed)
    found = [] if context.model.model.groups is None else [_part([LADDER], [])]
    found.append(_usage(context, posteriors))
    if context.model.model.stochastic:
        found.append(_divergences(context, posteriors, some))
    found += [_prior(context, posteriors, some), _labels(context, encoded.mean, most)]
    return joined(key, title, found)


def _part(words: list[str], quantities: list[Quantity], plots: tuple[Plot, ...] = ()) -> Section:
    """Return a part of the section, to be joined with the others."""
    return Section("latent", "", tuple(words), tuple(quantities), plots)


def _some(posteriors: Gaussian, most: int, seed: int) -> Gaussian:
    """Return the posteriors of at most `most` images, chosen at random."""
    chosen = torch.randperm(len(posteriors.mean), generator=generator_for("some images", seed, 0))[:most]
    return Gaussian(posteriors.mean[chosen], posteriors.log_variance[chosen])


def _names(width: int) -> tuple[str, ...]:
    return tuple(map(latent_name, range(width)))


def _usage(context: EvaluationContext, posteriors: Gaussian) -> Section:
    """Active units, a sentence on collapse, and the rate of each dimension."""
    collapsed = collapsed_units(posteriors.mean)
    count, width = posteriors.mean.shape
    active = Quantity(
        "active_units", "active units", width - len(collapsed), "", ACTIVE, None, count, "", ((ALL, width),)
    )
    if not context.model.model.stochastic:
        words = (
            f"Autoencoder codes have no rate. {width - len(collapsed)} of their {width} dimensions vary over images."
        )
        return _part([words], [active])
    rate = posteriors.rate().double().mean(0)
    bars = Bars(
        "rate_of_dimensions",
        "Rate of each latent dimension (collapsed ones crossed out)",
        "latent dimension",
        "nats per image",
        _names(width),
        rate.tolist(),
        frozenset(collapsed),
    )
    return _part([_collapse_in_words(collapsed, width)], [active], (bars,))


def _collapse_in_words(collapsed: tuple[int, ...], width: int) -> str:
    if not collapsed:
        return f"All {width} latent dimensions are active; none has collapsed."
    if len(collapsed) == width:
        return (
            "Posterior collapse: all latent dimensions have collapsed onto the prior, so the decoder ignores z and depends on "
            "nothing but the label, if it has one. Train with a smaller β or with free bits."
        )
    listed = ", ".join(_names(width)[axis] for axis in collapsed[:20]) + (", …" if len(collapsed) > 20 else "")
    return (
        f"{width - len(collapsed)} of {width} latent dimensions are active; {len(collapsed)} have collapsed onto the prior "
        f"({listed}) and carry no information about the image."
    )


def _divergences(context: EvaluationContext, posteriors: Gaussian, some: Gaussian) -> Section:
    """KL(q(z) ‖ N(0, I)) from above and below, jointly and per dimension, and the information about the image."""
    seed = context.settings.seed
    count, width = some.mean.shape
    context.work("aggregate posterior", 0, 2 + width)
    above = aggregate_divergence(some, seed=seed)
    context.work("aggregate posterior", 1, 2 + width)
    below = aggregate_divergence(some, seed=seed, leave_one_out=True)
    few, each = _some(some, MARGINAL_IMAGES, seed), list[Divergence]()
    for axis in range(width):
        context.work("aggregate posterior", 2 + axis, 2 + width)
        column = slice(axis, axis + 1)
        each.append(aggregate_divergence(Gaussian(few.mean[:, column], few.log_variance[:, column]), seed=seed))
    context.work("aggregate posterior", 2 + width, 2 + width)
    rate = Estimate.of(posteriors.rate().sum(-1).double().numpy())
    bars = Bars(
        "divergence_of_dimensions",
        "KL of each dimension's aggregate posterior from N(0, 1)",
        "latent dimension",
        "nats",
        _names(width),
        [max(0.0, one.nats) for one in each],
    )
    # A priori the divergence is between 0 and the rate. Estimates that leave more than half of that open say nothing.
    if above.nats - max(0.0, below.nats) > rate.value / 2 and rate.value > math.log(count):
        return _part([_too_few(count, rate.value)], [], (bars,))
    upper = Quantity(
        "aggregate_divergence",
        "KL(q(z) ‖ N(0, I)), upper estimate",
        above.nats,
        "nats",
        DIVERGENCE + ABOVE,
        above.error,
        count,
        "lower",
        (("rate − ln N, its minimum", rate.value - math.log(count)),),
    )
    lower = Quantity(
        "aggregate_divergence_below",
        "KL(q(z) ‖ N(0, I)), lower estimate",
        below.nats,
        "nats",
        DIVERGENCE + BELOW,
        below.error,
        count,
    )
    information = Quantity(
        "image_information",
        "image information in the latent, lower estimate",
        rate.value - above.nats,
        "nats per image",
        INFORMATION,
        math.hypot(above.error, rate.error),
        count,
        "",
        (("rate", rate.value), (f"ln N, the maximum for {count:,} images", math.log(count))),
    )
    negative = ""
    if below.nats < 0:
        negative = f" (a divergence is at least 0; its lower estimate, {rounded(below.nats)}, is less)"
    words = (
        "KL(q(z) ‖ N(0, I)), the divergence of the aggregate posterior from the prior, is between "
        f"{max(0.0, below.nats):.2f}{negative} and {above.nats:.2f} nats; the rate is {rate.value:.2f} nats. The rest of the "
        f"rate is information about the image, of which at most ln N = {math.log(count):.2f} nats can be measured with "
        f"{count:,} images."
    )
    return _part([words], [upper, lower, information], (bars,))


def _too_few(count: int, rate: float) -> str:
    """Say that N images are too few to measure the divergence, and how many would do."""
    return (
        "KL(q(z) ‖ N(0, I)), the divergence of the aggregate posterior from the prior, cannot be measured with "
        f"{count:,} images: for a rate of {rate:.2f} nats it takes about exp(rate) = {exponential(rate)}. The divergences of "
        "single dimensions and of the first two moments take fewer images."
    )


def _prior(context: EvaluationContext, posteriors: Gaussian, some: Gaussian) -> Section:
    """Compare the aggregate posterior with the prior: moments, a kernel two-sample test and QQ plots."""
    seed = context.settings.seed
    count, width = posteriors.mean.shape
    quantities: list[Quantity] = []
    moments = moment_divergence(posteriors)
    if math.isfinite(moments):
        quantities.append(
            Quantity("moment_divergence", "KL by mean and covariance", moments, "nats", MOMENTS, None, count, "lower")
        )
    tested = min(TESTED // 2 if context.settings.quick else TESTED, len(some.mean))
    draws = some.sample(latent_noise(len(some.mean), width, seed))
    normal = torch.randn(tested, width, generator=generator_for("prior", seed, 0))
    context.work("two-sample test", 0, 1)
    test = kernel_two_sample(draws[:tested], normal, seed=seed)
    context.work("two-sample test", 1, 1)
    quantities += [
        Quantity("mmd_squared", "MMD²", test.squared, "", MMD, None, tested, "lower", ((CHANCE, test.chance),)),
        Quantity("mmd_p_value", "p-value of the kernel test", test.p_value, "", P_VALUE, None, tested, ""),
    ]
    verdict = "differ significantly" if test.p_value < 0.01 else "do not differ significantly"
    words = (
        f"By a kernel two-sample test, {tested:,} draws from the aggregate posterior and as many from N(0, I) {verdict} "
        f"(p = {test.p_value:.3f}, MMD² = {test.squared:.5f}; 95 % of permutations give less than {test.chance:.5f})."
    ).replace("-0.", "−0.")
    order = posteriors.rate().mean(0) if context.model.model.stochastic else posteriors.mean.var(0, correction=0)
    shown = order.argsort(descending=True)[:SHOWN].tolist()
    pairs = normal_quantiles(draws)
    groups = tuple((_names(width)[axis], pairs[axis].numpy()) for axis in shown)
    title = "QQ plot of the aggregate posterior" + (
        f" (the {SHOWN} dimensions of highest rate)" if width > SHOWN else ""
    )
    plot = Points("qq", title, "quantile of N(0, 1)", "quantile of the aggregate posterior", groups, diagonal=True)
    return _part([words], quantities, (plot,))


def _labels(context: EvaluationContext, means: np.ndarray, most: int) -> Section:
    """Predict labels, if there are several, from the latent of an unconditional model: nearest neighbours and clusters."""
    train, truth, classes = context.dataset.train, context.held_out.labels, len(context.dataset.classes)
    if context.model.conditional or classes < 2 or truth is None or train.labels is None or len(train) == 0:
        return _part([], [])
    rng = np.random.default_rng(context.settings.seed)
    known, tested = (np.sort(rng.permutation(size)[:most]) for size in (len(train), len(means)))
    latents = context.model.encode(train.images[known]).mean
    points, truth = means[tested], truth[tested]
    count = len(truth)
    near = neighbour_accuracy(latents, train.labels[known], points, truth, neighbours=NEIGHBOURS)
    clustered = cluster_accuracy(latents, points, truth, classes=classes, seed=context.settings.seed)
    chance = 100 * float(np.bincount(truth).max() / count)
    beside = (("always predict the most frequent label", chance),)
    quantities = []
    for key, share, name, definition in (
        ("neighbour_accuracy", near, "nearest neighbours", NEIGHBOURS_READ),
        ("cluster_accuracy", clustered, "clusters", CLUSTERS_READ),
    ):
        definition = definition.format(neighbours=NEIGHBOURS, classes=classes, known=len(known))
        error = 100 * Estimate.of_share(round(share * count), count).error
        name = f"label accuracy of {name}"
        quantities.append(Quantity(key, name, 100 * share, "%", definition, error, count, "", beside))
    words = (
        f"The model was not given labels, but its latent reflects them: {NEIGHBOURS} nearest neighbours predict "
        f"{100 * near:.1f} % correctly, {classes} k-means clusters {100 * clustered:.1f} %; the most frequent label alone gives "
        f"{chance:.1f} %."
    )
    return _part([words], quantities)


LADDER = (
    "This is a hierarchical model: the posterior of a level depends on the values drawn at the levels above. Here each posterior "
    "is computed with the levels above at their means. The figures below describe these Gaussians, which are close to the "
    "model's posterior only if the levels above have little variance."
)
ALL = "latent dimensions"
CHANCE = "95 % quantile of the permutations"
ACTIVE = (
    f"Number of latent dimensions whose posterior mean has a variance over images above {ACTIVE_VARIANCE} (Burda et al. 2016, "
    "section 4). The others have collapsed onto the prior."
)
DIVERGENCE = (
    "KL divergence of the aggregate posterior, the average of the posteriors of all images, from the prior. It measures the "
    "mismatch between the z that the decoder was trained on and the z that are sampled; 0 is the goal. Estimated with 2,000 "
    "draws and the mixture of N posteriors. "
)
ABOVE = (
    "The mixture contains the posterior of each draw, so the estimate is biased upwards and never below rate − ln N."
)
BELOW = (
    "The posterior of each draw is left out of the mixture, so the estimate is biased downwards and may be negative."
)
INFORMATION = (
    "Rate − upper estimate of KL(q(z) ‖ N(0, I)), an estimate from below of the mutual information between "
    "image and latent (Hoffman & Johnson 2016)."
)
MOMENTS = (
    "KL(N(m, S) ‖ N(0, I)), with m and S the mean and covariance of the aggregate posterior: the part of the divergence that "
    "is due to the first two moments. Computed in closed form, without draws."
)
MMD = (
    "Unbiased squared maximum mean discrepancy between draws from the aggregate posterior and from N(0, I), with a Gaussian "
    "kernel whose width is the median distance (Gretton et al. 2012, eq. 3). Around 0, positive or negative, if they do not "
    "differ."
)
P_VALUE = "Share of 500 permutations of the two samples with an MMD² at least as large; below 0.01 the samples differ."
NEIGHBOURS_READ = (
    "Share of held-out images whose label is the most frequent one among the {neighbours} nearest of {known:,} training images, "
    "by the distance of posterior means."
)
CLUSTERS_READ = (
    "k-means finds {classes} clusters in the posterior means of {known:,} training images, without labels. The value is the "
    "share of held-out images whose label matches that of their cluster, for the best one-to-one matching of clusters and labels."
)
