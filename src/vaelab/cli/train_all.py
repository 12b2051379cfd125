"""`vaelab train --model all`: a conditional VAE, a VAE and an autoencoder of the same data, to compare with each other.

The conditional VAE (without labels, the VAE) is in the run folder itself, like any other run; the others are in subfolders named
after them. It is trained first and for half of the time: most people use only this model, and after an interruption it exists.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vaelab.cli.train_run import total_time, train_one
from vaelab.config import DEFAULT_SECONDS, Config, ModelName
from vaelab.errors import ConfigError
from vaelab.run_folder import CONFIG

if TYPE_CHECKING:
    from vaelab.cli.loggers import LoggerName
    from vaelab.data import Dataset


def train_all(
    config: Config,
    dataset: Dataset,
    folder: Path,
    resume: bool,
    command: list[str],
    trust_code: bool = False,
    log: Sequence[LoggerName] = (),
) -> None:
    """Train each kind of model that the data allow, in turn; with `resume`, continue those that exist.

    Parameters
    ----------
    config
        Hyper-parameters for all of them, or with `resume` those to change.
    dataset
        Images to train and validate on.
    folder
        Folder of the main run; the others are in its subfolders.
    resume
        Continue the runs in `folder`; missing ones are trained with the settings of the main run.
    command
        Words of this command without --out and --resume.
    trust_code
        With `resume`, import the custom networks that the runs name.
    log
        Names of the loggers to which the figures of each training go.

    Raises
    ------
    ConfigError
        If a configuration is invalid for one of the models.
    """
    from vaelab import runs
    from vaelab.progress import say
    from vaelab.studio.page import DIST
    from vaelab.training.resolve import resolve

    main = runs.open_run(folder).config.as_config() if resume else None
    kinds = _kinds(main or config, dataset)
    say(f"{', '.join(kinds)}, one after the other{_left_out(kinds)}")
    for kind in kinds:  # refuse invalid settings before the first training
        resolve(_new(config, kind, dataset) if main is None else _sibling(main, kind, dataset), dataset)
    for done, kind in enumerate(kinds):
        place = folder if done == 0 else folder / kind
        exists = (place / CONFIG).exists()
        share = 1 / 2 if done == 0 else 1 / 2 / (len(kinds) - 1)
        if main is None:
            settings = _new(config, kind, dataset)
            if config.train.epochs is None:
                settings = _with_seconds(settings, (config.train.seconds or DEFAULT_SECONDS) * share)
        else:
            settings = _of_kind(config, kind) if exists else _sibling(main, kind, dataset)
            settings = _with_seconds(settings, config.train.seconds and config.train.seconds * share)
            if exists and _has_trained(place, settings):
                say(f"{place}: was trained already")
                continue
        resume_command = [*command, "--out", str(folder), "--resume"]
        train_one(settings, dataset, place, exists, resume_command=resume_command, trust_code=trust_code, log=log)
    say(total_time())
    place = " ".join([shlex.quote(str(folder)), *(word for word in command if word == "--trust-code")])
    say(
        f"next: vaelab studio {place}"
        if (DIST / "index.html").is_file()
        else f"next: vaelab sample {place} --out samples.png"
    )


def _kinds(config: Config, dataset: Dataset) -> list[ModelName]:
    """Return the kinds of models to train, the main one first: no cvae below two classes, no ae for a ladder."""
    kinds: list[ModelName] = ["cvae", "vae", "ae"] if len(dataset.classes) > 1 else ["vae", "ae"]
    if config.model.network == "ladder":
        kinds.remove("ae")
    return sorted(kinds, key=lambda kind: kind != config.model.model)


def _left_out(kinds: list[ModelName]) -> str:
    reasons = {"cvae": "the data have fewer than two classes", "ae": "a ladder has no autoencoder"}
    return "".join(f"; no {kind}: {reason}" for kind, reason in reasons.items() if kind not in kinds)


def _of_kind(config: Config, kind: ModelName) -> Config:
    """Return `config` for this kind. An autoencoder has no prior, so it gets its default network instead of `pca`."""
    network = None if kind == "ae" and config.model.network == "pca" else config.model.network
    return replace(config, model=replace(config.model, model=kind, network=network))


def _new(config: Config, kind: ModelName, dataset: Dataset) -> Config:
    """Return the configuration of a new model of this kind.

    By default, all kinds have the latent dimensions of the conditional one, few enough that many random points of the VAE can be
    read (docs/decisions/training-defaults.md).
    """
    from vaelab.training.resolve import resolve

    if config.model.latent_dim is not None or config.model.network == "ladder" or not dataset.labelled:
        return _of_kind(config, kind)
    latent_dim = resolve(_of_kind(config, "cvae"), dataset).model.latent_dim
    return _of_kind(replace(config, model=replace(config.model, latent_dim=latent_dim)), kind)


def _sibling(main: Config, kind: ModelName, dataset: Dataset) -> Config:
    """Return the configuration of the main run for another kind of model.

    A latent size that is the default of the main run becomes the default of the other kind.
    """
    from vaelab.training.resolve import resolve

    default = resolve(replace(main, model=replace(main.model, latent_dim=None)), dataset).model.latent_dim
    latent_dim = None if main.model.latent_dim == default else main.model.latent_dim
    train = replace(main.train, iwae_samples=None, iwae_fraction=None) if kind == "ae" else main.train
    return _new(Config(replace(main.model, latent_dim=latent_dim), train), kind, dataset)


def _has_trained(place: Path, asked: Config) -> bool:
    """Return whether a run was trained for the budget asked for already, if there is one, or in a loop outside vaelab."""
    from vaelab import runs

    run = runs.open_run(place)
    if run.config.own_loop:
        return True
    try:
        runs.expect_unfinished(run, runs.resume_facts(run) or {"step": 0, "seconds": 0.0}, asked.train)
    except ConfigError:
        return True
    return False


def _with_seconds(config: Config, seconds: float | None) -> Config:
    if seconds is None:
        return config
    return replace(config, train=replace(config.train, epochs=None, seconds=seconds))
