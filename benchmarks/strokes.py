"""How fast `strokes` is drawn, and how well it stands in for MNIST.

    VAELAB_DATA_DIR=/folder/of/data python benchmarks/strokes.py

The folder holds MNIST's four IDX files, gzipped or not, in itself or in `mnist/`. The same small network is trained
twice, on drawings alone and on MNIST alone, with the same light augmentation (turned, sheared and stretched by up to
10 %, moved by up to 1 pixel), and each reads the other's test set. A few minutes on two cores.
"""

from __future__ import annotations

import datetime
import gzip
import os
import platform
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vaelab.data.dataset import Split, between_share
from vaelab.data.strokes import draw_strokes, load_strokes

EPOCHS, BATCH, RATE, SEED = 3, 100, 2e-3, 0


def read_idx(folder: Path, name: str) -> np.ndarray:
    """The bytes of an IDX file of uint8, in its shape."""
    for path in (folder / name, folder / f"{name}.gz", folder / "mnist" / name, folder / "mnist" / f"{name}.gz"):
        if path.exists():
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            dimensions = data[3]
            shape = np.frombuffer(data, ">u4", count=dimensions, offset=4)
            return np.frombuffer(data, np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    sys.exit(f"{folder}: no {name}[.gz] here or in mnist/; set VAELAB_DATA_DIR to the folder that holds MNIST")


def load_mnist(part: str) -> Split:
    """MNIST's `train` or `t10k` part."""
    folder = Path(os.environ.get("VAELAB_DATA_DIR", "."))
    labels = read_idx(folder, f"{part}-labels-idx1-ubyte").astype(np.int64)
    return Split(read_idx(folder, f"{part}-images-idx3-ubyte")[:, None], labels)


def tensors(split: Split) -> tuple[Tensor, Tensor]:
    """Images in 0…1, (N, 1, 28, 28), and labels (N,)."""
    return torch.tensor(split.images).float() / 255, torch.tensor(split.labels)


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """The images a little turned, sheared, stretched and moved."""

    def spread(size: float) -> Tensor:
        return (torch.rand(len(images), generator=generator) * 2 - 1) * size

    turn = spread(0.1)
    maps = torch.stack(
        [
            torch.stack([1 + spread(0.1), turn + spread(0.1), spread(1 / 14)], dim=1),
            torch.stack([-turn, 1 + spread(0.1), spread(1 / 14)], dim=1),
        ],
        dim=1,
    )
    return F.grid_sample(images, F.affine_grid(maps, list(images.shape), align_corners=False), align_corners=False)


def train(split: Split) -> nn.Module:
    """A small convolutional network that has learnt the labels of `split`."""
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    images, labels = tensors(split)
    network = nn.Sequential(
        *(nn.Conv2d(1, 16, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Dropout(0.3)),
        *(nn.Linear(64 * 49, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10)),
    )
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=EPOCHS * (len(images) // BATCH))
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images), generator=generator)[: len(images) // BATCH * BATCH].split(BATCH):
            loss = F.cross_entropy(network(augment(images[batch], generator)), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def report(title: str, network: nn.Module, split: Split) -> None:
    """Print the accuracy of the network on `split`, and on each digit."""
    images, labels = tensors(split)
    right = torch.cat([network(some).argmax(dim=1) for some in images.split(1000)]) == labels
    digits = "  ".join(f"{digit}: {100 * right[labels == digit].float().mean():.1f}" for digit in range(10))
    print(f"{title}: {100 * right.float().mean():.2f} %   ({digits})", flush=True)


def main() -> None:
    """Draw, train, read, print."""
    cpu = platform.processor() or platform.machine()
    print(
        f"{datetime.date.today()}, {platform.system()} {cpu}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    )
    print(f"Python {platform.python_version()}, numpy {np.__version__}, torch {torch.__version__}")
    began = time.perf_counter()
    draw_strokes(60_000, seed=0)
    print(f"60,000 drawings: {time.perf_counter() - began:.1f} s", flush=True)

    strokes, mnist, mnist_test = load_strokes(seed=0), load_mnist("train"), load_mnist("t10k")
    between = [100 * between_share(split.images) for split in (strokes.train, mnist)]
    print(f"pixels between 10 % and 90 % of white: strokes {between[0]:.2f} %, MNIST {between[1]:.2f} %")
    network = train(strokes.train)
    report("trained on strokes, reads MNIST's test set", network, mnist_test)
    report("trained on strokes, reads strokes' test set", network, strokes.test)
    network = train(mnist)
    report("trained on MNIST, reads strokes' test set", network, strokes.test)
    report("trained on MNIST, reads MNIST's test set", network, mnist_test)
    print(f"{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
