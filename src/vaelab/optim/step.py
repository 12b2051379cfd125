"""One training step: loss and gradients of a batch, and the update. Functions of tensors, run as they are or compiled.

What changes from step to step enters as a tensor or a number, and what lasts is changed in place: nothing waits for the
device, and a compiler sees the whole step as one graph.

Source: Kingma & Welling 2014, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from vaelab.config import ResolvedTrainConfig
from vaelab.errors import TrainingError
from vaelab.memory import half, is_out_of_memory, release_cache
from vaelab.models.base import Model
from vaelab.objectives.batch import Batch
from vaelab.objectives.elbo import Objective, Terms, loss
from vaelab.optim.adamw import AdamW, adamw_for
from vaelab.optim.schedule import Schedule
from vaelab.optim.state import LossAndGrad, StepStats, TrainState
from vaelab.precision import mixed_precision, rounded_weights

Result = TypeVar("Result")

NORM_TRACKING = 0.02
"""Fraction by which the running average of the gradient norm moves towards the norm of a step."""


def loss_and_grad(
    model: Model,
    weights: Sequence[Tensor],
    batch: Batch,
    schedule: Schedule,
    config: ResolvedTrainConfig,
    objective: Objective,
    *,
    at_once: int | None = None,
) -> LossAndGrad:
    """Return loss, ELBO terms and gradients of a batch, binarising its images if that is still to do.

    Parameters
    ----------
    at_once
        Images that pass through the model at a time; None: the whole batch. Fewer take less memory and more time, for the
        loss and the gradients of the whole batch: see `_in_parts`. Custom networks with batch normalisation see the images of
        a part only.
    """
    batch = batch.prepared(model.likelihood_name)
    if at_once is not None:
        return _in_parts(model, weights, batch, schedule, config, objective, at_once)
    terms = _terms(model, batch, config, objective)
    value = loss(terms, beta=schedule.beta, free_bits=config.free_bits, groups=model.groups)
    gradients = torch.autograd.grad(value, weights, allow_unused=True, materialize_grads=True)
    return LossAndGrad(*_means(terms), value.detach(), gradients)


def _in_parts(
    model: Model,
    weights: Sequence[Tensor],
    batch: Batch,
    schedule: Schedule,
    config: ResolvedTrainConfig,
    objective: Objective,
    at_once: int,
) -> LossAndGrad:
    """Return the same as for the whole batch, from two passes over its parts.

    The first pass, without gradients, gives the terms of the batch, its loss, and the derivative of the loss by each image's
    terms, whatever the loss (free bits depend on the mean over the batch). The second accumulates gradients weighted by these
    derivatives.
    """
    parts = batch.split(at_once)
    with torch.no_grad():
        each = [_terms(model, part, config, objective) for part in parts]
    whole = Terms(
        torch.cat([terms.distortion for terms in each], dim=-1).requires_grad_(),
        torch.cat([terms.rate for terms in each], dim=-2).requires_grad_(),
        None
        if each[0].surrogate is None
        else torch.cat([s for terms in each if (s := terms.surrogate) is not None]).requires_grad_(),
    )
    value = loss(whole, beta=schedule.beta, free_bits=config.free_bits, groups=model.groups)
    by_terms = torch.autograd.grad(value, _tensors(whole), allow_unused=True, materialize_grads=True)
    batch_dims = (-1, -2, 0)
    derivatives = [given.split(at_once, dim=dim) for given, dim in zip(by_terms, batch_dims, strict=False)]
    gradients = [torch.zeros_like(weight) for weight in weights]
    for number, part in enumerate(parts):
        terms = _tensors(_terms(model, part, config, objective))
        pairs = [(term, given[number]) for term, given in zip(terms, derivatives, strict=True) if term.requires_grad]
        added = torch.autograd.grad(
            [term for term, _ in pairs],
            weights,
            [given for _, given in pairs],
            allow_unused=True,
            materialize_grads=True,
        )
        torch._foreach_add_(gradients, list(added))  # pyright: ignore[reportPrivateImportUsage]
    return LossAndGrad(*_means(whole), value.detach(), gradients)


def _tensors(terms: Terms) -> list[Tensor]:
    return [terms.distortion, terms.rate, *([] if terms.surrogate is None else [terms.surrogate])]


def _terms(model: Model, batch: Batch, config: ResolvedTrainConfig, objective: Objective) -> Terms:
    # Casting weights one by one takes a quarter of a ladder's kernels on a GPU; a compiler casts each where it is used, at no
    # cost.
    cast = config.precision == "bfloat16" and batch.images.is_cuda and not torch.compiler.is_compiling()
    with mixed_precision(batch.images.device, config.precision):
        if cast:
            return call_with_weights(model, rounded_weights(model), lambda model: objective(model, batch))
        return objective(model, batch)


class _Caller(torch.nn.Module):
    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[Model], Result]) -> Result:
        return work(self.model)


def call_with_weights(model: Model, tensors: Mapping[str, Tensor], work: Callable[[Model], Result]) -> Result:
    """Return `work(model)`, run with these tensors instead of the parameters and buffers of the same names."""
    replaced = {f"model.{name}": tensor for name, tensor in tensors.items()}
    return torch.func.functional_call(_Caller(model), replaced, (work,))


def _means(terms: Terms) -> tuple[Tensor, Tensor]:
    return terms.distortion.detach().mean(), terms.rate.detach().sum(-1).mean()


@torch.no_grad()
def apply_update(
    state: TrainState,
    stats: StepStats,
    found: LossAndGrad,
    schedule: Schedule,
    config: ResolvedTrainConfig,
    adamw: AdamW,
) -> None:
    """Clip the gradients and update weights and counters, or skip the step if loss or gradient is not finite.

    A gradient whose norm exceeds `gradient_clip` times its running average is scaled down to that.
    """
    norm = torch.linalg.vector_norm(torch.stack(_norms(found.gradients)))
    bad = (~torch.isfinite(norm + found.loss)).float()
    usual = torch.where(stats.usual_norm > 0, stats.usual_norm, norm)
    limit = config.gradient_clip * usual
    divisor = (norm / limit.clamp_min(torch.finfo(norm.dtype).tiny)).clamp_min(1)  # finite for a zero gradient
    state.updates.add_(1 - bad)
    adamw(state, found.gradients, divisor, bad, schedule, config.weight_decay)
    moved = torch.lerp(usual, torch.minimum(norm, limit), NORM_TRACKING)
    stats.usual_norm.copy_(torch.where(bad > 0, stats.usual_norm, moved))
    figures = torch.stack([found.distortion, found.rate, torch.ones_like(bad)])
    stats.sums.add_(torch.where(bad > 0, torch.zeros_like(figures), figures))
    stats.bad.copy_(torch.stack([stats.bad[0] + bad, (stats.bad[1] + 1) * bad]))


def _norms(gradients: Sequence[Tensor]) -> list[Tensor]:
    if gradients[0].is_cuda:  # a few kernels for all tensors
        return list(torch._foreach_norm(list(gradients)))  # pyright: ignore[reportPrivateImportUsage]
    return [torch.linalg.vector_norm(gradient) for gradient in gradients]


def train_step(
    model: Model,
    state: TrainState,
    stats: StepStats,
    batch: Batch,
    schedule: Schedule,
    config: ResolvedTrainConfig,
    objective: Objective,
    adamw: AdamW,
) -> None:
    """Take one step of gradient descent: `loss_and_grad`, then `apply_update`."""
    found = loss_and_grad(model, state.weights, batch, schedule, config, objective)
    apply_update(state, stats, found, schedule, config, adamw)


@runtime_checkable
class StepRunner(Protocol):
    """Takes the steps of a training. `PlainRunner` is the reference; others take the same steps faster.

    Attributes
    ----------
    remarks
        Lines for the user, such as that memory is short; the caller removes what it has shown.
    """

    remarks: list[str]

    def step(self, batch: Batch, schedule: Schedule, objective: Objective) -> None:
        """Take one step."""
        ...

    def prepare(self) -> Iterator[None]:
        """Prepare before the first step; yields while that takes time."""
        ...

    def tend(self, seconds_left: float) -> None:
        """Do what is due between steps, called a few times a second; `seconds_left` of the training, 0 if it counts epochs."""
        ...

    def close(self) -> None:
        """Release what the runner holds, such as processes."""
        ...


class PlainRunner:
    """Takes steps as they are written; after an out-of-memory error on fewer images at a time, with the same result.

    Attributes
    ----------
    at_once
        Images that pass through the model at a time; None: the whole batch.
    """

    def __init__(self, model: Model, state: TrainState, stats: StepStats, config: ResolvedTrainConfig) -> None:
        self.model, self.state, self.stats, self.config = model, state, stats, config
        self.device = stats.bad.device
        self.adamw = adamw_for(self.device)
        self.at_once: int | None = None
        self.remarks: list[str] = []

    def step(self, batch: Batch, schedule: Schedule, objective: Objective) -> None:
        """Take one step.

        Raises
        ------
        TrainingError
            If there is not enough memory for one image at a time.
        """
        found = self._loss_and_grad(batch, schedule, objective)
        apply_update(self.state, self.stats, found, schedule, self.config, self.adamw)

    def prepare(self) -> Iterator[None]:
        """Do nothing."""
        return iter(())

    def tend(self, seconds_left: float) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def _loss_and_grad(self, batch: Batch, schedule: Schedule, objective: Objective) -> LossAndGrad:
        while True:
            try:
                return loss_and_grad(
                    self.model, self.state.weights, batch, schedule, self.config, objective, at_once=self.at_once
                )
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            # outside the handler, because the error holds references to tensors
            self._halve(len(batch.images))

    def _halve(self, images: int) -> None:
        release_cache()
        before = self.at_once or images
        if before == 1:
            raise TrainingError(
                f"not enough memory on {self.device} for one image; free some, or use smaller images (`size`), a "
                "smaller network "
                "(`width`) or another `device`"
            )
        remark = "memory is short: batches of {} are processed {} images at a time, with the same loss and gradients"
        if self.at_once is not None and self.remarks and self.remarks[-1] == remark.format(images, before):
            self.remarks.pop()  # halved twice in one step: the last remark is enough
        self.at_once = half(before)
        self.remarks.append(remark.format(images, self.at_once))
