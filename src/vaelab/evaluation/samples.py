"""The samples section: drawn images beside real ones, in the judge's features, each figure beside real against real.

Held-out images, which neither the model nor the judge has seen, are parted at random in two halves. One is the
reference; the other is the yardstick: what real images score that are as many as the drawn ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from vaelab.errors import DataError, LabelError
from vaelab.evaluation.context import Subject
from vaelab.evaluation.fidelity import (
    KID_BLOCK,
    NEIGHBOURS,
    Manifold,
    frechet_curve,
    kernel_distance,
    manifold,
    spread,
)
from vaelab.evaluation.generated import affordable, drawn
from vaelab.evaluation.reference_classifier import Judge
from vaelab.evaluation.results import Bars, Estimate, Lines, Quantity, Section, Series

IMAGES, QUICK_IMAGES = 5_000, 1_000
"""Images of each of the three sets at the most."""

SIZES = (250, 500, 1000, 2500)
"""Sizes at which FID is shown, below that of the sets themselves."""

LEAST_PER_CLASS = 10
"""Images of a class, in each set, for its diversity to be told."""

MOST_NAMED = 30


@dataclass(frozen=True)
class Part:
    """Images as rows of pixels (N, D) uint8, the class of each, and the judge's features (N, F)."""

    pixels: np.ndarray
    labels: np.ndarray
    features: Tensor


@dataclass(frozen=True)
class Sets:
    """The three sets that are compared: equally many images of each, uint8, with their classes and features.

    Attributes
    ----------
    reference, yardstick, generated
        Real held-out images, others of them, and drawn ones.
    """

    reference: Part
    yardstick: Part
    generated: Part


def samples_section(subject: Subject) -> Section:
    """FID at several sizes, KID, precision, recall, density, coverage, and diversity within a class."""
    key, title = "samples", "Samples"
    if not subject.model.model.stochastic:
        reason = "An autoencoder has no prior to draw from: see what its random points decode to."
        return Section(key, title, left_out=reason)
    try:
        judge = subject.judge
    except (LabelError, DataError) as error:
        return Section(key, title, left_out=f"There is no judge whose features to compare in: {error}.")
    wanted = QUICK_IMAGES if subject.settings.quick else IMAGES
    size = min(len(subject.held_out) // 2, affordable(wanted, subject.dataset.shape))
    if size <= NEIGHBOURS:
        reason = (
            f"Half of {len(subject.held_out)} {subject.split} images is too few: neighbours up to the {NEIGHBOURS}th are "
            f"needed, so at least {2 * NEIGHBOURS + 2} images."
        )
        return Section(key, title, left_out=reason)
    sets = _sets(subject, judge, size)
    words, quantities, plots = _fidelity(sets, subject)
    more_words, more_quantities, more_plots = _diversity(sets, subject.dataset.classes)
    return Section(key, title, words + more_words, quantities + more_quantities, plots + more_plots)


def _sets(subject: Subject, judge: Judge, size: int) -> Sets:
    held_out = subject.held_out
    assert held_out.labels is not None
    order = np.random.default_rng(subject.settings.seed).permutation(len(held_out))
    first, second = held_out[order[:size]], held_out[order[size : 2 * size]]
    assert first.labels is not None
    assert second.labels is not None
    images = drawn(subject, second.labels)  # not the reference's: sets of one make-up look too much alike
    features = []
    for done, part in enumerate((first.images, second.images, images)):
        subject.work("the judge's features", done, 3)
        features.append(judge.features(part))
    subject.work("the judge's features", 3, 3)

    def classes(labels: np.ndarray, found: Tensor) -> np.ndarray:
        return labels if subject.model.conditional else judge.head(found).argmax(1).numpy()

    return Sets(
        Part(first.images.reshape(size, -1), classes(first.labels, features[0]), features[0]),
        Part(second.images.reshape(size, -1), classes(second.labels, features[1]), features[1]),
        Part(images.reshape(size, -1), classes(second.labels, features[2]), features[2]),
    )


def _fidelity(sets: Sets, subject: Subject) -> tuple[tuple[str, ...], tuple[Quantity, ...], tuple[Lines, ...]]:
    reference, generated, yardstick = (part.features for part in (sets.reference, sets.generated, sets.yardstick))
    size, width = reference.shape
    sizes = (*(n for n in SIZES if n < size), size)
    subject.work("comparing features", 0, 2)
    curve, real_curve = (frechet_curve(reference, other, sizes) for other in (generated, yardstick))
    kid, real_kid = (kernel_distance(reference, other) for other in (generated, yardstick))
    subject.work("comparing features", 1, 2)
    found, real = (manifold(reference, other) for other in (generated, yardstick))
    subject.work("comparing features", 2, 2)
    where = f" In the judge's {width} features, {size:,} drawn and {size:,} {subject.split} images."
    quantities = (
        Quantity("fid", "FID", curve[-1].value, "", FID + where, None, size, "lower", _beside(real_curve[-1].value)),
        Quantity(
            "kid",
            "KID",
            kid.value,
            "",
            KID + where,
            None if math.isnan(kid.error) else kid.error,
            size,
            "lower",
            _beside(real_kid.value),
        ),
        *_manifold_quantities(found, real, where, size),
    )
    lines = Lines(
        "fid_sizes",
        "FID by the number of images: its bias",
        "images of either set",
        "FID",
        (_series("drawn against real", sizes, curve), _series("real against real", sizes, real_curve)),
        log_x=True,
    )
    words = [
        f"FID is {curve[-1].value:.2f} with {size:,} images of either kind, where real images against real ones score "
        f"{real_curve[-1].value:.2f}; KID is {kid.value:.4f} against {real_kid.value:.4f}.",
        f"{100 * found.precision:.1f} % of the drawn images lie among real ones (real: {100 * real.precision:.1f} %), and "
        f"{100 * found.recall:.1f} % of the real ones among the drawn (real: {100 * real.recall:.1f} %).",
    ]
    if len(sizes) > 1:
        words.append(
            f"FID depends on how many images it is given: with {sizes[0]} it would be {curve[0].value:.2f}. Compare figures of "
            "one size and one judge only."
        )
    if size <= width:
        words.append(f"{size} images are fewer than the {width} features: FID is mostly bias here.")
    return tuple(words), quantities, (lines,)


def _manifold_quantities(found: Manifold, real: Manifold, where: str, size: int) -> tuple[Quantity, ...]:
    percent = [
        Quantity(name, name, 100 * one, "%", DEFINITIONS[name] + where, None, size, "higher", _beside(100 * yard))
        for name, one, yard in zip(found._fields, found, real, strict=True)
        if name != "density"
    ]
    density = Quantity(
        "density", "density", found.density, "", DEFINITIONS["density"] + where, None, size, "", _beside(real.density)
    )
    return (percent[0], percent[1], density, percent[2])


def _diversity(sets: Sets, names: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[Quantity, ...], tuple[Bars, ...]]:
    parts = (sets.reference, sets.generated, sets.yardstick)
    counts = [np.bincount(part.labels, minlength=len(names)) for part in parts]
    classes = np.flatnonzero(np.min(counts, axis=0) >= LEAST_PER_CLASS)
    classes = classes[spread(parts[0].features.numpy(), parts[0].labels, classes) > 0]
    if len(classes) == 0:
        words = (f"Diversity is left out: no class has {LEAST_PER_CLASS} images in each of the sets.",)
        return words, (), ()
    quantities, ratios = [], {}
    for key, what in (("features", "in the judge's features"), ("pixels", "in pixels")):
        reference, generated, yardstick = (
            spread(part.features.numpy() if key == "features" else part.pixels, part.labels, classes) for part in parts
        )
        ratios[key] = generated / reference
        quantities.append(
            Quantity(
                f"diversity_in_{key}",
                f"diversity within a class, {what}",
                float(generated.sum() / reference.sum()),
                "",
                DIVERSITY + f" Over {len(classes)} classes, {what}.",
                None,
                len(sets.generated.labels),
                "",
                _beside(float(yardstick.sum() / reference.sum())),
            )
        )
    shown = np.sort(np.argsort(ratios["features"])[:MOST_NAMED])
    bars = Bars(
        "diversity_per_class",
        "Diversity per class, in the judge's features"
        + (f": the {MOST_NAMED} least" if len(shown) < len(classes) else ""),
        "class",
        "variance, drawn / real",
        tuple(names[classes[place]] for place in shown),
        [float(ratios["features"][place]) for place in shown],
    )
    least = int(np.argmin(ratios["features"]))
    words = [
        f"Within a class drawn images vary {quantities[0].value:.2f} times as much as real ones in the judge's features, and "
        f"{quantities[1].value:.2f} times in pixels; least {names[classes[least]]}, {ratios['features'][least]:.2f} times.",
    ]
    if quantities[0].value > 1.5:
        words.append("What lies between classes counts as variety here: read it with the precision.")
    return tuple(words), tuple(quantities), (bars,)


def _beside(value: float) -> tuple[tuple[str, float], ...]:
    return (("real against real, as many", value),)


def _series(name: str, sizes: tuple[int, ...], curve: list[Estimate]) -> Series:
    return Series(name, sizes, [point.value for point in curve], [point.error for point in curve])


FID = (
    "The squared Fréchet distance of two Gaussians with the moments of drawn and of real images (Heusel et al. 2017, but in the "
    "judge's features, so that it compares with no published figure). It is biased up where images are few."
)
KID = (
    "The squared maximum mean discrepancy of drawn and real images under a cubic kernel (Bińkowski et al. 2018), without bias: "
    f"about 0, of either sign, for equals. The mean over blocks of {KID_BLOCK} images, the error from their differences."
)
DEFINITIONS = {
    "precision": f"Share of drawn images that lie no further from a real one than its {NEIGHBOURS}th real neighbour does "
    "(Kynkäänniemi et al. 2019): are they like real ones?",
    "recall": f"Share of real images that lie no further from a drawn one than its {NEIGHBOURS}th drawn neighbour does "
    "(Kynkäänniemi et al. 2019): is all that is real drawn at times?",
    "density": f"In how many of the balls round real images a drawn one lies, divided by {NEIGHBOURS} (Naeem et al. 2020): "
    "about 1 for equals, and above where drawn images keep to where real ones are dense.",
    "coverage": f"Share of the balls round real images, each up to its {NEIGHBOURS}th neighbour, that hold a drawn image (Naeem "
    f"et al. 2020): about {100 * (1 - 2.0**-NEIGHBOURS):.0f} % for equals.",
}
DIVERSITY = (
    "Variance within a class, drawn / real, each summed over the classes: 1 where drawn images vary as much as real ones of the "
    "same class, less where styles are missing. For an unconditional model the class is what the judge reads."
)
