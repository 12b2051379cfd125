"""The likelihood section: how surprised a model is by held-out images, in nats per image and bits per dimension.

Symbols: distortion −log p(x|z), rate KL(q(z|x) ‖ p(z)), −ELBO their sum, and the importance-weighted bound of K draws, which
falls towards −log p(x[|y]) as K grows (Burda et al. 2016, eq. 8). All are upper bounds on the same surprise; lower is better.
"""

from __future__ import annotations

import math

import numpy as np

from vaelab.evaluation.context import Subject
from vaelab.evaluation.formatting import rounded
from vaelab.evaluation.results import Estimate, Lines, Quantity, Section, Series
from vaelab.objectives.bounds import held_out_terms, negative_bound_curve
from vaelab.random import latent_noise

QUICK_IMAGES, QUICK_SAMPLES = 1000, 50
"""What `quick` cuts the bound to: images, and K at the most."""


def likelihood_section(subject: Subject) -> Section:
    """Distortion, rate, −ELBO and the bound as a curve over K, on the held-out images of `subject`."""
    model, settings = subject.model.model, subject.settings
    count = len(subject.levels)
    noise = latent_noise(count, model.latent_dim, settings.seed)
    terms = held_out_terms(model, subject.levels, subject.labels, noise)
    distortion = Estimate.of(terms.distortion.double().numpy())
    shown = [_nats("distortion", "distortion", DISTORTION, distortion, subject)]
    if not model.stochastic:
        words = (
            f"Rebuilding a {subject.split} image from its code costs {distortion.value:.2f} nats on average. An autoencoder is "
            "no distribution over images: its codes cost nothing, and so it has no likelihood to report.",
        )
        return Section("likelihood", "Likelihood", words, tuple(shown))
    rate = Estimate.of(terms.rate.sum(-1).double().numpy())
    elbo = Estimate.of(terms.negative_elbo().double().numpy())
    curve_count = min(count, QUICK_IMAGES) if settings.quick else count
    most = min(settings.importance_samples, QUICK_SAMPLES) if settings.quick else settings.importance_samples
    samples = tuple(sorted({*(k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000) if k < most), most}))
    bounds = negative_bound_curve(
        model,
        subject.levels[:curve_count],
        None if subject.labels is None else subject.labels[:curve_count],
        samples=samples,
        seed=settings.seed,
        most_at_once=settings.most_decoded,
        progress=lambda done, total: subject.work(f"bound, K = {most}", done, total),
    ).numpy()
    curve = [Estimate.of(bounds[:, column]) for column in range(len(samples))]
    shown += [
        _nats("rate", "rate", RATE, rate, subject),
        _nats("negative_elbo", "−ELBO", ELBO, elbo, subject),
        _nats("bound", f"bound, K = {most}", BOUND, curve[-1], subject),
    ]
    dimensions = math.prod(model.shape)
    shown += [
        Quantity(
            f"{one.key}_bits_per_dimension",
            f"{one.name}, bits per dimension",
            one.value / (dimensions * math.log(2)),
            "bits per dimension",
            f"The same in bits, divided by the {dimensions:,} values of an image: nats / ({dimensions:,} · ln 2).",
            None if one.error is None else one.error / (dimensions * math.log(2)),
            one.count,
            "lower",
        )
        for one in shown[-2:]
    ]
    gap = elbo.value - float(np.mean(bounds[:, -1])) if curve_count == count else math.nan
    words = [
        f"A {subject.split} image surprises the model by at most {rounded(curve[-1].value, curve[-1].error)} nats "
        f"(K = {most}, {curve_count:,} images); one draw alone gives {rounded(elbo.value, elbo.error)} ({count:,} images).",
        f"{protocol(subject)} Figures are comparable only where data, split, binarisation, likelihood and bound are the same.",
    ]
    if math.isfinite(gap):
        words.append(
            f"The gap of {gap:.2f} nats between them is what the encoder's Gaussians miss of the true posteriors."
        )
    if settings.quick and curve_count < count:
        words.append("This was a quick look: the bound is of the first images only, and of few draws.")
    line = Series("bound", samples, [point.value for point in curve], [point.error for point in curve])
    plot = Lines("bound_curve", "The bound over K", "K, draws of z per image", "nats per image", (line,), log_x=True)
    return Section("likelihood", "Likelihood", tuple(words), tuple(shown), (plot,))


DISTORTION = "−log p(x|z) with one draw of z from q(z|x): what is lost of an image when it is rebuilt from its latent."
RATE = "KL(q(z|x) ‖ N(0, I)): what the latent of an image costs (Kingma & Welling 2014, appendix B)."
ELBO = (
    "Distortion + rate: an upper bound on −log p(x), or on −log p(x|y) for a conditional model "
    "(Kingma & Welling 2014, eq. 3)."
)
BOUND = (
    "−log of the mean of K importance weights p(x|z)·p(z)/q(z|x): an upper bound on −log p(x) that falls towards it "
    "as K grows (Burda et al. 2016, eq. 8). The weights of an image are combined by log-sum-exp."
)


def _nats(key: str, name: str, definition: str, estimate: Estimate, subject: Subject) -> Quantity:
    on = f" On {subject.dataset.name}, {subject.split}: {protocol(subject)}"
    better = "" if key == "rate" else "lower"
    return Quantity(
        key, name, estimate.value, "nats per image", definition + on, estimate.error, estimate.count, better
    )


def protocol(subject: Subject) -> str:
    """How the images were brought into the likelihood's domain, in a sentence."""
    if subject.model.likelihood == "bernoulli" and subject.held_out.images.dtype == np.uint8:
        how = "binarised once by numpy.random.RandomState(777), one draw per pixel with p = level/255"
    elif subject.model.likelihood == "gaussian":
        how = "reals as they are; the density is per unit of each column"
    else:
        how = "grey or colour levels as they are"
    return f"Likelihood {subject.model.likelihood}, {how}."
