"""Linear readout, mutual information gap and DCI: 1 for a perfect code, about 0 for factors spread evenly."""

import numpy as np
import pytest
from scipy.linalg import hadamard

from vaelab.evaluation.disentanglement import (
    Readout,
    binned,
    boosted_readout,
    held_out_r2,
    information_gaps,
    mutual_information,
)

COUNT = 1500
ROTATION = hadamard(4) / 2  # orthogonal, every factor spread evenly over all four dimensions


@pytest.fixture(scope="module")
def factors() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((COUNT, 4))


def perfect(factors: np.ndarray) -> np.ndarray:
    """One dimension per factor, permuted, rescaled and transformed nonlinearly."""
    return np.sinh(factors[:, [2, 0, 3, 1]]) * [1, -2, 0.1, 5]


def test_gap_is_1_on_a_perfect_code_and_0_on_a_rotated_one(factors: np.ndarray) -> None:
    np.testing.assert_allclose(information_gaps(perfect(factors), factors), 1, atol=0.02)
    assert np.abs(information_gaps(factors @ ROTATION, factors)).max() < 0.02
    noise = np.random.default_rng(1).standard_normal((COUNT, 3))
    assert np.abs(information_gaps(noise, factors)).max() < 0.03


def test_dci_is_1_on_a_perfect_code_and_0_on_a_rotated_one(factors: np.ndarray) -> None:
    good, bad = (boosted_readout(codes, factors, trees=50) for codes in (perfect(factors), factors @ ROTATION))
    assert good.disentanglement > 0.98
    assert good.completeness > 0.98
    assert good.informativeness.min() > 0.97
    assert good.importance.argmax(0).tolist() == [1, 3, 0, 2]
    assert bad.disentanglement < 0.02
    assert bad.completeness < 0.02
    assert bad.informativeness.min() > 0.9  # rotated, not lost


def test_a_dimension_that_holds_nothing_does_not_count_against_the_others(factors: np.ndarray) -> None:
    idle = np.concatenate([perfect(factors), np.random.default_rng(2).standard_normal((COUNT, 1))], axis=1)
    assert boosted_readout(idle, factors, trees=50).disentanglement > 0.95


def test_a_factor_in_two_dimensions_is_disentangled_and_not_complete() -> None:
    """Hand-made importances: factor 0 in dimensions 0 and 1, factor 1 in dimension 2."""
    readout = Readout(np.array([[0.5, 0], [0.5, 0], [0, 1.0]]), np.array([1.0, 1.0]))
    assert readout.disentanglement == pytest.approx(1)
    assert readout.completeness == pytest.approx((1 - np.log(2) / np.log(3) + 1) / 2)
    assert readout.over(np.array([False, True])).completeness == pytest.approx(1)
    merged = Readout(np.array([[1.0, 1.0], [0, 0]]), np.array([1.0, 1.0]))  # both factors in dimension 0
    assert merged.disentanglement == pytest.approx(0)
    assert merged.completeness == pytest.approx(1)


def test_one_dimension_or_one_factor_is_no_error(factors: np.ndarray) -> None:
    single = boosted_readout(factors[:60, :1], factors[:60, :1], trees=5)
    assert (single.disentanglement, single.completeness) == (1, 1)
    assert information_gaps(factors[:, :1], factors[:, :1])[0] == pytest.approx(1)


def test_information_of_bins_is_their_entropy_and_of_strangers_nothing(factors: np.ndarray) -> None:
    counted = binned(factors, 8)
    assert np.unique(counted[:, 0], return_counts=True)[1] == pytest.approx(COUNT / 8, abs=1)
    found = mutual_information(counted, counted, 8)
    np.testing.assert_allclose(np.diag(found), np.log(8), atol=0.01)
    assert np.abs(found - np.diag(np.diag(found))).max() < 0.02


def test_information_of_a_known_table() -> None:
    """A bit through a channel that flips one in four: ln 2 − H(¼)."""
    sent = np.arange(40_000) % 2
    got = np.where(np.arange(40_000) % 8 < 2, 1 - sent, sent)
    expected = np.log(2) + 0.25 * np.log(0.25) + 0.75 * np.log(0.75)
    assert mutual_information(sent[:, None], got[:, None], 2)[0, 0] == pytest.approx(expected, abs=1e-3)


def test_linear_readout_explains_what_is_linear_and_no_noise(factors: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    noisy = factors[:, 0] + rng.standard_normal(COUNT)  # half of its variance
    strange, square, still = rng.standard_normal(COUNT), factors[:, 0] ** 2, np.full(COUNT, 2.0)
    targets = np.stack([factors @ [1, 2, -1, 0.5], noisy, strange, square, still], axis=1)
    found = held_out_r2(factors, targets)
    np.testing.assert_allclose(found[:4], [1, 0.5, 0, 0], atol=0.06)
    assert found[2] < 0.01
    assert np.isnan(found[4])


def test_readout_is_asked_only_about_images_it_has_not_learnt_from() -> None:
    """As many coefficients as images: on the training images R² would be 1."""
    rng = np.random.default_rng(4)
    assert held_out_r2(rng.standard_normal((60, 40)), rng.standard_normal((60, 1)))[0] < 0


def test_a_factor_that_is_always_the_same_has_no_gap(factors: np.ndarray) -> None:
    still = np.concatenate([factors[:, :1], np.ones((COUNT, 1))], axis=1)
    gaps = information_gaps(factors, still)
    assert gaps[0] == pytest.approx(1, abs=0.02)
    assert np.isnan(gaps[1])
