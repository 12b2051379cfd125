"""Images a second: vaelab's training against a textbook loop and against the machine's limit, in one run.

    python benchmarks/textbook.py

All are the same 784-400-20 model at batch 128. The limit is its matrix products alone, forward and backward, one after
the other into memory that is there already: no step of that model, in float32 and with these libraries, can be faster.

The textbook loop is written as the public PyTorch example (pytorch/examples, vae/main.py) has it: a Dataset that makes
a PIL image of each sample and a tensor of that (what torchvision's MNIST and ToTensor do), a DataLoader that stacks
them, an eager step with Adam on BCE and KL, and `.item()` on every step's loss. It does not binarise, clip, average
weights or follow a schedule; vaelab's step does, as it stands and compiled (`--compile`). All see 28×28 images (strokes)
in float32 on all cores, and take turns, several times, so that the ratio holds on a noisy machine.
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
from vaelab.products import fast_products
from vaelab.trainer import Trainer
from vaelab.training import complete

IMAGES, BATCH, ROUNDS, SECONDS = 20_000, 128, 7, 4.0


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


WIDTHS = ((784, 400), (400, 40), (20, 400), (400, 784))
"""Inputs and outputs of the four layers; half of the second's outputs are log-variances."""

FLOPS = 2 * (3 * sum(n * m for n, m in WIDTHS) - WIDTHS[0][0] * WIDTHS[0][1])
"""Of an image: forward, both gradients, but for that of the first layer's input."""


@fast_products()
def limit(seconds: float) -> float:
    """Images a second of the matrix products alone."""
    inputs = [torch.randn(BATCH, n) for n, _ in WIDTHS]
    outputs = [torch.randn(BATCH, m) for _, m in WIDTHS]
    weights = [torch.randn(n, m) for n, m in WIDTHS]
    made, upstream = [torch.empty_like(each) for each in outputs], [torch.empty_like(each) for each in inputs]
    gradients = [torch.empty_like(each) for each in weights]
    seen, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        for _ in range(20):
            for x, w, y in zip(inputs, weights, made, strict=True):
                torch.mm(x, w, out=y)
            for layer in (3, 2, 1, 0):
                torch.mm(inputs[layer].t(), outputs[layer], out=gradients[layer])
                if layer:
                    torch.mm(outputs[layer], weights[layer].t(), out=upstream[layer])
        seen += 20 * BATCH
    return seen / (time.perf_counter() - began)


def main() -> None:
    """Print all speeds and their ratios, round by round."""
    torch.manual_seed(0)
    drawn = draw_strokes(IMAGES, seed=0)
    assert drawn.labels is not None
    dataset = vaelab.Dataset("strokes", drawn, drawn[:0], drawn[:0], tuple("0123456789"))
    config = Config(
        ModelConfig(model="vae", latent_dim=20, width=400, depth=1, likelihood="bernoulli"),
        TrainConfig(batch_size=BATCH, device="cpu"),
    )
    plain, compiled = (Trainer(complete(config, dataset), dataset, torch.device("cpu")) for _ in range(2))
    print(machine())
    began = time.perf_counter()
    compiled.compile()
    compiled.take_step(0.5)
    print(f"compiled in {time.perf_counter() - began:.1f} s (about 2 s where it is cached)")
    for warm in (ours(plain, 1.0), ours(compiled, 1.0), textbook(drawn.images, drawn.labels, 1.0), limit(0.5)):
        assert warm > 0
    rows = []
    for _ in range(ROUNDS):
        theirs = textbook(drawn.images, drawn.labels, SECONDS)
        mine, faster, most = ours(plain, SECONDS), ours(compiled, SECONDS), limit(SECONDS / 2)
        rows.append((mine / theirs, faster / theirs, faster / most, most / theirs))
        speeds = (
            f"textbook {theirs:7,.0f}   vaelab {mine:7,.0f}   compiled {faster:7,.0f}   limit {most:8,.0f} images/s"
        )
        print(f"{speeds}, {most * FLOPS / 1e9:.0f} GFLOP/s", flush=True)
    names = ("vaelab / textbook", "compiled / textbook", "compiled / limit", "limit / textbook")
    for name, ratios in zip(names, zip(*rows, strict=True), strict=True):
        print(f"{name}: median {statistics.median(ratios):.2f} (n = {ROUNDS}, {min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
