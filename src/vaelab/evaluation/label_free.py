"""Label-free features: those of a network that learns to tell which artificial change was made to a training image.

The figures of generated images need features in which images can be compared. For data without labels there is no reference
classifier, so the same network is trained on a pretext task (after Gidaris et al. 2018, who predict rotations): each training
image is turned in one of four ways and spoiled in one of five, and the network tells the 20 combinations apart. To recognise
turns it needs the shape of what is shown; the defects are those of generated images: blur, noise, and mixtures of images.

Figures in these features are not comparable with figures in the features of a classifier of labels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from vaelab.data.dataset import Dataset, Split
from vaelab.errors import DataError
from vaelab.evaluation.image_network import Draw, images_per_pass
from vaelab.evaluation.reference_classifier import ReferenceClassifier, network_for
from vaelab.evaluation.work import Work, silent

TURNS, DEFECTS = 4, 5
CHANGES = TURNS * DEFECTS
"""Number of classes of the pretext task."""

SHIFT = 2
"""Maximum shift of the training images in pixels, in each direction."""

HELD_OUT = 5_000
"""Maximum number of held-out images on which the accuracy is measured."""


def label_free_network_for(dataset: Dataset, *, work: Work = silent, seed: int = 0) -> ReferenceClassifier:
    """Return a classifier of artificial changes, from the cache or trained on the training images; labels are not used.

    Parameters
    ----------
    dataset
        Images.
    work
        Progress callback.
    seed
        As for `reference_classifier_for`.

    Raises
    ------
    DataError
        If the data are not images, or have no training images.
    """
    if len(dataset.shape) != 3:
        raise DataError(f"{dataset.name}: got a table; expected images to compare in features")
    if len(dataset.train) == 0:
        raise DataError(f"{dataset.name}: got no training images; expected some to train the features on")
    draw, what = _changed_batches(dataset.train), "training label-free features"
    body, head = network_for(dataset, "changes", CHANGES, draw, what, work=work, seed=seed)
    held_out = (dataset.test if len(dataset.test) else dataset.validation)[:HELD_OUT]
    hits, generator = 0, torch.Generator().manual_seed(seed)
    draw = _changed_batches(held_out)
    for index in torch.arange(len(held_out)).split(images_per_pass(dataset.shape)):
        inputs, changes = draw(index, generator)
        hits += int((head(body(inputs)).argmax(1) == changes).sum())
    accuracy = hits / len(held_out) if len(held_out) else math.nan
    return ReferenceClassifier(body, head, dataset.shape, accuracy, len(held_out), labelled=False)


def described(network: ReferenceClassifier) -> str:
    """Return the sentence of the report about these features."""
    return (
        "There are no labels to tell apart, so the features are those of a network trained on the same images to tell which of "
        f"{CHANGES} artificial changes was made to an image (turns, blur, noise, mixtures); it recognises "
        f"{100 * network.accuracy:.1f} % on {network.held_out:,} held-out images (chance: {100 / CHANGES:.0f} %). Figures in "
        "these label-free features are not comparable with figures in the features of a classifier of labels."
    )


def _changed_batches(split: Split) -> Draw:
    """Return the function that draws changed images with the index of their change."""
    images = torch.from_numpy(split.images)
    return lambda index, generator: _changed(images[index].float() / 255, generator)


def _changed(images: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Shift, turn and spoil images (n, C, H, W); return them with their changes, int64 (n,), `DEFECTS` · turn + defect."""
    n = len(images)
    turns = torch.randint(TURNS, (n,), generator=generator)
    defects = torch.randint(DEFECTS, (n,), generator=generator)
    shifted = _shifted(images, generator)
    inputs = shifted.clone()
    for defect, spoil in enumerate((_blurred, _noisy, _overlaid, _joined), start=1):
        rows = (defects == defect).nonzero()[:, 0]
        inputs[rows] = spoil(shifted[rows], shifted[(rows + 1) % n], generator)
    square = images.shape[2] == images.shape[3]
    for turn in range(1, TURNS):
        rows = (turns == turn).nonzero()[:, 0]
        # Images that are not square are mirrored instead of turned by 90° and 270°.
        mirrored = {1: (2,), 2: (2, 3), 3: (3,)}[turn]
        inputs[rows] = inputs[rows].rot90(turn, (2, 3)) if square else inputs[rows].flip(mirrored)
    return inputs, DEFECTS * turns + defects


def _shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Shift all images by the same few pixels, repeating those at the edge."""
    H, W = images.shape[2:]
    down, right = torch.randint(2 * SHIFT + 1, (2,), generator=generator).tolist()
    return F.pad(images, (SHIFT,) * 4, mode="replicate")[:, :, down : down + H, right : right + W]


def _uniform(images: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Return a random number per image, (n, 1, 1, 1)."""
    return low + (high - low) * torch.rand(len(images), 1, 1, 1, generator=generator)


def _blurred(images: Tensor, _: Tensor, generator: torch.Generator) -> Tensor:
    smooth = images
    for _step in range(2):
        smooth = F.avg_pool2d(smooth, 3, 1, 1, count_include_pad=False)
    return images.lerp(smooth, _uniform(images, 0.3, 1, generator))


def _noisy(images: Tensor, _: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(images.shape, generator=generator)
    return (images + _uniform(images, 0.05, 0.5, generator) * noise).clamp(0, 1)


def _overlaid(images: Tensor, others: Tensor, generator: torch.Generator) -> Tensor:
    """Mix each image with another one."""
    return images.lerp(others, _uniform(images, 0.2, 0.5, generator))


def _joined(images: Tensor, others: Tensor, generator: torch.Generator) -> Tensor:
    """Join the upper part of one image with the lower part of another, or the left with the right."""
    H, W = images.shape[2:]
    across = _uniform(images, 0, 1, generator) < 0.5
    cut = _uniform(images, 0.3, 0.7, generator)
    rows, columns = torch.arange(H).view(1, 1, H, 1) < cut * H, torch.arange(W).view(1, 1, 1, W) < cut * W
    return torch.where(torch.where(across, rows, columns), images, others)
