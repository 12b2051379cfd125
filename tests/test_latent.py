"""The aggregate posterior against the prior, where both are known exactly."""

import math

import pytest
import torch

from vaelab.distributions import Gaussian
from vaelab.evaluation.latent import active_units, aggregate_divergence, aggregate_log_prob, moment_divergence


def of_prior(count: int, width: int, log_variance: float) -> Gaussian:
    """Posteriors whose average is N(0, I) in the limit of many: means of variance 1 − σ²."""
    generator = torch.Generator().manual_seed(0)
    spread = math.sqrt(1 - math.exp(log_variance))
    return Gaussian(spread * torch.randn(count, width, generator=generator), torch.full((count, width), log_variance))


def test_aggregate_of_one_posterior_is_that_posterior() -> None:
    one = Gaussian(torch.tensor([[0.5, -1.0]]), torch.tensor([[0.2, -0.3]]))
    z = torch.randn(7, 2, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(aggregate_log_prob(z, one), one.log_prob(z))


def test_aggregate_log_prob_does_not_depend_on_what_is_held_at_once() -> None:
    many, z = of_prior(50, 3, -1.0), torch.randn(11, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(aggregate_log_prob(z, many, most_at_once=1), aggregate_log_prob(z, many))


def test_divergence_of_one_gaussian_is_its_closed_form() -> None:
    """Then mixture and moments agree with ½(σ² + μ² − 1 − ln σ²)."""
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
    """Narrow posteriors: the mixture of 100 is far from that of endless images, and the docstring's floor is where it stays."""
    narrow = of_prior(100, 8, -8.0)
    rate = narrow.rate().sum(-1).mean().item()
    assert aggregate_divergence(narrow).nats >= rate - math.log(100) - 0.5
    assert moment_divergence(narrow) < 1.0


def test_active_units_are_those_whose_mean_moves() -> None:
    mean = torch.randn(500, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 0.2, 0.05, 0.0])
    assert active_units(mean) == 2
