"""A preset fills what was left open, gives way to what was said, and says what it costs."""

from contextlib import suppress
from pathlib import Path
from typing import get_args

import pytest
from building import resolve_model

from vaelab.config import Config, LikelihoodName, ModelConfig, TrainConfig
from vaelab.data import Dataset
from vaelab.errors import ConfigError
from vaelab.presets import PRESETS, PresetName, with_preset
from vaelab.training.fit import fit
from vaelab.training.resolve import resolve


@pytest.mark.parametrize("name", get_args(PresetName))
def test_a_preset_is_a_whole_configuration(name: PresetName) -> None:
    config = with_preset(name)
    assert config.train.seconds == PRESETS[name].train["seconds"]
    assert config.model.network == "ladder"
    complete = resolve_model(
        ModelConfig(**{**vars(config.model), "model": "vae", "likelihood": "bernoulli"}), (1, 28, 28)
    )
    assert complete.latent_dim is not None
    seconds = PRESETS[name].train["seconds"]
    assert (f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min") in PRESETS[name].summary


@pytest.mark.parametrize(("likelihood", "network"), [("colour-logistic", "pca"), ("two-colour", "two-colour")])
def test_colour_images_have_their_own_networks(likelihood: LikelihoodName, network: str) -> None:
    config = with_preset("standard", likelihood=likelihood)
    assert (config.model.network, config.train.seconds, config.train.ema) == (network, 600.0, 0.999)
    assert (config.model.latent_dim is None) == (network == "two-colour")


def test_what_is_said_goes_before_the_preset() -> None:
    said = Config(ModelConfig(width=32), TrainConfig(learning_rate=1e-4, seconds=7.0))
    config = with_preset("standard", said)
    assert (config.model.width, config.train.learning_rate, config.train.seconds) == (32, 1e-4, 7.0)
    assert config.model.levels == PRESETS["standard"].model["levels"]


def test_epochs_stand_in_place_of_the_presets_seconds() -> None:
    config = with_preset("quick", Config(train=TrainConfig(epochs=3)))
    assert (config.train.epochs, config.train.seconds) == (3, None)


def test_what_is_no_preset_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"`preset`: got 'fast'; expected one of quick, standard, best"):
        with_preset("fast")
    with pytest.raises(ConfigError, match=r"`network`: got conv with `preset=quick`, which is a ladder"):
        with_preset("quick", Config(ModelConfig(network="conv")))


def test_a_preset_is_for_images() -> None:
    config = with_preset("quick").model
    table = ModelConfig(**{**vars(config), "model": "vae", "likelihood": "gaussian"})
    assert resolve_model(table, (9,)).patch == 0  # a table's ladder has one position


def test_an_explicit_value_equal_to_a_default_goes_before_the_preset(tiny: Dataset) -> None:
    """`best` has a weight decay of 1e-2; 1e-4 is the default of a training without a preset."""
    asked = with_preset("best", Config(train=TrainConfig(weight_decay=1e-4, ema=0.998)))
    assert (asked.train.weight_decay, asked.train.ema) == (1e-4, 0.998)
    assert resolve(asked, tiny).train.weight_decay == 1e-4
    assert with_preset("best").train.weight_decay == 1e-2


def test_the_command_line_keeps_an_explicit_default_too(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from vaelab.cli import main, train

    asked: list[Config] = []
    monkeypatch.setattr(train, "load_source", lambda *_: tiny)
    monkeypatch.setattr(train, "train_one", lambda config, *_, **__: asked.append(config))
    words = ["--preset", "best", "--weight-decay", "1e-4", "--network", "ladder", "--out", str(tmp_path / "run")]
    with suppress(SystemExit):
        main(["train", "digits", *words])
    assert asked[0].train.weight_decay == 1e-4
    assert asked[0].train.learning_rate == PRESETS["best"].train["learning_rate"]


def test_an_explicit_default_is_not_ignored_on_resuming(tiny: Dataset, tmp_path: Path) -> None:
    for _ in fit(Config(train=TrainConfig(epochs=1, beta=0.5)), tiny, out=tmp_path / "run"):
        pass
    with pytest.raises(ConfigError, match=r"`beta`: got 1\.0, but the run was trained with 0\.5"):
        next(fit(Config(train=TrainConfig(epochs=2, beta=1.0)), tiny, out=tmp_path / "run", resume=True))
    *_, last = fit(Config(train=TrainConfig(epochs=2, beta=0.5)), tiny, out=tmp_path / "run", resume=True)
    assert last.epoch >= 2
