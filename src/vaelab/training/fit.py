"""From images in memory to saved weights: `fit`, and `complete`, which chooses for the data what was left open.

`fit` yields its progress and prints nothing; nothing waits for the device but those yields.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Generator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from vaelab.config import DEFAULT_SECONDS, Config, ModelConfig, TrainConfig, option
from vaelab.data.dataset import Dataset, default_likelihood
from vaelab.errors import ConfigError, DataError, LabelError, RunError
from vaelab.memory import is_out_of_memory
from vaelab.models.factory import complete_model
from vaelab.training import runs
from vaelab.training.loop import Loop, Progress
from vaelab.training.trainer import Trainer, pick_device

FEW_IMAGES = 5000
"""Training images below which batches are small by default."""

TABLE_EPOCHS, TABLE_STEPS = 20, 1000
"""Passes over a table, and steps, that it is trained for at the least where no budget is given."""


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
    if model == "all":
        raise ConfigError(
            "--model all: got it for one training; expected ae, vae or cvae: the command line trains each"
        )
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
    if train.iwae_samples > 1 and model == "ae":
        raise ConfigError(
            f"--iwae-samples: got {train.iwae_samples} for an autoencoder, which draws no z; expected --model vae or cvae"
        )
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
        Go on with the run in `out`: its own configuration is used, but for the budget (epochs, seconds), the device and
        `compile`, where `config` gives one.
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
        run = runs.open_run(folder)
        tensors, facts = runs.load_resume(run)
        config = resumed_config(run, config, dataset, facts["budget"])
    config = complete(config, dataset)
    device = pick_device(config.train.device)
    try:
        trainer = Trainer(config, dataset, device)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise ConfigError(
            f"--device {device}: got too little memory for {len(dataset.train):,} images and the model; expected room for both: "
            "free some, or take fewer images (--limit), smaller ones (--size) or another --device"
        ) from error
    loop = Loop(config, trainer, started)
    if run is not None:
        trainer.restore(tensors, facts)
        loop.go_on_from(facts)
        runs.read_metrics(run, up_to_step=trainer.step)
    elif (budget := config.train.seconds) is not None and loop.elapsed() >= budget:
        raise ConfigError(
            f"--seconds: got {budget:g}, but loading took {loop.elapsed():.1f} s of them; expected time to train in: give more"
        )
    elif folder is not None:
        run = runs.create_run(folder, config, runs.DataCard.of(dataset))
    yield from loop.run_to_end(run)


def resumed_config(run: runs.Run, asked: Config, dataset: Dataset, budget: dict[str, Any]) -> Config:
    """The configuration to go on with: the run's own, with the budget, the device and `compile` of `asked` where it gives them.

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
    here = {name: getattr(asked.train, name) for name in ("device", "compile")}
    here = {name: value for name, value in here.items() if value != "auto"}
    return Config(run.config.model, replace(own, **here, **budget))
