"""The textbook training loop of the public PyTorch example (pytorch/examples, vae/main.py).

A Dataset converts each sample to a PIL image and then to a tensor (as torchvision's MNIST and ToTensor do), a DataLoader
stacks them, an eager step minimises BCE plus KL with Adam, `.item()` is called on the loss of every step, and the test set is
evaluated after each epoch in the same way. There is no binarisation, clipping, weight average or schedule.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from vaelab.data.dataset import Split
from vaelab.models.base import Model


class Images(Dataset[tuple[Tensor, int]]):
    """Images as float tensors (1, 28, 28) in [0, 1], converted through PIL one at a time, with labels."""

    def __init__(self, split: Split) -> None:
        assert split.labels is not None
        self.images, self.labels = torch.from_numpy(split.images[:, 0]), torch.from_numpy(split.labels)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.images[index].numpy())
        levels = torch.from_numpy(np.array(picture, np.uint8, copy=True))
        levels = levels.view(picture.size[1], picture.size[0], 1).permute(2, 0, 1).contiguous()
        return levels.to(dtype=torch.get_default_dtype()).div(255), int(self.labels[index])


class TextbookVAE(nn.Module):
    """784-400-20-400-784 with ReLU, as in the tutorials."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.mean, self.log_variance = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.up, self.out = nn.Linear(20, 400), nn.Linear(400, 784)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return pixel probabilities, mean and log-variance for images (batch, 1, 28, 28)."""
        h = F.relu(self.hidden(x.view(-1, 784)))
        mean, log_variance = self.mean(h), self.log_variance(h)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return torch.sigmoid(self.out(F.relu(self.up(z)))), mean, log_variance


class SameNetworks(nn.Module):
    """The networks of a vaelab model with the interface of the loop."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return pixel probabilities, mean and log-variance for images (batch, 1, 28, 28)."""
        posterior = self.model.posterior(x)
        mean, log_variance = posterior.mean, posterior.log_variance
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return self.model.decode(z).mean(), mean, log_variance


class Epoch(NamedTuple):
    """Training images, and seconds of training and of the evaluation after it."""

    images: int
    training: float
    evaluation: float


class TextbookLoop:
    """Training of a model by the textbook loop."""

    def __init__(self, model: nn.Module, training: Split, held_out: Split, batch: int) -> None:
        self.model = model
        self.loader, self.held_out = (
            DataLoader(Images(split), batch_size=batch, shuffle=True) for split in (training, held_out)
        )
        self.optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

    def epoch(self) -> Epoch:
        """Train on one pass over the training images, then evaluate the held-out images."""
        began = time.perf_counter()
        images = self._train()
        trained = time.perf_counter()
        self._evaluate()
        return Epoch(images, trained - began, time.perf_counter() - trained)

    def _train(self) -> int:
        self.model.train()
        total, images = 0.0, 0
        for x, _ in self.loader:
            self.optimiser.zero_grad()
            loss = _loss(self.model(x), x)
            loss.backward()
            total += loss.item()
            self.optimiser.step()
            images += len(x)
        return images

    @torch.no_grad()
    def _evaluate(self) -> float:
        self.model.eval()
        total = 0.0
        for x, _ in self.held_out:
            total += _loss(self.model(x), x).item()
        return total


def _loss(output: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
    """Return BCE plus KL, summed over pixels, dimensions and images."""
    p, mean, log_variance = output
    distortion = F.binary_cross_entropy(p.flatten(1), x.flatten(1), reduction="sum")
    rate = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
    return distortion + rate
