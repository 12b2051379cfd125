"""Trials on binarised MNIST: one change at a time to the ladder of `--preset quick`, for the same number of steps.

    python benchmarks/trials.py                        # all of them, one after the other
    python benchmarks/trials.py "as it is" "Adamax"    # some of them
    python benchmarks/trials.py --list

A trial sees what a training sees (the first 50,000 training images, binarised afresh) for 1,350 steps of 128 images, 3.5 epochs,
in float32: the machine changes how long it takes, not what comes out. Its figures are of the 10,000 validation images; no test
image is looked at. The bound is −ELBO less the gap between the two on the first 300 of them, K = 200. One seed each, so that a
difference of some 0.2 nats means little. At half of its steps a trial that is 3 nats behind the first one is stopped.

SOAP and schedule-free AdamW are those of the package `pytorch-optimizer`, which vaelab itself does not need.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, cast, runtime_checkable
from unittest.mock import patch

import torch
import torch.nn.functional as F
from machine import machine
from torch import Tensor

import vaelab
import vaelab.training.trainer
from vaelab.acceleration.runner import Stepper
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data.dataset import Dataset
from vaelab.models.base import Model
from vaelab.models.spatial import MixerBlock
from vaelab.objectives.batch import Batch, held_out_levels
from vaelab.objectives.bounds import negative_elbo, negative_importance_bound
from vaelab.optim.schedule import Schedule
from vaelab.optim.state import TrainState
from vaelab.optim.step import apply_update, follow, loss_and_grad
from vaelab.presets import with_preset
from vaelab.training.resolve import resolve
from vaelab.training.trainer import Trainer

STEPS, FEW = 1350, 10_000
SAMPLES, BOUND_IMAGES = 200, 300
FAR_BEHIND = 3.0
"""Nats by which a trial is clearly behind."""

AVERAGES = (0.99, 0.995, 0.999)
"""Other lengths of the moving average, looked at beside that of the first trial."""

Optimiser = Callable[[list[Tensor], float], torch.optim.Optimizer]
"""Makes it for weights and a peak rate."""


@dataclass(frozen=True)
class Trial:
    """What is changed: fields of the configuration, the learning rate's factor by (fraction, warm-up), the optimiser, dropout."""

    train: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    factor: Callable[[float, float], float] | None = None
    optimiser: Optimiser | None = None
    dropout: float = 0.0
    few: bool = False


def library(name: str, **options: Any) -> Optimiser:
    """An optimiser of `pytorch-optimizer`."""

    def make(weights: list[Tensor], rate: float) -> torch.optim.Optimizer:
        import pytorch_optimizer  # pyright: ignore[reportMissingImports] - said at the head of this file

        return getattr(pytorch_optimizer, name)(weights, lr=rate, **options)

    return make


def adamw(first: float, second: float) -> Optimiser:
    """AdamW with other decays of its moments."""
    return lambda weights, rate: torch.optim.AdamW(
        weights, lr=rate, betas=(first, second), weight_decay=1e-4, foreach=True
    )


def linear(fraction: float, warmup: float) -> float:
    """A rise over the warm-up, then a straight fall to zero."""
    return fraction / warmup + 1e-3 if fraction < warmup else (1 - fraction) / (1 - warmup)


TRIALS = {
    "as it is": Trial(),
    "rate 7e-3": Trial({"learning_rate": 7e-3}),
    "one cycle: warm-up over 30 %": Trial({"warmup": 0.3}),
    "a straight fall": Trial(factor=linear),
    "clipping at 1": Trial({"gradient_clip": 1.0}),
    "decays 0.9, 0.999": Trial(optimiser=adamw(0.9, 0.999)),
    "decays 0.95, 0.99": Trial(optimiser=adamw(0.95, 0.99)),
    "Adamax": Trial(optimiser=lambda weights, rate: torch.optim.Adamax(weights, lr=rate)),
    "SOAP, rate 3e-3": Trial({"learning_rate": 3e-3}, optimiser=library("SOAP", betas=(0.95, 0.95))),
    "SOAP, rate 1e-2": Trial(optimiser=library("SOAP", betas=(0.95, 0.95))),
    "schedule-free AdamW": Trial(optimiser=library("ScheduleFreeAdamW"), factor=lambda f, w: min(1.0, f / w + 1e-3)),
    "free bits 0.01, no KL warm-up": Trial({"kl_warmup": 0.0, "free_bits": 0.01}),
    "no KL warm-up": Trial({"kl_warmup": 0.0}),
    "a finish of 5 draws over 20 %": Trial({"iwae_samples": 5, "iwae_fraction": 0.2}),
    "10,000 images": Trial(few=True),
    "10,000 images, dropout 0.1": Trial(few=True, dropout=0.1),
    "convolutions between positions": Trial(model={"spatial_mixing": "conv"}),
    "free matrices": Trial(model={"spatial_mixing": "free"}),
    "rungs 16,8@8,8@4,8@4,8@4": Trial(model={"levels": "16,8@8,8@4,8@4,8@4"}),
    "rungs 16,4,4,4": Trial(model={"levels": "16,4,4,4"}),
    "rungs 16,8,8,8": Trial(model={"levels": "16,8,8,8"}),
    "convolutions, rungs 16,8@8,8@4,8@4,8@4": Trial(model={"spatial_mixing": "conv", "levels": "16,8@8,8@4,8@4,8@4"}),
}


@runtime_checkable
class OwnAverage(Protocol):
    """An optimiser that goes from the weights it learns by to those it ends with, as schedule-free ones do."""

    def eval(self) -> None:
        """Put the weights that it ends with in place."""


class OwnSteps:
    """Takes a training's steps with another optimiser: in place of its `Stepper`."""

    def __init__(self, trainer: Trainer, config: Config, optimiser: torch.optim.Optimizer) -> None:
        self.trainer, self.config, self.optimiser = trainer, config.train, optimiser

    def take(self, batch: Batch, schedule: Schedule) -> None:
        """One step."""
        trainer = self.trainer
        found = loss_and_grad(trainer.model, trainer.moving.weights, batch, schedule, self.config)
        apply_update(trainer.moving, trainer.tally, found, schedule, self.config, self._step)

    def _step(
        self,
        moving: TrainState,
        gradients: Sequence[Tensor],
        divisor: Tensor,
        bad: Tensor,
        schedule: Schedule,
        weight_decay: float,
    ) -> None:
        # the optimiser has a weight decay of its own
        if bad > 0:
            return
        for weight, gradient in zip(moving.weights, gradients, strict=True):
            weight.grad = gradient / divisor
        for group in self.optimiser.param_groups:
            group["lr"] = schedule.learning_rate
        self.optimiser.step()


def main() -> None:
    """Train, measure, print a row for each trial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="all by default")
    parser.add_argument("--list", action="store_true", help="their names")
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(TRIALS))
        return
    if unknown := [name for name in arguments.names if name not in TRIALS]:
        parser.error(f"got {unknown[0]!r}; expected one of those that --list prints")
    print(machine())
    print(
        f"\n| trial, {arguments.steps:,} steps | training, nats | −ELBO | bound | ms a step |\n| --- | --- | --- | --- | --- |"
    )
    dataset, half = vaelab.load_dataset("mnist"), math.nan
    for name in arguments.names or TRIALS:
        reached = run(name, TRIALS[name], dataset, arguments.steps, half)
        half = reached if name == "as it is" else half


def run(name: str, trial: Trial, dataset: Dataset, steps: int, to_beat: float) -> float:
    """Print its row, or rows; −ELBO at half of the steps."""
    config = with_preset("quick", Config(ModelConfig(model="vae"), TrainConfig(epochs=1, precision="float32")))
    config = Config(replace(config.model, **trial.model), replace(config.train, **trial.train))
    if trial.few:
        dataset = replace(dataset, train=dataset.train[:FEW])
    config = resolve(config, dataset)
    trainer = Trainer(config, dataset, torch.device("cpu"))
    if trial.dropout:
        drop(trainer.model, trial.dropout)
    optimiser = None
    if trial.optimiser is not None:
        optimiser = trial.optimiser(trainer.moving.weights, config.train.learning_rate)
        trainer.stepper = cast(Stepper, OwnSteps(trainer, config, optimiser))
    elif not trial.dropout:  # which a compiled step would not know of
        trainer.compile()
    others = averages_beside(trainer) if name == "as it is" else {}
    levels, half, began = held_out_levels(dataset.validation.images, "bernoulli"), math.nan, time.perf_counter()
    factor = trial.factor or vaelab.training.trainer.learning_rate_factor
    with patch.object(vaelab.training.trainer, "learning_rate_factor", factor):
        for step in range(steps):
            trainer.take_step(step / steps)
            for length, moving in others.items():
                follow(moving, 1 - min(length, (1 + step) / (10 + step)))
            if step + 1 == steps // 2:
                half = negative_elbo(trainer.averaged, levels[:1000]).mean().item()
                trainer.read()
                if half > to_beat + FAR_BEHIND and not trial.few:
                    print(f"| {name} | | {half:.2f} at half, against {to_beat:.2f}: stopped | | |", flush=True)
                    return half
    taken = (time.perf_counter() - began) / steps * 1000
    if isinstance(optimiser, OwnAverage):
        optimiser.eval()
        take_over(trainer.averaged, trainer.moving.weights)
    train = trainer.read().averages().nats
    print(f"| {name} | {train:.2f} | {measured(trainer.averaged, levels)} | {taken:.0f} |", flush=True)
    for length, moving in others.items():
        model = copy.deepcopy(trainer.averaged)
        take_over(model, moving.averaged)
        print(f"| its average of {length} | | {measured(model, levels)} | |", flush=True)
    if others:
        print(f"| its last weights | | {measured(trainer.model, levels)} | |", flush=True)
    return half


def measured(model: Model, levels: Tensor) -> str:
    """−ELBO and bound, two cells."""
    elbo, few = negative_elbo(model, levels).double(), levels[:BOUND_IMAGES]
    gap = elbo[:BOUND_IMAGES] - negative_importance_bound(model, few, samples=SAMPLES).double()
    return f"{elbo.mean():.2f} | {elbo.mean() - gap.mean():.2f}"


def averages_beside(trainer: Trainer) -> dict[float, TrainState]:
    """TrainState averages of other lengths, of the same weights."""
    weights, updates = trainer.moving.weights, trainer.moving.updates
    return {length: TrainState(weights, [w.detach().clone() for w in weights], [], [], updates) for length in AVERAGES}


@torch.no_grad()
def take_over(model: Model, values: Sequence[Tensor]) -> None:
    """Put these values in place of the model's weights."""
    for weight, value in zip(model.parameters(), values, strict=True):
        weight.copy_(value)


def drop(model: Model, share: float) -> None:
    """Dropout on what each block adds to the state, while training."""
    torch.manual_seed(0)
    for block in model.modules():
        if isinstance(block, MixerBlock):
            block.register_forward_hook(
                lambda _, given, made: given[0] + F.dropout(made - given[0], share)  # the average is another model
            )


if __name__ == "__main__":
    main()
