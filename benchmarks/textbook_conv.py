"""The textbook convolutional VAE of colour tutorials, trained by a loop without a loader, for a given time.

The squared error ‖x − x̂‖² (−log p of a Gaussian of variance ½, without its constant) plus KL; convolutions of 32, 64, 128 and
256 channels; Adam at 1e-3; batches from a float tensor in memory; eager float32, no `.item()`, no evaluation.
"""

from __future__ import annotations

import itertools
import math
import time

import torch
from torch import Tensor, nn

LATENT_DIM, CHANNELS, BATCH, AT_ONCE = 128, (32, 64, 128, 256), 128, 500


class TextbookConvVAE(nn.Module):
    """Four convolutions of stride 2, one linear layer each way, and the mirrored transposed convolutions, with ReLU.

    Images are (N, C, H, W) in 0…1 with sides that 16 divides.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        grid = (CHANNELS[-1], shape[1] // 16, shape[2] // 16)
        pairs = list(itertools.pairwise((shape[0], *CHANNELS)))
        down = [layer for a, b in pairs for layer in (nn.Conv2d(a, b, 4, 2, 1), nn.ReLU())]
        up = [layer for a, b in reversed(pairs) for layer in (nn.ReLU(), nn.ConvTranspose2d(b, a, 4, 2, 1))]
        self.encoder = nn.Sequential(*down, nn.Flatten())
        self.mean, self.log_variance = (nn.Linear(math.prod(grid), LATENT_DIM) for _ in range(2))
        self.decoder = nn.Sequential(nn.Linear(LATENT_DIM, math.prod(grid)), nn.Unflatten(1, grid), *up, nn.Sigmoid())

    def loss(self, x: Tensor) -> Tensor:
        """Return the squared error plus KL in nats, summed over pixels and dimensions, mean over images."""
        h = self.encoder(x)
        mean, log_variance = self.mean(h), self.log_variance(h)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        rate = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
        return ((self.decoder(z) - x).square().sum() + rate) / len(x)

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Decode the posterior means of images."""
        return torch.cat([self.decoder(self.mean(self.encoder(part))) for part in x.split(AT_ONCE)])

    @torch.no_grad()
    def generate(self, count: int) -> Tensor:
        """Decode `count` draws from N(0, I), the same each time."""
        z = torch.randn(count, LATENT_DIM, generator=torch.Generator().manual_seed(0))
        return torch.cat([self.decoder(part) for part in z.split(AT_ONCE)])


def train_for(seconds: float, model: TextbookConvVAE, images: Tensor) -> tuple[int, float]:
    """Train until a step ends after `seconds`; return the number of images, with repetitions, and the seconds."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    done, began = 0, time.perf_counter()
    while True:
        for index in torch.randperm(len(images)).split(BATCH):
            optimiser.zero_grad()
            model.loss(images[index]).backward()
            optimiser.step()
            done += len(index)
            if (taken := time.perf_counter() - began) >= seconds:
                return done, taken
