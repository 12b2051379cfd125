"""States that have a place: an image cut into patches, one vector per patch, and the layers that work on such states.

A state is (C, N, batch): C channels, and N positions, rows × columns of a grid. In memory its images are innermost: a product
over channels is one large matrix product then, and products over positions are one for every channel, with nothing to move
between the two; and what lies between them runs over as many images as a processor takes at once. Convolutions want the
channels innermost, and a state that they work on has them so; its shape is the same. A table, or a dense network, is a grid
of one position.

Sources: Shi et al. 2016 (space to depth and back); Tolstikhin et al. 2021, MLP-Mixer (products over positions and over
channels in turn); He et al. 2016 (residual blocks).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

MAX_POSITIONS = 64
"""Positions that a grid has at the most where the size of the patches is left open."""

State = Float[Tensor, "c n batch"]
"""C channels at N positions of every image."""

FREE_HEADS = 4
"""Groups of channels, each of which a `MixerBlock` gives a free matrix over positions of its own."""

RELATIVE_HEADS = 16
"""The same where the matrices are relative: they have fewer weights, and more of them pay."""

INIT_STD = 0.02
"""Standard deviation of the initial weights of a block's last layer: a block starts close to doing nothing."""


@final
@dataclass(frozen=True)
class Grid:
    """How an image (channels, H, W) is cut: `rows` × `columns` patches of `patch` pixels a side, the last ones padded.

    With `patch` 0 all values are one patch, as those of a table's row always are. `channels_last` says that states on it have
    their channels innermost in memory, for convolutions, and not the images.
    """

    shape: tuple[int, ...]
    rows: int
    columns: int
    patch: int
    channels_last: bool = False

    @staticmethod
    def over(shape: tuple[int, ...], patch: int | None = None, *, channels_last: bool = False) -> Grid:
        """The grid over such images; by default with the smallest even patches that leave at most `MAX_POSITIONS`."""
        if len(shape) == 1 or patch == 0:
            return Grid(shape, 1, 1, 0, channels_last)
        height, width = shape[1:]

        def positions(size: int) -> int:
            return math.ceil(height / size) * math.ceil(width / size)

        if patch is None:
            patch = 2
            while positions(patch) > MAX_POSITIONS:
                patch += 2
        return Grid(shape, math.ceil(height / patch), math.ceil(width / patch), patch, channels_last)

    def coarser(self) -> Grid:
        """The grid of patches twice as wide and high."""
        return Grid.over(self.shape, 2 * self.patch, channels_last=self.channels_last)

    @property
    def positions(self) -> int:
        """N."""
        return self.rows * self.columns

    @property
    def values(self) -> int:
        """Values of the data in one patch, over all colour channels."""
        return self.shape[0] * self.patch**2 if self.patch else math.prod(self.shape)

    def patchify(self, images: Float[Tensor, "batch *shape"]) -> Float[Tensor, "values n batch"]:
        """Patches of images; padded with zeros to the right and below."""
        if not self.patch:
            return images.flatten(1).t().unsqueeze(1)
        below = self.rows * self.patch - images.shape[-2]
        right = self.columns * self.patch - images.shape[-1]
        if below or right:
            images = F.pad(images, (0, right, 0, below))
        if self.channels_last:
            wide = images.view(-1, self.shape[0], self.rows, self.patch, self.columns, self.patch)
            return wide.permute(0, 2, 4, 1, 3, 5).reshape(-1, self.positions, self.values).permute(2, 1, 0)
        turned = images.flatten(1).t().contiguous()  # by itself: two simple copies are quicker than one that does all
        turned = turned.view(self.shape[0], self.rows, self.patch, self.columns, self.patch, -1)
        return turned.permute(0, 2, 4, 1, 3, 5).reshape(self.values, self.positions, -1)

    def unpatchify(self, patches: Float[Tensor, "values n batch"], planes: int) -> Float[Tensor, "batch planes *shape"]:
        """What `cut` cut, put together again; `planes` images are cut together, as if they were colour channels."""
        batch = patches.shape[-1]
        if not self.patch:
            return patches.flatten(1).t().reshape(batch, planes, *self.shape)
        sizes = (planes, self.shape[0], self.rows * self.patch, self.columns * self.patch)
        if self.channels_last:
            deep = patches.permute(2, 1, 0).reshape(
                batch, self.rows, self.columns, planes, self.shape[0], self.patch, self.patch
            )
            joined = deep.permute(0, 3, 4, 1, 5, 2, 6).reshape(batch, *sizes)
        else:
            wide = patches.view(planes, self.shape[0], self.patch, self.patch, self.rows, self.columns, batch)
            turned = wide.permute(0, 1, 4, 2, 5, 3, 6).contiguous().view(-1, batch)
            joined = turned.t().reshape(batch, *sizes)
        return joined[..., : self.shape[1], : self.shape[2]]

    def to_memory_order(self, state: State) -> State:
        """The same in the order in memory of this grid's states."""
        return state.permute(2, 1, 0).contiguous().permute(2, 1, 0) if self.channels_last else state.contiguous()

    def repeat_batch(self, state: State, count: int) -> State:
        """Its images `count` times, one after another."""
        if self.channels_last:
            return state.permute(2, 1, 0).repeat(count, 1, 1).permute(2, 1, 0)
        return state.repeat(1, 1, count)


def channel_linear(layer: nn.Linear, state: State) -> Float[Tensor, "k n batch"]:
    """A dense layer over the channels of a state, the same at every position."""
    if layer.in_features == 1:  # by hand: it then goes into the kernel around it
        made = layer.weight.unsqueeze(-1) * state
    elif state.stride(0) == 1 and state.shape[1] > 1:  # the channels are innermost, and stay so
        return F.linear(state.permute(2, 1, 0), layer.weight, layer.bias).permute(2, 1, 0)
    else:
        made = (layer.weight @ state.flatten(1)).unflatten(1, state.shape[1:])
    return made if layer.bias is None else add_to_state(made, layer.bias.view(-1, 1, 1))


def add_to_state(state: State, added: Tensor) -> State:
    """Their sum, in the precision that the state is kept in: float32 weights do not make a bfloat16 state a float32 one."""
    return (state + added).to(state.dtype)


def offset_one_hot(count: int) -> Float[Tensor, "2*count-1 count*count"]:
    """A 1 where two of `count` places in a row lie so far apart, each pair a column: by how far, from −(count − 1).

    A product with it makes a matrix of a kernel, and its gradient is a product too: to look each entry up, and to add the
    gradients up by number, takes several times as long.
    """
    place = torch.arange(count)
    return F.one_hot(place[:, None] - place + count - 1, 2 * count - 1).flatten(0, 1).t().float().contiguous()


@final
class MixerBlock(nn.Module):
    """A residual block: every position hears of every other, then the channels of each pass a hidden layer.

    x ← x + V·SiLU(W·(T x) + b) + c, T a matrix over positions for each of some groups of channels, W and V matrices over
    channels that all positions share. T starts half as the identity. With one position there is no T.

    T is free, or `relative`: what a position hears of another then hangs on where that lies from it alone. That is a
    convolution with a kernel as large as the grid, of (2 rows − 1) × (2 columns − 1) weights.
    """

    down: Float[Tensor, "2*rows-1 rows*rows"] | None
    across: Float[Tensor, "2*columns-1 columns*columns"] | None

    def __init__(self, grid: Grid, channels: int, *, relative: bool = False) -> None:
        super().__init__()
        self.grid = grid
        self.heads = math.gcd(channels, RELATIVE_HEADS) if relative else FREE_HEADS if channels % FREE_HEADS == 0 else 1
        positions = grid.positions
        for name, count in (("down", grid.rows), ("across", grid.columns)):
            self.register_buffer(name, offset_one_hot(count) if relative and positions > 1 else None, persistent=False)
        if positions > 1:
            if relative:
                start = torch.randn(self.heads, 2 * grid.rows - 1, 2 * grid.columns - 1) / math.sqrt(positions)
                start[:, grid.rows - 1, grid.columns - 1] += 1
            else:
                start = torch.randn(self.heads, positions, positions) / math.sqrt(positions) + torch.eye(positions)
            self.between = nn.Parameter(0.5 * start)
            self.place = nn.Parameter(torch.zeros(positions, 1, 1))
        else:
            self.between = self.place = None
        self.inner, self.outer = nn.Linear(channels, channels), nn.Linear(channels, channels)
        nn.init.normal_(self.outer.weight, std=INIT_STD)
        nn.init.zeros_(self.outer.bias)

    def mixing_matrices(self) -> Float[Tensor, "heads n n"]:
        """T of each group of channels."""
        assert self.between is not None
        if self.down is None or self.across is None:
            return self.between
        with torch.autocast(self.between.device.type, enabled=False):  # sums of one number and zeros, which are exact
            each = self.down.t() @ self.between.transpose(0, 1).flatten(1)
            pairs = each.view(-1, 2 * self.grid.columns - 1) @ self.across
        rows, columns = 2 * [self.grid.rows], 2 * [self.grid.columns]
        return (
            pairs.view(*rows, self.heads, *columns)
            .permute(2, 0, 3, 1, 4)
            .reshape(self.heads, *2 * [self.grid.positions])
        )

    def forward(self, state: State) -> State:
        heard = state
        if self.place is not None:
            grouped = state.unflatten(0, (self.heads, -1))
            heard = add_to_state(
                torch.matmul(self.mixing_matrices().unsqueeze(1), grouped).flatten(0, 1), self.place.squeeze(-1)
            )
        return state + channel_linear(self.outer, F.silu(channel_linear(self.inner, heard)))


@final
class ConvBlock(nn.Module):
    """`MixerBlock` with a 3×3 convolution over the grid in place of the matrix over positions and the first one over channels."""

    def __init__(self, grid: Grid, channels: int) -> None:
        super().__init__()
        self.grid = grid
        self.inner, self.outer = nn.Conv2d(channels, channels, 3, padding=1), nn.Linear(channels, channels)
        nn.init.normal_(self.outer.weight, std=INIT_STD)
        nn.init.zeros_(self.outer.bias)

    def forward(self, state: State) -> State:
        plane = state.unflatten(1, (self.grid.rows, self.grid.columns)).permute(3, 0, 1, 2)
        heard = self.inner(plane).permute(1, 2, 3, 0).flatten(1, 2)
        return state + channel_linear(self.outer, F.silu(heard))


@final
class PatchMerge(nn.Module):
    """From a grid to the next coarser one: 2×2 positions side by side, padded with zeros, and one dense layer."""

    def __init__(self, grid: Grid, channels: int) -> None:
        super().__init__()
        self.grid = grid
        self.layer = nn.Linear(4 * channels, channels)

    def forward(self, state: State) -> State:
        plane = state.unflatten(1, (self.grid.rows, self.grid.columns))
        plane = F.pad(plane, (0, 0, 0, self.grid.columns % 2, 0, self.grid.rows % 2))
        four = torch.cat([plane[:, down::2, right::2] for down in (0, 1) for right in (0, 1)])
        return channel_linear(self.layer, self.grid.to_memory_order(four.flatten(1, 2)))


@final
class PatchExpand(nn.Module):
    """The way back: one dense layer makes 2×2 positions of each, which a place of their own is added to."""

    def __init__(self, grid: Grid, channels: int) -> None:
        """To `grid`, from the next coarser one."""
        super().__init__()
        self.grid, self.channels = grid, channels
        self.layer = nn.Linear(channels, 4 * channels)
        self.place = nn.Parameter(INIT_STD * torch.randn(grid.positions, 1, channels))

    def forward(self, state: State) -> State:
        rows, columns = math.ceil(self.grid.rows / 2), math.ceil(self.grid.columns / 2)
        four = channel_linear(self.layer, state).reshape(2, 2, self.channels, rows, columns, -1)
        plane = four.permute(2, 3, 0, 4, 1, 5).reshape(self.channels, 2 * rows, 2 * columns, -1)
        fine = self.grid.to_memory_order(plane[:, : self.grid.rows, : self.grid.columns].flatten(1, 2))
        return add_to_state(fine, self.place.permute(2, 0, 1))


@final
class PositionsToVector(nn.Module):
    """From all positions to one vector: channels cut to a `REDUCTION`-th at each position, one dense layer."""

    REDUCTION = 4

    @staticmethod
    def reduced_channels(positions: int, channels: int) -> int:
        """Channels that each position keeps; all of them, if there is but one position."""
        return max(1, channels // PositionsToVector.REDUCTION) if positions > 1 else channels

    def __init__(self, positions: int, channels: int, width: int) -> None:
        super().__init__()
        few = self.reduced_channels(positions, channels)
        self.few = nn.Linear(channels, few)
        self.all = nn.Linear(positions * few, width)

    def forward(self, state: State) -> Float[Tensor, "batch width"]:
        few = F.silu(channel_linear(self.few, state)).permute(2, 1, 0).flatten(1)
        return F.silu(self.all(few))


@final
class VectorToPositions(nn.Module):
    """From one vector to all positions: the way back of `PositionsToVector`."""

    def __init__(self, inputs: int, grid: Grid, channels: int, width: int) -> None:
        super().__init__()
        positions = grid.positions
        few = PositionsToVector.reduced_channels(positions, channels)
        self.grid = grid
        self.first, self.all = nn.Linear(inputs, width), nn.Linear(width, positions * few)
        self.wide = nn.Linear(few, channels)
        self.place = nn.Parameter(INIT_STD * torch.randn(positions, 1, channels))

    def forward(self, values: Float[Tensor, "batch inputs"]) -> State:
        few = self.all(F.silu(self.first(values))).unflatten(1, (self.grid.positions, -1)).permute(2, 1, 0)
        return add_to_state(channel_linear(self.wide, self.grid.to_memory_order(few)), self.place.permute(2, 0, 1))
