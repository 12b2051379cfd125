"""Image grids are exact: every pixel of an image becomes a square at the right position."""

import numpy as np
import pytest
from PIL import Image

from vaelab.data import Dataset
from vaelab.figures.plots import (
    CELL,
    COLOURS,
    DISTORTION,
    GAP,
    RATE,
    _even_intervals,
    contact_sheet,
    label_rows,
    posterior_map,
    reconstruction_sheet,
    sheet,
    tiles,
    training_curve,
)


def images(count: int, *, side: int = 28, colour: bool = False) -> np.ndarray:
    shape = (count, side, side, 3) if colour else (count, side, side)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize(("side", "factor"), [(28, 2), (8, 7), (64, 1)])
@pytest.mark.parametrize("colour", [False, True])
def test_every_pixel_is_a_square_of_pixels(side: int, factor: int, colour: bool) -> None:
    pictures = images(6, side=side, colour=colour)
    page = np.asarray(tiles(pictures, 3))
    cell = side * factor
    assert cell >= CELL
    for index, picture in enumerate(pictures):
        y, x = GAP + (index // 3) * (cell + GAP), GAP + (index % 3) * (cell + GAP)
        shown = page[y : y + cell, x : x + cell]
        rgb = picture if colour else np.repeat(picture[..., None], 3, axis=-1)
        assert np.array_equal(shown, rgb.repeat(factor, 0).repeat(factor, 1))


def test_a_row_per_label() -> None:
    page = np.asarray(label_rows(images(6), ["a", "β"]))
    assert np.array_equal(page[GAP : GAP + 56 : 2, -58 * 3 : -58 * 3 + 56 : 2, 0], images(6)[0])
    assert np.array_equal(page[GAP + 58 : GAP + 114 : 2, -58:-2:2, 0], images(6)[5])


def test_names_and_captions_are_drawn_beside_and_below() -> None:
    bare = sheet([images(3)])
    named = sheet([images(3)], names=["seven"], captions=[["1.0", "2.0", "3.0"]], title="−ELBO")
    assert named.width > bare.width
    assert named.height > bare.height
    left = np.asarray(named)[26 : 26 + 56, : named.width - 3 * 58]
    assert (left < 128).any()


def test_originals_above_reconstructions() -> None:
    page = reconstruction_sheet(images(5), 255 - images(5), np.arange(5.0), columns=5)
    pixels = np.asarray(page)[..., 0]
    left = page.width - 5 * 58
    assert np.array_equal(pixels[GAP : GAP + 56 : 2, left : left + 56 : 2], images(5)[0])
    assert np.array_equal(pixels[GAP + 58 : GAP + 58 + 56 : 2, left : left + 56 : 2], 255 - images(5)[0])


def test_a_contact_sheet_has_a_row_per_class(tiny: Dataset) -> None:
    assert contact_sheet(tiny).height == 26 + 3 * (8 * 7 + GAP)


def test_a_training_curve_of_any_length() -> None:
    line = {"epoch": 1.0, "step": 1, "train": {"nats": 3.0, "distortion": 2.0, "rate": 1.0}}
    checked = line | {"validation": {"nats": 4.0, "distortion": 3.0, "rate": 1.0}}
    for lines in ([line], [checked], [line | {"epoch": float(n)} for n in range(30)], [checked] * 30):
        picture = training_curve(lines, "a title")
        assert isinstance(picture, Image.Image)
        assert np.asarray(picture).std() > 5


def coloured(picture: Image.Image, colour: str) -> np.ndarray:
    """Where a picture has nearly this colour, (H, W)."""
    wanted = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return np.abs(np.asarray(picture).astype(int) - wanted).max(axis=2) < 12


def test_a_rate_that_is_small_beside_the_distortion_is_seen_to_rise_and_their_lines_cannot_cross() -> None:
    lines = [
        {
            "epoch": float(n),
            "step": n,
            "train": {"nats": 99.0},
            "validation": {"nats": 99.0, "distortion": 98.0 - n, "rate": 9 + n / 9},
        }
        for n in range(1, 10)
    ]
    picture = training_curve(lines, "")
    rows = []
    for colour in (DISTORTION, RATE):
        inside = coloured(picture, colour)[:, picture.width * 60 // 100 :]  # without the name of the axis
        rows.append(np.flatnonzero(inside.any(axis=1)))
        assert rows[-1][-1] - rows[-1][0] > picture.height / 4
    assert rows[0][-1] < rows[1][0]


def test_the_best_validation_is_inside_the_training_curve() -> None:
    figures = [200.0, 100.0, *np.linspace(101, 160, 28)]  # soon overfitted
    lines = [
        {
            "epoch": float(n),
            "step": n,
            "train": {"nats": 90.0},
            "validation": {"nats": v, "distortion": v - 9, "rate": 9.0},
        }
        for n, v in enumerate(figures, 1)
    ]
    inside = coloured(training_curve(lines, ""), DISTORTION)[:, 648:]
    last_epochs = inside[:, 300:]
    assert np.flatnonzero(inside.any(axis=1))[-1] > np.flatnonzero(last_epochs.any(axis=1))[-1] + 20


def test_a_named_mark_leaves_a_small_ellipse_to_be_seen() -> None:
    place = {"mean": np.zeros((1, 2)), "labels": np.zeros(1, dtype=int), "axes": ("", ""), "title": ""}
    with_ellipse, without = (
        posterior_map(deviation=np.full((1, 2), size), classes=("disc", "cross"), **place) for size in (0.04, 0.0)
    )
    mark = coloured(without, COLOURS[0])[:, : without.width * 4 // 5]  # without the legend
    assert 4 < mark.sum() < 20
    difference = np.abs(np.asarray(with_ellipse).astype(int) - np.asarray(without)).max(axis=2)
    assert (difference > 20).sum() > 20


def margins(picture: Image.Image) -> np.ndarray:
    """The outermost two columns on either side of a picture, where a title that is cut off leaves ink."""
    pixels = np.asarray(picture.convert("L"))
    return np.concatenate([pixels[:, :2], pixels[:, -2:]], axis=1)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_title_is_whole_above_few_images(count: int) -> None:
    title = "the style of an image under every label"
    named = sheet([images(count)], names=["read as truck"], title=title)
    wide = sheet([images(16)], names=["read as truck"], title=title)
    left = np.asarray(named.convert("L"))[: GAP + 22]
    assert np.array_equal(left, np.asarray(wide.convert("L"))[: GAP + 22, : named.width])
    assert (np.asarray(wide.convert("L"))[: GAP + 22, named.width :] == 255).all()


def test_a_long_title_of_a_plot_is_wrapped() -> None:
    line = {"epoch": 1.0, "step": 1, "train": {"nats": 3.0, "distortion": 2.0, "rate": 1.0}}
    title = "cvae on photographs of animals and of vehicles, from four places: −ELBO = distortion + rate"
    place = {"labels": None, "classes": (), "axes": ("", "")}
    for stochastic in (True, False):
        assert (margins(training_curve([line], title, stochastic=stochastic))[:80] == 255).all()
    posteriors = posterior_map(np.zeros((1, 2)), np.ones((1, 2)), title=title, **place)
    assert (margins(posteriors)[:80] == 255).all()


def test_an_autoencoder_has_no_rate_to_draw() -> None:
    line = {"epoch": 1.0, "step": 1, "train": {"nats": 3.0, "distortion": 3.0, "rate": 0.0}}
    lines = [line | {"epoch": float(n), "step": n, "validation": line["train"]} for n in range(1, 9)]
    alone, both = training_curve(lines, "", stochastic=False), training_curve(lines, "")
    assert coloured(both, RATE).any()
    assert not coloured(alone, RATE).any()
    assert not coloured(alone, DISTORTION).any()
    assert alone.width < both.width


def test_a_short_interval_is_no_jump_of_the_training_curve() -> None:
    steps = [100, 200, 300, 303, 400, 500, 503]
    lines = [{"epoch": step / 10, "step": step, "train": {"nats": 900.0 if step % 100 else 100.0}} for step in steps]
    epochs, nats = _even_intervals(lines)
    assert epochs == [10.0, 20.0, 30.3, 40.0, 50.3]
    joined = (100 * 100 + 3 * 900) / 103
    assert nats == pytest.approx([100, 100, joined, 100, joined])
    assert _even_intervals([]) == ([], [])
