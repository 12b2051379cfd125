"""`model.safetensors`: the weights to use, with digests of them and of `config.json`, so that a changed file is detected."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from vaelab.config import ResolvedConfig
from vaelab.errors import RunError
from vaelab.memory import is_out_of_memory
from vaelab.models.base import Model
from vaelab.models.factory import build_model
from vaelab.run_folder import CONFIG, expect_type
from vaelab.runs.figures import Averages
from vaelab.runs.header import Kind, expected_kinds
from vaelab.runs.run import (
    WEIGHTS,
    DataCard,
    Run,
    config_digest,
    create_run,
    discard,
    expect_same_config,
    expect_trusted,
)
from vaelab.runs.tensors import damaged, facts_of, load_tensors, save_tensors


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


def facts_of_weights(averages: Averages | None, latent_stats: LatentStats | None) -> dict[str, Any]:
    """Return the validation figures of weights as they are stored beside them: `distortion` and `rate` in nats, and `axes`."""
    nats = {} if averages is None else asdict(averages)
    return {**nats, **({} if latent_stats is None else {"axes": asdict(latent_stats)})}


@dataclass(frozen=True)
class Best:
    """The best weights so far, by name, and their validation values, which are None without validation images."""

    weights: dict[str, Tensor]
    step: int
    value: float
    """Compared between weights: distortion + β · rate, or minus the bound in IWAE fine-tuning; infinite without validation."""

    fine_tuned: bool
    averages: Averages | None
    latent_stats: LatentStats | None

    def facts(self) -> dict[str, Any]:
        """Return the numbers to store beside the weights."""
        return {"step": self.step, **facts_of_weights(self.averages, self.latent_stats)}

    @staticmethod
    def facts_to_resume(best: Best | None) -> dict[str, Any]:
        """Return the numbers from which `resumed` makes the best weights again, or those of none."""
        if best is None:
            return {"best_objective": None, "best": {"step": 0}, "best_of_finish": False}
        value = best.value if math.isfinite(best.value) else None
        return {"best_objective": value, "best": best.facts(), "best_of_finish": best.fine_tuned}

    @staticmethod
    def resumed(weights: dict[str, Tensor], facts: Mapping[str, Any]) -> Best:
        """Return the best weights with the facts of a checkpoint."""
        best, value = facts["best"], facts["best_objective"]
        averages = Averages(best["distortion"], best["rate"]) if "rate" in best else None
        stats = LatentStats.from_json(best.get("axes"))
        fine_tuned = facts.get("best_of_finish", False)
        return Best(weights, best["step"], math.inf if value is None else value, fine_tuned, averages, stats)


@dataclass(frozen=True)
class Origin:
    """What a run folder records beside weights: configuration, data, and facts (step, nats, statistics of the latent)."""

    config: ResolvedConfig
    data: DataCard
    facts: dict[str, Any]


def save_run(folder: Path, weights: dict[str, Tensor], origin: Origin) -> None:
    """Write a new run folder without the state of a training; nothing is left of it if that fails.

    Raises
    ------
    RunError
        If the folder is not empty.
    OutputError
        If it cannot be written.
    """
    run = create_run(folder, origin.config, origin.data)
    try:
        save_weights(run, weights, origin.facts)
    except BaseException:
        discard(run)
        raise


def save_weights(run: Run, weights: dict[str, Tensor], facts: dict[str, Any], *, keep: bool = False) -> None:
    """Write `model.safetensors`; `facts` are figures stored beside the weights (step, nats, statistics of the latent).

    With `keep`, the file before is kept too.
    """
    metadata = {"config_sha256": config_digest(run), "facts": json.dumps(facts)}
    save_tensors(run.folder / WEIGHTS, weights, metadata, keep=keep)


def load_model(run: Run) -> Model:
    """Return the model of a run, on the CPU and in evaluation mode.

    Raises
    ------
    RunError
        If there are no weights yet, they or `config.json` were changed or truncated, they do not fit each other or into memory,
        or the run names custom networks and is not trusted.
    """
    path = run.folder / WEIGHTS
    expect_trusted(run)
    try:
        weights, _ = load_tensors(path, NO_WEIGHTS, partial(_expect_fitting, run))
        model = build_model(run.config.model, run.data.shape, len(run.data.classes))
        model.load_state_dict(weights)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise RunError(
                f"{path}: does not fit into the memory of this machine; free some, or use another"
            ) from error
        if not run.custom:
            raise _unfitting(path) from error
        raise RunError(
            f"{path}: its weights do not fit the networks of {' and '.join(run.custom)}, which may have changed; restore them "
            "as they were when the run was trained, or train again"
        ) from error
    return model.eval()


def weights_digest(weights: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of weights by which a report names them, in hexadecimal."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode() + tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def saved_digest(run: Run) -> str:
    """Return `weights_digest` of the weights of a run, which are checked; no custom network is imported for it."""
    weights, _ = load_tensors(run.folder / WEIGHTS, NO_WEIGHTS, partial(_expect_fitting, run))
    return weights_digest(weights)


NO_WEIGHTS = "no weights yet: its training has not saved any"


def _expect_fitting(run: Run, kinds: Mapping[str, Kind], metadata: Mapping[str, str]) -> None:
    """Raise a RunError unless the shapes in a file of weights are those of the model, before either takes memory."""
    expect_same_config(run, metadata)
    if not run.custom:
        path = run.folder / WEIGHTS
        try:
            expected = expected_kinds(run.config.model, run.data.shape, len(run.data.classes), len(kinds))
        except ValueError as error:
            raise _unfitting(path) from error
        if kinds != expected:
            raise _unfitting(path)


def _unfitting(path: Path) -> RunError:
    return RunError(f"{path}: its weights do not fit {CONFIG}; expected both from the same run")


def weight_facts(run: Run) -> dict[str, Any]:
    """Return what is stored beside the weights: `step`, unless they are of a loop outside vaelab, and, if they were validated,
    `distortion`, `rate` (nats) and `axes`.

    Raises
    ------
    RunError
        If there are no weights yet, or they were changed.
    """
    path = run.folder / WEIGHTS
    _, metadata = load_tensors(path, NO_WEIGHTS, partial(_expect_fitting, run))
    facts = facts_of(path, metadata)
    try:
        if not run.config.own_loop:  # a loop outside vaelab counts no steps
            expect_type("step", facts["step"], int)
        for name in {"distortion", "rate"} & facts.keys():
            expect_type(name, facts[name], float)
        if facts.get("axes") is not None:
            _expect_statistics(facts["axes"], run.config.model.latent_dim)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, error) from error
    return facts


def _expect_statistics(axes: Mapping[str, Any], count: int) -> None:
    """Raise a ValueError, KeyError or TypeError unless these are the JSON of a `LatentStats` of `count` dimensions."""
    for name in (names := [field.name for field in fields(LatentStats)]):
        if len(axes[name]) != count or len(axes) != len(names):
            raise ValueError(f"statistics of {len(axes[name])} dimensions; expected {count}")
        for value in axes[name]:
            expect_type(name, value, float)
