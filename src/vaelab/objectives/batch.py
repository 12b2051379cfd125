"""A batch: what an objective is evaluated on, and how raw pixels become the model's input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from vaelab.config import LikelihoodName
from vaelab.data.binarization import binarise_once
from vaelab.random import binarise, offset_key


@dataclass(frozen=True)
class Batch:
    """Images (batch, *shape), labels (batch,) and noise ε (batch, d), or (K, batch, d) for K draws of z per image.

    The images are raw data if there is a `key` to binarise them, else `prepared` as the likelihood takes them.
    """

    images: Tensor
    labels: Int[Tensor, " batch"] | None
    noise: Float[Tensor, "*samples batch d"]
    key: Int32[Tensor, "2"] | None = None

    def prepared(self, likelihood: LikelihoodName) -> Batch:
        """Return the batch with its images as `likelihood` takes them."""
        if self.key is None:
            return self
        return Batch(training_input(self.images, likelihood, self.key), self.labels, self.noise)

    def split(self, size: int) -> list[Batch]:
        """Return parts of `size` images (the last may be smaller); pixels are binarised as in the whole batch."""
        images, noise = self.images.split(size), self.noise.split(size, dim=-2)
        labels = [None] * len(images) if self.labels is None else self.labels.split(size)
        positions, key = size * self.images[:1].numel(), self.key
        keys = [None if key is None else offset_key(key, number * positions) for number in range(len(images))]
        return [Batch(*part) for part in zip(images, labels, noise, keys, strict=True)]


def to_unit(raw: Tensor) -> Tensor:
    """Return raw data in the units of a likelihood: uint8 levels as level/255, float32; reals unchanged."""
    return raw.to(torch.float32) / 255 if raw.dtype == torch.uint8 else raw


def training_input(raw: Tensor, likelihood: LikelihoodName, key: Int32[Tensor, "2"]) -> Tensor:
    """Return raw training data as the likelihood takes them: for `bernoulli` uint8 images binarised at random by `key`, else
    `to_unit`.
    """
    binarises = likelihood == "bernoulli" and raw.dtype == torch.uint8
    return binarise(raw, key).to(torch.float32) if binarises else to_unit(raw)


def held_out_levels(images: np.ndarray, likelihood: LikelihoodName, number: int = 0) -> Tensor:
    """Return raw held-out data, for `bernoulli` uint8 images binarised once to 0 or 255. `to_unit` gives the model's input.

    `number` is that of the part (`vaelab.parts`) with which the images begin.
    """
    if images.dtype != np.uint8 or likelihood != "bernoulli":
        return torch.from_numpy(images)
    return torch.from_numpy(binarise_once(images, number))
