"""`resume.safetensors`: the state of a training that can be resumed, and for how long it has trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from vaelab.config import Budget, TrainConfig
from vaelab.errors import ConfigError
from vaelab.runs.run import RESUME, Run, config_digest, expect_same_config, read_budget
from vaelab.runs.tensors import damaged, digest_of, load_tensors, save_tensors


def save_resume(run: Run, state: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write what resuming needs: tensors by name, and numbers."""
    digests = {"config_sha256": config_digest(run), "state_sha256": digest_of(state)}
    save_tensors(run.folder / RESUME, state, {**digests, "facts": json.dumps(facts)})


def load_resume(run: Run) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return what `save_resume` wrote.

    Raises
    ------
    RunError
        If it is missing, changed or truncated.
    """
    state, metadata = load_tensors(
        run.folder / RESUME, missing="its training was stopped before the first save: train again"
    )
    expect_same_config(run, metadata)
    if metadata.get("state_sha256") != digest_of(state):
        raise damaged(run.folder / RESUME)
    return state, json.loads(metadata["facts"])


def resume_facts(run: Run) -> dict[str, Any] | None:
    """Return the numbers that `save_resume` wrote, or None if there are none or the file is incomplete; for live views."""
    with suppress(SafetensorError, OSError), safe_open(run.folder / RESUME, framework="pt") as file:
        return json.loads((file.metadata() or {})["facts"])
    return None


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
