"""What Bayes' rule makes of a conditional model: p(x) without the label, the label's worth, and a classifier.

Symbols: x an image, y its label of K, b(x, y) ≥ −log p(x|y) the importance-weighted bound under each label, in nats.

With equally frequent labels p(x) = 1/K Σ_y p(x|y) and p(y|x) = p(x|y) / (K p(x)). The label's gain
log p(x|y) − log p(x) = ln K + log p(y|x) is at most ln K, which is met where the image leaves no doubt of its label. All
holds as far as the bounds are tight. Under a wrong label they are looser, so the gain comes out too high, if anything.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vaelab.evaluation.context import Subject
from vaelab.evaluation.results import Estimate, Quantity, Section
from vaelab.inference.labels import label_nats
from vaelab.models.base import Model
from vaelab.objectives.bounds import negative_bound_curve

IMAGES, SAMPLES = 1_000, 50
QUICK_IMAGES, QUICK_SAMPLES = 200, 20
"""Held-out images, and draws of z for each of them under each label; as many decoded images at most for more labels."""

MOST_LABELS = 10
"""Labels that the number of images is meant for: for more of them there are fewer images."""

LEAST_IMAGES = 10


def bounds_under_labels(
    model: Model,
    images: Tensor,
    *,
    samples: int,
    seed: int = 0,
    most_at_once: int = 500,
    progress: Callable[[int, int], None] | None = None,
) -> Float[Tensor, "n k"]:
    """b(x, y): the importance-weighted bound of each image under each label, nats, float64.

    Parameters
    ----------
    model
        A conditional model of K labels.
    images, samples, seed, most_at_once
        As for `scoring.negative_bound_curve`. An image meets the same noise under every label.
    progress
        Told of the labels done and the labels in all.
    """
    columns = []
    for label in range(model.classes):
        if progress is not None:
            progress(label, model.classes)
        labels = torch.full((len(images),), label)
        curve = negative_bound_curve(model, images, labels, samples=(samples,), seed=seed, most_at_once=most_at_once)
        columns.append(curve[:, 0])
    if progress is not None:
        progress(model.classes, model.classes)
    return torch.stack(columns, dim=1)


def unconditional_bound(nats: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """−log (1/K Σ_y exp(−b(x, y))): an upper bound on −log p(x) in nats, all labels equally frequent."""
    return math.log(nats.shape[1]) - torch.logsumexp(-nats, dim=1)


def label_posterior(nats: Float[Tensor, "n k"]) -> Float[Tensor, "n k"]:
    """p(y|x) ∝ exp(−b(x, y)), all labels equally frequent: each row sums to 1."""
    return torch.softmax(-nats, dim=1)


def label_gain(nats: Float[Tensor, "n k"], labels: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """What knowing its label takes off an image's nats: `unconditional_bound` less the bound under the label, ≤ ln K."""
    return unconditional_bound(nats) - nats.gather(1, labels[:, None])[:, 0]


def bayes_section(subject: Subject) -> Section:
    """The label's gain in likelihood beside ln K, and the classifier that Bayes' rule makes of the model."""
    key, title = "bayes", "What the label is worth, and Bayes' rule"
    model, settings = subject.model.model, subject.settings
    if not subject.model.conditional:
        return Section(key, title, left_out=f"This model ({subject.model.kind}) takes no labels.")
    assert subject.labels is not None
    if model.classes < 2:
        return Section(key, title, left_out="The model knows one label, so there is nothing to tell apart.")
    images, samples = (QUICK_IMAGES, QUICK_SAMPLES) if settings.quick else (IMAGES, SAMPLES)
    most = max(LEAST_IMAGES, images * MOST_LABELS // max(model.classes, MOST_LABELS))
    count = min(len(subject.levels), most)
    labels = subject.labels[:count]
    nats = bounds_under_labels(
        model,
        subject.levels[:count],
        samples=samples,
        seed=settings.seed,
        most_at_once=settings.most_decoded,
        progress=lambda done, total: subject.work("bounds under every label", done, total),
    )
    given = Estimate.of(nats.gather(1, labels[:, None])[:, 0].numpy())
    free = Estimate.of(unconditional_bound(nats).numpy())
    gain = Estimate.of(label_gain(nats, labels).numpy())
    right = Estimate.of_share(int((nats.argmin(1) == labels).sum()), count)
    wide = min(len(subject.levels), 10 * most)
    passes = label_nats(model, subject.levels[:wide]).argmin(1)
    fast = Estimate.of_share(int((passes == subject.labels[:wide]).sum()), wide)
    ceiling = math.log(model.classes)
    how = f" Bounds with {samples} draws of z; labels taken as equally frequent."
    quantities = (
        Quantity(
            "bound_given_label",
            "bound, label given",
            given.value,
            "nats per image",
            GIVEN + how,
            given.error,
            count,
            "lower",
        ),
        Quantity(
            "bound_without_label",
            "bound, label summed out",
            free.value,
            "nats per image",
            FREE + how,
            free.error,
            count,
            "lower",
        ),
        Quantity(
            "label_gain",
            "the label's gain",
            gain.value,
            "nats per image",
            GAIN + how,
            gain.error,
            count,
            "",
            ((f"ln {model.classes}, the most there is to gain", ceiling),),
        ),
        Quantity(
            "bayes_accuracy",
            "Bayes classifier",
            100 * right.value,
            "%",
            BAYES + how,
            100 * right.error,
            count,
            "higher",
            (
                (f"by −ELBO at the posterior's mean, {wide:,} images", 100 * fast.value),
                ("chance", 100 / model.classes),
            ),
        ),
    )
    words = (
        f"Knowing the label takes {gain.value:.2f} ± {gain.error:.2f} nats off an image, of at most ln {model.classes} = "
        f"{ceiling:.2f}: without it the bound would be {free.value:.2f} in place of {given.value:.2f} nats ({count:,} images).",
        f"Taken as a classifier, by Bayes' rule over p(x|y), the model reads {100 * right.value:.1f} ± {100 * right.error:.1f} % "
        "of them right, though it was never trained to.",
    )
    return Section(key, title, words, quantities)


GIVEN = "The importance-weighted bound on −log p(x|y) under the true label (Burda et al. 2016, eq. 8)."
FREE = "−log of the mean over all labels of p(x|y), each by its importance-weighted bound: an upper bound on −log p(x)."
GAIN = (
    "The bound with the label summed out less the bound with the label given, log p(x|y) − log p(x). It is ln K where an image "
    "leaves no doubt of its label and the model uses it, 0 where the model ignores the label. Under a wrong label the bound is "
    "looser, so the gain comes out too high, if anything."
)
BAYES = "Share of held-out images whose label is the y of greatest p(x|y), which by Bayes' rule is the likeliest one."
