"""Layers for states on a grid of positions: an image is divided into patches, and each patch has a vector of channels.

A state has shape (C, N, batch): C channels at N = rows × columns positions. A table, or a dense network, is a grid of one
position. By default the batch is innermost in memory. A product over channels is then one large matrix product, a product
over positions is one matrix product per channel, no transpose is needed between the two, and elementwise operations are
vectorised over the batch. Convolutions require the channels innermost; a state on their grids has the same shape, but that
order in memory (`Grid.channels_last`).

Attribute names of the modules are part of the checkpoint format.

Sources: Shi et al. 2016 (space to depth and back); Tolstikhin et al. 2021, MLP-Mixer (alternating products over positions
and over channels); He et al. 2016 (residual blocks).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

State = Float[Tensor, "c n batch"]
"""C channels at N positions of each image."""

# Groups of channels (heads) in a `MixerBlock`, each with its own matrix over positions: free N×N matrices, and relative matrices,
# which have fewer weights, so that more heads pay off.
FREE_HEADS, RELATIVE_HEADS = 4, 16
INIT_STD = 0.02  # of the initial weights of a block's last layer; small, so that a block starts near the identity


@final
@dataclass(frozen=True)
class Grid:
    """Division of an image (channels, H, W) into `rows` × `columns` square patches, the last ones padded.

    Attributes
    ----------
    shape
        Shape of an image, (channels, H, W), or of a row of a table, (D,).
    rows, columns
        Number of patches along H and W.
    patch
        Pixels per side of a patch. 0: all values form one patch, as those of a row of a table always do.
    channels_last
        Whether states on this grid have their channels innermost in memory, for convolutions, instead of the batch.
    """

    shape: tuple[int, ...]
    rows: int
    columns: int
    patch: int
    channels_last: bool = False

    @staticmethod
    def over(shape: tuple[int, ...], patch: int, *, channels_last: bool = False) -> Grid:
        """Return the grid of patches of this side for images of `shape`."""
        if len(shape) == 1 or patch == 0:
            return Grid(shape, 1, 1, 0, channels_last)
        return Grid(shape, math.ceil(shape[1] / patch), math.ceil(shape[2] / patch), patch, channels_last)

    def coarser(self) -> Grid:
        """Return the grid of patches twice as wide and high."""
        return Grid.over(self.shape, 2 * self.patch, channels_last=self.channels_last)

    @property
    def positions(self) -> int:
        """N, the number of positions."""
        return self.rows * self.columns

    @property
    def values(self) -> int:
        """Number of values in one patch, over all colour channels."""
        return self.shape[0] * self.patch**2 if self.patch else math.prod(self.shape)

    def patchify(self, images: Float[Tensor, "batch *shape"]) -> Float[Tensor, "values n batch"]:
        """Divide images into patches, padded with zeros to the right and below."""
        if not self.patch:
            return images.flatten(1).t().unsqueeze(1)
        below, right = self.rows * self.patch - self.shape[1], self.columns * self.patch - self.shape[2]
        if below or right:
            images = F.pad(images, (0, right, 0, below))
        sizes = (self.shape[0], self.rows, self.patch, self.columns, self.patch)
        if self.channels_last:
            split = images.view(-1, *sizes).permute(0, 2, 4, 1, 3, 5)
            return split.reshape(-1, self.positions, self.values).permute(2, 1, 0)
        batch_last = images.flatten(1).t().contiguous()  # two simple copies are faster than a combined one
        return batch_last.view(*sizes, -1).permute(0, 2, 4, 1, 3, 5).reshape(self.values, self.positions, -1)

    def unpatchify(self, patches: Float[Tensor, "values n batch"], planes: int) -> Float[Tensor, "batch planes *shape"]:
        """Invert `patchify`; a patch holds `planes` images, one after another as if they were colour channels."""
        batch = patches.shape[-1]
        if not self.patch:
            return patches.flatten(1).t().reshape(batch, planes, *self.shape)
        values = (planes, self.shape[0], self.patch, self.patch)
        if self.channels_last:
            split = patches.permute(2, 1, 0).reshape(batch, self.rows, self.columns, *values)
            images = split.permute(0, 3, 4, 1, 5, 2, 6)
        else:
            split = patches.view(*values, self.rows, self.columns, batch).permute(0, 1, 4, 2, 5, 3, 6)
            images = split.contiguous().view(-1, batch).t()
        images = images.reshape(batch, *values[:2], self.rows * self.patch, self.columns * self.patch)
        return images[..., : self.shape[1], : self.shape[2]]

    def to_memory_order(self, state: State) -> State:
        """Return the state in the memory order of this grid (see `channels_last`); shape and values stay the same."""
        return state.permute(2, 1, 0).contiguous().permute(2, 1, 0) if self.channels_last else state.contiguous()

    def repeat_batch(self, state: State, count: int) -> State:
        """Repeat the whole batch `count` times, like `Tensor.repeat`."""
        if self.channels_last:
            return state.permute(2, 1, 0).repeat(count, 1, 1).permute(2, 1, 0)
        return state.repeat(1, 1, count)


def channel_linear(layer: nn.Linear, state: State) -> Float[Tensor, "k n batch"]:
    """Apply a linear layer to the channels of a state, with the same weights at every position."""
    if layer.in_features == 1:  # elementwise, so that the compiler can fuse it with its neighbours
        output = layer.weight.unsqueeze(-1) * state
    elif state.stride(0) == 1 and state.shape[1] > 1:  # channels innermost: keep that order
        return F.linear(state.permute(2, 1, 0), layer.weight, layer.bias).permute(2, 1, 0)
    else:
        output = (layer.weight @ state.flatten(1)).unflatten(1, state.shape[1:])
    return output if layer.bias is None else add_to_state(output, layer.bias.view(-1, 1, 1))


def add_to_state(state: State, added: Tensor) -> State:
    """Return `state + added` in the dtype of the state: adding float32 weights leaves a bfloat16 state in bfloat16."""
    return (state + added).to(state.dtype)


def offset_one_hot(count: int) -> Float[Tensor, "2*count-1 count*count"]:
    """Return a matrix whose column for each pair (i, j) of `count` places is the one-hot of i − j, from −(count − 1) up.

    A product with it expands a kernel of offsets into a matrix, and the gradient is a product as well. Indexing, whose
    gradient is a scatter-add, takes several times as long.
    """
    place = torch.arange(count)
    return F.one_hot(place[:, None] - place + count - 1, 2 * count - 1).flatten(0, 1).t().float().contiguous()


@final
class MixerBlock(nn.Module):
    """Residual block: mix the positions, then apply a hidden layer to the channels of each position.

    x ← x + V·SiLU(W·(T x + a) + b) + c. T is a matrix over positions, one for each group of channels; a is a bias per
    position; W and V are matrices over channels, shared by all positions. T starts as (I + E)/2, where the entries of E are
    normal with variance 1/N. With one position, T and a are left out.

    T is a free N×N matrix, or `relative`: the weight between two positions then depends on their offset only. That is a
    convolution with a kernel as large as the grid, of (2 rows − 1) × (2 columns − 1) weights.
    """

    row_offsets: Float[Tensor, "2*rows-1 rows*rows"] | None
    column_offsets: Float[Tensor, "2*columns-1 columns*columns"] | None

    def __init__(self, grid: Grid, channels: int, *, relative: bool = False) -> None:
        super().__init__()
        self.grid = grid
        self.heads = math.gcd(channels, RELATIVE_HEADS) if relative else FREE_HEADS if channels % FREE_HEADS == 0 else 1
        positions = grid.positions
        for name, count in (("row_offsets", grid.rows), ("column_offsets", grid.columns)):
            self.register_buffer(name, offset_one_hot(count) if relative and positions > 1 else None, persistent=False)
        if positions > 1:
            if relative:
                start = torch.randn(self.heads, 2 * grid.rows - 1, 2 * grid.columns - 1) / math.sqrt(positions)
                start[:, grid.rows - 1, grid.columns - 1] += 1
            else:
                start = torch.randn(self.heads, positions, positions) / math.sqrt(positions) + torch.eye(positions)
            self.between = nn.Parameter(0.5 * start)  # T, or its kernel of offsets
            self.place = nn.Parameter(torch.zeros(positions, 1, 1))  # a
        else:
            self.between = self.place = None
        self.inner, self.outer = nn.Linear(channels, channels), nn.Linear(channels, channels)
        nn.init.normal_(self.outer.weight, std=INIT_STD)
        nn.init.zeros_(self.outer.bias)

    def mixing_matrices(self) -> Float[Tensor, "heads n n"]:
        """Return T for each group of channels."""
        assert self.between is not None
        if self.row_offsets is None or self.column_offsets is None:
            return self.between
        with torch.autocast(self.between.device.type, enabled=False):  # in float32 the one-hot products are exact
            row_pairs = self.row_offsets.t() @ self.between.transpose(0, 1).flatten(1)
            pairs = row_pairs.view(-1, 2 * self.grid.columns - 1) @ self.column_offsets
        rows, columns = 2 * [self.grid.rows], 2 * [self.grid.columns]
        return (
            pairs.view(*rows, self.heads, *columns)
            .permute(2, 0, 3, 1, 4)
            .reshape(self.heads, *2 * [self.grid.positions])
        )

    def forward(self, state: State) -> State:
        mixed = state
        if self.place is not None:
            grouped = state.unflatten(0, (self.heads, -1))
            mixed = torch.matmul(self.mixing_matrices().unsqueeze(1), grouped).flatten(0, 1)
            mixed = add_to_state(mixed, self.place.squeeze(-1))
        return state + channel_linear(self.outer, F.silu(channel_linear(self.inner, mixed)))


@final
class ConvBlock(nn.Module):
    """Residual block like `MixerBlock`, with a 3×3 convolution over the grid instead of T and W."""

    def __init__(self, grid: Grid, channels: int) -> None:
        super().__init__()
        self.grid = grid
        self.inner, self.outer = nn.Conv2d(channels, channels, 3, padding=1), nn.Linear(channels, channels)
        nn.init.normal_(self.outer.weight, std=INIT_STD)
        nn.init.zeros_(self.outer.bias)

    def forward(self, state: State) -> State:
        plane = state.unflatten(1, (self.grid.rows, self.grid.columns)).permute(3, 0, 1, 2)
        mixed = self.inner(plane).permute(1, 2, 3, 0).flatten(1, 2)
        return state + channel_linear(self.outer, F.silu(mixed))


@final
class PatchMerge(nn.Module):
    """Bring a state on `grid` to the next coarser one: concatenate 2×2 positions, zero-padded, and apply one dense layer."""

    def __init__(self, grid: Grid, channels: int) -> None:
        super().__init__()
        self.grid = grid
        self.layer = nn.Linear(4 * channels, channels)

    def forward(self, state: State) -> State:
        plane = state.unflatten(1, (self.grid.rows, self.grid.columns))
        plane = F.pad(plane, (0, 0, 0, self.grid.columns % 2, 0, self.grid.rows % 2))
        merged = torch.cat([plane[:, down::2, right::2] for down in (0, 1) for right in (0, 1)])
        return channel_linear(self.layer, self.grid.to_memory_order(merged.flatten(1, 2)))


@final
class PatchExpand(nn.Module):
    """Bring a state to `grid` from the next coarser one: a dense layer makes 2×2 positions of each; add a position embedding."""

    def __init__(self, grid: Grid, channels: int) -> None:
        super().__init__()
        self.grid, self.channels = grid, channels
        self.layer = nn.Linear(channels, 4 * channels)
        self.place = nn.Parameter(INIT_STD * torch.randn(grid.positions, 1, channels))

    def forward(self, state: State) -> State:
        rows, columns = math.ceil(self.grid.rows / 2), math.ceil(self.grid.columns / 2)
        expanded = channel_linear(self.layer, state).reshape(2, 2, self.channels, rows, columns, -1)
        plane = expanded.permute(2, 3, 0, 4, 1, 5).reshape(self.channels, 2 * rows, 2 * columns, -1)
        fine = self.grid.to_memory_order(plane[:, : self.grid.rows, : self.grid.columns].flatten(1, 2))
        return add_to_state(fine, self.place.permute(2, 0, 1))


@final
class PositionsToVector(nn.Module):
    """Map a state to one vector per image: reduce the channels of each position, concatenate, and apply one dense layer."""

    REDUCTION = 4  # factor by which the channels are reduced

    @staticmethod
    def reduced_channels(positions: int, channels: int) -> int:
        """Return the number of channels after the reduction; with a single position there is none."""
        return max(1, channels // PositionsToVector.REDUCTION) if positions > 1 else channels

    def __init__(self, positions: int, channels: int, width: int) -> None:
        super().__init__()
        reduced = self.reduced_channels(positions, channels)
        self.few = nn.Linear(channels, reduced)
        self.all = nn.Linear(positions * reduced, width)

    def forward(self, state: State) -> Float[Tensor, "batch width"]:
        reduced = F.silu(channel_linear(self.few, state)).permute(2, 1, 0).flatten(1)
        return F.silu(self.all(reduced))


@final
class VectorToPositions(nn.Module):
    """Map one vector per image to a state on `grid`: `PositionsToVector` in reverse, plus a position embedding."""

    def __init__(self, inputs: int, grid: Grid, channels: int, width: int) -> None:
        super().__init__()
        positions = grid.positions
        reduced = PositionsToVector.reduced_channels(positions, channels)
        self.grid = grid
        self.first, self.all = nn.Linear(inputs, width), nn.Linear(width, positions * reduced)
        self.wide = nn.Linear(reduced, channels)
        self.place = nn.Parameter(INIT_STD * torch.randn(positions, 1, channels))

    def forward(self, values: Float[Tensor, "batch inputs"]) -> State:
        reduced = self.all(F.silu(self.first(values))).unflatten(1, (self.grid.positions, -1)).permute(2, 1, 0)
        state = channel_linear(self.wide, self.grid.to_memory_order(reduced))
        return add_to_state(state, self.place.permute(2, 0, 1))
