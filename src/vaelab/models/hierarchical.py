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

Attribute names of the modules are part of the checkpoint format, and some are older than the terms used here: `rungs` are the
levels below the top, `look` embeds what a posterior or the encoder reads, `place` is a position embedding, and `enter` maps
latents into the state.

Sources: Sønderby et al. 2016 (Ladder VAE); Kingma et al. 2016, section 4 and Maaløe et al. 2019 (top-down posterior);
Vahdat & Kautz 2020, section 3.2 (posterior relative to the prior).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Unpack, cast, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vaelab.models.base import Inference, Model, ModelArguments, bounded_gaussian
from vaelab.models.distributions import Gaussian, at_least_float32
from vaelab.models.networks import with_labels
from vaelab.models.spatial import (
    Grid,
    PatchExpand,
    PatchMerge,
    PositionsToVector,
    State,
    VectorToPositions,
    add_to_state,
    channel_linear,
)

MAX_LOG_SCALE = 4.0  # bound of |log s|, the logarithm of a prior's scale, enforced by a tanh


@final
class TopLevel(nn.Module):
    """The first level: `latent_dim` dimensions for the whole image with prior N(0, I), from which the first state is made."""

    def __init__(self, latent_dim: int, classes: int, grid: Grid, channels: int, width: int) -> None:
        super().__init__()
        self.gather = PositionsToVector(grid.positions, channels, width)
        self.posterior = nn.Linear(width, 2 * latent_dim)
        _zero_init(self.posterior)
        self.spread = VectorToPositions(latent_dim + classes, grid, channels, width)

    def infer(self, features: State) -> Gaussian:
        """Return the posterior of each image, (batch, latent_dim)."""
        return bounded_gaussian(self.posterior(self.gather(features)))

    def first_state(self, latent: Float[Tensor, "batch d"], one_hot: Tensor | None) -> State:
        """Return the state on the coarsest grid."""
        return self.spread(with_labels(latent, one_hot))


@final
class LatentLevel(nn.Module):
    """A level below the top: prior and posterior given the state, and the update of the state.

    `block` is applied to features plus state before the posterior is read off; `dims` are latent dimensions at each position.
    """

    def __init__(self, block: nn.Module, dims: int, positions: int, channels: int) -> None:
        super().__init__()
        self.dims, self.positions = dims, positions
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
        For each other level, from the top: latent dimensions per position, and the index of its grid, which must not increase.
    block
        Makes a residual block for states on a grid.
    channels
        C, the channels of every state.
    depth
        Encoder blocks on each grid. The decoder has one block after each level and after each step to a finer grid.
    width
        Units of the dense layers of the top level.
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
        self.groups = (top_dim, *(dims * grids[index].positions for dims, index in lower_levels))
        assert self.latent_dim == sum(self.groups)
        self.output = nn.Linear(channels, self.likelihood_type.n_parameters * self.grid.values, bias=False)
        nn.init.zeros_(self.output.weight)
        self.bias = nn.Parameter(torch.zeros(self.likelihood_type.n_parameters, *self.shape))

    def features(self, images: Float[Tensor, "batch *shape"], one_hot: Tensor | None) -> list[State]:
        """Return e(x, y) on every grid, the finest first."""
        patches = self.grid.patchify(self.standardise(images))
        state = add_to_state(channel_linear(self.look, patches), self.place.permute(2, 0, 1))
        if self.label is not None:
            state = state + self.label(one_hot).unflatten(1, (self.grid.positions, -1)).permute(2, 1, 0)
        states = [self.encoder(state)]
        for coarser in self.coarser:
            states.append(coarser(states[-1]))
        return states

    def posterior(self, images: Float[Tensor, "batch *shape"], labels: Tensor | None = None) -> Gaussian:
        """Return q(z|x[, y]), (batch, d): each level's posterior given the posterior means of the levels above.

        It costs a full pass, because the levels need the state of the decoder.
        """
        return self.forward(images, labels, images.new_zeros(images.shape[0], self.latent_dim)).posterior

    def likelihood_parameters(
        self, latent: Float[Tensor, "batch d"], one_hot: Float[Tensor, "batch k"] | None
    ) -> Float[Tensor, "batch planes *shape"]:
        parts = latent.split(self.groups, dim=-1)
        return self._top_down(lambda number, *_: parts[number], one_hot)

    def forward(self, images: Tensor, labels: Tensor | None, noise: Float[Tensor, "*samples batch d"]) -> Inference:
        """Sample each level given those above, z_l = μ_l + σ_l·`noise`_l, and decode in the same pass."""
        return self._infer(images, labels, noise, Gaussian.sample)

    def infer_at(self, images: Tensor, labels: Tensor | None, latent: Float[Tensor, "*samples batch d"]) -> Inference:
        """Return the pass that would have sampled `latent`: each level's posterior given the latents above."""
        return self._infer(images, labels, latent, lambda _, latent: latent)

    def output_bias(self) -> Tensor | None:
        """Return the bias: one number per value and parameter."""
        return self.bias

    def _infer(
        self, images: Tensor, labels: Tensor | None, values: Tensor, sample: Callable[[Gaussian, Tensor], Tensor]
    ) -> Inference:
        """Return the pass whose latents are `sample(posterior, values)` of each level.

        The encoder runs once per image, however many samples of z there are.
        """
        samples, one_hot = values.shape[:-2], self.one_hot(labels)
        features = self.features(images, one_hot)
        if samples:
            count = math.prod(samples)
            features = [self.grid.repeat_batch(each, count) for each in features]
            one_hot = None if one_hot is None else one_hot.repeat(count, 1)
        parts = values.flatten(0, -2).split(self.groups, dim=-1)
        means, log_variances, latents = list[Tensor](), list[Tensor](), list[Tensor]()

        def latent_of(number: int, grid: int, state: State | None) -> Tensor:
            if state is None:
                posterior = self.top.infer(features[grid])
            else:
                posterior = cast(LatentLevel, self.rungs[number - 1]).infer(features[grid], state)
            means.append(posterior.mean)
            log_variances.append(posterior.log_variance)
            latents.append(sample(posterior, parts[number]))
            return latents[-1]

        parameters = self._top_down(latent_of, one_hot).unflatten(0, values.shape[:-1])
        mean, log_variance, latent = (
            torch.cat(each, dim=-1).unflatten(0, values.shape[:-1]) for each in (means, log_variances, latents)
        )
        posterior = Gaussian(mean, log_variance)
        return Inference(posterior, latent, posterior.rate(), self.likelihood_of(parameters))

    def _top_down(
        self, latent_of: Callable[[int, int, State | None], Tensor], one_hot: Tensor | None
    ) -> Float[Tensor, "batch planes *shape"]:
        """Return the likelihood's parameters, from the top level down.

        `latent_of` returns the latents of a level, (batch, d), from its number, the index of its grid, and the state before it
        (None for the top level).
        """
        index = len(self.finer)
        state = self.blocks[0](self.top.first_state(latent_of(0, index, None), one_hot))
        for number, (level, target) in enumerate(zip(self.rungs, self.grid_of_level, strict=True), start=1):
            state, index = self._to_finer(state, index, target), target
            state = cast(LatentLevel, level).update(state, latent_of(number, index, state))
            state = self.blocks[number](state)
        patches = channel_linear(self.output, F.silu(self._to_finer(state, index, 0)))
        return self.grid.unpatchify(patches, self.likelihood_type.n_parameters) + self.bias

    def _to_finer(self, state: State, index: int, target: int) -> State:
        """Bring a state from the grid with this index to the finer one with index `target`."""
        for finer in reversed(self.finer[target:index]):
            state = finer(state)
        return state


def _zero_init(layer: nn.Linear) -> None:
    """Initialise a last layer at zero, so that the posterior starts as the prior."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
