"""Label agreement: is the class that was asked for the class that comes out, as a judge reads it?

The judge saw real training images only, and its accuracy on real held-out images stands beside: an agreement above it says
that drawn images are more typical than real ones, not that the judge was mistaken less.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from vaelab.errors import DataError, LabelError
from vaelab.evaluation.context import Subject
from vaelab.evaluation.generated import affordable, drawn, read_classes
from vaelab.evaluation.results import Bars, Estimate, Matrix, Plot, Quantity, Section, Sheet

IMAGES, QUICK_IMAGES = 10_000, 2_000
"""Images drawn, evenly over the classes."""

MOST_NAMED = 30
"""Classes of a confusion matrix and of bars; of more, the lowest so many are shown."""

WORST = 10

AGREEMENT = (
    "Share of images, drawn from z ~ N(0, I) under evenly many of every label and decoded to their mean, in which the judge, a "
    "classifier trained on real images alone, reads the label that was asked for."
)


def confusion(asked: Int[np.ndarray, " n"], read: Int[np.ndarray, " n"], classes: int) -> Int[np.ndarray, "k k"]:
    """Counts: a row for each class asked for, a column for each class read."""
    return np.bincount(asked * classes + read, minlength=classes * classes).reshape(classes, classes)


def worst(
    asked: Int[np.ndarray, " n"], probabilities: Float[np.ndarray, "n k"], count: int = WORST
) -> Int[np.ndarray, " m"]:
    """Indices of the images whose asked-for class the judge finds least probable, the worst first."""
    given = probabilities[np.arange(len(asked)), asked]
    return np.argsort(given, kind="stable")[:count].astype(np.int64)


def agreement_section(subject: Subject) -> Section:
    """Agreement overall and per class, what was read for what was asked, and the worst images."""
    key, title = "agreement", "Label agreement"
    if not subject.model.conditional:
        return Section(key, title, left_out=f"This model ({subject.model.kind}) is asked for no label.")
    try:
        judge = subject.judge
    except (LabelError, DataError) as error:
        return Section(key, title, left_out=f"There is no judge to read the images: {error}.")
    names, classes = subject.dataset.classes, read_classes(subject)
    if len(classes) == 0:
        return Section(
            key, title, left_out="The model knows no class that has training images, so no judge can read it."
        )
    wanted = QUICK_IMAGES if subject.settings.quick else IMAGES
    per_class = max(1, affordable(wanted, subject.dataset.shape) // len(classes))
    asked = np.repeat(classes, per_class)
    subject.work("drawing images of every label", 0, 1)
    images = drawn(subject, asked)
    probabilities = judge.probabilities(images).numpy()
    read = probabilities.argmax(1)
    subject.work("drawing images of every label", 1, 1)

    table = confusion(asked, read, len(names))
    shares = {int(label): Estimate.of_share(int(table[label, label]), per_class) for label in classes}
    overall = Estimate.of_share(int(np.trace(table)), len(asked))
    lowest = min(shares, key=lambda label: shares[label].value)
    own = ("the judge on real held-out images", 100 * judge.accuracy)
    quantities = (
        _percent("agreement", "label agreement", AGREEMENT, overall, own),
        _percent(
            "lowest_agreement",
            f"lowest agreement of a class ({names[lowest]})",
            f"The same for the class that agrees least, here {names[lowest]}. As the lowest of {len(classes)} it is biased down.",
            shares[lowest],
            own,
        ),
    )
    bad = worst(asked, probabilities)
    captions = tuple(
        f"asked {names[asked[i]]}: read {names[read[i]]}, {100 * probabilities[i, read[i]]:.0f} %" for i in bad
    )
    plots = _plots(names, shares, table[classes], classes)
    plots += (
        Sheet("worst", "The ten that the judge finds least like their label", (images[bad],), ("",), (captions,)),
    )
    words = [
        f"{100 * overall.value:.2f} ± {100 * overall.error:.2f} % of {len(asked):,} images are read as the label that was asked "
        f"for; the judge reads {100 * judge.accuracy:.2f} % of {judge.held_out:,} real held-out images right.",
        f"The class that agrees least is {names[lowest]}, at {100 * shares[lowest].value:.1f} %.",
    ]
    if overall.value < 1:
        off = table - np.diag(np.diag(table))
        wanted_class, seen_class = np.unravel_index(off.argmax(), off.shape)
        words.append(
            f"The most frequent mistake: asked for {names[wanted_class]}, read as {names[seen_class]}, {off.max()} times of "
            f"{per_class:,}."
        )
    if overall.value > judge.accuracy:
        words.append(
            "That it is above the judge's own accuracy means that drawn images are more typical than real ones."
        )
    if len(classes) < len(names):
        words.append(f"{len(names) - len(classes)} classes have no training images, so nobody can judge them.")
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
    return (bars, Matrix("confusion", "What was read for what was asked", "asked for", "read", rows, counts, named))


def _percent(key: str, name: str, definition: str, share: Estimate, *beside: tuple[str, float]) -> Quantity:
    return Quantity(key, name, 100 * share.value, "%", definition, 100 * share.error, share.count, "higher", beside)
