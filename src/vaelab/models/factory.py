"""From a resolved configuration to its model."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vaelab.config import ResolvedModelConfig, is_custom_likelihood, level_parts
from vaelab.models.base import Model, ModelArguments
from vaelab.models.custom import build_decoder, build_encoder
from vaelab.models.hierarchical import Ladder
from vaelab.models.likelihoods import expect_likelihood, likelihood_class
from vaelab.models.moments import Moments
from vaelab.models.pca import start_as_pca
from vaelab.models.spatial import ConvBlock, Grid, MixerBlock
from vaelab.models.two_colour import ColourHead, TwoColourDecoder, TwoColourEncoder, set_colours
from vaelab.models.two_level import TwoLevelVAE
from vaelab.models.vae import SingleLatentVAE

TOP_WIDTH = 256  # units of the dense layers around the first level of a hierarchy


def build_model(config: ResolvedModelConfig, shape: tuple[int, ...], classes: int, *, seed: int = 0) -> Model:
    """Return the model of `config` with initial weights from `seed`; the global random state is left unchanged.

    `shape` is that of an image, (C, H, W), or of a row of a table, (D,); `classes` is the number of classes in the data. A
    ConfigError if the network does not accept images of this shape, or a custom network cannot be imported or does not fit.
    """
    if is_custom_likelihood(config.likelihood):
        expect_likelihood(config.likelihood, shape)
    common: ModelArguments = {
        "latent_dim": config.latent_dim,
        "likelihood": config.likelihood,
        "shape": shape,
        "classes": classes if config.model == "cvae" else 0,
        "stochastic": config.model != "ae",
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if config.network == "ladder":
            model = _ladder(config, common)
        elif config.network == "pca":
            model = TwoLevelVAE(width=config.width, depth=config.depth, upper_width=TOP_WIDTH, **common)
        elif config.network == "two-colour":
            model = _two_colour(config, common)
        else:
            model = _single_latent(config, common)
    model.config = config
    # Convolutions are a fifth faster with the channels of a pixel adjacent in memory; the results are the same.
    return model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] - nn.Module's stub lacks it


def start_from_images(model: Model, images: Tensor, moments: Moments) -> None:
    """Set the weights and units of a new model that are computed from the training images, uint8 (N, C, H, W) or rows (N, D).

    `moments` are theirs.
    """
    model.initialise_from_data(moments)
    if isinstance(model, TwoLevelVAE):
        start_as_pca(model, images)
    if isinstance(model, SingleLatentVAE) and isinstance(model.encoder, TwoColourEncoder):
        assert isinstance(model.decoder, TwoColourDecoder)
        model.location.zero_()  # its colours are those of the image, not of the difference from the mean image
        set_colours(model.encoder, model.decoder, images)


def _two_colour(config: ResolvedModelConfig, common: ModelArguments) -> SingleLatentVAE:
    shape, classes, sizes = common["shape"], common["classes"], (config.width, config.depth)
    encoder = TwoColourEncoder(shape, classes, *sizes)
    decoder = TwoColourDecoder(shape, config.latent_dim, classes, *sizes)
    head = ColourHead(config.width, config.latent_dim, stochastic=common["stochastic"])
    return SingleLatentVAE(encoder, decoder, head=head, **common)


def _single_latent(config: ResolvedModelConfig, common: ModelArguments) -> SingleLatentVAE:
    shape, classes = common["shape"], common["classes"]
    encoder, features = build_encoder(config, shape, classes)
    decoder = build_decoder(config, shape, likelihood_class(config.likelihood).n_parameters, classes)
    outputs = config.latent_dim * (2 if common["stochastic"] else 1)
    return SingleLatentVAE(encoder, decoder, head=nn.Linear(features, outputs), **common)


def _ladder(config: ResolvedModelConfig, common: ModelArguments) -> Ladder:
    (first, _), *below = level_parts(config.levels)
    patches = [config.patch if patch is None else patch for _, patch in below]
    # The finest grid, doubled up to the coarsest that a level is on; the state between two such grids has no level.
    grids = [Grid.over(common["shape"], config.patch, channels_last=config.spatial_mixing == "conv")]
    while grids[-1].patch < max(patches, default=0):
        grids.append(grids[-1].coarser())
    index = {grid.patch: number for number, grid in enumerate(grids)}
    levels = [(dims, index[patch]) for (dims, _), patch in zip(below, patches, strict=True)]

    def block(grid: Grid) -> nn.Module:
        if config.spatial_mixing == "conv" and grid.positions > 1:
            return ConvBlock(grid, config.width)
        return MixerBlock(grid, config.width, relative=config.spatial_mixing == "relative")

    return Ladder(grids, first, levels, block, channels=config.width, depth=config.depth, width=TOP_WIDTH, **common)
