"""Held-out figures: seeded, the same however the draws are cut up, and right where log p(x) is known."""

import copy
import math

import pytest
import torch
from building import build_model, held_out_input, negative_elbo, negative_importance_bound
from conftest import LinearGaussian

from vaelab.config import ModelConfig
from vaelab.data import Dataset
from vaelab.errors import ConfigError
from vaelab.models.base import Model
from vaelab.objectives import importance
from vaelab.objectives.bounds import held_out_terms, negative_bounds
from vaelab.random import generator_for, latent_noise


@pytest.fixture
def model(tiny: Dataset) -> Model:
    config = ModelConfig(model="vae", network="mlp", latent_dim=2, likelihood="bernoulli", width=16, depth=1)
    return build_model(config, tiny.shape, 3)


def test_negative_elbo_is_distortion_and_rate_at_the_seeded_draw(labelled_linear_gaussian: LinearGaussian) -> None:
    exact = labelled_linear_gaussian
    x, labels = exact.draw(9)
    inference = exact.model(x, labels, latent_noise(9, 2, 3))
    expected = -inference.likelihood.log_prob(x) + inference.posterior.rate().sum(-1)
    torch.testing.assert_close(negative_elbo(exact.model, x, labels, seed=3), expected.detach())
    assert not torch.equal(negative_elbo(exact.model, x, labels, seed=4), expected)


def test_negative_elbo_is_on_average_the_evidence_and_the_kl(linear_gaussian: LinearGaussian) -> None:
    kl = linear_gaussian.spoil(0.3, 0.4)
    x, _ = linear_gaussian.draw(20_000)
    excess = negative_elbo(linear_gaussian.model, x) + linear_gaussian.log_evidence(x)
    assert (excess.mean() - kl).abs() < 4 * excess.std() / math.sqrt(len(x))


def test_bound_at_the_true_posterior_is_the_evidence_of_each_row(labelled_linear_gaussian: LinearGaussian) -> None:
    x, labels = labelled_linear_gaussian.draw(9)
    got = negative_importance_bound(labelled_linear_gaussian.model, x, labels, samples=5)
    assert got.dtype == torch.float64
    assert got.shape == (9,)
    torch.testing.assert_close(got, -labelled_linear_gaussian.log_evidence(x, labels), rtol=0, atol=1e-9)


def test_bound_is_that_of_the_seeded_draws(model: Model, tiny: Dataset) -> None:
    x = held_out_input(tiny.test.images[:4], "bernoulli")
    noise = torch.stack([torch.randn(6, 2, generator=generator_for("importance", 5, index)) for index in range(4)], 1)
    weights = importance.log_weights(model(x, None, noise), x).double()
    expected = -torch.log(torch.exp(weights).mean(0))
    got = negative_importance_bound(model, x, samples=6, seed=5)
    torch.testing.assert_close(got, expected.detach(), rtol=1e-6, atol=1e-6)
    assert not got.requires_grad
    assert not torch.allclose(negative_importance_bound(model, x, samples=6, seed=6), got)


@pytest.mark.parametrize("most_at_once", [1, 7, 63, 64, 200, 5000])
def test_the_bound_of_an_image_is_the_same_however_the_draws_are_cut_up(
    linear_gaussian: LinearGaussian, most_at_once: int
) -> None:
    """64 draws of each row in one go, in unequal chunks, or with those of other rows: the same bound."""
    x, _ = linear_gaussian.draw(5)
    linear_gaussian.spoil(0.8, 0.9)
    model = linear_gaussian.model
    noise = torch.stack([torch.randn(64, 2, generator=generator_for("importance", 0, index)) for index in range(5)], 1)
    expected = -torch.log(torch.exp(importance.log_weights(model(x, None, noise.double()), x)).mean(0)).detach()
    got = negative_importance_bound(model, x, samples=64, most_at_once=most_at_once)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)


def test_an_autoencoder_has_no_bound(tiny: Dataset) -> None:
    config = ModelConfig(model="ae", network="mlp", latent_dim=2, likelihood="bernoulli", width=16, depth=1)
    with pytest.raises(ConfigError, match="got an autoencoder, which has no posterior to draw from"):
        negative_importance_bound(
            build_model(config, tiny.shape, 3), held_out_input(tiny.test.images, "bernoulli"), samples=2
        )


@pytest.mark.parametrize("most_at_once", [1, 40, 1000])
def test_the_bound_is_the_same_in_distribution_for_any_chunks(
    linear_gaussian: LinearGaussian, most_at_once: int
) -> None:
    """Few draws and a poor posterior, so that averaging bounds of chunks instead of weights would show."""
    linear_gaussian.spoil(0.6, 0.5)
    x, _ = linear_gaussian.draw(400)
    one, other = (
        negative_importance_bound(linear_gaussian.model, x, samples=4, seed=seed, most_at_once=most)
        for seed, most in ((0, 5000), (1, most_at_once))
    )
    difference = other - one
    assert difference.mean().abs() < 4 * difference.std() / math.sqrt(len(x))
    single = negative_importance_bound(linear_gaussian.model, x, samples=1, seed=2)
    assert (single - one).mean() > 6 * (single - one).std() / math.sqrt(len(x))


def test_labels_go_with_their_images(labelled_linear_gaussian: LinearGaussian) -> None:
    x, labels = labelled_linear_gaussian.draw(10)
    assert labels is not None
    got = negative_importance_bound(labelled_linear_gaussian.model, x, labels, samples=4, most_at_once=12)
    torch.testing.assert_close(got, -labelled_linear_gaussian.log_evidence(x, labels), rtol=0, atol=1e-9)
    wrong = negative_importance_bound(labelled_linear_gaussian.model, x, (labels + 1) % 3, samples=4)
    assert wrong.mean() > got.mean() + 1


def test_progress_counts_images(model: Model, tiny: Dataset) -> None:
    x = held_out_input(tiny.test.images[:7], "bernoulli")
    told: list[tuple[int, int]] = []
    negative_importance_bound(
        model, x, samples=5, most_at_once=10, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(2, 7), (4, 7), (6, 7), (7, 7)]


def test_a_curve_is_the_bounds_of_its_first_draws(linear_gaussian: LinearGaussian) -> None:
    """However much is held at a time."""
    x, _ = linear_gaussian.draw(5)
    linear_gaussian.spoil(0.8, 0.9)
    model = linear_gaussian.model
    noise = torch.stack([torch.randn(20, 2, generator=generator_for("importance", 0, index)) for index in range(5)], 1)
    weights = importance.log_weights(model(x, None, noise.double()), x).detach()
    expected = torch.stack([-torch.log(torch.exp(weights[:k]).mean(0)) for k in (1, 3, 20)], 1)
    for most_at_once in (1, 7, 5000):
        got = negative_bounds(model, x, samples=(1, 3, 20), most_at_once=most_at_once)
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("samples", [(), (0,), (5, 5), (5, 2)])
def test_samples_of_a_curve_must_rise_from_one(linear_gaussian: LinearGaussian, samples: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"`samples`: got .*; expected whole numbers of at least 1"):
        negative_bounds(linear_gaussian.model, linear_gaussian.draw(3)[0], samples=samples)


def naive(model: Model, images: torch.Tensor, noise: torch.Tensor) -> tuple[list[float], list[float]]:
    """−ELBO at the first draw and the bound over all, image by image and draw by draw, in float64 and in plain formulas."""
    exact = copy.deepcopy(model).double()
    elbos, bounds = [], []
    for x, draws in zip(images.double(), noise.double().unbind(1), strict=True):
        posterior = exact.posterior(x[None])
        mean, sigma = posterior.mean[0], torch.exp(0.5 * posterior.log_variance[0])
        weights = []
        for draw in draws:
            z = mean + sigma * draw
            p = torch.sigmoid(exact.decode(z[None]).parameters[0, 0])
            log_p = (x * torch.log(p) + (1 - x) * torch.log(1 - p)).sum()
            log_prior = -0.5 * (z.square() + math.log(2 * math.pi)).sum()
            log_q = -0.5 * (draw.square() + math.log(2 * math.pi) + 2 * torch.log(sigma)).sum()
            weights.append((log_p + log_prior - log_q).item())
            if len(weights) == 1:
                elbos.append(
                    -log_p.item() + (0.5 * (mean.square() + sigma.square() - 1) - torch.log(sigma)).sum().item()
                )
        bounds.append(-math.log(sum(math.exp(w - max(weights)) for w in weights) / len(weights)) - max(weights))
    return elbos, bounds


def test_figures_agree_with_a_naive_loop_in_float64(model: Model, tiny: Dataset) -> None:
    """To 1e-3 nats, with the same noise: an implementation that shares no formula with the package's."""
    x = held_out_input(tiny.test.images, "bernoulli")
    noise = torch.stack(
        [torch.randn(9, 2, generator=generator_for("importance", 4, index)) for index in range(len(x))], 1
    )
    elbos, bounds = naive(model, x, noise)
    terms = held_out_terms(model, x, None, noise[0])
    torch.testing.assert_close(terms.negative_elbo().double(), torch.tensor(elbos).double(), rtol=0, atol=1e-3)
    got = negative_importance_bound(model, x, samples=9, seed=4)
    torch.testing.assert_close(got, torch.tensor(bounds).double(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_figures_do_not_depend_on_the_batch(model: Model, tiny: Dataset, batch: int) -> None:
    """To 1e-4 nats."""
    x = held_out_input(tiny.test.images, "bernoulli")
    noise = latent_noise(len(x), 2, 0)
    whole = held_out_terms(model, x, None, noise).negative_elbo()
    parts = [
        held_out_terms(model, images, None, draws).negative_elbo()
        for images, draws in zip(x.split(batch), noise.split(batch), strict=True)
    ]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-4)
    bound = negative_importance_bound(model, x, samples=20)
    cut = negative_importance_bound(model, x, samples=20, most_at_once=20 * batch)
    torch.testing.assert_close(cut, bound, rtol=0, atol=1e-4)
