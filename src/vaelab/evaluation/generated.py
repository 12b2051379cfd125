"""Images drawn from a model for others to judge: how many, under which labels, and which class each stands for.

A data set and a model may count the same classes in different orders: labels here are the data set's, indices into
`dataset.classes`, as the judge counts them.
"""

from __future__ import annotations

import math

import numpy as np

from vaelab.data.dataset import Split
from vaelab.errors import LabelError
from vaelab.evaluation.context import Subject

MOST_VALUES = 2**26
"""Pixel values of images drawn at a time: 85,000 grey images of 28×28, 340 colour images of 256×256."""


def affordable(count: int, shape: tuple[int, ...]) -> int:
    """`count`, or fewer where so many images of `shape` would take too much memory."""
    return max(1, min(count, MOST_VALUES // math.prod(shape)))


def read_classes(subject: Subject) -> np.ndarray:
    """The classes that a judge can read and the model can draw, int64, rising: those with training images and a label."""
    labels = subject.dataset.train.labels
    present = np.unique(labels) if labels is not None else np.empty(0, dtype=np.int64)
    return np.array([label for label in present if _model_label(subject, int(label)) is not None], dtype=np.int64)


def drawn(subject: Subject, labels: np.ndarray | int, *, seed: int | None = None) -> np.ndarray:
    """Images decoded to their mean from z ~ N(0, I), uint8 (N, H, W[, 3]), or float32 rows of a table.

    Parameters
    ----------
    labels
        The data set's label of each image, (N,); of an unconditional model, only their number N.
    seed
        Of the latents; by default the settings' own.
    """
    seed = subject.settings.seed if seed is None else seed
    if isinstance(labels, int):
        return subject.model.sample(count=labels, seed=seed)
    if not subject.model.conditional:
        return subject.model.sample(count=len(labels), seed=seed)
    return subject.model.sample(model_labels(subject, labels), seed=seed)


def model_labels(subject: Subject, labels: np.ndarray) -> np.ndarray:
    """The data set's labels (N,) as a conditional model counts them."""
    matched = subject.model.matched_labels(labels, subject.dataset.classes)
    assert matched is not None
    return matched


def balanced(split: Split, classes: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Indices of `per_class` images of each of `classes`, chosen at random from `split`, which must have as many."""
    assert split.labels is not None
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(split.labels == label))[:per_class] for label in classes]
    return np.concatenate(chosen)


def _model_label(subject: Subject, label: int) -> int | None:
    """The model's index of the data set's label; None if it does not know the class."""
    try:
        return subject.model.label_index(subject.dataset.classes[label])
    except LabelError:
        return None
