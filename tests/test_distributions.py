"""Means, samples and initial parameters of the likelihoods agree with their densities; shapes broadcast as documented."""

import itertools
import math

import numpy as np
import pytest
import torch
from conftest import generator
from torch import Tensor

from vaelab.config import LikelihoodName
from vaelab.models.colour import ColourLogistic, TwoColour
from vaelab.models.distributions import (
    HALF_BIN,
    MIN_LOG_SCALE,
    Bernoulli,
    ContinuousBernoulli,
    DiscretisedLogistic,
    Gaussian,
    GaussianLikelihood,
    Likelihood,
    standard_normal_log_prob,
)
from vaelab.models.likelihoods import LIKELIHOODS
from vaelab.models.moments import CHANNEL_PAIRS, Moments

ETAS = [-30.0, -4.0, -0.51, -0.49, -0.101, -0.099, -1e-3, 0.0, 1e-3, 0.099, 0.101, 0.49, 0.51, 2.0, 30.0]
LEVELS = torch.arange(256, dtype=torch.float64) / 255
INDEPENDENT = [name for name in LIKELIHOODS if name not in ("colour-logistic", "two-colour")]
"""Likelihoods whose values are independent given z."""

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
    if likelihood in (DiscretisedLogistic, ColourLogistic, TwoColour):
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
    half = HALF_BIN * math.exp(-MIN_LOG_SCALE)
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


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *itertools.product(INDEPENDENT, [(3,), (1, 2, 3), (3, 4, 5)]),
        ("colour-logistic", (3, 4, 5)),
        ("two-colour", (3, 4, 5)),
    ],
)
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


@pytest.mark.parametrize("name", INDEPENDENT)
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
    parameters, _ = example(likelihood, (3, 4, 4))
    p = likelihood(parameters, 3)
    state = torch.random.get_rng_state()
    assert torch.equal(p.sample(generator(1)), p.sample(generator(1)))
    assert not torch.equal(p.sample(generator(1)), p.sample(generator(2)))
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.parametrize("name", ["bernoulli", "continuous-bernoulli", "gaussian"])
def test_initial_has_the_mean_of_the_data(name: LikelihoodName) -> None:
    mean = torch.tensor([0.03, 0.13, 0.4, 0.5, 0.8, 0.97])
    likelihood = LIKELIHOODS[name]
    start = likelihood.initial(Moments(mean, 0.5 * mean * (1 - mean)))
    assert start.shape == (likelihood.n_parameters, 6)
    torch.testing.assert_close(likelihood(start, 1).mean(), mean, rtol=0, atol=1e-4)


def test_initial_of_the_logistic_has_the_mean_of_the_data() -> None:
    """If little of its mass lies beyond black and white."""
    mean, variance = torch.tensor([0.2, 0.4, 0.5, 0.75]), torch.tensor([0.003, 0.02, 0.03, 0.004])
    start = DiscretisedLogistic.initial(Moments(mean, variance))
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

    start = likelihood.initial(Moments(data.mean(0), data.var(0, correction=0)))
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


@pytest.mark.parametrize("name", INDEPENDENT)
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


def one_pixel(centre: list[float], log_scale: list[float], coupling: list[float], count: int = 1) -> ColourLogistic:
    """The colour logistic of `count` equal pixels, in float64; `centre` is on the scale of x."""
    outputs = torch.tensor([[c - 0.5 for c in centre], log_scale, coupling], dtype=torch.float64)
    return ColourLogistic(outputs[None, :, :, None, None].expand(1, -1, -1, count, 1), 3)


PIXELS = {
    "inside": ([0.4, 0.5, 0.6], [-4.0, -5.0, -4.5], [0.9, 0.3, 0.6]),
    "wide": ([0.3, 0.6, 0.5], [-2.5, -3.0, -2.0], [1.2, -0.4, 0.5]),
    "near black": ([0.02, 0.05, -0.02], [-3.0, -4.0, -3.5], [0.8, 0.1, 0.9]),
    "wide near black": ([0.0, 0.05, 0.1], [-2.5, -3.0, -3.0], [1.0, 0.5, 0.5]),
    "beyond white": ([1.1, 0.98, 1.02], [-3.5, -3.0, -4.0], [1.0, 0.5, 0.5]),
}


def test_the_colour_logistic_is_a_logistic_for_each_channel_given_the_ones_before() -> None:
    centre, log_scale, (k1, k2, k3) = PIXELS["inside"]
    x = [100 / 255, 140 / 255, 150 / 255]
    red, green = x[0] - centre[0], x[1] - centre[1]
    given = [centre[0], centre[1] + k1 * red, centre[2] + k2 * red + k3 * green]
    expected = sum(
        one_value(DiscretisedLogistic, [c - 0.5, math.log(math.expm1(s + 7)) - 7]).log_prob(torch.tensor([[level]]))
        for c, s, level in zip(given, (math.log1p(math.exp(s + 7)) - 7 for s in log_scale), x, strict=True)
    )
    got = one_pixel(centre, log_scale, [k1, k2, k3]).log_prob(torch.tensor(x)[None, :, None, None].double())
    torch.testing.assert_close(got, expected)


def test_the_colour_logistic_sums_to_one() -> None:
    """Over the colours of at most 100 per channel, where nearly all of the mass is."""
    red, green, blue = torch.meshgrid(LEVELS[:101], LEVELS[:101], LEVELS[:101], indexing="ij")
    x = torch.stack([red.flatten(), green.flatten(), blue.flatten()])[:, :, None]
    centre, log_scale, (k1, k2, k3) = PIXELS["near black"]
    outputs = torch.tensor([[c - 0.5 for c in centre], log_scale, [k1, k2, k3]], dtype=torch.float64)
    pixels = ColourLogistic(outputs[None, :, :, None, None].expand(x.shape[1], -1, -1, 1, 1), 3)
    assert pixels.log_prob(x.movedim(1, 0)[..., None]).exp().sum().item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("pixel", PIXELS.values(), ids=PIXELS)
def test_colour_samples_have_their_mean_and_are_best_explained_by_their_own_couplings(
    pixel: tuple[list[float], list[float], list[float]],
) -> None:
    centre, log_scale, coupling = pixel
    drawn = one_pixel(*pixel, DRAWS).sample(generator(1))
    torch.testing.assert_close(drawn * 255, (drawn * 255).round(), rtol=0, atol=1e-4)
    assert (drawn.mean((0, 2, 3)) - one_pixel(*pixel).mean().flatten()).abs().max() <= 1 / 255
    best = one_pixel(*pixel, DRAWS).log_prob(drawn)
    for index, step in itertools.product(range(3), (-0.1, 0.1)):
        moved = [value + step * (at == index) for at, value in enumerate(coupling)]
        assert one_pixel(centre, log_scale, moved, DRAWS).log_prob(drawn) < best


def test_the_initial_colour_logistic_has_the_mean_and_the_couplings_of_the_data() -> None:
    draw = generator(6)
    red, more, rest = torch.randn(3, 20_000, generator=draw)
    green, blue = 0.8 * red + 0.3 * more, 0.2 * red + 0.5 * more + 0.1 * rest  # blue is 5/3 of green less 17/15 of red
    data = (0.5 + 0.1 * torch.stack([red, green, blue])).double()
    between = torch.stack([((data[i] - data[i].mean()) * (data[j] - data[j].mean())).mean() for i, j in CHANNEL_PAIRS])
    moments = Moments(*(each.view(3, 1, 1) for each in (data.mean(1), data.var(1, correction=0), between)))
    centre, log_scale, coupling = ColourLogistic.initial(moments).flatten(1)
    torch.testing.assert_close(centre + 0.5, data.mean(1))
    torch.testing.assert_close(coupling, torch.tensor([0.8, 0.2 - 0.8 * 5 / 3, 5 / 3]).double(), rtol=0.02, atol=0.01)
    deviations = torch.exp(log_scale) * math.pi / math.sqrt(3)
    torch.testing.assert_close(deviations, torch.tensor([0.1, 0.03, 0.01]).double(), rtol=0.02, atol=0)


@pytest.mark.parametrize("log_scale", [-80.0, -7.0, 0.0, 8.0])
@pytest.mark.parametrize("coupling", [-80.0, 0.0, 1.0, 80.0])
def test_the_colour_logistic_stays_finite_in_float32(log_scale: float, coupling: float) -> None:
    centres = torch.cartesian_prod(*[torch.tensor([-80.0, 0.0, 80.0])] * 3)
    planes = [centres, torch.full_like(centres, log_scale), torch.full_like(centres, coupling)]
    parameters = torch.stack(planes, 1)[..., None, None].requires_grad_()
    p = ColourLogistic(parameters, 3)
    for level in (0.0, 0.5, 1.0):
        got = p.log_prob(torch.full((len(centres), 3, 1, 1), level))
        (gradient,) = torch.autograd.grad(got.sum(), parameters)
        assert got.isfinite().all()
        assert gradient.isfinite().all()
    assert p.mean().isfinite().all()
    assert p.sample(generator(0)).isfinite().all()
