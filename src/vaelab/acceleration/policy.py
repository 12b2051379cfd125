"""When a training has its step compiled: beside its first steps, before them, or not at all.

Compiling takes half a minute of one core, once per network and batch size; the result is kept. A training that counts seconds
starts without and switches when the step is ready, unless too little time would be left to gain from it. Compiled and plain
steps round differently, so a training that counts epochs, whose weights depend on its seed alone, has all its steps compiled
or none.
"""

from __future__ import annotations

import math
import os
from typing import Literal

import torch

from vaelab import distributed
from vaelab.config import NetworkName, ResolvedConfig, is_custom_likelihood

WORTH_SECONDS: dict[NetworkName, float] = {"mlp": 60.0, "pca": 60.0, "two-colour": 60.0, "conv": 120.0, "ladder": 120.0}
"""Seconds of a training on the CPU that must be left for `auto` to compile beside it: what that costs is regained by then."""

WORTH_SECONDS_GPU: dict[NetworkName, float] = {
    "mlp": 300.0,
    "pca": 300.0,
    "two-colour": 300.0,
    "conv": 300.0,
    "ladder": math.inf,
}
"""The same on a GPU, where the training waits for the compiler. A ladder's step is some 1,200 operations there, which takes
minutes to compile; as a CUDA graph they run back to back anyway."""

WORTH_STEPS = 20_000
"""Steps that a training in epochs must have for `auto` to compile before the first: about two minutes."""

Plan = Literal["never", "before", "beside"]


def plan(config: ResolvedConfig, steps: int | None) -> Plan:
    """Return when to compile a training of `steps` compilable steps, or None if its budget counts seconds.

    A custom network is compiled only on request: it is traced once, and may do other things at the next step. Several processes
    compile before the first step, because there is no spare core to compile on beside it; not on GPUs, where their steps are
    recorded, nor with free bits, whose loss depends on the images of all processes.
    """
    device, wish = torch.device(config.train.device).type, config.train.compile
    several = distributed.world_size() > 1
    if wish == "no" or (wish == "auto" and (is_custom(config) or device not in ("cpu", "cuda"))):
        return "never"
    if several and (device != "cpu" or config.train.free_bits > 0):
        return "never"
    if steps is None and several:
        return "before" if config.train.budget.amount >= worth_seconds(config) else "never"
    if steps is None:
        return "beside"
    return "before" if steps and (wish == "yes" or steps >= WORTH_STEPS) else "never"


def worth_seconds(config: ResolvedConfig) -> float:
    """Return the seconds that must be left of a training to compile beside it."""
    if config.train.compile == "yes":
        return 0.0
    table = WORTH_SECONDS if torch.device(config.train.device).type == "cpu" else WORTH_SECONDS_GPU
    return table[config.model.network]


def is_custom(config: ResolvedConfig) -> bool:
    """Return whether the model has a custom encoder, decoder or likelihood."""
    return bool(config.model.encoder or config.model.decoder or is_custom_likelihood(config.model.likelihood))


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
