"""The ladder: a top-down hierarchy of latents with the same interface as the model with a single latent vector.

Symbols: z₁ … z_L the latents of L levels from the top, sampled one after the other; h the deterministic state that carries
what has been sampled so far; e(x) the encoder's features. The generative model is p(z₁) Π p(z_l | z_<l) p(x | z), and the
posterior q(z_l | x, z_<l) is sampled in the same order, so both share the state h.

Latents are whitened. The prior of a level is N(m(h), s(h)²), and the z of this module is (latent − m)/s, which is N(0, I)
under the prior. The posterior is parameterised in these units, relative to the prior, so the rate of a level is the KL of
a Gaussian against N(0, I), in which neither m nor s occurs. Hence the model takes one vector of noise, like a model with a
single latent vector; with one level it is that model.

The top level has latent dimensions for the whole image. Every other level has some dimensions at each position of a grid;
coarse grids come first.

Attribute names of the modules (`rungs`, `look`, `place`, `enter`, …) are part of the checkpoint format.

Sources: Sønderby et al. 2016 (Ladder VAE); Kingma et al. 2016, section 4 and Maaløe et al. 2019 (top-down posterior);
Vahdat & Kautz 2020, section 3.2 (posterior relative to the prior).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Unpack, cast, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.models.base import Inference, Model, ModelArguments, bounded_gaussian
from vaelab.models.distributions import Gaussian, at_least_float32
from vaelab.models.spatial import (
    INIT_STD,
    Grid,
    PatchExpand,
    PatchMerge,
    PositionsToVector,
    State,
    VectorToPositions,
    add_to_state,
    channel_linear,
)

MAX_LOG_SCALE = 4.0
"""Bound of |log s|, the logarithm of a prior's scale, enforced by a tanh."""


@final
class TopLevel(nn.Module):
    """The first level: `latent_dim` dimensions for the whole image with prior N(0, I), from which the first state is made."""

    def __init__(self, latent_dim: int, classes: int, grid: Grid, channels: int, width: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.gather = PositionsToVector(grid.positions, channels, width)
        self.posterior = nn.Linear(width, 2 * latent_dim)
        _zero_init(self.posterior)
        self.spread = VectorToPositions(latent_dim + classes, grid, channels, width)

    def infer(self, features: State) -> Gaussian:
        """Return the posterior of each image, (batch, latent_dim)."""
        return bounded_gaussian(self.posterior(self.gather(features)))

    def first_state(self, latent: Float[Tensor, "batch d"], labels: Tensor | None) -> State:
        """Return the state on the coarsest grid, given the latent and one-hot labels."""
        return self.spread(latent if labels is None else torch.cat([latent, labels], dim=1))


@final
class LatentLevel(nn.Module):
    """A level below the top: prior and posterior given the state, and the update of the state.

    Parameters
    ----------
    block
        Applied to features plus state before the posterior is read off.
    dims
        Latent dimensions at each position.
    positions, channels
        N and C of the state.
    """

    def __init__(self, block: nn.Module, dims: int, positions: int, channels: int) -> None:
        super().__init__()
        self.dims, self.positions, self.latent_dim = dims, positions, dims * positions
        self.look = block
        self.posterior, self.prior = nn.Linear(channels, 2 * dims), nn.Linear(channels, 2 * dims)
        self.enter = nn.Linear(dims, channels)
        for layer in (self.posterior, self.prior):
            _zero_init(layer)

    def infer(self, features: State, state: State) -> Gaussian:
        """Return the whitened posterior given the levels above, (batch, positions · dims)."""
        output = channel_linear(self.posterior, F.silu(self.look(features + state)))
        mean, log_variance = output.chunk(2)
        return bounded_gaussian(torch.cat([self.as_vector(mean), self.as_vector(log_variance)], dim=-1))

    def update(self, state: State, latent: Float[Tensor, "batch d"]) -> State:
        """Return the state after this level's whitened latents, which enter as m + s·`latent`."""
        mean, log_scale = at_least_float32(channel_linear(self.prior, F.silu(state))).chunk(2)
        scale = torch.exp(MAX_LOG_SCALE * torch.tanh(log_scale / MAX_LOG_SCALE))
        at_positions = latent.unflatten(-1, (self.positions, self.dims)).permute(2, 1, 0)
        if state.stride(-1) == 1:  # in the memory order of the state, since every channel reads it
            at_positions = at_positions.contiguous()
        return add_to_state(state, channel_linear(self.enter, mean + scale * at_positions))

    @staticmethod
    def as_vector(values: Float[Tensor, "dims n batch"]) -> Float[Tensor, "batch d"]:
        """Return one row per image, position by position."""
        return values.permute(2, 1, 0).flatten(1)


@final
class Ladder(Model):
    """Hierarchical VAE: an encoder from the finest grid to the coarsest, latent levels on the way back, and an output layer.

    Parameters
    ----------
    grids
        Grids of states, the finest first, each twice as coarse as the one before.
    top_dim
        Latent dimensions of the top level.
    lower_levels
        For each other level, from the top: latent dimensions per position, and the index of its grid in `grids`, which
        must not increase.
    block
        Makes a residual block for states on a grid.
    channels
        C, the channels of every state.
    depth
        Encoder blocks on each grid. The decoder has one block after each level and after each step to a finer grid.
    width
        Units of the dense layers of the top level.
    common
        Arguments that all models share, see `Model`; `latent_dim` is the total over all levels.
    """

    def __init__(
        self,
        grids: Sequence[Grid],
        top_dim: int,
        lower_levels: Sequence[tuple[int, int]],
        block: Callable[[Grid], nn.Module],
        *,
        channels: int,
        depth: int,
        width: int,
        **common: Unpack[ModelArguments],
    ) -> None:
        super().__init__(**common)
        assert self.stochastic, "a ladder is a variational autoencoder"
        self.grid, coarsest = grids[0], grids[-1]
        self.grid_of_level = [index for _, index in lower_levels]
        assert self.grid_of_level == sorted(self.grid_of_level, reverse=True)
        # The encoder: `look` embeds the patches, `place` their positions; `coarser` leads to the next grid.
        self.look = nn.Linear(self.grid.values, channels)
        self.place = nn.Parameter(torch.zeros(self.grid.positions, 1, channels))
        self.label = nn.Linear(self.classes, self.grid.positions * channels, bias=False) if self.classes else None
        self.encoder = nn.Sequential(*[block(self.grid) for _ in range(depth)])
        self.coarser = nn.ModuleList(
            [
                nn.Sequential(PatchMerge(finer, channels), *[block(grid) for _ in range(depth)])
                for finer, grid in itertools.pairwise(grids)
            ]
        )
        # The levels from the top down: `rungs` are all but the top one; `blocks` has one entry per level.
        self.top = TopLevel(top_dim, self.classes, coarsest, channels, width)
        self.rungs = nn.ModuleList(
            [LatentLevel(block(grids[index]), dims, grids[index].positions, channels) for dims, index in lower_levels]
        )
        level_grids = [coarsest, *(grids[index] for index in self.grid_of_level)]
        self.blocks = nn.ModuleList([nn.Sequential(block(grid)) for grid in level_grids])
        self.finer = nn.ModuleList([nn.Sequential(PatchExpand(grid, channels), block(grid)) for grid in grids[:-1]])
        self.groups = tuple(self._level_dims())
        assert self.latent_dim == sum(self.groups)
        self.output = nn.Linear(channels, self.likelihood.n_parameters * self.grid.values, bias=False)
        nn.init.normal_(self.output.weight, std=INIT_STD)
        self.bias = nn.Parameter(torch.zeros(self.likelihood.n_parameters, *self.shape))

    def features(self, images: Float[Tensor, "batch *shape"], labels: Tensor | None) -> list[State]:
        """Return e(x, y) on every grid, the finest first; labels are one-hot."""
        patches = self.grid.patchify(self.standardise(images))
        state = add_to_state(channel_linear(self.look, patches), self.place.permute(2, 0, 1))
        if self.label is not None:
            state = state + self.label(labels).unflatten(1, (self.grid.positions, -1)).permute(2, 1, 0)
        states = [self.encoder(state)]
        for coarser in self.coarser:
            states.append(coarser(states[-1]))
        return states

    def posterior(self, images: Float[Tensor, "batch *shape"], labels: Tensor | None = None) -> Gaussian:
        """Return q(z|x[, y]), (batch, d): each level's posterior given the posterior means of the levels above."""
        noise = images.new_zeros(images.shape[0], self.latent_dim)
        return self._infer_top_down(images, labels, noise)[0]

    def likelihood_parameters(
        self, latent: Float[Tensor, "batch d"], labels: Tensor | None
    ) -> Float[Tensor, "batch *planes"]:
        """Run the top-down pass with all latents given."""
        first, *others = latent.split(self._level_dims(), dim=-1)
        state, index = self.blocks[0](self.top.first_state(first, labels)), len(self.finer)
        for (level, block, level_index), values in zip(self._lower_levels(), others, strict=True):
            state, index = self._to_finer(state, index, level_index), level_index
            state = block(level.update(state, values))
        return self._output_parameters(self._to_finer(state, index, 0))

    def forward(self, images: Tensor, labels: Tensor | None, noise: Float[Tensor, "*samples batch d"]) -> Inference:
        """Sample each level given those above, z_l = μ_l + σ_l·`noise`_l, and decode in the same pass."""
        posterior, latent, parameters = self._infer_top_down(images, labels, noise)
        return Inference(posterior, latent, posterior.rate(), self.likelihood_of(parameters))

    def infer_at(self, images: Tensor, labels: Tensor | None, latent: Float[Tensor, "*samples batch d"]) -> Inference:
        """Return the pass that would have sampled `latent`: each level's posterior given the latents above."""
        posterior, _, parameters = self._infer_top_down(images, labels, latent, are_latents=True)
        return Inference(posterior, latent, posterior.rate(), self.likelihood_of(parameters))

    def output_bias(self) -> Tensor | None:
        """Return the bias, which has one number per value and parameter."""
        return self.bias

    def _infer_top_down(
        self,
        images: Tensor,
        labels: Tensor | None,
        values: Float[Tensor, "*samples batch d"],
        *,
        are_latents: bool = False,
    ) -> tuple[Gaussian, Tensor, Tensor]:
        """Return posterior, latents and likelihood parameters; `values` are noise, or with `are_latents` the latents.

        The encoder runs once per image, however many samples of z there are.
        """

        def sample(posterior: Gaussian, values: Tensor) -> Tensor:
            return values if are_latents else posterior.sample(values)

        samples = values.shape[:-2]
        one_hot = self.one_hot(labels)
        features = self.features(images, one_hot)
        if samples:
            count = math.prod(samples)
            features = [self.grid.repeat_batch(each, count) for each in features]
            one_hot = None if one_hot is None else one_hot.repeat(count, 1)
        first, *others = values.flatten(0, -2).split(self._level_dims(), dim=-1)
        posteriors = [self.top.infer(features[-1])]
        latents = [sample(posteriors[0], first)]
        state, index = self.blocks[0](self.top.first_state(latents[0], one_hot)), len(self.finer)
        for (level, block, level_index), level_values in zip(self._lower_levels(), others, strict=True):
            state, index = self._to_finer(state, index, level_index), level_index
            posteriors.append(level.infer(features[index], state))
            latents.append(sample(posteriors[-1], level_values))
            state = block(level.update(state, latents[-1]))

        def joined(parts: list[Tensor]) -> Tensor:
            return torch.cat(parts, dim=-1).unflatten(0, values.shape[:-1])

        mean, log_variance = joined([p.mean for p in posteriors]), joined([p.log_variance for p in posteriors])
        parameters = self._output_parameters(self._to_finer(state, index, 0)).unflatten(0, values.shape[:-1])
        return Gaussian(mean, log_variance), joined(latents), parameters

    def _to_finer(self, state: State, index: int, target: int) -> State:
        """Bring a state from the grid with this index to the finer one with index `target`."""
        for finer in reversed(self.finer[target:index]):
            state = finer(state)
        return state

    def _lower_levels(self) -> Iterator[tuple[LatentLevel, nn.Module, int]]:
        """Yield each level below the top, the block that follows it, and the index of its grid."""
        for level, block, index in zip(self.rungs, self.blocks[1:], self.grid_of_level, strict=True):
            yield cast(LatentLevel, level), block, index

    def _level_dims(self) -> list[int]:
        return [self.top.latent_dim, *(cast(LatentLevel, level).latent_dim for level in self.rungs)]

    def _output_parameters(self, state: State) -> Float[Tensor, "batch planes *shape"]:
        patches = channel_linear(self.output, F.silu(state))
        return self.grid.unpatchify(patches, self.likelihood.n_parameters) + self.bias


def _zero_init(layer: nn.Linear) -> None:
    """Initialise a last layer at zero, so that the posterior starts as the prior."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
