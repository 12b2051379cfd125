"""Validation: held-out figures of the averaged weights during training."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vaelab.config import NetworkName, ResolvedConfig
from vaelab.data.dataset import Split
from vaelab.models.base import Model
from vaelab.objectives.batch import Batch, held_out_levels, to_unit
from vaelab.objectives.bounds import Infer, images_at_once, map_held_out
from vaelab.objectives.elbo import terms_of
from vaelab.objectives.importance import importance_weighted_bound, log_weights
from vaelab.objectives.own import OwnObjective
from vaelab.precision import exact_convolutions
from vaelab.random import generator_for, latent_noise
from vaelab.runs import Averages, LatentStats

# Maximum number of pixel values in a validation, by network: enough to select weights, and short beside a short budget.
MAX_VALUES: dict[NetworkName, int] = {"mlp": 2**23, "pca": 2**23, "two-colour": 2**23, "conv": 2**22, "ladder": 2**20}
FEWEST_FOR_BOUND = 100  # images on which the importance-weighted bound is computed at least


class Validator:
    """The validation images, on the training device, with fixed noise, so that figures at different steps are comparable."""

    def __init__(self, split: Split, config: ResolvedConfig, device: torch.device) -> None:
        """Use the images of `split`, or the choice of `validation_subset`."""
        part = validation_subset(split, config)
        self.images = held_out_levels(part.images, config.model.likelihood).to(device)
        self.labels = None if part.labels is None else torch.from_numpy(part.labels).to(device)
        self.latent_dim, self.seed, self.iwae_samples = (
            config.model.latent_dim,
            config.train.seed,
            config.train.iwae_samples,
        )

    def __len__(self) -> int:
        return len(self.images)

    def measure(self, model: Model) -> tuple[Averages, LatentStats]:
        """Return distortion and rate over the images, one draw of z each, and the statistics of the latent dimensions."""
        noise = latent_noise(len(self), self.latent_dim, self.seed)

        def figures(part: slice, x: Tensor, infer: Infer) -> tuple[Tensor, Tensor, Tensor]:
            inference = infer(noise[part])
            found = terms_of(inference, x)
            return found.distortion.cpu(), found.rate.cpu(), inference.posterior.mean.cpu()

        parts = map_held_out(model, self.images, self.labels, figures, together=True)
        distortions, rates, means = (torch.cat(part) for part in zip(*parts, strict=True))
        averages = Averages(distortions.double().mean().item(), rates.sum(-1).double().mean().item())
        return averages, LatentStats.over(rates, means)

    def own_value(self, model: Model, objective: OwnObjective, batch_size: int) -> float:
        """Return the mean of an objective of the caller over whole batches of the images; an incomplete last one is left out.

        The objective may compute gradients, such as a gradient penalty, so weights require them meanwhile.
        """
        size = min(batch_size, len(self))
        noise, total = latent_noise(len(self), self.latent_dim, self.seed), 0.0
        model.requires_grad_(True)
        for first in range(0, len(self) - size + 1, size):
            part = slice(first, first + size)
            labels = None if self.labels is None else self.labels[part]
            batch = Batch(to_unit(self.images[part]), labels, noise[part].to(self.images.device))
            with torch.enable_grad(), exact_convolutions():
                value = objective(model, batch).surrogate
            assert value is not None
            total += value.detach().double().mean().item()
        model.requires_grad_(False)
        return total / (len(self) // size)

    def negative_bound(self, model: Model) -> float:
        """Return minus the importance-weighted bound, which IWAE fine-tuning minimises, in nats per image.

        It uses the first 1/K of the images, which takes as long as one draw for each of them, but at least `FEWEST_FOR_BOUND`.
        """
        samples = self.iwae_samples
        count = min(len(self), max(FEWEST_FOR_BOUND, len(self) // samples))
        noise = latent_noise(samples * count, self.latent_dim, self.seed).view(samples, count, -1)

        def bound(part: slice, x: Tensor, infer: Infer) -> Tensor:
            return importance_weighted_bound(log_weights(infer(noise[:, part]), x)).cpu()

        images, labels = self.images[:count], None if self.labels is None else self.labels[:count]
        at_once = max(1, images_at_once(model.shape) // samples)
        bounds = map_held_out(model, images, labels, bound, at_once=at_once, together=True)
        return -torch.cat(bounds).double().mean().item()


def validation_subset(split: Split, config: ResolvedConfig) -> Split:
    """Return the validation images that training looks at: all, or a random choice of `MAX_VALUES` pixel values."""
    most = max(1, MAX_VALUES[config.model.network] // max(1, math.prod(split.images.shape[1:])))
    if len(split) <= most:
        return split
    generator = generator_for("validation", config.train.seed, 0)
    return split[torch.randperm(len(split), generator=generator)[:most].sort().values.numpy()]
