"""Trials on binarised MNIST: one change at a time to the ladder of `--preset quick`, for the same number of steps.

    python benchmarks/trials.py                        # all trials, one after the other
    python benchmarks/trials.py "baseline" "Adamax"    # some trials
    python benchmarks/trials.py --list

A trial trains on the usual data (the first 50,000 training images, binarised afresh) for 1,350 steps of 128 images, 3.5 epochs,
in float32: the machine changes the duration, not the result. Figures are of the 10,000 validation images; test images are not
used. The bound is −ELBO minus the gap between the two on the first 300 of them, K = 200. One seed each, so differences of about
0.2 nats mean little. A trial that is 3 nats behind the baseline after half of its steps is stopped.

SOAP and schedule-free AdamW come from the package `pytorch-optimizer`, which vaelab itself does not need.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable
from unittest.mock import patch

import torch
import torch.nn.functional as F
from machine import machine
from steps import runner_of
from torch import Tensor

import vaelab
import vaelab.optim.schedule
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data.dataset import Dataset
from vaelab.models.base import Model
from vaelab.models.spatial import MixerBlock
from vaelab.objectives.batch import held_out_levels
from vaelab.objectives.bounds import held_out_terms, negative_bounds
from vaelab.optim.adamw import Descent
from vaelab.optim.ema import update_average
from vaelab.optim.state import TrainState
from vaelab.optim.step import PlainRunner
from vaelab.presets import with_preset
from vaelab.training.fit import make_trainer
from vaelab.training.resolve import resolve
from vaelab.training.trainer import Trainer

STEPS, FEW = 1350, 10_000
SAMPLES, BOUND_IMAGES = 200, 300
FAR_BEHIND = 3.0
"""Nats behind the baseline at which a trial is stopped."""

AVERAGES = (0.99, 0.995, 0.999)
"""Other decays of the weight average, measured beside the baseline's."""

Optimiser = Callable[[list[Tensor], float], torch.optim.Optimizer]
"""Creates an optimiser from weights and a peak learning rate."""


@dataclass(frozen=True)
class Trial:
    """Changes to the baseline: configuration fields, learning-rate factor by (fraction, warm-up), optimiser, dropout, data."""

    train: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    factor: Callable[[float, float], float] | None = None
    optimiser: Optimiser | None = None
    dropout: float = 0.0
    few: bool = False


def library(name: str, **options: Any) -> Optimiser:
    """Return an optimiser of `pytorch-optimizer`."""

    def make(weights: list[Tensor], rate: float) -> torch.optim.Optimizer:
        import pytorch_optimizer  # pyright: ignore[reportMissingImports] - optional, see the docstring of this file

        return getattr(pytorch_optimizer, name)(weights, lr=rate, **options)

    return make


def adamw(first: float, second: float) -> Optimiser:
    """Return AdamW with other decays of its moments."""
    return lambda weights, rate: torch.optim.AdamW(
        weights, lr=rate, betas=(first, second), weight_decay=1e-4, foreach=True
    )


def linear(fraction: float, warmup: float) -> float:
    """Return the factor of a linear warm-up followed by a linear decay to zero."""
    return fraction / warmup + 1e-3 if fraction < warmup else (1 - fraction) / (1 - warmup)


TRIALS = {
    "baseline": Trial(),
    "rate 7e-3": Trial({"learning_rate": 7e-3}),
    "one cycle: warm-up over 30 %": Trial({"warmup": 0.3}),
    "linear decay": Trial(factor=linear),
    "clipping at 1": Trial({"gradient_clip": 1.0}),
    "decays 0.9, 0.999": Trial(optimiser=adamw(0.9, 0.999)),
    "decays 0.95, 0.99": Trial(optimiser=adamw(0.95, 0.99)),
    "Adamax": Trial(optimiser=lambda weights, rate: torch.optim.Adamax(weights, lr=rate)),
    "SOAP, rate 3e-3": Trial({"learning_rate": 3e-3}, optimiser=library("SOAP", betas=(0.95, 0.95))),
    "SOAP, rate 1e-2": Trial(optimiser=library("SOAP", betas=(0.95, 0.95))),
    "schedule-free AdamW": Trial(optimiser=library("ScheduleFreeAdamW"), factor=lambda f, w: min(1.0, f / w + 1e-3)),
    "free bits 0.01, no KL warm-up": Trial({"kl_warmup": 0.0, "free_bits": 0.01}),
    "no KL warm-up": Trial({"kl_warmup": 0.0}),
    "IWAE fine-tuning, 5 samples over 20 %": Trial({"iwae_samples": 5, "iwae_fraction": 0.2}),
    "10,000 images": Trial(few=True),
    "10,000 images, dropout 0.1": Trial(few=True, dropout=0.1),
    "convolutions between positions": Trial(model={"spatial_mixing": "conv"}),
    "free matrices": Trial(model={"spatial_mixing": "free"}),
    "levels 16,8@8,8@4,8@4,8@4": Trial(model={"levels": "16,8@8,8@4,8@4,8@4"}),
    "levels 16,4,4,4": Trial(model={"levels": "16,4,4,4"}),
    "levels 16,8,8,8": Trial(model={"levels": "16,8,8,8"}),
    "convolutions, levels 16,8@8,8@4,8@4,8@4": Trial(model={"spatial_mixing": "conv", "levels": "16,8@8,8@4,8@4,8@4"}),
}


@runtime_checkable
class OwnAverage(Protocol):
    """An optimiser with separate training and final weights, such as the schedule-free ones."""

    def eval(self) -> None:
        """Set the final weights."""


class OtherAdamW:
    """Another optimiser instead of AdamW, with its own weight decay."""

    def __init__(self, optimiser: torch.optim.Optimizer) -> None:
        self.optimiser = optimiser

    def __call__(self, state: TrainState, descent: Descent) -> None:
        """Update the weights, unless the step is bad."""
        if descent.bad > 0:
            return
        for weight, gradient in zip(state.weights, descent.gradients, strict=True):
            weight.grad = gradient / descent.divisor
        for group in self.optimiser.param_groups:
            group["lr"] = descent.learning_rate
        self.optimiser.step()


def main() -> None:
    """Run the trials and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="trials to run; default: all")
    parser.add_argument("--list", action="store_true", help="print the names of all trials")
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(TRIALS))
        return
    if unknown := [name for name in arguments.names if name not in TRIALS]:
        parser.error(f"got {unknown[0]!r}; expected a name that --list prints")
    print(machine())
    print(
        f"\n| trial, {arguments.steps:,} steps | training, nats | −ELBO | bound | ms per step |\n| --- | --- | --- | --- | --- |"
    )
    dataset, half = vaelab.load_dataset("mnist"), math.nan
    for name in arguments.names or TRIALS:
        reached = run(name, TRIALS[name], dataset, arguments.steps, half)
        half = reached if name == "baseline" else half


def run(name: str, trial: Trial, dataset: Dataset, steps: int, to_beat: float) -> float:
    """Run a trial and print its rows; return −ELBO after half of the steps."""
    config = with_preset("quick", Config(ModelConfig(model="vae"), TrainConfig(epochs=1, precision="float32")))
    config = Config(replace(config.model, **trial.model), replace(config.train, **trial.train))
    if trial.few:
        dataset = replace(dataset, train=dataset.train[:FEW])
    config = resolve(config, dataset)
    trainer = make_trainer(config, dataset)
    if trial.dropout:
        drop(trainer.model, trial.dropout)
    optimiser = None
    if trial.optimiser is not None:
        optimiser = trial.optimiser(trainer.state.weights, config.train.learning_rate)
        runner = PlainRunner(trainer.model, trainer.state, trainer.stats, config.train)
        runner.train_step = replace(runner.train_step, adamw=OtherAdamW(optimiser))
        trainer.runner = runner
    elif not trial.dropout:  # a compiled step would ignore the hooks of the dropout
        runner_of(trainer).compile()
    others = averages_beside(trainer) if name == "baseline" else {}
    levels, half, began = held_out_levels(dataset.validation.images, "bernoulli"), math.nan, time.perf_counter()
    factor = trial.factor or vaelab.optim.schedule.learning_rate_factor
    with patch.object(vaelab.optim.schedule, "learning_rate_factor", factor):
        for step in range(steps):
            trainer.take_step(step / steps)
            for length, moving in others.items():
                update_average(moving.averaged, moving.weights, 1 - min(length, (1 + step) / (10 + step)))
            if step + 1 == steps // 2:
                half = held_out_terms(trainer.averaged, levels[:1000]).negative_elbo().mean().item()
                trainer.take_sums()
                if half > to_beat + FAR_BEHIND and not trial.few:
                    print(
                        f"| {name} | | {half:.2f} after half of the steps, baseline {to_beat:.2f}: stopped | | |",
                        flush=True,
                    )
                    return half
    taken = (time.perf_counter() - began) / steps * 1000
    if isinstance(optimiser, OwnAverage):
        optimiser.eval()
        take_over(trainer.averaged, trainer.state.weights)
    train = trainer.take_sums().averages().nats
    print(f"| {name} | {train:.2f} | {measured(trainer.averaged, levels)} | {taken:.0f} |", flush=True)
    for length, moving in others.items():
        model = copy.deepcopy(trainer.averaged)
        take_over(model, moving.averaged)
        print(f"| baseline, average of {length} | | {measured(model, levels)} | |", flush=True)
    if others:
        print(f"| baseline, last weights | | {measured(trainer.model, levels)} | |", flush=True)
    return half


def measured(model: Model, levels: Tensor) -> str:
    """Return −ELBO and bound as two table cells."""
    elbo, few = held_out_terms(model, levels).negative_elbo().double(), levels[:BOUND_IMAGES]
    gap = elbo[:BOUND_IMAGES] - negative_bounds(model, few, samples=[SAMPLES])[:, 0]
    return f"{elbo.mean():.2f} | {elbo.mean() - gap.mean():.2f}"


def averages_beside(trainer: Trainer) -> dict[float, TrainState]:
    """Return weight averages of the same weights with other decays."""
    weights, updates = trainer.state.weights, trainer.state.updates
    return {length: TrainState(weights, [w.detach().clone() for w in weights], [], [], updates) for length in AVERAGES}


@torch.no_grad()
def take_over(model: Model, values: Sequence[Tensor]) -> None:
    """Set the model's weights to these values."""
    for weight, value in zip(model.parameters(), values, strict=True):
        weight.copy_(value)


def drop(model: Model, share: float) -> None:
    """Add dropout to the residual branch of each block, during training."""
    torch.manual_seed(0)
    for block in model.modules():
        if isinstance(block, MixerBlock):
            block.register_forward_hook(
                lambda _, given, made: (
                    given[0] + F.dropout(made - given[0], share)
                )  # only the training model; the averaged one is separate
            )


if __name__ == "__main__":
    main()
