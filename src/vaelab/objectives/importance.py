"""The importance-weighted bound, and IWAE fine-tuning: the objective that maximises it.

Symbols: K draws of z per image; log w = log p(x|z) + log p(z) − log q(z|x), in nats.

Sources: Burda et al. 2016, eq. 8 (the bound); Tucker et al. 2019, eq. 8 (its doubly reparameterised gradient).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.models.base import Inference, Model
from vaelab.models.distributions import standard_normal_log_prob
from vaelab.objectives.batch import Batch
from vaelab.objectives.elbo import Terms


def log_weights(inference: Inference, images: Tensor) -> Float[Tensor, "*samples batch"]:
    """Return log p(x|z) + log p(z) − log q(z|x) in nats for the z of one pass, one figure per sample and image."""
    log_ratio = standard_normal_log_prob(inference.latent) - inference.posterior.log_prob(inference.latent)
    return inference.likelihood.log_prob(images) + log_ratio


def importance_weighted_bound(log_weights: Float[Tensor, "k batch"]) -> Float[Tensor, " batch"]:
    """Return the log of the mean of K importance weights, nats per image: a lower bound on log p(x) that rises with K."""
    return torch.logsumexp(log_weights, dim=0) - math.log(len(log_weights))


def importance_weighted(model: Model, batch: Batch) -> Terms:
    """Return the terms of K draws per image; the surrogate has the value and gradient of minus the bound.

    The gradient is the doubly reparameterised one (Tucker et al. 2019, eq. 8), whose signal for the encoder does not fade as
    K grows. With w̃ the normalised weights it is Σ w̃ ∂log p(x, z)/∂θ at the drawn z, plus Σ w̃² ∂log w/∂z · ∂z/∂θ along the
    reparameterisation, for all parameters θ alike: in a ladder, the state serves both p and q.
    """
    images, labels = batch.images, batch.labels
    drawn = model(images, labels, batch.noise)
    with torch.enable_grad():  # the gradient by z is needed even where no gradient by θ is
        latent = drawn.latent.detach().requires_grad_()
        inference = model.infer_at(images, labels, latent)
        weights = log_weights(inference, images)
        normalised, log_likelihood = torch.softmax(weights.detach(), dim=0), inference.likelihood.log_prob(images)
        (path,) = torch.autograd.grad((normalised.square() * weights).sum(), latent, retain_graph=True)
    inside = (normalised * log_likelihood).sum(0)
    surrogate = -(inside + (path * drawn.latent).sum((0, -1)))
    value = -importance_weighted_bound(weights.detach())
    rate = drawn.rate.detach().expand(*log_likelihood.shape, -1)
    return Terms(-log_likelihood.detach(), rate, surrogate + (value - surrogate).detach())
