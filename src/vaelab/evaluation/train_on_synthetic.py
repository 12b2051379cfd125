"""Train on generated, test on real: what drawn images teach a classifier, beside as many real ones.

Ravuri & Vinyals 2019 call the accuracy the classification accuracy score (CAS). It falls with wrong labels and with styles
that the model never draws, which agreement alone does not see.
"""

from __future__ import annotations

import numpy as np

from vaelab.data.dataset import Split
from vaelab.evaluation.context import Subject
from vaelab.evaluation.generated import affordable, balanced, drawn, read_classes
from vaelab.evaluation.reference_classifier import Judge, classifier_of
from vaelab.evaluation.results import Estimate, Quantity, Section

IMAGES = 10_000
"""Images of either kind, evenly over the classes; fewer where the rarest class has fewer."""

STEPS = 1_000
"""Of training, for either: the judge's ten passes over so many images."""

LEAST_PER_CLASS = 5

TRANSFER = (
    "Accuracy on real held-out images of a classifier that was trained on drawn images alone, equally many of each class, with "
    "the judge's network and training (Ravuri & Vinyals 2019)."
)


def transfer_section(subject: Subject) -> Section:
    """Accuracy on real images of a classifier trained on drawn ones, beside one trained on as many real ones."""
    key, title = "transfer", "Train on generated, test on real"
    model, dataset = subject.model, subject.dataset
    if not model.conditional:
        return Section(key, title, left_out=f"This model ({model.kind}) draws no labelled images to learn from.")
    if len(dataset.shape) != 3:
        return Section(key, title, left_out="These are rows of a table; the classifier reads images.")
    if subject.settings.quick:
        return Section(key, title, left_out="It trains two classifiers, which a quick look has no time for.")
    classes = read_classes(subject)
    labels = dataset.train.labels
    assert labels is not None
    if len(classes) < 2:
        return Section(key, title, left_out="The training images are of fewer than two classes.")
    rarest = int(min((labels == label).sum() for label in classes))
    per_class = min(rarest, max(LEAST_PER_CLASS, affordable(IMAGES, dataset.shape) // len(classes)))
    if per_class < LEAST_PER_CLASS:
        reason = f"The rarest class has {rarest} training images; at least {LEAST_PER_CLASS} are needed."
        return Section(key, title, left_out=reason)
    asked = np.repeat(classes, per_class)
    images = drawn(subject, asked).reshape(len(asked), dataset.shape[1], dataset.shape[2], dataset.shape[0])
    generated = Split(np.ascontiguousarray(np.moveaxis(images, -1, 1)), asked)
    real = dataset.train[balanced(dataset.train, classes, per_class, subject.settings.seed)]
    taught = _taught(subject, generated, "training on generated images")
    yardstick = _taught(subject, real, "training on real images")
    return Section(key, title, *_said(taught, yardstick, per_class, len(classes)))


def _taught(subject: Subject, split: Split, what: str) -> Estimate:
    found: Judge = classifier_of(
        split,
        len(subject.dataset.classes),
        subject.held_out,
        steps=STEPS,
        seed=subject.settings.seed,
        what=what,
        work=subject.work,
    )
    return Estimate.of_share(round(found.accuracy * found.held_out), found.held_out)


def _said(
    taught: Estimate, yardstick: Estimate, per_class: int, classes: int
) -> tuple[tuple[str, ...], tuple[Quantity, ...]]:
    share, error = 100 * taught.value, 100 * taught.error
    beside = (("trained on as many real images", 100 * yardstick.value),)
    quantity = Quantity(
        "train_on_generated",
        "trained on generated, tested on real",
        share,
        "%",
        TRANSFER + f" Here {per_class:,} images of each of {classes} classes.",
        error,
        taught.count,
        "higher",
        beside,
    )
    words = (
        f"A classifier that saw {per_class * classes:,} drawn images and no real one reads {share:.2f} ± {error:.2f} % of "
        f"{taught.count:,} real images right; taught by as many real ones it reads {100 * yardstick.value:.2f} %.",
        f"What the drawn images lack costs {100 * yardstick.value - share:.2f} points.",
    )
    return words, (quantity,)
