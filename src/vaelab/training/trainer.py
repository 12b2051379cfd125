"""The trainer: a model in training, its averaged weights, the best of them, and how far it has come.

A step waits for nothing on the device: figures are summed there and read when somebody asks.

Source: Kingma & Welling 2014, algorithm 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from vaelab import distributed
from vaelab.config import ResolvedTrainConfig
from vaelab.errors import TrainingError
from vaelab.models.base import Model
from vaelab.objectives.bounds import held_out_terms
from vaelab.objectives.elbo import Objective
from vaelab.objectives.own import OwnObjective
from vaelab.optim import ema
from vaelab.optim.batches import BatchStream
from vaelab.optim.own import OwnOptimizer
from vaelab.optim.schedule import schedule_at
from vaelab.optim.step import StepRunner
from vaelab.precision import exact_convolutions
from vaelab.runs import Averages, Best, Sums
from vaelab.training.validation import Validator

MAX_BAD_STEPS = 50  # steps in a row whose loss or gradient is NaN or infinite, after which training has diverged
MAX_HALVINGS = 2  # times that a training that diverges goes on at half the learning rate
ADD_EVERY = 1024  # steps between two readings of the sums in float32 from the device, to add them up in float64


class Trainer:
    """Takes steps, validates, and keeps the best weights. It receives its parts and builds nothing."""

    def __init__(
        self,
        averaged: Model,
        batches: BatchStream,
        objective: Objective,
        fine_tuning: Objective,
        validator: Validator,
        runner: StepRunner,
        config: ResolvedTrainConfig,
        *,
        optimizer: OwnOptimizer | None = None,
        factor: Callable[[float], float] | None = None,
    ) -> None:
        """Train the model of `runner`, whose moving average is `averaged`.

        `objective` is minimised, and `fine_tuning` in the final phase if `config.iwae_samples` is above 1. `optimizer` is that of
        the runner, if it is the caller's, and `factor` the caller's schedule of the learning rate.
        """
        self.optimizer, self.factor = optimizer, factor
        self.averaged, self.batches, self.validator, self.config = averaged, batches, validator, config
        self.objective, self.fine_tuning_objective = objective, fine_tuning
        self.runner, self.model, self.state, self.stats = runner, runner.model, runner.state, runner.stats
        self.step, self.skipped, self.halvings, self.fine_tuning = 0, 0, 0, False
        self.validated_step, self.validated_fraction = 0, 0.0  # at the last validation
        self.best: Best | None = None
        self.last_validation: Averages | None = None
        self.learning_rate = math.nan  # of the last step
        self.added = self.taken = Sums()  # of the sums: those no longer on the device, and all at the last `take_sums`

    @property
    def epochs_done(self) -> float:
        """Passes over the training images so far."""
        return self.step * self.batches.order.batch_size / self.batches.order.count

    def take_step(self, fraction: float) -> None:
        """Take one step, `fraction` (0…1) of the way through the training."""
        config = self.config
        self.fine_tuning = config.iwae_samples > 1 and fraction >= 1 - config.iwae_fraction
        objective, samples = self.objective, None
        if self.fine_tuning:
            objective, samples = self.fine_tuning_objective, config.iwae_samples
        with exact_convolutions():
            factor = None if self.factor is None else self.factor(fraction)
            schedule = schedule_at(config, fraction, self.halvings, factor)
            if isinstance(objective, OwnObjective):
                objective = objective.at(float(schedule.beta), config.seed, self.step)
            self.runner.step(self.batches.at(self.step, samples), schedule, objective)
        self.learning_rate = float(schedule.learning_rate)
        self.step += 1
        if ema.is_due(self.step):
            ema.update_average(self.state.averaged, self.state.weights, ema.averaging_fraction(self.step, config.ema))
        if self.step % ADD_EVERY == 0:
            self.added = self.sums()
            self.stats.sums.zero_()
        self.runner.changing.clear()

    def take_sums(self, *, ended: bool = False) -> Sums:
        """Return the sums over the good steps since the last call; `ended` marks the last call.

        Training has diverged if the last `MAX_BAD_STEPS` steps were all bad, or, at the end, the last half of all steps.
        """
        found, before = self.sums(), self.taken
        self.skipped, in_a_row = (int(count) for count in self.stats.bad.tolist())
        if in_a_row >= MAX_BAD_STEPS or (ended and in_a_row >= max(1, self.step / 2)):
            self._recover(
                f"loss or gradient was NaN or infinite in {in_a_row} step{'s' * (in_a_row > 1)} in a row", ended
            )
        elif not math.isfinite(found.distortion + found.rate):
            self._recover("the loss exceeds the range of float32", ended)
        else:
            self.taken = found
            return found - before
        return Sums()

    def sums(self) -> Sums:
        """Return the sums over the good steps since the last `mark_validated`. They depend on no clock, only on the steps."""
        distortion, rate, steps = self.stats.sums.tolist()
        return self.added + Sums(distortion, rate, int(steps))

    def validate(self, fraction: float) -> Averages | None:
        """Return held-out figures of the averaged weights, `fraction` of the way through, and keep the weights if they are best.

        If the figures are not finite (without validation images, those of a training batch), go back to the best weights.
        """
        weights = {name: tensor.clone() for name, tensor in self.averaged.state_dict().items()}
        if len(self.validator) == 0:
            (bad,) = distributed.all_reduce_max(not self._averaged_is_finite())
            if bad:
                self._recover("the averaged weights give figures that are NaN or infinite", fraction >= 1)
            else:
                self.best = Best(weights, self.step, math.inf, False, None, None)
            return None
        averages, stats = self.validator.measure(self.averaged)
        if not math.isfinite(averages.nats):
            self._recover("the validation figures are NaN or infinite", fraction >= 1)
            return self.validate(fraction)
        self.last_validation = averages if self.step else None  # those of the untrained model are not shown
        value = averages.distortion + self.config.beta * averages.rate
        if isinstance(self.objective, OwnObjective):
            value = self.validator.own_value(self.averaged, self.objective, self.config.batch_size)
            value = value if math.isfinite(value) else math.inf  # any other weights are better
        if self.fine_tuning:
            value = self.validator.negative_bound(self.averaged)
        found = Best(weights, self.step, value, self.fine_tuning, averages, stats)
        # The two phases have different measures, so fine-tuned weights replace all others.
        if self.best is None or (not found.fine_tuned, found.value) < (not self.best.fine_tuned, self.best.value):
            self.best = found
        return averages

    def mark_validated(self, fraction: float) -> None:
        """Mark the steps so far as validated, `fraction` of the way through, and begin new sums."""
        self.validated_step, self.validated_fraction = self.step, fraction
        self.added = self.taken = Sums()
        self.stats.sums.zero_()

    def take_best(self) -> None:
        """Load the best weights into the averaged model, and show their figures as the last ones."""
        if self.best is not None:
            self.averaged.load_state_dict(self.best.weights)
            self.last_validation = self.best.averages

    def weights_to_use(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the best weights and the numbers beside them.

        Before the first validation after a step, the best are the initial ones, and the averaged ones are returned instead; None
        if their figures are not finite.
        """
        if self.best is not None and (self.validated_step > 0 or self.step == 0):
            return self.best.weights, self.best.facts()
        return (self.averaged.state_dict(), {"step": self.step}) if self._averaged_is_finite() else None

    def state_to_save(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all that resuming needs: tensors by name, and numbers. Some of these names are older than those here."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"averaged.{name}": value for name, value in self.averaged.state_dict().items()}
        tensors |= {} if self.best is None else {f"best.{name}": value for name, value in self.best.weights.items()}
        facts = {"step": self.step, "fine_tuning": self.fine_tuning} | Best.facts_to_resume(self.best)
        facts |= {"validated": (self.validated_step, self.validated_fraction), "halvings": self.halvings}
        facts |= {"added": asdict(self.added), "last_validation": self.last_validation and asdict(self.last_validation)}
        if self.optimizer is not None:
            moments, numbers = self.optimizer.state_to_save()
            tensors, facts = tensors | moments, facts | numbers
        return tensors | self._counters_and_moments(), facts

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Restore what `state_to_save` returned."""
        device = self.stats.bad.device

        def part(prefix: str) -> dict[str, Tensor]:
            found = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
            return {name: value.to(device) for name, value in found.items()}

        self.model.load_state_dict(part("model."))
        self.averaged.load_state_dict(part("averaged."))
        for name, tensor in self._counters_and_moments().items():
            tensor.copy_(tensors.get(name, torch.zeros_like(tensor)))  # vaelab 0.1 has no sums
        if self.optimizer is not None:
            self.optimizer.restore(tensors, facts)
        self.added = Sums(**facts.get("added", {}))
        self.taken, self.skipped = self.sums(), int(self.stats.bad[0])
        self.step, self.fine_tuning = facts["step"], facts.get("fine_tuning", False)
        self.validated_step, self.validated_fraction = facts["validated"]
        self.halvings = facts.get("halvings", 0)
        if weights := part("best."):
            self.best = Best.resumed(weights, facts)
            self.last_validation = self.best.averages if self.best.step else None
        if last := facts.get("last_validation"):
            self.last_validation = Averages(**last)

    def _counters_and_moments(self) -> dict[str, Tensor]:
        """Return what resuming needs beside the weights, by name; these tensors change in place as training continues."""
        found = {name: getattr(self.stats, name) for name in ("sums", "bad", "usual_norm")} | {
            "updates": self.state.updates
        }
        for name, moments in (("mean", self.state.means), ("square", self.state.squares)):
            found |= {f"{name}.{index}": moment for index, moment in enumerate(moments)}
        return found

    def _averaged_is_finite(self) -> bool:
        """Return whether the averaged weights give finite figures for a batch of training images."""
        batch = self.batches.at(self.step).prepared(self.model.likelihood_name)
        terms = held_out_terms(self.averaged, batch.images, batch.labels, batch.noise)
        return bool(terms.negative_elbo().isfinite().all())

    def _recover(self, what: str, ended: bool) -> None:
        """Go back to the best weights, with fresh moments and half the learning rate; a TrainingError if that does not help."""
        rate, beta = self.config.learning_rate, self.config.beta
        if self.best is None or self.skipped == self.step:  # the learning rate is not the cause
            raise TrainingError(
                f"{what}, from the first step on; check for very large values in the data, or a division by 0 in custom networks"
            )
        if self.halvings == MAX_HALVINGS or (ended and self.best.step == 0):
            raise TrainingError(
                f"{what}, at step {self.step}; try a smaller `learning_rate` (it is {rate:g}) or `beta` (it is {beta:g})"
            )
        self.runner.changing.set()
        self.halvings += 1
        self.model.load_state_dict(self.best.weights)
        self.averaged.load_state_dict(self.best.weights)
        for tensor in self._counters_and_moments().values():
            tensor.zero_()
        if self.optimizer is not None:
            self.optimizer.forget()
        self.stats.bad[0], self.taken = self.skipped, self.added
        self.runner.changing.clear()
        self.runner.remarks.append(
            f"{what}, at step {self.step}; training goes on from the weights of step {self.best.step} at half the learning "
            f"rate, {rate * 0.5**self.halvings:g}"
        )
