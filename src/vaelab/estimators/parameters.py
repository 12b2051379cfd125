"""The estimators' constructor, made from the fields of `ModelConfig` and `TrainConfig`: they stand there, and nowhere else.

The field `model` is left out, which the class of an estimator itself says. Nothing is checked here but the names, since
scikit-learn's law has it that a constructor keeps what it is given.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from vaelab.config import ModelConfig, ModelName, TrainConfig
from vaelab.errors import did_you_mean

OF_MODEL = tuple(parameter for parameter in dataclasses.fields(ModelConfig) if parameter.name != "model")
OF_TRAINING = dataclasses.fields(TrainConfig)
NAMES = (*(own.name for own in OF_MODEL + OF_TRAINING), "verbose")

if TYPE_CHECKING:

    @dataclass(frozen=True)
    class Parameters(ModelConfig, TrainConfig):
        """The constructor as a type checker sees it."""

        model: ModelName | None = field(default=None, init=False)
        verbose: bool = False

else:

    def _naming_the_class(constructor: Callable[..., None]) -> Callable[..., None]:
        """`constructor` with an error for a name that is none of its own; scikit-learn reads the signature through it."""

        @functools.wraps(constructor)
        def construct(self: object, **given: Any) -> None:
            for name in given:
                if name not in NAMES:
                    hint = did_you_mean(name, NAMES) or f" It takes {', '.join(NAMES)}."
                    raise TypeError(f"{type(self).__name__} takes no {name!r}; expected one of its parameters.{hint}")
            constructor(self, **given)

        return construct

    # A plain constructor with a signature that can be read, made from the fields; none of what they check happens in it.
    parameters = [(own.name, own.type, field(default=own.default)) for own in OF_MODEL + OF_TRAINING]
    parameters.append(("verbose", bool, field(default=False)))
    how = {"eq": False, "repr": False, "kw_only": True, "namespace": {"__module__": __name__}}
    Parameters = dataclasses.make_dataclass("Parameters", parameters, **how)
    Parameters.__init__ = _naming_the_class(Parameters.__init__)
