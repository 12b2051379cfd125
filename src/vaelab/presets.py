"""Named settings for a budget of time: what to type when the best likelihood for it is wanted.

They are hierarchical models, shaped by short trials on binarised MNIST (docs/decisions/ladder.md); benchmarks/records.py measures
them, and RESULTS.md beside it has what has been measured. Without a preset a run is the flat model of `vaelab.config`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.errors import ConfigError, did_you_mean

PresetName = Literal["quick", "standard", "best", "gpu"]


@dataclass(frozen=True)
class Preset:
    """Settings for a budget, and what they gave.

    Attributes
    ----------
    model, train
        Fields of `ModelConfig` and `TrainConfig` that it sets.
    summary
        What it costs and what it gives, in a line.
    """

    model: dict[str, Any]
    train: dict[str, Any]
    summary: str


PRESETS: dict[PresetName, Preset] = {
    "quick": Preset(
        {"network": "ladder", "levels": "16,1,1,1", "spatial_mixing": "relative", "width": 64, "depth": 1},
        {"seconds": 60.0, "learning_rate": 1e-2, "kl_warmup": 0.15},
        "60 s on two cores, a bound of 85.2 nats (0.3 from seed to seed) on binarised MNIST on a slow machine",
    ),
    "standard": Preset(
        {"network": "ladder", "levels": "16,1,1,1,1", "spatial_mixing": "relative", "width": 64, "depth": 1},
        {"seconds": 600.0, "learning_rate": 8e-3, "kl_warmup": 0.1, "ema": 0.999},
        "10 min, 81.1 nats (0.15) there",
    ),
    "best": Preset(
        {"network": "ladder", "levels": "16,1,1,1,1", "spatial_mixing": "relative", "width": 96, "depth": 1},
        {"seconds": 3600.0, "learning_rate": 6e-3, "weight_decay": 1e-2, "kl_warmup": 0.1, "ema": 0.9995},
        "60 min, 79.8 nats (one seed) there",
    ),
    "gpu": Preset(
        {
            "network": "ladder",
            "levels": "16,8@8,8@8,8@4,8@4,8@4,8@4,8@4,8@4",
            "patch": 2,
            "spatial_mixing": "conv",
            "width": 128,
            "depth": 2,
        },
        {"seconds": 600.0, "batch_size": 256, "learning_rate": 3e-3, "kl_warmup": 0.1, "ema": 0.9995},
        "10 min on a large GPU",
    ),
}


def with_preset(name: str, config: Config | None = None) -> Config:
    """The settings of a preset, with what `config` says otherwise in their place.

    A field that has its default in `config` is taken as left open; epochs stand in place of the preset's seconds.

    Raises
    ------
    ConfigError
        If there is no such preset, or `config` names a network that is not the preset's.
    """
    if name not in PRESETS:
        names = get_args(PresetName)
        raise ConfigError(f"--preset: got {name!r}; expected one of {', '.join(names)}.{did_you_mean(name, names)}")
    config, preset = config or Config(), PRESETS[name]  # pyright: ignore[reportArgumentType] - it is one of them
    if config.model.network not in (None, preset.model["network"]):
        raise ConfigError(
            f"--preset {name}: got --network {config.model.network} too; expected it left out, or --preset left out"
        )
    train = dict(preset.train)
    if config.train.epochs is not None:
        train.pop("seconds")
    return Config(_filled(config.model, ModelConfig(), preset.model), _filled(config.train, TrainConfig(), train))


def _filled(given: Any, default: Any, values: dict[str, Any]) -> Any:
    """`given` with `values` where it has the default."""
    own = {field.name for field in fields(given) if getattr(given, field.name) != getattr(default, field.name)}
    return replace(given, **{name: value for name, value in values.items() if name not in own})
