"""What a caller of `fit` gives instead of the built-in objective, optimiser and schedule, checked and named."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from vaelab import distributed
from vaelab.config import Config, ResolvedConfig
from vaelab.errors import ConfigError
from vaelab.import_paths import import_path
from vaelab.objectives.own import OwnFunction
from vaelab.optim.own import MakeOptimizer
from vaelab.runs import Run

UNREACHED = {
    "objective": ("free_bits", "iwae_samples"),
    "optimizer": ("learning_rate", "weight_decay"),
    "schedule": ("warmup",),
}
"""Fields of `TrainConfig` that have no effect with each of them."""


class Own(NamedTuple):
    """Functions of the caller of `fit`; None for the built-in ones."""

    objective: OwnFunction | None = None
    optimizer: MakeOptimizer | None = None
    schedule: Callable[[float], float] | None = None

    def given(self) -> Iterator[tuple[str, Any]]:
        """Yield those that are given, with their names."""
        yield from ((name, value) for name, value in self._asdict().items() if value is not None)

    def expect_usable(self, config: Config) -> None:
        """Raise a ConfigError if one is no function, or `config` sets what it does not reach."""
        for name, value in self.given():
            if not callable(value):
                raise ConfigError(f"`{name}`: got an object of type {type(value).__name__}; expected a function")
            for field in UNREACHED[name]:
                if (asked := getattr(config.train, field)) not in (
                    None,
                    {"free_bits": 0.0, "iwae_samples": 1}.get(field),
                ):
                    raise ConfigError(
                        f"`{field}`: got {asked:g} with `{name}`, which replaces what it sets; expected one of the two"
                    )
        if self.schedule is not None:
            for fraction in (0.0, 0.5, 1.0):
                factor_at(self.schedule, fraction)
        if self.objective is None and self.optimizer is None:
            return
        which = "objective" if self.objective is not None else "optimizer"
        if config.train.compile == "yes":
            raise ConfigError(
                f"`compile`: got yes with `{which}`; expected no or auto: only built-in steps are compiled"
            )
        if distributed.world_size() > 1:
            raise ConfigError(f"`{which}`: got one for {distributed.world_size()} processes; expected a single process")

    def recorded(self, config: ResolvedConfig) -> ResolvedConfig:
        """Return the configuration with the names of these functions, for `config.json`."""
        names = {name: name_of(value) for name, value in self.given()}
        return replace(config, train=replace(config.train, **names))

    def expect_same(self, run: Run) -> None:
        """Raise a ConfigError unless these are the functions that a run was trained with."""
        for name, value in self._asdict().items():
            recorded, given = getattr(run.config.train, name), "" if value is None else name_of(value)
            if recorded != given:
                got = f"got {given}" if given else "got none"
                expected = f"{name}={recorded}" if recorded else f"no {name}"
                raise ConfigError(
                    f"{run.folder}: {got} as {name}; expected that of its training: pass {expected} to vaelab.fit"
                )


BUILT_IN = Own()


def name_of(function: object) -> str:
    """Return the import path of a function, or its name, with a remark, if it cannot be imported."""
    try:
        return import_path("objective", function)
    except ConfigError:
        name = getattr(function, "__qualname__", type(function).__name__)
        return f"{name} (cannot be imported)"


def factor_at(schedule: Callable[[float], float], fraction: float) -> float:
    """Return the learning rate relative to its peak; a ConfigError if it is not a finite number of at least 0."""
    factor = schedule(fraction)
    try:
        number = float(factor)
    except (TypeError, ValueError, RuntimeError):
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise ConfigError(
            f"`schedule`: returned {factor!r} after {fraction:.0%} of the training; expected a finite number of at least 0, the "
            "learning rate relative to its peak"
        )
    return number
