"""The mathematics against closed forms, quadrature, Monte Carlo and finite differences."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from building import build_model, held_out_input, negative_importance_bound, trainer_of
from conftest import LinearGaussian, flat, generator, posterior_grid
from torch import Tensor, nn
from torch.autograd import gradcheck

from vaelab.config import Config, LikelihoodName, ModelConfig, NetworkName, TrainConfig
from vaelab.data import Dataset, Split
from vaelab.models.base import Model
from vaelab.models.distributions import (
    Bernoulli,
    DiscretisedLogistic,
    Gaussian,
    standard_normal_log_prob,
)
from vaelab.models.likelihoods import LIKELIHOODS
from vaelab.models.moments import Moments
from vaelab.models.vae import SingleLatentVAE
from vaelab.objectives import bounds, elbo, importance
from vaelab.optim.batches import ShuffledOrder
from vaelab.random import latent_noise
from vaelab.training.fit import fit

STANDARD_ERRORS = 5


def float64(values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def noise_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def assert_within_errors(values: Tensor, expected: Tensor) -> None:
    """Assert that the mean of independent `values` over dimension 0 is `expected`, within a few standard errors."""
    error = values.std(0) / math.sqrt(len(values))
    assert ((values.mean(0) - expected).abs() <= STANDARD_ERRORS * error).all()


# The rate.


def test_rate_is_the_closed_form_of_the_kl() -> None:
    mean, log_variance = noise_of(6, 3), noise_of(6, 3, seed=1)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, log_variance.exp().sqrt()), torch.distributions.Normal(0.0, 1.0)
    )
    torch.testing.assert_close(Gaussian(mean, log_variance).rate(), expected)


def test_rate_is_the_mean_of_the_log_ratio() -> None:
    q = Gaussian(float64([[0.7, -1.2, 0.1]]), float64([[-1.0, 0.4, 0.0]]))
    z = q.sample(noise_of(200_000, 1, 3))
    assert_within_errors(q.log_prob(z) - standard_normal_log_prob(z), q.rate().sum(-1))


def test_rate_is_zero_only_at_the_prior() -> None:
    zeros = torch.zeros(1, 3, dtype=torch.float64)
    assert Gaussian(zeros, zeros).rate().abs().max() == 0
    assert (Gaussian(noise_of(50, 3), noise_of(50, 3, seed=1)).rate() > 0).all()


# Each likelihood is normalised, over two values of x at once (or six bits).


def total_mass(name: LikelihoodName, parameters: Tensor, points: Tensor, weights: Tensor) -> Tensor:
    """Return ∫ p(x) dx of a row of two values with `parameters` (..., planes, 2), by quadrature over each value."""
    x = torch.cartesian_prod(points, points)
    rule = torch.cartesian_prod(weights, weights).prod(-1)
    everywhere = parameters[..., None, :, :].expand(*parameters.shape[:-2], len(x), *parameters.shape[-2:])
    return (LIKELIHOODS[name](everywhere, 1).log_prob(x).exp() * rule).sum(-1)


def test_bernoulli_sums_to_one() -> None:
    images = float64(list(itertools.product([0, 1], repeat=6))).reshape(64, 1, 2, 3)
    logits = 3 * noise_of(4, 1, 1, 1, 2, 3)
    total = Bernoulli(logits.expand(4, 64, 1, 1, 2, 3), 3).log_prob(images).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)


@pytest.mark.parametrize("eta", [-100.0, -30.0, -2.0, -0.51, -0.49, -1e-3, 0.0, 1e-3, 0.2, 0.49, 0.51, 3.0, 30.0])
def test_continuous_bernoulli_integrates_to_one(eta: float) -> None:
    nodes, weights = (torch.from_numpy(array) for array in np.polynomial.legendre.leggauss(100))
    total = total_mass("continuous-bernoulli", float64([[[eta, 0.7]]]), (nodes + 1) / 2, weights / 2)
    assert total.item() == pytest.approx(1, abs=3e-7)


CENTRES = [-40.0, -0.9, -0.501, -0.4999, -0.1, 0.0, 0.123, 0.4999, 0.7, 30.0]
LOG_SCALES = [-50.0, -7.0, -5.5, -4.0, -2.0, 0.0, 2.0, 5.0]


@pytest.mark.parametrize(("dtype", "slack"), [(torch.float64, 1e-7), (torch.float32, 1e-4)])
def test_discretised_logistic_sums_to_one(dtype: torch.dtype, slack: float) -> None:
    levels = torch.arange(256).to(dtype) / 255
    parameters = torch.cartesian_prod(float64(CENTRES), float64(LOG_SCALES)).to(dtype)
    everywhere = parameters[:, None, :, None].expand(-1, 256, -1, -1)
    total = DiscretisedLogistic(everywhere, 1).log_prob(levels[:, None]).exp().sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=slack)


def test_discretised_logistic_sums_to_one_over_two_values() -> None:
    levels = torch.arange(256, dtype=torch.float64) / 255
    parameters = float64([[[0.3, -0.2], [-3.0, -1.0]]])
    assert total_mass("logistic", parameters, levels, torch.ones_like(levels)).item() == pytest.approx(1, abs=1e-7)


@pytest.mark.parametrize("raw", [-30.0, -3.0, 0.0, 4.0])
def test_gaussian_likelihood_integrates_to_one(raw: float) -> None:
    scale = math.exp(0.5 * (math.log1p(math.exp(raw + 10)) - 10))
    points = torch.linspace(-12, 12, 241, dtype=torch.float64) * scale
    parameters = float64([[[1.2 * scale, -0.4 * scale], [raw, raw]]])
    total = total_mass("gaussian", parameters, points, torch.full_like(points, 0.1 * scale))
    assert total.item() == pytest.approx(1, abs=1e-9)


# The linear-Gaussian model: evidence, posterior and bound are exact.


@pytest.fixture(params=[0, 3], ids=["unlabelled", "labelled"])
def exact(request: pytest.FixtureRequest) -> LinearGaussian:
    return LinearGaussian(classes=request.param)


def exact_elbo(exact: LinearGaussian, x: Tensor, labels: Tensor | None) -> Tensor:
    """Return the ELBO by a quadrature that is exact for this model's quadratic distortion."""
    noise, weights = posterior_grid(3, exact.latent_dim)
    inference = exact.model(x, labels, noise[:, None].expand(-1, len(x), -1))
    return weights @ inference.likelihood.log_prob(x) - inference.rate.sum(-1)


def test_linear_gaussian_posterior_is_exact(exact: LinearGaussian) -> None:
    x, labels = exact.draw(20)
    posterior = exact.model.posterior(x, labels)
    torch.testing.assert_close(posterior.mean, exact.posterior_mean(x, labels))
    torch.testing.assert_close(posterior.log_variance, exact.posterior_variance.log().expand_as(posterior.mean))


def test_bound_at_the_true_posterior_is_the_evidence(exact: LinearGaussian) -> None:
    x, labels = exact.draw(20)
    torch.testing.assert_close(exact_elbo(exact, x, labels), exact.log_evidence(x, labels), rtol=0, atol=1e-9)


def test_every_weight_of_the_true_posterior_is_the_evidence(exact: LinearGaussian) -> None:
    x, labels = exact.draw(20)
    inference = exact.model(x, labels, noise_of(11, 20, exact.latent_dim))
    weights = importance.log_weights(inference, x)
    torch.testing.assert_close(weights, exact.log_evidence(x, labels).expand(11, -1), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("shift", "log_variance_shift"), [(0.4, 0.0), (0.0, 0.6), (0.0, -0.6), (-0.3, 0.5)])
def test_a_wrong_posterior_costs_its_kl(exact: LinearGaussian, shift: float, log_variance_shift: float) -> None:
    x, labels = exact.draw(20)
    kl = exact.spoil(shift, log_variance_shift)
    assert kl > 0.05
    torch.testing.assert_close(exact_elbo(exact, x, labels), exact.log_evidence(x, labels) - kl, rtol=0, atol=1e-9)


def test_importance_weighted_bound_approaches_the_evidence(exact: LinearGaussian) -> None:
    x, labels = exact.draw(300)
    kl = exact.spoil(0.3, 0.4)
    gaps = []
    for samples in (1, 4, 32, 1000):
        bound = -negative_importance_bound(exact.model, x, labels, samples=samples)
        gap = exact.log_evidence(x, labels) - bound
        error = gap.std() / math.sqrt(len(gap))
        assert gap.mean() > -4 * error
        if samples == 1:
            assert (gap.mean() - kl).abs() < 4 * error
        gaps.append(gap.mean().item())
    assert gaps == sorted(gaps, reverse=True)
    assert abs(gaps[-1]) < 0.005


# Gradients.

GRADIENT_CASES: dict[LikelihoodName, tuple[list[float], list[float]]] = {  # the decoder's first output, and x
    "bernoulli": ([-3.0, -0.4, 0.0, 0.9, 5.0], [0.0, 1.0, 1.0, 0.0, 1.0]),
    "continuous-bernoulli": ([-20.0, -0.6, 0.2, 0.4, 1e-3, 7.0], [0.2, 1.0, 0.0, 0.6, 0.5, 0.9]),
    "logistic": ([-0.4, -0.1, 0.3, 0.5, 0.2, -3.0], [0.0, 77 / 255, 200 / 255, 1.0, 0.0, 1.0]),
    "gaussian": ([-2.0, 0.3, 1.0], [0.1, -0.7, 1.5]),
}


@pytest.mark.parametrize("name", GRADIENT_CASES)
def test_gradients_of_log_prob(name: LikelihoodName) -> None:
    likelihood, (first, x) = LIKELIHOODS[name], GRADIENT_CASES[name]
    planes = [float64(first), torch.linspace(-4, 2, len(first), dtype=torch.float64)][: likelihood.n_parameters]
    parameters, values = torch.stack(planes)[None].requires_grad_(), float64([x])
    assert gradcheck(lambda given: likelihood(given, 1).log_prob(values), (parameters,))


@pytest.mark.parametrize("name", ["colour-logistic", "two-colour"])
def test_gradients_of_the_likelihoods_of_colours(name: LikelihoodName) -> None:
    parameters, x = (
        noise_of(4, LIKELIHOODS[name].n_parameters, 3, 2, 1).requires_grad_(),
        (noise_of(4, 3, 2, 1, seed=1).sigmoid() * 255).round() / 255,
    )
    assert gradcheck(lambda given: LIKELIHOODS[name](given, 3).log_prob(x), (parameters,))


def test_gradients_of_the_gaussian() -> None:
    mean, log_variance = noise_of(4, 3).requires_grad_(), noise_of(4, 3, seed=1).requires_grad_()
    value = noise_of(2, 4, 3, seed=2).requires_grad_()
    assert gradcheck(lambda m, v: Gaussian(m, v).rate(), (mean, log_variance))
    assert gradcheck(lambda m, v: Gaussian(m, v).sample(value.detach()), (mean, log_variance))
    assert gradcheck(lambda m, v, x: Gaussian(m, v).log_prob(x), (mean, log_variance, value))


class _Curved(nn.Module):
    """A decoder with one tanh layer, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Parameter(2 * noise_of(1, 6)), nn.Parameter(2 * noise_of(6, 4, seed=1))

    def forward(self, latent: Tensor, labels: Tensor | None) -> Tensor:
        return (torch.tanh(latent @ self.inner + 0.5) @ self.outer).unflatten(1, (1, 4))


class _Constant(nn.Module):
    """An encoder with constant features."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.features


def gradients_over_noise(model: Model, x: Tensor, output: Tensor, count: int) -> Tensor:
    """Return `count` one-sample gradients of −ELBO in the encoder's output at `output` (2d,): (count, 2d)."""
    features = output.expand(count, -1).clone().requires_grad_()
    model.encoder, model.head = _Constant(features), nn.Linear(len(output), len(output), bias=False).double()
    with torch.no_grad():
        model.head.weight.copy_(torch.eye(len(output)))
    images = x.expand(count, -1)
    loss = elbo.terms_of(model(images, None, noise_of(count, len(output) // 2, seed=7)), images).negative_elbo()
    (gradient,) = torch.autograd.grad(loss.sum(), features)
    return gradient


def test_reparameterised_gradient_is_unbiased_against_a_finite_difference() -> None:
    """The reference integrates over z on a fixed grid, without reparameterisation."""
    decoder, x = _Curved(), float64([1, 0, 1, 1])
    model = SingleLatentVAE(
        nn.Identity(),
        decoder,
        head=nn.Linear(2, 2),
        latent_dim=1,
        likelihood="bernoulli",
        shape=(4,),
        classes=0,
        stochastic=True,
    ).double()
    grid = torch.linspace(-12, 12, 4001, dtype=torch.float64)[:, None]
    distortion = -Bernoulli(decoder(grid, None), 1).log_prob(x.expand(len(grid), -1))

    def expected_loss(output: Tensor) -> Tensor:
        mean, log_variance = output[0], 12 * torch.tanh(output[1] / 12)  # the bound of negative log-variances
        q = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
        density = q.log_prob(grid[:, 0]).exp()
        rate = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0))
        return (density * distortion).sum() * (grid[1, 0] - grid[0, 0]) + rate

    output, step = float64([0.6, -1.1]), 1e-4
    differences = [
        (expected_loss(output + step * axis) - expected_loss(output - step * axis)) / (2 * step)
        for axis in torch.eye(2, dtype=torch.float64)
    ]
    assert_within_errors(gradients_over_noise(model, x, output, 200_000), torch.stack(differences).detach())


def test_reparameterised_gradient_is_that_of_the_closed_form(linear_gaussian: LinearGaussian) -> None:
    exact = linear_gaussian
    x, _ = exact.draw(1)
    output = float64([0.5, -0.3, -0.8, 0.4]).requires_grad_()
    mean, log_variance = output[:2], torch.stack([12 * torch.tanh(output[2] / 12), torch.tanh(output[3])])
    residual = x[0] - exact.bias - exact.weight @ mean
    squares = residual.square() + exact.weight.square() @ log_variance.exp()
    expected_distortion = 0.5 * (squares / exact.noise_variance + torch.log(2 * math.pi * exact.noise_variance)).sum()
    rate = 0.5 * (mean.square() + log_variance.exp() - log_variance - 1).sum()
    (expected,) = torch.autograd.grad(expected_distortion + rate, output)
    got = gradients_over_noise(exact.model, x[0], output.detach(), 100_000)
    assert_within_errors(got, expected)


# Results do not depend on batches or order.


def test_every_epoch_has_every_image_once_for_any_batch_size() -> None:
    count, batch_size = 10, 4
    order = ShuffledOrder(count, batch_size, seed=3)
    stream = torch.cat([order.at(step) for step in range(5 * count // batch_size * 2)])
    for epoch in stream[: 5 * count].split(count):
        assert epoch.sort().values.tolist() == list(range(count))


@pytest.fixture(scope="module")
def trained(tiny: Dataset, tiny_config: Config) -> Model:
    *_, last = fit(tiny_config, tiny)
    return last.model


def test_two_unequal_chunks_equal_one(trained: Model, tiny: Dataset) -> None:
    x, noise = held_out_input(tiny.test.images, "bernoulli"), latent_noise(30, 2, 0)
    labels = torch.from_numpy(tiny.test.labels)
    whole = bounds.held_out_terms(trained, x, labels, noise)
    chunks = slice(11), slice(11, 30)
    parts = [bounds.held_out_terms(trained, x[part], labels[part], noise[part]) for part in chunks]
    for name in ("distortion", "rate"):
        one, two = getattr(whole, name), torch.cat([getattr(part, name) for part in parts])
        torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-5)
    mean = sum(len(part.distortion) * part.negative_elbo().mean() for part in parts) / 30
    torch.testing.assert_close(mean, whole.negative_elbo().mean())


def test_permuting_a_batch_permutes_the_result(trained: Model, tiny: Dataset) -> None:
    x, noise = held_out_input(tiny.test.images, "bernoulli"), latent_noise(30, 2, 0)
    labels, order = torch.from_numpy(tiny.test.labels), torch.randperm(30, generator=generator(4))
    one = bounds.held_out_terms(trained, x, labels, noise)
    other = bounds.held_out_terms(trained, x[order], labels[order], noise[order])
    torch.testing.assert_close(other.distortion, one.distortion[order], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(other.rate, one.rate[order], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(other.distortion, one.distortion)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny: Dataset, tiny_config: Config) -> None:
    def weights(seed: int, global_seed: int) -> dict[str, Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(global_seed)  # must not matter
            *_, last = fit(replace(tiny_config, train=replace(tiny_config.train, seed=seed)), tiny)
        return last.model.state_dict()

    one, same, other = weights(0, 10), weights(0, 11), weights(1, 10)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one if name not in ("location", "scale"))


def test_the_seed_reaches_the_first_weights_and_the_order(tiny: Dataset, tiny_config: Config) -> None:
    one, other = (
        trainer_of(replace(tiny_config, train=replace(tiny_config.train, seed=seed)), tiny) for seed in (0, 1)
    )
    assert not torch.equal(flat(one.model).head.weight, flat(other.model).head.weight)
    assert not torch.equal(one.batches.order.at(0), other.batches.order.at(0))


# Labels.


def labelled_bits(*, used: bool, count: int = 600) -> Dataset:
    """8×8 images of a bar in a random row and a block that is lit according to the label, or (not `used`) at random."""
    rng = np.random.default_rng(3)
    labels = np.arange(count) % 2
    images = np.zeros((count, 1, 8, 8), dtype=np.uint8)
    images[np.arange(count), 0, rng.integers(0, 8, count), :4] = 255
    lit = labels if used else rng.permutation(labels)
    images[:, 0, 2:6, 5:7] = 255 * lit[:, None, None].astype(np.uint8)
    split = Split(images, labels)
    return Dataset("bits", split[:500], split[500:], split[:0], classes=("dark", "lit"))


def gain_of_the_true_label(*, used: bool) -> float:
    """Train a conditional model; return the nats per held-out image that the true label saves over the wrong one."""
    dataset = labelled_bits(used=used)
    config = Config(
        ModelConfig(model="cvae", network="mlp", latent_dim=4, likelihood="bernoulli", width=48, depth=1),
        TrainConfig(epochs=60, batch_size=50, device="cpu"),
    )
    *_, last = fit(config, dataset)
    assert dataset.validation.labels is not None
    x, labels = held_out_input(dataset.validation.images, "bernoulli"), torch.from_numpy(dataset.validation.labels)
    true, wrong = (negative_importance_bound(last.model, x, y, samples=50).mean().item() for y in (labels, 1 - labels))
    return wrong - true


def test_an_informative_label_gains_nats() -> None:
    assert gain_of_the_true_label(used=True) > 5


def test_an_uninformative_label_gains_nothing() -> None:
    assert abs(gain_of_the_true_label(used=False)) < 0.3


class _IgnoresLabel(nn.Module):
    """A network that ignores the label."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, values: Tensor, labels: Tensor) -> Tensor:
        return self.body(values, torch.zeros_like(labels))


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_a_label_that_is_ignored_by_construction_gains_nothing(network: NetworkName, tiny: Dataset) -> None:
    config = ModelConfig(model="cvae", network=network, latent_dim=2, likelihood="bernoulli", width=8, depth=1)
    model = build_model(config, tiny.shape, 3)
    model.initialise_from_data(Moments.of(torch.from_numpy(tiny.train.images)))
    x, labels = held_out_input(tiny.test.images, "bernoulli"), torch.from_numpy(tiny.test.labels)
    other = (labels + 1) % 3
    before = [negative_importance_bound(model, x, y, samples=3) for y in (labels, other)]
    assert not torch.allclose(before[0], before[1])
    flat(model).encoder, flat(model).decoder = _IgnoresLabel(flat(model).encoder), _IgnoresLabel(flat(model).decoder)
    one, two = (negative_importance_bound(model, x, y, samples=3) for y in (labels, other))
    assert torch.equal(one, two)
