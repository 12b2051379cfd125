"""The reference classifier: a small convolutional network that classifies generated images.

It is trained on real training images only, never on generated ones, and no model of vaelab is trained with it. Reports show
its accuracy on real held-out images for comparison. The weights are cached by the fingerprint of the data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vaelab.data.cache import cache_folder
from vaelab.data.dataset import Dataset, Split
from vaelab.errors import DataError, LabelError, OutputError
from vaelab.files import atomic_write

EPOCHS, BATCH, PEAK_RATE = 10, 100, 4e-3
LEAST_STEPS, MOST_STEPS = 1500, 8000
"""Number of training steps: `EPOCHS` epochs, clamped to this range."""

FEATURES = 128
"""Width of the penultimate layer."""

FORMAT = 1
"""Version of the cached weights; raise it when the network or its training changes."""


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
    """

    body: nn.Module
    head: nn.Module
    shape: tuple[int, ...]
    accuracy: float
    held_out: int

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
        at_once = max(1, min(1000, 2**23 // math.prod(self.shape)))
        with torch.no_grad():
            return [part.float() / 255 for part in torch.from_numpy(np.ascontiguousarray(images)).split(at_once)]


def reference_classifier_for(
    dataset: Dataset, *, work: Callable[[str, int, int], None] | None = None, seed: int = 0
) -> ReferenceClassifier:
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body, head = _network(dataset.shape, len(dataset.classes))
        network = nn.Sequential(body, head)
        path = cache_folder() / "judges" / f"{dataset.fingerprint[:32]}-{seed}-{FORMAT}.safetensors"
        if not _restore(network, path):
            _train(network, dataset.train, seed, work)
            _save(network, path)
    return _measured(body, head, dataset.test if len(dataset.test) else dataset.validation)


def train_classifier(
    split: Split,
    classes: int,
    held_out: Split,
    *,
    steps: int | None = None,
    seed: int = 0,
    what: str = "training a classifier",
    work: Callable[[str, int, int], None] | None = None,
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
        Number of training steps; default: as for the reference classifier.
    seed
        As for `reference_classifier_for`.
    what, work
        Name of the task for the progress callback, and the callback.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body, head = _network(split.images.shape[1:], classes)
        _train(nn.Sequential(body, head), split, seed, work, steps, what)
    return _measured(body, head, held_out)


def _measured(body: nn.Sequential, head: nn.Sequential, real: Split) -> ReferenceClassifier:
    """Return the classifier made of these networks, with its accuracy on `real`."""
    nn.Sequential(body, head).eval().requires_grad_(False)
    shape = real.images.shape[1:]
    classifier = ReferenceClassifier(body, head, shape, math.nan, len(real))
    if len(real) == 0:
        return classifier
    return ReferenceClassifier(
        body, head, shape, float((classifier.read(real.images) == real.labels).mean()), len(real)
    )


def _network(shape: tuple[int, ...], classes: int) -> tuple[nn.Sequential, nn.Sequential]:
    """3×3 convolutions of 16 to 64 channels, halved until at most 4 pixels per side are left; then two dense layers."""
    layers: list[nn.Module] = []
    channels, width, (height, across) = shape[0], 16, shape[1:]
    while max(height, across) > 4:
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        channels, width = width, min(2 * width, 64)
        if len(layers) > 4:  # a second convolution at all resolutions but the first, where it is most expensive
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels, width = width, min(2 * width, 64)
        layers += [nn.MaxPool2d(2, ceil_mode=True)]
        height, across = -(-height // 2), -(-across // 2)
    flat = channels * height * across
    body = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(flat, FEATURES), nn.ReLU())
    return body, nn.Sequential(nn.Dropout(0.3), nn.Linear(FEATURES, classes))


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


def _train(
    network: nn.Module,
    split: Split,
    seed: int,
    work: Callable[[str, int, int], None] | None,
    steps: int | None = None,
    what: str = "training the reference classifier",
) -> None:
    assert split.labels is not None
    images, labels = torch.from_numpy(np.ascontiguousarray(split.images)), torch.from_numpy(split.labels)
    generator = torch.Generator().manual_seed(seed + 1)
    batch = min(BATCH, len(images))
    steps = steps or min(MOST_STEPS, max(LEAST_STEPS, EPOCHS * (len(images) // batch)))
    optimiser = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps)
    network.train()
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(images), generator=generator)
        index, order = order[:batch], order[batch:]
        scores = network(_augmented(images[index].float() / 255, generator))
        optimiser.zero_grad()
        F.cross_entropy(scores, labels[index], label_smoothing=0.05).backward()
        optimiser.step()
        schedule.step()
        if work is not None and step % 10 == 9:
            work(what, step + 1, steps)


def _restore(network: nn.Module, path: Path) -> bool:
    """Load cached weights; return False if there are none or they do not fit."""
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError):
        return False
    return True


def _save(network: nn.Module, path: Path) -> None:
    """Cache the weights; do nothing if the folder cannot be written (the classifier is then trained again next time)."""
    try:
        with atomic_write(path) as temporary:
            save_file(network.state_dict(), temporary)
    except OutputError:
        return
