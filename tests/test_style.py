"""Slant and stroke width recover the true factors of `strokes`. Bars of known slant: test_exploration.py."""

from collections.abc import Callable

import numpy as np
import pytest

from vaelab.data import strokes
from vaelab.data.dataset import Split
from vaelab.data.strokes import BLOCK, draw_strokes
from vaelab.evaluation.style import slant, stroke_width

COUNT = 1000
Measure = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def drawn() -> Split:
    return draw_strokes(COUNT, seed=5)


def r2(measured: np.ndarray, truth: np.ndarray) -> float:
    """R² of a linear regression of the true values on the measured ones."""
    return float(np.corrcoef(measured, truth)[0, 1] ** 2)


def redrawn(monkeypatch: pytest.MonkeyPatch, factor: str) -> Split:
    """The same drawings with one factor exchanged between them."""
    sample = strokes._sample_factors
    with monkeypatch.context() as patch:
        patch.setattr(strokes, "_sample_factors", lambda rng: (f := sample(rng)) | {factor: f[factor][::-1].copy()})
        return draw_strokes(COUNT, seed=5)


@pytest.mark.parametrize(("factor", "measure", "least"), [("slant", slant, 0.98), ("width", stroke_width, 0.95)])
def test_a_factor_that_alone_is_changed_is_recovered(
    drawn: Split, monkeypatch: pytest.MonkeyPatch, factor: str, measure: Measure, least: float
) -> None:
    other = redrawn(monkeypatch, factor)
    assert other.labels is not None
    np.testing.assert_array_equal(other.factors["aspect"], drawn.factors["aspect"])
    changed = other.factors[factor] - drawn.factors[factor]
    assert np.std(changed) > np.std(drawn.factors[factor])
    assert r2(measure(other.images[:, 0]) - measure(drawn.images[:, 0]), changed) >= least


def test_width_is_recovered_from_one_drawing_to_the_next_in_pixels(drawn: Split) -> None:
    found, truth = stroke_width(drawn.images[:, 0]), drawn.factors["width"]
    assert r2(found, truth) > 0.91
    assert np.abs(found - truth).mean() < 0.15
    assert (found - truth).mean() == pytest.approx(0, abs=0.08)


def test_slant_is_recovered_within_a_skeleton_as_far_as_the_hand_leaves_it_be(drawn: Split) -> None:
    """A 7 leans without slant, and other variations of the hand also lean a drawing, so R² is limited."""
    found, truth, labels = slant(drawn.images[:, 0]), drawn.factors["slant"], drawn.labels
    assert labels is not None
    centred = [values - np.array([values[labels == k].mean() for k in labels]) for values in (found, truth)]
    assert r2(found, truth) < r2(*centred)
    assert r2(*centred) > 0.72


def test_neither_depends_on_place_brightness_or_type(drawn: Split) -> None:
    images = drawn.images[:BLOCK, 0]
    for measure in (slant, stroke_width):
        first = measure(images)
        np.testing.assert_allclose(measure(np.pad(images, ((0, 0), (3, 0), (5, 1)))), first, atol=1e-6)
        np.testing.assert_allclose(measure(images / 510), first, atol=1e-4)
        np.testing.assert_array_equal(measure(images[[7]]), first[[7]])


def test_a_drawing_seen_in_the_mirror_leans_the_other_way_and_is_as_wide(drawn: Split) -> None:
    images = drawn.images[:BLOCK, 0]
    np.testing.assert_allclose(slant(images[:, :, ::-1]), -slant(images), atol=1e-9)
    np.testing.assert_allclose(stroke_width(images[:, :, ::-1]), stroke_width(images), atol=0.02)


def test_empty_and_odd_images() -> None:
    assert stroke_width(np.zeros((2, 6, 9), dtype=np.uint8)).tolist() == [0, 0]
    dot = np.zeros((1, 7, 7))
    dot[0, 3, 3] = 1
    assert 0.5 < stroke_width(dot)[0] < 1.2
    assert stroke_width(np.zeros((0, 5, 5))).shape == (0,)
    assert np.isfinite(stroke_width(np.full((1, 5, 5), 9))).all()
