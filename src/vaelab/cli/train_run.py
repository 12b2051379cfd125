"""Train one model into a run folder, with progress, notes, pictures, and Ctrl-C that saves."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from vaelab.cli import several
from vaelab.cli.app import INTERRUPTED, STARTED, import_pytorch
from vaelab.errors import RunError, counted
from vaelab.spelling import with_options

if TYPE_CHECKING:
    from vaelab.cli.loggers import LoggerName
    from vaelab.config import Config
    from vaelab.data import Dataset
    from vaelab.runs import Run
    from vaelab.training.fit import Progress

COUNT_LOADING = "VAELAB_COUNT_LOADING"
"""Environment variable that makes a budget in seconds count from the start of the command, for the benchmarks."""


def train_one(
    config: Config,
    dataset: Dataset,
    folder: Path,
    resume: bool,
    *,
    resume_command: list[str],
    trust_code: bool = False,
    log: Sequence[LoggerName] = (),
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
    resume_command
        Words of the command that continues the run, printed after Ctrl-C.
    trust_code
        With `resume`, import the custom networks that the run names.
    log
        Names of the loggers to which the figures go.

    Raises
    ------
    SystemExit
        After Ctrl-C with status 130, after SIGTERM 143, after SIGHUP 129; the run is saved.
    """
    from vaelab.progress import say, work_bar

    import_pytorch("vaelab.cli.outputs", "vaelab.training.fit")
    from vaelab import runs
    from vaelab.cli.baselines import validation_line
    from vaelab.cli.best_weights import best_weights_lines
    from vaelab.cli.diagnose import diagnosis_lines
    from vaelab.cli.outputs import run_pictures
    from vaelab.evaluation.diagnosis import diagnose_model
    from vaelab.inference.trained import load
    from vaelab.training.fit import fit as fit_model
    from vaelab.training.resolve import resolve

    if not resume:
        resolve(config, dataset)  # raises errors before a logger writes anything
    started = STARTED if COUNT_LOADING in os.environ else None
    facts = runs.resume_facts(runs.open_run(folder)) if resume else None
    training = fit_model(config, dataset, out=folder, resume=resume, trust_code=trust_code, started=started)
    if not several.is_first():
        with closing(training):
            for _ in training:
                pass
        return
    try:
        state = _shown(training, folder, dataset, log, resume)
    except (KeyboardInterrupt, SystemExit) as stop:
        try:
            saved = runs.resume_facts(runs.open_run(folder)) or runs.NOTHING_DONE
        except RunError:  # stopped before there was a run
            raise stop from None
        with suppress(OSError):  # the terminal may be gone
            say(f"stopped at step {saved['step']:,} and saved; to continue: {shlex.join(resume_command)}")
        if isinstance(stop, SystemExit):
            raise
        raise SystemExit(INTERRUPTED) from None
    run = runs.open_run(folder, trust_code=True)  # `training` has imported its networks already
    if facts is not None and facts["step"] == state.step:
        say(f"note: {folder} was trained for its whole budget already; to go on, give more --epochs or --seconds")
    else:
        say(f"weights saved after {state.seconds:.1f} s of training: {folder / runs.WEIGHTS}")
    for line in best_weights_lines(run, None if facts is None else facts["step"]):
        say(line)
    if runs.weight_facts(run)["step"] == 0:
        rate = run.config.train.learning_rate
        say(f"note: no later weights were better than the initial ones; try a smaller --learning-rate than {rate:g}")
    with work_bar(waiting="drawing pictures"):
        pictures = run_pictures(run, dataset)
    for path in pictures:
        say(f"picture: {path}")
    if state.validation is not None:
        model = load(folder, trust_code=True)
        say(validation_line(state.validation, model.model, run.config, dataset))
        with work_bar() as report:
            found = diagnose_model(model, dataset, dataset.validation, run, report)
        for line in diagnosis_lines(found):
            say(line)


def _shown(
    training: Generator[Progress], folder: Path, dataset: Dataset, names: Sequence[LoggerName], resume: bool
) -> Progress:
    """Run a training to its end with a display of its progress, which is logged too, and return the last one."""
    from vaelab import runs
    from vaelab.cli.loggers import opened
    from vaelab.progress import TrainingDisplay, say, work_bar

    with opened(names, folder, resume=resume) as log, closing(training):
        with work_bar(waiting="preparing the training"):
            state = next(training)  # raises the errors of the configuration before anything else is printed
        several.note_job(folder)
        run = runs.open_run(folder)
        for line in introduction(run, dataset):
            say(with_options(line))
        log.start(run, state)
        with TrainingDisplay() as display:
            display.show(state)
            for state in training:
                display.show(state)
                log.record(state)
    return state


def total_time() -> str:
    """Return the wall time since the start of the command, as text."""
    return f"{time.perf_counter() - STARTED:.1f} s in all, with loading, compiling and drawing"


def introduction(run: Run, dataset: Dataset) -> Iterator[str]:
    """Yield the lines before a training: model and data, and doubts about the data and the names of its classes."""
    from vaelab.data.describe import doubts
    from vaelab.figures.fonts import undrawable
    from vaelab.training.validation import validation_subset

    model = run.config.model
    network = " and ".join(dict.fromkeys(each or model.network for each in (model.encoder, model.decoder)))
    validated = len(validation_subset(dataset.validation, run.config))
    yield (
        f"{model.model} ({network}, {model.latent_dim} latent dimensions, {model.likelihood}) on {dataset.name}: "
        f"{counted(len(dataset.train), 'training image')}, {validated:,} to validate → {run.folder}"
    )
    yield from (f"note: {doubt}" for doubt in doubts(dataset, conditional=model.model == "cvae"))
    if missing := undrawable([dataset.name, *dataset.classes]):
        yield f"note: pictures show boxes for {missing}, which no installed font has; install one, such as fonts-noto-cjk"


def new_folder(name: str) -> Path:
    """Return runs/NAME, or if it exists the first free one of runs/NAME-2, runs/NAME-3, …."""
    folder, number = Path("runs") / name, 2
    while folder.exists():
        folder, number = Path("runs") / f"{name}-{number}", number + 1
    return folder
