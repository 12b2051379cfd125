"""Aggregate posterior against the prior with known values; collapse, the kernel test, and labels in the latent."""

import math

import numpy as np
import pytest
import torch

from vaelab.evaluation.latent import (
    active_units,
    aggregate_divergence,
    aggregate_log_prob,
    cluster_accuracy,
    collapsed_units,
    kernel_two_sample,
    moment_divergence,
    neighbour_accuracy,
    normal_quantiles,
)
from vaelab.models.distributions import Gaussian


def of_prior(count: int, width: int, log_variance: float) -> Gaussian:
    """Posteriors whose average is N(0, I) in the limit of many: means of variance 1 − σ²."""
    generator = torch.Generator().manual_seed(0)
    spread = math.sqrt(1 - math.exp(log_variance))
    return Gaussian(spread * torch.randn(count, width, generator=generator), torch.full((count, width), log_variance))


def draws(count: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_aggregate_of_one_posterior_is_that_posterior() -> None:
    one = Gaussian(torch.tensor([[0.5, -1.0]]), torch.tensor([[0.2, -0.3]]))
    z = torch.randn(7, 2, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(aggregate_log_prob(z, one), one.log_prob(z))


def test_aggregate_log_prob_does_not_depend_on_what_is_held_at_once() -> None:
    many, z = of_prior(50, 3, -1.0), torch.randn(11, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(aggregate_log_prob(z, many, most_at_once=1), aggregate_log_prob(z, many))


def test_divergence_of_one_gaussian_is_its_closed_form() -> None:
    """Mixture and moments agree with ½(σ² + μ² − 1 − ln σ²)."""
    one = Gaussian(torch.tensor([[0.5, -1.0]]), torch.tensor([[0.2, -0.3]]))
    closed = one.rate().sum().item()
    assert moment_divergence(one) == pytest.approx(closed, abs=1e-6)
    estimate = aggregate_divergence(one, samples=20_000)
    assert estimate.nats == pytest.approx(closed, abs=4 * estimate.error)
    assert estimate.error < 0.02


def test_posteriors_that_fill_the_prior_have_little_divergence_and_a_hole_has_much() -> None:
    full = aggregate_divergence(of_prior(4000, 2, -1.0))
    assert abs(full.nats) < 0.02
    many = of_prior(4000, 2, -3.0)
    pushed = Gaussian(many.mean + 2 * torch.sign(many.mean), many.log_variance)  # nothing near the axes
    assert aggregate_divergence(pushed).nats > 1.5


def test_estimate_cannot_fall_below_rate_less_log_count() -> None:
    """Narrow posteriors: a mixture of 100 stays at the floor given in the docstring, far from the true value."""
    narrow = of_prior(100, 8, -8.0)
    rate = narrow.rate().sum(-1).mean().item()
    assert aggregate_divergence(narrow).nats >= rate - math.log(100) - 0.5
    assert moment_divergence(narrow) < 1.0


def test_active_units_are_those_whose_mean_moves() -> None:
    mean = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.2, 0.05, 0.0])
    assert active_units(mean) == 2


def test_leaving_one_out_is_the_mixture_of_the_others() -> None:
    many, z = of_prior(5, 2, -1.0), torch.randn(3, 2, generator=torch.Generator().manual_seed(1))
    left_out = torch.tensor([4, 0, 2])
    found = aggregate_log_prob(z, many, without=left_out, most_at_once=1)
    for i, out in enumerate(left_out.tolist()):
        others = many.log_prob(z[i])
        kept = torch.cat([others[:out], others[out + 1 :]])
        assert found[i].item() == pytest.approx(torch.logsumexp(kept, 0).item() - math.log(4), abs=1e-5)


@pytest.mark.parametrize("count", [50, 1000])
def test_the_truth_lies_between_both_estimates(count: int) -> None:
    """With infinitely many images the aggregate is N(0, I) and the divergence 0; more images narrow the two estimates."""
    many = of_prior(count, 2, -3.0)
    above, below = aggregate_divergence(many), aggregate_divergence(many, leave_one_out=True)
    assert below.nats - 3 * below.error < 0 < above.nats + 3 * above.error
    assert above.nats - below.nats < {50: 3.0, 1000: 0.12}[count]
    assert above.nats - below.nats > {50: 0.3, 1000: 0.01}[count]


def test_a_planted_collapse_is_found() -> None:
    mean = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.02, 0.5, 0.0])
    assert collapsed_units(mean) == (1, 3)
    assert active_units(mean) == 2


# The kernel two-sample test.


def test_mmd_is_the_sum_over_all_pairs() -> None:
    one, other = draws(6, 2, 0).double(), draws(4, 2, 1).double() + 0.5
    every = torch.cat([one, other])
    apart = sorted((a - b).norm().item() for i, a in enumerate(every) for b in every[:i])
    bandwidth = apart[(len(apart) - 1) // 2]  # the lower of two middles, as torch takes it

    def kernel(a: torch.Tensor, b: torch.Tensor) -> float:
        return math.exp(-(a - b).square().sum().item() / (2 * bandwidth**2))

    within = [
        sum(kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j) / (len(x) * (len(x) - 1))
        for x in (one, other)
    ]
    across = sum(kernel(a, b) for a in one for b in other) / 24
    assert kernel_two_sample(one, other).squared == pytest.approx(sum(within) - 2 * across, abs=1e-9)


def test_kernel_test_tells_a_shift_and_a_spread_and_not_the_same() -> None:
    prior = draws(300, 3, 0)
    assert kernel_two_sample(draws(300, 3, 1) + 0.4, prior).p_value == pytest.approx(1 / 501)
    assert kernel_two_sample(draws(300, 3, 1) * 1.5, prior).p_value < 0.01


def test_p_values_of_one_distribution_are_spread_evenly() -> None:
    found = [kernel_two_sample(draws(40, 2, 2 * i), draws(60, 2, 2 * i + 1), permutations=99) for i in range(60)]
    p_values = torch.tensor([test.p_value for test in found])
    assert 0.35 < p_values.mean() < 0.65
    assert 0 < (p_values < 0.2).float().mean() < 0.4
    assert abs(torch.tensor([test.squared for test in found]).mean()) < 0.004
    assert all(test.chance > 0 for test in found)


def test_quantiles_of_a_normal_lie_on_the_diagonal_and_those_of_a_wider_one_steeper() -> None:
    pairs = normal_quantiles(draws(20_000, 2, 0) * torch.tensor([1.0, 2.0]), points=19)
    assert pairs.shape == (2, 19, 2)
    torch.testing.assert_close(pairs[0, :, 1], pairs[0, :, 0], atol=0.06, rtol=0)
    torch.testing.assert_close(pairs[1, :, 1], 2 * pairs[1, :, 0], atol=0.12, rtol=0)


# Labels.


def clusters(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Three distant clusters whose labels are not in the order of their positions."""
    labels = np.arange(count) % 3
    centres = np.array([[9.0, 0], [-9, 0], [0, 9]])
    return centres[labels] + np.random.default_rng(seed).standard_normal((count, 2)), labels


def test_neighbours_and_clusters_read_clouds_and_guess_at_noise() -> None:
    (known, labels), (asked, truth) = clusters(60, 0), clusters(30, 1)
    assert neighbour_accuracy(known, labels, asked, truth) == 1
    assert cluster_accuracy(known, asked, truth, classes=3) == 1
    rng = np.random.default_rng(2)
    noise, other = rng.standard_normal((300, 2)), rng.standard_normal((900, 2))
    drawn, drawn_other = rng.integers(0, 3, 300), rng.integers(0, 3, 900)
    assert neighbour_accuracy(noise, drawn, other, drawn_other) == pytest.approx(1 / 3, abs=0.06)
    assert cluster_accuracy(noise, other, drawn_other, classes=3) == pytest.approx(1 / 3, abs=0.06)


def test_fewer_points_than_neighbours_or_clusters() -> None:
    known, labels = np.array([[0.0], [0.0]]), np.array([1, 1])
    asked, truth = np.array([[1.0], [2.0]]), np.array([1, 0])
    assert neighbour_accuracy(known, labels, asked, truth, neighbours=5) == 0.5
    assert cluster_accuracy(known, asked, truth, classes=2) == 0.5
