"""Distances of feature sets: closed forms, planted overlaps, and the expectations of the papers."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vaelab.evaluation.fidelity import (
    class_variances,
    frechet_curve,
    frechet_distance,
    kernel_distance,
    manifold,
)


def normal(count: int, width: int, seed: int) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_moments(mean: Tensor, covariance: Tensor, count: int, seed: int) -> Tensor:
    """A sample with exactly this mean and covariance."""
    drawn = normal(count, len(mean), seed)
    centred = drawn - drawn.mean(0)
    whitened = centred @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(centred.T))).T
    return mean + whitened @ torch.linalg.cholesky(covariance).T


def test_fid_of_gaussians_is_the_closed_form() -> None:
    """Commuting covariances: ‖μ − μ'‖² + Σ (√a − √b)² over their common axes."""
    axes = torch.linalg.qr(normal(4, 4, 0)).Q
    a, b = torch.tensor([1.0, 2.0, 0.5, 3.0]).double(), torch.tensor([2.0, 2.0, 1.5, 0.1]).double()
    shift = torch.tensor([0.3, -1.0, 0.0, 0.5]).double()
    real = with_moments(torch.zeros(4).double(), axes @ a.diag() @ axes.T, 50, 1)
    generated = with_moments(shift, axes @ b.diag() @ axes.T, 70, 2)
    expected = float(shift.square().sum() + (a.sqrt() - b.sqrt()).square().sum())
    assert frechet_distance(real, generated) == pytest.approx(expected, abs=1e-5)
    assert frechet_distance(generated, real) == pytest.approx(expected, abs=1e-5)


def test_fid_of_covariances_that_do_not_commute() -> None:
    """tr (S T)^½ of 2×2 matrices is √(tr(S T) + 2 √(det S det T))."""
    S, T = torch.tensor([[2.0, 0.8], [0.8, 1.0]]).double(), torch.tensor([[0.5, -0.3], [-0.3, 3.0]]).double()
    root = math.sqrt(float(torch.trace(S @ T)) + 2 * math.sqrt(float(torch.det(S) * torch.det(T))))
    expected = float(torch.trace(S) + torch.trace(T)) - 2 * root
    zero = torch.zeros(2).double()
    assert frechet_distance(with_moments(zero, S, 30, 1), with_moments(zero, T, 30, 2)) == pytest.approx(
        expected, abs=1e-6
    )


def test_fid_of_a_set_against_itself_is_0_and_grows_with_noise() -> None:
    real, noise = normal(400, 6, 0).abs(), normal(400, 6, 1)
    found = [frechet_distance(real, real + amount * noise) for amount in (0.0, 0.2, 0.5, 1.0)]
    assert found[0] == pytest.approx(0, abs=1e-6)
    assert all(later > 2 * earlier + 1e-3 for earlier, later in itertools.pairwise(found))


def test_fid_is_biased_up_where_images_are_few_and_the_curve_shows_it() -> None:
    curve = frechet_curve(normal(800, 5, 0), normal(800, 5, 1), (50, 200, 800))
    assert [point.count for point in curve] == [10, 4, 1]
    assert curve[0].value > 2 * curve[1].value > 4 * curve[2].value > 0
    assert curve[0].error > 0
    assert math.isnan(curve[2].error)


def naive_kid(real: np.ndarray, generated: np.ndarray) -> float:
    """The unbiased estimate of MMD² by its definition, pair by pair."""

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / len(x) + 1) ** 3)

    n = len(real)
    within = sum(kernel(s[i], s[j]) for s in (real, generated) for i in range(n) for j in range(n) if i != j)
    across = sum(kernel(x, y) for x in real for y in generated)
    return within / (n * (n - 1)) - 2 * across / n**2


def test_kid_is_its_definition() -> None:
    real, generated = normal(12, 3, 0), normal(12, 3, 1) + 0.7
    expected = naive_kid(real.numpy(), generated.numpy())
    assert kernel_distance(real, generated).value == pytest.approx(expected, abs=1e-9)
    blocks = [naive_kid(real[i : i + 4].numpy(), generated[i : i + 4].numpy()) for i in (0, 4, 8)]
    found = kernel_distance(real, generated, block=4)
    assert found.value == pytest.approx(np.mean(blocks), abs=1e-9)
    assert found.error == pytest.approx(np.std(blocks, ddof=1) / math.sqrt(3), abs=1e-9)


def test_kid_of_two_points_is_the_kernels_closed_form() -> None:
    a, b = torch.tensor([[1.0, 2.0]]).expand(5, 2), torch.tensor([[0.0, -1.0]]).expand(5, 2)
    expected = (5 / 2 + 1) ** 3 + (1 / 2 + 1) ** 3 - 2 * (-2 / 2 + 1) ** 3
    assert kernel_distance(a, b).value == pytest.approx(expected, abs=1e-9)


def test_kid_is_without_bias_and_leaves_the_global_random_state_alone() -> None:
    state = torch.get_rng_state()
    equal = kernel_distance(normal(2000, 4, 0), normal(2000, 4, 1), block=100)
    moved = kernel_distance(normal(2000, 4, 0), normal(2000, 4, 1) + 0.3, block=100)
    assert torch.equal(torch.get_rng_state(), state)
    assert equal.value == pytest.approx(0, abs=4 * equal.error)
    assert moved.value > 8 * moved.error


def test_manifold_of_a_set_against_itself() -> None:
    """Each image lies in its own ball and in those it is a neighbour in: k + 1 balls hold k + 1 images each."""
    real = normal(200, 3, 0)
    found = manifold(real, real, k=5)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)
    assert found.density == pytest.approx(6 / 5)


def test_manifold_of_one_distribution_is_what_the_papers_expect() -> None:
    """Density 1, and coverage 1 − Π (N − i)/(M + N − i), i = 1…k (Naeem et al. 2020, lemmas 1 and 2)."""
    n, m, k = 1500, 1000, 5
    found = manifold(normal(n, 2, 0), normal(m, 2, 1), k=k)
    missed = math.prod((n - i) / (m + n - i) for i in range(1, k + 1))
    assert found.density == pytest.approx(1, abs=0.06)
    assert found.coverage == pytest.approx(1 - missed, abs=0.03)
    assert found.precision > 0.97
    assert found.recall > 0.95


def test_manifold_of_gaussians_that_lie_apart_is_0() -> None:
    found = manifold(normal(100, 3, 0), normal(80, 3, 1) + 50)
    assert found == (0, 0, 0, 0)


@pytest.mark.parametrize(("share", "kept"), [(0.5, 0.5), (0.25, 0.8)])
def test_precision_and_recall_of_gaussians_with_known_overlap(share: float, kept: float) -> None:
    """Two real Gaussians far apart. The generated set has `share` of its images in the first, the rest in a third.

    So precision is `share`, and recall, like coverage, the share of real images in the first.
    """
    first = torch.tensor([40.0, 0.0]).double()
    third = torch.tensor([0.0, 40.0]).double()
    n = 1000
    real = normal(n, 2, 0)
    real[: int(kept * n)] += first
    generated = normal(n, 2, 1) + third
    generated[: int(share * n)] = normal(int(share * n), 2, 2) + first
    found = manifold(real, generated)
    assert found.precision == pytest.approx(share, abs=0.02)
    assert found.recall == pytest.approx(kept, abs=0.04)
    # as many balls of the first hold a generated image as the paper expects of its M = share · n images
    missed = math.prod((kept * n - i) / (kept * n + share * n - i) for i in range(1, 6))
    assert found.coverage == pytest.approx(kept * (1 - missed), abs=0.05)


def test_dense_modes_without_the_rest_have_precision_and_no_recall() -> None:
    found = manifold(normal(800, 2, 0), 0.1 * normal(800, 2, 1))
    assert found.precision > 0.99
    assert found.recall < 0.1
    assert found.coverage < 0.2


def test_spread_is_half_the_mean_squared_distance_within_a_class() -> None:
    values, labels = np.random.default_rng(0).standard_normal((30, 4)), np.arange(30) % 3
    found = class_variances(values, labels, np.array([0, 2, 7]))
    for place, label in ((0, 0), (1, 2)):
        chosen = values[labels == label]
        squared = [((a - b) ** 2).sum() for i, a in enumerate(chosen) for b in chosen[:i]]
        assert found[place] == pytest.approx(np.mean(squared) / 2)
    assert math.isnan(found[2])
