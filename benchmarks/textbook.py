"""Images a second: vaelab's training against a textbook loop, the same 784-400-20 model at batch 128, in one run.

    python benchmarks/textbook.py

The textbook loop is written as the public PyTorch example (pytorch/examples, vae/main.py) has it: a Dataset that makes
a PIL image of each sample and a tensor of that (what torchvision's MNIST and ToTensor do), a DataLoader that stacks
them, an eager step with Adam on BCE and KL, and `.item()` on every step's loss. It does not binarise, clip, average
weights or follow a schedule; vaelab's step does. Both see 28×28 images (strokes) in float32 on all cores, and take
turns, several times, so that the ratio holds on a noisy machine.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch
import torch.nn.functional as F
from machine import machine
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import vaelab
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data.strokes import draw_strokes
from vaelab.trainer import Trainer
from vaelab.training import complete

IMAGES, BATCH, ROUNDS, SECONDS = 20_000, 128, 7, 6.0


class Images(Dataset[tuple[Tensor, int]]):
    """One image at a time: a PIL image, made a float tensor (1, 28, 28) in [0, 1]; and its label."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self.images, self.labels = torch.from_numpy(images[:, 0]), torch.from_numpy(labels)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = Image.fromarray(self.images[index].numpy())
        levels = torch.from_numpy(np.array(picture, np.uint8, copy=True))
        levels = levels.view(picture.size[1], picture.size[0], 1).permute(2, 0, 1).contiguous()
        return levels.to(dtype=torch.get_default_dtype()).div(255), int(self.labels[index])


class TextbookVAE(nn.Module):
    """784-400-20-400-784 with ReLU, as the tutorials have it."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.mean, self.log_variance = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.up, self.out = nn.Linear(20, 400), nn.Linear(400, 784)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pixel probabilities, mean and log-variance for images (batch, 784)."""
        h = F.relu(self.hidden(x))
        mean, log_variance = self.mean(h), self.log_variance(h)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        return torch.sigmoid(self.out(F.relu(self.up(z)))), mean, log_variance


def textbook(images: np.ndarray, labels: np.ndarray, seconds: float) -> float:
    """Images a second of the textbook loop."""
    loader = DataLoader(Images(images, labels), batch_size=BATCH, shuffle=True)
    model = TextbookVAE()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    seen, total, began = 0, 0.0, time.perf_counter()
    while True:
        for batch, _ in loader:
            x = batch.view(-1, 784)
            optimiser.zero_grad()
            p, mean, log_variance = model(x)
            distortion = F.binary_cross_entropy(p, x, reduction="sum")
            rate = -0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())
            loss = distortion + rate
            loss.backward()
            total += loss.item()
            optimiser.step()
            seen += len(x)
            if time.perf_counter() - began > seconds:
                return seen / (time.perf_counter() - began)


def ours(trainer: Trainer, seconds: float) -> float:
    """Images a second of vaelab's step, with all it does: schedule, clipping, averaged weights, figures."""
    seen, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(20):
            trainer.take_step(0.5)
        trainer.read()
        seen += 20 * BATCH
    return seen / (time.perf_counter() - began)


def main() -> None:
    """Print both speeds and their ratio, pair by pair."""
    torch.manual_seed(0)
    drawn = draw_strokes(IMAGES, seed=0)
    assert drawn.labels is not None
    dataset = vaelab.Dataset("strokes", drawn, drawn[:0], drawn[:0], tuple("0123456789"))
    config = Config(
        ModelConfig(model="vae", latent_dim=20, width=400, depth=1, likelihood="bernoulli"),
        TrainConfig(batch_size=BATCH, device="cpu"),
    )
    trainer = Trainer(complete(config, dataset), dataset, torch.device("cpu"))
    print(machine())
    textbook(drawn.images, drawn.labels, 1.0)
    ours(trainer, 1.0)
    rows = [(ours(trainer, SECONDS), textbook(drawn.images, drawn.labels, SECONDS)) for _ in range(ROUNDS)]
    for mine, theirs in rows:
        print(f"vaelab {mine:8,.0f} images/s   textbook {theirs:8,.0f} images/s   ratio {mine / theirs:.2f}")
    ratios = [mine / theirs for mine, theirs in rows]
    print(f"median ratio {statistics.median(ratios):.2f} (n = {ROUNDS}, {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
