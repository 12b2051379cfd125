"""A run folder and its `config.json`: format version, hyper-parameters, facts of the data, versions."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import torch

from vaelab.config import Budget, ResolvedConfig, ResolvedModelConfig, ResolvedTrainConfig, is_custom_likelihood
from vaelab.data.dataset import Dataset, SkipBroken
from vaelab.errors import ConfigError, RunError, shortened
from vaelab.files import atomic_write, sweep
from vaelab.import_paths import import_path
from vaelab.precision import default_precision, pick_device
from vaelab.run_folder import (
    CONFIG,
    FORMAT,
    cannot_read,
    check_new,
    expect_class_count,
    expect_type,
    only_known,
    read_config,
)
from vaelab.version import __version__

WEIGHTS, RESUME, METRICS, FIGURES = "model.safetensors", "resume.safetensors", "metrics.jsonl", "figures"
PREVIOUS = "previous"
"""Folder of the weights and the state of the checkpoint before the last one."""


@dataclass(frozen=True)
class DataCard:
    """What a run records of its data: enough to use the model without them, and to recognise them."""

    source: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    train_count: int
    fingerprint: str
    fit: str = "crop"
    skip_broken: SkipBroken = False
    white: float | None = None
    seed: int = 0
    """These four are options of `load_dataset`; earlier runs do not record them."""

    @staticmethod
    def of(dataset: Dataset) -> DataCard:
        """Return the card of a data set."""
        count, digest = len(dataset.train), dataset.fingerprint
        return DataCard(dataset.name, dataset.shape, dataset.classes, count, digest, *dataset.loading)


@dataclass(frozen=True)
class Run:
    """A run folder and its `config.json`; `trusted` is whether the modules of its custom networks may be imported."""

    folder: Path
    config: ResolvedConfig
    data: DataCard
    versions: dict[str, str]
    trusted: bool = False

    @property
    def custom(self) -> tuple[str, ...]:
        """The import paths of its custom networks and likelihood."""
        model = self.config.model
        likelihood = model.likelihood if is_custom_likelihood(model.likelihood) else ""
        return tuple(path for path in (model.encoder, model.decoder, likelihood) if path)


def create_run(folder: Path, config: ResolvedConfig, data: DataCard) -> Run:
    """Create a run: make the folder and write its `config.json`.

    Raises
    ------
    RunError
        If the folder holds a run already, or the data have too many classes.
    OutputError
        If it cannot be written.
    """
    check_new(folder)
    try:
        expect_class_count(len(data.classes))
    except ValueError as error:
        raise RunError(f"{data.source}: {error}") from None
    versions = {"vaelab": __version__, "torch": torch.__version__, "numpy": np.__version__}
    versions["python"] = platform.python_version()
    model, train = dataclasses.asdict(config.model), None if config.own_loop else dataclasses.asdict(config.train)
    values = {"format": FORMAT, "model": model, "train": train, "data": dataclasses.asdict(data), "versions": versions}
    sweep(folder, "config")
    with atomic_write(folder / CONFIG) as path:
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return Run(folder, config, data, versions, trusted=True)


def expect_same_data(run: Run, dataset: Dataset) -> None:
    """Raise a RunError if these are not the data that a run was trained on; the message names the difference."""
    card, got = run.data, DataCard.of(dataset)
    if got.fingerprint == card.fingerprint:
        return
    differences = [
        f"{what} {getattr(got, field)}, not {getattr(card, field)}"
        for field, what in (("shape", "shape"), ("classes", "classes"), ("train_count", "number of training images"))
        if getattr(got, field) != getattr(card, field)
    ] or ["other pixels or labels"]
    raise RunError(
        f"{run.folder}: the data {dataset.name} differ from those it was trained on ({card.source}): "
        f"{shortened('; '.join(differences), 200)}; expected the same data, loaded with the options of the training"
    )


def discard(run: Run) -> None:
    """Remove the files of a run that has learned nothing, and its folder if nothing else is in it."""
    for name in (CONFIG, WEIGHTS, RESUME, METRICS):
        (run.folder / name).unlink(missing_ok=True)
        (run.folder / PREVIOUS / name).unlink(missing_ok=True)
    with suppress(OSError):
        (run.folder / PREVIOUS).rmdir()
    with suppress(OSError):
        run.folder.rmdir()


def remove_temporaries(run: Run) -> None:
    """Remove the temporary files of killed trainings; no process may be training the run."""
    for folder in (run.folder, run.folder / PREVIOUS):
        sweep(folder, *(Path(name).stem for name in (CONFIG, WEIGHTS, RESUME, METRICS)))
    sweep(run.folder / FIGURES, "*")


def open_run(folder: Path, *, trust_code: bool = False) -> Run:
    """Return a run, from its `config.json`; nothing is imported yet.

    `trust_code` is the consent to import the custom networks that it names, if any: see `expect_trusted`.

    Raises
    ------
    RunError
        If there is no run, or its `config.json` is damaged, too large or of a newer format.
    """
    try:
        values = read_config(folder)
        data, model, train, newer = values["data"], values["model"], values["train"], values["newer"]
        if values["format"] == 1:
            model, train = _from_format_1(model, train, data["shape"])
        parts = _typed(ResolvedModelConfig, model, newer=newer)
        if train is None:
            config = ResolvedConfig.of_own_loop(parts)
        else:
            budget = only_known(train["budget"], ("amount", "unit", "epochs", "seconds"), newer=newer)
            train["budget"] = read_budget(budget)
            config = ResolvedConfig(parts, _typed(ResolvedTrainConfig, train, newer=newer))
        config.as_config()  # checks the ranges
        torch.device(config.train.device)
        if config.model.model == "cvae" and not data["classes"]:
            raise ValueError("a cvae without classes")
        for name, version in values["versions"].items():
            expect_type(name[:80], version, str)
        return Run(folder, config, DataCard(**data), values["versions"], trust_code)
    except RunError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RuntimeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)[:300]
        raise RunError(
            f"{folder / CONFIG}: changed or damaged ({what}); expected it as vaelab train wrote it"
        ) from error


def _typed(cls: type[Any], values: Mapping[str, Any], *, newer: bool) -> Any:
    """Return a dataclass of `values`, whose types are checked; unknown keys are left out if a `newer` version wrote them."""
    hints = get_type_hints(cls)
    for name, value in (values := only_known(values, hints, newer=newer)).items():
        if hints[name] is not Budget:
            expect_type(name, value, hints[name])
    return cls(**values)


def expect_trusted(run: Run, given: Collection[object] = ()) -> None:
    """Raise a RunError unless the custom networks of a run may be imported, which runs the code of their modules.

    That needs `trust_code` of `open_run`, or that the caller has `given` the same import paths.
    """
    if not run.trusted and not set(run.custom) <= set(given):
        named = " and ".join(path if len(path) <= 100 else f"{path[:99]}…" for path in run.custom)
        raise RunError(
            f"{run.folder}: loading it imports {named}, which its {CONFIG} names, and so runs the code of that module; if you "
            "trust the run and the module, give `trust_code=True`"
        )


def with_networks(run: Run, **networks: str | Callable[..., Any] | None) -> Run:
    """Return a run with the custom `encoder` or `decoder` that the caller gives instead of the one it names.

    Raises
    ------
    ConfigError
        If one is given for a built-in network, or cannot be imported by its name.
    """
    given = {name: import_path(name, network) for name, network in networks.items() if network is not None}
    for name, path in given.items():
        if not getattr(run.config.model, name):
            raise ConfigError(f"`{name}`: got {path}, but that of {run.folder} is built in; leave it out")
    trusted = run.trusted or set(run.custom) <= {getattr(run.config.model, name) for name in given}
    config = dataclasses.replace(run.config, model=dataclasses.replace(run.config.model, **given))
    return dataclasses.replace(run, config=config, trusted=trusted)


RENAMED = {"rungs": "levels", "mixing": "spatial_mixing", "finish_samples": "iwae_samples", "finish": "iwae_fraction"}
"""Fields of vaelab 0.1 and their present names."""


def _from_format_1(model: dict[str, Any], train: dict[str, Any], shape: tuple[int, ...]) -> tuple[dict, dict]:
    """Return model and training of vaelab 0.1 as a `ResolvedConfig` has them.

    There None marked an unused field, and neither the device nor the precision of an automatic choice was recorded: both are
    chosen for this machine.
    """
    model, train = ({RENAMED.get(k, k): v for k, v in part.items() if v is not None} for part in (model, train))
    train["budget"] = {name: train.pop(name) for name in ("epochs", "seconds") if name in train}
    here = pick_device("cpu" if train["device"] == "cpu" else "auto")  # the run's own may not exist on this machine
    train["device"] = str(here) if train["device"] == "auto" else train["device"]
    train["compile"] = {True: "yes", False: "no"}.get(train["compile"], train["compile"])
    train.setdefault("precision", "float32")  # the first runs had no other
    if train["precision"] == "auto":
        mixing = model.get("spatial_mixing", "free")
        train["precision"] = default_precision(model["network"], mixing, shape, here)
    return model, train


def read_budget(values: Mapping[str, Any]) -> Budget:
    """Return a budget from JSON: amount and unit, or the epochs and seconds of vaelab 0.1; a TypeError if it is none."""
    unit = values.get("unit", "epochs" if values.get("epochs") is not None else "seconds")
    amount = values["amount"] if "amount" in values else values[unit]
    expect_type("unit", unit, get_type_hints(Budget)["unit"])
    expect_type("budget", amount, float)
    return Budget(amount, unit)


def config_digest(run: Run) -> str:
    """Return the SHA-256 of `config.json`; a RunError if it cannot be read."""
    try:
        return hashlib.sha256((run.folder / CONFIG).read_bytes()).hexdigest()
    except OSError as error:
        raise cannot_read(run.folder / CONFIG, error) from error


def expect_same_config(run: Run, metadata: Mapping[str, str]) -> None:
    """Raise a RunError unless the metadata of a file hold the digest of `config.json`."""
    if metadata.get("config_sha256") != config_digest(run):
        raise RunError(f"{run.folder / CONFIG}: changed since the weights were saved; expected it unchanged")
