"""Train one model into a run folder, with progress, notes, pictures, and Ctrl-C that saves."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vaelab.cli.app import INTERRUPTED, nats_text
from vaelab.cli.spelling import with_options
from vaelab.errors import counted
from vaelab.interruption import collected_signals

if TYPE_CHECKING:
    from vaelab.config import Config
    from vaelab.data import Dataset
    from vaelab.runs import Run

SLOW_LOADING = 0.2
"""Fraction of a budget in seconds above which the loading time is reported."""


def train_one(
    config: Config, dataset: Dataset, folder: Path, resume: bool, *, started: float, resume_command: list[str]
) -> None:
    """Train into a run folder, report the result and draw the run's pictures.

    Parameters
    ----------
    config
        Hyper-parameters, or with `resume` those to change.
    dataset
        Images to train and validate on.
    folder
        Run folder to write, or with `resume` to continue.
    resume
        Continue the run in `folder`.
    started
        Value of `time.perf_counter()` when the budget began.
    resume_command
        Words of the command that continues the run, printed after Ctrl-C.

    Raises
    ------
    SystemExit
        After Ctrl-C or a termination signal; the run is saved.
    """
    from vaelab import runs
    from vaelab.cli.outputs import run_pictures
    from vaelab.progress import TrainingDisplay, say
    from vaelab.training.fit import fit as fit_model

    loading = time.perf_counter() - started
    training = fit_model(config, dataset, out=folder, resume=resume, started=started)
    with TrainingDisplay() as display, collected_signals(signal.SIGINT, signal.SIGTERM) as signals:
        state = next(training)  # raises the errors of the configuration before anything is printed
        run = runs.open_run(folder)
        for line in introduction(run, dataset, None if resume else loading):
            say(with_options(line))
        while not (state.finished or signals):
            display.show(state)
            state = next(training)
        display.show(state)
        training.close()
    if not state.finished:
        say(f"stopped at step {state.step:,} and saved; to continue: {shlex.join(resume_command)}")
        raise SystemExit(INTERRUPTED)
    say(f"weights saved after {state.seconds:.1f} s: {folder / runs.WEIGHTS}")
    if runs.weight_facts(run)["step"] == 0:
        rate = run.config.train.learning_rate
        say(f"note: no later weights were better than the initial ones; try a smaller --learning-rate than {rate:g}")
    if state.validation is not None:
        autoencoder = run.config.model.model == "ae"
        say(f"validation: {nats_text(state.validation.distortion, state.validation.rate, autoencoder)} per image")
    for path in run_pictures(run, dataset):
        say(f"picture: {path}")


def introduction(run: Run, dataset: Dataset, loading: float | None) -> Iterator[str]:
    """Yield the lines before a training: model and data, doubts about the data, and slow loading (`loading` seconds)."""
    from vaelab.data.describe import doubts
    from vaelab.training.validation import validation_subset

    model, budget = run.config.model, run.config.train.budget
    validated = len(validation_subset(dataset.validation, run.config))
    yield (
        f"{model.model} ({model.network}, {model.latent_dim} latent dimensions, {model.likelihood}) on {dataset.name}: "
        f"{counted(len(dataset.train), 'training image')}, {validated:,} to validate → {run.folder}"
    )
    yield from (f"note: {doubt}" for doubt in doubts(dataset, conditional=model.model == "cvae"))
    if budget.unit == "seconds" and loading is not None and loading > SLOW_LOADING * budget.amount:
        left = budget.amount - loading
        yield f"loading took {loading:.0f} s of --seconds {budget.amount:g}; {left:.0f} s are left for training"


def new_folder(name: str) -> Path:
    """Return runs/NAME, or if it exists the first free one of runs/NAME-2, runs/NAME-3, …."""
    folder, number = Path("runs") / name, 2
    while folder.exists():
        folder, number = Path("runs") / f"{name}-{number}", number + 1
    return folder
