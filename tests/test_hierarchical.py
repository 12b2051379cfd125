"""The ladder: equal to the single-latent model for one level, whitened latents, and a bound that approaches a known log p(x)."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from building import build_model, resolve_model
from conftest import generator
from torch import Tensor, nn

from vaelab.config import (
    Budget,
    LikelihoodName,
    ModelConfig,
    ModelName,
    ResolvedConfig,
    ResolvedModelConfig,
    ResolvedTrainConfig,
    SpatialMixingName,
)
from vaelab.errors import ConfigError
from vaelab.models.base import Model
from vaelab.models.distributions import Gaussian
from vaelab.models.hierarchical import Ladder, LatentLevel
from vaelab.models.moments import Moments
from vaelab.models.vae import SingleLatentVAE
from vaelab.objectives import elbo
from vaelab.objectives.batch import Batch
from vaelab.objectives.elbo import loss as elbo_loss
from vaelab.objectives.elbo import terms_of
from vaelab.objectives.importance import importance_weighted, importance_weighted_bound, log_weights

SHAPES: list[tuple[tuple[int, ...], LikelihoodName, int | None, SpatialMixingName, str]] = [
    ((1, 8, 8), "bernoulli", None, "free", "3,2,1"),
    ((1, 9, 13), "logistic", 4, "free", "3,2,1"),
    ((3, 9, 13), "continuous-bernoulli", 4, "conv", "3,2,1"),
    ((1, 8, 8), "bernoulli", 0, "free", "3,2,1"),
    ((5,), "gaussian", None, "free", "3,2,1"),
    ((1, 12, 20), "bernoulli", None, "free", "3,2@8,1@4,1@4,1@2"),  # grids of 2×3, 3×5 and 6×10 positions
    ((3, 9, 13), "logistic", None, "conv", "3,1@16,2@8,1@2"),  # one position, 2×2, no level on 3×4, 5×7
    ((1, 9, 13), "logistic", 2, "conv", "3,2@4,1@4"),  # patches finer than any grid of latents
    ((1, 12, 20), "bernoulli", None, "relative", "3,2@8,1@4,1@4,1@2"),
    ((3, 9, 13), "logistic", None, "relative", "3,1@16,2@8,1@2"),
]
LABELS = torch.tensor([0, 1, 2, 1])


def as_config(config: ResolvedModelConfig) -> ModelConfig:
    """What could have been asked for to get it."""
    return ResolvedConfig(config, ResolvedTrainConfig(Budget(1, "epochs"), 1, "float32", "cpu")).as_config().model


def ladder(
    shape: tuple[int, ...],
    likelihood: LikelihoodName,
    *,
    model: ModelName = "vae",
    levels: str = "3,2,1",
    patch: int | None = None,
    spatial_mixing: SpatialMixingName | None = None,
    stirred: float = 0.3,
) -> Ladder:
    """A small ladder; noise of scale `stirred` is added to its weights, so that posterior and prior differ."""
    config = ModelConfig(
        model, "ladder", None, likelihood, 8, 1, levels=levels, patch=patch, spatial_mixing=spatial_mixing
    )
    built = build_model(config, shape, 3, seed=0)
    assert isinstance(built, Ladder)
    random = generator(5)
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(stirred * torch.randn(weight.shape, generator=random))
    return built


def images_for(likelihood: str, shape: tuple[int, ...]) -> Tensor:
    unit = torch.rand(4, *shape, generator=generator(1))
    return unit.round() if likelihood == "bernoulli" else torch.round(unit * 255) / 255


@pytest.mark.parametrize(("shape", "likelihood", "patch", "spatial_mixing", "levels"), SHAPES)
@pytest.mark.parametrize("kind", ["vae", "cvae"])
def test_forward_and_decode_agree(
    shape: tuple[int, ...],
    likelihood: LikelihoodName,
    patch: int | None,
    spatial_mixing: SpatialMixingName,
    levels: str,
    kind: ModelName,
) -> None:
    model = ladder(shape, likelihood, model=kind, patch=patch, spatial_mixing=spatial_mixing, levels=levels)
    images = images_for(likelihood, shape)
    for samples in ((), (1,), (2, 3)):
        inference = model(images, LABELS, torch.randn(*samples, 4, model.latent_dim, generator=generator(2)))
        decoded = model.decode(inference.latent, LABELS)
        assert inference.likelihood.parameters.shape[: len(samples) + 1] == (*samples, 4)
        torch.testing.assert_close(decoded.parameters, inference.likelihood.parameters)
        figures = terms_of(inference, images)
        assert figures.distortion.shape == (*samples, 4)
        assert figures.rate.shape == (*samples, 4, model.latent_dim)
    loss = elbo.loss(terms_of(model(images, LABELS, torch.zeros(4, model.latent_dim)), images))
    gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
    dead = [name for (name, _), g in zip(model.named_parameters(), gradients, strict=True) if g is None or not g.any()]
    assert not dead


@pytest.mark.parametrize("kind", ["vae", "cvae"])
@pytest.mark.parametrize("patch", [0, 4])
def test_with_one_level_it_is_the_single_latent_model(kind: ModelName, patch: int) -> None:
    """A SingleLatentVAE of the same parts gives bit-identical results."""
    shape = (1, 8, 8)
    model = ladder(shape, "bernoulli", model=kind, levels="3", patch=patch)

    class Encoder(nn.Module):
        def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
            return model.top.gather(model.features(images + model.location, labels)[-1])

    class Decoder(nn.Module):
        def forward(self, latent: Tensor, labels: Tensor | None) -> Tensor:
            return model.likelihood_parameters(latent, labels)

    classes = 3 if kind == "cvae" else 0
    flat = SingleLatentVAE(
        Encoder(),
        Decoder(),
        head=model.top.posterior,
        latent_dim=3,
        likelihood="bernoulli",
        shape=shape,
        classes=classes,
        stochastic=True,
    )
    images, noise = images_for("bernoulli", shape), torch.randn(2, 4, 3, generator=generator(3))
    ours, theirs = model(images, LABELS, noise[0]), flat(images, LABELS, noise[0])
    assert torch.equal(ours.latent, theirs.latent)
    assert torch.equal(ours.likelihood.parameters, theirs.likelihood.parameters)
    assert torch.equal(ours.rate, theirs.rate)
    assert torch.equal(log_weights(ours, images), log_weights(theirs, images))
    assert torch.equal(model.posterior(images, LABELS).mean, flat.posterior(images, LABELS).mean)
    # With several samples the matrix products have more rows and may round differently.
    ours, theirs = model(images, LABELS, noise), flat(images, LABELS, noise)
    torch.testing.assert_close(ours.latent, theirs.latent)
    torch.testing.assert_close(ours.likelihood.parameters, theirs.likelihood.parameters)
    torch.testing.assert_close(log_weights(ours, images), log_weights(theirs, images))


def gradients(model: Model, images: Tensor, samples: int, seed: int, *, doubly: bool) -> list[Tensor]:
    """Return the gradients of minus the importance-weighted bound, doubly reparameterised or by plain differentiation."""
    noise = torch.randn(samples, len(images), model.latent_dim, generator=generator(seed))
    if doubly:
        loss = elbo_loss(importance_weighted(model, Batch(images, None, noise)))
    else:
        loss = -importance_weighted_bound(log_weights(model(images, None, noise), images)).mean()
    return [g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]


def test_the_doubly_reparameterised_gradient_is_unbiased() -> None:
    expect_unbiased("2")


@pytest.mark.slow
def test_the_doubly_reparameterised_gradient_of_three_levels_is_unbiased() -> None:
    expect_unbiased("2,1,1")


def expect_unbiased(levels: str) -> None:
    """It has the mean of the plain gradient for every weight, and a lower variance for the encoder's."""
    model = ladder((5,), "gaussian", levels=levels, stirred=0.1)
    images = images_for("gaussian", (5,)).repeat(100, 1)
    means, errors, noise = [], [], []
    for doubly in (True, False):
        draws = [torch.cat(gradients(model, images, 4, seed, doubly=doubly)) for seed in range(40)]
        every = torch.stack(draws)
        means.append(every.mean(0))
        errors.append(every.std(0) / math.sqrt(len(every)))
        head = [gradients(model, images, 64, seed, doubly=doubly) for seed in range(10)]
        place = [name for name, _ in model.named_parameters()].index("top.posterior.weight")
        noise.append(torch.stack([each[place] for each in head]).var(0).sum().item())
    difference, error = means[0] - means[1], (errors[0].square() + errors[1].square()).sqrt()
    assert (difference.abs() <= 6 * error + 1e-6).all()
    assert (means[0].abs() > 6 * error).sum() > 20  # the gradient is well above its noise
    assert noise[0] < 0.5 * noise[1]


def test_the_value_of_the_loss_is_the_bound() -> None:
    model, images = ladder((1, 8, 8), "bernoulli", model="cvae"), images_for("bernoulli", (1, 8, 8))
    noise = torch.randn(7, 4, model.latent_dim, generator=generator(0))
    figures = importance_weighted(model, Batch(images, LABELS, noise))
    value = elbo_loss(figures)
    drawn = model(images, LABELS, noise)
    expected = -importance_weighted_bound(log_weights(drawn, images)).mean()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(figures.negative_elbo(), terms_of(drawn, images).negative_elbo())


def test_free_bits_are_per_level() -> None:
    model = ladder((1, 8, 8), "bernoulli", levels="3,2", patch=4)
    assert model.groups == (3, 8)
    rate = torch.cat([torch.full((2, 3), 0.1), torch.full((2, 8), 0.5)], dim=1)
    figures = elbo.Terms(torch.zeros(2), rate)
    value = elbo.loss(figures, free_bits=0.3, groups=model.groups)
    assert value.item() == pytest.approx(3 * 0.3 + 8 * 0.5)


@pytest.mark.parametrize("levels", ["3,2,1", "3,2@4,1@2"])
def test_an_untrained_posterior_is_the_prior(levels: str) -> None:
    model = ladder((1, 8, 8), "bernoulli", levels=levels, stirred=0)
    images = images_for("bernoulli", (1, 8, 8))
    inference = model(images, None, torch.randn(4, model.latent_dim, generator=generator(0)))
    assert not inference.rate.any()


def test_the_whitened_rate_is_the_kl_to_the_prior() -> None:
    """The rate equals KL(N(m + sμ, (sσ)²) ‖ N(m, s²)), in closed form."""
    random = generator(0)
    m, mean, log_variance = (torch.randn(6, generator=random) for _ in range(3))
    s = torch.rand(6, generator=random) + 0.5
    q = torch.distributions.Normal(m + s * mean, s * torch.exp(log_variance / 2))
    exact = torch.distributions.kl_divergence(q, torch.distributions.Normal(m, s))
    torch.testing.assert_close(Gaussian(mean, log_variance).rate(), exact)


def test_latents_enter_the_state_in_units_of_the_prior() -> None:
    level = ladder((1, 8, 8), "bernoulli", levels="3,2", patch=4).rungs[0]
    assert isinstance(level, LatentLevel)
    state = torch.randn(4, 5, 8, generator=generator(0))  # positions, images, channels
    noise = torch.randn(5, level.dims * level.positions, generator=generator(1))
    mean, log_scale = level.prior(F.silu(state)).chunk(2, dim=-1)
    latent = mean + torch.exp(4 * torch.tanh(log_scale / 4)) * noise.view(5, 4, 2).transpose(0, 1)
    moved = level.update(state.permute(2, 0, 1), noise)
    torch.testing.assert_close(moved.permute(1, 2, 0), state + level.enter(latent))


def test_log_weights_average_to_the_elbo_and_the_bound_approaches_the_evidence() -> None:
    """In three latent dimensions log p(x) = log ∫ N(z; 0, I) p(x|z) dz is computed on a fine grid of whitened z."""
    model = ladder((5,), "gaussian", levels="1,1,1", stirred=0.1)
    images = images_for("gaussian", (5,))
    axis = torch.linspace(-5, 5, 61)
    points = torch.cartesian_prod(axis, axis, axis)
    with torch.no_grad():
        inside = model.decode(points[:, None].expand(-1, 4, -1)).log_prob(images)
        prior = -0.5 * (points.square() + math.log(2 * math.pi)).sum(-1)
        evidence = torch.logsumexp(inside + prior[:, None], 0) + 3 * math.log(10 / 60)
        inference = model(images, None, torch.randn(20_000, 4, 3, generator=generator(0)))
        weights = log_weights(inference, images)
        elbo = -terms_of(inference, images).negative_elbo()
    # Two estimates of the same ELBO: from log-densities, and from distortion and closed-form rates.
    error = (weights - elbo).std(0) / math.sqrt(len(weights))
    assert ((weights.mean(0) - elbo.mean(0)).abs() < 4 * error).all()
    assert (elbo.mean(0) < evidence).all()
    bound = importance_weighted_bound(weights)
    assert (bound > elbo.mean(0)).all()
    torch.testing.assert_close(bound, evidence, atol=0.05, rtol=0)


@pytest.mark.parametrize("kind", ["vae", "cvae"])
@pytest.mark.parametrize(
    ("levels", "spatial_mixing"), [("3,2,1", "free"), ("3,2@4,1@2", "conv"), ("3,2@4,1@2", "relative")]
)
def test_images_of_a_batch_are_independent(kind: ModelName, levels: str, spatial_mixing: SpatialMixingName) -> None:
    model = ladder((1, 8, 8), "bernoulli", model=kind, levels=levels, spatial_mixing=spatial_mixing)
    images = images_for("bernoulli", (1, 8, 8))
    noise = torch.randn(4, model.latent_dim, generator=generator(0))
    whole = terms_of(model(images, LABELS, noise), images)
    for index in range(4):
        part = slice(index, index + 1)
        alone = terms_of(model(images[part], LABELS[part], noise[part]), images[part])
        torch.testing.assert_close(alone.negative_elbo(), whole.negative_elbo()[part], atol=1e-4, rtol=1e-5)


def test_the_posterior_uses_the_means_of_the_levels_above() -> None:
    model, images = ladder((1, 8, 8), "bernoulli"), images_for("bernoulli", (1, 8, 8))
    posterior = model.posterior(images)
    inference = model(images, None, torch.zeros(4, model.latent_dim))
    assert torch.equal(posterior.mean, inference.latent)
    assert torch.equal(posterior.log_variance, inference.posterior.log_variance)


def test_the_output_bias_starts_at_the_mean_of_the_data() -> None:
    model = ladder((1, 9, 13), "bernoulli", stirred=0)
    images = images_for("bernoulli", (1, 9, 13))
    model.initialise_from_data(Moments(images.mean(0), images.var(0)))
    with torch.no_grad():
        model.output.weight.zero_()
    start = model.decode(torch.zeros(1, model.latent_dim)).mean()[0]
    torch.testing.assert_close(start, images.mean(0).clamp(1e-3, 1 - 1e-3))


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"levels": "16,x"}, r"`levels`: got '16,x'; expected whole numbers of at least 1 with commas"),
        ({"levels": (4, 0)}, r"`levels`: got \[4, 0\]; expected whole numbers"),
        ({"model": "ae"}, r"`network`: got ladder for an autoencoder.*`model=vae`"),
        (
            {"latent_dim": 7},
            r"`latent_dim`: got 7, but `levels=16,1,1` makes 48",
        ),
        ({"encoder": "module:Encoder"}, r"`encoder`: got it with `network=ladder`"),
        (
            {"levels": "16,9000"},
            r"`levels`: got 16,9000, which is 144,016 dimensions at 16 positions; expected at most 65,536",
        ),
        ({"levels": "16@4,1"}, r"`levels`: got '16@4,1'; expected whole numbers"),
        ({"levels": "16,1@4@2"}, r"`levels`: got '16,1@4@2'; expected whole numbers"),
        (
            {"levels": "16,1@6,1@2"},
            r"`levels`: got 16,1@6,1@2, with patches of 6 pixels; expected the finest, 2, doubled, .*: 2, 4, 8",
        ),
        ({"levels": "16,1@4", "patch": 8}, r"with patches of 4 pixels; expected the finest, 8, doubled"),
        (
            {"levels": "16,1@2,1@4"},
            r"`levels`: got 16,1@2,1@4; expected the largest patches first",
        ),
        ({"levels": "16,1,1@4", "patch": 2}, r"`levels`: got 16,1,1@4; expected the largest patches first"),
        (
            {"levels": "16,1@4", "patch": 0},
            r"`levels`: got 16,1@4 for `patch=0`, which has no positions; expected numbers",
        ),
        (
            {"spatial_mixing": "conv", "patch": 0},
            r"`spatial_mixing`: got conv for a single position; expected it left out",
        ),
        ({"patch": 9}, r"`patch`: got 9 for images of 8×8; expected at most their side"),
        (
            {"network": "mlp", "patch": 4},
            r"`patch`: got 4 for `network=mlp`, which has none",
        ),
        (
            {"spatial_mixing": "conf"},
            r"`spatial_mixing`: got 'conf'; expected one of free, relative, conv\. Did you mean 'conv'\?",
        ),
    ],
)
def test_what_does_not_fit_is_refused(own: dict[str, object], message: str) -> None:
    given = {"model": "vae", "network": "ladder", "likelihood": "bernoulli", **own}
    with pytest.raises(ConfigError, match=message):
        resolve_model(ModelConfig(**given), (1, 8, 8))  # pyright: ignore[reportArgumentType]


def test_too_many_positions_are_refused() -> None:
    config = ModelConfig("vae", "ladder", None, "bernoulli", patch=2)
    with pytest.raises(ConfigError, match=r"`patch`: got 2, which makes 4,096 positions; expected at most 1,024"):
        resolve_model(config, (1, 128, 128))


def test_a_table_has_no_patches() -> None:
    with pytest.raises(ConfigError, match=r"`patch`: got 4 for a table, which has no pixels; expected it left out"):
        resolve_model(ModelConfig("vae", "ladder", None, "gaussian", patch=4), (5,))


def test_a_table_has_no_positions_for_levels() -> None:
    with pytest.raises(ConfigError, match=r"`levels`: got 3,1@4 for a table, which has no positions; expected numbers"):
        resolve_model(ModelConfig("vae", "ladder", None, "gaussian", levels="3,1@4"), (5,))


def test_levels_have_the_positions_of_their_patch_size() -> None:
    config = resolve_model(ModelConfig("vae", "ladder", None, "bernoulli", levels="16,4@8,2@4,1@2"), (1, 28, 28))
    assert (config.patch, config.latent_dim) == (2, 16 + 4 * 16 + 2 * 49 + 196)
    assert resolve_model(as_config(config), (1, 28, 28)) == config
    assert ModelConfig(levels=(16, "4@8")).levels == "16,4@8"
    model = build_model(as_config(config), (1, 28, 28), 10)
    assert model.groups == (16, 64, 98, 196)
    cut = resolve_model(ModelConfig("vae", "ladder", None, "bernoulli", levels="16,1@8,1", patch=4), (1, 28, 28))
    assert cut.latent_dim == 16 + 16 + 49


def test_complete_model_is_idempotent() -> None:
    config = resolve_model(ModelConfig("cvae", "ladder", None, "bernoulli"), (1, 28, 28))
    assert (config.levels, config.patch, config.latent_dim, config.spatial_mixing) == (
        "16,1,1",
        4,
        16 + 2 * 49,
        "relative",
    )
    assert resolve_model(as_config(config), (1, 28, 28)) == config
    assert ModelConfig(levels=(3, 2)).levels == "3,2"


def test_all_models_share_the_interface() -> None:
    for network, kind in itertools.product(("mlp", "conv", "ladder"), ("vae", "cvae")):
        config = ModelConfig(kind, network, None, "bernoulli", 8, 1)  # pyright: ignore[reportArgumentType]
        model = build_model(config, (1, 8, 8), 3)
        assert isinstance(model, Model)
        z = torch.zeros(2, model.latent_dim)
        assert model.decode(z, LABELS[:2]).mean().shape == (2, 1, 8, 8)
