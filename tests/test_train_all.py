"""`vaelab train --model all`: the runs of all kinds of models, their shares of the time, and resuming."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaelab import runs
from vaelab.cli import main, train_all
from vaelab.config import Budget, Config, ModelConfig
from vaelab.data import Dataset
from vaelab.errors import ConfigError
from vaelab.studio.bundle import commands
from vaelab.training.resolve import resolve

FAST = ("--width", "8", "--depth", "1", "--batch-size", "32", "--compile", "no")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Dataset) -> Path:
    monkeypatch.chdir(tmp_path)
    np.savez("tiny.npz", images=tiny.train.images, labels=np.array(tiny.classes)[tiny.train.labels])
    np.savez("bare.npz", images=tiny.train.images)
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> list[str]:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == status
    return capsys.readouterr().err.splitlines()


def trained(folder: str) -> tuple[str | None, int | None, int]:
    """Kind, latent dimensions and last step of a run."""
    run = runs.open_run(Path(folder))
    return run.config.model.model, run.config.model.latent_dim, runs.read_metrics(run)[-1]["step"]


@pytest.mark.usefixtures("here")
def test_the_run_is_the_conditional_one_and_the_others_are_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, "train", "tiny.npz", "--model", "all", "--epochs", "2", "--out", "runs/x", *FAST)
    assert "cvae, vae, ae, one after the other" in lines
    assert lines[-1] in (
        "next: vaelab studio runs/x",
        "next: vaelab sample runs/x --out samples.png",
    )  # with and without the page
    found = {folder: trained(folder)[:2] for folder in ("runs/x", "runs/x/vae", "runs/x/ae")}
    assert found == {"runs/x": ("cvae", 7), "runs/x/vae": ("vae", 7), "runs/x/ae": ("ae", 7)}


@pytest.mark.usefixtures("here")
def test_without_labels_there_is_no_conditional_one(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, "train", "bare.npz", "--model", "all", "--epochs", "1", "--out", "x", *FAST)
    assert any(line.startswith("vae, ae, one after the other; no cvae: ") for line in lines)
    assert [trained(folder)[0] for folder in ("x", "x/ae")] == ["vae", "ae"]


@pytest.mark.usefixtures("here")
def test_the_seconds_are_shared(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shares: list[float | None] = []
    monkeypatch.setattr(train_all, "train_one", lambda config, *_, **__: shares.append(config.train.seconds))
    told(capsys, "train", "tiny.npz", "--model", "all", "--seconds", "300", *FAST)
    assert shares == [150, 75, 75]
    told(capsys, "train", "bare.npz", "--model", "all", "--out", "y", *FAST)
    assert shares[3:] == [45, 45]


@pytest.mark.usefixtures("here")
def test_what_was_trained_for_that_long_is_left_out_on_resuming(capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, "train", "tiny.npz", "--model", "cvae", "--epochs", "3", "--out", "x", *FAST)
    lines = told(capsys, "train", "tiny.npz", "--model", "all", "--out", "x", "--resume", "--epochs", "2")
    assert "x: was trained already" in lines
    assert [trained(place)[0] for place in ("x", "x/vae", "x/ae")] == ["cvae", "vae", "ae"]
    assert any(re.fullmatch(r"\d+\.\d s in all\b.*", line) for line in lines)


@pytest.mark.usefixtures("here")
def test_going_on_trains_what_is_missing_as_the_run_was(capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, "train", "tiny.npz", "--model", "cvae", "--epochs", "2", "--beta", "2", "--out", "x", *FAST)
    told(capsys, "train", "tiny.npz", "--model", "all", "--out", "x", "--resume")
    for place, kind, size in (("x", "cvae", 7), ("x/vae", "vae", 7), ("x/ae", "ae", 7)):
        config = runs.open_run(Path(place)).config
        assert (config.model.model, config.model.latent_dim, config.model.width) == (kind, size, 8)
        assert (config.train.budget, config.train.beta) == (Budget(2, "epochs"), 2)
    before = [trained(place)[2] for place in ("x", "x/vae", "x/ae")]
    told(capsys, "train", "tiny.npz", "--model", "all", "--out", "x", "--resume", "--epochs", "3")
    assert all(trained(place)[2] > step for place, step in zip(("x", "x/vae", "x/ae"), before, strict=True))


@pytest.mark.usefixtures("here")
def test_what_cannot_be_is_refused_before_the_first_begins(capsys: pytest.CaptureFixture[str], tiny: Dataset) -> None:
    words = ("train", "tiny.npz", "--model", "all", "--out", "x", "--epochs", "1")
    (*_, line) = told(capsys, *words, "--likelihood", "gaussian", status=2)
    assert re.match("vaelab: --likelihood.*gaussian.*images", line), line
    (*_, line) = told(capsys, *words, "--iwae-samples", "4", status=2)
    assert line.startswith("vaelab: --iwae-samples")
    assert not Path("x").exists()
    told(capsys, *words, *FAST)
    (line,) = told(capsys, *words, status=2)
    assert re.match("vaelab: x already holds a run; .*--out.*--resume", line), line
    with pytest.raises(ConfigError, match=r"model.*\ball\b.*one training; expected ae, vae or cvae"):
        resolve(Config(ModelConfig(model="all")), tiny)


@pytest.mark.usefixtures("here")
def test_the_autoencoder_beside_pca_has_another_network(capsys: pytest.CaptureFixture[str], tiny: Dataset) -> None:
    images = np.repeat(tiny.train.images, 3, axis=1).transpose(0, 2, 3, 1)
    np.savez("colour.npz", images=images, labels=np.array(tiny.classes)[tiny.train.labels])
    options = ("train", "colour.npz", "--model", "all", "--network", "pca", "--latent-dim", "6", "--out", "x", *FAST)
    told(capsys, *options, "--epochs", "1")
    shutil.rmtree("x/ae")
    told(capsys, "train", "colour.npz", "--model", "all", "--out", "x", "--resume", "--epochs", "2")
    found = [runs.open_run(Path(folder)).config.model.network for folder in ("x", "x/vae", "x/ae")]
    assert found == ["pca", "pca", "conv"]


def test_a_ladder_has_no_autoencoder_beside_it(tiny: Dataset) -> None:
    kinds = train_all._kinds(Config(ModelConfig(model="all", network="ladder")), tiny)
    assert kinds == ["cvae", "vae"]
    assert train_all._left_out(kinds).startswith("; no ae: ")


def test_all_is_nothing_that_a_run_remembers(studio_run: Path) -> None:
    for path in studio_run.rglob(runs.CONFIG):
        assert json.loads(path.read_text())["model"]["model"] in ("ae", "vae", "cvae")


@pytest.mark.usefixtures("here")
def test_the_pages_command_adds_the_missing_models(capsys: pytest.CaptureFixture[str], tiny: Dataset) -> None:
    """Without the options of the first training: the data are chosen as they were for the run."""
    for index, image in enumerate(tiny.train.images[:, 0]):
        place = Path("mine") / f"class {index % 3}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.kron(image, np.ones((2, 2), np.uint8))).save(place / f"{index}.png")
    options = ("--size", "8", "--fit", "pad", "--limit", "60", "--classes", "class 0,class 2")
    told(capsys, "train", "mine", "--epochs", "1", "--out", "x", *options, *FAST)
    for source in ("mine", None, str(Path("mine").resolve())):
        words = shlex.split(commands(runs.open_run(Path("x")), source)["train"])
        told(capsys, *words[1:])
        assert [trained(place)[0] for place in ("x", "x/vae", "x/ae")] == ["cvae", "vae", "ae"]
        shutil.rmtree("x/vae")
