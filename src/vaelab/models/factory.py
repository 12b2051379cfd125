"""From a resolved configuration to its model."""

from __future__ import annotations

import torch
from torch import nn

from vaelab.config import ResolvedModelConfig, level_parts
from vaelab.errors import ConfigError
from vaelab.models.base import Model, ModelArguments
from vaelab.models.custom import build_decoder, build_encoder
from vaelab.models.distributions import LIKELIHOODS
from vaelab.models.hierarchical import Ladder
from vaelab.models.spatial import ConvBlock, Grid, MixerBlock
from vaelab.models.vae import SingleLatentVAE

TOP_WIDTH = 256
"""Units of the dense layers around the first level of a ladder."""


def build_model(config: ResolvedModelConfig, shape: tuple[int, ...], classes: int, *, seed: int = 0) -> Model:
    """Return the model of `config` with initial weights.

    Parameters
    ----------
    config
        From `vaelab.training.resolve.resolve`.
    shape
        Shape of an image, (C, H, W), or of a row of a table, (D,).
    classes
        Number of classes in the data; used by conditional models only.
    seed
        Seed of the initial weights. The global random state is left unchanged.

    Raises
    ------
    ConfigError
        If the network does not accept images of this shape, or a custom network cannot be imported or does not fit.
    """
    facts: ModelArguments = {
        "latent_dim": config.latent_dim,
        "likelihood": config.likelihood,
        "shape": shape,
        "classes": classes if config.model == "cvae" else 0,
        "stochastic": config.model != "ae",
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _ladder(config, facts) if config.network == "ladder" else _single_latent(config, facts)
    # Convolutions are a fifth faster with the channels of a pixel adjacent in memory; the results are the same.
    return model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - nn.Module's stub lacks it


def _single_latent(config: ResolvedModelConfig, facts: ModelArguments) -> SingleLatentVAE:
    shape, classes = facts["shape"], facts["classes"]
    encoder, features = build_encoder(config, shape, classes)
    decoder = build_decoder(config, shape, LIKELIHOODS[facts["likelihood"]].n_parameters, classes)
    return SingleLatentVAE(encoder, decoder, features=features, **facts)


def _ladder(config: ResolvedModelConfig, facts: ModelArguments) -> Ladder:
    channels_last = config.spatial_mixing == "conv"
    grids = ladder_grids(config.levels, config.patch, facts["shape"], channels_last=channels_last)
    (first, _), *below = level_parts(config.levels)
    index = {grid.patch: number for number, grid in enumerate(grids)}
    levels = [(dims, index[grids[0].patch if patch is None else patch]) for dims, patch in below]

    def block(grid: Grid) -> nn.Module:
        if config.spatial_mixing == "conv" and grid.positions > 1:
            return ConvBlock(grid, config.width)
        return MixerBlock(grid, config.width, relative=config.spatial_mixing == "relative")

    return Ladder(grids, first, levels, block, channels=config.width, depth=config.depth, width=TOP_WIDTH, **facts)


def ladder_grids(levels: str, patch: int | None, shape: tuple[int, ...], *, channels_last: bool = False) -> list[Grid]:
    """Return the grids of a ladder's levels, finest first, each twice as coarse as the one before.

    Parameters
    ----------
    levels, patch
        As in `ModelConfig`; `patch` None: the finest that `levels` names, else the default of `Grid.over`.
    shape
        Shape of an image or of a row of a table.
    channels_last
        Memory layout of the states, see `Grid`.

    Raises
    ------
    ConfigError
        If a level names patches that are not the finest doubled, or a finer level comes before a coarser one.
    """
    patches = [side for _, side in level_parts(levels)[1:]]
    named = [side for side in patches if side is not None]
    grids = [Grid.over(shape, min(named) if named and patch is None else patch, channels_last=channels_last)]
    finest, coarsest = grids[0], max(named, default=0)
    if named and finest.patch == 0:
        data = "a table" if len(shape) == 1 else f"`patch={patch}`"
        raise ConfigError(f"`levels`: got {levels} for {data}, which has no positions; expected numbers without @")
    while grids[-1].patch < coarsest and grids[-1].positions > 1:
        grids.append(grids[-1].coarser())
    known = [grid.patch for grid in grids]
    if unknown := [side for side in named if side not in known]:
        raise ConfigError(
            f"`levels`: got {levels}, with patches of {unknown[0]} pixels; expected the finest, {finest.patch}, "
            "doubled, up to the "
            f"side of the image: {', '.join(map(str, _doublings(finest)))}"
        )
    sizes = [finest.patch if side is None else side for side in patches]
    if sizes != sorted(sizes, reverse=True):
        raise ConfigError(f"`levels`: got {levels}; expected the largest patches first, from coarse to fine")
    return grids


def _doublings(grid: Grid) -> list[int]:
    patches = [grid.patch]
    while grid.positions > 1:
        grid = grid.coarser()
        patches.append(grid.patch)
    return patches
