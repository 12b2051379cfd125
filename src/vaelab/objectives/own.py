"""An objective of the caller, `objective(found: Pass) -> Tensor`, minimised instead of the ELBO.

Symbols: x an image, y its label, z the latent of dimension d; all figures are in nats per image. Reported figures stay those of
the ELBO, whatever is minimised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from vaelab.errors import ConfigError
from vaelab.models.base import Inference, Model
from vaelab.models.distributions import Gaussian, Likelihood
from vaelab.objectives.batch import Batch
from vaelab.objectives.elbo import Terms
from vaelab.random import generator_for


@final
@dataclass(frozen=True)
class Pass:
    """What an objective sees of a batch."""

    images: Tensor
    """x, float32 (batch, *shape), as the likelihood takes them: 0…1, for a Bernoulli likelihood 0 or 1; rows of a table."""

    labels: Tensor | None
    """y, int64 (batch,); None for data without labels."""

    inference: Inference
    beta: float
    """The weight β of the rate in this step, after its warm-up (`beta`, `kl_warmup`)."""

    model: Model

    @property
    def posterior(self) -> Gaussian:
        """q(z|x), mean and log-variance (batch, d); its `sample` and `log_prob` are differentiable."""
        return self.inference.posterior

    @property
    def z(self) -> Float[Tensor, "batch d"]:
        """One draw of z per image from the posterior, differentiable."""
        return self.inference.latent

    @cached_property
    def prior(self) -> Gaussian:
        """p(z) = N(0, I), mean and log-variance (d,)."""
        zeros = torch.zeros_like(self.z[0])
        return Gaussian(zeros, zeros)

    @property
    def likelihood(self) -> Likelihood:
        """p(x|z) at the drawn z: `log_prob(x)` in nats (batch,), `mean()` (batch, *shape)."""
        return self.inference.likelihood

    @cached_property
    def distortion(self) -> Float[Tensor, " batch"]:
        """−log p(x|z) in nats."""
        return -self.likelihood.log_prob(self.images)

    @property
    def rate(self) -> Float[Tensor, "batch d"]:
        """KL(q(z|x) ‖ p(z)) of each latent dimension in nats; zeros for an autoencoder."""
        return self.inference.rate


OwnFunction = Callable[[Pass], Tensor]
"""Returns the loss: one number, or one per image, (batch,), whose mean is minimised."""


def elbo(found: Pass) -> Tensor:
    """Return distortion + β · rate: the built-in objective, as a function of this kind."""
    return found.distortion.mean() + found.beta * found.rate.mean(0).sum()


@final
@dataclass(frozen=True)
class OwnObjective:
    """The objective of a caller as a training step takes it, at one step: its β, and the seed of what the function draws."""

    function: OwnFunction
    beta: float = 1.0
    seed: int = 0

    def at(self, beta: float, seed: int, step: int) -> OwnObjective:
        """Return the objective of a step of the training with this seed."""
        return OwnObjective(self.function, beta, generator_for("objective", seed, step).initial_seed())

    def __call__(self, model: Model, batch: Batch) -> Terms:
        """Return the terms of a batch, with the function's value as surrogate.

        `torch.randn` in the function depends on the seed alone, so that a resumed training takes the same steps.

        Raises
        ------
        ConfigError
            If the function returns no tensor, or one of another shape.
        """
        found = Pass(batch.images, batch.labels, model(batch.images, batch.labels, batch.noise), self.beta, model)
        device = batch.images.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), _exact(device):
            torch.manual_seed(self.seed)
            value = self.function(found)
        count = len(batch.images)
        if not isinstance(value, Tensor) or value.shape not in ((), (count,)):
            got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise ConfigError(
                f"`objective`: returned {got} for {count} images; expected a tensor of one number, or one per image, ({count},)"
            )
        return Terms(found.distortion.detach(), found.rate.detach(), value)


def _exact(device: torch.device) -> torch.autocast:
    """Return the context in which products of the caller's function are not rounded to bfloat16."""
    return torch.autocast(device.type, enabled=False)


def expect_trainable(objective: OwnObjective, model: Model, batch: Batch) -> None:
    """Raise a ConfigError unless the objective of a batch is finite and has a gradient."""
    value = objective(model, batch).surrogate
    assert value is not None
    if not value.requires_grad:
        raise ConfigError(
            "`objective`: returned a tensor without gradient; expected a function of the posterior, z or the likelihood, "
            "computed by PyTorch and without `detach` or `item`"
        )
    if not value.isfinite().all():
        raise ConfigError(
            "`objective`: returned NaN or infinity for the first batch; expected finite numbers: check for log or division by 0"
        )
