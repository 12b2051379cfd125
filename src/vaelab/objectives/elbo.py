"""The ELBO: rate and distortion of each image, and the loss that is made of them.

Symbols: distortion −log p(x|z) and rate KL(q(z|x) ‖ p(z)), both in nats per image, lower is better; the ELBO is
−(distortion + rate) ≤ log p(x). Every figure is kept per image; the caller takes the mean over images once, at the end.

Sources: Kingma & Welling 2014 (ELBO, eq. 3); Higgins et al. 2017 (β); Kingma et al. 2016, appendix C.8 (free bits).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.models.base import Inference, Model
from vaelab.objectives.batch import Batch


@dataclass(frozen=True)
class Terms:
    """What an objective computes of a batch, per image."""

    distortion: Float[Tensor, "*batch"]
    """−log p(x|z) in nats, (batch,), or (K, batch) for K draws of z per image."""

    rate: Float[Tensor, "*batch d"]
    """KL of each latent dimension in nats, (batch, d) or (K, batch, d)."""

    surrogate: Float[Tensor, "..."] | None = None
    """Loss per image, (batch,), of an objective that is not a function of distortion and rate, or one number, (), if it depends
    on the whole batch; None for the ELBO."""

    def negative_elbo(self) -> Float[Tensor, "*batch"]:
        """Return distortion + rate in nats per image, whatever the objective."""
        return self.distortion + self.rate.sum(-1)

    def tensors(self) -> list[Tensor]:
        """Return the terms in order, without a surrogate that is None."""
        return [self.distortion, self.rate, *([] if self.surrogate is None else [self.surrogate])]


Objective = Callable[[Model, Batch], Terms]
"""An objective: the terms of a batch whose images are as the likelihood takes them. `loss` reduces them to a number."""


def elbo(model: Model, batch: Batch) -> Terms:
    """Return distortion and rate of each image, with one draw of z (Kingma & Welling 2014, eq. 7)."""
    return terms_of(model(batch.images, batch.labels, batch.noise), batch.images)


def terms_of(inference: Inference, images: Tensor) -> Terms:
    """Return distortion and rate of `images` (batch, *shape), given one pass through the model."""
    return Terms(-inference.likelihood.log_prob(images), inference.rate)


def loss(
    terms: Terms, *, beta: float | Tensor = 1.0, free_bits: float = 0.0, groups: Sequence[int] | None = None
) -> Float[Tensor, ""]:
    """Return the mean over the batch of distortion + β · rate, or of the surrogate if there is one, in nats per image.

    Parameters
    ----------
    free_bits
        λ in nats. A dimension whose rate, averaged over the batch, is below λ counts as λ and gets no gradient (Kingma et al.
        2016, eq. 15).
    groups
        Sizes of the groups of dimensions that free bits treat together, such as the levels of a ladder: n dimensions count at
        least n · λ. None: each dimension by itself.
    """
    if terms.surrogate is not None:
        return terms.surrogate.mean()
    rate = terms.rate.mean(0)
    if free_bits > 0 and groups is None:
        rate = rate.clamp_min(free_bits)
    elif groups is not None and free_bits > 0:
        parts = rate.split(list(groups))
        rate = torch.stack([part.sum().clamp_min(free_bits * len(part)) for part in parts])
    return terms.distortion.mean() + beta * rate.sum()
