"""The likelihood section: bounds on −log p(x) of held-out images, in nats per image and bits per dimension.

Symbols: distortion −log p(x|z), rate KL(q(z|x) ‖ p(z)), −ELBO their sum, and the importance-weighted bound of K draws, which
falls towards −log p(x[|y]) as K grows (Burda et al. 2016, eq. 8). −ELBO and the bound are upper bounds; lower is better.
"""

from __future__ import annotations

import math

import numpy as np

from vaelab.evaluation.context import EvaluationContext
from vaelab.evaluation.formatting import rounded
from vaelab.evaluation.results import Estimate, Lines, Quantity, Section, Series
from vaelab.objectives.bounds import held_out_terms, negative_bounds
from vaelab.random import latent_noise

QUICK_IMAGES = 1000
"""Maximum number of images of the bound in quick mode."""


def likelihood_section(context: EvaluationContext) -> Section:
    """Measure distortion, rate, −ELBO and the bound as a function of K on the held-out images."""
    model, settings = context.model.model, context.settings
    count = len(context.levels)
    noise = latent_noise(count, model.latent_dim, settings.seed)
    terms = held_out_terms(model, context.levels, context.labels, noise, together=True)
    distortion = Estimate.of(terms.distortion.double().numpy())
    shown = [_nats("distortion", "distortion", DISTORTION, distortion, context)]
    if not model.stochastic:
        words = (
            f"Reconstructing a {context.split} image from its code costs {distortion.value:.2f} nats on average. An autoencoder "
            "defines no distribution over images, so it has no rate and no likelihood.",
        )
        return Section("likelihood", "Likelihood", words, tuple(shown))
    rate = Estimate.of(terms.rate.sum(-1).double().numpy())
    each = terms.negative_elbo().double().numpy()
    elbo = Estimate.of(each)
    curve_count = min(count, QUICK_IMAGES) if settings.quick else count
    most = settings.importance_samples
    samples = tuple(sorted({*(k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000) if k < most), most}))
    bounds = negative_bounds(
        model,
        context.levels[:curve_count],
        None if context.labels is None else context.labels[:curve_count],
        samples=samples,
        seed=settings.seed,
        most_at_once=settings.most_decoded,
        progress=lambda done, total: context.work(f"bound, K = {most}", done, total),
        together=True,
    ).numpy()
    curve = [Estimate.of(bounds[:, column]) for column in range(len(samples))]
    shown += [
        _nats("rate", "rate", RATE, rate, context),
        _nats("negative_elbo", "−ELBO", ELBO, elbo, context),
        _nats("bound", f"bound, K = {most}", BOUND, curve[-1], context),
    ]
    dimensions = math.prod(model.shape)
    shown += [
        Quantity(
            f"{one.key}_bits_per_dimension",
            f"{one.name}, bits per dimension",
            one.value / (dimensions * math.log(2)),
            "bits per dimension",
            f"{one.name} in bits, divided by the {dimensions:,} values of an image: nats / ({dimensions:,} · ln 2).",
            None if one.error is None else one.error / (dimensions * math.log(2)),
            one.count,
            "lower",
        )
        for one in shown[-2:]
    ]
    gap = float(np.mean(each[:curve_count] - bounds[:, -1]))
    whose = "−ELBO" if curve_count == count else f"On the first {curve_count:,} images, −ELBO"
    surprise = "−log p(x|y)" if context.model.conditional else "−log p(x)"
    words = [
        f"On average, {surprise} of a {context.split} image is at most {rounded(curve[-1].value, curve[-1].error)} nats "
        f"(importance-weighted bound, K = {most}, {curve_count:,} images); −ELBO is {rounded(elbo.value, elbo.error)} nats "
        f"({count:,} images).",
        f"{protocol(context)} Compare figures only for the same data, split, binarisation, likelihood and bound.",
    ]
    if math.isfinite(gap):
        words.append(
            f"{whose} is {gap:.2f} nats above the bound. This gap contains the error of the Gaussian family of q(z|x) and the "
            "amortisation error (one encoder is shared by all images). It is smaller than KL(q(z|x) ‖ p(z|x)) by the bias of "
            f"the bound, which at K = {most} is itself still above {surprise}."
        )
    if settings.quick and curve_count < count:
        words.append(f"Quick mode: the bound is measured on the first {curve_count:,} images only.")
    line = Series("bound", samples, [point.value for point in curve], [point.error for point in curve])
    plot = Lines(
        "bound_curve",
        "Importance-weighted bound as a function of K",
        "K, draws of z per image",
        "nats per image",
        (line,),
        log_x=True,
    )
    return Section("likelihood", "Likelihood", tuple(words), tuple(shown), (plot,) if len(samples) > 1 else ())


DISTORTION = "−log p(x|z) with one draw of z from q(z|x): the error of reconstructing an image from its latent."
RATE = "KL(q(z|x) ‖ N(0, I)): the cost of an image's latent (Kingma & Welling 2014, appendix B)."
ELBO = (
    "Distortion + rate: an upper bound on −log p(x), or on −log p(x|y) for a conditional model "
    "(Kingma & Welling 2014, eq. 3)."
)
BOUND = (
    "−log of the mean of K importance weights p(x|z)·p(z)/q(z|x): an upper bound on −log p(x), or on −log p(x|y) for a "
    "conditional model, that falls towards it as K grows (Burda et al. 2016, eq. 8). The weights of an image are combined by "
    "log-sum-exp."
)


def _nats(key: str, name: str, definition: str, estimate: Estimate, context: EvaluationContext) -> Quantity:
    on = f" On {context.dataset.name}, {context.split}: {protocol(context)}"
    better = "" if key == "rate" else "lower"
    return Quantity(
        key, name, estimate.value, "nats per image", definition + on, estimate.error, estimate.count, better
    )


def protocol(context: EvaluationContext) -> str:
    """Describe in a sentence the likelihood and how the images are brought into its domain.

    Comparisons of reports require equal sentences, so do not reword them.
    """
    if context.model.likelihood == "bernoulli" and context.held_out.images.dtype == np.uint8:
        how = "binarised once by numpy.random.RandomState(777), one draw per pixel with p = level/255"
    elif context.model.likelihood == "gaussian":
        how = "reals as they are; the density is per unit of each column"
    else:
        how = "grey or colour levels as they are"
    return f"Likelihood {context.model.likelihood}, {how}."
