"""What random points of the latent space decode to: the first difference of an autoencoder and a VAE, as figures.

Measured alike for every model, so that runs can be laid side by side: points of N(0, I), and points of the Gaussian that has
the mean and covariance of the codes of held-out images, which is the kindest that an autoencoder can be asked for.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from vaelab.errors import DataError, LabelError
from vaelab.evaluation.context import Subject
from vaelab.evaluation.fidelity import frechet_distance
from vaelab.evaluation.generated import affordable, model_labels
from vaelab.evaluation.reference_classifier import Judge
from vaelab.evaluation.results import Estimate, Quantity, Section, Sheet
from vaelab.random import generator_for

IMAGES, QUICK_IMAGES = 2_000, 1_000
"""Random points, and real images to compare what they decode to with."""

SHOWN = 10


def matched_gaussian(codes: Float[np.ndarray, "n d"], normal: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "m d"]:
    """Standard normal draws moved to the mean and covariance of the codes, (M, d); at least 2 codes."""
    covariance = np.atleast_2d(np.cov(codes.astype(np.float64).T))
    values, vectors = np.linalg.eigh(covariance)
    root = vectors * np.sqrt(np.maximum(values, 0))
    return (codes.mean(0) + normal @ root.T).astype(np.float32)


def random_points_section(subject: Subject) -> Section:
    """FID and the judge's confidence of what random points decode to, beside reconstructions and real images."""
    key, title = "random_points", "Random points decoded"
    try:
        judge = subject.judge
    except (LabelError, DataError) as error:
        return Section(key, title, left_out=f"There is no judge to look at the images: {error}.")
    model, held_out = subject.model, subject.held_out
    assert held_out.labels is not None
    wanted = QUICK_IMAGES if subject.settings.quick else IMAGES
    size = min(len(held_out) // 2, affordable(wanted, subject.dataset.shape))
    if size < 2:
        return Section(
            key, title, left_out=f"{len(held_out)} {subject.split} images are too few: at least 4 are needed."
        )
    order = np.random.default_rng(subject.settings.seed).permutation(len(held_out))
    reference, other = held_out[order[:size]], held_out[order[size : 2 * size]]
    assert other.labels is not None
    labels = model_labels(subject, other.labels) if model.conditional else None
    codes = model.encode(other.images, labels).mean
    normal = _normal(size, model.model.latent_dim, subject.settings.seed)
    sets = {
        "prior": model.decode(normal, labels),
        "codes": model.decode(matched_gaussian(codes, normal), labels),
        "rebuilt": model.decode(codes, labels),
        "real": other.images,
    }
    against = judge.features(reference.images)
    fid, confidence = {}, {}
    for done, (name, images) in enumerate(sets.items()):
        subject.work("random points", done, len(sets))
        fid[name] = frechet_distance(against, judge.features(images))
        confidence[name] = _confidence(judge, images)
    subject.work("random points", len(sets), len(sets))
    shown = np.linspace(0, size - 1, min(SHOWN, size)).astype(int)
    rows = tuple(sets[name][shown] for name in ("prior", "codes", "rebuilt"))
    sheet = Sheet(
        "random_points", "What random points decode to", (*rows, _shown(sets["real"][shown])), tuple(NAMES.values())
    )
    return Section(key, title, _words(subject, fid, confidence), _quantities(fid, confidence, size), (sheet,))


def _confidence(judge: Judge, images: np.ndarray) -> Estimate:
    return Estimate.of(judge.probabilities(images).max(1).values.double().numpy())


def _quantities(fid: dict[str, float], confidence: dict[str, Estimate], size: int) -> tuple[Quantity, ...]:
    found = []
    for name, key in (("prior", "random"), ("codes", "random_codes")):
        sure = confidence[name]
        fid_beside = tuple((NAMES[other], fid[other]) for other in ("rebuilt", "real"))
        beside = tuple((NAMES[other], 100 * confidence[other].value) for other in ("rebuilt", "real"))
        found += [
            Quantity(
                f"{key}_fid", f"FID of {NAMES[name]}, decoded", fid[name], "", FID, None, size, "lower", fid_beside
            ),
            Quantity(
                f"{key}_confidence",
                f"the judge's confidence in {NAMES[name]}, decoded",
                100 * sure.value,
                "%",
                CONFIDENCE,
                100 * sure.error,
                sure.count,
                "higher",
                beside,
            ),
        ]
    return tuple(found)


def _words(subject: Subject, fid: dict[str, float], confidence: dict[str, Estimate]) -> tuple[str, ...]:
    sure = {name: 100 * one.value for name, one in confidence.items()}
    return (
        f"Points of N(0, I) decode to images of FID {fid['prior']:.2f}, in which the judge is {sure['prior']:.1f} % sure "
        f"of a class on average; real images score {fid['real']:.2f} and {sure['real']:.1f} %, rebuilt ones "
        f"{fid['rebuilt']:.2f} and {sure['rebuilt']:.1f} %.",
        f"Points of a Gaussian fitted to the codes give {fid['codes']:.2f} and {sure['codes']:.1f} %."
        + ("" if subject.model.model.stochastic else " Nothing has taught an autoencoder what lies between its codes."),
    )


def _normal(count: int, width: int, seed: int) -> np.ndarray:
    return torch.randn(count, width, generator=generator_for("random points", seed, 0)).numpy()


def _shown(images: np.ndarray) -> np.ndarray:
    """Images (N, C, H, W) as a sheet takes them."""
    return images[:, 0] if images.shape[1] == 1 else np.moveaxis(images, 1, -1)


NAMES = {
    "prior": "points of N(0, I)",
    "codes": "points of the codes' Gaussian",
    "rebuilt": "held-out images rebuilt",
    "real": "held-out images",
}

FID = (
    "FID, in the judge's features, of what such points decode to against real held-out images (for a conditional model, under "
    "the labels of as many real images). It depends on the number of images: compare figures of one size only."
)
CONFIDENCE = (
    "Mean over images of the probability that the judge gives the class it finds likeliest: low where there is nothing to be "
    "recognised. A judge may be sure of what is no digit, so read it with the FID."
)
