"""Defaults and checks: from what was asked for and the data to a configuration with nothing left open."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

from vaelab.config import (
    DEFAULT_SECONDS,
    LADDER_FIELDS,
    MAX_DIMENSIONS,
    TRAIN_DEFAULTS,
    Budget,
    Config,
    LikelihoodName,
    ModelConfig,
    ModelName,
    NetworkName,
    ResolvedConfig,
    ResolvedModelConfig,
    ResolvedTrainConfig,
    SpatialMixingName,
    TrainConfig,
    level_parts,
)
from vaelab.data.dataset import Dataset, default_likelihood
from vaelab.errors import ConfigError, DataError, LabelError
from vaelab.models.two_colour import COLOURS
from vaelab.precision import default_precision, pick_device

BATCH_SIZE, SMALL_BATCH_SIZE, SMALL_DATA = 128, 32, 5000  # the small batches for fewer than 5,000 training images
TABLE_EPOCHS, TABLE_STEPS = 20, 1000  # passes over a table, and steps that they must make

# Units or channels, and layers or blocks.
WIDTHS: dict[NetworkName, int] = {"mlp": 256, "pca": 256, "two-colour": 256, "conv": 32, "ladder": 64}
DEPTHS: dict[NetworkName, int] = {"mlp": 3, "pca": 3, "two-colour": 3, "conv": 3, "ladder": 2}

# Latent dimensions. A conditional model needs fewer, because the decoder receives the class as a label.
LATENT_DIM, CONDITIONAL_LATENT_DIM, CONDITIONAL_COLOUR_LATENT_DIM = 32, 7, 16

# Those of the two-colour network: six for the colours, the others for the shape.
TWO_COLOUR_LATENT_DIM, TWO_COLOUR_CONDITIONAL_LATENT_DIM = COLOURS + 16, COLOURS + 5

# Networks that start as PCA: their latent dimensions, the most values of an image for which they are the default, and likelihoods
# with a parameter in units of the data, to which a linear map of z can be added.
PCA_LATENT_DIM, DENSE_COLOUR_VALUES = 544, 3 * 64 * 64
PCA_LIKELIHOODS: tuple[LikelihoodName, ...] = ("colour-logistic", "logistic")
TRAINING: dict[NetworkName, dict[str, Any]] = {  # defaults by network; those of pca preserve its start
    "pca": {"learning_rate": 1e-3, "kl_warmup": 0.0},
    "two-colour": {"learning_rate": 4e-3},
}

# A ladder's levels, and its finest patches: the smallest even side, from 2 on, that makes at most 64 positions.
LEVELS, DEFAULT_PATCH, DEFAULT_POSITIONS = "16,1,1", 2, 64
MAX_POSITIONS = 1024  # at any patch: a ladder's mixing matrices have as many rows and columns


def resolve(config: Config, dataset: Dataset) -> ResolvedConfig:
    """Return `config` with every field that is None filled in for `dataset`, and checked against it.

    Raises
    ------
    DataError
        If there are no training images.
    LabelError
        If a conditional model is asked for and the data have no labels.
    ConfigError
        If the likelihood does not suit the data, fields exclude each other, or the device is not available.
    """
    if len(dataset.train) == 0:
        raise DataError(f"{dataset.name}: got no training images; expected at least one to learn from")
    kind = _model_kind(config.model, dataset)
    likelihood = _likelihood(config.model, dataset)
    model = resolve_model(config.model, kind, likelihood, dataset.shape)
    return ResolvedConfig(model, _resolve_training(config.train, model, len(dataset.train), dataset.shape))


def _model_kind(config: ModelConfig, dataset: Dataset) -> ModelName:
    model = config.model or ("cvae" if len(dataset.classes) > 1 else "vae")
    if model == "all":
        raise ConfigError(
            "`model`: got all for one training; expected ae, vae or cvae; only the command line trains all in turn"
        )
    if model == "cvae" and not dataset.labelled:
        raise LabelError(
            f"`model`: got cvae for {dataset.name}, which has no labels; expected a label for every image: put the "
            "images into one folder per class, or use `model=vae`"
        )
    return model


def _likelihood(config: ModelConfig, dataset: Dataset) -> LikelihoodName:
    likelihood, table = str(config.likelihood or _default_likelihood(config, dataset)), len(dataset.shape) == 1
    if (likelihood == "gaussian") != table:
        data, expected = ("a table", "gaussian") if table else ("images", "bernoulli, continuous-bernoulli or logistic")
        raise ConfigError(f"`likelihood`: got {likelihood} for {data}; expected {expected}")
    if likelihood in ("colour-logistic", "two-colour") and dataset.shape[0] != 3:
        raise ConfigError(f"`likelihood`: got {likelihood} for grey images; expected logistic")
    return likelihood


def _default_likelihood(config: ModelConfig, dataset: Dataset) -> LikelihoodName:
    """Return that of the data, but two-colour only for the network of this name, which is left out if it does not suit."""
    chosen = default_likelihood(dataset.train)
    if chosen not in ("colour-logistic", "two-colour"):
        return chosen
    if config.network is not None:
        return "two-colour" if config.network == "two-colour" else "colour-logistic"
    too_few = config.latent_dim is not None and config.latent_dim <= COLOURS
    if too_few or _own_networks(config) or math.prod(dataset.shape) > DENSE_COLOUR_VALUES:
        return "colour-logistic"
    return chosen


def _own_networks(config: ModelConfig) -> bool:
    return config.encoder is not None or config.decoder is not None


def resolve_model(
    config: ModelConfig, kind: ModelName, likelihood: LikelihoodName, shape: tuple[int, ...]
) -> ResolvedModelConfig:
    """Return the model's configuration for data of `shape`; a ConfigError if fields exclude each other."""
    network = config.network or _network(config, kind, likelihood, shape)
    width, depth = config.width or WIDTHS[network], config.depth or DEPTHS[network]
    if network == "ladder":
        levels, patch, mixing, latent_dim = _ladder(config, kind, shape)
        return ResolvedModelConfig(
            kind, network, latent_dim, likelihood, width, depth, levels=levels, patch=patch, spatial_mixing=mixing
        )
    for name in LADDER_FIELDS:
        if (value := getattr(config, name)) is not None:
            raise ConfigError(
                f"`{name}`: got {value} for `network={network}`, which has none; expected it left out, or "
                "`network=ladder`"
            )
    encoder, decoder = str(config.encoder or ""), str(config.decoder or "")
    latent_dim = config.latent_dim or _latent_dim(network, kind, shape)
    if network == "pca":
        _check_pca(kind, likelihood, latent_dim, custom=bool(encoder or decoder))
    if network == "two-colour":
        _check_two_colour(likelihood, latent_dim, custom=bool(encoder or decoder))
    return ResolvedModelConfig(kind, network, latent_dim, likelihood, width, depth, encoder, decoder)


def _network(config: ModelConfig, kind: ModelName, likelihood: LikelihoodName, shape: tuple[int, ...]) -> NetworkName:
    if len(shape) == 1 or (shape[0] == 1 and max(shape[1:]) <= 32):
        return "mlp"
    if math.prod(shape) <= DENSE_COLOUR_VALUES and not _own_networks(config):
        if likelihood == "two-colour":
            return "two-colour"
        if likelihood == "colour-logistic" and kind != "ae":
            return "pca"
    return "conv"


def _check_pca(kind: ModelName, likelihood: LikelihoodName, latent_dim: int, *, custom: bool) -> None:
    if kind == "ae":
        given, expected = "for an autoencoder, which has no prior", "`model=vae` or `model=cvae`"
    elif likelihood not in PCA_LIKELIHOODS:
        given, expected = f"with a likelihood of {likelihood}", " or ".join(PCA_LIKELIHOODS)
    elif custom:
        given, expected = "with custom networks", "`network=mlp`"
    elif latent_dim < 2:
        given, expected = "with one latent dimension", "at least 2, for its two levels, or `network=mlp`"
    else:
        return
    raise ConfigError(f"`network`: got pca {given}; expected {expected}")


def _check_two_colour(likelihood: LikelihoodName, latent_dim: int, *, custom: bool) -> None:
    if likelihood != "two-colour":
        given, expected = f"with a likelihood of {likelihood}", "two-colour"
    elif custom:
        given, expected = "with custom networks", "`network=mlp`"
    elif latent_dim <= COLOURS:
        given = f"with a latent dimension of {latent_dim}"
        expected = f"at least {COLOURS + 1}, {COLOURS} for the colours and the others for the shape"
    else:
        return
    raise ConfigError(f"`network`: got two-colour {given}; expected {expected}")


def _latent_dim(network: NetworkName, kind: ModelName, shape: tuple[int, ...]) -> int:
    if network == "pca":
        return min(PCA_LATENT_DIM, max(2, math.prod(shape)))
    if network == "two-colour":
        return TWO_COLOUR_CONDITIONAL_LATENT_DIM if kind == "cvae" else TWO_COLOUR_LATENT_DIM
    table = len(shape) == 1
    if kind == "cvae":
        chosen = CONDITIONAL_COLOUR_LATENT_DIM if not table and shape[0] == 3 else CONDITIONAL_LATENT_DIM
    else:
        chosen = LATENT_DIM
    return min(chosen, shape[0]) if table else chosen


def _ladder(config: ModelConfig, kind: ModelName, shape: tuple[int, ...]) -> tuple[str, int, SpatialMixingName, int]:
    """Return levels, patch, spatial mixing and latent dimensions of a ladder, checked against each other and the data."""
    if kind == "ae":
        raise ConfigError(
            "`network`: got ladder for an autoencoder, which has no prior; expected `model=vae` or `model=cvae`"
        )
    for name in ("encoder", "decoder"):
        if getattr(config, name) is not None:
            raise ConfigError(
                f"`{name}`: got it with `network=ladder`, which has its own networks; expected it left out"
            )
    if config.patch and len(shape) == 1:
        raise ConfigError(f"`patch`: got {config.patch} for a table, which has no pixels; expected it left out")
    if config.patch and config.patch > max(shape[1:]):
        raise ConfigError(
            f"`patch`: got {config.patch} for images of {shape[1]}×{shape[2]}; expected at most their side, or it "
            "left out"
        )
    levels = str(config.levels or LEVELS)
    finest = _finest_patch(levels, config.patch, shape)
    positions = _positions(shape, finest)
    mixing = config.spatial_mixing or ("relative" if positions > 1 else "free")
    if mixing == "conv" and positions == 1:
        raise ConfigError(
            "`spatial_mixing`: got conv for a single position; expected it left out, or a smaller `patch`"
        )
    if positions > MAX_POSITIONS:
        raise ConfigError(
            f"`patch`: got {config.patch}, which makes {positions:,} positions; expected at most {MAX_POSITIONS:,}: use a "
            "larger patch"
        )
    (first, _), *below = level_parts(levels)
    dims = first + sum(each * _positions(shape, finest if patch is None else patch) for each, patch in below)
    if dims > MAX_DIMENSIONS:
        raise ConfigError(
            f"`levels`: got {levels}, which is {dims:,} dimensions at {positions} positions; expected at most "
            f"{MAX_DIMENSIONS:,}"
        )
    if config.latent_dim not in (None, dims):
        raise ConfigError(
            f"`latent_dim`: got {config.latent_dim}, but `levels={levels}` makes {dims}; expected it left out"
        )
    return levels, finest, mixing, dims


def _finest_patch(levels: str, patch: int | None, shape: tuple[int, ...]) -> int:
    """Return the side of a ladder's finest patches, which those that `levels` names must double; 0: one patch per image."""
    sides = [side for _, side in level_parts(levels)[1:]]
    named = [side for side in sides if side is not None]
    if named and (len(shape) == 1 or patch == 0):
        data = "a table" if len(shape) == 1 else f"`patch={patch}`"
        raise ConfigError(f"`levels`: got {levels} for {data}, which has no positions; expected numbers without @")
    if len(shape) == 1 or patch == 0:
        return 0
    finest = patch or min(named, default=0) or DEFAULT_PATCH
    while not (patch or named) and _positions(shape, finest) > DEFAULT_POSITIONS:
        finest += 2
    doubled = [finest]
    while _positions(shape, doubled[-1]) > 1:
        doubled.append(2 * doubled[-1])
    if unknown := [side for side in named if side not in doubled]:
        raise ConfigError(
            f"`levels`: got {levels}, with patches of {unknown[0]} pixels; expected the finest, {finest}, doubled, up to the "
            f"side of the image: {', '.join(map(str, doubled))}"
        )
    sizes = [finest if side is None else side for side in sides]
    if sizes != sorted(sizes, reverse=True):
        raise ConfigError(f"`levels`: got {levels}; expected the largest patches first, from coarse to fine")
    return finest


def _positions(shape: tuple[int, ...], patch: int) -> int:
    """Return the number of patches of this side that an image of `shape` is cut into."""
    return math.ceil(shape[1] / patch) * math.ceil(shape[2] / patch) if patch else 1


def _resolve_training(
    config: TrainConfig, model: ResolvedModelConfig, count: int, shape: tuple[int, ...]
) -> ResolvedTrainConfig:
    """Return the training's configuration for `count` training images of `shape`."""
    if (config.iwae_samples or 1) > 1 and model.model == "ae":
        raise ConfigError(
            f"`iwae_samples`: got {config.iwae_samples} for an autoencoder, which draws no z; expected `model=vae` "
            "or `model=cvae`"
        )
    if len(shape) == 1 and config.flip not in (None, "no"):
        raise ConfigError(f"`flip`: got {config.flip} for a table; expected no: only images can be mirrored")
    device = pick_device(config.device or "auto")
    batch_size = config.batch_size or (SMALL_BATCH_SIZE if count < SMALL_DATA else BATCH_SIZE)
    if config.epochs is not None:
        budget = Budget(config.epochs, "epochs")
    elif config.seconds is not None or len(shape) > 1:
        budget = Budget(config.seconds or DEFAULT_SECONDS, "seconds")
    else:
        budget = Budget(max(TABLE_EPOCHS, math.ceil(TABLE_STEPS * batch_size / count)), "epochs")
    chosen: dict[str, Any] = dict(TRAINING.get(model.network, {}))
    chosen |= {name: value for name in TRAIN_DEFAULTS if (value := getattr(config, name)) is not None}
    precision = config.precision or "auto"
    if precision == "auto":
        precision = default_precision(model.network, model.spatial_mixing, shape, device)
    return ResolvedTrainConfig(budget, batch_size, precision, str(device), **{**TRAIN_DEFAULTS, **chosen})


CHANGEABLE = (
    "epochs",
    "seconds",
    "device",
    "compile",
    "checkpoint_every",
)  # fields of `TrainConfig` that a resumed run may change


def resolve_resumed(recorded: ResolvedConfig, asked: Config, budget: Budget) -> ResolvedConfig:
    """Return the configuration of a resumed run: the `recorded` one, with what is `CHANGEABLE` from `asked` if given.

    `budget` is the one that the run had last. A ConfigError if `asked` gives another value for any other field.
    """
    for given, own in ((asked.model, recorded.model), (asked.train, recorded.train)):
        for field in fields(given):
            value = getattr(given, field.name)
            if value in (None, "auto") or field.name in CHANGEABLE:
                continue
            if value != getattr(own, field.name):
                raise ConfigError(
                    f"`{field.name}`: got {value!r}, but the run was trained with {getattr(own, field.name)!r}; "
                    "expected it left out with `resume=True`, or a new run"
                )
    train = asked.train
    if train.epochs is not None:
        budget = Budget(train.epochs, "epochs")
    elif train.seconds is not None:
        budget = Budget(train.seconds, "seconds")
    changed: dict[str, Any] = {"budget": budget, "device": str(pick_device(train.device or recorded.train.device))}
    changed |= {name: value for name in ("compile", "checkpoint_every") if (value := getattr(train, name)) is not None}
    return ResolvedConfig(recorded.model, ResolvedTrainConfig(**(vars(recorded.train) | changed)))
