"""An optimiser of the caller, `optimizer(parameters) -> torch.optim.Optimizer`, instead of AdamW."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable
from typing import Any, final

import torch
from torch import Tensor

from vaelab.errors import ConfigError
from vaelab.models.base import Model
from vaelab.optim.adamw import Descent
from vaelab.optim.state import TrainState

MakeOptimizer = Callable[[list[torch.nn.Parameter]], torch.optim.Optimizer]
"""Makes the optimiser of a model's parameters, such as `torch.optim.AdamW`."""

PREFIX = "optimizer."


@final
class OwnOptimizer:
    """Updates weights as `AdamW` does, by an optimiser of the caller: gradients are clipped first, and bad steps skipped.

    The learning rate of each of its groups is multiplied by the schedule, relative to `peak`.
    """

    def __init__(self, make: MakeOptimizer, model: Model, peak: float) -> None:
        self.peak = peak
        self.optimizer = optimizer = make(list(model.parameters()))
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ConfigError(
                f"`optimizer`: returned an object of type {type(optimizer).__name__}; expected a torch.optim.Optimizer of the "
                "parameters that it is called with, such as `optimizer=torch.optim.AdamW`"
            )
        held = [id(weight) for group in optimizer.param_groups for weight in group["params"]]
        missing = sum(id(weight) not in held for weight in model.parameters())
        if missing or len(held) != len(list(model.parameters())):
            raise ConfigError(
                f"`optimizer`: holds {len(held)} parameters, and {missing} of the model's {len(list(model.parameters()))} are "
                "missing; expected all of those that it is called with, and no others"
            )
        closure = inspect.signature(type(optimizer).step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise ConfigError(
                f"`optimizer`: {type(optimizer).__name__} computes the loss several times in a step; expected one that needs "
                "gradients only"
            )
        self.rates = [float(group["lr"]) for group in optimizer.param_groups]

    def __call__(self, state: TrainState, descent: Descent) -> None:
        """Take one step, unless it is bad."""
        if descent.bad > 0:
            return
        for weight, gradient in zip(state.weights, descent.gradients, strict=True):
            weight.grad = gradient / descent.divisor
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * float(descent.learning_rate) / self.peak
        self.optimizer.step()
        for weight in state.weights:
            weight.grad = None

    def forget(self) -> None:
        """Start again with fresh moments."""
        self.optimizer.state = defaultdict(dict)

    def state_to_save(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return its state: tensors by name, and numbers, also those of its groups, in which some optimisers count.

        Raises
        ------
        ConfigError
            If it keeps anything else, which a run cannot hold.
        """
        tensors: dict[str, Tensor] = {}
        numbers: dict[str, Any] = {}
        for index, values in self.optimizer.state_dict()["state"].items():
            for name, value in values.items():
                if not (value is None or isinstance(value, Tensor | bool | int | float)):
                    raise ConfigError(
                        f"`optimizer`: keeps a {type(value).__name__} as {name}, which a run cannot store; expected tensors and "
                        "numbers, or a training without `out`"
                    )
                if isinstance(value, Tensor):
                    tensors[f"{PREFIX}{index}.{name}"] = value
                else:
                    numbers[f"{index}.{name}"] = value
        groups = [
            {name: value for name, value in group.items() if isinstance(value, bool | int | float)}
            for group in self.optimizer.param_groups
        ]
        return tensors, {"optimizer": numbers, "optimizer_groups": groups}

    def restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Restore what `state_to_save` returned."""
        found = {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}
        state: dict[int, dict[str, Any]] = defaultdict(dict)
        groups = self.optimizer.state_dict()["param_groups"]
        for group, kept in zip(groups, facts.get("optimizer_groups", ()), strict=False):
            group.update(kept)
        for place, value in (found | facts.get("optimizer", {})).items():
            index, name = place.split(".", 1)
            state[int(index)][name] = value
        self.optimizer.load_state_dict({"state": dict(state), "param_groups": groups})
