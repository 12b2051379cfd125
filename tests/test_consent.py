"""A run with custom networks is loaded, and so its modules are imported, only with consent."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vaelab
from vaelab import runs
from vaelab.cli import app, main
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data import Dataset
from vaelab.errors import ConfigError, RunError
from vaelab.estimators.estimator import ConditionalVAE
from vaelab.inference.onnx import export_onnx
from vaelab.studio.bundle import open_bundle
from vaelab.studio.single import export_page
from vaelab.training.fit import fit

MODULE = """
from pathlib import Path
import torch
from torch import nn

Path("imported").touch()

class Encoder(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.layer = nn.Linear(64 + classes, 4)

    def forward(self, images, labels):
        return self.layer(torch.cat([images.flatten(1), labels], dim=1))
"""

CONFIG = Config(
    ModelConfig("cvae", "mlp", latent_dim=2, likelihood="bernoulli", width=8, depth=1, encoder="strange:Encoder"),
    TrainConfig(epochs=1, batch_size=32, device="cpu", compile="no", precision="float32"),
)


@pytest.fixture
def strange(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a custom encoder of the module `strange`, which leaves a file when it is imported; and tiny.npz."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("strange.py").write_text(MODULE)
    monkeypatch.delitem(sys.modules, "strange", raising=False)
    assert tiny.train.labels is not None
    np.savez("tiny.npz", images=tiny.train.images, labels=np.array(tiny.classes)[tiny.train.labels])
    for _ in fit(CONFIG, vaelab.load_dataset("tiny.npz"), out="run"):
        pass
    monkeypatch.delitem(sys.modules, "strange")
    Path("imported").unlink()
    return Path("run")


ENTRANCES: dict[str, Callable[[Path], Any]] = {
    "load": vaelab.load,
    "the model of a run": lambda run: runs.load_model(runs.open_run(run)),
    "estimator": ConditionalVAE.load,
    "ONNX": lambda run: export_onnx(run, "model.onnx"),
    "bundle": open_bundle,
    "bundle of a training": lambda run: open_bundle(run, training=True),
    "page": lambda run: export_page(run, "page.html"),
    "resume": lambda run: next(
        fit(Config(train=TrainConfig(epochs=2)), vaelab.load_dataset("tiny.npz"), out=run, resume=True)
    ),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_without_consent_nothing_is_imported(strange: Path, stand_in: Path, entrance: str) -> None:
    assert stand_in.is_dir()
    with pytest.raises(RunError, match=r"run: .*imports strange:Encoder.*`trust_code=True`$"):
        ENTRANCES[entrance](strange)
    assert not Path("imported").exists()


def test_with_consent_it_is_loaded(strange: Path) -> None:
    assert vaelab.load(strange, trust_code=True).kind == "cvae"
    assert Path("imported").exists()
    assert ConditionalVAE.load(strange, trust_code=True).encoder == "strange:Encoder"
    asked = Config(train=TrainConfig(epochs=2, compile="no"))
    data = vaelab.load_dataset("tiny.npz")
    *_, last = fit(asked, data, out=strange, resume=True, trust_code=True)
    assert last.finished


def test_classes_that_are_passed_are_consent_and_replace_those_of_the_run(strange: Path, tmp_path: Path) -> None:
    moved = "strange_moved"
    (tmp_path / f"{moved}.py").write_text(MODULE)
    by_path = vaelab.load(strange, encoder=f"{moved}:Encoder")
    assert type(by_path.model.encoder).__module__ == moved
    assert "strange" not in sys.modules
    found = vaelab.load(strange, encoder=sys.modules[moved].Encoder)
    np.testing.assert_array_equal(found.sample(["down"], seed=1), by_path.sample(["down"], seed=1))
    with pytest.raises(ConfigError, match=r"`decoder`: got strange:Encoder, but .*built in; leave it out"):
        vaelab.load(strange, decoder="strange:Encoder")
    sys.modules.pop(moved)


def test_the_same_path_given_again_is_consent_to_resume(strange: Path) -> None:
    asked = Config(ModelConfig(encoder="strange:Encoder"), TrainConfig(epochs=2, compile="no"))
    *_, last = fit(asked, vaelab.load_dataset("tiny.npz"), out=strange, resume=True)
    assert last.finished
    asked = Config(ModelConfig(encoder="another:Encoder"), TrainConfig(epochs=3))
    with pytest.raises(RunError, match="strange:Encoder"):
        next(fit(asked, vaelab.load_dataset("tiny.npz"), out=strange, resume=True))


def lines(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, list[str]]:
    """The status of a command, and its lines on standard error."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main(words)
    code = end.value.code
    return code if isinstance(code, int) else 0, capsys.readouterr().err.strip().splitlines()


COMMANDS = {
    "sample": ["run", "--out", "x.png"],
    "reconstruct": ["run", "tiny.npz", "--out", "x.png"],
    "encode": ["run", "tiny.npz", "--out", "x.npz"],
    "score": ["run", "tiny.npz", "--out", "x.csv"],
    "augment": ["run", "tiny.npz", "--out", "x"],
    "evaluate": ["run", "tiny.npz"],
    "diagnose": ["run", "tiny.npz"],
    "detect": ["run", "tiny.npz"],
    "traverse": ["run", "--out", "x.png"],
    "interpolate": ["run", "tiny.npz:0", "tiny.npz:1", "--out", "x.png"],
    "manifold": ["run", "--out", "x.png"],
    "restyle": ["run", "tiny.npz:0", "--out", "x.png"],
    "posterior": ["run", "tiny.npz", "--out", "x.png"],
    "studio": ["run"],
    "export": ["run", "--out", "x.onnx"],
    "train": ["tiny.npz", "--out", "run", "--resume", "--epochs", "2"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_loads_a_run_asks_for_consent(
    strange: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    status, said = lines(capsys, command, *COMMANDS[command])
    assert status == 2
    assert len(said) == 1, said
    assert re.search(r"^vaelab: run: .*strange:Encoder.*--trust-code$", said[0])
    assert not Path("imported").exists()


def test_no_command_that_takes_a_run_is_forgotten() -> None:
    names = {name for name in app if not name.startswith("-")}
    takes = {
        name
        for name in names
        for argument in app[name].assemble_argument_collection()
        if "--trust-code" in argument.names
    }
    assert takes == {*COMMANDS, "serve"}


def test_serving_exports_a_run_only_with_consent(strange: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = lines(capsys, "serve", "run")
    assert status == 2
    assert re.search(r"^vaelab: run: .*strange:Encoder.*--trust-code$", said[-1])
    assert not Path("imported").exists()


def test_the_option_is_consent(strange: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, "sample", "run", "--trust-code", "--out", "x.png")[0] == 0
    assert Path("x.png").exists()
    status, said = lines(
        capsys, *["train", "tiny.npz", "--out", "run", "--resume", "--epochs", "2", "--compile", "no", "--trust-code"]
    )
    assert status == 0
    assert said[-1] == "next: vaelab sample run --trust-code --out samples.png"
    assert json.loads(Path("run/config.json").read_text())["model"]["encoder"] == "strange:Encoder"
