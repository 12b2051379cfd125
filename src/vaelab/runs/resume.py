"""`resume.safetensors`: the state of a training that can be resumed, and for how long it has trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from torch import Tensor

from vaelab.config import Budget, TrainConfig
from vaelab.errors import ConfigError, RunError
from vaelab.runs.run import PREVIOUS, RESUME, WEIGHTS, Run, config_digest, expect_same_config, read_budget
from vaelab.runs.tensors import damaged, facts_of, load_metadata, load_tensors, save_tensors
from vaelab.runs.weights import weight_facts

MISSING = "its training was stopped before the first save: train again"
NEEDED = {"step", "seconds", "best", "best_objective", "validated"}
"""Facts that every version has written."""

NOTHING_DONE: dict[str, Any] = {"step": 0, "seconds": 0.0, "lines": 0}
"""The facts of a training that was stopped before its first save."""


def save_resume(run: Run, state: dict[str, Tensor], facts: dict[str, Any], *, keep: bool = False) -> None:
    """Write what resuming needs: tensors by name, and numbers; with `keep`, those before are kept too."""
    metadata = {"config_sha256": config_digest(run), "facts": json.dumps(facts)}
    save_tensors(run.folder / RESUME, state, metadata, keep=keep)


def load_resume(run: Run) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return what `save_resume` wrote, or with a RunWarning what it wrote before, if the last is damaged.

    Raises
    ------
    RunError
        If it is missing, changed or truncated.
    """
    path = run.folder / RESUME
    state, metadata = load_tensors(path, MISSING)
    expect_same_config(run, metadata)
    facts = facts_of(path, metadata)
    if not facts.keys() >= NEEDED:  # of an earlier version, whose facts have no digest
        raise damaged(path)
    return state, facts


def was_saved(run: Run) -> bool:
    """Return whether a training has saved anything; if not, for example because it was killed, it starts again at step 0.

    A model without the state of its training, such as an estimator saves, counts as saved.
    """
    if any((folder / RESUME).is_file() for folder in (run.folder, run.folder / PREVIOUS)):
        return True
    return (run.folder / WEIGHTS).is_file() and weight_facts(run).get("step") != 0


def resume_facts(run: Run) -> dict[str, Any] | None:
    """Return the numbers that `save_resume` wrote, or None if there are none or they are damaged; for live views."""
    path = run.folder / RESUME
    with suppress(RunError):
        return facts_of(path, load_metadata(path, MISSING))
    return None


def expect_resumable(run: Run) -> None:
    """Raise a RunError if a run was trained in a loop outside vaelab."""
    if run.config.own_loop:
        raise RunError(
            f"{run.folder}: was trained in a loop outside vaelab, which cannot be resumed; expected one that vaelab trained: "
            "train it further in its own loop, and save it to a new folder"
        )


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
