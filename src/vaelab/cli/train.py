"""`vaelab data` and `vaelab train`: looking at a source, and learning from it."""

from __future__ import annotations

import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from vaelab.cli.app import INTERRUPTED, STARTED, Options, app, load_source, nats_text, source_arguments
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.errors import ConfigError, counted
from vaelab.presets import PRESETS, PresetName, with_preset

if TYPE_CHECKING:
    from vaelab.data import Dataset
    from vaelab.training.runs import Run

PRESET_HELP = (
    "Settings for a budget: "
    + "; ".join(f"{name}: {preset.summary}" for name, preset in PRESETS.items())
    + ". What is typed beside it goes before it, but for what is the default without it."
)

MUCH = 0.2
"""Share of a budget in seconds that loading may take without a word."""


@app.command
def data(source: str | None = None, /, *, options: Options = None, out: Path | None = None) -> None:
    """List the built-in data, or describe what a source loads as and draw a contact sheet of it.

    Parameters
    ----------
    source
        A built-in name, a folder of images (one folder per class, or flat), a folder of IDX files, an .npz file, or a table
        of paths and labels (.csv, .parquet).
    out
        The contact sheet, a PNG. Default: NAME-sheet.png in this folder.
    """
    from vaelab.data import BUILTIN

    if source is None:
        width = max(map(len, BUILTIN))
        for name, line in BUILTIN.items():
            print(f"{name:<{width}}  {line}")
        print(
            "or a folder of images (one folder per class, or flat), a folder of IDX files, an .npz file, "
            "a table with the columns path and label (.csv, .parquet)"
        )
        return
    from vaelab.cli.outputs import expect_suffix
    from vaelab.data.describe import describe_dataset
    from vaelab.figures.plots import contact_sheet, save_picture

    if out is not None:
        expect_suffix(out, ".png")
    dataset = load_source(source, options)
    for line in describe_dataset(dataset):
        print(line)
    path = out or Path(f"{dataset.name}-sheet.png")
    save_picture(path, contact_sheet(dataset))
    print(f"contact sheet: {path}")


@app.command
def train(
    source: str,
    /,
    *,
    model_config: Annotated[ModelConfig | None, Parameter(name="*")] = None,
    train_config: Annotated[TrainConfig | None, Parameter(name="*")] = None,
    options: Options = None,
    preset: Annotated[PresetName | None, Parameter(help=PRESET_HELP)] = None,
    out: Path | None = None,
    resume: bool = False,
) -> None:
    """Train a model and write a run folder: weights, figures, pictures. Ctrl-C stops and saves; --resume goes on.

    Parameters
    ----------
    source
        What to learn from: a built-in name, a folder of images, a folder of IDX files, an .npz file, or a table of paths
        and labels (.csv, .parquet).
    out
        The run folder. Default: a new one, runs/NAME-MODEL.
    resume
        Go on with the run in --out, to its own budget or to a new one given here.
    """
    from vaelab.progress import say

    config = Config(model_config or ModelConfig(), train_config or TrainConfig())
    if preset is not None:
        if resume:
            raise ConfigError(
                f"--preset: got {preset} with --resume; expected it left out: a run goes on with its own settings"
            )
        config = with_preset(preset, config)
    from vaelab.training import runs

    if resume and out is None:
        raise ConfigError("--resume: got no run; expected the run folder to go on with: give --out")
    if out is not None:  # before the data are read, which may take long
        runs.open_run(out) if resume else runs.check_new(out)
    dataset = load_source(source, options)
    again = ["vaelab", "train", source, *source_arguments(options)]
    if config.model.model == "all":
        from vaelab.cli.siblings import train_siblings

        train_siblings(config, dataset, out or _new_folder(f"{dataset.name}-all"), resume, [*again, "--model", "all"])
        return
    from vaelab.training.resolve import resolve

    folder = out or _new_folder(f"{dataset.name}-{resolve(config, dataset).model.model}")
    train_one(config, dataset, folder, resume, started=STARTED, again=[*again, "--out", str(folder), "--resume"])
    say(f"next: vaelab sample {shlex.quote(str(folder))} --out samples.png")


def train_one(
    config: Config, dataset: Dataset, folder: Path, resume: bool, *, started: float, again: list[str]
) -> None:
    """Train into a run folder and say what comes of it. Interrupted, it saves, says to type `again`, and ends the command."""
    from vaelab.cli.outputs import run_pictures
    from vaelab.progress import TrainingDisplay, say
    from vaelab.training import runs
    from vaelab.training.fit import fit as fit_model

    loading = time.perf_counter() - started
    training = fit_model(config, dataset, out=folder, resume=resume, started=started)
    with TrainingDisplay() as display, _interruption() as interrupted:
        state = next(training)  # what cannot be is refused here, before anything is said
        run = runs.open_run(folder)
        for line in _introduction(run, dataset, None if resume else loading):
            say(line)
        while not (state.finished or interrupted):
            display.show(state)
            state = next(training)
        display.show(state)
        training.close()
    if not state.finished:
        say(f"stopped at step {state.step:,} and saved; to go on: {shlex.join(again)}")
        raise SystemExit(INTERRUPTED)
    say(f"weights saved after {state.seconds:.1f} s: {folder / runs.WEIGHTS}")
    if runs.weight_facts(run)["step"] == 0:
        rate = run.config.train.learning_rate
        say(
            f"note: no later weights were better than those before the first step: try a smaller --learning-rate than {rate:g}"
        )
    if state.validation is not None:
        autoencoder = run.config.model.model == "ae"
        say(f"validation: {nats_text(state.validation.distortion, state.validation.rate, autoencoder)} per image")
    for path in run_pictures(run, dataset):
        say(f"picture: {path}")


@contextmanager
def _interruption() -> Iterator[list[int]]:
    """A list that a first Ctrl-C (or termination) adds to; a second one interrupts at once."""
    seen: list[int] = []

    def note(number: int, _: object) -> None:
        seen.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _introduction(run: Run, dataset: Dataset, loading: float | None) -> Iterator[str]:
    """What is trained on what; what makes that doubtful; and what is left where `loading` took much of the seconds."""
    from vaelab.data.describe import doubts
    from vaelab.training.validation import some_of

    model, budget = run.config.model, run.config.train.budget
    validated = len(some_of(dataset.validation, run.config))
    yield (
        f"{model.model} ({model.network}, {model.latent_dim} latent dimensions, {model.likelihood}) on {dataset.name}: "
        f"{counted(len(dataset.train), 'image')} to learn from, {validated:,} to validate → {run.folder}"
    )
    yield from (f"note: {doubt}" for doubt in doubts(dataset, conditional=model.model == "cvae"))
    if budget.unit == "seconds" and loading is not None and loading > MUCH * budget.amount:
        yield f"loading took {loading:.0f} s of --seconds {budget.amount:g}: {budget.amount - loading:.0f} s are left to train in"


def _new_folder(name: str) -> Path:
    """runs/NAME, or runs/NAME-2 and so on where that is taken."""
    folder, number = Path("runs") / name, 2
    while folder.exists():
        folder, number = Path("runs") / f"{name}-{number}", number + 1
    return folder
