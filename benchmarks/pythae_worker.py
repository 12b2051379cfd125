"""Train the 784-400-20 model with pythae; `pythae_peer.py` starts this script in pythae's environment.

    python benchmarks/pythae_worker.py IMAGES.npy BATCH

IMAGES.npy holds uint8 (N, 28, 28). Prints the versions as a line of JSON. Then, for every line on standard input, it trains
one epoch with pythae's `BaseTrainer`, without evaluation, and prints the seconds.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from importlib.metadata import version

import numpy as np
import torch
from pythae.data.datasets import BaseDataset  # pyright: ignore[reportMissingImports]
from pythae.models import VAE, VAEConfig  # pyright: ignore[reportMissingImports]
from pythae.models.base.base_utils import ModelOutput  # pyright: ignore[reportMissingImports]
from pythae.models.nn import BaseDecoder, BaseEncoder  # pyright: ignore[reportMissingImports]
from pythae.trainers import BaseTrainer, BaseTrainerConfig  # pyright: ignore[reportMissingImports]
from torch import nn


class Encoder(BaseEncoder):
    """784-400-20, with ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(784, 400), nn.ReLU())
        self.embedding, self.log_variance = nn.Linear(400, 20), nn.Linear(400, 20)

    def forward(self, x: torch.Tensor) -> ModelOutput:
        h = self.hidden(x)
        return ModelOutput(embedding=self.embedding(h), log_covariance=self.log_variance(h))


class Decoder(BaseDecoder):
    """20-400-784, with ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784), nn.Sigmoid())

    def forward(self, z: torch.Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=self.layers(z).unflatten(1, (1, 28, 28)))


def main() -> None:
    """Train one epoch per input line, until the end of the input."""
    path, batch = sys.argv[1], int(sys.argv[2])
    images = torch.from_numpy(np.load(path)).unsqueeze(1).float().div(255)
    model = VAE(
        VAEConfig(input_dim=(1, 28, 28), latent_dim=20, reconstruction_loss="bce"), encoder=Encoder(), decoder=Decoder()
    )
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder, num_epochs=1, per_device_train_batch_size=batch, learning_rate=1e-3, no_cuda=True
        )
        trainer = BaseTrainer(model, BaseDataset(images, torch.ones(len(images))), training_config=config)
        trainer.prepare_training()
        print(json.dumps({"pythae": version("pythae"), "torch": torch.__version__}), flush=True)
        for epoch, _ in enumerate(sys.stdin, start=1):
            began = time.perf_counter()
            trainer.train_step(epoch)
            print(time.perf_counter() - began, flush=True)


if __name__ == "__main__":
    main()
