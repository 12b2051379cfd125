"""Custom recurrent encoder and decoder, for rows that are sequences: see `docs/own-networks.md`.

A sequence of T real numbers is a row of a table with T columns, so `shape` is (T,).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Encoder(nn.Module):
    """Read a sequence, with the label appended to each value, and return the final states of both directions."""

    def __init__(self, *, classes: int, width: int) -> None:
        super().__init__()
        self.read = nn.GRU(1 + classes, width, batch_first=True, bidirectional=True)

    def forward(self, sequences: Tensor, labels: Tensor | None) -> Tensor:
        """Map sequences (batch, T) and one-hot labels (batch, K), or None, to features (batch, 2 · width)."""
        values = sequences[:, :, None]
        if labels is not None:
            values = torch.cat([values, labels[:, None].expand(-1, values.shape[1], -1)], dim=2)
        _, states = self.read(values)
        return states.transpose(0, 1).flatten(1)


class Decoder(nn.Module):
    """Write a sequence from the latent, the label and the time, which are the input at each step."""

    times: Tensor

    def __init__(self, *, shape: tuple[int, ...], planes: int, latent_dim: int, classes: int, width: int) -> None:
        super().__init__()
        time = torch.linspace(0, 1, shape[0])
        waves = [wave(math.pi * 2**octave * time) for octave in range(4) for wave in (torch.sin, torch.cos)]
        self.register_buffer("times", torch.stack(waves, dim=1))
        self.start = nn.Linear(latent_dim + classes, width)
        self.write = nn.GRU(latent_dim + classes + len(waves), width, batch_first=True)
        self.output = nn.Linear(width, planes)

    def forward(self, latent: Tensor, labels: Tensor | None) -> Tensor:
        """Map latents (batch, d) and one-hot labels (batch, K), or None, to likelihood parameters (batch, planes, T)."""
        style = latent if labels is None else torch.cat([latent, labels], dim=1)
        steps = len(self.times)
        inputs = torch.cat([style[:, None].expand(-1, steps, -1), self.times.expand(style.shape[0], -1, -1)], dim=2)
        states, _ = self.write(inputs, torch.tanh(self.start(style))[None])
        return self.output(states).transpose(1, 2)
