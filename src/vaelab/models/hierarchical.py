"""The ladder: a top-down hierarchy of latents behind the same verbs as the flat model.

Symbols: z₁ … z_R the latents of R rungs, from the top, drawn one after the other; h the deterministic state that carries
what was drawn so far; e(x) the encoder's features. The generative model is p(z₁) Π p(z_r | z_<r) p(x | z), its posterior
q(z_r | x, z_<r) on the same way down, so it shares the state h with the model that it is the posterior of.

Latents are whitened: a rung's prior is N(m(h), s(h)²), and what the ladder calls z is (latent − m)/s, which is N(0, I)
under the prior. The posterior is given in these units, that is relative to the prior, and its rate is that of a Gaussian
against N(0, I), rung by rung: neither m nor s occurs in it. So one vector of noise drives the model, as in a flat one,
and with one rung it is the flat model.

The first rung is for the whole image; the others have some dimensions at each position of a grid, the coarser grids first.

Sources: Sønderby et al. 2016 (Ladder VAE); Kingma et al. 2016, section 4 and Maaløe et al. 2019 (the top-down posterior);
Vahdat & Kautz 2020, section 3.2 (a posterior relative to the prior).
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
"""The logarithm of a prior's scale stays within ± this, by a tanh."""


@final
class TopLevel(nn.Module):
    """The first rung: `latent_dim` dimensions for the whole image, with prior N(0, I), and the state that begins with them."""

    def __init__(self, latent_dim: int, classes: int, grid: Grid, channels: int, width: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.gather = PositionsToVector(grid.positions, channels, width)
        self.posterior = nn.Linear(width, 2 * latent_dim)
        _zero_init(self.posterior)
        self.spread = VectorToPositions(latent_dim + classes, grid, channels, width)

    def infer(self, features: State) -> Gaussian:
        """The posterior of each image, (batch, latent_dim)."""
        return bounded_gaussian(self.posterior(self.gather(features)))

    def begin(self, latent: Float[Tensor, "batch d"], labels: Tensor | None) -> State:
        """The first state."""
        return self.spread(latent if labels is None else torch.cat([latent, labels], dim=1))


@final
class LatentLevel(nn.Module):
    """A rung below: its prior and its posterior, given the state, and the state after it; `each` dimensions a position."""

    def __init__(self, block: nn.Module, each: int, positions: int, channels: int) -> None:
        super().__init__()
        self.each, self.positions, self.latent_dim = each, positions, each * positions
        self.look = block
        self.posterior, self.prior = nn.Linear(channels, 2 * each), nn.Linear(channels, 2 * each)
        self.enter = nn.Linear(each, channels)
        for layer in (self.posterior, self.prior):
            _zero_init(layer)

    def infer(self, features: State, state: State) -> Gaussian:
        """The whitened posterior given what was drawn above, (batch, positions · each)."""
        output = channel_linear(self.posterior, F.silu(self.look(features + state)))
        mean, log_variance = output.chunk(2)
        return bounded_gaussian(torch.cat([self.as_vector(mean), self.as_vector(log_variance)], dim=-1))

    def move(self, state: State, noise: Float[Tensor, "batch d"]) -> State:
        """The state after whitened latents: `noise` is put in the prior's units first."""
        mean, log_scale = at_least_float32(channel_linear(self.prior, F.silu(state))).chunk(2)
        scale = torch.exp(MAX_LOG_SCALE * torch.tanh(log_scale / MAX_LOG_SCALE))
        placed = noise.unflatten(-1, (self.positions, self.each)).permute(2, 1, 0)
        if state.stride(-1) == 1:  # as the state lies in memory, since every channel reads it
            placed = placed.contiguous()
        return add_to_state(state, channel_linear(self.enter, mean + scale * placed))

    @staticmethod
    def as_vector(values: Float[Tensor, "each n batch"]) -> Float[Tensor, "batch d"]:
        """One row per image, position by position."""
        return values.permute(2, 1, 0).flatten(1)


@final
class Ladder(Model):
    """An encoder from the finest grid to the coarsest, rungs on the way back, and patches of parameters at the end.

    Parameters
    ----------
    grids
        How images are cut, the finest first, each twice as coarse as the one before it.
    first
        Latent dimensions of the first rung, of the whole image.
    below
        Latent dimensions of each other rung at each position, and which of the `grids` it lies on: the coarsest first.
    block
        Makes a residual block for states on a grid.
    channels, depth, width
        C; blocks of the encoder on each grid (after each rung, and on coming to a finer grid, there is one); units of the dense
        layers of the first rung.
    common
        What every model has, see `Model`; its `latent_dim` is that of all rungs together.
    """

    def __init__(
        self,
        grids: Sequence[Grid],
        first: int,
        below: Sequence[tuple[int, int]],
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
        self.levels = [level for _, level in below]
        assert self.levels == sorted(self.levels, reverse=True)
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
        self.top = TopLevel(first, self.classes, coarsest, channels, width)
        self.rungs = nn.ModuleList(
            [LatentLevel(block(grids[level]), each, grids[level].positions, channels) for each, level in below]
        )
        places = [coarsest, *(grids[level] for level in self.levels)]
        self.blocks = nn.ModuleList([nn.Sequential(block(grid)) for grid in places])
        self.finer = nn.ModuleList([nn.Sequential(PatchExpand(grid, channels), block(grid)) for grid in grids[:-1]])
        self.groups = tuple(self._level_dims())
        assert self.latent_dim == sum(self.groups)
        self.output = nn.Linear(channels, self.likelihood.n_parameters * self.grid.values, bias=False)
        nn.init.normal_(self.output.weight, std=INIT_STD)
        self.bias = nn.Parameter(torch.zeros(self.likelihood.n_parameters, *self.shape))

    def features(self, images: Float[Tensor, "batch *shape"], labels: Tensor | None) -> list[State]:
        """e(x, y) for one-hot labels: on every grid, the finest first."""
        state = add_to_state(
            channel_linear(self.look, self.grid.patchify(self.standardise(images))), self.place.permute(2, 0, 1)
        )
        if self.label is not None:
            state = state + self.label(labels).unflatten(1, (self.grid.positions, -1)).permute(2, 1, 0)
        found = [self.encoder(state)]
        for coarser in self.coarser:
            found.append(coarser(found[-1]))
        return found

    def posterior(self, images: Float[Tensor, "batch *shape"], labels: Tensor | None = None) -> Gaussian:
        """Of each image: (batch, d), each rung's given the posterior means of the rungs above."""
        noise = images.new_zeros(images.shape[0], self.latent_dim)
        return self._top_down(images, labels, noise)[0]

    def likelihood_parameters(
        self, latent: Float[Tensor, "batch d"], labels: Tensor | None
    ) -> Float[Tensor, "batch *planes"]:
        """By the way down, with every latent given."""
        first, *others = latent.split(self._level_dims(), dim=-1)
        state, level = self.blocks[0](self.top.begin(first, labels)), len(self.finer)
        for rung, at, block, values in zip(self._lower_levels(), self.levels, self.blocks[1:], others, strict=True):
            state, level = self._refine(state, level, at), at
            state = block(rung.move(state, values))
        return self._decode_state(self._refine(state, level, 0))

    def forward(self, images: Tensor, labels: Tensor | None, noise: Float[Tensor, "*samples batch d"]) -> Inference:
        """Each rung's z drawn given those above, z_r = μ_r + σ_r·`noise`_r, and decoded on the same way."""
        posterior, latent, parameters = self._top_down(images, labels, noise)
        return Inference(posterior, latent, posterior.rate(), self.likelihood_of(parameters))

    def infer_at(self, images: Tensor, labels: Tensor | None, latent: Float[Tensor, "*samples batch d"]) -> Inference:
        """Each rung's posterior given the latents above it."""
        posterior, _, parameters = self._top_down(images, labels, latent, given=True)
        return Inference(posterior, latent, posterior.rate(), self.likelihood_of(parameters))

    def output_bias(self) -> Tensor | None:
        """One for every value."""
        return self.bias

    def _top_down(
        self, images: Tensor, labels: Tensor | None, noise: Float[Tensor, "*samples batch d"], *, given: bool = False
    ) -> tuple[Gaussian, Tensor, Tensor]:
        """Posterior, latents and parameters; the encoder runs once for an image, however many its samples.

        With `given`, `noise` are the latents themselves.
        """

        def drawn(posterior: Gaussian, values: Tensor) -> Tensor:
            return values if given else posterior.sample(values)

        samples = noise.shape[:-2]
        one_hot = self.one_hot(labels)
        features = self.features(images, one_hot)
        if samples:
            count = math.prod(samples)
            features = [self.grid.repeat_batch(each, count) for each in features]
            one_hot = None if one_hot is None else one_hot.repeat(count, 1)
        first, *others = noise.flatten(0, -2).split(self._level_dims(), dim=-1)
        posteriors = [self.top.infer(features[-1])]
        latents = [drawn(posteriors[0], first)]
        state, level = self.blocks[0](self.top.begin(latents[0], one_hot)), len(self.finer)
        for rung, at, block, values in zip(self._lower_levels(), self.levels, self.blocks[1:], others, strict=True):
            state, level = self._refine(state, level, at), at
            posteriors.append(rung.infer(features[at], state))
            latents.append(drawn(posteriors[-1], values))
            state = block(rung.move(state, latents[-1]))

        def as_given(parts: list[Tensor]) -> Tensor:
            return torch.cat(parts, dim=-1).unflatten(0, noise.shape[:-1])

        mean, log_variance = as_given([p.mean for p in posteriors]), as_given([p.log_variance for p in posteriors])
        parameters = self._decode_state(self._refine(state, level, 0)).unflatten(0, noise.shape[:-1])
        return Gaussian(mean, log_variance), as_given(latents), parameters

    def _refine(self, state: State, level: int, to: int) -> State:
        """A state on the grid of number `level`, brought to the finer one of number `to`."""
        for finer in reversed(self.finer[to:level]):
            state = finer(state)
        return state

    def _lower_levels(self) -> list[LatentLevel]:
        return [cast(LatentLevel, rung) for rung in self.rungs]

    def _level_dims(self) -> list[int]:
        return [self.top.latent_dim, *(rung.latent_dim for rung in self._lower_levels())]

    def _decode_state(self, state: State) -> Float[Tensor, "batch planes *shape"]:
        return (
            self.grid.unpatchify(channel_linear(self.output, F.silu(state)), self.likelihood.n_parameters) + self.bias
        )


def _zero_init(layer: nn.Linear) -> None:
    """Start a last layer at zero: its posterior then is the prior."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
