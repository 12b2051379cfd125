"""The Bayes section: a conditional model's p(x) without the label, its gain from the label, and its Bayes classifier.

Symbols: x an image, y its label of K, b(x, y) ≥ −log p(x|y) the importance-weighted bound under each label, in nats.

With equally frequent labels, p(x) = 1/K Σ_y p(x|y) and p(y|x) = p(x|y) / (K p(x)). The label gain
log p(x|y) − log p(x) = ln K + log p(y|x) is at most ln K, which is reached if the image determines its label. All this holds
as far as the bounds are tight. They are looser under a wrong label, so the measured gain is biased upwards, if at all.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vaelab.evaluation.context import EvaluationContext
from vaelab.evaluation.formatting import rounded
from vaelab.evaluation.results import Estimate, Quantity, Section
from vaelab.inference.labels import label_nats
from vaelab.models.base import Model
from vaelab.objectives.bounds import negative_bounds

IMAGES, SAMPLES = 1_000, 50
QUICK_IMAGES, QUICK_SAMPLES = 200, 20
"""Number of held-out images, and K of the bound under each label."""

MOST_LABELS = 10
"""Number of labels up to which all these images are used; with more labels, fewer images are."""

LEAST_IMAGES = 10


def bounds_under_labels(
    model: Model,
    images: Tensor,
    *,
    samples: int,
    seed: int = 0,
    most_at_once: int = 500,
    progress: Callable[[int, int], None] | None = None,
    together: bool = False,
) -> Float[Tensor, "n k"]:
    """Return b(x, y), the importance-weighted bound of each image under each label, nats, float64.

    Parameters
    ----------
    model
        A conditional model of K labels.
    images, samples, seed, most_at_once, together
        As for `vaelab.objectives.bounds.negative_bounds`. The noise of an image is the same under every label.
    progress
        Called with the number of labels done, and their total.
    """
    columns = []
    for label in range(model.classes):
        if progress is not None:
            progress(label, model.classes)
        labels = torch.full((len(images),), label)
        curve = negative_bounds(
            model, images, labels, samples=(samples,), seed=seed, most_at_once=most_at_once, together=together
        )
        columns.append(curve[:, 0])
    if progress is not None:
        progress(model.classes, model.classes)
    return torch.stack(columns, dim=1)


def unconditional_bound(nats: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """Return −log (1/K Σ_y exp(−b(x, y))): an upper bound on −log p(x) in nats, for equally frequent labels."""
    return math.log(nats.shape[1]) - torch.logsumexp(-nats, dim=1)


def label_posterior(nats: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """Return p(y|x) ∝ exp(−b(x, y)) for equally frequent labels; each row sums to 1."""
    return torch.softmax(-nats, dim=1)


def label_gain(nats: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return the reduction of the bound by the true label, nats: `unconditional_bound` minus the bound under it, ≤ ln K."""
    return unconditional_bound(nats) - nats.gather(1, labels[:, None])[:, 0]


def bayes_section(context: EvaluationContext) -> Section:
    """Measure the label gain in likelihood, and the accuracy of the Bayes classifier of the model."""
    key, title = "bayes", "Label gain and Bayes classifier"
    model, settings = context.model.model, context.settings
    if not context.model.conditional:
        return Section(key, title, left_out=f"This model ({context.model.kind}) takes no labels.")
    assert context.labels is not None
    if model.classes < 2:
        return Section(key, title, left_out="The model has a single class.")
    images, samples = (QUICK_IMAGES, QUICK_SAMPLES) if settings.quick else (IMAGES, SAMPLES)
    most = max(LEAST_IMAGES, images * MOST_LABELS // max(model.classes, MOST_LABELS))
    count = min(len(context.levels), most)
    labels = context.labels[:count]
    nats = bounds_under_labels(
        model,
        context.levels[:count],
        samples=samples,
        seed=settings.seed,
        most_at_once=settings.most_decoded,
        progress=lambda done, total: context.work("bounds under each label", done, total),
        together=True,
    )
    with_label = Estimate.of(nats.gather(1, labels[:, None])[:, 0].numpy())
    without_label = Estimate.of(unconditional_bound(nats).numpy())
    gain = Estimate.of(label_gain(nats, labels).numpy())
    accuracy = Estimate.of_share(int((nats.argmin(1) == labels).sum()), count)
    elbo_count = min(len(context.levels), 10 * most)
    by_elbo = label_nats(model, context.levels[:elbo_count]).argmin(1)
    elbo_accuracy = Estimate.of_share(int((by_elbo == context.labels[:elbo_count]).sum()), elbo_count)
    ceiling = math.log(model.classes)
    how = f" Bounds with {samples} draws of z; labels are taken as equally frequent."
    quantities = (
        Quantity(
            "bound_given_label",
            "bound with the label",
            with_label.value,
            "nats per image",
            WITH_LABEL + how,
            with_label.error,
            count,
            "lower",
        ),
        Quantity(
            "bound_without_label",
            "bound without the label",
            without_label.value,
            "nats per image",
            WITHOUT_LABEL + how,
            without_label.error,
            count,
            "lower",
        ),
        Quantity(
            "label_gain",
            "label gain",
            gain.value,
            "nats per image",
            GAIN + how,
            gain.error,
            count,
            "",
            ((f"ln {model.classes}, the maximum", ceiling),),
        ),
        Quantity(
            "bayes_accuracy",
            "accuracy of the Bayes classifier",
            100 * accuracy.value,
            "%",
            BAYES + how,
            100 * accuracy.error,
            count,
            "higher",
            (
                (f"by −ELBO at the posterior mean, {elbo_count:,} images", 100 * elbo_accuracy.value),
                ("chance", 100 / model.classes),
            ),
        ),
    )
    words = (
        f"{_gain_in_words(gain, without_label, with_label)} The maximum gain is ln {model.classes} = {ceiling:.2f} nats.",
        f"Used as a classifier, by Bayes' rule on p(x|y), the model labels {100 * accuracy.value:.1f} ± "
        f"{100 * accuracy.error:.1f} % of the images correctly, although it was not trained as a classifier.",
    )
    return Section(key, title, words, quantities)


def _gain_in_words(gain: Estimate, without: Estimate, with_label: Estimate) -> str:
    """Say whether the true label lowers the bound on average; if it raises it, the images look likelier under other labels."""
    size = rounded(abs(gain.value), gain.error)
    bounds = f"from {without.value:,.2f} to {with_label.value:,.2f} nats ({gain.count:,} images)"
    if gain.value < 0:
        return (
            f"Knowing the label makes the bound worse by {size} nats per image, {bounds}: the images are more "
            "probable under other labels, so the model does not use the label as it should."
        )
    return f"Knowing the label lowers the bound by {size} nats per image, {bounds}."


WITH_LABEL = "Importance-weighted bound on −log p(x|y) under the true label (Burda et al. 2016, eq. 8)."
WITHOUT_LABEL = (
    "−log of the mean of p(x|y) over all labels, each by its importance-weighted bound: an upper bound on −log p(x)."
)
GAIN = (
    "Bound without the label minus bound with the label, an estimate of log p(x|y) − log p(x). It is ln K if the image "
    "determines its label and the model uses the label, and 0 if the model ignores the label. The bound is looser under a "
    "wrong label, so the gain is biased upwards, if at all."
)
BAYES = (
    "Share of held-out images whose true label has the highest p(x|y); by Bayes' rule this is the most probable label."
)
