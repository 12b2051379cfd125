"""Means, samples and initial parameters of the likelihoods agree with their densities; shapes broadcast as documented."""

import math

import numpy as np
import pytest
import torch
from conftest import generator
from torch import Tensor

from vaelab.config import LikelihoodName
from vaelab.models.distributions import (
    LIKELIHOODS,
    Bernoulli,
    ContinuousBernoulli,
    DiscretisedLogistic,
    Gaussian,
    GaussianLikelihood,
    Likelihood,
    standard_normal_log_prob,
)

ETAS = [-30.0, -4.0, -0.51, -0.49, -0.101, -0.099, -1e-3, 0.0, 1e-3, 0.099, 0.101, 0.49, 0.51, 2.0, 30.0]
LEVELS = torch.arange(256, dtype=torch.float64) / 255
DRAWS = 100_000
STANDARD_ERRORS = 5


def one_value(likelihood: type[Likelihood], parameters: list[float]) -> Likelihood:
    """The likelihood of one value, in float64."""
    return likelihood(torch.tensor(parameters, dtype=torch.float64)[:, None], 1)


def draws(likelihood: type[Likelihood], parameters: list[float]) -> Tensor:
    """Many independent samples of one value."""
    many = torch.tensor(parameters, dtype=torch.float64).expand(DRAWS, -1)[:, :, None]
    return likelihood(many, 1).sample(generator(1)).flatten().double()


def assert_mean(values: Tensor, expected: float) -> None:
    error = values.std() / math.sqrt(len(values))
    assert (values.mean() - expected).abs() <= STANDARD_ERRORS * error + 1e-7


def unit_quadrature() -> tuple[Tensor, Tensor]:
    nodes, weights = np.polynomial.legendre.leggauss(120)
    return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)


def level_probabilities(parameters: list[float]) -> Tensor:
    """Probabilities of the 256 levels under one discretised logistic."""
    many = torch.tensor(parameters, dtype=torch.float64).expand(256, -1)[:, :, None]
    return DiscretisedLogistic(many, 1).log_prob(LEVELS[:, None]).exp()


def example(likelihood: type[Likelihood], shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Parameters (5, 2, 4, planes, *shape), and x (4, *shape) in the domain of the likelihood."""
    parameters = torch.randn(5, 2, 4, likelihood.n_parameters, *shape, generator=generator(2), dtype=torch.float64)
    x = torch.rand(4, *shape, generator=generator(3), dtype=torch.float64)
    if likelihood is Bernoulli:
        x = x.round()
    if likelihood is DiscretisedLogistic:
        x = torch.round(x * 255) / 255
    return parameters, x


def test_bernoulli_log_prob_is_that_of_its_log_odds() -> None:
    logits = torch.tensor([[[-2.0, 0.5, 3.0]]])
    p = torch.sigmoid(logits.flatten())
    got = Bernoulli(logits, 1).log_prob(torch.tensor([[1.0, 0.0, 1.0]]))
    torch.testing.assert_close(got, (p[0] * (1 - p[1]) * p[2]).log()[None])


@pytest.mark.parametrize("eta", ETAS)
def test_continuous_bernoulli_mean_is_that_of_its_density(eta: float) -> None:
    nodes, weights = unit_quadrature()
    density = ContinuousBernoulli(torch.full((120, 1, 1), eta, dtype=torch.float64), 1).log_prob(nodes[:, None]).exp()
    got = one_value(ContinuousBernoulli, [eta]).mean().item()
    assert got == pytest.approx((weights * density * nodes).sum().item(), abs=1e-7)


def test_continuous_bernoulli_is_the_published_density() -> None:
    # Loaiza-Ganem & Cunningham 2019, eq. 2–3: C(λ) λˣ (1 − λ)¹⁻ˣ with C = 2 artanh(1 − 2λ) / (1 − 2λ).
    for eta in (-6.0, -0.7, 0.3, 3.0):
        lam, x = 1 / (1 + math.exp(-eta)), 0.3
        constant = 2 * math.atanh(1 - 2 * lam) / (1 - 2 * lam)
        expected = math.log(constant * lam**x * (1 - lam) ** (1 - x))
        got = ContinuousBernoulli(torch.full((1, 1, 1), eta, dtype=torch.float64), 1)
        assert got.log_prob(torch.tensor([[x]])).item() == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("eta", [-30.0, -2.0, -5e-4, 0.0, 1e-3, 2.0, 30.0])
def test_continuous_bernoulli_draws_have_its_moments(eta: float) -> None:
    nodes, weights = unit_quadrature()
    density = ContinuousBernoulli(torch.full((120, 1, 1), eta, dtype=torch.float64), 1).log_prob(nodes[:, None]).exp()
    drawn = draws(ContinuousBernoulli, [eta])
    assert 0 <= drawn.min() <= drawn.max() <= 1
    for power in (1, 2, 5):
        assert_mean(drawn**power, (weights * density * nodes**power).sum().item())


@pytest.mark.parametrize("centre", [-1.5, -0.5, -0.3, -0.1, 0.0003, 0.25, 0.4987, 0.5, 1.5])
@pytest.mark.parametrize("log_scale", [-20.0, -6.0, -4.0, -2.0, 0.0, 3.0])
def test_logistic_mean_is_within_half_a_level(centre: float, log_scale: float) -> None:
    exact = (level_probabilities([centre, log_scale]) * LEVELS).sum().item()
    got = one_value(DiscretisedLogistic, [centre, log_scale]).mean().item()
    assert abs(got - exact) <= 0.5 / 255 + 1e-7


@pytest.mark.parametrize("parameters", [[-0.2, -4.0], [0.5, -3.0], [-0.49, -2.0], [0.1, -6.5], [0.3, 0.5], [-2.0, 0.0]])
def test_logistic_samples_match_the_level_probabilities(parameters: list[float]) -> None:
    drawn = draws(DiscretisedLogistic, parameters)
    expected = DRAWS * level_probabilities(parameters)
    counts = torch.bincount((drawn * 255).round().long(), minlength=256).double()
    torch.testing.assert_close(drawn * 255, (drawn * 255).round(), rtol=0, atol=1e-4)
    rare = expected < 10
    chi_square = ((counts - expected).square() / expected)[~rare].sum()
    freedom = int((~rare).sum())
    assert chi_square <= freedom + 5 * math.sqrt(2 * freedom)
    assert abs(counts[rare].sum() - expected[rare].sum()) <= 5 * expected[rare].sum().sqrt() + 5


def test_logistic_scale_has_a_floor() -> None:
    """Below a quarter of a level the scale has no effect, so probabilities do not degenerate."""
    # The 256 levels are 1/255 apart; at the floor e^−7 the middle level has (1 − e^−2.15) / (1 + e^−2.15) of the mass.
    half = DiscretisedLogistic.half_bin * math.exp(-DiscretisedLogistic.min_log_scale)
    at_floor = level_probabilities([100 / 255 - 0.5, -60.0])
    assert at_floor[100].item() == pytest.approx(math.tanh(half / 2), abs=1e-9)


@pytest.mark.parametrize("logit", [-4.0, 0.3])
def test_bernoulli_samples_match_the_probability(logit: float) -> None:
    drawn = draws(Bernoulli, [logit])
    assert set(drawn.unique().tolist()) == {0, 1}
    assert_mean(drawn, 1 / (1 + math.exp(-logit)))


def test_gaussian_draws_have_its_moments() -> None:
    raw = 0.7
    variance = math.exp(math.log1p(math.exp(raw + 10)) - 10)
    drawn = draws(GaussianLikelihood, [1.5, raw])
    assert_mean(drawn, 1.5)
    assert_mean((drawn - 1.5).square(), variance)
    assert one_value(GaussianLikelihood, [1.5, raw]).mean().item() == 1.5


def test_gaussian_is_a_density_in_the_units_of_x() -> None:
    parameters, x = example(GaussianLikelihood, (3,))
    location, scale = torch.tensor([5.0, -1.0, 0.0]), torch.tensor([0.01, 1.0, 300.0])
    plain, moved = GaussianLikelihood(parameters, 1), GaussianLikelihood(parameters, 1, location, scale)
    expected = plain.log_prob(x) - scale.double().log().sum()
    torch.testing.assert_close(moved.log_prob(location + scale * x), expected)
    torch.testing.assert_close(moved.mean(), location + scale * plain.mean())
    drawn = location + scale * plain.sample(generator(1))
    torch.testing.assert_close(moved.sample(generator(1)), drawn)


def test_gaussian_variance_has_a_floor() -> None:
    density = GaussianLikelihood(torch.tensor([[[2.0], [-60.0]]], dtype=torch.float64), 1)
    expected = -0.5 * (math.log(2 * math.pi) + GaussianLikelihood.min_log_variance)
    assert density.log_prob(torch.tensor([[2.0]], dtype=torch.float64)).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("shape", [(3,), (1, 2, 3), (3, 4, 5)])
@pytest.mark.parametrize("name", LIKELIHOODS)
def test_leading_samples_equal_a_loop(name: LikelihoodName, shape: tuple[int, ...]) -> None:
    likelihood = LIKELIHOODS[name]
    parameters, x = example(likelihood, shape)
    whole = likelihood(parameters, len(shape))
    got, mean, drawn = whole.log_prob(x), whole.mean(), whole.sample(generator(4))
    assert got.shape == (5, 2, 4)
    assert mean.shape == drawn.shape == (5, 2, 4, *shape)
    for i in range(5):
        for j in range(2):
            part = likelihood(parameters[i, j], len(shape))
            torch.testing.assert_close(got[i, j], part.log_prob(x))
            torch.testing.assert_close(mean[i, j], part.mean())


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_values_are_independent_and_summed(name: LikelihoodName) -> None:
    """An image's log-probability is the sum over its values, each under its own parameters."""
    likelihood = LIKELIHOODS[name]
    parameters, x = example(likelihood, (3, 2, 2))
    parameters = parameters[0, 0]
    whole = likelihood(parameters, 3).log_prob(x)
    values = likelihood(parameters.flatten(2).movedim(2, 0).reshape(-1, likelihood.n_parameters, 1), 1)
    single = values.log_prob(x.flatten(1).T.reshape(-1, 1)).reshape(12, 4)
    torch.testing.assert_close(whole, single.sum(0))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_samples_depend_on_the_generator_only(name: LikelihoodName) -> None:
    likelihood = LIKELIHOODS[name]
    parameters, _ = example(likelihood, (1, 4, 4))
    p = likelihood(parameters, 3)
    state = torch.random.get_rng_state()
    assert torch.equal(p.sample(generator(1)), p.sample(generator(1)))
    assert not torch.equal(p.sample(generator(1)), p.sample(generator(2)))
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("name", ["bernoulli", "continuous-bernoulli", "gaussian"])
def test_initial_has_the_mean_of_the_data(name: LikelihoodName) -> None:
    mean = torch.tensor([0.03, 0.13, 0.4, 0.5, 0.8, 0.97])
    likelihood = LIKELIHOODS[name]
    start = likelihood.initial(mean, 0.5 * mean * (1 - mean))
    assert start.shape == (likelihood.n_parameters, 6)
    torch.testing.assert_close(likelihood(start, 1).mean(), mean, rtol=0, atol=1e-4)


def test_initial_of_the_logistic_has_the_mean_of_the_data() -> None:
    """If little of its mass lies beyond black and white."""
    mean, variance = torch.tensor([0.2, 0.4, 0.5, 0.75]), torch.tensor([0.003, 0.02, 0.03, 0.004])
    start = DiscretisedLogistic.initial(mean, variance)
    torch.testing.assert_close(DiscretisedLogistic(start, 1).mean(), mean, rtol=0, atol=2e-3)


@pytest.mark.parametrize(
    ("name", "slack"), [("bernoulli", 1e-4), ("continuous-bernoulli", 1e-4), ("logistic", 0.02), ("gaussian", 1e-3)]
)
def test_initial_is_the_best_constant_model(name: LikelihoodName, slack: float) -> None:
    """No other constant parameters have a higher likelihood per value, up to `slack` nats."""
    likelihood = LIKELIHOODS[name]
    data = torch.sigmoid(torch.randn(2000, 3, generator=generator(6)) - torch.tensor([0.0, 0.5, -1.0])).double()
    if name == "bernoulli":
        data = data.round()
    elif name == "logistic":
        data = torch.round(data * 255) / 255
    elif name == "gaussian":
        data = data * torch.tensor([1.0, 20.0, 300.0])

    def nats(parameters: Tensor) -> Tensor:
        """Mean −log p of each of the three values."""
        grid = parameters.T.reshape(3, 1, -1, 1).expand(-1, len(data), -1, -1)
        return torch.stack(
            [-likelihood(one, 1).log_prob(x[:, None]).mean() for one, x in zip(grid, data.T, strict=True)]
        )

    start = likelihood.initial(data.mean(0), data.var(0, correction=0))
    best = start.clone().requires_grad_()
    optimiser = torch.optim.LBFGS([best], max_iter=200, line_search_fn="strong_wolfe", tolerance_grad=1e-9)

    def closure() -> Tensor:
        optimiser.zero_grad()
        total = nats(best).sum()
        total.backward()
        return total

    optimiser.step(closure)
    assert (nats(start) - nats(best)).max().item() <= slack


def test_a_gaussian_of_variance_zero_is_a_point() -> None:
    mean = torch.tensor([[1.0, -2.0]], requires_grad=True)
    point = Gaussian(mean, torch.full((1, 2), -math.inf))
    drawn = point.sample(torch.tensor([[5.0, -7.0]]))
    assert torch.equal(drawn, mean)
    drawn.sum().backward()
    assert mean.grad is not None
    assert mean.grad.tolist() == [[1, 1]]


def test_gaussian_broadcasts_samples() -> None:
    draw = generator(8)
    gaussian = Gaussian(torch.randn(4, 3, generator=draw), torch.randn(4, 3, generator=draw))
    noise = torch.randn(6, 2, 4, 3, generator=draw)
    drawn = gaussian.sample(noise)
    got = gaussian.log_prob(drawn)
    assert got.shape == (6, 2, 4)
    torch.testing.assert_close(drawn[5, 1], gaussian.sample(noise[5, 1]))
    torch.testing.assert_close(got[5, 1], gaussian.log_prob(drawn[5, 1]))


def test_standard_normal_is_the_gaussian_of_mean_0_and_variance_1() -> None:
    value = torch.randn(7, 3, generator=generator(9), dtype=torch.float64)
    expected = Gaussian(torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)).log_prob(value)
    torch.testing.assert_close(standard_normal_log_prob(value), expected)
    torch.testing.assert_close(expected, torch.distributions.Normal(0.0, 1.0).log_prob(value).sum(-1))


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_far_parameters_stay_finite_in_float32(name: LikelihoodName) -> None:
    """Neither overconfident nor wrong parameters give NaN or infinity, in value or gradient."""
    likelihood = LIKELIHOODS[name]
    planes = [torch.tensor([-80.0, -3.0, 0.0, 1e-4, 3.0, 80.0])]
    if likelihood.n_parameters == 2:
        planes.append(torch.tensor([-80.0, -7.0, 0.0, 3.0, 8.0]))
    parameters = torch.cartesian_prod(*planes).reshape(-1, likelihood.n_parameters, 1).requires_grad_()
    for level in (0.0, 1 / 255, 0.5, 254 / 255, 1.0):
        value = level if name != "bernoulli" else round(level)
        p = likelihood(parameters, 1)
        got = p.log_prob(torch.full((len(parameters), 1), float(value)))
        assert got.isfinite().all()
        (gradient,) = torch.autograd.grad(got.sum(), parameters)
        assert gradient.isfinite().all()
        assert p.mean().isfinite().all()
        assert p.sample(generator(0)).isfinite().all()


@pytest.mark.parametrize("log_scale", [-1e4, -7.0, 0.0, 3.0, 20.0, 60.0, 90.0, 200.0, 1e4])
@pytest.mark.parametrize("centre", [-1e6, 0.0, 1e6])
def test_the_logistic_is_finite_with_its_gradient_at_any_scale(log_scale: float, centre: float) -> None:
    """A network that diverges claims such scales for some pixels; their gradient must lead back."""
    parameters = torch.tensor([centre, log_scale])[:, None].repeat(3, 1, 1).requires_grad_()
    x = torch.tensor([0.0, 100 / 255, 1.0])[:, None]
    nats = -DiscretisedLogistic(parameters, 1).log_prob(x)
    (gradient,) = torch.autograd.grad(nats.sum(), parameters)
    assert nats.isfinite().all()
    assert gradient.isfinite().all()
    if log_scale >= 20.0:
        assert gradient[1, 1, 0] == pytest.approx(1.0, abs=1e-3)  # an inner level wants a smaller scale


@pytest.mark.parametrize("log_scale", [-6.0, -2.0, 1.0, 5.0, 12.0])
def test_the_logistic_is_exact_in_float32(log_scale: float) -> None:
    double = torch.tensor([0.1, log_scale], dtype=torch.float64).expand(256, -1)[:, :, None]
    expected = DiscretisedLogistic(double, 1).log_prob(LEVELS[:, None])
    found = DiscretisedLogistic(double.float(), 1).log_prob(LEVELS.float()[:, None])
    torch.testing.assert_close(found.double(), expected, rtol=2e-5, atol=2e-5)
