"""What is minimised and what is reported: each formula against its words."""

import pytest
import torch
from building import build_model, held_out_input
from conftest import LinearGaussian, generator
from torch import Tensor

from vaelab.config import ModelConfig
from vaelab.data import Dataset
from vaelab.models.base import Model
from vaelab.models.distributions import Gaussian, standard_normal_log_prob
from vaelab.models.moments import Moments
from vaelab.objectives.bounds import held_out_terms
from vaelab.objectives.elbo import Terms, loss, terms_of
from vaelab.objectives.importance import importance_weighted_bound, log_weights

TERMS = Terms(torch.tensor([10.0, 20.0]), torch.tensor([[1.0, 0.1, 0.0], [3.0, 0.5, 0.2]]))
"""The three dimensions have rates of 2, 0.3 and 0.1 nats on average."""


@pytest.fixture
def model(tiny: Dataset) -> Model:
    config = ModelConfig(model="cvae", network="mlp", latent_dim=2, likelihood="bernoulli", width=16, depth=1)
    built = build_model(config, tiny.shape, 3)
    built.initialise_from_data(Moments.of(torch.from_numpy(tiny.train.images)))
    return built


def batch_of(dataset: Dataset) -> tuple[Tensor, Tensor]:
    return held_out_input(dataset.train.images[:37], "bernoulli"), torch.from_numpy(dataset.train.labels)[:37]


def test_negative_elbo_is_distortion_and_rate_of_each_image() -> None:
    torch.testing.assert_close(TERMS.negative_elbo(), torch.tensor([11.1, 23.7]))


@pytest.mark.parametrize(
    ("beta", "free_bits", "expected"),
    [
        (1.0, 0.0, 15 + 2.4),
        (4.0, 0.0, 15 + 4 * 2.4),
        (0.0, 0.0, 15),
        (1.0, 0.25, 15 + 2 + 0.3 + 0.25),
        (2.0, 1.0, 15 + 2 * (2 + 1 + 1)),
    ],
)
def test_loss_weighs_the_mean_rate(beta: float, free_bits: float, expected: float) -> None:
    assert loss(TERMS, beta=beta, free_bits=free_bits).item() == pytest.approx(expected, rel=1e-6)


def test_loss_is_the_mean_negative_elbo_by_default() -> None:
    torch.testing.assert_close(loss(TERMS), TERMS.negative_elbo().mean())


def test_free_bits_press_no_dimension_below_them() -> None:
    rate = TERMS.rate.clone().requires_grad_()
    loss(Terms(TERMS.distortion, rate), beta=3, free_bits=0.25).backward()
    # A mean over two images, times β; the third dimension is below 0.25 nats on average and is left alone.
    assert rate.grad is not None
    torch.testing.assert_close(rate.grad, torch.tensor([[1.5, 1.5, 0.0]] * 2))


def test_beta_and_free_bits_leave_the_distortion_alone() -> None:
    distortion = TERMS.distortion.clone().requires_grad_()
    loss(Terms(distortion, TERMS.rate), beta=3, free_bits=0.25).backward()
    assert distortion.grad is not None
    assert distortion.grad.tolist() == [0.5, 0.5]


def test_terms_are_minus_log_likelihood_and_the_rate(model: Model, tiny: Dataset) -> None:
    x, labels = batch_of(tiny)
    inference = model(x, labels, torch.randn(37, 2, generator=generator(1)))
    got = terms_of(inference, x)
    p = inference.likelihood.mean()
    expected = -(x * p.log() + (1 - x) * (1 - p).log()).sum((1, 2, 3))
    torch.testing.assert_close(got.distortion, expected, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(got.rate, inference.posterior.rate())


def test_log_weights_are_joint_over_posterior(labelled_linear_gaussian: LinearGaussian) -> None:
    exact = labelled_linear_gaussian
    exact.spoil(0.5, -0.4)
    x, labels = exact.draw(6)
    inference = exact.model(x, labels, torch.randn(4, 6, 2, generator=generator(1), dtype=torch.float64))
    z, q = inference.latent, inference.posterior
    conditional_mean = z @ exact.weight.T + exact.mean(labels)
    joint = torch.distributions.Normal(conditional_mean, exact.noise_variance.sqrt()).log_prob(x).sum(-1)
    joint = joint + torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(-1)
    posterior = torch.distributions.Normal(q.mean, torch.exp(q.log_variance / 2)).log_prob(z).sum(-1)
    torch.testing.assert_close(log_weights(inference, x), joint - posterior)


def test_importance_weighted_bound_is_the_log_of_the_mean_weight() -> None:
    weights = torch.randn(7, 5, generator=generator(1), dtype=torch.float64)
    torch.testing.assert_close(importance_weighted_bound(weights), weights.exp().mean(0).log())
    far = weights - 5000  # where the exponential itself is zero
    torch.testing.assert_close(importance_weighted_bound(far), weights.exp().mean(0).log() - 5000)


def test_importance_weighted_bound_of_one_sample_is_the_elbo_of_that_sample(model: Model, tiny: Dataset) -> None:
    x, labels = batch_of(tiny)
    inference = model(x, labels, torch.randn(1, 37, 2, generator=generator(1)))
    q = Gaussian(inference.posterior.mean, inference.posterior.log_variance)
    log_ratio = q.log_prob(inference.latent[0]) - standard_normal_log_prob(inference.latent[0])
    distortion = -inference.likelihood.log_prob(x)[0]
    got = importance_weighted_bound(log_weights(inference, x))
    torch.testing.assert_close(got, -(distortion + log_ratio), rtol=1e-5, atol=1e-4)
    assert (log_ratio - inference.rate.sum(-1)).abs().max() > 0.1  # one draw, not its mean


def test_importance_weighted_bound_rises_with_equal_draws_shared() -> None:
    """The bound of 2K draws is on average above that of K: Jensen, for any weights at all."""
    weights = 2 * torch.randn(64, 2000, generator=generator(3), dtype=torch.float64)
    bounds = [importance_weighted_bound(weights[:k]).mean().item() for k in (1, 2, 4, 16, 64)]
    assert bounds == sorted(bounds)
    assert bounds[-1] < 2.0  # log E e^{2ε} = 2
    assert bounds[-1] > 1.4


@pytest.mark.parametrize("batch_size", [1, 7, 36, 37, 1000])
@pytest.mark.parametrize("labelled", [True, False])
def test_held_out_terms_do_not_depend_on_the_batch_size(
    model: Model, tiny: Dataset, batch_size: int, labelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, labels = batch_of(tiny)
    if not labelled:
        model = build_model(ModelConfig("vae", "mlp", 2, "bernoulli", 16, 1), tiny.shape, 3)
    noise = torch.randn(37, 2, generator=generator(1))
    whole = terms_of(model(x, labels, noise), x)
    monkeypatch.setattr("vaelab.objectives.bounds.images_at_once", lambda _: batch_size)
    got = held_out_terms(model, x, labels if labelled else None, noise)
    assert not got.distortion.requires_grad
    torch.testing.assert_close(got.distortion, whole.distortion.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got.rate, whole.rate.detach(), rtol=1e-5, atol=1e-6)
