"""The agreement section: whether generated images show the requested class, according to the reference classifier.

The classifier is trained on real training images only. Its accuracy on real held-out images is shown for comparison: an
agreement above it means that generated images are more typical of their class than real ones, not that they are better.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from vaelab.errors import DataError, LabelError
from vaelab.evaluation.context import EvaluationContext
from vaelab.evaluation.generated import affordable, generate_images, shared_classes
from vaelab.evaluation.results import Bars, Estimate, Matrix, Plot, Quantity, Section, Sheet

IMAGES, QUICK_IMAGES = 10_000, 2_000
"""Number of generated images, equally many per class."""

MOST_NAMED = 30
"""Maximum number of classes in the confusion matrix and the bars; beyond it only the classes of lowest agreement are shown."""

WORST = 10

AGREEMENT = (
    "Share of generated images that the reference classifier assigns to the requested label. The classifier is trained on real "
    "images only. The images are decoded (decoder's mean) from z ~ N(0, I), equally many per label."
)


def confusion(asked: Int[np.ndarray, " n"], read: Int[np.ndarray, " n"], classes: int) -> Int[np.ndarray, "k k"]:
    """Return the confusion matrix: a row per requested class, a column per predicted class."""
    return np.bincount(asked * classes + read, minlength=classes * classes).reshape(classes, classes)


def worst(
    asked: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n k"], count: int = WORST
) -> Int[np.ndarray, " m"]:
    """Return the indices of the images whose requested class has the lowest probability, lowest first."""
    requested = probabilities[np.arange(len(asked)), asked]
    return np.argsort(requested, kind="stable")[:count].astype(np.int64)


def agreement_section(context: EvaluationContext) -> Section:
    """Measure agreement overall and per class, the confusion matrix, and the worst images."""
    key, title = "agreement", "Label agreement"
    if not context.model.conditional:
        return Section(key, title, left_out=f"This model ({context.model.kind}) takes no labels.")
    try:
        classifier = context.classifier
    except (LabelError, DataError) as error:
        return Section(key, title, left_out=f"No reference classifier: {error}.")
    names, classes = context.dataset.classes, shared_classes(context)
    if len(classes) == 0:
        return Section(
            key, title, left_out="None of the model's classes has training images for the reference classifier."
        )
    wanted = QUICK_IMAGES if context.settings.quick else IMAGES
    per_class = max(1, affordable(wanted, context.dataset.shape) // len(classes))
    asked = np.repeat(classes, per_class)
    context.work("generating images of every label", 0, 1)
    images = generate_images(context, asked)
    probabilities = classifier.probabilities(images).numpy()
    predicted = probabilities.argmax(1)
    context.work("generating images of every label", 1, 1)

    table = confusion(asked, predicted, len(names))
    shares = {int(label): Estimate.of_share(int(table[label, label]), per_class) for label in classes}
    overall = Estimate.of_share(int(np.trace(table)), len(asked))
    lowest = min(shares, key=lambda label: shares[label].value)
    real = ("real held-out images", 100 * classifier.accuracy)
    quantities = (
        _percent("agreement", "label agreement", AGREEMENT, overall, real),
        _percent(
            "lowest_agreement",
            f"lowest agreement of a class ({names[lowest]})",
            f"Label agreement of the class with the lowest agreement, here {names[lowest]}. As the minimum over {len(classes)} "
            "classes it is biased downwards.",
            shares[lowest],
            real,
        ),
    )
    bad = worst(asked, probabilities)
    captions = tuple(
        f"requested {names[asked[i]]}: predicted {names[predicted[i]]}, {100 * probabilities[i, predicted[i]]:.0f} %"
        for i in bad
    )
    plots = _plots(names, shares, table[classes], classes)
    plots += (Sheet("worst", "The ten images least like their requested label", (images[bad],), ("",), (captions,)),)
    words = [
        f"The reference classifier assigns {100 * overall.value:.2f} ± {100 * overall.error:.2f} % of {len(asked):,} generated "
        f"images to the requested label; its accuracy on {classifier.held_out:,} real held-out images is "
        f"{100 * classifier.accuracy:.2f} %.",
        f"The class with the lowest agreement is {names[lowest]}, at {100 * shares[lowest].value:.1f} %.",
    ]
    if overall.value < 1:
        off = table - np.diag(np.diag(table))
        requested_class, predicted_class = np.unravel_index(off.argmax(), off.shape)
        words.append(
            f"The most frequent error: {names[requested_class]} requested, {names[predicted_class]} predicted, {off.max()} of "
            f"{per_class:,} times."
        )
    if overall.value > classifier.accuracy:
        words.append(
            "Agreement above the classifier's accuracy means that generated images are more typical of their class than real "
            "ones."
        )
    if len(classes) < len(names):
        words.append(
            f"Not measured: {len(names) - len(classes)} of {len(names)} classes, which have no training images."
        )
    return Section(key, title, tuple(words), quantities, plots)


def _plots(
    names: tuple[str, ...], shares: dict[int, Estimate], table: np.ndarray, classes: np.ndarray
) -> tuple[Plot, ...]:
    shown = sorted(sorted(shares, key=lambda label: shares[label].value)[:MOST_NAMED])
    title = "Agreement per class" if len(shown) == len(shares) else f"Agreement of the {MOST_NAMED} lowest classes"
    values = [100 * shares[label].value for label in shown]
    bars = Bars("agreement_per_class", title, "class", "%", tuple(names[label] for label in shown), values)
    if len(classes) > MOST_NAMED:
        return (bars,)
    rows = tuple(names[label] for label in classes)
    columns = np.flatnonzero(table.any(0) | np.isin(np.arange(len(names)), classes))
    counts = table[:, columns]
    named = tuple(names[label] for label in columns)
    title = "Predicted label for each requested label"
    return (bars, Matrix("confusion", title, "requested", "predicted", rows, counts, named))


def _percent(key: str, name: str, definition: str, share: Estimate, *beside: tuple[str, float]) -> Quantity:
    return Quantity(key, name, 100 * share.value, "%", definition, 100 * share.error, share.count, "higher", beside)
