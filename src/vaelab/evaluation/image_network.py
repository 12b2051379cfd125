"""A small convolutional network that classifies images: its layers, its training and the cache of its weights.

The reference classifier learns the labels with it, the label-free features come from learning artificial changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vaelab.errors import OutputError
from vaelab.evaluation.work import Work
from vaelab.files import atomic_write

EPOCHS, BATCH, PEAK_RATE = 5, 256, 6e-3
LEAST_STEPS, MOST_STEPS = 600, 3000
"""Number of training steps: `EPOCHS` epochs, clamped to this range."""

FEATURES = 128
"""Width of the penultimate layer."""

FORMAT = 2
"""Version of the cached weights; raise it when the network or its training changes."""

Draw = Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""Returns the inputs, float (n, C, H, W) in 0…1, and the classes, int64 (n,), of the training images at some indices."""


def image_network(shape: tuple[int, ...], classes: int) -> tuple[nn.Sequential, nn.Sequential]:
    """Return body and head of the network, with new weights.

    The body is a 5×5 convolution of stride 2, 3×3 convolutions of 32 to 64 channels, halved until at most 4 pixels per side are
    left, one more of these, and a dense layer of `FEATURES`. Pooling comes before normalisation, which is then cheaper.

    Parameters
    ----------
    shape
        (C, H, W).
    classes
        K.
    """
    height, width = (-(-side // 2) for side in shape[1:])
    layers: list[nn.Module] = [nn.Conv2d(shape[0], 32, 5, stride=2, padding=2), nn.BatchNorm2d(32), nn.ReLU()]
    channels, wider = 32, 32
    while max(height, width) > 4:
        layers += [nn.Conv2d(channels, wider, 3, padding=1, bias=False), nn.MaxPool2d(2, ceil_mode=True)]
        layers += [nn.BatchNorm2d(wider), nn.ReLU()]
        channels, wider = wider, 64
        height, width = -(-height // 2), -(-width // 2)
    layers += [nn.Conv2d(channels, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    body = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * height * width, FEATURES), nn.ReLU())
    body.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - its stub lacks it
    return body, nn.Sequential(nn.Dropout(0.3), nn.Linear(FEATURES, classes))


def steps_for(count: int) -> int:
    """Return the number of training steps for so many images: `EPOCHS` epochs, within limits."""
    return min(MOST_STEPS, max(LEAST_STEPS, EPOCHS * (count // min(BATCH, count))))


def train_network(
    network: nn.Sequential,
    draw: Draw,
    count: int,
    *,
    seed: int,
    what: str,
    work: Work,
    steps: int | None = None,
) -> None:
    """Train a network: AdamW, one cycle of the learning rate, label smoothing of 0.05.

    Parameters
    ----------
    network
        Body and head; trained in place.
    draw
        The training images at given indices, each time changed at random.
    count
        Number of training images.
    seed
        Seed of the order and of `draw`; the caller seeds the weights and the dropout.
    what, work
        Name of the task for the progress callback, and the callback.
    steps
        Number of training steps. Default: `steps_for(count)`.
    """
    generator = torch.Generator().manual_seed(seed + 1)
    batch = min(BATCH, count)
    steps = steps or steps_for(count)
    network.train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=1e-2, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps)
    order = torch.empty(0, dtype=torch.int64)
    for step in range(steps):
        if step % 10 == 0:
            work(what, step, steps)
        if len(order) < batch:
            order = torch.randperm(count, generator=generator)
        index, order = order[:batch], order[batch:]
        inputs, classes = draw(index, generator)
        scores = network(inputs.contiguous(memory_format=torch.channels_last))
        optimiser.zero_grad()
        F.cross_entropy(scores, classes, label_smoothing=0.05).backward()
        optimiser.step()
        schedule.step()
    work(what, steps, steps)


def images_per_pass(shape: tuple[int, ...]) -> int:
    """Return how many images of `shape` pass through a network at a time."""
    return max(1, min(1000, 2**23 // math.prod(shape)))


def restored(network: nn.Module, path: Path) -> bool:
    """Load cached weights; return False if there are none or they do not fit."""
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError):
        return False
    return True


def keep(network: nn.Module, path: Path) -> None:
    """Cache the weights; do nothing if they cannot be written (the network is then trained again next time)."""
    try:
        with atomic_write(path) as temporary:
            save_file({name: one.contiguous() for name, one in network.state_dict().items()}, temporary)
    except (OutputError, SafetensorError):  # a folder that cannot be written, a full disk
        return
