"""The examples run with small budgets and do what they claim."""

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

import vaelab
from vaelab.data import load_dataset

FOLDER = Path(__file__).parents[1] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Return a function that imports an example as `python examples/NAME.py` does."""
    monkeypatch.syspath_prepend(str(FOLDER))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(FOLDER) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


def test_table(example: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]) -> None:
    accuracy = example("table").main(["--epochs", "6", "--repeats", "1"])
    assert list(accuracy) == ["all 30 columns", "PCA, 3 numbers", "VAE, 3 numbers"]
    assert accuracy["all 30 columns"] > accuracy["PCA, 3 numbers"] > 0.9
    assert accuracy["VAE, 3 numbers"] > 0.8  # 0.63 are benign
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_sequence(example: Callable[[str], ModuleType], tmp_path: Path) -> None:
    module, out = example("sequence"), tmp_path / "sequences.png"
    short = module.main(["--epochs", "1", "--count", "400", "--out", str(out)])
    longer = module.main(["--epochs", "6", "--count", "400", "--out", str(out)])
    assert longer < short  # it learns
    assert np.asarray(Image.open(out)).std() > 10


def test_the_waves_are_what_they_are_called(example: Callable[[str], ModuleType]) -> None:
    waves, names = example("sequence").draw(300, seed=0)
    rises = (np.diff(waves, axis=1) > 0).mean(axis=1)  # a sawtooth rises nearly always
    assert rises[names == "sawtooth"].mean() > 0.85
    assert 0.4 < rises[names == "sine"].mean() < 0.6


def test_faces(example: Callable[[str], ModuleType], tmp_path: Path) -> None:
    nats = example("faces").main(["--count", "64", "--seconds", "1.5", "--out", str(tmp_path)])
    assert np.isfinite(nats)
    for name in ("grid.png", "reconstructions.png", "restyled.png"):
        assert np.asarray(Image.open(tmp_path / name)).std() > 10
    data = load_dataset(tmp_path / "data")
    assert (data.shape, data.classes) == ((3, 64, 64), ("both", "glasses", "plain", "smile"))
    again = example("faces").main(
        ["--source", str(tmp_path / "data"), "--seconds", "1", "--out", str(tmp_path / "again")]
    )
    assert np.isfinite(again)


def test_the_recurrent_networks_serve_a_model_without_labels(example: Callable[[str], ModuleType]) -> None:
    recurrent = example("recurrent")
    rows = np.random.default_rng(0).normal(size=(40, 9)).cumsum(axis=1)
    model = vaelab.VAE(encoder=recurrent.Encoder, decoder=recurrent.Decoder, width=8, latent_dim=2, epochs=1)
    assert model.fit(rows).sample(count=3).shape == (3, 9)
