"""The judge: a small convolutional classifier that reads generated images. Trained on real training images only.

It is no part of vaelab, no model of vaelab sees it, and it sees no generated image while it learns. Its own accuracy on
the real test images stands beside everything that it judges. The weights are kept in `runs/judges/`.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vaelab.data.dataset import Dataset

CACHE = Path(__file__).parent.parent / "runs" / "judges"
EPOCHS, BATCH, PEAK_RATE = 9, 100, 4e-3


def network(classes: int) -> nn.Sequential:
    """28×28 grey → class scores: four 3×3 convolutions (16, 32, 64, 64 channels) and one hidden layer."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Dropout(0.3), nn.Linear(576, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, classes)),
    )


def moved(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image turned by up to 10°, scaled by up to 10 %, sheared and shifted a little."""
    n = len(images)

    def uniform(most: float) -> Tensor:
        return (torch.rand(n, generator=generator) * 2 - 1) * most

    angle, scale, shear = uniform(math.pi / 18), 1 + uniform(0.1), uniform(0.15)
    turn = torch.stack(
        [
            torch.stack([scale * torch.cos(angle), -torch.sin(angle) + shear, uniform(0.1)], 1),
            torch.stack([torch.sin(angle), scale * torch.cos(angle), uniform(0.1)], 1),
        ],
        1,
    )
    grid = F.affine_grid(turn, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)


def read(judge: nn.Module, images: np.ndarray) -> np.ndarray:
    """The class that the judge reads in each image, uint8 (N, 28, 28) or (N, 1, 28, 28) → int64 (N,)."""
    judge.eval()
    pixels = torch.from_numpy(images.reshape(-1, 1, *images.shape[-2:]))
    with torch.inference_mode():
        return torch.cat([judge(part.float() / 255).argmax(1) for part in pixels.split(1000)]).numpy()


def accuracy(judge: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of the images read as labelled, 0…1."""
    return float((read(judge, images) == labels).mean())


def judge_for(dataset: Dataset) -> nn.Module:
    """The judge of a data set of 28×28 grey images, trained on its training and validation images or read from the cache."""
    path = CACHE / f"{dataset.name}-{dataset.fingerprint[:16]}.safetensors"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        judge = network(len(dataset.classes))
        if path.is_file():
            judge.load_state_dict(load_file(path))
            return judge.eval()
        _train(judge, dataset)
    CACHE.mkdir(parents=True, exist_ok=True)
    save_file(judge.state_dict(), path)
    return judge.eval()


def _train(judge: nn.Module, dataset: Dataset) -> None:
    assert dataset.train.labels is not None
    assert dataset.validation.labels is not None
    images = torch.from_numpy(np.concatenate([dataset.train.images, dataset.validation.images]))
    labels = torch.from_numpy(np.concatenate([dataset.train.labels, dataset.validation.labels]))
    generator = torch.Generator().manual_seed(1)
    optimiser = torch.optim.AdamW(judge.parameters(), lr=PEAK_RATE, weight_decay=1e-2, fused=True)
    steps = EPOCHS * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, PEAK_RATE, total_steps=steps)
    began = time.perf_counter()
    judge.train()
    for epoch in range(EPOCHS):
        order = torch.randperm(len(images), generator=generator)
        for index in order[: len(images) // BATCH * BATCH].split(BATCH):
            scores = judge(moved(images[index].float() / 255, generator))
            optimiser.zero_grad()
            F.cross_entropy(scores, labels[index], label_smoothing=0.05).backward()
            optimiser.step()
            schedule.step()
        print(
            f"  judge of {dataset.name}: epoch {epoch + 1} of {EPOCHS}, {time.perf_counter() - began:.0f} s", flush=True
        )
