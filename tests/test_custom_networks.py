"""Custom networks: how they are called, what is refused, and what a run stores."""

import functools
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from building import build_model, resolve_model
from conftest import flat, generator
from torch import Tensor, nn

import vaelab
from vaelab.cli import main
from vaelab.config import ModelConfig
from vaelab.data import Dataset
from vaelab.errors import ConfigError
from vaelab.import_paths import import_path
from vaelab.models.custom import CustomNetwork, build_decoder, build_encoder
from vaelab.models.moments import Moments
from vaelab.models.networks import with_labels

SHAPE = (1, 8, 8)


class Encoder(nn.Module):
    """Does not name `depth`, and has no `features`."""

    def __init__(self, shape: tuple[int, ...], classes: int, width: int) -> None:
        super().__init__()
        self.layer = nn.Linear(torch.Size(shape).numel() + classes, width)

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return torch.tanh(self.layer(with_labels(images.flatten(1), labels)))


class Decoder(nn.Module):
    """Accepts all arguments."""

    def __init__(self, **given: Any) -> None:
        super().__init__()
        self.given = given
        self.shape = (given["planes"], *given["shape"])
        self.output = nn.Linear(given["latent_dim"] + given["classes"], torch.Size(self.shape).numel())

    def forward(self, latent: Tensor, labels: Tensor | None) -> Tensor:
        return self.output(with_labels(latent, labels)).unflatten(1, self.shape)


class Lazy(nn.Module):
    """Infers its input size at the first call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LazyLinear(6)

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.layer(with_labels(images.flatten(1), labels))


class Tied(nn.Module):
    """One layer under two names, a weight that nothing uses, dropout, and a last layer that all pixels share."""

    def __init__(self, *, shape: tuple[int, ...], planes: int, latent_dim: int, classes: int) -> None:
        super().__init__()
        self.shape, self.n_parameters = shape, planes
        self.first = nn.Linear(latent_dim + classes, latent_dim + classes)
        self.second = self.first
        self.unused = nn.Parameter(torch.zeros(3))
        self.dropout = nn.Dropout(0.5)
        self.spread = nn.Linear(latent_dim + classes, 4 * torch.Size(shape).numel())
        self.output = nn.Linear(4, planes)

    def forward(self, latent: Tensor, labels: Tensor | None) -> Tensor:
        hidden = self.dropout(self.second(torch.tanh(self.first(with_labels(latent, labels)))))
        return self.output(self.spread(hidden).unflatten(1, (-1, 4))).transpose(1, 2).unflatten(2, self.shape)


def made(*, classes: int) -> Encoder:
    """A function that returns a network."""
    return Encoder(SHAPE, classes, 5)


class _Returns(nn.Module):
    """Returns a fixed output."""

    output: Any

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, values: Tensor, labels: Tensor | None) -> Any:
        return self.output(values, labels)


class OneRow(_Returns):
    output = staticmethod(lambda values, labels: torch.zeros(64))


class Flat(_Returns):
    output = staticmethod(lambda values, labels: torch.zeros(len(values), 64))


class Pair(_Returns):
    output = staticmethod(lambda values, labels: (values, values))


class Doubles(_Returns):
    output = staticmethod(lambda values, labels: torch.zeros(len(values), 4, dtype=torch.float64))


class Fails(_Returns):
    output = staticmethod(lambda values, labels: values @ torch.zeros(9, 9))


class NeedsMore(nn.Module):
    def __init__(self, shape: tuple[int, ...], heads: int) -> None:
        super().__init__()


class Normed(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Flatten(), nn.BatchNorm1d(64))

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return super().forward(images)


class Spectral(nn.Module):
    """Its power iteration changes buffers in training."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layer = nn.utils.parametrizations.spectral_norm(nn.Linear(math.prod(shape), 8))

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.layer(images.flatten(1))


class Frozen(Encoder):
    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        super().__init__(shape, classes, 4)
        self.layer.weight.requires_grad_(False)


class NoModule:
    pass


A_NUMBER = 3
renamed = type("Original", (nn.Module,), {})


def config(**own: Any) -> ModelConfig:
    return ModelConfig("cvae", "mlp", latent_dim=3, likelihood="bernoulli", width=16, depth=1, **own)


def test_networks_receive_the_arguments_that_they_name() -> None:
    model = build_model(config(encoder=Encoder, decoder=Decoder), SHAPE, classes=2)
    assert isinstance(model.encoder, Encoder)
    assert isinstance(model.decoder, Decoder)
    assert model.encoder.layer.weight.shape == (16, 66)
    assert model.decoder.given == {
        "shape": SHAPE, "planes": 1, "latent_dim": 3, "classes": 2, "width": 16, "depth": 1
    }  # fmt: skip
    assert flat(model).head.in_features == 16  # the features are counted
    assert model.encoder.training
    images, labels = torch.rand(5, *SHAPE, generator=generator(1)), torch.tensor([0, 1, 0, 1, 0])
    assert model(images, labels, torch.zeros(5, 3)).likelihood.log_prob(images).shape == (5,)


def test_without_labels_there_are_no_classes() -> None:
    model = build_model(ModelConfig("vae", "mlp", 3, "logistic", 16, 1, Encoder, Decoder), SHAPE, classes=2)
    assert isinstance(model.decoder, Decoder)
    assert (model.decoder.given["classes"], model.decoder.given["planes"]) == (0, 2)


def test_encoder_and_decoder_can_be_custom_separately() -> None:
    assert build_encoder(resolve_model(config(decoder=Decoder), SHAPE), SHAPE, 2)[1] == 16
    assert type(build_decoder(resolve_model(config(encoder=Encoder), SHAPE), SHAPE, 1, 2)).__name__ == "DenseDecoder"


def test_functions_and_lazy_networks_are_accepted() -> None:
    assert build_encoder(resolve_model(config(encoder=made), SHAPE), SHAPE, 2)[1] == 5
    first, again = (build_model(config(encoder=Lazy), SHAPE, 2, seed=4).state_dict() for _ in range(2))
    assert first["encoder.layer.weight"].shape == (6, 66)
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_building_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    build_model(config(encoder=Lazy, decoder=Tied), SHAPE, 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_class_becomes_its_import_path() -> None:
    assert config(encoder=Encoder).encoder == "test_custom_networks:Encoder"
    assert config(encoder="package.module:Outer.Inner").encoder == "package.module:Outer.Inner"
    assert CustomNetwork("encoder", "test_custom_networks:Encoder").imported() is Encoder


def _local() -> type:
    class Inner(nn.Module):
        pass

    return Inner


MAIN = type("Mine", (nn.Module,), {"__module__": "__main__"})


@pytest.mark.parametrize(
    ("given", "got", "hint"),
    [
        ("my_networks", "my_networks", "my_networks:Encoder"),
        ("my_networks:", "my_networks:", "my_networks:Encoder"),
        ("a-b:c", "a-b:c", "my_networks:Encoder"),
        ("../a:c", "../a:c", "my_networks:Encoder"),
        ("__main__:Mine", "Mine", r"script or notebook.*my_networks\.py"),
        (MAIN, "Mine", r"script or notebook.*my_networks\.py"),
        (_local(), "_local.<locals>.Inner", r"in a function.*my_networks\.py"),
        (lambda: None, "<lambda>", r"in a function.*my_networks\.py"),
        (nn.Identity(), "Identity", "my_networks:Encoder"),
        (functools.partial(Encoder, width=3), "partial", "my_networks:Encoder"),
        (3, "int", "my_networks:Encoder"),
        (renamed, "test_custom_networks:Original", "class at the top"),
    ],
)
def test_what_cannot_be_imported_again_is_refused(given: Any, got: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=f"encoder.*{re.escape(got)}.*{hint}"):
        import_path("encoder", given)
    with pytest.raises(ConfigError):
        ModelConfig(encoder=given)


IMAGES = "given images (2, 1, 8, 8) and labels (2, 2)"
LATENTS = "given latents (2, 3) and labels (2, 2)"


@pytest.mark.parametrize(
    ("name", "network", "parts"),
    [
        (
            "encoder",
            "no_such_module:Encoder",
            ("cannot import no_such_module (ModuleNotFoundError", "PYTHONPATH=FOLDER vaelab", "sys.path.insert"),
        ),
        ("encoder", "test_custom_networks:Encodr", ("no Encodr", "Did you mean 'Encoder'?")),
        ("encoder", "test_custom_networks:A_NUMBER", ("int", "expected a class")),
        ("encoder", NoModule, ("NoModule", "expected a torch.nn.Module")),
        ("encoder", NeedsMore, ("TypeError", "'heads'", "shape=(1, 8, 8), classes=2, width=16, depth=1")),
        ("encoder", Normed, ("buffer 1.running_mean", "running statistics", "nn.GroupNorm or nn.LayerNorm")),
        ("encoder", Spectral, ("buffer layer.parametrizations.weight.0._u", "averaged weights")),
        ("encoder", Frozen, ("layer.weight", "requires_grad=False", "register_buffer")),
        ("encoder", Fails, (IMAGES, "RuntimeError")),
        ("encoder", Pair, (IMAGES, "tuple", "expected a tensor")),
        ("encoder", Doubles, (IMAGES, "torch.float64", "expected torch.float32")),
        ("encoder", OneRow, ("images (2, 1, 8, 8)", "(64,)", "expected (2, features)")),
        ("decoder", Flat, ("latents (2, 3)", "(2, 64)", "expected (2, 1, 1, 8, 8)")),
        ("decoder", Fails, (LATENTS, "RuntimeError")),
    ],
)
def test_what_does_not_fit_is_refused_when_the_model_is_built(name: str, network: Any, parts: tuple[str, ...]) -> None:
    path = network if isinstance(network, str) else f"test_custom_networks:{network.__name__}"
    with pytest.raises(ConfigError) as caught:
        build_model(config(**{name: network}), SHAPE, classes=2)
    message = str(caught.value)
    assert message.startswith(f"`{name}='{path}'`: ")
    assert [part for part in parts if part not in message] == []


def test_the_bias_starts_at_the_data_where_the_last_layer_has_one_for_each_value() -> None:
    model = build_model(config(decoder=Decoder), SHAPE, 2)
    mean = torch.rand(SHAPE, generator=generator(2))
    model.initialise_from_data(Moments(mean, mean * (1 - mean)))
    assert isinstance(model.decoder, Decoder)
    torch.testing.assert_close(torch.sigmoid(model.decoder.output.bias), mean.flatten().clamp(1e-3, 1 - 1e-3))
    shared = build_model(config(decoder=Tied), SHAPE, 2)
    assert isinstance(shared.decoder, Tied)
    before = shared.decoder.output.bias.clone()
    shared.initialise_from_data(Moments(mean, mean * (1 - mean)))
    assert torch.equal(shared.decoder.output.bias, before)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.read = nn.GRU(8, 4, batch_first=True)

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return self.read(images[:, 0])[0][:, -1]


def test_a_recurrent_network_trains_without_compilation(tiny: Dataset) -> None:
    model = vaelab.VAE(encoder=Recurrent, epochs=1, compile="yes")
    remarks = [progress.remark for progress in model.fit_steps(tiny.train.images)]
    (remark,) = [remark for remark in remarks if remark is not None]
    assert re.search("not compiled.*recurrent", remark)
    assert model.n_steps_ > 0


def test_a_run_stores_the_path_and_the_weights(tiny: Dataset, tmp_path: Path) -> None:
    """Tied weights are written under both their names; what is loaded makes the same images."""
    assert tiny.train.labels is not None
    model = vaelab.ConditionalVAE(encoder=Encoder, decoder=Tied, latent_dim=3, width=16, epochs=4)
    model.fit(tiny.train.images, tiny.train.labels)
    model.save(tmp_path / "run")
    written = json.loads((tmp_path / "run" / "config.json").read_text())["model"]
    assert (written["encoder"], written["decoder"]) == ("test_custom_networks:Encoder", "test_custom_networks:Tied")
    loaded = vaelab.load(tmp_path / "run", trust_code=True)
    np.testing.assert_array_equal(loaded.sample([0, 1, 2], seed=3), model.sample([0, 1, 2], seed=3))
    assert isinstance(loaded.model.decoder, Tied)
    assert loaded.model.decoder.second is loaded.model.decoder.first


PAGE = (Path(__file__).parents[1] / "docs" / "own-networks.md").read_text(encoding="utf-8")


@pytest.fixture
def code_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Put the page's network file on the path; return the page's code that uses it, shortened to one epoch."""
    networks, use = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "my_networks.py").write_text(networks, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_networks", raising=False)
    return use.replace("epochs=20", "epochs=1")


def test_the_code_of_the_page_runs(code_of_the_page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exec(compile(code_of_the_page, "own-networks.md", "exec"), {})
    shell = re.findall(r"^PYTHONPATH=\. vaelab (.*)$", PAGE, re.MULTILINE)
    assert len(shell) == 2
    for line in shell:
        with pytest.raises(SystemExit) as ended:
            main(line.replace("--epochs 20", "--epochs 1").split())
        assert ended.value.code in (0, None)
    assert Path("samples.png").stat().st_size > 1000
    assert vaelab.load("runs/own-2", trust_code=True).kind == "cvae"

    # Without the module, the error says what to do.
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(Path.cwd())])
    monkeypatch.delitem(sys.modules, "my_networks")
    with pytest.raises(ConfigError, match=r"cannot import my_networks .*PYTHONPATH=FOLDER vaelab"):
        vaelab.load("runs/own", trust_code=True)


def test_the_page_quotes_the_error_exactly() -> None:
    quoted = re.findall(r"```text\n(.*?)\n```", PAGE, re.DOTALL)[0]
    config = resolve_model(ModelConfig("vae", "mlp", 7, "bernoulli", 16, 1, decoder=EightByEight), SHAPE)
    with pytest.raises(ConfigError) as caught:
        build_decoder(config, SHAPE, 1, 0)
    as_option = re.sub(r"`(\w+)='(.*?)'`", r"--\1 \2", str(caught.value))
    assert as_option.replace("test_custom_networks:EightByEight", "my_networks:Decoder") == quoted


class EightByEight(_Returns):
    output = staticmethod(lambda values, labels: torch.zeros(len(values), 8, 8))
