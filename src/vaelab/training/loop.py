"""The training loop: the clock, when to validate, save and report, and the `Progress` that it yields."""

from __future__ import annotations

import atexit
import math
import sys
from collections.abc import Callable, Generator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from typing import Any

from vaelab import distributed, runs
from vaelab.config import ResolvedTrainConfig
from vaelab.errors import TrainingError
from vaelab.interruption import Signals
from vaelab.models.base import Model
from vaelab.optim.batches import ShuffledOrder
from vaelab.training.trainer import Trainer

PROGRESS_EVERY = 0.2  # seconds between two yields of progress

# A validation is due after this fraction of the training, and in a budget of epochs after a whole epoch; in a budget of seconds,
# validations take at most this share of it.
VALIDATE_EVERY, VALIDATION_SHARE = 0.04, 0.02

# Time kept free at the end of a budget in seconds, relative to the first validation and save, or to a longer later validation.
CLOSING_MARGIN = 1.3


@dataclass(frozen=True)
class Progress:
    """State of a training."""

    step: int
    epoch: float
    """Passes over the images, fractional."""

    fraction: float
    """Fraction of the budget that is used up, 0…1."""

    seconds: float
    seconds_left: float
    """Training time so far, and the estimate of the time left; infinite before the first step."""

    images_per_second: float
    """Training speed since the last progress; 0 if no step was taken since."""

    learning_rate: float
    """Learning rate of the last step; NaN before the first one."""

    train: runs.Averages
    """Figures over the training images since the last progress, with the weights as they changed."""

    validation: runs.Averages | None
    """Figures of the averaged weights at the last validation; None before the first one, or without validation images."""

    skipped: int
    """Steps skipped because loss or gradient was NaN or infinite."""

    finished: bool
    """Whether this is the last progress, and the weights are saved."""

    model: Model
    """The model, with averaged weights; at the end the best that were validated. It changes as training continues."""

    axes: runs.LatentStats | None = None
    """Statistics of the latent dimensions of the best weights; None without validation images."""

    remark: str | None = None
    """A line for the user since the last progress, such as that memory is short or that compiling failed."""


def steps_in(config: ResolvedTrainConfig, order: ShuffledOrder) -> int | None:
    """Return the number of steps of the whole training; None if the budget counts seconds."""
    if config.budget.unit == "seconds":
        return None
    return math.ceil(config.budget.amount * order.count / order.batch_size)


class Loop:
    """Runs a trainer until its budget is used up, and writes a run, if there is a recorder."""

    signals: Signals

    def __init__(
        self, config: ResolvedTrainConfig, trainer: Trainer, started: float | None, clock: Callable[[], float]
    ) -> None:
        self.config, self.trainer, self.started, self.clock = config, trainer, started, clock
        self.seconds_before = 0.0  # of the sessions before an interruption
        self.order = trainer.batches.order
        self.steps = steps_in(config, self.order)
        self.recorder: runs.Recorder | None = None
        self.signal = 0.0  # that waits in any of several processes
        self.train, self.speed = runs.Sums().averages(), 0.0
        self.closing = 0.0  # seconds that a validation and a save take
        self.validation_ended = self.validation_took = self.saved_at = self.reported_at = 0.0

    def continue_from(self, facts: dict[str, Any]) -> None:
        """Continue the clock of a saved training."""
        self.seconds_before = facts["seconds"]
        self.closing = facts.get("closing", 0.0)
        # The budget may be larger now, so the fraction at the last validation is smaller.
        self.trainer.validated_fraction = min(self.trainer.validated_fraction, self.fraction(self.elapsed()))

    def elapsed(self) -> float:
        """Return seconds since `started`, by default the first step, including those before an interruption."""
        return self.seconds_before + (0.0 if self.started is None else self.clock() - self.started)

    def fraction(self, seconds: float) -> float:
        """Return the fraction of the budget that is used up after so many seconds, 0…1."""
        if self.steps is not None:
            return min(1.0, self.trainer.step / self.steps)
        return min(1.0, seconds / max(self.config.budget.amount - CLOSING_MARGIN * self.closing, 1e-9))

    def _agreed(self) -> float:
        """Return the seconds elapsed in the first process, and exchange the signal that waits, so that all decide alike."""
        now, self.signal = distributed.all_reduce_max(
            self.elapsed() if distributed.is_first() else 0.0, self.signals.waiting
        )
        return now

    def run_to_end(self, recorder: runs.Recorder | None) -> Generator[Progress]:
        """Take steps until the budget is used up; save at the end, when interrupted, and every `checkpoint_every` seconds.

        Ctrl-C, SIGTERM and SIGHUP wait for the end of a step and what follows it; the state is then yielded and saved.
        """
        self.recorder, trainer, ended = recorder, self.trainer, False
        self.signals = signals = Signals()
        fresh = trainer.best is None
        several = signals.patient = distributed.world_size() > 1
        atexit.register(self._save_whole)  # for a program that ends in the middle
        try:
            if fresh:
                self._first_validation()
            if self.fraction(self._agreed()) < 1.0:
                for _ in trainer.runner.prepare():
                    yield replace(self._progress(), seconds_left=math.inf)
            distributed.barrier()  # another process may still have been compiling
            self.started = self.clock() if self.started is None else self.started
            self.saved_at = self.reported_at = self._agreed()
            with signals if several else nullcontext():  # several processes stop after the same step
                while not ended:
                    with signals:
                        ended, reports = self._advance()
                        if ended:  # before `take_best`, which replaces the averaged weights that resuming needs
                            self._save()
                    stop = int(self.signal) if several else signals.waiting
                    if not ended and (reports or stop):
                        yield self._progress()
                        signals.deliver(stop)
                        trainer.runner.tend(self._seconds_left())
        except (GeneratorExit, KeyboardInterrupt, SystemExit) as stop:
            # On a GPU, an exchange that was not completed blocks all that follows it.
            stuck = isinstance(stop, distributed.Disconnected) and trainer.stats.bad.is_cuda
            if not (sys.is_finalizing() or stuck):
                with signals:
                    self._save_whole()
            raise
        except TrainingError as error:
            outcome = "" if recorder is None else recorder.rescue(trainer.weights_to_use(), fresh)
            raise TrainingError(f"{error}{outcome}") from error
        finally:
            atexit.unregister(self._save_whole)
            trainer.runner.close()
            signals.close()
        signals.deliver()
        trainer.take_best()
        yield self._progress(finished=True)

    def _advance(self) -> tuple[bool, bool]:
        """Take a step and do what is due after it; return whether the budget is used up, and whether to report.

        No step is taken while a validation is due: the training was interrupted before it.
        """
        trainer, now = self.trainer, self._agreed()
        fraction = self.fraction(now)
        unvalidated = trainer.step > trainer.validated_step and self._validation_due(fraction, now)
        if trainer.step == 0 or (fraction < 1.0 and not unvalidated):
            trainer.take_step(fraction)
            now = self._agreed()
            fraction = self.fraction(now)
        ended = fraction >= 1.0
        due = ended or self._validation_due(fraction, now)
        since_report = now - self.reported_at
        if not due and since_report < PROGRESS_EVERY:
            return False, False
        sums = trainer.take_sums(ended=ended)
        if sums.steps:
            self.train = sums.averages()
            self.speed = sums.steps * self.order.batch_size / max(since_report, 1e-9)
        if due:
            self._validate(fraction)
        if not ended and self.elapsed() - self.saved_at >= self.config.checkpoint_every:
            self._save()
        self.reported_at = self._agreed()
        return ended, True

    def _first_validation(self) -> None:
        """Validate and save before the first step: the first values, and a first measure of how long closing takes."""
        began, trainer = self.clock(), self.trainer
        trainer.validate(0.0)
        if self.config.iwae_samples > 1 and len(trainer.validator):
            # For its duration only: the last validation computes it too.
            trainer.validator.negative_bound(trainer.averaged)
        self._save()
        self.closing = distributed.broadcast(self.clock() - began)

    def _seconds_left(self) -> float:
        """Return the seconds until IWAE fine-tuning or the end; 0 if the budget counts epochs."""
        if self.steps is not None:
            return 0.0
        last = self.config.iwae_fraction if self.config.iwae_samples > 1 else 0.0
        return self.config.budget.amount * (1 - last) - self.elapsed()

    def _validation_due(self, fraction: float, now: float) -> bool:
        if fraction - self.trainer.validated_fraction < VALIDATE_EVERY:
            return False
        if self.steps is None:
            return now - self.validation_ended >= self.validation_took / VALIDATION_SHARE
        return int(self.trainer.epochs_done) > self.trainer.validated_step * self.order.batch_size // self.order.count

    def _validate(self, fraction: float) -> None:
        began, trainer = self._agreed(), self.trainer
        averages = trainer.validate(fraction)
        self.validation_ended = self._agreed()
        self.validation_took = self.validation_ended - began
        self.closing = max(self.closing, self.validation_took)
        if self.recorder is not None and trainer.validated_step < trainer.step:
            facts = {"step": trainer.step, "epoch": round(trainer.epochs_done, 4), "seconds": round(self.elapsed(), 3)}
            facts |= {"images_per_second": round(self.speed), "skipped": trainer.skipped}
            self.recorder.log(facts, trainer.sums(), averages)
        trainer.mark_validated(fraction)

    def _save(self) -> None:
        if self.recorder is not None:
            tensors, facts = self.trainer.state_to_save()
            facts |= {"seconds": self.elapsed(), "budget": asdict(self.config.budget)}
            facts |= {"closing": self.closing, "fraction": self.fraction(self.elapsed())}
            self.recorder.save(self.trainer.weights_to_use(), (tensors, facts))
            self.saved_at = self.elapsed()

    def _save_whole(self) -> None:
        """Save, unless an exception has come while tensors were changed; then the last checkpoint remains."""
        if not self.trainer.runner.changing.is_set():
            self._save()

    def _progress(self, *, finished: bool = False) -> Progress:
        elapsed, trainer = self.elapsed(), self.trainer
        fraction = self.fraction(elapsed)
        remark = "; ".join(trainer.runner.remarks) or None
        trainer.runner.remarks.clear()
        return Progress(
            step=trainer.step,
            epoch=trainer.epochs_done,
            fraction=fraction,
            seconds=elapsed,
            seconds_left=elapsed * (1 - fraction) / fraction if fraction else math.inf,
            images_per_second=self.speed,
            learning_rate=trainer.learning_rate,
            train=self.train,
            validation=trainer.last_validation,
            skipped=trainer.skipped,
            finished=finished,
            model=trainer.averaged,
            axes=None if trainer.best is None else trainer.best.latent_stats,
            remark=remark,
        )
