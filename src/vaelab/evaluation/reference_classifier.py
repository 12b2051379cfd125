"""The reference classifier: a small convolutional network that classifies generated images.

It is trained on real training images only, never on generated ones, and no model of vaelab is trained with it. Reports show
its accuracy on real held-out images for comparison. The weights are cached by the fingerprint of the data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.data.cache import cache_folder
from vaelab.data.dataset import Dataset, Split
from vaelab.errors import DataError, LabelError
from vaelab.evaluation.image_network import (
    FORMAT,
    Draw,
    image_network,
    images_per_pass,
    keep,
    restored,
    train_network,
)
from vaelab.evaluation.work import Work, silent


@dataclass(frozen=True)
class ReferenceClassifier:
    """A trained classifier of images (C, H, W) into K classes.

    Attributes
    ----------
    body, head
        Images in 0…1 → features (N, 128); features → logits (N, K).
    shape
        (C, H, W).
    accuracy
        Accuracy on real held-out images, 0…1; NaN if there are none.
    held_out
        Number of those held-out images.
    labelled
        Whether the classes are the labels of the data; if not, they are artificial changes (`vaelab.evaluation.label_free`).
    """

    body: nn.Module
    head: nn.Module
    shape: tuple[int, ...]
    accuracy: float
    held_out: int
    labelled: bool = True

    @property
    def space(self) -> str:
        """Name of the feature space: "classifier features" or "label-free features"."""
        return "classifier features" if self.labelled else "label-free features"

    def features(self, images: np.ndarray) -> Float[Tensor, "n 128"]:
        """Return the penultimate layer for images, uint8 (N, C, H, W), (N, H, W) or (N, H, W, 3)."""
        return torch.cat([self.body(part) for part in self._parts(images)])

    def probabilities(self, images: np.ndarray) -> Float[Tensor, "n k"]:
        """Return the probability of each class; images as for `features`."""
        return torch.cat([self.head(self.body(part)).softmax(1) for part in self._parts(images)])

    def read(self, images: np.ndarray) -> np.ndarray:
        """Return the most probable class of each image, int64 (N,); images as for `features`."""
        return self.probabilities(images).argmax(1).numpy()

    def _parts(self, images: np.ndarray) -> list[Tensor]:
        if images.shape[1:] != self.shape:
            images = images[:, None] if images.ndim == 3 else np.moveaxis(images, -1, 1)
        with torch.no_grad():
            parts = torch.from_numpy(np.ascontiguousarray(images)).split(images_per_pass(self.shape))
            return [part.float().div_(255).contiguous(memory_format=torch.channels_last) for part in parts]


def reference_classifier_for(dataset: Dataset, *, work: Work = silent, seed: int = 0) -> ReferenceClassifier:
    """Return the reference classifier of a labelled dataset, from the cache or trained on its training images.

    Parameters
    ----------
    dataset
        Labelled images.
    work
        Progress callback.
    seed
        Seed of the initial weights, the order and the augmentation; each seed gives a different classifier.

    Raises
    ------
    LabelError, DataError
        If the data are not images, have no training images, no labels, or fewer than two classes.
    """
    if len(dataset.shape) != 3:
        raise DataError(f"{dataset.name}: got a table; expected images for the reference classifier")
    if not dataset.labelled or len(dataset.classes) < 2:
        raise LabelError(
            f"{dataset.name}: got fewer than two classes; expected labels to train the reference classifier"
        )
    if len(dataset.train) == 0:
        raise DataError(f"{dataset.name}: got no training images; expected some to train the reference classifier")
    draw, what = _augmented_batches(dataset.train), "training the reference classifier"
    body, head = network_for(dataset, "labels", len(dataset.classes), draw, what, work=work, seed=seed)
    return _measured(body, head, dataset.test if len(dataset.test) else dataset.validation)


def network_for(
    dataset: Dataset, task: str, classes: int, draw: Draw, what: str, *, work: Work, seed: int
) -> tuple[nn.Sequential, nn.Sequential]:
    """Return body and head of a network for a task on the training images, from the cache or trained, ready to be applied."""
    path = cache_folder() / "classifiers" / f"{task}-{dataset.fingerprint[:32]}-{seed}-{FORMAT}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body, head = image_network(dataset.shape, classes)
        network = nn.Sequential(body, head)
        if not restored(network, path):
            train_network(network, draw, len(dataset.train), seed=seed, what=what, work=work)
            keep(network, path)
    network.eval().requires_grad_(False)
    return body, head


def train_classifier(
    split: Split,
    classes: int,
    held_out: Split,
    *,
    steps: int,
    seed: int = 0,
    what: str = "training a classifier",
    work: Work = silent,
) -> ReferenceClassifier:
    """Train a classifier on other images, with the network and training of the reference classifier; it is not cached.

    Parameters
    ----------
    split
        Labelled images to train on.
    classes
        K, the number of labels.
    held_out
        Labelled images to measure its accuracy on.
    steps
        Number of training steps.
    seed
        As for `reference_classifier_for`.
    what, work
        Name of the task for the progress callback, and the callback.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body, head = image_network(split.images.shape[1:], classes)
        network = nn.Sequential(body, head)
        train_network(network, _augmented_batches(split), len(split), seed=seed, what=what, work=work, steps=steps)
    network.eval().requires_grad_(False)
    return _measured(body, head, held_out)


def _measured(body: nn.Sequential, head: nn.Sequential, real: Split) -> ReferenceClassifier:
    """Return the classifier made of these networks, with its accuracy on `real`."""
    classifier = ReferenceClassifier(body, head, real.images.shape[1:], math.nan, len(real))
    if len(real) == 0:
        return classifier
    return replace(classifier, accuracy=float((classifier.read(real.images) == real.labels).mean()))


def _augmented_batches(split: Split) -> Draw:
    """Return the function that draws labelled images, each rotated, scaled, sheared and shifted at random."""
    assert split.labels is not None
    images, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)
    return lambda index, generator: (_augmented(images[index].float() / 255, generator), labels[index])


def _augmented(images: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate each image by up to 10°, scale it by up to 10 %, and shear and shift it slightly."""
    n = len(images)

    def uniform(most: float) -> Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * most

    angle, scale, shear = uniform(math.pi / 18), 1 + uniform(0.1), uniform(0.15)
    rows = (
        torch.stack([scale * torch.cos(angle), -torch.sin(angle) + shear, uniform(0.1)], 1),
        torch.stack([torch.sin(angle), scale * torch.cos(angle), uniform(0.1)], 1),
    )
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False, padding_mode="border")
