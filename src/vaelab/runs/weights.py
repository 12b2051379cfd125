"""`model.safetensors`: the weights to use, with digests of them and of `config.json`, so that a changed file is detected."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from vaelab.checked_files import parse_json
from vaelab.errors import RunError
from vaelab.memory import is_out_of_memory
from vaelab.models.base import Model
from vaelab.models.factory import build_model
from vaelab.run_folder import CONFIG, expect_type
from vaelab.runs.header import MAX_HEADER_VALUES, expected_kinds
from vaelab.runs.run import WEIGHTS, Run, config_digest, expect_same_config, expect_trusted
from vaelab.runs.tensors import checked_header, damaged, digest_of, load_tensors, open_tensors, save_tensors


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


def save_weights(run: Run, weights: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write `model.safetensors`; `facts` are figures stored beside the weights (step, nats, statistics of the latent)."""
    metadata = {
        "config_sha256": config_digest(run),
        "weights_sha256": digest_of(weights),
        "facts": (text := json.dumps(facts)),
        "facts_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    save_tensors(run.folder / WEIGHTS, weights, metadata)


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
    _expect_fitting(run, path)
    try:
        weights, metadata = load_tensors(path, NO_WEIGHTS)
        if metadata.get("weights_sha256") != digest_of(weights):
            raise damaged(path)
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


NO_WEIGHTS = "no weights yet: its training has not saved any"


def _expect_fitting(run: Run, path: Path) -> None:
    """Raise a RunError unless the shapes in a file of weights are those of the model, before either takes memory."""
    kinds = checked_header(path, NO_WEIGHTS)
    with open_tensors(path, NO_WEIGHTS) as file:
        expect_same_config(run, file.metadata() or {})
    if not run.custom:
        try:
            expected = expected_kinds(run.config.model, run.data.shape, len(run.data.classes), len(kinds))
        except ValueError as error:
            raise _unfitting(path) from error
        if kinds != expected:
            raise _unfitting(path)


def _unfitting(path: Path) -> RunError:
    return RunError(f"{path}: its weights do not fit {CONFIG}; expected both from the same run")


def weight_facts(run: Run) -> dict[str, Any]:
    """Return what is stored beside the weights: `step` and, if they were validated, `distortion`, `rate` (nats) and `axes`.

    Raises
    ------
    RunError
        If there are no weights yet, or the facts were changed.
    """
    path = run.folder / WEIGHTS
    with open_tensors(path, missing="no weights yet") as file:
        metadata = file.metadata() or {}
    text = metadata.get("facts", "")
    digest = hashlib.sha256(text.encode()).hexdigest()
    if metadata.get("facts_sha256", digest) != digest:  # runs of vaelab 0.1.0 have none
        raise damaged(path)
    try:
        facts = parse_json(text.encode(), MAX_HEADER_VALUES)
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
