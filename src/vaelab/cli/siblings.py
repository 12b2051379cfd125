"""`vaelab train --model all`: an autoencoder, a VAE and a conditional VAE of the same data, to be looked at side by side.

The conditional VAE (the VAE, where there are no labels) is in the run folder itself, the others are in folders of their names
inside it, so that the first is a run like any other. It is trained first: an interruption leaves what is most used.
"""

from __future__ import annotations

import shlex
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vaelab.cli.app import STARTED
from vaelab.cli.train import train_one
from vaelab.config import DEFAULT_SECONDS, Config, ModelName
from vaelab.errors import ConfigError

if TYPE_CHECKING:
    from vaelab.data import Dataset


def train_siblings(asked: Config, dataset: Dataset, folder: Path, resume: bool, again: list[str]) -> None:
    """Train each model that the data allow, one after the other; with `resume`, those that are there go on.

    Raises
    ------
    ConfigError
        If a configuration cannot be, for one of them, or the seconds are over before training begins.
    """
    from vaelab.progress import say
    from vaelab.training import runs
    from vaelab.training.resolve import resolve

    main = runs.open_run(folder).config.as_config() if resume else None
    kinds = _kinds(main or asked, dataset)
    say(f"{', '.join(kinds)}, one after the other{_left_out(kinds)}")
    for kind in kinds:  # what cannot be is refused before the first begins
        resolve(_fresh(asked, kind) if main is None else _like(main, kind, dataset), dataset)
    for at, kind in enumerate(kinds):
        place = folder if at == 0 else folder / kind
        there = (place / runs.CONFIG).exists()
        if main is None:
            config = _with_seconds(_fresh(asked, kind), _share(asked, len(kinds) - at))
        else:
            own = _fresh(asked, kind) if there else _like(main, kind, dataset)
            config = _with_seconds(own, asked.train.seconds and asked.train.seconds / len(kinds))
        words = [*again, "--out", str(folder), "--resume"]
        train_one(config, dataset, place, there, started=time.perf_counter(), again=words)
    say(f"next: vaelab studio {shlex.quote(str(folder))}")


def _kinds(config: Config, dataset: Dataset) -> list[ModelName]:
    """The models to train, that of the run folder first; a ladder is no autoencoder, and without labels there is no cvae."""
    kinds: list[ModelName] = ["cvae", "vae", "ae"] if dataset.labelled else ["vae", "ae"]
    if config.model.network == "ladder":
        kinds.remove("ae")
    return sorted(kinds, key=lambda kind: kind != config.model.model)


def _left_out(kinds: list[ModelName]) -> str:
    whys = {"cvae": "there are no labels", "ae": "a ladder is none"}
    return "".join(f"; no {kind}, since {why}" for kind, why in whys.items() if kind not in kinds)


def _fresh(asked: Config, kind: ModelName) -> Config:
    return replace(asked, model=replace(asked.model, model=kind))


def _like(main: Config, kind: ModelName, dataset: Dataset) -> Config:
    """Return the configuration of a sibling of a run: with the default latent size if the run has it."""
    from vaelab.training.resolve import resolve

    default = resolve(replace(main, model=replace(main.model, latent_dim=None)), dataset).model.latent_dim
    latent_dim = None if main.model.latent_dim == default else main.model.latent_dim
    train = replace(main.train, iwae_samples=None, iwae_fraction=None) if kind == "ae" else main.train
    return Config(replace(main.model, model=kind, latent_dim=latent_dim), train)


def _share(asked: Config, models: int) -> float | None:
    """Seconds for the next of so many models that are still to be trained; None where epochs are counted."""
    if asked.train.epochs is not None:
        return None
    budget, gone = asked.train.seconds or DEFAULT_SECONDS, time.perf_counter() - STARTED
    if gone >= budget:
        raise ConfigError(
            f"--seconds: got {budget:g}, but {gone:.1f} s of them are over; expected time to train {models} more in: give more"
        )
    return round((budget - gone) / models, 3)


def _with_seconds(config: Config, seconds: float | None) -> Config:
    if seconds is None:
        return config
    return replace(config, train=replace(config.train, epochs=None, seconds=seconds))
