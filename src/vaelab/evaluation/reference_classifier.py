"""The judge: a small convolutional classifier that reads generated images. Trained on real training images only.

No model of vaelab sees it, and it sees no generated image. Its own accuracy on real held-out images stands beside all that
it judges. The weights are cached by the fingerprint of the data.
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
"""Steps of training: `EPOCHS` passes within these bounds."""

FEATURES = 128
"""Size of the penultimate layer."""

FORMAT = 1
"""Of the cached weights: to be raised when the network or its training changes."""


@dataclass(frozen=True)
class Judge:
    """A trained classifier of images (C, H, W) into K classes.

    Attributes
    ----------
    body, head
        Images in 0…1 → features (N, 128); features → scores (N, K).
    shape
        (C, H, W).
    accuracy
        Share of real held-out images that it reads right, 0…1; NaN where there are none.
    held_out
        Their number.
    """

    body: nn.Module
    head: nn.Module
    shape: tuple[int, ...]
    accuracy: float
    held_out: int

    def features(self, images: np.ndarray) -> Float[Tensor, "n 128"]:
        """The penultimate layer for images, uint8 (N, C, H, W), (N, H, W) or (N, H, W, 3)."""
        return torch.cat([self.body(part) for part in self._parts(images)])

    def probabilities(self, images: np.ndarray) -> Float[Tensor, "n k"]:
        """Probability of each class; images as for `features`."""
        return torch.cat([self.head(self.body(part)).softmax(1) for part in self._parts(images)])

    def read(self, images: np.ndarray) -> np.ndarray:
        """The likeliest class of each image, int64 (N,); images as for `features`."""
        return self.probabilities(images).argmax(1).numpy()

    def _parts(self, images: np.ndarray) -> list[Tensor]:
        if images.shape[1:] != self.shape:
            images = images[:, None] if images.ndim == 3 else np.moveaxis(images, -1, 1)
        at_once = max(1, min(1000, 2**23 // math.prod(self.shape)))
        with torch.no_grad():
            return [part.float() / 255 for part in torch.from_numpy(np.ascontiguousarray(images)).split(at_once)]


def judge_of(dataset: Dataset, *, work: Callable[[str, int, int], None] | None = None, seed: int = 0) -> Judge:
    """The judge of a labelled data set, read from the cache or trained on its training images.

    Parameters
    ----------
    dataset
        Labelled images.
    work
        Told of the steps of training.
    seed
        Of the initial weights, the order and the augmentation. Another seed gives another judge.

    Raises
    ------
    LabelError, DataError
        If the data have no labels, fewer than two classes, or are no images.
    """
    if len(dataset.shape) != 3:
        raise DataError(f"{dataset.name}: got a table; expected images for a judge to read")
    if not dataset.labelled or len(dataset.classes) < 2:
        raise LabelError(f"{dataset.name}: got fewer than two classes; expected labelled images to train a judge on")
    if len(dataset.train) == 0:
        raise DataError(f"{dataset.name}: got no training images; expected some to train a judge on")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body, head = _network(dataset.shape, len(dataset.classes))
        whole = nn.Sequential(body, head)
        path = cache_folder() / "judges" / f"{dataset.fingerprint[:32]}-{seed}-{FORMAT}.safetensors"
        if not _restored(whole, path):
            _train(whole, dataset.train, seed, work)
            _keep(whole, path)
    return _measured(body, head, dataset.test if len(dataset.test) else dataset.validation)


def classifier_of(
    split: Split,
    classes: int,
    held_out: Split,
    *,
    steps: int | None = None,
    seed: int = 0,
    what: str = "training a classifier",
    work: Callable[[str, int, int], None] | None = None,
) -> Judge:
    """A classifier with the judge's network and training, of other images; it is not cached.

    Parameters
    ----------
    split
        Labelled images to train on.
    classes
        K, the number of labels.
    held_out
        Labelled images that its accuracy is measured on.
    steps
        Of training; by default as many as for the judge.
    seed
        As for `judge_of`.
    what, work
        What `work` is told is being done, and who is told.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body, head = _network(split.images.shape[1:], classes)
        _train(nn.Sequential(body, head), split, seed, work, steps, what)
    return _measured(body, head, held_out)


def _measured(body: nn.Sequential, head: nn.Sequential, real: Split) -> Judge:
    """The judge made of these networks, with its accuracy on `real`."""
    nn.Sequential(body, head).eval().requires_grad_(False)
    shape = real.images.shape[1:]
    judge = Judge(body, head, shape, math.nan, len(real))
    if len(real) == 0:
        return judge
    return Judge(body, head, shape, float((judge.read(real.images) == real.labels).mean()), len(real))


def _network(shape: tuple[int, ...], classes: int) -> tuple[nn.Sequential, nn.Sequential]:
    """3×3 convolutions of 16 to 64 channels, halving until at most 4 pixels a side are left; two dense layers."""
    layers: list[nn.Module] = []
    channels, width, (height, across) = shape[0], 16, shape[1:]
    while max(height, across) > 4:
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
        channels, width = width, min(2 * width, 64)
        if len(layers) > 4:  # a second convolution before all halvings but the first, which is the dear one
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            channels, width = width, min(2 * width, 64)
        layers += [nn.MaxPool2d(2, ceil_mode=True)]
        height, across = -(-height // 2), -(-across // 2)
    flat = channels * height * across
    body = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(flat, FEATURES), nn.ReLU())
    return body, nn.Sequential(nn.Dropout(0.3), nn.Linear(FEATURES, classes))


def _moved(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image turned by up to 10°, scaled by up to 10 %, sheared and shifted a little."""
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
    whole: nn.Module,
    split: Split,
    seed: int,
    work: Callable[[str, int, int], None] | None,
    steps: int | None = None,
    what: str = "training the judge",
) -> None:
    assert split.labels is not None
    images, labels = torch.from_numpy(np.ascontiguousarray(split.images)), torch.from_numpy(split.labels)
    generator = torch.Generator().manual_seed(seed + 1)
    batch = min(BATCH, len(images))
    steps = steps or min(MOST_STEPS, max(LEAST_STEPS, EPOCHS * (len(images) // batch)))
    optimiser = torch.optim.AdamW(whole.parameters(), lr=PEAK_RATE, weight_decay=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps)
    whole.train()
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        if len(order) < batch:
            order = torch.randperm(len(images), generator=generator)
        index, order = order[:batch], order[batch:]
        scores = whole(_moved(images[index].float() / 255, generator))
        optimiser.zero_grad()
        F.cross_entropy(scores, labels[index], label_smoothing=0.05).backward()
        optimiser.step()
        schedule.step()
        if work is not None and step % 10 == 9:
            work(what, step + 1, steps)


def _restored(whole: nn.Module, path: Path) -> bool:
    try:
        whole.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError):
        return False
    return True


def _keep(whole: nn.Module, path: Path) -> None:
    """Into the cache; where that cannot be written, the judge is trained again next time."""
    try:
        with atomic_write(path) as temporary:
            save_file(whole.state_dict(), temporary)
    except OutputError:
        return
