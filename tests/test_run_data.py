"""Commands that take a run and a source use the size, the fit and the classes of the run."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vaelab
from vaelab import runs
from vaelab.cli import main
from vaelab.cli.app import SourceOptions, load_data_of_run, load_for_run
from vaelab.cli.images import Reader
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.run_folder import CONFIG, recorded_data
from vaelab.training.fit import fit

TRAIN = TrainConfig(epochs=1, device="cpu", compile="no")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey images of mixed sizes, wider than high, in three classes."""
    folder, rng = tmp_path_factory.mktemp("data") / "shapes", np.random.default_rng(0)
    for level, name in enumerate(("a", "b", "c")):
        (folder / name).mkdir(parents=True)
        for index in range(20):
            pixels = rng.integers(0, 60, (10 + index % 3, 16 + index % 4)) + 90 * level
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def run(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional model of two of the classes, padded to 8×12, of 15 training images."""
    out = tmp_path_factory.mktemp("runs") / "run"
    dataset = vaelab.load_dataset(shapes, size=(8, 12), fit="pad", classes="c,a", limit=15)
    for _ in fit(Config(ModelConfig(width=8, latent_dim=2, network="mlp"), TRAIN), dataset, out=out):
        pass
    return out


def call(*words: object) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    assert end.value.code == 0


def test_the_run_records_the_fit(run: Path) -> None:
    assert runs.open_run(run).data.fit == recorded_data(run)["fit"] == "pad"
    assert vaelab.load_dataset("digits").fit == "crop"


def test_a_run_without_it_is_read(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "old")
    values = json.loads((run / CONFIG).read_text())
    del values["data"]["fit"]
    (tmp_path / "old" / CONFIG).write_text(json.dumps(values))
    assert runs.open_run(tmp_path / "old").data.fit == "crop"


def test_the_data_of_a_run_are_found_with_all_options_of_its_training(run: Path, shapes: Path) -> None:
    dataset = load_data_of_run(run, str(shapes), None)
    assert dataset.fingerprint == runs.open_run(run).data.fingerprint
    assert dataset.classes == ("c", "a")
    other = load_data_of_run(run, str(shapes), SourceOptions(fit="crop"))
    assert other.fingerprint != dataset.fingerprint


def test_options_override_what_the_run_records(run: Path, shapes: Path) -> None:
    dataset = load_for_run(run, str(shapes), None)
    assert (dataset.shape, dataset.classes) == ((1, 8, 12), ("c", "a"))
    assert len(dataset.train) > 15  # a limit is for training
    dataset = load_for_run(run, str(shapes), SourceOptions(size="8", classes="b"))
    assert (dataset.shape, dataset.classes) == ((1, 8, 8), ("b",))
    assert load_for_run(run, str(shapes), None, any_class=True).classes == ("a", "b", "c")


def test_another_source_keeps_what_it_has_of_the_classes(run: Path, shapes: Path, tmp_path: Path) -> None:
    arrays = {"images": np.zeros((40, 9, 9), dtype=np.uint8), "labels": np.array(["a", "b"] * 20)}
    np.savez(tmp_path / "some.npz", images=arrays["images"], labels=arrays["labels"])
    dataset = load_for_run(run, str(tmp_path / "some.npz"), None)
    assert (dataset.shape, dataset.classes) == ((1, 8, 12), ("a",))
    np.savez(tmp_path / "none.npz", images=arrays["images"], labels=np.array(["x", "y"] * 20))
    assert load_for_run(run, str(tmp_path / "none.npz"), None).classes == ("x", "y")


@pytest.mark.parametrize(
    ("command", "out"),
    [
        ("reconstruct", "x.png"),
        ("encode", "x.npz"),
        ("posterior", "x.png"),
        ("traverse", "x.png"),
        ("manifold", "x.png"),
        ("restyle", "x.png"),
    ],
)
def test_commands_need_no_options_of_the_data(run: Path, shapes: Path, tmp_path: Path, command: str, out: str) -> None:
    call(command, run, shapes, "--out", tmp_path / out)
    assert (tmp_path / out).is_file()


def test_an_image_of_another_size_is_brought_to_that_of_the_model(
    run: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call("restyle", run, shapes / "a" / "0.png", "--label", "a", "--out", tmp_path / "x.png")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "0.png" in line]
    assert line.endswith("0.png: scaled from 10×16 to 8×12 pixels, the size of the model's images, padded")
    read = Reader(run, vaelab.load(run), None, prepare=False)
    assert read.one(str(shapes / "a" / "0.png")).image.shape == (8, 12)
    assert read.one(f"{shapes}:train:3").image.shape == (8, 12)
