"""Two levels, of which the lower starts as probabilistic PCA: against scikit-learn's, against known models, and in training."""

from pathlib import Path

import numpy as np
import pytest
import torch
from building import resolve_model
from conftest import generator
from sklearn.decomposition import PCA
from torch import Tensor

from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data import Dataset, Split
from vaelab.errors import ConfigError
from vaelab.models.distributions import standard_normal_log_prob
from vaelab.models.factory import build_model
from vaelab.models.moments import Moments
from vaelab.models.pca import IMAGES_PER_COMPONENT, LinearModel, linear_model, start_as_pca
from vaelab.models.two_level import TwoLevelVAE, level_sizes
from vaelab.objectives.batch import to_unit
from vaelab.objectives.elbo import terms_of
from vaelab.training.fit import fit, make_trainer
from vaelab.training.resolve import resolve

SHAPE = (3, 6, 8)


def smooth_images(count: int, seed: int, shape: tuple[int, int, int] = SHAPE) -> Tensor:
    """Images uint8 (count, *shape) of a few smooth components in mixed colours, and noise common to the channels."""
    channels, rows, columns = shape
    down, right = torch.linspace(0, 3, rows)[:, None], torch.linspace(0, 3, columns)
    patterns = torch.stack([torch.cos(a * down + b * right) for a, b in ((0, 0), (1, 0), (0, 1), (1, 1))])
    draw = generator(seed)
    weights = torch.randn(count, channels, 4, generator=draw) + 1.5 * torch.randn(count, 1, 4, generator=draw)
    noise = torch.randn(count, 1, rows, columns, generator=draw) + 0.3 * torch.randn(count, *shape, generator=draw)
    levels = 128 + 14 * torch.einsum("nck,khw->nchw", weights, patterns) + 4 * noise
    return levels.clamp(0, 255).round().to(torch.uint8)


def dataset_of(count: int) -> Dataset:
    images = smooth_images(count + 200, 0).numpy()
    parts = (images[:count], images[count : count + 100], images[count + 100 :])
    labels = [np.arange(len(part)) % 2 for part in parts]
    train, validation, test = (Split(part, y) for part, y in zip(parts, labels, strict=True))
    return Dataset("smooth", train, validation, test, ("a", "b"))


def untrained(kind: str = "vae", latent_dim: int = 7, likelihood: str = "colour-logistic") -> TwoLevelVAE:
    shape = SHAPE if likelihood == "colour-logistic" else (1, *SHAPE[1:])
    config = ModelConfig(kind, "pca", latent_dim, likelihood, 16, 2)  # type: ignore[arg-type]
    model = build_model(resolve_model(config, shape), shape, 2)
    assert isinstance(model, TwoLevelVAE)
    return model


def started(images: Tensor, **options: object) -> TwoLevelVAE:
    model = untrained(**options)  # type: ignore[arg-type]
    model.initialise_from_data(Moments.of(images))
    start_as_pca(model, images)
    return model.eval()


def negative_elbo(model: TwoLevelVAE, images: Tensor) -> Tensor:
    labels = torch.arange(len(images)) % 2 if model.classes else None
    with torch.no_grad():
        noise = torch.randn(len(images), model.latent_dim, generator=generator(5))
        return terms_of(model(to_unit(images), labels, noise), to_unit(images)).negative_elbo()


def covariance(found: LinearModel, noise: float) -> np.ndarray:
    return (found.loadings.T @ found.loadings + noise * torch.eye(found.loadings.shape[1])).double().numpy()


@pytest.mark.parametrize("count", [30, 500], ids=["fewer images than values", "more"])
def test_grey_images_give_the_probabilistic_pca_of_scikit_learn(count: int) -> None:
    x = smooth_images(count, 1, (1, 6, 8)).float() / 255
    x = x - x.mean(0)
    found = linear_model(x, 4)
    other = PCA(4).fit(x.flatten(1).numpy())
    assert other.components_ is not None
    scale = (count - 1) / count  # scikit-learn divides by n − 1
    expected = (other.components_.T * (scale * (other.explained_variance_ - other.noise_variance_))) @ other.components_
    if count == 30:  # it takes the noise over min(n, P) − d values
        noise = scale * other.noise_variance_ * (30 - 4) / (48 - 4)
        expected = (other.components_.T * (scale * other.explained_variance_ - noise)) @ other.components_
    np.testing.assert_allclose(covariance(found, 0.0), expected, atol=2e-5)


def test_a_known_model_of_colours_is_found() -> None:
    """Loadings that are the same at all pixels, so that neighbours differ by noise alone."""
    draw, loadings = generator(2), torch.tensor([[0.2, 0.1, -0.1], [0.02, 0.05, 0.1]])
    mixing = torch.tensor([[0.03, 0.0, 0.0], [0.02, 0.01, 0.0], [0.02, 0.01, 0.005]])  # of the noise
    z, noise = torch.randn(20_000, 2, generator=draw), torch.randn(20_000, 3, 2, 5, generator=draw)
    x = (z @ loadings)[:, :, None, None] + torch.einsum("ab,nbhw->nahw", mixing, noise)
    found = linear_model(x - x.mean(0), 2)
    full = loadings.repeat_interleave(10, 1)
    torch.testing.assert_close(found.loadings.T @ found.loadings, full.T @ full, rtol=0.05, atol=2e-4)
    precision = torch.kron(torch.linalg.inv(mixing @ mixing.T).contiguous(), torch.eye(10))
    posterior = torch.linalg.inv(torch.eye(2) + full @ precision @ full.T)  # the exact one: Bishop 2006, eq. 12.42
    expected = full.T @ posterior @ full @ precision  # of W V, which no rotation of z changes
    torch.testing.assert_close(found.loadings.T @ found.encoder, expected, rtol=0.05, atol=0.02)
    assert torch.exp(found.log_variance).prod() == pytest.approx(torch.linalg.det(posterior).item(), rel=0.1)


def test_the_posterior_of_the_start_is_that_of_the_linear_model() -> None:
    images = smooth_images(1000, 0)
    model = started(images)
    x = to_unit(images)
    found = linear_model(x - x.mean(0), 6)
    q = model.posterior(x)
    torch.testing.assert_close(q.mean[:, 1:], (x - x.mean(0)).flatten(1) @ found.encoder.T, rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(q.log_variance[:, 1:], found.log_variance.expand(1000, -1), rtol=1e-3, atol=1e-3)


def disturbed(kind: str) -> tuple[TwoLevelVAE, Tensor, Tensor | None]:
    """A model all of whose layers have an effect, three images, and their labels."""
    model = started(smooth_images(500, 0), kind=kind)
    draw = generator(8)
    with torch.no_grad():
        for layer in (model.head, model.prior, model.decoder.output):
            layer.weight.normal_(std=0.05, generator=draw)
    return model, to_unit(smooth_images(3, 4)), torch.tensor([0, 1, 0]) if kind == "cvae" else None


@pytest.mark.parametrize("kind", ["vae", "cvae"])
def test_decoding_the_latent_of_a_pass_gives_its_likelihood(kind: str) -> None:
    model, x, labels = disturbed(kind)
    noise = torch.randn(4, 3, 7, generator=generator(1))
    found = model(x, labels, noise)
    torch.testing.assert_close(model.decode(found.latent, labels).parameters, found.likelihood.parameters)
    again = model.infer_at(x, labels, found.latent)
    torch.testing.assert_close(again.posterior.mean, found.posterior.mean)
    torch.testing.assert_close(again.rate, found.rate)
    one = model(x, labels, noise[2])
    torch.testing.assert_close(one.latent, found.latent[2])
    torch.testing.assert_close(one.likelihood.parameters, found.likelihood.parameters[2])


def test_gradients_reach_every_parameter() -> None:
    model, x, labels = disturbed("cvae")
    terms_of(model(x, labels, torch.randn(3, 7, generator=generator(2))), x).negative_elbo().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_the_rate_is_the_divergence_from_the_prior() -> None:
    """On average over z, log q(z|x) − log N(z; 0, I), where q of the lower level depends on the upper."""
    model, x, _ = disturbed("vae")
    with torch.no_grad():
        found = model(x, None, torch.randn(40_000, 3, 7, generator=generator(1)))
    difference = found.posterior.log_prob(found.latent) - standard_normal_log_prob(found.latent)
    torch.testing.assert_close(difference.mean(0), found.rate.sum(-1).mean(0), rtol=0.01, atol=0.02)


@pytest.mark.parametrize("total", [2, 3, 7, 50, 544])
def test_both_levels_have_latents(total: int) -> None:
    upper, lower = level_sizes(total)
    assert 1 <= upper <= lower
    assert upper + lower == total


@pytest.mark.parametrize("kind", ["vae", "cvae"])
@pytest.mark.parametrize("likelihood", ["colour-logistic", "logistic"])
def test_training_starts_far_ahead_of_a_model_without_latents(kind: str, likelihood: str) -> None:
    colour = likelihood == "colour-logistic"
    shape = SHAPE if colour else (1, *SHAPE[1:])
    images, others = (smooth_images(count, seed, shape) for count, seed in ((2000, 0), (300, 1)))
    model = untrained(kind, likelihood=likelihood)
    model.initialise_from_data(Moments.of(images))
    before = negative_elbo(model.eval(), others).mean()
    start_as_pca(model, images)
    after = negative_elbo(model, others).mean()
    assert before - after > 0.5 * others[0].numel()  # nats per value


def test_reconstructions_start_as_those_of_pca() -> None:
    images = smooth_images(1000, 0)
    model = started(images, latent_dim=16)
    with torch.no_grad():
        x = to_unit(images)
        error = (model(x, None, torch.zeros(1000, 16)).likelihood.mean() - x).square().mean().sqrt()
    assert error < 6 / 255


def test_few_images_set_few_latents() -> None:
    count = 3 * IMAGES_PER_COMPONENT
    images = smooth_images(count, 0)
    with torch.no_grad():
        rate = started(images).posterior(to_unit(images)).rate().mean(0)
    assert (rate[1:4] > 0.5).all()
    assert (rate[4:] == 0).all()


@pytest.mark.parametrize("count", [1, 40])
def test_images_without_variation_give_finite_figures(count: int) -> None:
    images = torch.full((count, *SHAPE), 100, dtype=torch.uint8)
    assert negative_elbo(started(images), images).isfinite().all()


def test_a_step_of_training_keeps_what_the_start_gained() -> None:
    """Without units of the noise, a few steps of AdamW make the loss worse than after training without the start."""
    data = dataset_of(2000)
    config = Config(ModelConfig(latent_dim=8, width=32), TrainConfig(epochs=2, batch_size=50, compile="no"))
    trainer = make_trainer(resolve(config, data), data)
    before = negative_elbo(trainer.averaged, torch.from_numpy(data.test.images)).mean()  # type: ignore[arg-type]
    *_, last = fit(config, data)
    assert last.validation is not None
    assert last.validation.nats < before


def test_it_is_the_default_for_colour_images_and_recorded(tmp_path: Path) -> None:
    data = dataset_of(600)
    config = Config(ModelConfig(latent_dim=8, width=16), TrainConfig(epochs=1))
    resolved = resolve(config, data)
    assert resolved.model.network == "pca"
    assert resolved.train.kl_warmup == 0
    *_, last = fit(config, data, out=tmp_path / "run")
    assert last.validation is not None
    assert resolve(Config(ModelConfig(model="ae")), data).model.network != "pca"


def test_a_resumed_training_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Its units come from the run, because its start is not computed again."""
    data, model = dataset_of(300), ModelConfig(latent_dim=8, width=16)
    *_, whole = fit(Config(model, TrainConfig(epochs=4)), data)
    step = 0
    for progress in fit(Config(model, TrainConfig(epochs=4)), data, out=tmp_path / "run"):
        step = progress.step
        if step >= 10:
            break
    *_, resumed = fit(Config(train=TrainConfig()), data, out=tmp_path / "run", resume=True)
    assert step < whole.step == resumed.step
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"likelihood": "bernoulli"}, "colour-logistic or logistic"),
        ({"decoder": "some:Decoder"}, "network=mlp"),
        ({"model": "ae"}, "model=vae"),
        ({"latent_dim": 1}, "at least 2"),
    ],
)
def test_what_it_cannot_start_is_refused(options: dict[str, str], hint: str) -> None:
    with pytest.raises(ConfigError, match=f"`network`: got pca .*{hint}"):
        resolve(Config(ModelConfig(network="pca", **options)), dataset_of(50))  # type: ignore[arg-type]
