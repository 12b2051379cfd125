"""Outliers: how well a model tells images of another source from held-out ones of its own, by three scores side by side.

Symbols: x an image, L(x) the length of its PNG in bits. Scores are in nats per image, and higher is more outlying:
−log p(x) by the importance-weighted bound; −log p(x) − ln 2 · L(x), for what is simple is likely, whatever it shows; and the
distortion −log p(x|z) at a draw from q(z|x).

Sources: Nalisnick et al. 2019 (the raw likelihood fails); Serrà et al. 2020, eq. 1 (its correction); DeLong et al. 1988 (the
standard error of an area under the curve).
"""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image

from vaelab.data.dataset import Dataset, Split
from vaelab.evaluation.context import Subject
from vaelab.evaluation.results import Estimate, Lines, Quantity, Section, Series, Sheet
from vaelab.inference.labels import likeliest_labels
from vaelab.objectives.batch import held_out_levels
from vaelab.objectives.bounds import held_out_terms, negative_importance_bound
from vaelab.random import latent_noise

IMAGES, QUICK_IMAGES = 2_000, 500
"""Images of either source, at the most."""

SAMPLES, QUICK_SAMPLES = 100, 20
"""K of the importance-weighted bound, at the most."""

SHOWN = 10


def auroc(inside: Float[np.ndarray, " n"], outside: Float[np.ndarray, " m"]) -> Estimate:
    """Area under the ROC curve: the share of pairs in which the outlier has the higher score, ties counting half; 0…1.

    The standard error is DeLong's, that of a U-statistic: it takes each side's images as a sample. It is NaN where a side has a
    single image.
    """
    below = _below(inside, outside)  # of each outlier: the share of the others below it
    above = 1 - _below(outside, inside)
    variance = sum(np.var(part, ddof=1) / len(part) if len(part) > 1 else math.nan for part in (below, above))
    return Estimate(float(below.mean()), math.sqrt(variance), len(inside) + len(outside))


def _below(others: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Of each value, the share of the others that are below it, equal ones counting half."""
    order = np.sort(others)
    return (np.searchsorted(order, values, "left") + np.searchsorted(order, values, "right")) / (2 * len(order))


def roc_curve(
    inside: Float[np.ndarray, " n"], outside: Float[np.ndarray, " m"], points: int = 101
) -> Float[np.ndarray, "k 2"]:
    """For K shares of inliers that are alarmed about, 0…1: that share, and the share of the outliers that is found."""
    false = np.linspace(0, 1, points)
    thresholds = np.quantile(inside, 1 - false, method="higher")
    found = 1 - np.searchsorted(np.sort(outside), thresholds, "right") / len(outside)
    found[-1] = 1
    return np.stack([false, found], axis=1)


def png_bits(levels: np.ndarray) -> Float[np.ndarray, " n"]:
    """Length of each image's PNG in bits: a bit a pixel where all levels are 0 or 255, eight a channel else.

    Parameters
    ----------
    levels
        uint8 (N, C, H, W), with C = 1 or 3.
    """
    black_and_white = levels.shape[1] == 1 and bool(np.isin(levels, (0, 255)).all())
    lengths = []
    for image in levels:
        pixels = image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)
        file = io.BytesIO()
        Image.fromarray(pixels > 0 if black_and_white else np.ascontiguousarray(pixels)).save(
            file, "PNG", optimize=True
        )
        lengths.append(8 * file.tell())
    return np.array(lengths, dtype=np.float64)


def outliers_section(subject: Subject) -> Section:
    """How well images of `subject.versus` are told from held-out ones, by each score.

    A conditional model reads both under the labels that it itself finds likeliest: an outlier has no label of its own, and
    what is held out shall have no advantage.
    """
    key, title = "outliers", "Outliers"
    other = subject.versus
    if other is None:
        return Section(key, title, left_out="there are no other images to tell from these: type --versus SOURCE")
    model, settings = subject.model.model, subject.settings
    most = QUICK_IMAGES if settings.quick else IMAGES
    foreign = _unseen(other)
    own_index, other_index = (_some(len(split), most, settings.seed) for split in (subject.held_out, foreign))
    other_levels = held_out_levels(foreign.images, subject.model.likelihood)[torch.from_numpy(other_index)]
    levels = torch.cat([subject.levels[torch.from_numpy(own_index)], other_levels])
    subject.work("scoring outliers", 0, 1)
    labels = likeliest_labels(model, levels) if subject.model.conditional else None
    noise = latent_noise(len(levels), model.latent_dim, settings.seed)
    scores = {"reconstruction": held_out_terms(model, levels, labels, noise).distortion.double().numpy()}
    if model.stochastic:
        samples = min(settings.importance_samples, QUICK_SAMPLES if settings.quick else SAMPLES)
        raw = negative_importance_bound(
            model,
            levels,
            labels,
            samples=samples,
            seed=settings.seed,
            most_at_once=settings.most_decoded,
            progress=lambda done, total: subject.work("scoring outliers", done, total),
        ).numpy()
        scores = {"likelihood": raw, **scores}
        if len(model.shape) == 3:
            corrected = raw - math.log(2) * png_bits(levels.numpy())
            scores = {"likelihood": raw, "corrected": corrected, "reconstruction": scores["reconstruction"]}
    parted = {name: (score[: len(own_index)], score[len(own_index) :]) for name, score in scores.items()}
    found = {name: auroc(*sides) for name, sides in parted.items()}
    plots = (_curves(parted), *_sheets(subject, foreign, own_index, other_index, parted))
    quantities = tuple(_quantity(name, found[name], parted[name], subject.dataset, other) for name in found)
    return Section(key, title, _words(subject, other, parted, found), quantities, plots)


def _unseen(dataset: Dataset) -> Split:
    """The test images of another source, or where there are none its validation or training images: the model saw none."""
    return next(split for split in (dataset.test, dataset.validation, dataset.train) if len(split))


def _some(count: int, most: int, seed: int) -> np.ndarray:
    """Indices of at most `most` of `count` images, in their order."""
    return np.sort(np.random.default_rng(seed).permutation(count)[:most])


def _quantity(
    name: str, estimate: Estimate, sides: tuple[np.ndarray, np.ndarray], own: Dataset, other: Dataset
) -> Quantity:
    shown, definition = SCORES[name]
    threshold = np.quantile(sides[1], 0.05, method="lower")
    alarms = float((sides[0] >= threshold).mean())
    return Quantity(
        f"auroc_{name}",
        f"AUROC by {shown}",
        estimate.value,
        "",
        f"{definition} AUROC: the share of pairs of an image of {own.name} and one of {other.name} in which the latter has the "
        "higher score; 0.5 is chance, 1 is perfect. The error is DeLong's.",
        estimate.error,
        estimate.count,
        "higher",
        (("chance", 0.5), ("false alarms where 95 % of the outliers are found", alarms)),
    )


def _words(
    subject: Subject, other: Dataset, parted: dict[str, tuple[np.ndarray, np.ndarray]], found: dict[str, Estimate]
) -> tuple[str, ...]:
    each = ", ".join(
        f"{SCORES[name][0]} {estimate.value:.3f} ± {estimate.error:.3f}" for name, estimate in found.items()
    )
    words = [f"Told from {subject.dataset.name}, {other.name} has an AUROC by {each} (0.5 is chance, 1 is perfect)."]
    if "likelihood" not in found:
        words.append("An autoencoder has no likelihood: its reconstruction alone can be asked.")
    else:
        words.append(_of_likelihood(found["likelihood"], other.name, *(side.mean() for side in parted["likelihood"])))
    if subject.model.conditional:
        words.append("Both sides were read under the label that the model itself finds likeliest for each image.")
    return tuple(words)


def _of_likelihood(estimate: Estimate, name: str, own: float, foreign: float) -> str:
    """What the AUROC of the raw likelihood says, in a sentence or two."""
    beyond = 2 * estimate.error
    if estimate.value < 0.5 - beyond:
        return (
            f"The raw likelihood fails: an image of {name} surprises the model by {foreign:.1f} nats on average, one of its own "
            f"by {own:.1f}. Simple images are likely whatever they show (Nalisnick et al. 2019); the correction allows for that."
        )
    if estimate.value > 0.5 + beyond:
        return (
            "The raw likelihood tells these; it is known to fail against images that are simpler than the model's own "
            "(Nalisnick et al. 2019): do not rely on it alone."
        )
    return "The raw likelihood does not tell them apart."


def _curves(parted: dict[str, tuple[np.ndarray, np.ndarray]]) -> Lines:
    curves = {name: roc_curve(*sides) for name, sides in parted.items()}
    series = tuple(
        Series(SCORES[name][0], curve[:, 0].tolist(), curve[:, 1].tolist()) for name, curve in curves.items()
    )
    chance = Series("chance", [0.0, 1.0], [0.0, 1.0])
    return Lines("roc", "Outliers found over false alarms", "false alarms", "outliers found", (*series, chance))


def _sheets(
    subject: Subject,
    foreign: Split,
    own_index: np.ndarray,
    other_index: np.ndarray,
    parted: dict[str, tuple[np.ndarray, np.ndarray]],
) -> tuple[Sheet, ...]:
    """The outliers that pass most easily, and the model's own images that are most suspect, by the best score there is."""
    if len(subject.model.model.shape) != 3:
        return ()
    name = "corrected" if "corrected" in parted else "reconstruction"
    own, other = parted[name]
    passed, suspect = np.argsort(other)[:SHOWN], np.argsort(-own)[:SHOWN]
    rows = tuple(
        images[:, 0] if images.shape[1] == 1 else np.moveaxis(images, 1, -1)
        for images in (foreign.images[other_index[passed]], subject.held_out.images[own_index[suspect]])
    )
    captions = tuple(
        tuple(f"{value:.0f}".replace("-", "−") for value in side) for side in (other[passed], own[suspect])
    )
    names = ("outliers that pass", "own images most suspect")
    return (Sheet("outliers", f"By {SCORES[name][0]}, in nats", rows, names, captions),)


SCORES = {
    "likelihood": (
        "raw likelihood",
        "Score: the importance-weighted bound on −log p(x), known to fail (Nalisnick et al. 2019).",
    ),
    "corrected": (
        "likelihood corrected by PNG length",
        "Score: the same less ln 2 times the bits of the image's PNG (Serrà et al. 2020), of the image as the model sees it.",
    ),
    "reconstruction": ("reconstruction", "Score: the distortion −log p(x|z), one draw of z from q(z|x)."),
}
