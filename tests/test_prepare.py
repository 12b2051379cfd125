"""Photographs and drawings converted to the format of MNIST."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from vaelab import prepare
from vaelab.data.photo import _fitted, _separate, read_drawing
from vaelab.data.strokes import draw_strokes
from vaelab.errors import DataError
from vaelab.evaluation.style import stroke_width


def drawn(width: int = 40, *, height: int = 400, side: int = 300) -> Image.Image:
    """A 7 of dark strokes on white, off the middle."""
    image = Image.new("L", (side, height), 255)
    ImageDraw.Draw(image).line([(60, 60), (200, 60), (120, 300)], fill=0, width=width, joint="curve")
    return image


def photographed(image: Image.Image, dark: float, light: float, noise: float = 4) -> np.ndarray:
    """The same on paper that is `dark` at one corner and `light` at the other, ink at a third of the paper's level."""
    paper = np.asarray(image.filter(ImageFilter.GaussianBlur(1.5))) / 255
    y, x = np.mgrid[0 : 1 : complex(paper.shape[0]), 0 : 1 : complex(paper.shape[1])]
    light_there = dark + (light - dark) * (x + y**1.5) / 2
    grain = noise * np.random.default_rng(0).standard_normal(paper.shape)
    return np.clip(light_there * (0.3 + 0.7 * paper) + grain, 0, 255).astype(np.uint8)


def test_mnists_own_format_comes_out() -> None:
    levels = prepare(drawn())
    assert levels.shape == (28, 28)
    assert levels.dtype == np.uint8
    rows, columns = np.flatnonzero(levels.max(1)), np.flatnonzero(levels.max(0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20  # the box, in the drawing's own proportions
    assert np.ptp(columns) < np.ptp(rows)
    assert levels.max() == 255
    assert ((levels > 0) & (levels < 255)).any()  # grey edges
    mass = levels / levels.sum()
    assert mass.sum(1) @ np.arange(28) == pytest.approx(14, abs=0.5)
    assert mass.sum(0) @ np.arange(28) == pytest.approx(14, abs=0.5)


def test_dark_on_light_is_inverted_and_light_on_dark_is_not() -> None:
    dark, light = read_drawing(drawn()), read_drawing(Image.fromarray(255 - np.asarray(drawn())))
    assert dark.inverted
    assert not light.inverted
    assert np.array_equal(dark.levels, light.levels)
    assert dark.told() == "grey, inverted (dark on light), thresholded by Otsu, fitted and centred in 28×28"


def test_an_image_that_is_of_that_format_hardly_changes() -> None:
    images = draw_strokes(50, seed=0).images[:, 0]
    again = np.stack([prepare(image) for image in images])
    assert np.abs(again.astype(float) - images).mean() < 0.15 * images.mean()
    assert stroke_width(again) == pytest.approx(stroke_width(images), abs=0.8)


def test_a_fine_drawing_enlarged_comes_back() -> None:
    """Scaled up tenfold and inverted, as a scan would be."""
    images = draw_strokes(20, seed=1).images[:, 0]
    large = [Image.fromarray(255 - image).resize((280, 280), Image.Resampling.BICUBIC) for image in images]
    again = np.stack([prepare(image) for image in large]).astype(float)
    assert np.abs(again - images).mean() < 0.35 * images.mean()  # it moves by up to half a pixel
    nearest = ((again[:, None] - images[None].astype(float)) ** 2).sum((2, 3)).argmin(1)
    assert nearest.tolist() == list(range(20))


def apart(images: np.ndarray, others: np.ndarray) -> float:
    """Mean difference as a share of the mean level, at the best of shifts by up to a pixel."""
    shifts = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return min(np.abs(np.roll(images, shift, (0, 1)) - others.astype(float)).mean() for shift in shifts) / others.mean()


@pytest.mark.parametrize(("width", "dark", "light"), [(8, 90, 230), (40, 90, 230), (25, 60, 250), (25, 40, 255)])
def test_shading_is_taken_off(width: int, dark: float, light: float) -> None:
    """The paper is darker in one corner than elsewhere, once even darker than ink is in the other; the drawing comes out."""
    clean, photo = read_drawing(drawn(width)), read_drawing(photographed(drawn(width), dark, light))
    assert not clean.shading
    assert photo.shading
    assert photo.inverted
    assert "shading removed" in photo.told()
    assert apart(photo.levels, clean.levels) < 0.3
    without = _fitted(_separate(photographed(drawn(width), dark, light).astype(float)).ink(), (28, 28))
    assert apart(without, clean.levels) > 0.6


def test_dust_is_dropped() -> None:
    dusty = drawn()
    ImageDraw.Draw(dusty).ellipse([280, 380, 284, 384], fill=0)
    assert np.array_equal(prepare(dusty), prepare(drawn()))


def test_transparency_is_white_paper() -> None:
    ink = 255 - np.asarray(drawn())
    clear = np.dstack([np.zeros_like(ink), np.zeros_like(ink), np.zeros_like(ink), ink])
    assert np.array_equal(prepare(clear), prepare(drawn()))
    assert np.array_equal(prepare(Image.fromarray(clear)), prepare(drawn()))


def test_files_arrays_and_other_sizes(tmp_path: Path) -> None:
    drawn().convert("RGB").save(tmp_path / "seven.png")
    assert np.array_equal(prepare(tmp_path / "seven.png"), prepare(np.asarray(drawn())))
    assert np.array_equal(prepare(str(tmp_path / "seven.png")), prepare(drawn()))
    large = prepare(drawn(), (56, 42))
    assert large.shape == (56, 42)
    rows, columns = np.flatnonzero(large.max(1)), np.flatnonzero(large.max(0))
    assert np.ptp(rows) + 1 == 40
    assert np.ptp(columns) + 1 <= 30


def test_what_is_no_drawing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="single grey level; expected a drawing"):
        prepare(np.full((50, 50), 128, dtype=np.uint8))
    with pytest.raises(DataError, match=r"float64 and shape \(5, 5\); expected uint8 \(H, W\)"):
        prepare(np.zeros((5, 5)))
    with pytest.raises(DataError, match=r"expected uint8 \(H, W\), \(H, W, 3\) or \(H, W, 4\)"):
        prepare(np.zeros((5, 0), dtype=np.uint8))
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"text\.png: cannot be read \(.*not PNG, JPEG.*\); .*another file"):
        prepare(tmp_path / "text.png")
    with pytest.raises(
        DataError, match=r"none\.png: cannot be read \(No such file or directory\); expected a valid PNG"
    ):
        prepare(tmp_path / "none.png")
