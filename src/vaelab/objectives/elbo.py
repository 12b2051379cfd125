"""What training minimises and what is reported: rate and distortion, and what is made of them.

Symbols: distortion −log p(x|z) and rate KL(q(z|x) ‖ p(z)), both in nats per image and lower is better; the ELBO is
−(distortion + rate) ≤ log p(x). Everything keeps one figure per image; the mean over images is taken once, by the caller.

Sources: Kingma & Welling 2014 (ELBO, eq. 3); Higgins et al. 2017 (β); Kingma et al. 2016, appendix C.8 (free bits);
Burda et al. 2016, eq. 8 (importance-weighted bound); Tucker et al. 2019, eq. 8 (its doubly reparameterised gradient).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.models.base import Inference, Model
from vaelab.models.distributions import standard_normal_log_prob


@dataclass(frozen=True)
class Terms:
    """The two halves of −ELBO, per image.

    Attributes
    ----------
    distortion
        −log p(x|z) in nats, (batch,).
    rate
        KL of each latent dimension in nats, (batch, d).
    """

    distortion: Float[Tensor, "*batch"]
    rate: Float[Tensor, "*batch d"]

    def negative_elbo(self) -> Float[Tensor, "*batch"]:
        """Distortion + rate in nats per image, whatever objective trained the model."""
        return self.distortion + self.rate.sum(-1)


def terms(inference: Inference, images: Tensor) -> Terms:
    """Distortion and rate of `images` (batch, *shape) under one pass through the model."""
    return Terms(-inference.likelihood.log_prob(images), inference.rate)


@dataclass(frozen=True)
class LatentStats:
    """What each of the d latent dimensions holds, over held-out images.

    Attributes
    ----------
    rate
        Its share of the rate in nats per image, ≥ 0; all 0 for an autoencoder, which has none.
    mean, deviation
        Mean and standard deviation, over the images, of the mean of q(z|x).
    """

    rate: tuple[float, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @staticmethod
    def over(rate: Float[Tensor, "n d"], mean: Float[Tensor, "n d"]) -> LatentStats:
        """The axes of N images, from the rate of each dimension and the posterior mean of each image."""
        mean = mean.double()
        figures = (rate.double().mean(0), mean.mean(0), mean.std(0, correction=0))
        return LatentStats(*(tuple(figure.tolist()) for figure in figures))

    @staticmethod
    def read(facts: Mapping[str, Sequence[float]] | None) -> LatentStats | None:
        """The axes as JSON kept them, or None."""
        return None if facts is None else LatentStats(**{name: tuple(values) for name, values in facts.items()})

    @property
    def order(self) -> tuple[int, ...]:
        """The dimensions by rate, highest first; those of an autoencoder by the deviation of its codes."""
        size = self.rate if any(self.rate) else self.deviation
        return tuple(sorted(range(len(size)), key=lambda axis: -size[axis]))


def loss(
    terms: Terms, *, beta: float | Tensor = 1.0, free_bits: float = 0.0, groups: Sequence[int] | None = None
) -> Float[Tensor, ""]:
    """Mean of distortion + β · rate over the batch, in nats per image.

    With `free_bits` λ > 0 a dimension whose rate, averaged over the batch, is below λ nats counts as λ, so that
    nothing presses it down further (Kingma et al. 2016, eq. 15). `groups` are numbers of dimensions that are taken together, the
    rungs of a ladder: n of them count at least n · λ.
    """
    rate = terms.rate.mean(0)
    if free_bits > 0 and groups is None:
        rate = rate.clamp_min(free_bits)
    elif free_bits > 0 and groups is not None:
        parts = rate.split(list(groups))
        rate = torch.stack([part.sum().clamp_min(free_bits * len(part)) for part in parts])
    return terms.distortion.mean() + beta * rate.sum()


def log_weights(inference: Inference, images: Tensor) -> Float[Tensor, "*samples batch"]:
    """Log p(x|z) + log p(z) − log q(z|x) in nats for the z of one pass, one figure per sample and image."""
    log_ratio = standard_normal_log_prob(inference.latent) - inference.posterior.log_prob(inference.latent)
    return inference.likelihood.log_prob(images) + log_ratio


def importance_weighted_bound(log_weights: Float[Tensor, "k batch"]) -> Float[Tensor, " batch"]:
    """Log of the mean of K importance weights, in nats per image: a lower bound on log p(x), rising with K."""
    return torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))


def importance_weighted_loss(
    model: Model, images: Tensor, labels: Tensor | None, noise: Float[Tensor, "k batch d"]
) -> tuple[Float[Tensor, ""], Terms]:
    """Minus the importance-weighted bound, averaged over the batch, and the terms of its K draws; for training.

    Its value is the bound's; its gradient is the doubly reparameterised one (Tucker et al. 2019, eq. 8), whose signal for the
    encoder does not fade as K grows. With w̃ the normalised weights it is Σ w̃ ∂log p(x, z)/∂θ at the drawn z, and
    Σ w̃² ∂log w/∂z · ∂z/∂θ along the way that z was drawn, for all weights θ of the model alike: those of a ladder's state
    serve both p and q.
    """
    drawn = model(images, labels, noise)
    latent = drawn.latent.detach().requires_grad_()
    inference = model.infer_at(images, labels, latent)
    weights = log_weights(inference, images)
    share, likely = torch.softmax(weights.detach(), dim=0), inference.likelihood.log_prob(images)
    (path,) = torch.autograd.grad((share.square() * weights).sum(), latent, retain_graph=True)
    inside = (share * likely).sum(0)
    surrogate = -(inside.sum() + (path.detach() * drawn.latent).sum()) / len(images)
    value = -importance_weighted_bound(weights.detach()).mean()
    figures = Terms(-likely.detach(), drawn.rate.detach().expand(*likely.shape, -1))
    return surrogate + (value - surrogate).detach(), figures


@torch.no_grad()
def held_out_terms(
    model: Model,
    images: Tensor,
    labels: Tensor | None,
    noise: Float[Tensor, "n d"],
    *,
    batch_size: int = 1000,
) -> Terms:
    """Distortion and rate of every held-out image, one draw of z each; an image's figures do not depend on the others.

    Parameters
    ----------
    images
        As the likelihood takes them, (N, *shape).
    labels
        (N,), or None.
    noise
        ε of each image's draw.
    batch_size
        Images at a time; it changes the memory used and nothing else.
    """
    parts = []
    for first in range(0, len(images), batch_size):
        part = slice(first, first + batch_size)
        inference = model(images[part], None if labels is None else labels[part], noise[part])
        parts.append(terms(inference, images[part]))
    return Terms(torch.cat([part.distortion for part in parts]), torch.cat([part.rate for part in parts]))
