"""From a configuration to its model: the parts that it names, put together."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from vaelab.config import MOST_DIMENSIONS, ModelConfig, level_parts, option
from vaelab.errors import ConfigError
from vaelab.models.base import Model, ModelArguments
from vaelab.models.custom import build_decoder, build_encoder
from vaelab.models.distributions import LIKELIHOODS
from vaelab.models.hierarchical import Ladder
from vaelab.models.spatial import ConvBlock, Grid, MixerBlock
from vaelab.models.vae import SingleLatentVAE

DEFAULT_RUNGS = "16,1,1"
"""Latent dimensions of a ladder's rungs where none are given."""

WIDTHS = {"mlp": 256, "conv": 32, "ladder": 64}
"""Units or channels by network."""

DEPTHS = {"mlp": 3, "conv": 3, "ladder": 2}
"""Layers or blocks by network."""

TOP_WIDTH = 256
"""Units of the dense layers around a ladder's first rung."""

MOST_POSITIONS_AT_ALL = 1024
"""Positions of a ladder that are taken: its matrices have as many rows and columns."""


def build_model(config: ModelConfig, shape: tuple[int, ...], classes: int, *, seed: int = 0) -> Model:
    """The model that a complete `config` describes, for images of `shape` and K = `classes` labels.

    Parameters
    ----------
    config
        With no field left at None: see `vaelab.training.fit.complete`.
    classes
        Class count of the data; used by a conditional model alone.
    seed
        Of the initial weights. The global random state is left as it was.

    Raises
    ------
    ConfigError
        If the network does not take images of this shape, or a body of one's own cannot be had or does not fit.
    """
    assert config.latent_dim is not None
    assert config.likelihood is not None
    facts: ModelArguments = {
        "latent_dim": config.latent_dim,
        "likelihood": config.likelihood,
        "shape": shape,
        "classes": classes if config.model == "cvae" else 0,
        "stochastic": config.model != "ae",
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _ladder(config, facts) if config.network == "ladder" else _flat(config, facts)
    # Convolutions are a fifth faster with the channels of a pixel side by side; the figures are the same.
    return model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - nn.Module's stub lacks it alone


def _flat(config: ModelConfig, facts: ModelArguments) -> SingleLatentVAE:
    shape, classes = facts["shape"], facts["classes"]
    encoder, features = build_encoder(config, shape, classes)
    decoder = build_decoder(config, shape, LIKELIHOODS[facts["likelihood"]].n_parameters, classes)
    return SingleLatentVAE(encoder, decoder, features=features, **facts)


def _ladder(config: ModelConfig, facts: ModelArguments) -> Ladder:
    assert config.levels is not None
    assert config.width is not None
    assert config.depth is not None
    channels = config.width
    grids, ((first, _), *below) = _grids(config, facts["shape"]), level_parts(config.levels)
    level = {grid.patch: number for number, grid in enumerate(grids)}
    placed = [(dims, level[grids[0].patch if patch is None else patch]) for dims, patch in below]

    def block(grid: Grid) -> nn.Module:
        if config.spatial_mixing == "conv" and grid.positions > 1:
            return ConvBlock(grid, channels)
        return MixerBlock(grid, channels, relative=config.spatial_mixing == "relative")

    return Ladder(grids, first, placed, block, channels=channels, depth=config.depth, width=TOP_WIDTH, **facts)


def _grids(config: ModelConfig, shape: tuple[int, ...]) -> list[Grid]:
    """The grids that a ladder's rungs lie on, the finest first, each twice as coarse as the one before it.

    Raises
    ------
    ConfigError
        If the positions that the rungs name are not so, or a finer grid comes before a coarser one.
    """
    assert config.levels is not None
    own = [patch for _, patch in level_parts(config.levels)[1:]]
    named = [patch for patch in own if patch is not None]
    patch = min(named) if named and config.patch is None else config.patch
    grids = [Grid.over(shape, patch, channels_last=config.spatial_mixing == "conv")]
    finest, coarsest = grids[0], max(named, default=0)
    if named and finest.patch == 0:
        got = "a table" if len(shape) == 1 else f"--patch {config.patch}"
        raise ConfigError(
            f"--levels: got {config.levels} for {got}, which has no positions; expected numbers without @"
        )
    while grids[-1].patch < coarsest and grids[-1].positions > 1:
        grids.append(grids[-1].coarser())
    known = [grid.patch for grid in grids]
    if unknown := [each for each in named if each not in known]:
        raise ConfigError(
            f"--levels: got {config.levels}, with positions of {unknown[0]} pixels a side; expected the finest, {finest.patch}, "
            f"doubled, up to the image's side: {', '.join(map(str, _doublings(finest)))}"
        )
    sizes = [finest.patch if each is None else each for each in own]
    if sizes != sorted(sizes, reverse=True):
        raise ConfigError(f"--levels: got {config.levels}; expected the largest positions first: from coarse to fine")
    return grids


def _doublings(grid: Grid) -> list[int]:
    patches = [grid.patch]
    while grid.positions > 1:
        grid = grid.coarser()
        patches.append(grid.patch)
    return patches


def complete_model(config: ModelConfig, shape: tuple[int, ...]) -> ModelConfig:
    """`config` with its networks' fields filled in for data of `shape`; which model and likelihood it is, it says already.

    Raises
    ------
    ConfigError
        If fields exclude each other, or one of a ladder is given for another network.
    """
    table = len(shape) == 1
    colour = not table and shape[0] == 3
    small = table or (shape[0] == 1 and max(shape[1:]) <= 32)
    network = config.network or ("mlp" if small else "conv")
    config = replace(
        config, network=network, width=config.width or WIDTHS[network], depth=config.depth or DEPTHS[network]
    )
    if network == "ladder":
        return _complete_ladder(config, shape)
    for name in ("levels", "patch", "spatial_mixing"):
        if (got := getattr(config, name)) is not None:
            raise ConfigError(
                f"{option(name)}: got {got}, but --network {network} has none; expected --network ladder with it"
            )
    latent_dim = 32 if config.model != "cvae" else 16 if colour else 7
    return replace(config, latent_dim=config.latent_dim or (min(latent_dim, shape[0]) if table else latent_dim))


def _complete_ladder(config: ModelConfig, shape: tuple[int, ...]) -> ModelConfig:
    """The same for a ladder: its own fields, checked against each other and against the data."""
    if config.model == "ae":
        raise ConfigError("--network ladder: got an autoencoder; expected --model vae or cvae, which have a prior")
    for name in ("encoder", "decoder"):
        if getattr(config, name) is not None:
            raise ConfigError(
                f"--network ladder: got --{name} too; expected it left out: a ladder has its own networks"
            )
    if config.patch and len(shape) == 1:
        raise ConfigError(f"--patch: got {config.patch} for a table, which has no pixels; expected it left out")
    if config.patch and config.patch > max(shape[1:]):
        got = f"images of {shape[1]}×{shape[2]}"
        raise ConfigError(f"--patch: got {config.patch} for {got}; expected at most their side, or 0: leave it out")
    rungs = config.levels or DEFAULT_RUNGS
    config = replace(config, levels=rungs)
    grids = _grids(config, shape)
    grid = grids[0]
    config = replace(config, spatial_mixing=config.spatial_mixing or ("relative" if grid.positions > 1 else "free"))
    if config.spatial_mixing == "conv" and grid.positions == 1:
        raise ConfigError(
            "--spatial-mixing: got conv for a single position; expected it left out, or a smaller --patch"
        )
    if grid.positions > MOST_POSITIONS_AT_ALL:
        raise ConfigError(
            f"--patch: got {config.patch}, which makes {grid.rows}×{grid.columns} positions; expected at most "
            f"{MOST_POSITIONS_AT_ALL:,}: give a larger one"
        )
    positions, ((first, _), *below) = {each.patch: each.positions for each in grids}, level_parts(rungs)
    dims = first + sum(each * positions[grid.patch if patch is None else patch] for each, patch in below)
    if dims > MOST_DIMENSIONS:
        raise ConfigError(
            f"--levels: got {config.levels}, which make {dims:,} dimensions at {grid.positions} positions; expected at most "
            f"{MOST_DIMENSIONS:,}: give fewer or smaller ones"
        )
    if config.latent_dim not in (None, dims):
        raise ConfigError(
            f"--latent-dim: got {config.latent_dim}, but --levels {config.levels} make {dims}; expected it left out: "
            "--levels says it"
        )
    return replace(config, latent_dim=dims, patch=grid.patch)
