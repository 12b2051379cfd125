"""`model.safetensors`: the weights to use, with digests of them and of `config.json`, so that a changed file is detected."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from vaelab.errors import RunError
from vaelab.models.base import Model
from vaelab.models.factory import build_model
from vaelab.run_folder import CONFIG
from vaelab.runs.run import WEIGHTS, Run, config_digest, expect_same_config
from vaelab.runs.tensors import damaged, digest_of, load_tensors, open_tensors, save_tensors


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
        If there are no weights yet, they or `config.json` were changed or truncated, or they do not fit a custom network.
    """
    weights, metadata = load_tensors(run.folder / WEIGHTS, missing="no weights yet: its training has not saved any")
    expect_same_config(run, metadata)
    if metadata.get("weights_sha256") != digest_of(weights):
        raise damaged(run.folder / WEIGHTS)
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
    with open_tensors(path, missing="no weights yet") as file:
        metadata = file.metadata() or {}
    facts = metadata["facts"]
    digest = hashlib.sha256(facts.encode()).hexdigest()
    if metadata.get("facts_sha256", digest) != digest:  # runs of vaelab 0.1.0 have none
        raise damaged(path)
    return json.loads(facts)
