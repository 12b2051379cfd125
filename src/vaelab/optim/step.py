"""One training step: loss and gradients of a batch, and the update. Functions of tensors, run as they are or compiled.

What changes from step to step enters as a tensor or a number, and what lasts is changed in place: nothing waits for the
device, and a compiler sees the whole step as one graph.

Source: Kingma & Welling 2014, algorithm 1.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from vaelab import distributed
from vaelab.config import ResolvedTrainConfig
from vaelab.errors import TrainingError
from vaelab.memory import NoMemoryError, retry_halved
from vaelab.models.base import Model
from vaelab.objectives.batch import Batch
from vaelab.objectives.elbo import Objective, Terms, loss
from vaelab.objectives.own import OwnObjective
from vaelab.optim.adamw import AdamW, Descent, adamw_for
from vaelab.optim.schedule import Schedule
from vaelab.optim.state import LossAndGrad, StepStats, TrainState
from vaelab.precision import mixed_precision, rounded_weights

Result = TypeVar("Result")

NORM_TRACKING = 0.02  # fraction by which the running average of the gradient norm moves towards the norm of a step


@dataclass(frozen=True)
class TrainStep:
    """The training step of a model, without the state that it changes."""

    model: Model
    config: ResolvedTrainConfig
    adamw: AdamW

    def __call__(
        self, state: TrainState, stats: StepStats, batch: Batch, schedule: Schedule, objective: Objective
    ) -> None:
        """Take one step of gradient descent."""
        self.apply_update(state, stats, self.loss_and_grad(state.weights, batch, schedule, objective), schedule)

    def loss_and_grad(
        self,
        weights: Sequence[Tensor],
        batch: Batch,
        schedule: Schedule,
        objective: Objective,
        at_once: int | None = None,
    ) -> LossAndGrad:
        """Return loss, ELBO terms and gradients of a batch, binarising its images if that is still to do.

        `at_once` images pass through the model at a time, by default the whole batch. Fewer take less memory and more time, for
        the loss and the gradients of the whole batch. Custom networks with batch normalisation see the images of a part only.
        """
        batch = batch.prepared(self.model.likelihood_name)
        if at_once is not None:
            return self._in_parts(weights, batch, schedule, objective, at_once)
        terms = self._terms(batch, objective)
        value = self._loss(terms, schedule)
        return LossAndGrad(*_means(terms), value.detach(), _gradients([value], weights))

    def _in_parts(
        self, weights: Sequence[Tensor], batch: Batch, schedule: Schedule, objective: Objective, at_once: int
    ) -> LossAndGrad:
        """Return the same as for the whole batch, from two passes over its parts.

        The first pass, without gradients, gives the terms of the batch, its loss, and the derivative of the loss by each
        image's terms, whatever the loss (free bits depend on the mean over the batch). The second accumulates gradients
        weighted by these derivatives.
        """
        parts = batch.split(at_once)
        with torch.no_grad():
            each = [self._terms(part, objective).tensors() for part in parts]
        dims = (-1, -2, 0)[: len(each[0])]  # the dimension of the images in each of `Terms`
        whole = [torch.cat(t, dim).requires_grad_() for t, dim in zip(zip(*each, strict=True), dims, strict=True)]
        value = self._loss(Terms(*whole), schedule)
        by_terms = _gradients([value], whole)
        split = (derivative.split(at_once, dim) for derivative, dim in zip(by_terms, dims, strict=True))
        total = [torch.zeros_like(weight) for weight in weights]
        for part, derivatives in zip(parts, zip(*split, strict=True), strict=True):
            pairs = zip(self._terms(part, objective).tensors(), derivatives, strict=True)
            terms, outer = zip(*[pair for pair in pairs if pair[0].requires_grad], strict=True)
            torch._foreach_add_(total, _gradients(terms, weights, outer))  # pyright: ignore[reportPrivateImportUsage]
        return LossAndGrad(*_means(Terms(*whole)), value.detach(), total)

    def _terms(self, batch: Batch, objective: Objective) -> Terms:
        with mixed_precision(batch.images.device, self.config.precision):
            # Casting weights one by one takes a quarter of a ladder's kernels on a GPU; a compiler casts each where it is used,
            # at no cost.
            if self.config.precision == "bfloat16" and batch.images.is_cuda and not torch.compiler.is_compiling():
                return call_with_weights(self.model, rounded_weights(self.model), lambda model: objective(model, batch))
            return objective(self.model, batch)

    def _loss(self, terms: Terms, schedule: Schedule) -> Tensor:
        free_bits = self.config.free_bits
        if free_bits > 0 and terms.surrogate is None and distributed.world_size() > 1:
            terms = replace(terms, rate=with_mean_of_all(terms.rate, self.config.batch_size))
        return loss(terms, beta=schedule.beta, free_bits=free_bits, groups=self.model.groups)

    @torch.no_grad()
    def apply_update(self, state: TrainState, stats: StepStats, found: LossAndGrad, schedule: Schedule) -> None:
        """Clip the gradients and update weights and counters, or skip the step if loss or gradient is not finite.

        A gradient whose norm exceeds `gradient_clip` times its running average is scaled down to that.
        """
        norm = torch.linalg.vector_norm(torch.stack(_norms(found.gradients)))
        bad = (~torch.isfinite(norm + found.loss)).float()
        usual = torch.where(stats.usual_norm > 0, stats.usual_norm, norm)
        limit = self.config.gradient_clip * usual
        divisor = (norm / limit.clamp_min(torch.finfo(norm.dtype).tiny)).clamp_min(1)  # finite for a zero gradient
        state.updates.add_(1 - bad)
        self.adamw(state, Descent(found.gradients, divisor, bad, schedule.learning_rate, self.config.weight_decay))
        moved = torch.lerp(usual, torch.minimum(norm, limit), NORM_TRACKING)
        stats.usual_norm.copy_(torch.where(bad > 0, stats.usual_norm, moved))
        figures = torch.stack([found.distortion, found.rate, torch.ones_like(bad)])
        stats.sums.add_(torch.where(bad > 0, torch.zeros_like(figures), figures))
        stats.bad.copy_(torch.stack([stats.bad[0] + bad, (stats.bad[1] + 1) * bad]))


def with_mean_of_all(rate: Tensor, batch_size: int) -> Tensor:
    """Return the rates (n, d) of a process's share of a batch, shifted to the mean over the batch; gradients are not changed.

    Free bits depend on that mean.
    """
    (mean,) = distributed.all_reduce_sum([rate.detach().mean(0)], len(rate) / batch_size)
    return rate + (mean - rate.detach().mean(0))


def _gradients(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], outer: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """Return the gradient of Σ `outer` · `outputs` by each input, zeros where there is none."""
    return list(torch.autograd.grad(outputs, inputs, outer, allow_unused=True, materialize_grads=True))


def _means(terms: Terms) -> tuple[Tensor, Tensor]:
    return terms.distortion.detach().mean(), terms.rate.detach().sum(-1).mean()


def _norms(gradients: Sequence[Tensor]) -> list[Tensor]:
    if gradients[0].is_cuda:  # a few kernels for all tensors
        return list(torch._foreach_norm(list(gradients)))  # pyright: ignore[reportPrivateImportUsage]
    return [torch.linalg.vector_norm(gradient) for gradient in gradients]


class _Caller(torch.nn.Module):
    """Calls `work(model)` in its forward pass, the only place where `functional_call` replaces weights."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[Model], Result]) -> Result:
        return work(self.model)


def call_with_weights(model: Model, tensors: Mapping[str, Tensor], work: Callable[[Model], Result]) -> Result:
    """Return `work(model)`, run with these tensors instead of the parameters and buffers of the same names."""
    replaced = {f"model.{name}": tensor for name, tensor in tensors.items()}
    return torch.func.functional_call(_Caller(model), replaced, (work,))


class StepRunner(ABC):
    """Takes the steps of a training. `PlainRunner` is the reference; others take the same steps faster."""

    model: Model
    state: TrainState
    stats: StepStats

    remarks: list[str]
    """Lines for the user, such as that memory is short; the caller removes what it has shown."""

    changing: threading.Event
    """Set before a step changes its first tensor; the caller clears it after the last one."""

    @abstractmethod
    def step(self, batch: Batch, schedule: Schedule, objective: Objective) -> None:
        """Take one step; a TrainingError if there is not enough memory for one image at a time."""

    def prepare(self) -> Iterator[None]:
        """Prepare before the first step; yields while that takes time."""
        return iter(())

    def tend(self, seconds_left: float) -> None:  # noqa: B027 - optional
        """Do what is due between steps, called a few times a second; `seconds_left` of the training, 0 if it counts epochs."""

    def close(self) -> None:  # noqa: B027 - optional
        """Release what the runner holds, such as processes."""


class PlainRunner(StepRunner):
    """Takes steps as they are written; after an out-of-memory error on `at_once` images at a time, with the same result."""

    def __init__(
        self,
        model: Model,
        state: TrainState,
        stats: StepStats,
        config: ResolvedTrainConfig,
        optimizer: AdamW | None = None,
    ) -> None:
        """Train `model` by `optimizer`, by default the fastest AdamW for the device."""
        self.model, self.state, self.stats, self.device = model, state, stats, stats.bad.device
        self.train_step = TrainStep(model, config, optimizer or adamw_for(self.device))
        self.at_once: int | None = None
        self.remarks, self.changing = [], threading.Event()

    def step(self, batch: Batch, schedule: Schedule, objective: Objective) -> None:
        count = len(batch.images)
        size = self.at_once or count

        def work(size: int) -> LossAndGrad:
            at_once = size if size < count else None
            return self.train_step.loss_and_grad(self.state.weights, batch, schedule, objective, at_once)

        # The mean rate of free bits is exchanged in the forward pass, which one process alone cannot repeat. An objective of the
        # caller may depend on the whole batch.
        once = isinstance(objective, OwnObjective) or (
            distributed.world_size() > 1 and self.train_step.config.free_bits > 0
        )
        try:
            found, fits = retry_halved(work, size, once=once)
        except NoMemoryError as error:
            raise TrainingError(
                f"not enough memory on {self.device} for one image; free some, or use smaller images (`size`), a smaller "
                "network (`width`) or another `device`"
            ) from error
        if fits < size:
            self.at_once = fits
            self.remarks.append(
                f"memory is short: batches of {count} are processed {fits} images at a time, with the same loss and gradients"
            )
        self.update(found, schedule, count)

    def update(self, found: LossAndGrad, schedule: Schedule, count: int) -> None:
        """Update with what was found of `count` images, the share of this process, and of the shares of the others."""
        values = [found.distortion, found.rate, found.loss, *found.gradients]
        weight = count / self.train_step.config.batch_size
        distortion, rate, loss, *gradients = distributed.all_reduce_sum(values, weight)
        self.changing.set()
        self.train_step.apply_update(self.state, self.stats, LossAndGrad(distortion, rate, loss, gradients), schedule)
