"""Constructor of the estimators, generated from the fields of `ModelConfig` and `TrainConfig`, so that each is defined once.

The field `model` is omitted, as the class of the estimator determines it. The constructor checks parameter names only: by
scikit-learn's convention it stores its parameters unchanged.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vaelab.config import TRAIN_DEFAULTS, CompileName, ModelConfig, ModelName, TrainConfig
from vaelab.errors import did_you_mean

MODEL_FIELDS = tuple(parameter for parameter in dataclasses.fields(ModelConfig) if parameter.name != "model")
TRAIN_FIELDS = dataclasses.fields(TrainConfig)
NAMES = (*(parameter.name for parameter in MODEL_FIELDS + TRAIN_FIELDS), "verbose")
DEFAULTS = TRAIN_DEFAULTS | {"precision": "auto", "device": "auto", "compile": "no"}
"""Defaults of the fields that do not depend on the data. `fit` must not start a C++ compiler unless asked to."""

if TYPE_CHECKING:

    @dataclass(frozen=True)
    class Parameters(ModelConfig, TrainConfig):
        """The constructor for type checkers."""

        model: ModelName | None = field(default=None, init=False)
        seed: int = TRAIN_DEFAULTS["seed"]
        compile: CompileName = "no"
        verbose: bool = False

else:

    def _check_names(constructor: Callable[..., None]) -> Callable[..., None]:
        """Make `constructor` raise a TypeError that names the class and the nearest parameter; keeps the signature."""

        @functools.wraps(constructor)
        def construct(self: object, **parameters: Any) -> None:
            for name in parameters:
                if name not in NAMES:
                    hint = did_you_mean(name, NAMES) or f" It takes {', '.join(NAMES)}."
                    raise TypeError(f"{type(self).__name__} takes no {name!r}; expected one of its parameters.{hint}")
            constructor(self, **parameters)

        return construct

    # A new dataclass rather than a subclass: it has the fields but not the checks of `__post_init__`.
    parameters = [
        (parameter.name, parameter.type, field(default=DEFAULTS.get(parameter.name, parameter.default)))
        for parameter in MODEL_FIELDS + TRAIN_FIELDS
    ]
    parameters.append(("verbose", bool, field(default=False)))
    options = {"eq": False, "repr": False, "kw_only": True, "namespace": {"__module__": __name__}}
    Parameters = dataclasses.make_dataclass("Parameters", parameters, **options)
    Parameters.__init__ = _check_names(Parameters.__init__)
