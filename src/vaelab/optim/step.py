"""One step of gradient descent, from raw pixels to moved weights: a function of tensors, run as it stands or compiled.

What changes from step to step enters as a tensor or a number, and what is kept is changed in place: nothing waits for the
device, and a compiler sees the whole step as one graph and fuses what lies between the matrix products.

Sources: Kingma & Welling 2014, algorithm 1 (the step); Loshchilov & Hutter 2019, algorithm 2 (AdamW).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from vaelab.config import LikelihoodName, TrainConfig
from vaelab.models.base import Model
from vaelab.objectives import elbo
from vaelab.objectives.elbo import Terms
from vaelab.optim.batches import key_further_on, training_input

DECAY_OF_MEAN, DECAY_OF_SQUARE, EPSILON = 0.9, 0.99, 1e-8
"""AdamW's β₁ and β₂, and what keeps its division finite."""

FOLLOWING = 0.02
"""Share by which the running average of the gradient's norm follows it."""


class Schedule(NamedTuple):
    """What changes over a training: β and the learning rate."""

    beta: float | Tensor
    learning_rate: float | Tensor


@dataclass(frozen=True)
class Batch:
    """What a step sees: images (batch, *shape), labels (batch,), noise ε (batch, d).

    With noise (K, batch, d), K draws of z per image, it is the importance-weighted bound that is minimised.

    Attributes
    ----------
    images
        As the likelihood takes them; or as they are kept, where there is a key.
    key
        By which `drawn` binarises them; None where that is done.
    """

    images: Tensor
    labels: Int[Tensor, " batch"] | None
    noise: Float[Tensor, "*samples batch d"]
    key: Int32[Tensor, "2"] | None = None

    def drawn(self, likelihood: LikelihoodName) -> Batch:
        """The same with images as `likelihood` takes them."""
        if self.key is None:
            return self
        return Batch(training_input(self.images, likelihood, self.key), self.labels, self.noise)

    def parts(self, at_once: int) -> list[Batch]:
        """The same in parts of `at_once` images; the last may be smaller. Pixels are binarised as they are in the whole."""
        images, noise = self.images.split(at_once), self.noise.split(at_once, dim=-2)
        labels = [None] * len(images) if self.labels is None else self.labels.split(at_once)
        places, key = at_once * self.images[:1].numel(), self.key
        keys = [None if key is None else key_further_on(key, number * places) for number in range(len(images))]
        return [Batch(*part) for part in zip(images, labels, noise, keys, strict=True)]


@dataclass(frozen=True)
class TrainState:
    """What training moves, with a tensor per parameter: weights, their average, AdamW's moments; and the updates so far."""

    weights: list[Tensor]
    averaged: list[Tensor]
    means: list[Tensor]
    squares: list[Tensor]
    updates: Float[Tensor, ""]


@dataclass(frozen=True)
class StepStats:
    """What a training keeps count of on its device, and reads seldom.

    Attributes
    ----------
    sums
        Over the good steps since the last reading: distortion and rate in nats per image, and their number, (3,).
    bad
        Steps left out because loss or gradient was NaN or infinite: in all, and in a row, (2,).
    usual_norm
        Running average of the gradient's norm; 0 before the first step.
    """

    sums: Float[Tensor, "3"]
    bad: Float[Tensor, "2"]
    usual_norm: Float[Tensor, ""]


class AdamW(Protocol):
    """Moves weights and moments by gradients / divisor, not where `bad` is 1."""

    def __call__(
        self,
        moving: TrainState,
        gradients: Sequence[Tensor],
        divisor: Tensor,
        bad: Tensor,
        schedule: Schedule,
        weight_decay: float,
    ) -> None: ...


class Found(NamedTuple):
    """What a batch says of the weights: mean distortion and rate in nats per image, the loss, and its gradients."""

    distortion: Float[Tensor, ""]
    rate: Float[Tensor, ""]
    loss: Float[Tensor, ""]
    gradients: Sequence[Tensor]


def descend(
    model: Model,
    moving: TrainState,
    tally: StepStats,
    batch: Batch,
    schedule: Schedule,
    config: TrainConfig,
    adamw: AdamW,
) -> None:
    """Move the weights down the gradient of the objective; or leave a bad step out.

    `adamw` is `fused_adamw`, or `plain_adamw` for a compiler, whose schedule must be of tensors.
    """
    move(moving, tally, look(model, moving.weights, batch, schedule, config), schedule, config, adamw)


def look(model: Model, weights: Sequence[Tensor], batch: Batch, schedule: Schedule, config: TrainConfig) -> Found:
    """Loss and gradients of a batch, binarised if that is still to do. Nothing is moved."""
    batch = batch.drawn(model.likelihood_name)
    if batch.noise.ndim == 3:
        return _look_weighted(model, weights, batch, config)
    terms = _terms(model, batch, config)
    loss = elbo.loss(terms, beta=schedule.beta, free_bits=config.free_bits, groups=model.groups)
    gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
    return Found(*_means(terms), loss.detach(), gradients)


def look_in_parts(
    model: Model, weights: Sequence[Tensor], batch: Batch, schedule: Schedule, config: TrainConfig, at_once: int
) -> Found:
    """The same for less memory and more time: `at_once` images at a time, with loss and gradients of the whole batch.

    A first look at all parts, without gradients, gives the loss of the batch and how it hangs on the figures of each image,
    whatever the loss is made of (free bits look at the mean over the batch). By these the gradients of the parts are
    weighted and added up. A network of one's own that looks from image to image, as batch normalisation does, sees the
    images of a part only.
    """
    parts = batch.drawn(model.likelihood_name).parts(at_once)
    if batch.noise.ndim == 3:  # a mean over images
        gradients, figures = (
            [torch.zeros_like(weight) for weight in weights],
            torch.zeros(3, device=batch.images.device),
        )
        for part in parts:
            found, share = _look_weighted(model, weights, part, config), len(part.images) / len(batch.images)
            torch._foreach_add_(gradients, list(found.gradients), alpha=share)  # pyright: ignore[reportPrivateImportUsage]
            figures += share * torch.stack([found.distortion, found.rate, found.loss])
        distortion, rate, loss = figures
        return Found(distortion, rate, loss, gradients)
    with torch.no_grad():
        seen = [_terms(model, part, config) for part in parts]
    terms = Terms(
        torch.cat([each.distortion for each in seen], dim=-1).requires_grad_(),
        torch.cat([each.rate for each in seen], dim=-2).requires_grad_(),
    )
    loss = elbo.loss(terms, beta=schedule.beta, free_bits=config.free_bits, groups=model.groups)
    per_image = torch.autograd.grad(loss, (terms.distortion, terms.rate), allow_unused=True, materialize_grads=True)
    gradients = [torch.zeros_like(weight) for weight in weights]
    weighing = zip(per_image[0].split(at_once, dim=-1), per_image[1].split(at_once, dim=-2), strict=True)
    for part, weighed in zip(parts, weighing, strict=True):
        each = _terms(model, part, config)
        # an autoencoder's rate hangs on no weight
        figures = [pair for pair in zip((each.distortion, each.rate), weighed, strict=True) if pair[0].requires_grad]
        added = torch.autograd.grad(
            [figure for figure, _ in figures],
            weights,
            [weight for _, weight in figures],
            allow_unused=True,
            materialize_grads=True,
        )
        torch._foreach_add_(gradients, list(added))  # pyright: ignore[reportPrivateImportUsage]
    return Found(*_means(terms), loss.detach(), gradients)


def _products(batch: Batch, config: TrainConfig) -> torch.autocast:
    """Within it, matrix products are made in the precision of `config`, with float32 weights."""
    return torch.autocast(batch.images.device.type, torch.bfloat16, enabled=config.precision == "bfloat16")


def _terms(model: Model, batch: Batch, config: TrainConfig) -> Terms:
    given = batch.images, batch.labels, batch.noise
    # A compiler casts each weight where it is used, at no cost; one by one on a GPU that is a quarter of a ladder's kernels.
    at_once = config.precision == "bfloat16" and batch.images.is_cuda and not torch.compiler.is_compiling()
    with _products(batch, config):
        inference = torch.func.functional_call(model, rounded(model), given) if at_once else model(*given)
    return elbo.terms(inference, batch.images)


def rounded(model: Model) -> dict[str, Tensor]:
    """The parameters of dense layers and convolutions by name, in bfloat16, cast all at once; so are their gradients back."""
    layers = (torch.nn.Linear, torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    theirs = {
        id(w) for module in model.modules() if isinstance(module, layers) for w in module.parameters(recurse=False)
    }
    found = {name: weight for name, weight in model.named_parameters() if id(weight) in theirs}  # once, if two share it
    return dict(zip(found, _Rounded.apply(*found.values()), strict=True))  # pyright: ignore[reportArgumentType]


class _Rounded(torch.autograd.Function):
    """float32 to bfloat16, and gradients the other way."""

    @staticmethod
    def forward(ctx: object, *weights: Tensor) -> tuple[Tensor, ...]:
        return _cast(weights, torch.bfloat16)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> tuple[Tensor, ...]:
        return _cast(gradients, torch.float32)


def _cast(tensors: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    made = [torch.empty_like(each, dtype=dtype) for each in tensors]
    torch._foreach_copy_(made, list(tensors))  # pyright: ignore[reportPrivateImportUsage]
    return tuple(made)


def _look_weighted(model: Model, weights: Sequence[Tensor], batch: Batch, config: TrainConfig) -> Found:
    """The same of the importance-weighted bound."""
    with _products(batch, config):
        loss, terms = elbo.importance_weighted_loss(model, batch.images, batch.labels, batch.noise)
    gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
    return Found(*_means(terms), loss.detach(), gradients)


def _means(terms: Terms) -> tuple[Tensor, Tensor]:
    return terms.distortion.detach().mean(), terms.rate.detach().sum(-1).mean()


@torch.no_grad()
def move(
    moving: TrainState, tally: StepStats, found: Found, schedule: Schedule, config: TrainConfig, adamw: AdamW
) -> None:
    """Take the step that was `found`, its gradient scaled down where it is far larger than usual, and count it."""
    gradients = found.gradients
    norm = torch.linalg.vector_norm(torch.stack(_norms(gradients)))
    bad = (~torch.isfinite(norm + found.loss)).float()
    usual = torch.where(tally.usual_norm > 0, tally.usual_norm, norm)
    limit = config.gradient_clip * usual
    # a gradient of exactly zero is no reason to divide by zero
    divisor = (norm / limit.clamp_min(torch.finfo(norm.dtype).tiny)).clamp_min(1)
    moving.updates.add_(1 - bad)
    adamw(moving, gradients, divisor, bad, schedule, config.weight_decay)
    followed = torch.lerp(usual, torch.minimum(norm, limit), FOLLOWING)
    tally.usual_norm.copy_(torch.where(bad > 0, tally.usual_norm, followed))
    figures = torch.stack([found.distortion, found.rate, torch.ones_like(bad)])
    tally.sums.add_(torch.where(bad > 0, torch.zeros_like(figures), figures))
    tally.bad.copy_(torch.stack([tally.bad[0] + bad, (tally.bad[1] + 1) * bad]))


def _norms(gradients: Sequence[Tensor]) -> list[Tensor]:
    if gradients[0].is_cuda:  # a few kernels for all of them
        return list(torch._foreach_norm(list(gradients)))  # pyright: ignore[reportPrivateImportUsage]
    return [torch.linalg.vector_norm(gradient) for gradient in gradients]


def fused_adamw(
    moving: TrainState,
    gradients: Sequence[Tensor],
    divisor: Tensor,
    bad: Tensor,
    schedule: Schedule,
    weight_decay: float,
) -> None:
    """AdamW on `gradients` / `divisor` by PyTorch's fused kernel, which leaves the step out by itself where `bad` is 1."""
    torch._fused_adamw_(  # pyright: ignore[reportPrivateImportUsage] - as torch.optim.AdamW(fused=True) does
        _by_row(moving.weights),
        _by_row(_laid_as(gradients, moving.weights)),
        _by_row(moving.means),
        _by_row(moving.squares),
        [],
        [moving.updates.clamp_min(1)] * len(gradients),
        lr=schedule.learning_rate,
        beta1=DECAY_OF_MEAN,
        beta2=DECAY_OF_SQUARE,
        weight_decay=weight_decay,
        eps=EPSILON,
        amsgrad=False,
        maximize=False,
        grad_scale=divisor,
        found_inf=bad,
    )


def _laid_as(gradients: Sequence[Tensor], weights: Sequence[Tensor]) -> list[Tensor]:
    """`gradients` in the order in memory of `weights`."""
    return [
        gradient if gradient.stride() == weight.stride() else torch.empty_like(weight).copy_(gradient)
        for gradient, weight in zip(gradients, weights, strict=True)
    ]


def _by_row(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The same memory, with what is kept by column transposed: the fused kernel copies all that is not in rows."""
    return [each.t() if each.ndim == 2 and each.t().is_contiguous() else each for each in tensors]


def plain_adamw(
    moving: TrainState,
    gradients: Sequence[Tensor],
    divisor: Tensor,
    bad: Tensor,
    schedule: Schedule,
    weight_decay: float,
) -> None:
    """The same in single operations, for a compiler to fuse: one pass over each parameter and its moments."""
    updates, rate = moving.updates.clamp_min(1), schedule.learning_rate
    scalars = [
        1 / divisor,
        1 - bad,
        rate / (1 - DECAY_OF_MEAN**updates),
        1 / (1 - DECAY_OF_SQUARE**updates).sqrt(),
        1 - rate * weight_decay,
    ]
    # A product with the identity: what the compiler cannot see through, it works out once, and not again for every weight.
    once = torch.nan_to_num(torch.stack([torch.as_tensor(scalar) for scalar in scalars]))[None]
    shrink, good, pace, square_scale, keep = (once @ torch.eye(5, device=once.device)).squeeze(0).unbind()
    for weight, mean, square, gradient in zip(moving.weights, moving.means, moving.squares, gradients, strict=True):
        scaled = gradient * shrink
        new_mean = mean + (1 - DECAY_OF_MEAN) * (scaled - mean)
        new_square = square + (1 - DECAY_OF_SQUARE) * (scaled.square() - square)
        new_weight = weight * keep - pace * new_mean / (new_square.sqrt() * square_scale + EPSILON)
        for old, new in ((mean, new_mean), (square, new_square), (weight, new_weight)):
            old.copy_(torch.where(good > 0, new, old))


@torch.no_grad()
def follow(moving: TrainState, share: float) -> None:
    """Move the average of the weights by `share` of the way to them."""
    torch._foreach_lerp_(moving.averaged, moving.weights, share)  # pyright: ignore[reportPrivateImportUsage]
