"""The random points section: images decoded from random points of the latent space.

It shows the main difference between an autoencoder and a VAE. Measured in the same way for every model, so that runs can be
compared: for points of N(0, I), and for points of the Gaussian with the mean and covariance of the codes of held-out images,
which is the most favourable Gaussian for an autoencoder.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from vaelab.errors import DataError, counted
from vaelab.evaluation.context import EvaluationContext
from vaelab.evaluation.fidelity import frechet_distance
from vaelab.evaluation.generated import affordable, model_labels
from vaelab.evaluation.label_free import described
from vaelab.evaluation.reference_classifier import ReferenceClassifier
from vaelab.evaluation.results import Estimate, Quantity, Section, Sheet
from vaelab.random import generator_for

IMAGES, QUICK_IMAGES = 2_000, 1_000
"""Number of random points, and of real images to compare with."""

SHOWN = 10


def matched_gaussian(codes: Float[np.ndarray, "n d"], normal: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d"]:
    """Transform standard normal draws to the mean and covariance of the codes, (M, d); needs at least 2 codes."""
    covariance = np.atleast_2d(np.cov(codes.astype(np.float64).T))
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    return (codes.mean(0) + normal @ root.T).astype(np.float32)


def random_points_section(context: EvaluationContext) -> Section:
    """Measure FID and classifier confidence of decoded random points, next to reconstructions and real images.

    Without labels, FID is in label-free features, and there is no confidence.
    """
    key, title = "random_points", "Random points decoded"
    try:
        network = context.features
    except DataError as error:
        return Section(key, title, left_out=f"No features to compare images in: {error}.")
    model, held_out = context.model, context.held_out
    wanted = QUICK_IMAGES if context.settings.quick else IMAGES
    size = min(len(held_out) // 2, affordable(wanted, context.dataset.shape))
    if size < 2:
        count = counted(len(held_out), f"{context.split} image")
        return Section(key, title, left_out=f"{count} cannot be split into two sets; at least 4 are needed.")
    order = np.random.default_rng(context.settings.seed).permutation(len(held_out))
    reference, other = held_out[order[:size]], held_out[order[size : 2 * size]]
    labels = None if not model.conditional or other.labels is None else model_labels(context, other.labels)
    codes = model.encode(other.images, labels).mean
    normal = _normal(size, model.model.latent_dim, context.settings.seed)
    sets = {
        "prior": model.decode(normal, labels),
        "codes": model.decode(matched_gaussian(codes, normal), labels),
        "rebuilt": model.decode(codes, labels),
        "real": other.images,
    }
    against = network.features(reference.images)
    fid, confidence = dict[str, float](), dict[str, Estimate]()
    for done, (name, images) in enumerate(sets.items()):
        context.work("random points", done, len(sets))
        fid[name] = frechet_distance(against, network.features(images))
        if network.labelled:
            confidence[name] = _confidence(network, images)
    context.work("random points", len(sets), len(sets))
    shown = np.linspace(0, size - 1, min(SHOWN, size)).astype(int)
    rows = tuple(sets[name][shown] for name in ("prior", "codes", "rebuilt"))
    sheet = Sheet("random_points", "Decoded random points", (*rows, _shown(sets["real"][shown])), ROWS)
    words, quantities = _words(context, fid, confidence, size), _quantities(network, fid, confidence, size)
    return Section(key, title, words, quantities, (sheet,))


def _confidence(classifier: ReferenceClassifier, images: np.ndarray) -> Estimate:
    return Estimate.of(classifier.probabilities(images).max(1).values.double().numpy())


def _quantities(
    network: ReferenceClassifier, fid: dict[str, float], confidence: dict[str, Estimate], size: int
) -> tuple[Quantity, ...]:
    found = []
    suffix = "" if network.labelled else f", {network.space}"
    definition = FID.format(space=network.space)
    for name, key in (("prior", "random"), ("codes", "random_codes")):
        beside = tuple((NAMES[other], fid[other]) for other in ("rebuilt", "real"))
        title = f"FID of decoded {NAMES[name]}{suffix}"
        found.append(Quantity(f"{key}_fid", title, fid[name], "", definition, None, size, "lower", beside))
        if not confidence:
            continue
        sure = confidence[name]
        beside = tuple((NAMES[other], 100 * confidence[other].value) for other in ("rebuilt", "real"))
        found.append(
            Quantity(
                f"{key}_confidence",
                f"classifier confidence for decoded {NAMES[name]}",
                100 * sure.value,
                "%",
                CONFIDENCE,
                100 * sure.error,
                sure.count,
                "higher",
                beside,
            )
        )
    return tuple(found)


def _words(
    context: EvaluationContext, fid: dict[str, float], confidence: dict[str, Estimate], size: int
) -> tuple[str, ...]:
    def figures(name: str, of: str = "") -> str:
        return f"{fid[name]:.2f}" + (f" and {of}{100 * confidence[name].value:.1f} %" if confidence else "")

    prior = figures("prior", "a mean classifier confidence of ")
    words = (
        f"Images decoded from points of N(0, I) have FID {prior}. Real images: {figures('real')}; "
        f"reconstructions: {figures('rebuilt')}.",
        f"Points of a Gaussian fitted to the codes: {figures('codes')}."
        + ("" if context.model.model.stochastic else " An autoencoder is not trained on points between its codes."),
        f"This FID is measured with {size:,} images per set, and depends on their number"
        + (": it is not that of the section on samples." if context.model.model.stochastic else "."),
    )
    return words if confidence else (*words, described(context.features))


def _normal(count: int, width: int, seed: int) -> np.ndarray:
    return torch.randn(count, width, generator=generator_for("random points", seed, 0)).numpy()


def _shown(images: np.ndarray) -> np.ndarray:
    """Convert images (N, C, H, W) to the layout of a sheet."""
    return images[:, 0] if images.shape[1] == 1 else np.moveaxis(images, 1, -1)


NAMES = {
    "prior": "points of N(0, I)",
    "codes": "points of a Gaussian fitted to the codes",
    "rebuilt": "reconstructed held-out images",
    "real": "real held-out images",
}

ROWS = ("points of N(0, I)", "Gaussian fitted to the codes", "reconstructions", "real held-out images")
"""Names of the rows of images, in the order of `NAMES`; short enough for the left margin."""

FID = (
    "FID, in {space}, of the decoded points against real held-out images; a conditional model "
    "decodes with the labels of as many real images. It depends on the number of images: compare values for equal numbers only."
)
CONFIDENCE = (
    "Mean probability of the class that the reference classifier finds most probable; low for unrecognisable images. The "
    "classifier can be confident about images of no class at all, so read it together with the FID."
)
