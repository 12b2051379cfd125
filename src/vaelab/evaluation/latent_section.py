"""The latent section: which dimensions are used, how the aggregate posterior lies to N(0, I), and whether labels show in it.

The formulas are those of `vaelab.evaluation.latent`; here they are put together and put in words.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from vaelab.evaluation.context import Subject
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
from vaelab.evaluation.results import Bars, Estimate, Plot, Points, Quantity, Section
from vaelab.models.distributions import Gaussian
from vaelab.random import generator_for, latent_noise

IMAGES, QUICK_IMAGES = 10_000, 2_000
"""Posteriors in the mixture, and training images whose labels are known to nearest neighbours and clusters, at the most."""

MARGINAL_IMAGES = 2_000
"""Posteriors in the mixture of one dimension: many for a line, and there may be many dimensions."""

TESTED = 1_000
"""Points of each of the two samples of the kernel test, at the most."""

NEIGHBOURS = 5
SHOWN = 8
"""Dimensions in the QQ plot, at the most: those of the highest rate."""


def latent_section(subject: Subject) -> Section:
    """The latent space of a model over the held-out images of `subject`."""
    key, title = "latent", "The latent space"
    count = len(subject.held_out)
    if count < 2:
        return Section(key, title, left_out=f"got {count} {subject.split} image; a distribution of latents needs two")
    settings = subject.settings
    most = QUICK_IMAGES if settings.quick else IMAGES
    subject.work("encoding", 0, 1)
    encoded = subject.model.encode(subject.held_out.images, None if subject.labels is None else subject.labels.numpy())
    posteriors = Gaussian(torch.from_numpy(encoded.mean), torch.from_numpy(encoded.log_variance))
    some = _some(posteriors, most, settings.seed)
    found = [_usage(subject, posteriors)]
    if subject.model.model.stochastic:
        found.append(_divergences(subject, posteriors, some))
    found += [_prior(subject, posteriors, some), _labels(subject, encoded.mean, most)]
    if subject.model.model.groups is not None:
        found.insert(0, _part([LADDER], []))
    return Section(
        key,
        title,
        tuple(word for part in found for word in part.words),
        tuple(quantity for part in found for quantity in part.quantities),
        tuple(plot for part in found for plot in part.plots),
    )


def _part(words: list[str], quantities: list[Quantity], plots: tuple[Plot, ...] = ()) -> Section:
    """A part of the section, to be joined with the others."""
    return Section("latent", "", tuple(words), tuple(quantities), plots)


def _some(posteriors: Gaussian, most: int, seed: int) -> Gaussian:
    """The posteriors of at most `most` images, chosen by the seed."""
    chosen = torch.randperm(len(posteriors.mean), generator=generator_for("some images", seed, 0))[:most]
    return Gaussian(posteriors.mean[chosen], posteriors.log_variance[chosen])


def _names(width: int) -> tuple[str, ...]:
    return tuple(f"z{axis}" for axis in range(width))


def _usage(subject: Subject, posteriors: Gaussian) -> Section:
    """Active units, collapse in words, and the rate of each dimension."""
    collapsed = collapsed_units(posteriors.mean)
    count, width = posteriors.mean.shape
    active = Quantity(
        "active_units", "active units", width - len(collapsed), "", ACTIVE, None, count, "", ((ALL, width),)
    )
    if not subject.model.model.stochastic:
        words = (
            f"The codes of an autoencoder have no rate; {width - len(collapsed)} of {width} of their dimensions vary."
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
        return f"All {width} latent dimensions are active: none has collapsed."
    if len(collapsed) == width:
        return (
            "The posterior has collapsed: no latent dimension tells one image from another, and the decoder goes by "
            "nothing but itself (and the label, if it has one). Train with a lower --beta, or with --free-bits."
        )
    listed = ", ".join(_names(width)[axis] for axis in collapsed[:20]) + (", …" if len(collapsed) > 20 else "")
    return (
        f"{width - len(collapsed)} of {width} latent dimensions are active; {len(collapsed)} collapsed onto the prior "
        f"({listed}): they say nothing of an image, and cost nothing."
    )


def _divergences(subject: Subject, posteriors: Gaussian, some: Gaussian) -> Section:
    """KL(q(z) ‖ N(0, I)) from above and below, jointly and for each dimension, and what of the rate is left for the image."""
    seed = subject.settings.seed
    count, width = some.mean.shape
    subject.work("aggregate posterior", 0, 2 + width)
    above = aggregate_divergence(some, seed=seed)
    subject.work("aggregate posterior", 1, 2 + width)
    below = aggregate_divergence(some, seed=seed, leave_one_out=True)
    few, each = _some(some, MARGINAL_IMAGES, seed), list[Divergence]()
    for axis in range(width):
        subject.work("aggregate posterior", 2 + axis, 2 + width)
        column = slice(axis, axis + 1)
        each.append(aggregate_divergence(Gaussian(few.mean[:, column], few.log_variance[:, column]), seed=seed))
    subject.work("aggregate posterior", 2 + width, 2 + width)
    rate = Estimate.of(posteriors.rate().sum(-1).double().numpy())
    upper = Quantity(
        "aggregate_divergence",
        "KL(q(z) ‖ N(0, I)), from above",
        above.nats,
        "nats",
        DIVERGENCE + ABOVE,
        above.error,
        count,
        "lower",
        (("rate − ln N, which it cannot fall below", rate.value - math.log(count)),),
    )
    lower = Quantity(
        "aggregate_divergence_below",
        "KL(q(z) ‖ N(0, I)), from below",
        below.nats,
        "nats",
        DIVERGENCE + BELOW,
        below.error,
        count,
    )
    information = Quantity(
        "image_information",
        "information on the image in the latent, at least",
        rate.value - above.nats,
        "nats per image",
        INFORMATION,
        math.hypot(above.error, rate.error),
        count,
        "",
        (("rate", rate.value), (f"ln N of {count:,} images, all there is to be seen", math.log(count))),
    )
    words = (
        f"The aggregate posterior is {max(0.0, below.nats):.2f} to {above.nats:.2f} nats from the prior, of a rate of "
        f"{rate.value:.2f}: the rest says which image it was. By {count:,} images no more than {math.log(count):.2f} nats of "
        "that can be seen" + (", so the upper end says little here." if rate.value > math.log(count) else ".")
    )
    bars = Bars(
        "divergence_of_dimensions",
        "KL of each dimension's aggregate posterior from N(0, 1)",
        "latent dimension",
        "nats",
        _names(width),
        [max(0.0, one.nats) for one in each],
    )
    return _part([words], [upper, lower, information], (bars,))


def _prior(subject: Subject, posteriors: Gaussian, some: Gaussian) -> Section:
    """The moments, a kernel two-sample test and QQ plots: draws of the aggregate posterior beside draws of the prior."""
    seed = subject.settings.seed
    count, width = posteriors.mean.shape
    quantities: list[Quantity] = []
    moments = moment_divergence(posteriors)
    if math.isfinite(moments):
        quantities.append(
            Quantity("moment_divergence", "KL by moments", moments, "nats", MOMENTS, None, count, "lower")
        )
    tested = min(TESTED // 2 if subject.settings.quick else TESTED, len(some.mean))
    draws = some.sample(latent_noise(len(some.mean), width, seed))
    normal = torch.randn(tested, width, generator=generator_for("prior", seed, 0))
    subject.work("two-sample test", 0, 1)
    test = kernel_two_sample(draws[:tested], normal, seed=seed)
    subject.work("two-sample test", 1, 1)
    quantities += [
        Quantity("mmd_squared", "MMD²", test.squared, "", MMD, None, tested, "lower", ((CHANCE, test.chance),)),
        Quantity("mmd_p_value", "p-value of the kernel test", test.p_value, "", P_VALUE, None, tested, ""),
    ]
    told = "tells" if test.p_value < 0.01 else "does not tell"
    words = (
        f"A kernel test {told} {tested:,} draws of the aggregate posterior from as many of N(0, I) (p = {test.p_value:.3f}, "
        f"MMD² {test.squared:.5f}, by chance up to {test.chance:.5f})."
    ).replace("-0.", "−0.")
    order = posteriors.rate().mean(0) if subject.model.model.stochastic else posteriors.mean.var(0, correction=0)
    shown = order.argsort(descending=True)[:SHOWN].tolist()
    pairs = normal_quantiles(draws)
    groups = tuple((_names(width)[axis], pairs[axis].numpy()) for axis in shown)
    title = "Aggregate posterior against the prior" + (f" (the {SHOWN} most used dimensions)" if width > SHOWN else "")
    plot = Points("qq", title, "quantile of N(0, 1)", "quantile of the aggregate posterior", groups, diagonal=True)
    return _part([words], quantities, (plot,))


def _labels(subject: Subject, means: np.ndarray, most: int) -> Section:
    """What nearest neighbours and clusters read of the label in the latent of an unconditional model."""
    train, truth = subject.dataset.train, subject.held_out.labels
    if subject.model.conditional or truth is None or train.labels is None or len(train) == 0:
        return _part([], [])
    rng = np.random.default_rng(subject.settings.seed)
    known, asked = (np.sort(rng.permutation(size)[:most]) for size in (len(train), len(means)))
    latents = subject.model.encode(train.images[known]).mean
    classes, points, truth = len(subject.dataset.classes), means[asked], truth[asked]
    count = len(truth)
    read = {
        "neighbour_accuracy": neighbour_accuracy(latents, train.labels[known], points, truth, neighbours=NEIGHBOURS),
        "cluster_accuracy": cluster_accuracy(latents, points, truth, classes=classes, seed=subject.settings.seed),
    }
    chance = 100 * float(np.bincount(truth).max() / count)
    definitions = {
        "neighbour_accuracy": (
            "labels by nearest neighbours",
            NEIGHBOURS_READ.format(neighbours=NEIGHBOURS, known=len(known)),
        ),
        "cluster_accuracy": ("labels by clusters", CLUSTERS_READ.format(classes=classes, known=len(known))),
    }
    quantities = []
    for key, share in read.items():
        estimate = Estimate.of_share(round(share * count), count)
        name, definition = definitions[key]
        beside = (("always the commonest label", chance),)
        quantities.append(Quantity(key, name, 100 * share, "%", definition, 100 * estimate.error, count, "", beside))
    near, clustered = (100 * share for share in read.values())
    words = (
        f"Labels show in the latent, which never saw one: {NEIGHBOURS} nearest neighbours read {near:.1f} % of them right, "
        f"{classes} clusters {clustered:.1f} %; always the commonest label is {chance:.1f} %."
    )
    return _part([words], quantities)


ALL = "dimensions in all"
CHANCE = "95 % of the permutations stay below"
ACTIVE = (
    f"Latent dimensions whose posterior mean varies over images by more than {ACTIVE_VARIANCE} (variance; Burda et al. 2016, "
    "section 4). The others have collapsed onto the prior."
)
DIVERGENCE = (
    "KL of the aggregate posterior, the mean of the posteriors of all images, from the prior: how much of the prior no image is "
    "encoded to, and the other way round. 0 is the goal. By 2,000 draws and the mixture of the N posteriors. "
)
ABOVE = "The mixture knows the images that it is made of: it is too high on average, and never below rate − ln N."
LADDER = (
    "This model is a ladder: the posterior of a rung depends on what was drawn above it. Here each is taken where the rungs "
    "above are at their means; what follows is of those Gaussians, and close to the model's own only where the rungs above leave "
    "little open."
)

BELOW = "Each draw's own posterior is left out of its mixture: it is too low on average, and may be far below 0."
INFORMATION = "Rate less KL(q(z) ‖ N(0, I)) from above: what z says of which image it was (Hoffman & Johnson 2016)."
MOMENTS = (
    "KL(N(m, S) ‖ N(0, I)) with m and S the mean and covariance of the aggregate posterior: what of the divergence its first two "
    "moments tell, exactly and without draws."
)
MMD = (
    "Unbiased squared maximum mean discrepancy of draws from the aggregate posterior and from N(0, I), with a Gaussian kernel of "
    "the median distance (Gretton et al. 2012, eq. 3). About 0, above or below, where there is no difference."
)
P_VALUE = "Share of 500 permutations of the two samples whose MMD² is no smaller: below 0.01 they differ."
NEIGHBOURS_READ = (
    "Share of held-out images whose label is the commonest among the {neighbours} nearest of {known:,} training images, by the "
    "distance of posterior means."
)
CLUSTERS_READ = (
    "k-means finds {classes} clusters in the posterior means of {known:,} training images, without labels; the share of held-out "
    "images whose label is their cluster's, by the best matching of clusters and labels."
)
