"""The last line of a training: figures beside those of a model without latents and of uniform noise."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from building import held_out_input, trainer_of

from vaelab import runs
from vaelab.cli import main
from vaelab.cli.baselines import validation_line
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data import Dataset, Split
from vaelab.evaluation.no_latents import nats_without_latents
from vaelab.runs import Averages
from vaelab.training.resolve import resolve


def initial(config: Config, dataset: Dataset) -> tuple[float, float]:
    """Distortion of the validation images before the first step, and the figure of the model without latents."""
    trainer = trainer_of(config, dataset)
    averages = trainer.validate(0.0)
    assert averages is not None
    return averages.distortion, nats_without_latents(trainer.averaged, dataset.train, dataset.validation.images)


def test_a_dense_model_starts_as_the_model_without_latents(tiny: Dataset, tiny_config: Config) -> None:
    for likelihood in ("bernoulli", "continuous-bernoulli", "logistic"):
        for kind in ("ae", "vae", "cvae"):
            model = replace(tiny_config.model, model=kind, likelihood=likelihood)
            found, expected = initial(replace(tiny_config, model=model), tiny)
            assert found == pytest.approx(expected, rel=1e-5)
    x, p = held_out_input(tiny.validation.images, "bernoulli"), held_out_input(tiny.train.images, "logistic").mean(0)
    p = p.clamp(1e-3, 1 - 1e-3)
    entropy = -(x * p.log() + (1 - x) * (1 - p).log()).sum((1, 2, 3)).mean().item()
    assert initial(tiny_config, tiny)[1] == pytest.approx(entropy, rel=1e-5)


def test_a_ladder_and_a_table_start_there_too(tiny: Dataset) -> None:
    train = TrainConfig(epochs=1, device="cpu", compile="no", precision="float32")
    found, expected = initial(Config(ModelConfig(network="ladder", width=8), train), tiny)
    assert found == pytest.approx(expected, rel=1e-5)
    rng = np.random.default_rng(0)
    rows = [Split((1e-4 * rng.normal(size=(n, 3)) + 5).astype(np.float32)) for n in (200, 40, 40)]
    found, expected = initial(Config(ModelConfig(width=8), train), Dataset("table", rows[0], rows[1], rows[2]))
    assert found == pytest.approx(expected, rel=1e-4)
    assert expected < 3 * math.log(1e-3)  # a density in the units of the table


@pytest.mark.parametrize(("likelihood", "bits"), [("bernoulli", 1.0), ("logistic", 8.0), ("continuous-bernoulli", 0.0)])
def test_uniform_noise_has_a_bit_per_pixel_or_eight(
    tiny: Dataset, tiny_config: Config, likelihood: str, bits: float
) -> None:
    config = replace(tiny_config, model=replace(tiny_config.model, likelihood=likelihood))
    model, resolved = trainer_of(config, tiny).averaged, resolve(config, tiny)
    nats = bits * 64 * math.log(2)
    line = validation_line(Averages(nats - 5, 3.0), model, resolved, tiny)
    assert line.startswith("validation: −ELBO ")
    assert f"{(nats - 2) / 64 / math.log(2):.3f} bits per dimension" in line
    assert line.endswith(f"uniform noise {nats:.2f} ({bits:.3f})")


def test_a_training_ends_with_the_line(tiny: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "tiny.npz", images=tiny.train.images)
    with pytest.raises(SystemExit) as end:
        main(["train", str(tmp_path / "tiny.npz"), "--epochs", "2", "--width", "8", "--out", str(tmp_path / "run")])
    assert end.value.code == 0
    *_, line, total, following = [
        text for text in capsys.readouterr().err.splitlines() if not text.startswith(("warning", "note", "diagnosis"))
    ]
    facts = runs.weight_facts(runs.open_run(tmp_path / "run"))
    assert f"−ELBO {facts['distortion'] + facts['rate']:.2f} nats" in line
    assert "a model without latents" in line
    assert re.match(r"\d+\.\d s in all", total)
    assert following.startswith("next: ")


def test_a_table_has_no_noise_to_compare_with() -> None:
    rows = Split(np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32))
    dataset, config = Dataset("table", rows, rows, rows), Config(ModelConfig(width=8), TrainConfig(epochs=1))
    line = validation_line(Averages(1.0, 0.5), trainer_of(config, dataset).averaged, resolve(config, dataset), dataset)
    assert "a model without latents" in line
    assert "noise" not in line
    assert "bits" not in line
