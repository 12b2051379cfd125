"""`unpatchify` inverts `patchify`, and layers on states match their formulas."""

import pytest
import torch
import torch.nn.functional as F
from building import resolve_model
from conftest import generator
from hypothesis import given
from hypothesis import strategies as st

from vaelab.config import ModelConfig
from vaelab.models.spatial import (
    ConvBlock,
    Grid,
    MixerBlock,
    PatchExpand,
    PatchMerge,
    PositionsToVector,
    VectorToPositions,
    channel_linear,
)


@given(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20), st.integers(0, 6), st.integers(1, 2), st.booleans())
def test_unpatchify_inverts_patchify(
    channels: int, height: int, width: int, patch: int, planes: int, channels_last: bool
) -> None:
    shape = (channels, height, width)
    grid = Grid.over(shape, patch, channels_last=channels_last)
    images = torch.rand(2, planes * channels, height, width, generator=generator(0))
    patches = [grid.patchify(part) for part in images.split(channels, dim=1)]
    assert patches[0].shape == (grid.values, grid.positions, 2)
    joined = grid.unpatchify(torch.cat(patches), planes)
    assert torch.equal(joined.flatten(1, 2), images)


def test_a_patch_is_a_square_of_the_image() -> None:
    image = torch.arange(64.0).view(1, 1, 8, 8)
    patches = Grid.over((1, 8, 8), 4).patchify(image)
    assert torch.equal(patches[:, 1, 0].view(4, 4), image[0, 0, :4, 4:])
    assert torch.equal(patches[:, 2, 0].view(4, 4), image[0, 0, 4:, :4])


@pytest.mark.parametrize(
    ("shape", "patch", "rows", "columns"),
    [((1, 28, 28), 4, 7, 7), ((3, 32, 32), 4, 8, 8), ((1, 8, 8), 2, 4, 4), ((3, 128, 96), 16, 8, 6), ((7,), 0, 1, 1)],
)
def test_patches_are_by_default_as_small_as_64_positions_allow(
    shape: tuple[int, ...], patch: int, rows: int, columns: int
) -> None:
    config = resolve_model(ModelConfig(model="vae", network="ladder", likelihood="logistic"), shape)
    grid = Grid.over(shape, config.patch)
    assert (grid.patch, grid.rows, grid.columns) == (patch, rows, columns)


def test_mixer_block_matches_its_formula() -> None:
    torch.manual_seed(0)
    mix = MixerBlock(Grid.over((1, 2, 10), 2), 8)
    state = torch.randn(8, 5, 3)
    assert mix.between is not None
    assert mix.place is not None
    mixed = torch.zeros_like(state)
    for channel in range(8):
        mixed[channel] = mix.between[channel // 2] @ state[channel] + mix.place.view(5, 1)
    expected = state + mix.outer(F.silu(mix.inner(mixed.movedim(0, -1)))).movedim(-1, 0)
    torch.testing.assert_close(mix(state), expected)
    assert MixerBlock(Grid.over((3,), 0), 8).between is None


def test_relative_mixing_is_a_convolution_with_a_kernel_as_large_as_the_grid() -> None:
    torch.manual_seed(0)
    grid = Grid.over((1, 6, 10), 2)
    mix = MixerBlock(grid, 8, relative=True)
    state = torch.randn(8, 15, 2)
    assert mix.between is not None
    assert mix.place is not None
    kernels = mix.between.flip(1, 2).repeat_interleave(8 // len(mix.between), dim=0).unsqueeze(1)
    plane = state.permute(2, 0, 1).unflatten(2, (3, 5))
    with torch.no_grad():
        mix.place.add_(torch.randn_like(mix.place))
    mixed = F.conv2d(plane, kernels, padding=(2, 4), groups=8).flatten(2).permute(1, 2, 0) + mix.place.squeeze(-1)
    expected = state + mix.outer(F.silu(mix.inner(mixed.movedim(0, -1)))).movedim(-1, 0)
    torch.testing.assert_close(mix(state), expected)
    upstream = torch.randn(8, 15, 2)
    mine, theirs = (torch.autograd.grad((out * upstream).sum(), mix.between)[0] for out in (mix(state), expected))
    torch.testing.assert_close(mine, theirs)


@given(st.integers(1, 5), st.integers(2, 5))
def test_entries_of_a_relative_matrix_are_those_of_the_kernel(rows: int, columns: int) -> None:
    """The entry of two positions with offset (down, right) is exactly the kernel's, even under autocast."""
    grid = Grid.over((1, 2 * rows, 2 * columns), 2)
    mix = MixerBlock(grid, 3, relative=True)
    assert mix.between is not None
    with torch.autocast("cpu", torch.bfloat16):
        found = mix.mixing_matrices()
    for i in range(grid.positions):
        for j in range(grid.positions):
            down, right = i // columns - j // columns, i % columns - j % columns
            assert torch.equal(found[:, i, j], mix.between[:, rows - 1 + down, columns - 1 + right])


def test_a_convolution_depends_on_neighbours_only() -> None:
    torch.manual_seed(0)
    grid = Grid.over((1, 10, 10), 2)
    layer = ConvBlock(grid, 4)
    state = torch.randn(4, 25, 1, requires_grad=True)
    (reach,) = torch.autograd.grad(layer(state)[:, 12].sum(), state)
    affected = reach.abs().sum((0, 2)).view(5, 5) > 0
    assert affected[1:4, 1:4].all()
    assert affected.sum() == 9


def test_images_stay_independent_between_vector_and_positions() -> None:
    torch.manual_seed(0)
    state = torch.randn(8, 6, 3)
    gather, spread = PositionsToVector(6, 8, 5), VectorToPositions(5, Grid.over((1, 4, 6), 2), 8, 7)
    together = spread(gather(state))
    assert together.shape == state.shape
    torch.testing.assert_close(spread(gather(state[..., 1:2])), together[..., 1:2])


@given(st.integers(1, 20), st.integers(1, 20), st.integers(1, 3), st.booleans())
def test_merge_and_expand_connect_four_positions_with_one(
    height: int, width: int, patch: int, channels_last: bool
) -> None:
    """A merged position depends on exactly its four finer ones, and these on it alone after an expansion."""
    grid = Grid.over((1, height, width), patch, channels_last=channels_last)
    coarse = grid.coarser()
    assert (coarse.rows, coarse.columns) == ((grid.rows + 1) // 2, (grid.columns + 1) // 2)
    torch.manual_seed(0)
    coarsen, refine = PatchMerge(grid, 4), PatchExpand(grid, 4)
    fine = grid.to_memory_order(torch.randn(4, grid.positions, 1)).requires_grad_()
    middle = coarse.positions // 2
    (reach,) = torch.autograd.grad(coarsen(fine)[:, middle].sum(), fine)
    state = coarse.to_memory_order(torch.randn(4, coarse.positions, 1)).requires_grad_()
    row, column = divmod(middle, coarse.columns)
    near = torch.zeros(grid.rows, grid.columns, dtype=torch.bool)
    near[2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = True
    assert torch.equal(reach.abs().sum((0, 2)).view(grid.rows, grid.columns) > 0, near)
    made = refine(state)
    assert made.shape == fine.shape
    (back,) = torch.autograd.grad(made[:, near.flatten()].sum(), state)
    assert (back.abs().sum((0, 2)) > 0).nonzero().flatten().tolist() == [middle]


def test_the_memory_order_does_not_change_results() -> None:
    """Layers give the same for a state with the batch or the channels innermost, and preserve that order."""
    torch.manual_seed(0)
    last = Grid.over((1, 10, 6), 2, channels_last=True)
    state, dense, layer = torch.randn(4, 15, 3), torch.nn.Linear(4, 6), ConvBlock(last, 4)
    turned = last.to_memory_order(state)
    assert turned.stride() == (1, 4, 60)
    for made, other in (
        (channel_linear(dense, state), channel_linear(dense, turned)),
        (layer(state), layer(turned)),
        (last.repeat_batch(state, 2), last.repeat_batch(turned, 2)),
    ):
        torch.testing.assert_close(made, other)
        assert other.stride(0) == 1
