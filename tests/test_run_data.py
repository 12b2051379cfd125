"""Commands that take a run and a source use the size, the fit and the classes of the run."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vaelab
from vaelab import runs
from vaelab.cli import main
from vaelab.cli.app import SourceOptions, load_data_of_run, load_for_run
from vaelab.cli.images import Reader
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.errors import DataError, RunError
from vaelab.run_folder import CONFIG, recorded_data
from vaelab.studio.bundle import commands
from vaelab.studio.held_out import data_of, held_out
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
    assert vaelab.load_dataset("digits").loading.fit == "crop"


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


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16-bit images of 12 bits, of which one cannot be read, in two classes."""
    folder, rng = tmp_path_factory.mktemp("data") / "scans", np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for index in range(20):
            Image.fromarray(rng.integers(0, 4096, (8, 8), dtype=np.uint16)).save(folder / name / f"{index}.png")
    (folder / "a" / "broken.png").write_bytes((folder / "a" / "3.png").read_bytes()[:60])
    return folder


LOADING: dict[str, Any] = {"skip_broken": True, "white": 4095, "seed": 3}


@pytest.fixture(scope="module")
def scanned(scans: Path) -> Path:
    """A run of them, beside them."""
    out = scans.parent / "run"
    dataset = vaelab.load_dataset(scans, **LOADING)
    for _ in fit(Config(ModelConfig(width=8, latent_dim=2, network="mlp"), TRAIN), dataset, out=out):
        pass
    return out


def test_the_run_records_how_its_data_were_loaded(scanned: Path, scans: Path) -> None:
    data = runs.open_run(scanned).data
    assert {name: getattr(data, name) for name in LOADING} == LOADING
    assert vaelab.load_data_of_run(scanned, scans).fingerprint == data.fingerprint
    assert vaelab.load_data_of_run(scanned, scans, {"seed": 4}).fingerprint != data.fingerprint


def test_removing_the_broken_files_keeps_the_data(scanned: Path, scans: Path, tmp_path: Path) -> None:
    shutil.copytree(scans, tmp_path / "scans")
    (tmp_path / "scans" / "a" / "broken.png").unlink()
    fingerprint = runs.open_run(scanned).data.fingerprint
    assert vaelab.load_data_of_run(scanned, tmp_path / "scans").fingerprint == fingerprint
    assert vaelab.load_dataset(tmp_path / "scans", white=4095, seed=3).fingerprint == fingerprint


@pytest.mark.parametrize(
    "words",
    [
        ("reconstruct", "--out", "x.png"),
        ("encode", "--out", "x.csv"),
        ("restyle", "--out", "x.png"),
        ("posterior", "--out", "x.png"),
        ("evaluate", "--quick", "--out", "report"),
    ],
)
def test_commands_use_what_the_run_records(
    words: tuple[str, ...], scanned: Path, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if words[0] == "evaluate":
        monkeypatch.setattr("vaelab.evaluation.report.evaluate", _stop)
        with pytest.raises(_StoppedError) as stopped:
            main([words[0], str(scanned), str(scans), *words[1:-1], str(tmp_path / words[-1])])
        assert stopped.value.args == (runs.open_run(scanned).data.fingerprint,)
        return
    call(words[0], scanned, scans, *words[1:-1], tmp_path / words[-1])
    assert (tmp_path / words[-1]).is_file()


class _StoppedError(Exception):
    pass


def _stop(_: object, dataset: vaelab.Dataset, **__: object) -> None:
    raise _StoppedError(dataset.fingerprint)


def test_the_studio_finds_the_images_of_the_run(scanned: Path, scans: Path) -> None:
    for options in (None, {"follow_links": True}):
        dataset, note = data_of(runs.open_run(scanned), str(scans), options, lambda *_: None)
        assert note is None
        assert dataset is not None
        assert held_out(dataset, 100).images.max() > 250  # of 12 bits, at most 16
    with pytest.raises(DataError, match=r"fingerprint .*options of the training"):
        data_of(runs.open_run(scanned), str(scans), {"white": 65535}, lambda *_: None)


def test_training_goes_on_with_the_data_of_the_run(scanned: Path, scans: Path, tmp_path: Path) -> None:
    shutil.copytree(scanned, tmp_path / "run")
    call("train", scans, "--resume", "--epochs", "20", "--out", tmp_path / "run")
    *_, last = (tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()
    assert json.loads(last)["epoch"] == 20


def test_other_data_are_named(scanned: Path, scans: Path, shapes: Path) -> None:
    asked = Config(train=TrainConfig(epochs=2))
    for other, difference in (
        (vaelab.load_dataset(shapes, size=8), r"classes \('a', 'b', 'c'\), not \('a', 'b'\)"),
        (vaelab.load_dataset(scans, **{**LOADING, "limit": 9}), "number of training images 9, not"),
        (vaelab.load_dataset(scans, **{**LOADING, "white": 65535}), "other pixels"),
    ):
        with pytest.raises(RunError, match=rf"^{scanned}: the data .* differ .*{difference}.*options of the training"):
            next(fit(asked, other, out=scanned, resume=True))


def test_a_file_has_the_white_of_the_run(scanned: Path, scans: Path) -> None:
    read = Reader(scanned, vaelab.load(scanned), None, prepare=False)
    path = scans / "a" / "0.png"
    expected = np.rint(np.asarray(Image.open(path)) / 4095 * 255)
    assert np.array_equal(read.one(str(path)).image, expected)
    given = Reader(scanned, vaelab.load(scanned), SourceOptions(white=65535), prepare=False)
    assert given.one(str(path)).image.max() < 17


def test_the_white_of_the_run_is_not_that_of_other_data(scanned: Path, tmp_path: Path) -> None:
    assert load_for_run(scanned, "digits", None).loading.white is None
    Image.fromarray(np.full((8, 8), 60000, dtype=np.uint16)).save(tmp_path / "bright.png")
    with pytest.raises(DataError, match=r"60000; expected 0…4095.*trained with `white=4095`"):
        load_for_run(scanned, str(tmp_path), None)
    assert load_for_run(scanned, str(tmp_path), SourceOptions(white=65535)).shape == (1, 8, 8)


def test_a_run_of_vaelab_0_1_is_recognised(scans: Path, tmp_path: Path) -> None:
    """It split before it skipped broken files, and recorded neither that nor the fit."""
    options: dict[str, Any] = {"white": 4095, "size": (8, 6), "fit": "pad", "limit": 12, "classes": "b,a"}
    dataset = vaelab.load_dataset(scans, skip_broken="0.1", **options)
    assert dataset.fingerprint != vaelab.load_dataset(scans, skip_broken=True, **options).fingerprint
    for _ in fit(Config(ModelConfig(width=8, latent_dim=2, network="mlp"), TRAIN), dataset, out=tmp_path / "run"):
        pass
    path = tmp_path / "run" / CONFIG
    values = json.loads(path.read_text())
    for name in ("fit", "skip_broken", "white", "seed"):
        del values["data"][name]
    path.write_text(json.dumps(values))
    found = load_data_of_run(tmp_path / "run", str(scans), SourceOptions(skip_broken=True, white=4095, fit="pad"))
    assert found.fingerprint == dataset.fingerprint


@pytest.mark.parametrize(
    ("name", "value"),
    [("skip_broken", 1), ("skip_broken", "yes"), ("white", 0), ("white", "1"), ("seed", -1), ("seed", 0.5)],
)
def test_what_is_recorded_is_checked(name: str, value: object, scanned: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    values = json.loads((scanned / CONFIG).read_text())
    values["data"][name] = value
    (tmp_path / "run" / CONFIG).write_text(json.dumps(values))
    with pytest.raises(RunError, match=f"changed or damaged .*`{name}`"):
        runs.open_run(tmp_path / "run")


def test_the_pages_commands_have_the_source_with_its_suffix(
    scanned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = runs.open_run(scanned)
    assert commands(run, None)["train"].startswith("vaelab train SOURCE --model all ")
    assert commands(run, None)["evaluate"] == f"vaelab evaluate {scanned} SOURCE"
    Path("scans.csv").touch()
    assert commands(run, None)["train"].startswith("vaelab train scans.csv --model all ")
    assert commands(run, "other/scans.csv")["train"].startswith("vaelab train other/scans.csv --model all ")


def test_what_only_a_page_needs_is_refused_for_onnx(scanned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["export", str(scanned), "--skip-broken", "--out", "x.onnx"])
    assert end.value.code == 2
    assert re.search("--skip-broken for x.onnx; leave it out", capsys.readouterr().err)
