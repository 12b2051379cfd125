"""Options of `vaelab train` for the model and its training: the fields of `ModelConfig` and `TrainConfig`, in groups.

Every option is None unless it is given, so that an explicit value can be told from a default.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from dataclasses import field, fields, make_dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

from cyclopts import Parameter

from vaelab.cli.app import GROUPS
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.spelling import with_options

FIELDS = {
    "Model": ("model", "latent_dim", "likelihood", "network", "width", "depth", "encoder", "decoder"),
    "Hierarchy": ("levels", "patch", "spatial_mixing"),
    "Objective": ("beta", "kl_warmup", "free_bits", "iwae_samples", "iwae_fraction"),
    "Training": (
        "epochs",
        "seconds",
        "batch_size",
        "learning_rate",
        "warmup",
        "weight_decay",
        "ema",
        "gradient_clip",
        "flip",
        "seed",
    ),
    "Hardware": ("precision", "device", "compile"),
    "Run": ("checkpoint_every",),
}
"""Fields of both configurations by the group of their options, in the order of the help."""


def _docstrings(config: type) -> dict[str, str]:
    """Return the docstrings that follow the fields of a dataclass in its source."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(config))).body
    assert isinstance(definition, ast.ClassDef)
    texts = {}
    for statement, following in pairwise(definition.body):
        if isinstance(statement, ast.AnnAssign) and isinstance(following, ast.Expr):
            assert isinstance(statement.target, ast.Name)
            assert isinstance(following.value, ast.Constant)
            texts[statement.target.id] = " ".join(str(following.value.value).split())
    return texts


if TYPE_CHECKING:
    TrainOptions = Any
else:
    _TEXTS = _docstrings(ModelConfig) | _docstrings(TrainConfig)
    _TYPES = get_type_hints(ModelConfig) | get_type_hints(TrainConfig)
    TrainOptions = make_dataclass(
        "TrainOptions",
        [
            (
                name,
                Annotated[_TYPES[name] | None, Parameter(group=GROUPS[group], help=with_options(_TEXTS[name]))],
                field(default=None),
            )
            for group, names in FIELDS.items()
            for name in names
        ],
        frozen=True,
        namespace={"__module__": __name__},  # without it cyclopts takes the class for a built-in type
    )


def as_config(options: TrainOptions | None) -> Config:
    """Return the configuration with the options that were given; all others have their defaults.

    Raises
    ------
    ConfigError
        If a value is out of range, or two exclude each other.
    """
    values = {} if options is None else {name: value for name, value in vars(options).items() if value is not None}
    model, train = (
        {item.name: values[item.name] for item in fields(config) if item.name in values}
        for config in (ModelConfig, TrainConfig)
    )
    return Config(ModelConfig(**model), TrainConfig(**train))
