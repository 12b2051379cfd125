"""The trainer: a model in training, its averaged weights, and how far they have come.

Images stay on the training device as uint8 and a batch is an index; order, binarisation and latent noise follow from
(seed, step). A step waits for nothing on the device: figures are summed there and read when somebody asks.

Sources: Kingma & Welling 2014, algorithm 1 (the step); Loshchilov & Hutter 2017, 2019 (cosine decay, AdamW).
"""

from __future__ import annotations

import copy
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vaelab.acceleration.graph import CompileKey
from vaelab.acceleration.runner import Stepper
from vaelab.config import Config, LikelihoodName, ModelConfig
from vaelab.data.dataset import Dataset, Split
from vaelab.errors import ConfigError, TrainingError
from vaelab.memory import map_batches
from vaelab.models.factory import build_model
from vaelab.objectives import elbo
from vaelab.optim.batches import (
    BatchStream,
    generator_for,
    held_out_levels,
    images_at_once,
    latent_noise,
    mean_and_variance,
    to_unit,
)
from vaelab.optim.step import Batch, Schedule, StepStats, TrainState, follow
from vaelab.precision import fast_products, pays_in_bfloat16

MOST_BAD_STEPS = 50
"""Steps with a loss that is NaN or infinite, in a row, after which a run gives up."""


MOST_VALIDATED = {"mlp": 2**23, "conv": 2**22, "ladder": 2**20}
"""Pixel values that a validation looks at, at the most, by network: enough to choose by, and not all of a short budget."""


FOLLOWED, FOLLOW_EVERY = 256, 16
"""The averaged weights follow each of the first steps, and every so many steps from then on, as far as they would have.

An average over hundreds of steps says the same, and following takes a seventh of a small model's step.
"""

FEWEST_FINISHED = 100
"""Held-out images by whose importance-weighted bound the weights of a finish are told apart, at the least."""


@dataclass(frozen=True)
class Averages:
    """Distortion and rate in nats per image, averaged over images; `nats` is −ELBO, whatever objective trained."""

    distortion: float
    rate: float

    @property
    def nats(self) -> float:
        """Distortion + rate, nats per image; lower is better."""
        return self.distortion + self.rate


@dataclass(frozen=True)
class Sums:
    """Distortion and rate in nats per image, summed over steps of equal size."""

    distortion: float = 0.0
    rate: float = 0.0
    steps: int = 0

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.distortion + other.distortion, self.rate + other.rate, self.steps + other.steps)

    def averages(self) -> Averages:
        """Per step; NaN where there was none."""
        return (
            Averages(self.distortion / self.steps, self.rate / self.steps)
            if self.steps
            else Averages(math.nan, math.nan)
        )


class Trainer:
    """A model in training: its weights, their moving average, the optimiser, and how far it has come."""

    def __init__(self, config: Config, dataset: Dataset, device: torch.device) -> None:
        precision = config.train.precision
        if precision == "auto":
            precision = "bfloat16" if pays_in_bfloat16(config.model, dataset.shape, device) else "float32"
        config = replace(config, train=replace(config.train, precision=precision))
        self.config, self.device = config.train, device
        assert config.model.likelihood is not None
        self.likelihood: LikelihoodName = config.model.likelihood
        self.model = build_model(config.model, dataset.shape, len(dataset.classes), seed=config.train.seed)
        self.model.initialise_from_data(*mean_and_variance(torch.from_numpy(dataset.train.images)))
        self.model.to(device).train()
        self.averaged = copy.deepcopy(self.model).eval().requires_grad_(False)
        assert self.config.batch_size is not None
        images, labels = torch.from_numpy(dataset.train.images).to(device), _labels(dataset.train, device)
        self.feed = BatchStream(images, labels, self.config.batch_size, self.model.latent_dim, self.config.seed)
        validation = validation_part(dataset.validation, config.model, config.train.seed)
        self.validation = held_out_levels(validation.images, self.likelihood).to(device)
        self.validation_labels = _labels(validation, device)
        weights: list[Tensor] = list(self.model.parameters())
        self.moving = TrainState(
            weights,
            list(self.averaged.parameters()),
            [torch.zeros_like(weight) for weight in weights],
            [torch.zeros_like(weight) for weight in weights],
            torch.zeros((), device=device),
        )
        self.tally = StepStats(*(torch.zeros(shape, device=device) for shape in ((3,), (2,), ())))
        self.stepper = Stepper(self.model, self.moving, self.tally, config, len(dataset.classes))
        self.step = 0
        self.validated_step = 0
        self.best: dict[str, Tensor] | None = None
        self.best_step, self.best_averages = 0, None
        self.best_axes: elbo.LatentStats | None = None
        self.best_objective = math.inf
        self.finishing = self.best_of_finish = False
        self.skipped = 0
        self.last_validation: Averages | None = None

    @fast_products()
    def take_step(self, fraction: float) -> None:
        """One step of gradient descent, `fraction` (0…1) of the way through the training: see `Stepper.take`."""
        self.finishing = self.config.iwae_samples > 1 and fraction >= 1 - self.config.iwae_fraction
        samples = self.config.iwae_samples if self.finishing else None
        self.stepper.take(self._batch(samples), self._schedule(fraction))
        self.step += 1
        self._follow()

    @property
    def compiled(self) -> bool:
        """Whether the step is compiled."""
        return self.stepper.compiled

    def recipe(self) -> CompileKey:
        """What a compiled step of this training is made from."""
        return self.stepper.recipe(self._batch(), self._schedule(0.0))

    def compile(self) -> None:
        """Have the step compiled, and wait for that: see `Stepper.compile`."""
        self.stepper.compile(self.recipe() if self.device.type == "cpu" else None)

    def _batch(self, samples: int | None = None) -> Batch:
        """What this step sees: it follows from (seed, step); with `samples` that many draws of z per image."""
        images, labels, noise, key = self.feed.at(self.step)
        if samples is not None:
            generator = generator_for("draws", self.config.seed, self.step, self.device)
            noise = torch.randn((samples, *noise.shape), generator=generator, device=self.device)
        return Batch(images, labels, noise, key)

    def _schedule(self, fraction: float) -> Schedule:
        config = self.config
        beta = config.beta * (min(1.0, fraction / config.kl_warmup) if config.kl_warmup else 1.0)
        return Schedule(beta, config.learning_rate * learning_rate_factor(fraction, config.warmup))

    def _follow(self) -> None:
        """Have the averaged weights follow: after each of the first `FOLLOWED` steps, and every `FOLLOW_EVERY` then."""
        if self.step > FOLLOWED and self.step % FOLLOW_EVERY:
            return
        since = range(self.step - (FOLLOW_EVERY if self.step > FOLLOWED else 1), self.step)
        # The average starts short, so that the first weights are soon forgotten.
        kept = math.prod(min(float(self.config.ema), (1 + step) / (10 + step)) for step in since)
        follow(self.moving, 1 - kept)

    def read(self, *, ended: bool = False) -> Sums:
        """Figures of the good steps since the last reading; `ended` says that it is the last.

        Raises
        ------
        TrainingError
            If the last `MOST_BAD_STEPS` steps were all bad; at the end, the later half of the steps will do.
        """
        distortion, rate, steps = self.tally.sums.tolist()
        self.tally.sums.zero_()
        self.skipped, in_a_row = (int(count) for count in self.tally.bad.tolist())
        if in_a_row >= MOST_BAD_STEPS or (ended and in_a_row >= max(1, self.step / 2)):
            raise self._diverged(f"the loss was NaN or infinite in {in_a_row} step{'s' * (in_a_row > 1)} in a row")
        if not math.isfinite(distortion + rate):
            raise self._diverged("the loss is past what float32 holds")
        return Sums(distortion, rate, int(steps))

    def _diverged(self, what: str) -> TrainingError:
        """The error of figures that are not finite: `what` happened, and what to type."""
        if self.skipped == self.step:  # not one good step, so that no learning rate is to blame
            return TrainingError(
                f"{what}, from the first step on: expected data and networks that give finite numbers: look for very large "
                "values in the data, or for a division by 0 in an --encoder or --decoder of your own"
            )
        config = self.config
        return TrainingError(
            f"{what}, at step {self.step}: try a smaller --learning-rate (it is {config.learning_rate:g}) or --beta (it is "
            f"{config.beta:g})"
        )

    @fast_products()
    def validate(self) -> Averages | None:
        """Held-out figures of the averaged weights; the best so far are kept, by distortion + final β · rate.

        In the finish, if there is one, they are kept by the importance-weighted bound.

        Raises
        ------
        TrainingError
            If the figures are not finite; or, where there are no validation images, those of a batch of training images.
        """
        self.validated_step = self.step
        if len(self.validation) == 0:
            if not self._sound():
                raise self._diverged("the averaged weights give figures that are NaN or infinite")
            self._keep(None, None)
            return None
        noise = latent_noise(len(self.validation), self.model.latent_dim, self.config.seed).to(self.device)

        @torch.no_grad()
        def figures(part: slice) -> tuple[Tensor, Tensor, Tensor]:
            labels = None if self.validation_labels is None else self.validation_labels[part]
            images = to_unit(self.validation[part])
            inference = self.averaged(images, labels, noise[part])
            terms = elbo.terms(inference, images)
            return terms.distortion.cpu(), terms.rate.cpu(), inference.posterior.mean.cpu()

        found = map_batches(len(noise), images_at_once(self.model.shape), figures)
        distortions, rates, means = (torch.cat(part) for part in zip(*found, strict=True))
        averages = Averages(distortions.double().mean().item(), rates.sum(-1).double().mean().item())
        if not math.isfinite(averages.nats):
            raise self._diverged("the validation figures are NaN or infinite")
        self.last_validation = averages if self.step else None  # those of the untrained model are no news
        value = self.finished_value() if self.finishing else averages.distortion + self.config.beta * averages.rate
        # Two measures: the weights of a finish go before all others.
        if self.best is None or (not self.finishing, value) < (not self.best_of_finish, self.best_objective):
            self.best_objective, self.best_of_finish = value, self.finishing
            self._keep(averages, elbo.LatentStats.over(rates, means))
        return averages

    def finished_value(self) -> float:
        """What the finish minimises, of the averaged weights on held-out images: by it they are told apart then.

        It is taken on a K-th of those that are validated, as dear as one draw for each, but on `FEWEST_FINISHED` at the least.
        """
        samples, whole = self.config.iwae_samples, len(self.validation)
        count = min(whole, max(FEWEST_FINISHED, whole // samples))
        noise = latent_noise(samples * count, self.model.latent_dim, self.config.seed).view(samples, count, -1)

        @torch.no_grad()
        def bound(part: slice) -> Tensor:
            labels = None if self.validation_labels is None else self.validation_labels[part]
            images = to_unit(self.validation[part])
            inference = self.averaged(images, labels, noise[:, part].to(self.device))
            return elbo.importance_weighted_bound(elbo.log_weights(inference, images)).cpu()

        at_once = max(1, images_at_once(self.model.shape) // samples)
        return -torch.cat(map_batches(count, at_once, bound)).double().mean().item()

    @torch.no_grad()
    def _sound(self) -> bool:
        """Whether the averaged weights give finite figures for a batch of training images."""
        batch = self._batch().drawn(self.likelihood)

        def sound(part: slice) -> bool:
            labels = None if batch.labels is None else batch.labels[part]
            terms = elbo.terms(self.averaged(batch.images[part], labels, batch.noise[part]), batch.images[part])
            return bool(terms.negative_elbo().isfinite().all())

        return all(map_batches(len(batch.images), images_at_once(self.model.shape), sound))

    def _keep(self, averages: Averages | None, axes: elbo.LatentStats | None) -> None:
        self.best = {name: tensor.clone() for name, tensor in self.averaged.state_dict().items()}
        self.best_step, self.best_averages, self.best_axes = self.step, averages, axes

    def take_best(self) -> None:
        """Put the best weights in place of the averaged ones, and their figures in place of the last."""
        assert self.best is not None
        self.averaged.load_state_dict(self.best)
        self.last_validation = self.best_averages

    def weights_to_use(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The best weights and the numbers beside them; the averaged ones where none but the first were validated yet.

        None where those are of no use: their figures are not finite.
        """
        if self.best is not None and (self.validated_step > 0 or self.step == 0):
            return self.best, self._facts()
        return (self.averaged.state_dict(), {"step": self.step}) if self._sound() else None

    def _facts(self) -> dict[str, Any]:
        best = self.best_averages
        nats = {} if best is None else {"distortion": best.distortion, "rate": best.rate}
        axes = {} if self.best_axes is None else {"axes": asdict(self.best_axes)}
        return {"step": self.best_step, **nats, **axes}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """All that going on needs: tensors by name, and numbers."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"averaged.{name}": value for name, value in self.averaged.state_dict().items()}
        tensors |= {f"best.{name}": value for name, value in (self.best or {}).items()}
        tensors |= self._kept()
        objective_value = self.best_objective if math.isfinite(self.best_objective) else None
        facts = {"step": self.step, "best_objective": objective_value, "best": self._facts()}
        facts["best_of_finish"] = self.best_of_finish
        return tensors, facts

    def _kept(self) -> dict[str, Tensor]:
        """What going on needs beside the weights, by name; changed in place as training goes on."""
        kept = {"bad": self.tally.bad, "usual_norm": self.tally.usual_norm, "updates": self.moving.updates}
        for name, moments in (("mean", self.moving.means), ("square", self.moving.squares)):
            kept |= {f"{name}.{index}": moment for index, moment in enumerate(moments)}
        return kept

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Go back to what `state` gave."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {
                name.removeprefix(prefix): value.to(self.device)
                for name, value in tensors.items()
                if name.startswith(prefix)
            }

        self.model.load_state_dict(part("model."))
        self.averaged.load_state_dict(part("averaged."))
        self.best = part("best.") or None
        for name, tensor in self._kept().items():
            tensor.copy_(tensors[name])
        self.step, best = facts["step"], facts["best"]
        self.best_objective = math.inf if facts["best_objective"] is None else facts["best_objective"]
        self.best_of_finish = facts.get("best_of_finish", False)
        self.best_step = best["step"]
        self.best_averages = Averages(best["distortion"], best["rate"]) if "rate" in best else None
        self.best_axes = elbo.LatentStats.read(best.get("axes"))
        self.validated_step = facts["validated"][0]
        self.last_validation = self.best_averages if self.best_step else None


def pick_device(name: str) -> torch.device:
    """The device that `name` means; `auto` is CUDA if there is a GPU for it, else the CPU.

    Raises
    ------
    ConfigError
        If there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device: got {name!r}, which is not to be had here; expected auto, cpu or cuda") from error
    return device


def validation_part(split: Split, config: ModelConfig, seed: int) -> Split:
    """The validation images that training looks at: all, or a seeded choice of `MOST_VALIDATED` pixel values."""
    assert config.network is not None
    most = max(1, MOST_VALIDATED[config.network] // max(1, math.prod(split.images.shape[1:])))
    if len(split) <= most:
        return split
    chosen = torch.randperm(len(split), generator=generator_for("validation", seed, 0))[:most].sort().values
    return split[chosen.numpy()]


def learning_rate_factor(fraction: float, warmup: float) -> float:
    """Learning rate as a share of its peak: a linear rise over `warmup`, then a cosine down to 1 % at the end."""
    if fraction < warmup:
        return fraction / warmup + 1e-3
    remaining = (fraction - warmup) / max(1 - warmup, 1e-9)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(remaining, 1.0)))


def _labels(split: Split, device: torch.device) -> Tensor | None:
    return None if split.labels is None else torch.from_numpy(split.labels).to(device)
