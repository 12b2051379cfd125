"""Images of two colours: the mixture is normalised, shape and colours are separated, and letters are generated as asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from building import build_model
from coloured_letters import LETTERS, colour_correlations, draw_letters
from conftest import generator
from torch import Tensor

from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data.dataset import Dataset, Split, default_likelihood, two_colour_share
from vaelab.data.describe import describe_dataset
from vaelab.errors import ConfigError
from vaelab.evaluation.reference_classifier import reference_classifier_for
from vaelab.models.colour import TwoColour
from vaelab.models.distributions import DiscretisedLogistic
from vaelab.models.factory import start_from_images
from vaelab.models.moments import Moments
from vaelab.models.two_colour import COLOURS, separate
from vaelab.objectives.batch import to_unit
from vaelab.training.fit import fit
from vaelab.training.resolve import resolve

SHAPE = (3, 12, 10)


def painted(count: int, seed: int = 0, noise: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """Bars in one colour on another, (N, *SHAPE) in 0…1; the share of the bar at each pixel; and both colours, (N, 6)."""
    g = generator(seed)
    share = torch.zeros(count, *SHAPE[1:])
    for one, first in zip(share, torch.randint(0, 8, (count,), generator=g).tolist(), strict=True):
        one[2:9, first : first + 2] = 1
    background = torch.rand(count, 3, generator=g)
    ink = torch.where(background > 0.5, background - 0.4, background + 0.4)
    share_of_each = share[:, None]
    x = share_of_each * ink[:, :, None, None] + (1 - share_of_each) * background[:, :, None, None]
    return (x + noise * torch.randn(x.shape, generator=g)).clamp(0, 1), share, torch.cat([background, ink], 1)


def dataset_of(images: np.ndarray, labels: np.ndarray | None = None, classes: tuple[str, ...] = ()) -> Dataset:
    """The first 90 % for training, the rest for validation and test."""
    first, second = len(images) * 9 // 10, len(images) * 19 // 20
    cuts = (slice(first), slice(first, second), slice(second, None))
    train, validation, test = (Split(images[cut], None if labels is None else labels[cut]) for cut in cuts)
    return Dataset("painted", train, validation, test, classes)


def to_chw(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def bars(count: int = 60) -> Dataset:
    return dataset_of((255 * painted(count)[0]).round().to(torch.uint8).numpy())


def outputs(seed: int, *leading: int) -> Tensor:
    return torch.randn(*leading, 4, 3, 2, 1, generator=generator(seed), dtype=torch.float64)


# The likelihood.


def test_it_is_a_mixture_of_three_logistics_whose_component_the_channels_share() -> None:
    x = torch.round(torch.rand(5, 3, 2, 1, generator=generator(1), dtype=torch.float64) * 255) / 255
    p = TwoColour(outputs(0, 5), 3)
    weights, first, second, scales = p.distribution_parameters().unbind(1)
    torch.testing.assert_close(weights.exp().sum(1), torch.ones(5, 2, 1, dtype=torch.float64))
    expected = torch.zeros(5, dtype=torch.float64)
    for row in range(2):
        each = []
        for k, centre in enumerate((first, second, (first + second) / 2)):
            raw = p.plane(3)[:, k, row].expand(5, 3)
            channels = DiscretisedLogistic(torch.stack([centre[:, :, row, 0] - 0.5, raw], 1), 1)
            each.append(weights[:, k, row, 0] + channels.log_prob(x[:, :, row, 0]))
        expected += torch.logsumexp(torch.stack(each), 0)
    torch.testing.assert_close(p.log_prob(x), expected)
    assert scales.min() > -7


def test_its_samples_have_its_mean_and_components() -> None:
    parameters = outputs(2).expand(50_000, -1, -1, -1, -1)
    p = TwoColour(parameters, 3)
    drawn = p.sample(generator(3))
    error = drawn.std(0) / len(drawn) ** 0.5
    assert ((drawn.mean(0) - p.mean()[0]).abs() <= 5 * error + 0.5 / 255).all()
    # With small scales, every pixel is one of the three centres, as often as its weight says, in all channels at once.
    sharp = parameters.clone()
    sharp[:, 3] = -20
    p = TwoColour(sharp, 3)
    weights, first, second, _ = p.distribution_parameters()[0].unbind(0)
    drawn = p.sample(generator(4))
    for k, centre in enumerate((first, second, (first + second) / 2)):
        share = ((drawn - centre.clamp(0, 1)).abs() < 0.02).all(1).double().mean(0)
        torch.testing.assert_close(share, weights[k].exp(), rtol=0, atol=0.01)


def test_its_start_has_the_mean_of_the_data() -> None:
    data = 0.5 + 0.1 * torch.randn(500, 3, 2, 1, generator=generator(5), dtype=torch.float64)
    p = TwoColour(TwoColour.initial(Moments.of(data))[None], 3)
    torch.testing.assert_close(p.mean()[0], data.mean(0), rtol=0, atol=2e-3)


@pytest.mark.parametrize("log_scale", [-1e4, -7.0, 0.0, 20.0, 60.0])
@pytest.mark.parametrize("logit", [-1e4, 0.0, 1e4])
def test_it_stays_finite_in_float32(log_scale: float, logit: float) -> None:
    parameters = torch.zeros(3, 4, 3, 2, 1)
    parameters[:, 0, 0], parameters[:, 1], parameters[:, 2], parameters[:, 3] = logit, -60.0, 60.0, log_scale
    parameters.requires_grad_()
    p = TwoColour(parameters, 3)
    nats = -p.log_prob(torch.tensor([0.0, 100 / 255, 1.0])[:, None, None, None].expand(-1, 3, 2, 1))
    (gradient,) = torch.autograd.grad(nats.sum(), parameters)
    for values in (nats, gradient, p.mean(), p.sample(generator(0))):
        assert values.isfinite().all()


# Shape and colours.


def test_shape_and_colours_are_separated() -> None:
    x, share, colours = painted(200, noise=0.01)
    along, found = separate(x.flatten(2))
    torch.testing.assert_close(found, colours, rtol=0, atol=0.02)
    assert (along.mean(1).abs() < 1e-4).all()
    torch.testing.assert_close(along.square().mean(1), torch.ones(200), rtol=0, atol=0.01)
    assert torch.equal(along > 1, share.flatten(1) > 0)


def test_the_shape_does_not_depend_on_the_colours() -> None:
    _, share, _ = painted(50)
    pairs = ((0.1, 0.9, 0.3), (0.6, 0.2, 0.3)), ((0.9, 0.5, 0.0), (0.1, 0.6, 0.8))
    first, second = (
        separate((share[:, None] * (ink - ground) + ground).flatten(2))[0]
        for ground, ink in (torch.tensor(pair)[:, :, None, None] for pair in pairs)
    )
    torch.testing.assert_close(first, second, rtol=0, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_an_image_of_one_colour_has_it_twice(value: float) -> None:
    along, found = separate(torch.full((2, 3, 120), value))
    assert along.isfinite().all()
    torch.testing.assert_close(found, torch.full((2, 6), value))


def test_an_untrained_model_has_the_colours_of_the_image() -> None:
    x, _, colours = painted(300)
    config = ModelConfig(model="vae", network="two-colour", likelihood="two-colour", latent_dim=COLOURS + 2)
    model = build_model(config, SHAPE, 0).eval()
    images = (255 * x).round().to(torch.uint8)
    start_from_images(model, images, Moments.of(images))
    with torch.no_grad():
        inference = model(x, None, torch.zeros(len(x), model.latent_dim))
    mean = inference.posterior.mean[:, :COLOURS]
    torch.testing.assert_close(mean.mean(0), torch.zeros(COLOURS), rtol=0, atol=1e-2)
    torch.testing.assert_close(mean.var(0), torch.ones(COLOURS), rtol=0, atol=2e-2)
    _, first, second, _ = inference.likelihood.distribution_parameters().unbind(1)
    torch.testing.assert_close(torch.cat([first[:, :, 0, 0], second[:, :, 0, 0]], 1), colours, rtol=0, atol=0.01)
    assert (inference.rate[:, :COLOURS].mean(0) > 1).all()


# Its choice.


def test_it_is_the_default_of_images_of_two_colours() -> None:
    dataset = bars()
    assert two_colour_share(dataset.train.images).min() > 0.99
    assert default_likelihood(dataset.train) == "two-colour"
    chosen = resolve(Config(), dataset).model
    assert (chosen.network, chosen.likelihood, chosen.latent_dim) == ("two-colour", "two-colour", 22)
    assert "likelihood: two-colour (RGB, two colours explain 100 % of the variance of an image)" in [
        *describe_dataset(dataset)
    ]
    assert resolve(Config(ModelConfig(model="ae")), dataset).model.network == "two-colour"
    assert resolve(Config(), dataset).train.learning_rate == 4e-3


@pytest.mark.parametrize(
    ("options", "network"),
    [
        ({"network": "pca"}, "pca"),
        ({"network": "conv"}, "conv"),
        ({"latent_dim": 2}, "pca"),
        ({"encoder": "x:Y"}, "conv"),
        ({"likelihood": "colour-logistic"}, "pca"),
    ],
)
def test_other_choices_get_the_colour_logistic(options: dict[str, object], network: str) -> None:
    chosen = resolve(Config(ModelConfig(**options)), bars()).model  # type: ignore[arg-type]
    assert (chosen.network, chosen.likelihood) == (network, "colour-logistic")


def test_images_of_many_colours_are_not_of_two() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 8, 8)).astype(np.uint8)
    assert np.median(two_colour_share(images)) < 0.5
    assert default_likelihood(Split(images)) == "colour-logistic"
    chosen = resolve(Config(ModelConfig(network="two-colour")), dataset_of(images)).model
    assert chosen.likelihood == "two-colour"


def test_images_of_one_colour_have_no_variance_to_explain() -> None:
    images = np.full((3, 3, 8, 8), 7, np.uint8)
    assert (two_colour_share(images) == 1).all()
    assert default_likelihood(Split(images)) == "two-colour"


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"likelihood": "logistic"}, "two-colour"),
        ({"latent_dim": COLOURS}, "at least 7"),
        ({"encoder": "x:Y"}, "network=mlp"),
    ],
)
def test_what_it_cannot_use_is_refused(options: dict[str, object], hint: str) -> None:
    with pytest.raises(ConfigError, match=f"`network`: got two-colour .*{hint}"):
        resolve(Config(ModelConfig(network="two-colour", **options)), bars())  # type: ignore[arg-type]


def test_grey_images_are_refused() -> None:
    grey = dataset_of(np.zeros((40, 1, 8, 8), np.uint8))
    with pytest.raises(ConfigError, match="`likelihood`: got two-colour for grey images"):
        resolve(Config(ModelConfig(network="two-colour", likelihood="two-colour")), grey)


# Training.


@pytest.mark.slow
def test_letters_are_generated_as_asked_in_any_colours() -> None:
    drawn, new = draw_letters(10_000, 0), draw_letters(500, 1)
    dataset = dataset_of(to_chw(drawn.images), drawn.labels, tuple(LETTERS))
    *_, last = fit(Config(train=TrainConfig(epochs=20)), dataset)
    model = last.model.cpu().eval()
    x, labels = to_unit(torch.from_numpy(to_chw(new.images))), torch.from_numpy(new.labels)
    asked = torch.arange(1000) % len(LETTERS)
    with torch.no_grad():
        mean = model(x, labels, torch.zeros(len(x), model.latent_dim)).likelihood.mean()
        generated = model.decode(torch.randn(1000, model.latent_dim, generator=generator(2)), asked).mean()
    ink, background = colour_correlations(new.images, (255 * mean).permute(0, 2, 3, 1).numpy(), new.masks)
    assert ink >= 0.98
    assert background >= 0.98
    read = reference_classifier_for(dataset).read((255 * generated.clamp(0, 1)).round().to(torch.uint8).numpy())
    assert (read == asked.numpy()).mean() >= 0.95
    assert separate(generated.flatten(2))[1].std(0).min() > 0.15  # of uniform colours: 0.29
