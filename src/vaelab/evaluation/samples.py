"""The samples section: generated images compared with real ones, in the features of the reference classifier.

Without at least two classes there is no classifier, and the features are label-free (`vaelab.evaluation.label_free`).

The held-out images, which neither the model nor the network of the features was trained on, are split at random into two
halves. One half is the reference. The other is the baseline: each metric is also computed for as many real images as generated
ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from vaelab.errors import DataError
from vaelab.evaluation.context import EvaluationContext
from vaelab.evaluation.fidelity import (
    KID_BLOCK,
    NEIGHBOURS,
    Manifold,
    class_variances,
    frechet_curve,
    kernel_distance,
    manifold,
)
from vaelab.evaluation.generated import affordable, generate_images
from vaelab.evaluation.label_free import described
from vaelab.evaluation.reference_classifier import ReferenceClassifier
from vaelab.evaluation.results import Bars, Estimate, Lines, Plot, Quantity, Section, Series

IMAGES, QUICK_IMAGES = 5_000, 1_000
"""Maximum number of images in each of the three sets."""

SIZES = (250, 500, 1000, 2500)
"""Set sizes at which FID is shown, besides the full size."""

LEAST_PER_CLASS = 10
"""Minimum number of images of a class in each set to measure its diversity."""

MOST_NAMED = 30


@dataclass(frozen=True)
class Part:
    """Images as rows of pixels (N, D) uint8, the class of each (0 without labels), and their features (N, F)."""

    pixels: np.ndarray
    labels: np.ndarray
    features: Tensor


@dataclass(frozen=True)
class Sets:
    """The three sets that are compared, equally many images each, with classes and features.

    Attributes
    ----------
    reference, yardstick, generated
        Real held-out images, other real held-out images, and generated images.
    """

    reference: Part
    yardstick: Part
    generated: Part


def samples_section(context: EvaluationContext) -> Section:
    """Measure FID at several sizes, KID, precision, recall, density, coverage, and diversity within a class."""
    key, title = "samples", "Samples"
    if not context.model.model.stochastic:
        reason = "An autoencoder has no prior to sample from; see the section on random points."
        return Section(key, title, left_out=reason)
    try:
        network = context.features
    except DataError as error:
        return Section(key, title, left_out=f"No features to compare images in: {error}.")
    wanted = QUICK_IMAGES if context.settings.quick else IMAGES
    size = min(len(context.held_out) // 2, affordable(wanted, context.dataset.shape))
    if size <= NEIGHBOURS:
        reason = (
            f"Half of {len(context.held_out)} {context.split} images is too few: the {NEIGHBOURS}th nearest neighbour needs "
            f"at least {2 * NEIGHBOURS + 2} images."
        )
        return Section(key, title, left_out=reason)
    sets = _sets(context, network, size)
    words, quantities, plots = _fidelity(sets, context)
    more_words, more_quantities, more_plots = _diversity(sets, context)
    about = () if network.labelled else (described(network),)
    return Section(key, title, words + about + more_words, quantities + more_quantities, plots + more_plots)


def _sets(context: EvaluationContext, network: ReferenceClassifier, size: int) -> Sets:
    held_out = context.held_out
    order = np.random.default_rng(context.settings.seed).permutation(len(held_out))
    first, second = held_out[order[:size]], held_out[order[size : 2 * size]]
    # Labels of the second half: with those of the reference itself, the sets would look more alike than they are.
    images = generate_images(context, size if second.labels is None else second.labels)
    features = []
    for done, part in enumerate((first.images, second.images, images)):
        context.work("features of images", done, 3)
        features.append(network.features(part))
    context.work("features of images", 3, 3)

    def classes(labels: np.ndarray | None, found: Tensor) -> np.ndarray:
        if labels is None or not network.labelled:
            return np.zeros(len(found), dtype=np.int64)
        return labels if context.model.conditional else network.head(found).argmax(1).numpy()

    return Sets(
        Part(first.images.reshape(size, -1), classes(first.labels, features[0]), features[0]),
        Part(second.images.reshape(size, -1), classes(second.labels, features[1]), features[1]),
        Part(images.reshape(size, -1), classes(second.labels, features[2]), features[2]),
    )


def _fidelity(sets: Sets, context: EvaluationContext) -> tuple[tuple[str, ...], tuple[Quantity, ...], tuple[Plot, ...]]:
    reference, generated, yardstick = (part.features for part in (sets.reference, sets.generated, sets.yardstick))
    size, width = reference.shape
    sizes = (*(n for n in SIZES if n < size), size)
    context.work("comparing features", 0, 2)
    curve, real_curve = (frechet_curve(reference, other, sizes) for other in (generated, yardstick))
    kid, real_kid = (kernel_distance(reference, other) for other in (generated, yardstick))
    context.work("comparing features", 1, 2)
    found, real = (manifold(reference, other) for other in (generated, yardstick))
    context.work("comparing features", 2, 2)
    where = f" In {width} {context.features.space}, {size:,} generated and {size:,} {context.split} images."
    suffix = "" if context.features.labelled else f", {context.features.space}"
    fid, real_fid = curve[-1].value, real_curve[-1].value
    error = None if math.isnan(kid.error) else kid.error
    quantities = (
        Quantity("fid", "FID" + suffix, fid, "", FID + where, None, size, "lower", _beside(real_fid)),
        Quantity("kid", "KID" + suffix, kid.value, "", KID + where, error, size, "lower", _beside(real_kid.value)),
        *_manifold_quantities(found, real, where, size, suffix),
    )
    lines = Lines(
        "fid_sizes",
        "FID as a function of the number of images",
        "images per set",
        "FID",
        (_series("generated against real", sizes, curve), _series("real against real", sizes, real_curve)),
        log_x=True,
    )
    words = [
        f"FID is {fid:.2f} with {size:,} images per set (real against real: {real_fid:.2f}); KID is {_signed(kid.value)} (real "
        f"against real: {_signed(real_kid.value)}).",
        f"Precision: {100 * found.precision:.1f} % of the generated images lie in the region of the real ones (real against "
        f"real: {100 * real.precision:.1f} %). Recall: {100 * found.recall:.1f} % of the real images lie in the region of the "
        f"generated ones (real against real: {100 * real.recall:.1f} %).",
    ]
    if len(sizes) > 1:
        words.append(
            f"FID depends on the number of images: with {sizes[0]} it is {curve[0].value:.2f}. Compare values only for the same "
            "number of images and the same features."
        )
    if size <= width:
        words.insert(
            1,
            f"{size} images per set are too few for the {width} features: FID is mostly bias here, and precision, recall, "
            "density and coverage can be high for images that look wrong, because the balls around so few images are large. It "
            f"takes about {QUICK_IMAGES:,} per set, hence {2 * QUICK_IMAGES:,} {context.split} images.",
        )
    return tuple(words), quantities, (lines,) if len(sizes) > 1 else ()


def _manifold_quantities(found: Manifold, real: Manifold, where: str, size: int, suffix: str) -> list[Quantity]:
    quantities = []
    for name, one, yard in zip(found._fields, found, real, strict=True):
        scale, unit, better = (1, "", "") if name == "density" else (100, "%", "higher")
        definition, beside = DEFINITIONS[name] + where, _beside(scale * yard)
        quantities.append(Quantity(name, name + suffix, scale * one, unit, definition, None, size, better, beside))
    return quantities


def _diversity(
    sets: Sets, context: EvaluationContext
) -> tuple[tuple[str, ...], tuple[Quantity, ...], tuple[Bars, ...]]:
    labelled, space = context.features.labelled, context.features.space
    names = context.dataset.classes if labelled else ("all images",)
    parts = (sets.reference, sets.generated, sets.yardstick)
    counts = [np.bincount(part.labels, minlength=len(names)) for part in parts]
    classes = np.flatnonzero(np.min(counts, axis=0) >= LEAST_PER_CLASS)
    classes = classes[class_variances(parts[0].features.numpy(), parts[0].labels, classes) > 0]
    if len(classes) == 0:
        if not labelled:
            return (), (), ()
        words = (f"Diversity was not measured: no class has {LEAST_PER_CLASS} images in each of the sets.",)
        return words, (), ()
    quantities, ratios = [], {}
    for key, what in (("features", f"in {space}"), ("pixels", "in pixels")):
        reference, generated, yardstick = (
            class_variances(part.features.numpy() if key == "features" else part.pixels, part.labels, classes)
            for part in parts
        )
        ratios[key] = generated / reference
        quantities.append(
            Quantity(
                f"diversity_in_{key}",
                f"diversity {'within a class' if labelled else 'of all images'}, {what}",
                float(generated.sum() / reference.sum()),
                "",
                (DIVERSITY + f" Over {len(classes)} classes, {what}.")
                if labelled
                else f"{DIVERSITY_OF_ALL} Measured {what}.",
                None,
                len(sets.generated.labels),
                "",
                _beside(float(yardstick.sum() / reference.sum())),
            )
        )
    if not labelled:
        words = (
            f"The variance of generated images is {quantities[0].value:.2f} times that of real images in {space} and "
            f"{quantities[1].value:.2f} times in pixels.",
        )
        return words, tuple(quantities), ()
    shown = np.sort(np.argsort(ratios["features"])[:MOST_NAMED])
    bars = Bars(
        "diversity_per_class",
        "Diversity per class, in classifier features"
        + (f" (the {MOST_NAMED} lowest)" if len(shown) < len(classes) else ""),
        "class",
        "variance, generated / real",
        tuple(names[classes[index]] for index in shown),
        [float(ratios["features"][index]) for index in shown],
    )
    least = int(np.argmin(ratios["features"]))
    words = [
        f"Within a class, the variance of generated images is {quantities[0].value:.2f} times that of real images in classifier "
        f"features and {quantities[1].value:.2f} times in pixels. The lowest, in features, is {names[classes[least]]} with "
        f"{ratios['features'][least]:.2f}.",
    ]
    if quantities[0].value > 1.5:
        words.append("Images between classes also raise this ratio: read it together with the precision.")
    return tuple(words), tuple(quantities), (bars,)


def _signed(value: float) -> str:
    return f"{value:.4f}".replace("-", "−")


def _beside(value: float) -> tuple[tuple[str, float], ...]:
    return (("real against real", value),)


def _series(name: str, sizes: tuple[int, ...], curve: list[Estimate]) -> Series:
    return Series(name, sizes, [point.value for point in curve], [point.error for point in curve])


FID = (
    "Squared Fréchet distance between two Gaussians fitted to generated and real images (Heusel et al. 2017), not in Inception's "
    "features: not comparable with published values. Biased upwards for few images."
)
KID = (
    "Squared maximum mean discrepancy between generated and real images with a cubic kernel (Bińkowski et al. 2018). Unbiased: "
    f"around 0, positive or negative, if they do not differ. Mean over blocks of {KID_BLOCK} images; the error is from their "
    "differences."
)
DEFINITIONS = {
    "precision": f"Share of generated images inside a ball around a real image that reaches to its {NEIGHBOURS}th nearest real "
    "neighbour (Kynkäänniemi et al. 2019): do generated images look real?",
    "recall": f"Share of real images inside a ball around a generated image that reaches to its {NEIGHBOURS}th nearest "
    "generated neighbour (Kynkäänniemi et al. 2019): does the model cover the variety of real images?",
    "density": "Mean number of balls around real images, as for precision, that contain a generated image, divided by "
    f"{NEIGHBOURS} (Naeem et al. 2020): about 1 if the sets do not differ, above 1 if generated images concentrate where "
    "real ones are dense.",
    "coverage": "Share of balls around real images, as for precision, that contain a generated image (Naeem et al. 2020): about "
    f"{100 * (1 - 2.0**-NEIGHBOURS):.0f} % if the sets do not differ.",
}
DIVERSITY = (
    "Variance within a class, generated / real, each summed over the classes: 1 if generated images vary as much as real ones "
    "of the same class, below 1 if styles are missing. For an unconditional model the class is the classifier's prediction."
)
DIVERSITY_OF_ALL = (
    "Variance of all generated images / that of real ones: 1 if they vary as much, below 1 if styles are missing."
)
