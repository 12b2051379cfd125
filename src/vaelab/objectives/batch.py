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

    Attributes
    ----------
    images
        Raw data if there is a `key`, else as the likelihood takes them.
    key
        Binarises the images; None if that is done already.
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


def to_unit(values: Tensor) -> Tensor:
    """Return raw data as a likelihood takes them: uint8 levels as level/255, float32; reals unchanged."""
    return values.to(torch.float32) / 255 if values.dtype == torch.uint8 else values


def is_binarised(raw: Tensor, likelihood: LikelihoodName) -> bool:
    """Return whether such data are binarised for `likelihood`."""
    return likelihood == "bernoulli" and raw.dtype == torch.uint8


def training_input(raw: Tensor, likelihood: LikelihoodName, key: Int32[Tensor, "2"]) -> Tensor:
    """Return raw training data as the likelihood takes them: float32 of the same shape.

    Parameters
    ----------
    raw
        uint8 images (batch, C, H, W), or float32 rows of a table (batch, D), which pass unchanged.
    likelihood
        `bernoulli` binarises at random (see `vaelab.random.binarise`); the others take level/255.
    key
        From `vaelab.random.binarisation_key`; unused if nothing is binarised.
    """
    return binarise(raw, key).to(torch.float32) if is_binarised(raw, likelihood) else to_unit(raw)


def held_out_levels(images: np.ndarray, likelihood: LikelihoodName) -> Tensor:
    """Return raw held-out data as they are compared with: binarised once (0 or 255) for `bernoulli`, else unchanged."""
    if images.dtype != np.uint8 or likelihood != "bernoulli":
        return torch.from_numpy(images)
    return torch.from_numpy(binarise_once(images))


def held_out_input(images: np.ndarray, likelihood: LikelihoodName) -> Tensor:
    """Return `held_out_levels` as the likelihood takes them: float32 of the same shape."""
    return to_unit(held_out_levels(images, likelihood))
