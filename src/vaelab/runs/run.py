"""A run folder and its `config.json`: format version, hyper-parameters, facts of the data, versions."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaelab.config import Budget, ResolvedConfig, ResolvedModelConfig, ResolvedTrainConfig
from vaelab.data.dataset import Dataset
from vaelab.errors import ConfigError, RunError
from vaelab.files import atomic_write
from vaelab.precision import default_precision, pick_device
from vaelab.run_folder import CONFIG, check_new, expect_run
from vaelab.version import __version__

FORMAT = 2
"""Version of `config.json`; format 1 is that of vaelab 0.1."""


WEIGHTS, RESUME, METRICS, FIGURES = "model.safetensors", "resume.safetensors", "metrics.jsonl", "figures"


@dataclass(frozen=True)
class DataCard:
    """What a run records of its data: enough to use the model without them, and to recognise them."""

    source: str
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    train_count: int
    fingerprint: str
    fit: str = "crop"
    """How images of another aspect ratio were fitted to `shape`; earlier runs do not record it."""

    @staticmethod
    def of(dataset: Dataset) -> DataCard:
        """Return the card of a data set."""
        count, digest = len(dataset.train), dataset.fingerprint
        return DataCard(dataset.name, dataset.shape, dataset.classes, count, digest, dataset.fit)


@dataclass(frozen=True)
class Run:
    """A run folder and its `config.json`."""

    folder: Path
    config: ResolvedConfig
    data: DataCard
    versions: dict[str, str]


def create_run(folder: Path, config: ResolvedConfig, data: DataCard) -> Run:
    """Create a run: make the folder and write its `config.json`.

    Raises
    ------
    RunError
        If the folder holds a run already.
    OutputError
        If it cannot be written.
    """
    check_new(folder)
    versions = {"vaelab": __version__, "torch": torch.__version__, "numpy": np.__version__}
    versions["python"] = platform.python_version()
    values = {"format": FORMAT, **dataclasses.asdict(config), "data": dataclasses.asdict(data), "versions": versions}
    with atomic_write(folder / CONFIG) as path:
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return Run(folder, config, data, versions)


def expect_same_data(run: Run, fingerprint: str, name: str) -> None:
    """Raise a RunError if these are not the data that a run was trained on."""
    if fingerprint != run.data.fingerprint:
        raise RunError(
            f"{run.folder}: the data {name} differ from those it was trained on ({run.data.source}); expected the same data"
        )


def discard(run: Run) -> None:
    """Remove the files of a run that has learned nothing, and its folder if nothing else is in it."""
    for name in (CONFIG, WEIGHTS, RESUME, METRICS):
        (run.folder / name).unlink(missing_ok=True)
    with suppress(OSError):
        run.folder.rmdir()


def open_run(folder: Path) -> Run:
    """Return a run, from its `config.json`.

    Raises
    ------
    RunError
        If there is no run, or its `config.json` is damaged or of a newer format.
    """
    path = expect_run(folder)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values["format"]
        if isinstance(version, int) and version > FORMAT:
            raise RunError(
                f"{folder}: got a run of format {version}; this vaelab reads up to {FORMAT}: pip install --upgrade "
                "vaelab"
            )
        data = dict(values["data"])
        data["shape"], data["classes"] = tuple(data["shape"]), tuple(data["classes"])
        model, train = dict(values["model"]), dict(values["train"])
        if version == 1:
            model, train = _from_format_1(model, train, data["shape"])
        train["budget"] = read_budget(train.get("budget", train))
        known = {field.name for field in dataclasses.fields(ResolvedTrainConfig)}
        train = {name: value for name, value in train.items() if name in known}
        config = ResolvedConfig(ResolvedModelConfig(**model), ResolvedTrainConfig(**train))
        return Run(folder, config, DataCard(**data), dict(values["versions"]))
    except RunError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, ConfigError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else error
        raise RunError(f"{path}: changed or damaged ({what}); expected it as vaelab train wrote it") from error


RENAMED = {"rungs": "levels", "mixing": "spatial_mixing", "finish_samples": "iwae_samples", "finish": "iwae_fraction"}
"""Fields of vaelab 0.1 and their present names."""


def _from_format_1(model: dict[str, Any], train: dict[str, Any], shape: tuple[int, ...]) -> tuple[dict, dict]:
    """Return model and training of vaelab 0.1 as a `ResolvedConfig` has them.

    There None marked an unused field, and neither the device nor the precision of an automatic choice was recorded: both are
    chosen for this machine.
    """
    model, train = ({RENAMED.get(k, k): v for k, v in part.items() if v is not None} for part in (model, train))
    here = pick_device("cpu" if train["device"] == "cpu" else "auto")  # the run's own may not exist on this machine
    train["device"] = str(here) if train["device"] == "auto" else train["device"]
    train["compile"] = {True: "yes", False: "no"}.get(train["compile"], train["compile"])
    train.setdefault("precision", "float32")  # the first runs had no other
    if train["precision"] == "auto":
        mixing = model.get("spatial_mixing", "free")
        train["precision"] = default_precision(model["network"], mixing, shape, here)
    return model, train


def read_budget(values: Mapping[str, Any]) -> Budget:
    """Return a budget from JSON: amount and unit, or the epochs and seconds of vaelab 0.1."""
    if "amount" in values:
        return Budget(values["amount"], values["unit"])
    if values.get("epochs") is not None:
        return Budget(values["epochs"], "epochs")
    return Budget(values["seconds"], "seconds")


def config_digest(run: Run) -> str:
    """Return the SHA-256 of `config.json`."""
    return hashlib.sha256((run.folder / CONFIG).read_bytes()).hexdigest()


def expect_same_config(run: Run, metadata: Mapping[str, str]) -> None:
    """Raise a RunError unless the metadata of a file hold the digest of `config.json`."""
    if metadata.get("config_sha256") != config_digest(run):
        raise RunError(f"{run.folder / CONFIG}: changed since the weights were saved; expected it unchanged")
