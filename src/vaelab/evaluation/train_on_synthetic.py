"""The train-on-synthetic section: accuracy on real images of a classifier trained on generated ones.

Also called the classification accuracy score (CAS, Ravuri & Vinyals 2019). It falls with wrong labels, and with styles that
the model never generates, which label agreement does not detect.
"""

from __future__ import annotations

import numpy as np

from vaelab.data.dataset import Split
from vaelab.evaluation.context import EvaluationContext
from vaelab.evaluation.generated import affordable, balanced, generate_images, shared_classes
from vaelab.evaluation.reference_classifier import ReferenceClassifier, train_classifier
from vaelab.evaluation.results import Estimate, Quantity, Section

IMAGES = 10_000
"""Maximum number of images of each kind, equally many per class; limited by the rarest class."""

STEPS = 400
"""Number of training steps of each classifier: ten epochs over `IMAGES` images."""

LEAST_PER_CLASS = 5

TRANSFER = (
    "Accuracy on real held-out images of a classifier trained on generated images only, equally many per class. It has the "
    "network and training procedure of the reference classifier (Ravuri & Vinyals 2019)."
)


def train_on_synthetic_section(context: EvaluationContext) -> Section:
    """Measure the accuracy on real images of a classifier trained on generated images, and of one trained on real images."""
    key, title = "transfer", "Train on generated, test on real"
    model, dataset = context.model, context.dataset
    if not model.conditional:
        return Section(key, title, left_out=f"This model ({model.kind}) generates no labelled images.")
    if len(dataset.shape) != 3:
        return Section(key, title, left_out="The data are rows of a table; the classifier needs images.")
    if context.settings.quick:
        return Section(key, title, left_out="Skipped in quick mode, because it trains two classifiers.")
    classes = shared_classes(context)
    labels = dataset.train.labels
    assert labels is not None
    if len(classes) < 2:
        return Section(key, title, left_out="The training images have fewer than two classes.")
    rarest = int(min((labels == label).sum() for label in classes))
    per_class = min(rarest, max(LEAST_PER_CLASS, affordable(IMAGES, dataset.shape) // len(classes)))
    if per_class < LEAST_PER_CLASS:
        reason = f"The rarest class has {rarest} training images; at least {LEAST_PER_CLASS} are needed."
        return Section(key, title, left_out=reason)
    requested = np.repeat(classes, per_class)
    images = generate_images(context, requested).reshape(
        len(requested), dataset.shape[1], dataset.shape[2], dataset.shape[0]
    )
    generated = Split(np.ascontiguousarray(np.moveaxis(images, -1, 1)), requested)
    real = dataset.train[balanced(dataset.train, classes, per_class, context.settings.seed)]
    from_generated = _accuracy(context, generated, "training on generated images")
    from_real = _accuracy(context, real, "training on real images")
    return Section(key, title, *_results(from_generated, from_real, per_class, len(classes)))


def _accuracy(context: EvaluationContext, split: Split, what: str) -> Estimate:
    """Train a classifier on `split` and return its accuracy on the held-out images, 0…1."""
    trained: ReferenceClassifier = train_classifier(
        split,
        len(context.dataset.classes),
        context.held_out,
        steps=STEPS,
        seed=context.settings.seed,
        what=what,
        work=context.work,
    )
    return Estimate.of_share(round(trained.accuracy * trained.held_out), trained.held_out)


def _results(
    from_generated: Estimate, from_real: Estimate, per_class: int, classes: int
) -> tuple[tuple[str, ...], tuple[Quantity, ...]]:
    share, error = 100 * from_generated.value, 100 * from_generated.error
    beside = (("trained on as many real images", 100 * from_real.value),)
    quantity = Quantity(
        "train_on_generated",
        "trained on generated, tested on real",
        share,
        "%",
        f"{TRANSFER} Here: {per_class:,} images of each of {classes} classes.",
        error,
        from_generated.count,
        "higher",
        beside,
    )
    words = (
        f"A classifier trained on {per_class * classes:,} generated images classifies {share:.2f} ± {error:.2f} % of "
        f"{from_generated.count:,} real images correctly; trained on as many real images, {100 * from_real.value:.2f} %.",
        f"The difference is {100 * from_real.value - share:.2f} percentage points.",
    )
    return words, (quantity,)
