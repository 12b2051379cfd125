"""Train and apply pythae's VAE for CIFAR; `colour.py` starts this script in pythae's environment.

    python benchmarks/pythae_colour_worker.py FOLDER LATENT_DIM BATCH SECONDS COUNT

FOLDER holds `train.npy` and `test.npy`, uint8 (N, 3, 32, 32). It trains with pythae's `BaseTrainer`, without evaluation, until
SECONDS are over, writes reconstructions of the test images from posterior means, and COUNT images decoded from N(0, I), as
`reconstructions.npy` and `means.npy`, uint8, and prints the figures as a line of JSON.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pythae.data.datasets import BaseDataset  # pyright: ignore[reportMissingImports]
from pythae.models import VAE, VAEConfig  # pyright: ignore[reportMissingImports]
from pythae.models.nn.benchmarks.cifar import (  # pyright: ignore[reportMissingImports]
    Decoder_Conv_AE_CIFAR,
    Encoder_Conv_VAE_CIFAR,
)
from pythae.trainers import BaseTrainer, BaseTrainerConfig  # pyright: ignore[reportMissingImports]
from pythae.trainers.training_callbacks import TrainingCallback  # pyright: ignore[reportMissingImports]
from torch.utils.flop_counter import FlopCounterMode

COUNTED, AT_ONCE = 16, 100
"""Images of the step whose operations are counted, and images decoded at a time."""


class TimeIsUpError(Exception):
    """The training time is used up."""


class Clock(TrainingCallback):
    """Counts steps, and ends the training when `seconds` are over."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.steps, self.began = seconds, 0, time.perf_counter()

    def on_train_step_end(self, training_config: BaseTrainerConfig, **kwargs: Any) -> None:
        """Called after each batch."""
        self.steps += 1
        if time.perf_counter() - self.began >= self.seconds:
            raise TimeIsUpError


def new_model(latent_dim: int) -> VAE:
    """Return pythae's VAE with its convolutional networks for CIFAR."""
    config = VAEConfig(input_dim=(3, 32, 32), latent_dim=latent_dim, reconstruction_loss="mse")
    return VAE(config, encoder=Encoder_Conv_VAE_CIFAR(config), decoder=Decoder_Conv_AE_CIFAR(config))


def main() -> None:
    """Train, apply, and write the results."""
    folder, seconds = Path(sys.argv[1]), float(sys.argv[4])
    latent_dim, batch, count = (int(sys.argv[index]) for index in (2, 3, 5))
    train, test = (torch.from_numpy(np.load(folder / f"{name}.npy")).float().div(255) for name in ("train", "test"))
    with FlopCounterMode(display=False) as counter:
        new_model(latent_dim)({"data": train[:COUNTED]}).loss.backward()
    torch.manual_seed(0)
    model, clock = new_model(latent_dim), Clock(seconds)
    config = BaseTrainerConfig(
        output_dir=str(folder), per_device_train_batch_size=batch, learning_rate=1e-3, no_cuda=True
    )
    trainer = BaseTrainer(model, BaseDataset(train, torch.ones(len(train))), training_config=config, callbacks=[clock])
    trainer.prepare_training()
    clock.began = time.perf_counter()
    with suppress(TimeIsUpError):
        for epoch in itertools.count(1):
            trainer.train_step(epoch)
    taken = time.perf_counter() - clock.began
    model.eval()
    with torch.no_grad():
        codes = torch.cat([model.encoder(part).embedding for part in test.split(AT_ONCE)])
        z = torch.randn(count, latent_dim, generator=torch.Generator().manual_seed(0))
        for name, latents in (("reconstructions", codes), ("means", z)):
            made = torch.cat([model.decoder(part).reconstruction for part in latents.split(AT_ONCE)])
            np.save(folder / f"{name}.npy", made.mul(255).round().to(torch.uint8).numpy())
    images = clock.steps * len(train) / len(trainer.train_loader)
    print(json.dumps({"images": images, "seconds": taken, "flops": counter.get_total_flops() / COUNTED}), flush=True)


if __name__ == "__main__":
    main()
