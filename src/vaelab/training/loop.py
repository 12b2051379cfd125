"""The loop around the steps: the clock, when to validate, save and report, and what it yields, `Progress`."""

from __future__ import annotations

import atexit
import math
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from vaelab.acceleration.policy import Compiling
from vaelab.acceleration.threads import Team
from vaelab.config import Config
from vaelab.errors import TrainingError
from vaelab.models.base import Model
from vaelab.objectives.elbo import LatentStats
from vaelab.training import runs
from vaelab.training.trainer import Averages, Sums, Trainer

PROGRESS_EVERY = 0.2
"""Seconds between two yields of progress."""

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
        Wall time so far, and still to come by estimate: infinite before the first step.
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
    remark
        A line that a person should read, if something has come up since the last progress: that memory is short, or that the
        step could not be compiled.
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
    axes: LatentStats | None = None
    remark: str | None = None


class Loop:
    """The loop around the steps: the clock, and when to validate, save and report."""

    def __init__(self, config: Config, trainer: Trainer, started: float) -> None:
        self.config, self.trainer, self.started = config.train, trainer, started
        self.batch_size = trainer.feed.order.batch_size
        self.run: runs.Run | None = None
        self.images_per_pass = len(trainer.feed.images)
        self.closing = 0.0  # seconds that a validation and a save take: kept free at the end of a budget of seconds
        self.validated = (0, 0.0)  # step and fraction of the last validation
        self.since_validation = Sums()
        # Share of the training, at its end, whose steps are not the ones that are compiled.
        self.plain = self.config.iwae_fraction if self.config.iwae_samples > 1 else 0.0
        steps = self.steps()
        self.team = Team(steady=steps is not None or trainer.device.type != "cpu")
        self.compiling = Compiling(trainer, config, None if steps is None else int(steps * (1 - self.plain)), self.team)

    def steps(self) -> int | None:
        """Of the whole training; None where seconds are counted."""
        if self.config.epochs is None:
            return None
        return math.ceil(self.config.epochs * self.images_per_pass / self.batch_size)

    def go_on_from(self, facts: dict[str, Any]) -> None:
        """Take up the clock where a saved training left it."""
        self.started -= facts["seconds"]
        step, fraction = facts["validated"]
        self.validated = (step, fraction)
        self.closing = facts.get("closing", 0.0)

    def elapsed(self) -> float:
        """Seconds of wall time, with those before an interruption."""
        return time.perf_counter() - self.started

    def passes(self, step: int) -> float:
        """Epochs after `step` steps."""
        return step * self.batch_size / self.images_per_pass

    def fraction(self) -> float:
        """Share of the budget that is used up, 0…1."""
        if (steps := self.steps()) is not None:
            return min(1.0, self.trainer.step / steps)
        assert self.config.seconds is not None
        return min(1.0, self.elapsed() / max(self.config.seconds - 1.3 * self.closing, 1e-9))

    def run_to_end(self, run: runs.Run | None) -> Generator[Progress]:
        """Steps until the budget is used up; saves at the end, on leaving, and every `SAVE_EVERY` seconds."""
        self.run, trainer = run, self.trainer
        opening, fresh = self.elapsed(), trainer.best is None
        train, speed = Sums().averages(), 0.0
        atexit.register(
            self._save
        )  # for a program that ends in the middle: once it is ending, tensors are out of reach
        try:
            if fresh:  # figures of the start, and a first measure of what closing takes
                trainer.validate()
                if self.config.iwae_samples > 1 and len(trainer.validation):
                    trainer.finished_value()  # for the clock alone: the last validation takes it too
                self._save()
                self.closing = self.elapsed() - opening
            if self.fraction() < 1.0:
                for _ in self.compiling.begin():
                    yield replace(self._progress(train, speed, finished=False), seconds_left=math.inf)
            saved_at = reported_at = self.elapsed()
            while True:
                if (fraction := self.fraction()) < 1.0 or trainer.step == 0:
                    self.team.take(partial(trainer.take_step, fraction))
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
                self.team.rest()
                reported_at = self.elapsed()
                yield self._progress(train, speed, finished=False)
                self.compiling.tend((self.config.seconds or 0.0) * (1 - self.plain) - self.elapsed())
        except GeneratorExit:
            if not sys.is_finalizing():
                self._save()
            raise
        except TrainingError as error:
            raise TrainingError(f"{error}{self._rescued(fresh)}") from error
        finally:
            atexit.unregister(self._save)
            self.compiling.close()
            self.team.rest()
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
            runs.append_metrics(self.run, line)
        self.since_validation = Sums()

    def _save(self) -> None:
        if self.run is None:
            return
        tensors, facts = self.trainer.state()
        budget = {"epochs": self.config.epochs, "seconds": self.config.seconds}
        facts |= {"seconds": self.elapsed(), "validated": self.validated, "budget": budget, "closing": self.closing}
        facts["fraction"] = self.fraction()  # for who looks on
        if (weights := self.trainer.weights_to_use()) is not None:
            runs.save_weights(self.run, *weights)
        runs.save_resume(self.run, tensors, facts)

    def _rescued(self, fresh: bool) -> str:
        """Save what was good before the loss was not, and say what became of the run; a `fresh` one may go."""
        if self.run is None:
            return ""
        weights = self.trainer.weights_to_use()
        if weights is not None and weights[1]["step"] > 0:
            runs.save_weights(self.run, *weights)
            return f"; the last good weights are kept in {self.run.folder}"
        if fresh:
            runs.discard(self.run)
        return f"; nothing good was learnt, and {self.run.folder} is {'not kept' if fresh else 'as it was'}"

    def _progress(self, train: Averages, speed: float, *, finished: bool) -> Progress:
        fraction, elapsed = self.fraction(), self.elapsed()
        remarks, self.trainer.stepper.remarks = self.trainer.stepper.remarks, []
        return Progress(
            step=self.trainer.step,
            epoch=self.passes(self.trainer.step),
            fraction=fraction,
            seconds=elapsed,
            seconds_left=elapsed * (1 - fraction) / fraction if fraction else math.inf,
            images_per_second=speed,
            train=train,
            validation=self.trainer.last_validation,
            skipped=self.trainer.skipped,
            finished=finished,
            model=self.trainer.averaged,
            axes=self.trainer.best_axes,
            remark="; ".join(remarks) or None,
        )


def _figures(averages: Averages) -> dict[str, float]:
    return {"nats": averages.nats, "distortion": averages.distortion, "rate": averages.rate}
