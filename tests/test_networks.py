"""Encoder and decoder networks: sizes, labels, errors."""

import pytest
import torch
import torch.nn.functional as F
from conftest import generator
from torch import Tensor

from vaelab.errors import ConfigError
from vaelab.models.networks import (
    ConvDecoder,
    ConvEncoder,
    DenseDecoder,
    DenseEncoder,
    DenseStack,
    channel_counts,
    conv_sizes,
    with_labels,
)

CONV_SHAPES = [(1, 8, 8), (1, 28, 28), (3, 9, 13), (3, 32, 20), (1, 8, 128), (1, 17, 33), (1, 128, 128)]
ONE_HOT = torch.eye(3)[[0, 2]]


def test_labels_are_appended() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert with_labels(values, ONE_HOT).tolist() == [[1, 2, 1, 0, 0], [3, 4, 0, 0, 1]]
    assert with_labels(values, None) is values


def test_a_dense_stack_has_the_given_depth_and_width() -> None:
    sizes = [tuple(weight.shape) for weight in DenseStack(5, 2, 7, 3).parameters()]
    assert sizes == [(7, 7), (7,), (7, 9), (7,), (7, 9), (7,)]
    assert [tuple(weight.shape) for weight in DenseStack(5, 0, 7, 1).parameters()] == [(7, 5), (7,)]


@pytest.mark.parametrize("labels", [None, ONE_HOT])
def test_later_layers_of_a_dense_stack_are_residual(labels: Tensor | None) -> None:
    stack = DenseStack(5, 0 if labels is None else 3, 4, 3)
    values = torch.randn(2, 5, generator=generator(1))
    (w1, b1, w2, b2, w3, b3) = stack.parameters()
    beside = torch.zeros(2, 0) if labels is None else labels
    hidden = F.silu(torch.cat([values, beside], 1) @ w1.T + b1)
    hidden = hidden + F.silu(torch.cat([hidden, beside], 1) @ w2.T + b2)
    hidden = hidden + F.silu(torch.cat([hidden, beside], 1) @ w3.T + b3)
    torch.testing.assert_close(stack(values, labels), hidden)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 8, 8), [(8, 8), (4, 4)]),
        ((1, 28, 28), [(28, 28), (14, 14), (7, 7), (4, 4)]),
        ((3, 9, 13), [(9, 13), (5, 7), (3, 4)]),
        ((1, 8, 128), [(8, 128), (4, 64), (2, 32), (1, 16), (1, 8), (1, 4)]),
    ],
)
def test_conv_sizes(shape: tuple[int, ...], expected: list[tuple[int, int]]) -> None:
    assert conv_sizes(shape) == expected


def test_channels_double_up_to_four_times() -> None:
    assert channel_counts(8, 5) == [8, 16, 32, 32, 32]


@pytest.mark.parametrize(
    ("shape", "got"),
    [
        ((1, 7, 7), "7×7"),
        ((3, 129, 64), "129×64"),
        ((1, 28, 129), "28×129"),
        ((1, 28, 7), "28×7"),
        ((5,), "rows of 5 numbers"),
    ],
)
def test_conv_refuses_unsupported_sizes(shape: tuple[int, ...], got: str) -> None:
    for build in (lambda: ConvEncoder(shape, 0, 4), lambda: ConvDecoder(shape, 1, 2, 0, 4)):
        with pytest.raises(ConfigError, match=f"`network='conv'`.*{got}.*8 to 128.*`size="):
            build()


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("planes", [1, 2])
@pytest.mark.parametrize("shape", CONV_SHAPES)
def test_conv_networks_keep_the_image_size(shape: tuple[int, ...], planes: int, classes: int) -> None:
    labels = ONE_HOT if classes else None
    encoder, decoder = ConvEncoder(shape, classes, 4), ConvDecoder(shape, planes, 5, classes, 4)
    assert encoder(torch.zeros(2, *shape), labels).shape == (2, encoder.features)
    assert decoder(torch.zeros(2, 5), labels).shape == (2, planes, *shape)


@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_networks_depend_on_labels(network: str) -> None:
    """Other labels give other features and other parameters for the same images and latents."""
    shape = (1, 8, 9)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if network == "conv":
            encoder, decoder = ConvEncoder(shape, 3, 8), ConvDecoder(shape, 1, 2, 3, 8)
        else:
            encoder, decoder = DenseEncoder(shape, 3, 8, 1), DenseDecoder(shape, 1, 2, 3, 8, 1)
    torch.nn.init.normal_(decoder.output.weight, generator=generator(2))
    images, latent, other = torch.rand(2, *shape, generator=generator(1)), torch.zeros(2, 2), ONE_HOT.roll(1, 1)
    assert (encoder(images, ONE_HOT) - encoder(images, other)).abs().amax(1).min() > 1e-3
    assert (decoder(latent, ONE_HOT) - decoder(latent, other)).flatten(1).abs().amax(1).min() > 1e-3


def test_a_conv_encoder_sees_the_label_as_constant_planes() -> None:
    encoder = ConvEncoder((1, 8, 8), 2, 4)
    images = torch.rand(2, 1, 8, 8, generator=generator(1))
    planes = torch.stack([torch.zeros(2, 8, 8), torch.ones(2, 8, 8)], dim=1)
    labels = torch.tensor([[0.0, 1.0]] * 2)
    torch.testing.assert_close(encoder(images, labels), encoder.stack(torch.cat([images, planes], dim=1)))


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("shape", [(5,), (1, 8, 8), (3, 9, 13)])
def test_dense_networks_keep_the_image_size(shape: tuple[int, ...], classes: int) -> None:
    labels = ONE_HOT if classes else None
    encoder, decoder = DenseEncoder(shape, classes, 6, 2), DenseDecoder(shape, 2, 5, classes, 6, 1)
    assert encoder.features == 6
    assert encoder(torch.zeros(2, *shape), labels).shape == (2, 6)
    assert decoder(torch.zeros(2, 5), labels).shape == (2, 2, *shape)


def test_every_value_of_a_dense_decoder_has_its_own_bias() -> None:
    """In the order in which the model initialises the bias: planes, colours, rows, columns."""
    decoder = DenseDecoder((3, 2, 4), 2, 1, 0, 2, 1)
    with torch.no_grad():
        decoder.output.weight.zero_()
        decoder.output.bias.copy_(torch.arange(48.0))
    assert torch.equal(decoder(torch.zeros(1, 1), None)[0], torch.arange(48.0).reshape(2, 3, 2, 4))


def test_every_channel_of_a_conv_decoder_has_its_own_bias() -> None:
    decoder = ConvDecoder((3, 8, 9), 2, 1, 0, 2)
    with torch.no_grad():
        decoder.output.weight.zero_()
        assert decoder.output.bias is not None
        decoder.output.bias.copy_(torch.arange(6.0))
    expected = torch.arange(6.0).reshape(2, 3, 1, 1).expand(2, 3, 8, 9)
    assert torch.equal(decoder(torch.zeros(1, 1), None)[0], expected)


@pytest.mark.parametrize("shape", CONV_SHAPES)
def test_every_pixel_affects_features_and_depends_on_the_latent(shape: tuple[int, ...]) -> None:
    """No pixel is lost at an odd edge."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder, decoder = ConvEncoder(shape, 0, 8), ConvDecoder(shape, 1, 3, 0, 8)
    images = torch.rand(4, *shape, generator=generator(1)).requires_grad_()
    encoder(images, None).square().sum().backward()
    assert images.grad is not None
    assert (images.grad.abs().sum(0) > 0).all()
    torch.nn.init.normal_(decoder.output.weight, generator=generator(3))
    decoded = decoder(torch.randn(16, 3, generator=generator(2)), None)
    assert (decoded.std(0) > 0).all()
