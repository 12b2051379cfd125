"""All variants: gradients reach every parameter, images are independent, and training starts from the data's statistics."""

import math
from typing import Any, get_args

import pytest
import torch
from building import build_model, held_out_input, with_output_weights
from conftest import flat, generator
from torch import Tensor, nn

from vaelab.config import LikelihoodName, ModelConfig, ModelName
from vaelab.data import Dataset
from vaelab.errors import ConfigError
from vaelab.models.base import MAX_LOG_VARIANCE, MIN_LOG_VARIANCE, Model, bounded_gaussian
from vaelab.models.moments import Moments
from vaelab.models.vae import SingleLatentVAE
from vaelab.objectives import elbo

IMAGE_LIKELIHOODS = ["bernoulli", "continuous-bernoulli", "logistic"]
VARIANTS = [
    (network, kind, likelihood, shape)
    for network, likelihoods, shapes in (
        ("mlp", IMAGE_LIKELIHOODS, [(1, 8, 8), (1, 28, 28), (3, 9, 13)]),
        ("conv", IMAGE_LIKELIHOODS, [(1, 8, 8), (1, 28, 28), (3, 9, 13), (3, 32, 20), (1, 128, 128)]),
        ("mlp", ["gaussian"], [(5,)]),
    )
    for kind in get_args(ModelName)
    for likelihood in likelihoods
    for shape in shapes
]
KINDS = [
    ("mlp", "ae", "bernoulli", (1, 8, 8)),
    ("mlp", "vae", "logistic", (3, 9, 13)),
    ("mlp", "cvae", "bernoulli", (1, 8, 8)),
    ("mlp", "vae", "gaussian", (5,)),
    ("conv", "vae", "continuous-bernoulli", (3, 9, 13)),
    ("conv", "cvae", "logistic", (1, 8, 12)),
    ("pca", "cvae", "colour-logistic", (3, 9, 13)),
    ("pca", "vae", "logistic", (1, 8, 12)),
    ("two-colour", "cvae", "two-colour", (3, 9, 13)),
]
LABELS = torch.tensor([0, 1, 2, 1, 0, 2])


def built(network: str, kind: str, likelihood: str, shape: tuple[int, ...], *, seed: int = 0, **more: Any) -> Model:
    latent_dim, depth = 8 if network == "two-colour" else 3, {"depth": 2} if network == "mlp" else {}
    config: dict[str, Any] = {"latent_dim": latent_dim, "width": 12, **depth, **more}
    model = build_model(
        ModelConfig(model=kind, network=network, likelihood=likelihood, **config),  # pyright: ignore[reportArgumentType]
        shape,
        3,
        seed=seed,
    )
    return with_output_weights(model, seed)


def images_for(likelihood: str, shape: tuple[int, ...]) -> Tensor:
    unit = torch.rand(6, *shape, generator=generator(1))
    if likelihood == "gaussian":
        return 3 * unit - 1
    return unit.round() if likelihood == "bernoulli" else torch.round(unit * 255) / 255


@pytest.mark.parametrize(("network", "kind", "likelihood", "shape"), VARIANTS)
def test_gradients_reach_every_parameter(network: str, kind: str, likelihood: str, shape: tuple[int, ...]) -> None:
    model, x = built(network, kind, likelihood, shape), images_for(likelihood, shape)
    inference = model(x, LABELS, torch.randn(6, 3, generator=generator(2)))
    assert inference.posterior.mean.shape == inference.rate.shape == inference.latent.shape == (6, 3)
    assert inference.likelihood.mean().shape == x.shape
    elbo.loss(elbo.terms_of(inference, x)).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(("network", "kind", "likelihood", "shape"), KINDS)
def test_images_of_a_batch_are_independent(network: str, kind: str, likelihood: str, shape: tuple[int, ...]) -> None:
    model, x = built(network, kind, likelihood, shape), images_for(likelihood, shape)
    noise = torch.randn(6, model.latent_dim, generator=generator(2))

    def figures(x: Tensor, labels: Tensor, noise: Tensor) -> Tensor:
        inference = model(x, labels, noise)
        terms = elbo.terms_of(inference, x)
        decoded = inference.likelihood.mean().flatten(1)
        return torch.cat([terms.distortion[:, None], terms.rate, inference.latent, decoded], dim=1)

    whole, order = figures(x, LABELS, noise), torch.tensor([3, 0, 5, 1, 2, 4])
    torch.testing.assert_close(figures(x[order], LABELS[order], noise[order]), whole[order], rtol=1e-5, atol=1e-5)
    for i in range(6):
        alone = figures(x[i : i + 1], LABELS[i : i + 1], noise[i : i + 1])
        torch.testing.assert_close(alone[0], whole[i], rtol=1e-5, atol=1e-5)
    assert (whole[1:] - whole[:-1]).abs().amax(1).min() > 1e-3


@pytest.mark.parametrize(("network", "kind", "likelihood", "shape"), KINDS)
def test_decoding_leading_samples_equals_a_loop(
    network: str, kind: str, likelihood: str, shape: tuple[int, ...]
) -> None:
    model = built(network, kind, likelihood, shape)
    latent = torch.randn(4, 2, 6, model.latent_dim, generator=generator(3))
    whole = model.decode(latent, LABELS).parameters
    assert whole.shape == (4, 2, 6, model.likelihood_type.n_parameters, *shape)
    for i in range(4):
        for j in range(2):
            torch.testing.assert_close(whole[i, j], model.decode(latent[i, j], LABELS).parameters, rtol=1e-5, atol=1e-5)


def test_forward_reparameterises_the_posterior() -> None:
    model, x = built("mlp", "cvae", "bernoulli", (1, 8, 8)), images_for("bernoulli", (1, 8, 8))
    noise = torch.randn(5, 6, 3, generator=generator(4))
    inference = model(x, LABELS, noise)
    posterior = model.posterior(x, LABELS)
    expected = posterior.mean + torch.exp(posterior.log_variance / 2) * noise
    torch.testing.assert_close(inference.latent, expected)
    torch.testing.assert_close(inference.rate, posterior.rate())
    torch.testing.assert_close(inference.likelihood.parameters, model.decode(expected, LABELS).parameters)


def test_an_autoencoder_has_a_point_posterior_and_zero_rate() -> None:
    model, x = built("mlp", "ae", "bernoulli", (1, 8, 8)), images_for("bernoulli", (1, 8, 8))
    one = model(x, None, torch.randn(6, 3, generator=generator(4)))
    other = model(x, None, torch.zeros(6, 3))
    assert (one.posterior.log_variance == -math.inf).all()
    assert torch.equal(one.rate, torch.zeros(6, 3))
    assert torch.equal(one.latent, one.posterior.mean)
    assert torch.equal(one.likelihood.parameters, other.likelihood.parameters)
    assert flat(model).head.out_features == 3


def test_the_log_variance_is_bounded() -> None:
    model, x = built("mlp", "vae", "bernoulli", (1, 8, 8)), images_for("bernoulli", (1, 8, 8))
    with torch.no_grad():
        flat(model).head.bias[3:] = torch.tensor([-1e6, 0.0, 1e6])
        flat(model).head.weight[3:] = 0
    expected = torch.tensor([MIN_LOG_VARIANCE, 0, MAX_LOG_VARIANCE]).expand(6, -1)
    torch.testing.assert_close(model.posterior(x).log_variance, expected)
    assert model.posterior(x).rate().isfinite().all()


def test_the_widest_posterior_costs_less_than_half_a_nat() -> None:
    """An unfamiliar image may be encoded anywhere; the variance alone then costs less than half a nat."""
    for raw in (-0.01, 0.01):
        output = torch.tensor([0.0, raw])
        torch.testing.assert_close(bounded_gaussian(output).log_variance, output[1:], rtol=1e-4, atol=0)
    steps = bounded_gaussian(torch.stack([torch.zeros(200), torch.linspace(-40, 40, 200)], dim=1)).log_variance
    assert (steps.diff(dim=0) >= 0).all()
    assert bounded_gaussian(torch.tensor([0.0, 1e6])).rate().item() < 0.5


def test_labels_affect_only_a_conditional_model() -> None:
    x = images_for("bernoulli", (1, 8, 8))
    latent, other = torch.randn(6, 3, generator=generator(3)), (LABELS + 1) % 3
    conditional, plain = (built("mlp", kind, "bernoulli", (1, 8, 8)) for kind in ("cvae", "vae"))
    assert torch.equal(plain.decode(latent, LABELS).mean(), plain.decode(latent, other).mean())
    assert torch.equal(plain.posterior(x, LABELS).mean, plain.posterior(x).mean)
    assert not torch.allclose(conditional.decode(latent, LABELS).mean(), conditional.decode(latent, other).mean())
    assert not torch.allclose(conditional.posterior(x, LABELS).mean, conditional.posterior(x, other).mean)
    one_hot = conditional.one_hot(LABELS)
    assert one_hot is not None
    assert one_hot.tolist() == torch.eye(3)[LABELS].tolist()
    assert plain.one_hot(LABELS) is None
    with pytest.raises(AssertionError, match="a conditional model needs labels"):
        conditional.posterior(x)


def test_weights_depend_on_the_seed_and_leave_the_global_random_state() -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        return built("conv", "cvae", "logistic", (1, 8, 12), seed=seed).state_dict()

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        state = torch.random.get_rng_state()
        one = weights(7)
        assert torch.equal(torch.random.get_rng_state(), state)
        torch.manual_seed(2)
        same, other = weights(7), weights(8)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not any(torch.equal(one[name], other[name]) for name in one if name not in ("location", "scale"))


def test_conv_refuses_unsupported_sizes() -> None:
    with pytest.raises(ConfigError, match=r"`network='conv'`.*7×7.*8 to 128"):
        built("conv", "vae", "bernoulli", (1, 7, 7))


# initialise_from_data


def without_latent(model: Model) -> Model:
    """Zero the decoder's output weights, so that it returns its output bias."""
    with torch.no_grad():
        model.get_submodule("decoder.output").get_parameter("weight").zero_()
    return model


def untrained(network: str, likelihood: LikelihoodName, shape: tuple[int, ...], kind: str = "vae") -> Model:
    """A model as training begins, whose last weights are zero."""
    config: dict[str, Any] = {"model": kind, "network": network, "likelihood": likelihood, "width": 12}
    config |= {"levels": "2,1", "patch": 4} if network == "ladder" else {"latent_dim": 3}
    return build_model(ModelConfig(**config), shape, 3)


def fitted(network: str, likelihood: LikelihoodName, dataset: Dataset) -> Model:
    model = untrained(network, likelihood, dataset.shape)
    model.initialise_from_data(Moments.of(torch.from_numpy(dataset.train.images)))
    return model


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous-bernoulli"])
def test_an_untrained_dense_model_decodes_the_mean_image(likelihood: LikelihoodName, tiny: Dataset) -> None:
    mean = Moments.of(torch.from_numpy(tiny.train.images))[0].float()
    model = fitted("mlp", likelihood, tiny)
    decoded = model.decode(torch.randn(500, 3, generator=generator(1))).mean()
    assert torch.equal(decoded, decoded[:1].expand_as(decoded))
    exact = decoded[0]
    inside = mean.clamp(0.0206, 0.9794)  # range of ContinuousBernoulli.initial
    torch.testing.assert_close(exact, inside, rtol=0, atol=2e-3)


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous-bernoulli"])
def test_an_untrained_conv_model_decodes_the_mean_level(likelihood: LikelihoodName, tiny: Dataset) -> None:
    mean = Moments.of(torch.from_numpy(tiny.train.images))[0].float()
    exact = fitted("conv", likelihood, tiny).decode(torch.zeros(1, 3)).mean()[0]
    torch.testing.assert_close(exact, mean.mean((1, 2), keepdim=True).expand_as(mean), rtol=0, atol=1e-3)


def test_a_conv_model_starts_at_the_level_of_each_colour() -> None:
    colours = torch.tensor([0.1, 0.5, 0.7])[:, None, None]
    x = (torch.rand(400, 3, 8, 8, generator=generator(2)) < colours).float()
    model = untrained("conv", "bernoulli", (3, 8, 8))
    model.initialise_from_data(Moments.of((255 * x).to(torch.uint8)))
    decoded = model.decode(torch.zeros(1, 3)).mean()[0]
    torch.testing.assert_close(decoded, x.mean((0, 2, 3))[:, None, None].expand(3, 8, 8), rtol=0, atol=1e-4)


def test_a_conv_model_starts_with_the_spread_over_all_pixels() -> None:
    """With a dark and a bright half, the scale of a constant model has to cover both."""
    x = 0.2 + 0.02 * torch.randn(200, 1, 8, 8, generator=generator(2))
    x[:, :, :, 4:] += 0.6
    levels = (255 * x).to(torch.uint8)
    model = untrained("conv", "logistic", (1, 8, 8))
    model.initialise_from_data(Moments.of(levels))
    got = model.decode(torch.zeros(1, 3)).parameters[0, :, 0, 0, 0]
    unit = levels.double() / 255
    log_scale = 0.5 * math.log(3 * unit.var().item() / math.pi**2)  # a logistic's variance is s²π²/3
    assert got.tolist() == pytest.approx([unit.mean().item() - 0.5, log_scale], abs=2e-3)


def test_training_starts_at_the_nats_of_the_best_model_without_a_latent(tiny: Dataset) -> None:
    x = held_out_input(tiny.train.images, "bernoulli")
    p = x.mean(0).clamp(1e-3, 1 - 1e-3)
    entropy = -(p * p.log() + (1 - p) * (1 - p).log()).sum().item()
    model = fitted("mlp", "bernoulli", tiny)
    inference = model(x, None, torch.randn(len(x), 3, generator=generator(1)))
    assert elbo.terms_of(inference, x).distortion.mean().item() == pytest.approx(entropy, rel=0.01)


@pytest.mark.parametrize(
    ("network", "kind"),
    [
        (network, kind)
        for network in ("mlp", "conv", "ladder")
        for kind in ("ae", "vae", "cvae")
        if network + kind != "ladderae"
    ],
)
def test_gradients_reach_every_parameter_after_the_first_step(network: str, kind: str) -> None:
    """At the first step, the last weights are zero and let no gradient through; their own gradient is not zero."""
    model, x = untrained(network, "bernoulli", (1, 8, 8), kind), images_for("bernoulli", (1, 8, 8))
    noise = torch.randn(6, model.latent_dim, generator=generator(2))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2 if network != "ladder" else 4):  # the posteriors and priors of a ladder start at zero too
        optimiser.zero_grad()
        elbo.loss(elbo.terms_of(model(x, LABELS, noise), x)).backward()
        optimiser.step()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_the_encoder_sees_deviations_from_the_mean() -> None:
    inputs = []

    class Recorder(nn.Module):
        def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
            inputs.append(images)
            return images[:, :2]

    model = SingleLatentVAE(
        Recorder(),
        nn.Identity(),
        head=nn.Linear(2, 2),
        latent_dim=1,
        likelihood="gaussian",
        shape=(2,),
        classes=0,
        stochastic=True,
    )
    table = torch.randn(50, 2, generator=generator(1)) * torch.tensor([3.0, 0.01]) + torch.tensor([-7.0, 1.0])
    model.initialise_from_data(Moments.of(table))
    model.posterior(table)
    torch.testing.assert_close(inputs[0].mean(0), torch.zeros(2), rtol=0, atol=1e-4)
    torch.testing.assert_close(inputs[0].std(0, correction=0), torch.ones(2), rtol=1e-3, atol=0)


def test_images_are_centred_but_not_scaled(tiny: Dataset) -> None:
    mean, *_ = Moments.of(torch.from_numpy(tiny.train.images))
    model = fitted("mlp", "bernoulli", tiny)
    torch.testing.assert_close(model.location, mean.float())
    assert (model.scale == 1).all()


@pytest.mark.parametrize("factor", [1e-30, 1e-4, 0.2, 10.0, 1e4, 1e30])
def test_the_density_of_a_table_is_in_its_own_units(factor: float) -> None:
    """Multiplying a column by `factor` lowers its log-density by log `factor`."""
    table = torch.randn(300, 3, generator=generator(1)) * torch.tensor([1.0, 0.5, 4.0]) + 2

    def best_log_density(table: Tensor) -> Tensor:
        model = built("mlp", "vae", "gaussian", (3,))
        model.initialise_from_data(Moments.of(table))
        return without_latent(model).decode(torch.zeros(len(table), 3)).log_prob(table)

    scaled = table * torch.tensor([1.0, factor, 1.0])
    shift = best_log_density(scaled) - best_log_density(table)
    torch.testing.assert_close(shift, torch.full((300,), -math.log(factor)), rtol=0, atol=2e-3)
    normal = torch.distributions.Normal(table.mean(0), table.std(0, correction=0))
    torch.testing.assert_close(best_log_density(table), normal.log_prob(table).sum(-1), rtol=0, atol=2e-3)


def test_a_constant_column_has_scale_1() -> None:
    """A held-out deviation of 1 then costs at most as much as the smallest variance of the likelihood allows."""
    table = torch.randn(400, 3, generator=generator(1)) * torch.tensor([1.0, 0.0, 1e-9]) + torch.tensor(
        [3.0, 1000.7, 0.0]
    )
    model = built("mlp", "vae", "gaussian", (3,))
    model.initialise_from_data(Moments.of(table))
    expected = torch.stack([table[:, 0].std(correction=0), torch.tensor(1.0), table[:, 2].std(correction=0)])
    torch.testing.assert_close(model.scale, expected, rtol=1e-3, atol=0)

    shifted = table + torch.tensor([0.0, 1.0, 0.0])
    without_latent(model)
    before, after = (
        elbo.terms_of(model(rows, None, torch.zeros(400, 3)), rows).negative_elbo() for rows in (table, shifted)
    )
    assert (after - before).min() > 100
    assert after.max() < 12_000  # (1/2) e^10 at the smallest variance


@pytest.mark.parametrize("value", [0.0, 0.1, -3e7, 7e-9])
def test_rounding_error_is_no_variance(value: float) -> None:
    table = torch.full((20_000, 1), value)
    mean, variance, _ = Moments.of(table)
    model = built("mlp", "vae", "gaussian", (1,))
    for rounding in (0.0, 1e-15):
        model.initialise_from_data(Moments(mean, variance + rounding * mean.square()))
        assert model.scale.item() == 1
    model.initialise_from_data(Moments(mean, 1e-8 * mean.square() + (value == 0)))
    assert model.scale.item() == pytest.approx(1e-4 * abs(value) + (value == 0))
