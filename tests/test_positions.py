"""Cutting and joining are inverse, and the layers on states do what their formulas say."""

import pytest
import torch
import torch.nn.functional as F
from conftest import generator
from hypothesis import given
from hypothesis import strategies as st

from vaelab.positions import Convolve, Gather, Grid, Mix, Spread


@given(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20), st.integers(0, 6), st.integers(1, 2))
def test_joining_undoes_cutting(channels: int, height: int, width: int, patch: int, planes: int) -> None:
    shape = (channels, height, width)
    grid = Grid.over(shape, patch)
    images = torch.rand(2, planes * channels, height, width, generator=generator(0))
    cut = [grid.cut(part) for part in images.split(channels, dim=1)]
    assert cut[0].shape == (grid.values, grid.positions, 2)
    joined = grid.join(torch.cat(cut), planes)
    assert torch.equal(joined.flatten(1, 2), images)


def test_a_patch_is_a_square_of_the_image() -> None:
    image = torch.arange(64.0).view(1, 1, 8, 8)
    cut = Grid.over((1, 8, 8), 4).cut(image)
    assert torch.equal(cut[:, 1, 0].view(4, 4), image[0, 0, :4, 4:])
    assert torch.equal(cut[:, 2, 0].view(4, 4), image[0, 0, 4:, :4])


@pytest.mark.parametrize(
    ("shape", "patch", "rows", "columns"),
    [((1, 28, 28), 4, 7, 7), ((3, 32, 32), 4, 8, 8), ((1, 8, 8), 2, 4, 4), ((3, 128, 96), 16, 8, 6), ((7,), 0, 1, 1)],
)
def test_patches_are_as_small_as_the_grid_allows(shape: tuple[int, ...], patch: int, rows: int, columns: int) -> None:
    grid = Grid.over(shape)
    assert (grid.patch, grid.rows, grid.columns) == (patch, rows, columns)


def test_mixing_is_its_formula() -> None:
    torch.manual_seed(0)
    mix = Mix(5, 8)
    state = torch.randn(8, 5, 3)
    assert mix.between is not None
    assert mix.place is not None
    heard = torch.zeros_like(state)
    for channel in range(8):
        heard[channel] = mix.between[channel // 2] @ state[channel] + mix.place.view(5, 1)
    expected = state + mix.outer(F.silu(mix.inner(heard.movedim(0, -1)))).movedim(-1, 0)
    torch.testing.assert_close(mix(state), expected)
    assert Mix(1, 8).between is None


def test_a_convolution_hears_its_neighbours_alone() -> None:
    torch.manual_seed(0)
    grid = Grid.over((1, 10, 10), 2)
    layer = Convolve(grid, 4)
    state = torch.randn(4, 25, 1, requires_grad=True)
    (reach,) = torch.autograd.grad(layer(state)[:, 12].sum(), state)
    heard = reach.abs().sum((0, 2)).view(5, 5) > 0
    assert heard[1:4, 1:4].all()
    assert heard.sum() == 9


def test_gathering_and_spreading_keep_images_apart() -> None:
    torch.manual_seed(0)
    state = torch.randn(8, 6, 3)
    gather, spread = Gather(6, 8, 5), Spread(5, 6, 8, 7)
    together = spread(gather(state))
    assert together.shape == state.shape
    torch.testing.assert_close(spread(gather(state[..., 1:2])), together[..., 1:2])
