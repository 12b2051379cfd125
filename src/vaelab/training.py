"""The loop: from images in memory to saved weights, and `complete`, which chooses for the data what was left open.

`fit` yields its progress and prints nothing; nothing waits for the device but those yields.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Generator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from vaelab import checkpoint
from vaelab.build import complete_model
from vaelab.config import DEFAULT_SECONDS, Config, ModelConfig, TrainConfig, option
from vaelab.data.dataset import Dataset, default_likelihood
from vaelab.errors import ConfigError, DataError, LabelError, RunError, TrainingError
from vaelab.model import Model
from vaelab.objective import Axes
from vaelab.step import check_compiler
from vaelab.trainer import Averages, Sums, Trainer, pick_device

PROGRESS_EVERY = 0.2
"""Seconds between two yields of progress."""

FEW_IMAGES = 5000
"""Training images below which batches are small by default."""

TABLE_EPOCHS, TABLE_STEPS = 20, 1000
"""Passes over a table, and steps, that it is trained for at the least where no budget is given."""

VALIDATE_EVERY = 0.04
"""Share of the training between two validations, at least; an epoch too, where epochs are counted."""

SAVE_EVERY = 20.0
"""Seconds between two saves of what `--resume` needs: the most that a killed process loses."""


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes
    ----------
    step, epoch
        Steps made, and passes over the images (a fraction).
    fraction
        Share of the budget that is used up, 0…1.
    seconds, seconds_left
        Wall time so far, and still to come by estimate.
    images_per_second
        Since the last progress; 0 where nothing was trained since.
    train
        Over the images since the last progress: drawn afresh, with the weights as they moved.
    validation
        Of the averaged weights at the last validation, as `metrics.jsonl` has it; None before the first since the start, or
        with no validation images.
    skipped
        Steps left out because their loss or gradient was NaN or infinite.
    finished
        Whether this is the last one, and the weights are saved.
    model
        The model itself, with averaged weights; at the end the best of those validated. It changes as training goes on.
    axes
        What each latent dimension of the best weights holds, or None where there were no validation images.
    """

    step: int
    epoch: float
    fraction: float
    seconds: float
    seconds_left: float
    images_per_second: float
    train: Averages
    validation: Averages | None
    skipped: int
    finished: bool
    model: Model
    axes: Axes | None = None


def complete(config: Config, dataset: Dataset) -> Config:
    """`config` with every field that was left to the data chosen, and checked against them.

    Raises
    ------
    DataError
        If there are no images to learn from.
    LabelError
        If a conditional model is asked for and the data have no labels.
    ConfigError
        If the likelihood is not one for such data.
    """
    if len(dataset.train) == 0:
        raise DataError(f"{dataset.name}: got no training images; expected at least one to learn from")
    chosen, table = config.model, len(dataset.shape) == 1
    model = chosen.model or ("cvae" if dataset.labelled else "vae")
    if model == "cvae" and not dataset.labelled:
        raise LabelError(
            f"--model cvae: got {dataset.name} without labels; expected a label for every image: "
            "put the images into one folder per class, or type --model vae"
        )
    likelihood = chosen.likelihood or default_likelihood(dataset.train)
    if (likelihood == "gaussian") != table:
        data = "a table of reals" if table else "images"
        fit_for = "gaussian" if table else "bernoulli, continuous-bernoulli or logistic"
        raise ConfigError(f"--likelihood {likelihood}: got {data}; expected {fit_for} for such data")
    filled = complete_model(replace(chosen, model=model, likelihood=likelihood), dataset.shape)
    train = config.train
    if train.batch_size is None:
        train = replace(train, batch_size=32 if len(dataset.train) < FEW_IMAGES else 128)
    if train.epochs is None and train.seconds is None:
        assert train.batch_size is not None
        passes = max(TABLE_EPOCHS, math.ceil(TABLE_STEPS * train.batch_size / len(dataset.train)))
        train = replace(train, epochs=passes) if table else replace(train, seconds=DEFAULT_SECONDS)
    return Config(filled, train)


def fit(
    config: Config,
    dataset: Dataset,
    *,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    started: float | None = None,
) -> Generator[Progress]:
    """Train, yielding progress a few times a second; the last one says `finished`, and its model holds the best weights.

    Closing the iterator (leaving the `for` loop) stops at a step boundary and saves what `resume` needs.

    Parameters
    ----------
    config
        Hyper-parameters; those left at None are chosen for the data.
    dataset
        Images to learn from, and others to validate on.
    out
        Run folder to write; nothing is written without one.
    resume
        Go on with the run in `out`: its own configuration is used, but for the budget (epochs, seconds) and the device,
        where `config` gives one.
    started
        Value of `time.perf_counter()` when the command began, for a budget in seconds that counts from there.

    Raises
    ------
    ConfigError, LabelError
        If the configuration does not suit the data, or its seconds are over before training begins.
    RunError
        If `out` holds a run already, or, to resume, none that these data and this configuration can go on with.
    TrainingError
        If the loss stays NaN or infinite; good weights are kept, and where there are none, no new run is left behind.
    """
    started = time.perf_counter() if started is None else started
    folder = None if out is None else Path(out)
    run, tensors, facts = None, {}, {}
    if resume:
        if folder is None:
            raise ConfigError("--resume: got no run; expected the run folder to go on with: give --out")
        run = checkpoint.open_run(folder)
        tensors, facts = checkpoint.load_resume(run)
        config = resumed_config(run, config, dataset, facts["budget"])
    config = complete(config, dataset)
    device = pick_device(config.train.device)
    if config.train.compile:
        check_compiler()
    trainer = Trainer(config, dataset, device)
    if config.train.compile and any(isinstance(part, torch.nn.RNNBase) for part in trainer.model.modules()):
        raise ConfigError(
            "--compile: got a recurrent network, which PyTorch's compiler does not take; expected it left out"
        )
    loop = _Loop(config.train, trainer, started)
    if run is not None:
        trainer.restore(tensors, facts)
        loop.go_on_from(facts)
        checkpoint.read_metrics(run, up_to_step=trainer.step)
    elif (budget := config.train.seconds) is not None and loop.elapsed() >= budget:
        raise ConfigError(
            f"--seconds: got {budget:g}, but loading took {loop.elapsed():.1f} s of them; expected time to train in: give more"
        )
    elif folder is not None:
        run = checkpoint.create_run(folder, config, checkpoint.DataCard.of(dataset))
    yield from loop.run_to_end(run)


def resumed_config(run: checkpoint.Run, asked: Config, dataset: Dataset, budget: dict[str, Any]) -> Config:
    """The configuration to go on with: the run's own, with the budget and the device of `asked` where it gives them.

    `budget` holds the epochs and seconds that the run was last given.

    Raises
    ------
    RunError
        If the data are not those of the run.
    ConfigError
        If `asked` differs from the run elsewhere.
    """
    if dataset.fingerprint != run.data.fingerprint:
        raise RunError(
            f"{run.folder}: got data {dataset.name} that differ from those it was trained on ({run.data.source}); "
            "expected the same: name that source"
        )
    for part, own, default in (
        (asked.model, run.config.model, ModelConfig()),
        (asked.train, run.config.train, TrainConfig()),
    ):
        for field in fields(part):
            got = getattr(part, field.name)
            free = field.name in ("epochs", "seconds", "device", "compile")
            if not free and got not in (getattr(default, field.name), getattr(own, field.name)):
                raise ConfigError(
                    f"{option(field.name)}: got {got!r}, but {run.folder} was trained with {getattr(own, field.name)!r}; "
                    "expected it left out with --resume, or a new --out without --resume"
                )
    own = run.config.train
    if asked.train.epochs is not None or asked.train.seconds is not None:
        budget = {"epochs": asked.train.epochs, "seconds": asked.train.seconds}
    device = own.device if asked.train.device == TrainConfig().device else asked.train.device
    return Config(run.config.model, replace(own, device=device, compile=asked.train.compile, **budget))


class _Loop:
    """The loop around the steps: the clock, and when to validate, save and report."""

    def __init__(self, config: TrainConfig, trainer: Trainer, started: float) -> None:
        self.config, self.trainer, self.started = config, trainer, started
        self.batch_size = trainer.order.batch_size
        self.run: checkpoint.Run | None = None
        self.images_per_pass = len(trainer.images)
        self.closing = 0.0  # seconds that a validation and a save take: kept free at the end of a budget of seconds
        self.validated = (0, 0.0)  # step and fraction of the last validation
        self.since_validation = Sums()

    def go_on_from(self, facts: dict[str, Any]) -> None:
        """Take up the clock where a saved training left it."""
        self.started -= facts["seconds"]
        step, fraction = facts["validated"]
        self.validated = (step, fraction)

    def elapsed(self) -> float:
        """Seconds of wall time, with those before an interruption."""
        return time.perf_counter() - self.started

    def passes(self, step: int) -> float:
        """Epochs after `step` steps."""
        return step * self.batch_size / self.images_per_pass

    def fraction(self) -> float:
        """Share of the budget that is used up, 0…1."""
        if self.config.epochs is not None:
            return min(
                1.0,
                self.trainer.step / math.ceil(self.config.epochs * self.images_per_pass / self.batch_size),
            )
        assert self.config.seconds is not None
        return min(1.0, self.elapsed() / max(self.config.seconds - 1.3 * self.closing, 1e-9))

    def run_to_end(self, run: checkpoint.Run | None) -> Generator[Progress]:
        """Steps until the budget is used up; saves at the end, on leaving, and every `SAVE_EVERY` seconds."""
        self.run, trainer = run, self.trainer
        opening, fresh = self.elapsed(), trainer.best is None
        train, speed = Sums().averages(), 0.0
        try:
            if fresh:  # figures of the start, and a first measure of what closing takes
                trainer.validate()
                self._save()
            self.closing = self.elapsed() - opening
            saved_at = reported_at = self.elapsed()
            while True:
                if (fraction := self.fraction()) < 1.0 or trainer.step == 0:
                    trainer.take_step(fraction)
                fraction = self.fraction()
                ended = fraction >= 1.0
                due = ended or self._validation_due(fraction)
                elapsed = self.elapsed() - reported_at
                if not due and elapsed < PROGRESS_EVERY:
                    continue
                sums = trainer.read(ended=ended)
                self.since_validation += sums
                train = sums.averages() if sums.steps else train
                speed = sums.steps * self.batch_size / max(elapsed, 1e-9) if sums.steps else speed
                if due:
                    self._validate(fraction, speed)
                if ended:
                    break
                if self.elapsed() - saved_at >= SAVE_EVERY:
                    self._save()
                    saved_at = self.elapsed()
                reported_at = self.elapsed()
                yield self._progress(train, speed, finished=False)
                if self.config.compile and not trainer.compiled:
                    trainer.compile()  # after a first sign of life, since the next step takes the time for it
        except GeneratorExit:
            self._save()
            raise
        except TrainingError as error:
            raise TrainingError(f"{error}{self._rescued(fresh)}") from error
        self._save()
        trainer.take_best()
        yield self._progress(train, speed, finished=True)

    def _validation_due(self, fraction: float) -> bool:
        step, at = self.validated
        crossed = int(self.passes(self.trainer.step)) > int(self.passes(step))
        return crossed and fraction - min(at, fraction) >= VALIDATE_EVERY

    def _validate(self, fraction: float, speed: float) -> None:
        begun = self.elapsed()
        averages = self.trainer.validate()
        self.closing = max(self.closing, self.elapsed() - begun)
        seen_before = self.validated[0] == self.trainer.step
        self.validated = (self.trainer.step, fraction)
        if self.run is not None and not seen_before:
            line: dict[str, Any] = {
                "step": self.trainer.step,
                "epoch": round(self.passes(self.trainer.step), 4),
                "seconds": round(self.elapsed(), 3),
                "images_per_second": round(speed),
                "skipped": self.trainer.skipped,
            }
            if self.since_validation.steps:
                line["train"] = _figures(self.since_validation.averages())
            if averages is not None:
                line["validation"] = _figures(averages)
            checkpoint.append_metrics(self.run, line)
        self.since_validation = Sums()

    def _save(self) -> None:
        if self.run is None:
            return
        tensors, facts = self.trainer.state()
        budget = {"epochs": self.config.epochs, "seconds": self.config.seconds}
        facts |= {"seconds": self.elapsed(), "validated": self.validated, "budget": budget}
        if (weights := self.trainer.weights_to_use()) is not None:
            checkpoint.save_weights(self.run, *weights)
        checkpoint.save_resume(self.run, tensors, facts)

    def _rescued(self, fresh: bool) -> str:
        """Save what was good before the loss was not, and say what became of the run; a `fresh` one may go."""
        if self.run is None:
            return ""
        weights = self.trainer.weights_to_use()
        if weights is not None and weights[1]["step"] > 0:
            checkpoint.save_weights(self.run, *weights)
            return f"; the last good weights are kept in {self.run.folder}"
        if fresh:
            checkpoint.discard(self.run)
        return f"; nothing good was learnt, and {self.run.folder} is {'not kept' if fresh else 'as it was'}"

    def _progress(self, train: Averages, speed: float, *, finished: bool) -> Progress:
        fraction, elapsed = self.fraction(), self.elapsed()
        return Progress(
            step=self.trainer.step,
            epoch=self.passes(self.trainer.step),
            fraction=fraction,
            seconds=elapsed,
            seconds_left=elapsed * (1 - fraction) / max(fraction, 1e-9),
            images_per_second=speed,
            train=train,
            validation=self.trainer.last_validation,
            skipped=self.trainer.skipped,
            finished=finished,
            model=self.trainer.averaged,
            axes=self.trainer.best_axes,
        )


def _figures(averages: Averages) -> dict[str, float]:
    return {"nats": averages.nats, "distortion": averages.distortion, "rate": averages.rate}
