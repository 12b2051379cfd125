"""What a diagnosis is made from: figures of a trained model on training and held-out images, and of the data.

Symbols: x an image, z its latent, y its label. Figures are in nats per image and use one draw of z.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.data.dataset import JUDGED, Dataset, Split
from vaelab.evaluation.leakage import FOLDS, label_entropy, probe
from vaelab.evaluation.memorization import nearest
from vaelab.evaluation.no_latents import nats_without_latents
from vaelab.evaluation.work import Work, silent
from vaelab.inference.labels import label_nats
from vaelab.inference.trained import TrainedModel
from vaelab.objectives.batch import held_out_levels
from vaelab.objectives.bounds import Infer, map_held_out
from vaelab.objectives.elbo import terms_of
from vaelab.random import generator_for, latent_noise
from vaelab.runs import Averages

IMAGES = 1_000
"""Maximum number of training images, and of held-out images, that the model is measured on."""

MOST_VALUES = 2**24
"""Maximum number of pixel values of these, and of training images in which copies are searched."""

MOST_LABELS, LABEL_IMAGES = 10, 300
"""Number of labels that are compared, and of images under each."""

COPY = 0.1
"""Distance to the nearest training image, relative to the deviation of the data, below which an image is a copy of it."""


@dataclass(frozen=True)
class Symptoms:
    """Measured figures of a model and of its data; None where a figure does not apply or cannot be measured.

    Attributes
    ----------
    train, held_out
        Distortion and rate of training images and of held-out images under the saved weights.
    without_latents
        Nats of the held-out images under a constant decoder output.
    rates
        Rate of each latent dimension on held-out images, (d,).
    explained
        Share of the variance of held-out images that their reconstructions explain, at most 1.
    label_gain
        Reduction of −ELBO by the true label against equally likely labels, as a share of its maximum, ln K.
    label_in_latent
        Information of z about the label found by a linear probe, as a share of the entropy of the label.
    copies
        Share of held-out images with a copy among the training images, 0…1.
    constant
        Whether all training images are the same.
    counts
        Training images of each class.
    gap_error
        Standard error of the difference in nats between held-out and training images.
    curve
        Validation figures of the training: pairs of step and distortion + β · rate; empty if they are not known.
    """

    train: Averages
    held_out: Averages
    without_latents: float
    rates: np.ndarray
    explained: float
    label_gain: float | None
    label_in_latent: float | None
    copies: float
    constant: bool
    counts: np.ndarray
    gap_error: float
    curve: tuple[tuple[int, float], ...] = ()


def measure(model: TrainedModel, dataset: Dataset, held_out: Split, work: Work = silent) -> Symptoms:
    """Measure the symptoms of a model.

    Parameters
    ----------
    model
        The trained model.
    dataset
        The data that it was trained on, whose labels and shape are those of the model.
    held_out
        Validation or test data of `dataset`, at least one.
    """
    task = "diagnosing"
    train, held_out = (_some(split, name) for split, name in ((dataset.train, "train"), (held_out, "held out")))
    work(task, 0, 4)
    train_figures = _figures(model, dataset, train)
    figures = _figures(model, dataset, held_out)
    work(task, 1, 4)
    reference, explained = nats_without_latents(model.model, dataset.train, held_out.images), None
    explained = _explained(dataset.train, held_out, figures.mean)
    work(task, 2, 4)
    gain, information = _label_gain(model, dataset, held_out), _label_in_latent(held_out, figures.latent, model)
    work(task, 3, 4)
    copies, constant = _copies(dataset.train, held_out)
    work(task, 4, 4)
    labels, classes = dataset.train.labels, len(dataset.classes)
    counts = np.zeros(0, dtype=np.int64) if labels is None else np.bincount(labels, minlength=classes)
    return Symptoms(
        train_figures.averages(),
        figures.averages(),
        reference,
        figures.rate.mean(0),
        explained,
        gain,
        information,
        copies,
        constant,
        counts,
        math.hypot(train_figures.error(), figures.error()),
    )


@dataclass(frozen=True)
class _Figures:
    """Distortion (N,), rate (N, d), latent (N, d) and decoder mean (N, *shape) of each image."""

    distortion: np.ndarray
    rate: np.ndarray
    latent: np.ndarray
    mean: np.ndarray

    def error(self) -> float:
        """Return the standard error of the mean nats; infinite for one image."""
        nats = self.distortion + self.rate.sum(1)
        return float(nats.std(ddof=1)) / math.sqrt(len(nats)) if len(nats) > 1 else math.inf

    def averages(self) -> Averages:
        return Averages(float(self.distortion.mean()), float(self.rate.sum(1).mean()))


def _some(split: Split, name: str) -> Split:
    """Return a random choice of at most `IMAGES` images, in order."""
    most = max(1, min(IMAGES, MOST_VALUES // math.prod(split.images.shape[1:])))
    if len(split) <= most:
        return split
    chosen = torch.randperm(len(split), generator=generator_for(name, 0, 0))[:most].sort().values
    return split[chosen.numpy()]


def _labels(model: TrainedModel, dataset: Dataset, split: Split) -> Tensor | None:
    matched = model.matched_labels(split.labels, dataset.classes)
    return None if matched is None else torch.from_numpy(matched)


def _figures(model: TrainedModel, dataset: Dataset, split: Split) -> _Figures:
    levels = held_out_levels(split.images, model.likelihood)
    noise = latent_noise(len(levels), model.model.latent_dim, 0)

    def figures(part: slice, x: Tensor, infer: Infer) -> list[np.ndarray]:
        inference = infer(noise[part])
        terms = terms_of(inference, x)
        found = (terms.distortion.double(), terms.rate.double(), inference.latent, inference.likelihood.mean())
        return [values.numpy() for values in found]

    parts = map_held_out(model.model, levels, _labels(model, dataset, split), figures)
    return _Figures(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _explained(train: Split, held_out: Split, means: np.ndarray) -> float:
    """Return 1 − Σ(x − decoder mean)² / Σ(x − mean of the training data)², with the columns of a table scaled to variance 1."""
    x, some = _real(held_out.images), _real(_some(train, "train").images)
    scale = some.std(0) if x.ndim == 2 else np.float64(1)
    scale = np.where(scale > 0, scale, 1)
    total = np.square((x - some.mean(0)) / scale).mean()
    return 1 - float(np.square((x - means) / scale).mean() / total) if total > 1e-9 else 1.0


def _real(images: np.ndarray) -> np.ndarray:
    """Return images in 0…1, or rows of a table, as float64."""
    return images / 255.0 if images.dtype == np.uint8 else images.astype(np.float64)


def _label_gain(model: TrainedModel, dataset: Dataset, held_out: Split) -> float | None:
    """Compare the true label of images of the most frequent classes with the labels of the others of these classes."""
    if not model.conditional or held_out.labels is None:
        return None
    counts = np.bincount(held_out.labels, minlength=len(dataset.classes))
    classes = np.sort(np.argsort(-counts, kind="stable")[:MOST_LABELS])
    classes = classes[counts[classes] > 0]
    if len(classes) < 2:
        return None
    used = np.flatnonzero(np.isin(held_out.labels, classes))
    used = used[:: -(-len(used) // LABEL_IMAGES)]  # evenly: they may be sorted by class
    under = model.matched_labels(classes, dataset.classes)
    assert under is not None
    levels = held_out_levels(held_out.images, model.likelihood)[torch.from_numpy(used)]
    nats = label_nats(model.model, levels, under.tolist())
    true = torch.from_numpy(np.searchsorted(classes, held_out.labels[used]))
    return _gain_share(nats, true)


def _gain_share(nats: Float[Tensor, "n k"], true: Tensor) -> float:
    """Return the mean over images of log p(x|y) − log 1/K Σ p(x|y'), in units of its maximum ln K; at most 1."""
    gain = torch.log_softmax(-nats.double(), 1).gather(1, true[:, None]).mean().item() / math.log(nats.shape[1])
    return 1 + gain


def _label_in_latent(held_out: Split, latents: np.ndarray, model: TrainedModel) -> float | None:
    labels = held_out.labels
    if not model.conditional or labels is None:
        return None
    counts = np.bincount(labels)
    used = np.isin(labels, np.flatnonzero(counts >= FOLDS))
    if len(np.unique(labels[used])) < 2 or not np.isfinite(latents).all():
        return None
    found = probe(latents[used].astype(np.float64), labels[used], dense=False)
    return found.information.value / label_entropy(labels[used])


def _copies(train: Split, held_out: Split) -> tuple[float, bool]:
    """Return the share of held-out images that are copies of a training image, and whether all training images are the same."""
    flat = train.images.reshape(len(train), -1)
    most = max(1, MOST_VALUES // flat.shape[1])
    among = flat if len(flat) <= most else flat[:: -(-len(flat) // most)]
    others = held_out.images[:: -(-len(held_out) // LABEL_IMAGES)].reshape(-1, flat.shape[1])
    real = _real(among[:: max(1, len(among) // JUDGED)])
    if len(real) > 1 and (real == real[0]).all():
        return 0.0, True
    deviation = real.std(0)
    if train.images.ndim == 2:
        scale = np.where(deviation > 0, deviation, 1)
        among, others, deviation = among / scale, others / scale, np.ones_like(deviation)
    distance = nearest(others, among).distance
    return float((distance < COPY * math.sqrt(np.square(deviation).sum())).mean()), False
