"""A run folder: configuration, weights in safetensors, and what resuming needs. Never pickle.

A run folder holds

- `config.json`: format version, hyper-parameters, facts of the data (shape, class names, fingerprint), versions;
- `model.safetensors`: the weights to use, with digests of themselves and of `config.json`, so that a changed file is detected;
- `resume.safetensors`: the state of a training that can be resumed;
- `metrics.jsonl`: one line of figures per validation;
- `figures/`: pictures.

Every file is written atomically, except `metrics.jsonl`, which grows.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vaelab.config import Budget, ResolvedConfig, ResolvedModelConfig, ResolvedTrainConfig, TrainConfig
from vaelab.data.dataset import Dataset
from vaelab.errors import ConfigError, RunError
from vaelab.files import atomic_write, cannot_write
from vaelab.models.base import Model
from vaelab.models.factory import build_model
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
class LatentStats:
    """Statistics of each of the d latent dimensions over held-out images: mean rate in nats per image (0 for an autoencoder),
    and mean and standard deviation of the mean of q(z|x).
    """

    rate: tuple[float, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @staticmethod
    def over(rate: Float[Tensor, "n d"], mean: Float[Tensor, "n d"]) -> LatentStats:
        """Return the statistics of N images, from the rate of each dimension and the posterior mean of each image."""
        mean = mean.double()
        figures = (rate.double().mean(0), mean.mean(0), mean.std(0, correction=0))
        return LatentStats(*(tuple(figure.tolist()) for figure in figures))

    @staticmethod
    def from_json(facts: Mapping[str, Sequence[float]] | None) -> LatentStats | None:
        """Return the statistics from a run's facts, or None."""
        return None if facts is None else LatentStats(**{name: tuple(values) for name, values in facts.items()})

    @property
    def order(self) -> tuple[int, ...]:
        """The dimensions by rate, highest first; those of an autoencoder by the deviation of its codes."""
        size = self.rate if any(self.rate) else self.deviation
        return tuple(sorted(range(len(size)), key=lambda axis: -size[axis]))


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


def last_budget(run: Run, facts: Mapping[str, Any]) -> Budget:
    """Return the budget that a run had last, from the `facts` of `load_resume`; vaelab 0.1 stored it in `config.json` only."""
    kept = facts.get("budget")
    return read_budget(kept) if isinstance(kept, dict) else run.config.train.budget


def has_trained(run: Run, facts: Mapping[str, Any], budget: Budget) -> bool:
    """Return whether a run has trained for `budget` already, from the `facts` of `load_resume`."""
    last = last_budget(run, facts)
    if last.unit == budget.unit and last.amount >= budget.amount and facts.get("fraction", 0.0) >= 1.0:
        return True
    return _trained_for(run, facts, budget.unit) >= budget.amount


def expect_unfinished(run: Run, facts: Mapping[str, Any], asked: TrainConfig) -> None:
    """Raise a ConfigError if a run has trained for the `epochs` or `seconds` asked for already."""
    for unit in ("epochs", "seconds"):
        amount = getattr(asked, unit)
        if amount is not None and has_trained(run, facts, Budget(amount, unit)):
            raise ConfigError(
                f"`{unit}`: got {amount:g}, but {run.folder} has trained for {_trained_for(run, facts, unit):.4g} {unit} "
                f"already; expected more: `{unit}` counts from the first step of the run"
            )


def _trained_for(run: Run, facts: Mapping[str, Any], unit: str) -> float:
    done = facts["step"] * run.config.train.batch_size / run.data.train_count
    return done if unit == "epochs" else facts["seconds"]


def read_budget(values: Mapping[str, Any]) -> Budget:
    """Return a budget from JSON: amount and unit, or the epochs and seconds of vaelab 0.1."""
    if "amount" in values:
        return Budget(values["amount"], values["unit"])
    if values.get("epochs") is not None:
        return Budget(values["epochs"], "epochs")
    return Budget(values["seconds"], "seconds")


def save_weights(run: Run, weights: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write `model.safetensors`; `facts` are figures stored beside the weights (step, nats, statistics of the latent)."""
    metadata = {
        "config_sha256": _sha256(run.folder / CONFIG),
        "weights_sha256": _digest(weights),
        "facts": (text := json.dumps(facts)),
        "facts_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    _save(run.folder / WEIGHTS, weights, metadata)


def load_model(run: Run) -> Model:
    """Return the model of a run, on the CPU and in evaluation mode.

    Raises
    ------
    RunError
        If there are no weights yet, they or `config.json` were changed or truncated, or they do not fit a custom network.
    """
    weights, metadata = _load(run.folder / WEIGHTS, missing="no weights yet: its training has not saved any")
    _check_config(run, metadata)
    if metadata.get("weights_sha256") != _digest(weights):
        raise _damaged(run.folder / WEIGHTS)
    model = build_model(run.config.model, run.data.shape, len(run.data.classes))
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        custom = [path for path in (run.config.model.encoder, run.config.model.decoder) if path]
        if not custom:
            raise RunError(
                f"{run.folder / WEIGHTS}: its weights do not fit {CONFIG}; expected both from the same run"
            ) from error
        raise RunError(
            f"{run.folder / WEIGHTS}: its weights do not fit the networks of {' and '.join(custom)}, which may have "
            "changed; restore them as they were when the run was trained, or train again"
        ) from error
    return model.eval()


def weight_facts(run: Run) -> dict[str, Any]:
    """Return what is stored beside the weights: `step` and, if they were validated, `distortion`, `rate` (nats) and `axes`.

    Raises
    ------
    RunError
        If there are no weights yet, or the facts were changed.
    """
    path = run.folder / WEIGHTS
    with _opened(path, missing="no weights yet") as file:
        metadata = file.metadata() or {}
    facts = metadata["facts"]
    digest = hashlib.sha256(facts.encode()).hexdigest()
    if metadata.get("facts_sha256", digest) != digest:  # runs of vaelab 0.1.0 have none
        raise _damaged(path)
    return json.loads(facts)


def save_resume(run: Run, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write what resuming needs: tensors by name, and numbers."""
    digests = {"config_sha256": _sha256(run.folder / CONFIG), "state_sha256": _digest(state)}
    _save(run.folder / RESUME, state, {**digests, "facts": json.dumps(facts)})


def load_resume(run: Run) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return what `save_resume` wrote.

    Raises
    ------
    RunError
        If it is missing, changed or truncated.
    """
    state, metadata = _load(run.folder / RESUME, missing="its training was stopped before the first save: train again")
    _check_config(run, metadata)
    if metadata.get("state_sha256") != _digest(state):
        raise _damaged(run.folder / RESUME)
    return state, json.loads(metadata["facts"])


def resume_facts(run: Run) -> dict[str, Any] | None:
    """Return the numbers that `save_resume` wrote, or None if there are none or the file is incomplete; for live views."""
    with suppress(SafetensorError, OSError), safe_open(run.folder / RESUME, framework="pt") as file:
        return json.loads((file.metadata() or {})["facts"])
    return None


def append_metrics(run: Run, line: dict[str, Any]) -> None:
    """Append a line to `metrics.jsonl`."""
    path = run.folder / METRICS
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
    except OSError as error:
        raise cannot_write(path, error) from error


def read_metrics(run: Run) -> list[dict[str, Any]]:
    """Return the lines of `metrics.jsonl`, up to one that is incomplete."""
    path, lines = run.folder / METRICS, []
    if path.is_file():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
    return lines


def drop_metrics_after(run: Run, step: int) -> None:
    """Remove the lines of later steps from `metrics.jsonl`, before a training is resumed at this step."""
    kept = [json.dumps(line) + "\n" for line in read_metrics(run) if line["step"] <= step]
    with atomic_write(run.folder / METRICS) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")


def _check_config(run: Run, metadata: dict[str, str]) -> None:
    if metadata.get("config_sha256") != _sha256(run.folder / CONFIG):
        raise RunError(f"{run.folder / CONFIG}: changed since the weights were saved; expected it unchanged")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    whole: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, value in tensors.items():
        tensor = value.detach().cpu().contiguous()
        # Weights that a custom network shares between layers are written once for each name.
        whole[name] = tensor.clone() if tensor.data_ptr() in places else tensor
        places.add(tensor.data_ptr())
    with atomic_write(path) as temporary:
        try:
            save_file(whole, temporary, {"format": str(FORMAT), **metadata})
        except SafetensorError as error:  # such as a full disk
            raise cannot_write(path, OSError(str(error))) from error


def _load(path: Path, missing: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    with _opened(path, missing) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 - not a dict


@contextmanager
def _opened(path: Path, missing: str) -> Iterator[Any]:
    if not path.is_file():
        raise RunError(f"{path.parent}: {missing}; expected {path.name} in it")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path}: damaged or truncated ({error}); expected it as vaelab train wrote it") from error


def _damaged(path: Path) -> RunError:
    return RunError(f"{path}: changed or damaged; expected it as vaelab train wrote it")
