"""Presets: named settings for a time budget, for the best likelihood.

For grey images they are hierarchical models whose settings were found by short trials on binarised MNIST
(docs/decisions/ladder.md) and measured by benchmarks/records.py (benchmarks/RESULTS.md). For colour images they are networks that
start as PCA, with settings from trials on photographs (docs/decisions/colour.md). Without a preset a run trains the model with
one latent vector.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from vaelab.config import Config, LikelihoodName
from vaelab.errors import ConfigError, did_you_mean

PresetName = Literal["quick", "standard", "best", "gpu"]


@dataclass(frozen=True)
class Preset:
    """Settings for a time budget.

    Attributes
    ----------
    model, train
        Fields of `ModelConfig` and `TrainConfig` that it sets.
    summary
        Its cost and its result, in one line.
    colour_model, colour_train
        The fields for colour images, if they are others. Images of two colours have the network of this name instead.
    """

    model: dict[str, Any]
    train: dict[str, Any]
    summary: str
    colour_model: dict[str, Any] | None = None
    colour_train: dict[str, Any] | None = None

    def settings(self, likelihood: LikelihoodName) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the fields of `ModelConfig` and `TrainConfig` for data with this default likelihood."""
        if (
            likelihood not in ("colour-logistic", "two-colour")
            or self.colour_model is None
            or self.colour_train is None
        ):
            return self.model, self.train
        return {"network": "two-colour"} if likelihood == "two-colour" else self.colour_model, self.colour_train


PRESETS: dict[PresetName, Preset] = {
    "quick": Preset(
        {"network": "ladder", "levels": "16,1,1,1", "spatial_mixing": "relative", "width": 64, "depth": 1},
        {"seconds": 60.0, "learning_rate": 1e-2, "kl_warmup": 0.15},
        "60 s on two cores: 85.2 nats on binarised MNIST (bound, K = 500)",
        {"network": "pca"},
        {"seconds": 60.0},
    ),
    "standard": Preset(
        {"network": "ladder", "levels": "16,1,1,1,1", "spatial_mixing": "relative", "width": 64, "depth": 1},
        {"seconds": 600.0, "learning_rate": 8e-3, "kl_warmup": 0.1, "ema": 0.999},
        "10 min: 81.1 nats",
        {"network": "pca", "latent_dim": 1056},
        {"seconds": 600.0, "ema": 0.999},
    ),
    "best": Preset(
        {"network": "ladder", "levels": "16,1,1,1,1", "spatial_mixing": "relative", "width": 96, "depth": 1},
        {"seconds": 3600.0, "learning_rate": 6e-3, "weight_decay": 1e-2, "kl_warmup": 0.1, "ema": 0.9995},
        "60 min: 79.8 nats",
        {"network": "pca", "latent_dim": 1056},
        {"seconds": 3600.0, "ema": 0.9995},
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


def with_preset(name: str, config: Config | None = None, *, likelihood: LikelihoodName = "bernoulli") -> Config:
    """Return `config` with the settings of a preset for the fields that it leaves at None: explicit values win.

    If `config` gives epochs, the preset's seconds are dropped.

    Parameters
    ----------
    name
        One of `PRESETS`.
    config
        Settings that win over the preset's.
    likelihood
        The default likelihood of the data (`vaelab.data.dataset.default_likelihood`).

    Raises
    ------
    ConfigError
        If there is no such preset, or `config` names another network than the preset's.
    """
    if name not in PRESETS:
        names = get_args(PresetName)
        raise ConfigError(f"`preset`: got {name!r}; expected one of {', '.join(names)}.{did_you_mean(name, names)}")
    config = config or Config()
    model, train = PRESETS[name].settings(likelihood)  # pyright: ignore[reportArgumentType] - checked above
    if config.model.network not in (None, model["network"]):
        raise ConfigError(
            f"`network`: got {config.model.network} with `preset={name}`, which is a {model['network']}; "
            "expected one of the two left out"
        )
    if config.train.epochs is not None:
        train = {field: value for field, value in train.items() if field != "seconds"}
    return Config(_filled(config.model, model), _filled(config.train, train))


def _filled(config: Any, values: dict[str, Any]) -> Any:
    """Return `config` with these values for the fields that are None."""
    return replace(config, **{name: value for name, value in values.items() if getattr(config, name) is None})
