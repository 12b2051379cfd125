"""The studio's bundle of a run: its files, their agreement with the model, and when they are created again."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from vaelab import runs
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data import Dataset, load_dataset
from vaelab.data.strokes import draw_strokes
from vaelab.errors import DataError, RunError
from vaelab.inference.labels import label_nats
from vaelab.inference.trained import load
from vaelab.studio import bundle as bundles
from vaelab.studio import model_facts
from vaelab.studio.axis_styles import LEAST_IMAGES, axis_correlations, measured_styles
from vaelab.studio.bundle import Bundle, open_bundle
from vaelab.studio.held_out import HeldOut, data_of, held_out
from vaelab.training.fit import fit


@pytest.fixture(scope="module")
def bundle(studio_run: Path) -> Bundle:
    return open_bundle(studio_run, source=str(studio_run.parent / "tiny.npz"))


@pytest.fixture
def alone(studio_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run without its other kinds of models and without ONNX export, for tests that do not need them."""

    def written(folder: Path, out: Path, *, parts: bool, trust_code: bool) -> None:
        assert parts
        for part in ("encoder", "decoder"):
            out.with_stem(f"{out.stem}-{part}").write_bytes(folder.name.encode())

    monkeypatch.setattr(bundles, "export_onnx", written)
    leave = shutil.ignore_patterns("ae", "vae", "studio", "figures")
    shutil.copytree(studio_run, tmp_path / "run", ignore=leave)
    shutil.copy(studio_run.parent / "tiny.npz", tmp_path)
    monkeypatch.chdir(tmp_path)
    return Path("run")


def points_of(bundle: Bundle, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates (n, columns) and labels, decoded as in the page."""
    points = bundle.manifest["models"][kind]["points"]
    numbers, columns = np.fromfile(bundle.folder / points["file"], "<i2"), len(points["axes"]) + 2
    places, labels = np.split(numbers, [points["count"] * columns])
    return places.reshape(-1, columns) * points["scale"], labels.view("<u2")


def test_the_manifest_names_existing_files(bundle: Bundle, studio_run: Path) -> None:
    manifest = json.loads(bundle.read("manifest.json") or b"")
    assert manifest == json.loads(json.dumps(bundle.manifest))
    assert bundle.folder == studio_run / "studio"
    assert all(bundle.read(name) for name in bundle.files)
    assert bundle.read("cache.sealed") is bundle.read("../config.json") is None
    kinds = [
        f"{kind}-{part}" for kind in ("cvae", "ae", "vae") for part in ("encoder.onnx", "decoder.onnx", "points.bin")
    ]
    assert sorted(bundle.files) == sorted(["manifest.json", "first.png", "thumbs.png", "curve.json", *kinds])
    assert {
        name: manifest[name] for name in ("format", "name", "main", "shape", "source", "training", "report", "notes")
    } == {
        "format": 3,
        "name": "run",
        "main": "cvae",
        "shape": [1, 8, 8],
        "source": "tiny",
        "training": False,
        "report": None,
        "notes": [],
    }
    assert manifest["classes"] == ["<img src=x onerror=alert(1)>", "down", "frame"]
    source = str(studio_run.parent / "tiny.npz")
    assert manifest["evaluate"] == shlex.join(["vaelab", "evaluate", str(studio_run), source])
    options = ["--model", "all", "--out", str(studio_run), "--resume"]
    assert manifest["train"] == shlex.join(["vaelab", "train", source, *options])
    assert [model["styles"] for model in manifest["models"].values()] == [None] * 3  # 30 images are too few
    assert [model["conditional"] for model in manifest["models"].values()] == [True, False, False]
    assert [model["stochastic"] for model in manifest["models"].values()] == [True, False, True]
    lines = json.loads(bundle.read("curve.json") or b"")
    assert lines == runs.read_metrics(runs.open_run(studio_run))


@pytest.mark.parametrize("kind", ["cvae", "ae", "vae"])
def test_points_are_the_encoded_test_images(bundle: Bundle, studio_run: Path, kind: str) -> None:
    model, facts = load(bundle.runs[kind]), bundle.manifest["models"][kind]
    test = load_dataset(studio_run.parent / "tiny.npz").test
    order = np.random.default_rng(0).permutation(30)
    assert test.labels is not None
    mean = model.encode(test.images[order], test.labels[order] if kind == "cvae" else None, binarised=False).mean
    places, labels = points_of(bundle, kind)
    assert np.array_equal(labels, test.labels[order])
    step = facts["points"]["scale"]
    np.testing.assert_allclose(places[:, :2], mean[:, facts["points"]["axes"]], atol=0.51 * step)
    plane = facts["principal"]
    np.testing.assert_allclose(places[:, 2:], (mean - plane["mean"]) @ np.transpose(plane["components"]), atol=step)
    np.testing.assert_allclose(sum(plane["explained"]), 1, rtol=1e-4)  # of two axes, a plane holds all
    np.testing.assert_allclose(places[:, 2:].var(0), np.multiply(plane["explained"], mean.var(0).sum()), rtol=0.01)
    assert facts["order"] == facts["points"]["axes"]
    encoded = model.encode(test.images, test.labels if kind == "cvae" else None, binarised=False)
    spread = np.sqrt(encoded.mean.var(0) + np.exp(encoded.log_variance).mean(0))
    np.testing.assert_allclose(facts["spread"]["deviation"], spread, rtol=1e-4)


def test_distant_points_use_larger_steps() -> None:
    places = np.array([[100.0, -3.0], [0.5, 1.0]])
    step = model_facts.STEP * 8
    assert model_facts.step_of(places) == step
    assert model_facts.step_of(places / 10) == model_facts.STEP
    data = model_facts.points_bytes(places, step, None)
    np.testing.assert_allclose(np.frombuffer(data[:8], "<i2") * step, places.ravel(), atol=step / 2)
    assert np.frombuffer(data[8:], "<u2").tolist() == [65535, 65535]


def test_surprise_is_the_nats_that_the_page_computes(bundle: Bundle, studio_run: Path) -> None:
    """As in `label_nats`, given the label of each image."""
    model = load(studio_run)
    dataset, _ = data_of(runs.open_run(studio_run), str(studio_run.parent / "tiny.npz"), None, bundles.silent)
    assert dataset is not None
    images = held_out(dataset, 100)
    assert images.labels is not None
    nats = label_nats(model.model, model.levels(images.images)).numpy()[np.arange(30), images.labels]
    quantiles = bundle.manifest["models"]["cvae"]["surprise"]["quantiles"]
    np.testing.assert_allclose(quantiles, np.quantile(nats, np.linspace(0, 1, 101)), rtol=1e-5)
    figures = bundle.manifest["models"]["cvae"]["figures"]
    assert figures["nats"] == figures["rate"] + figures["distortion"]


def test_styles_are_the_correlations_of_the_axes_within_a_label() -> None:
    drawn = draw_strokes(1000, seed=5)
    assert drawn.labels is not None
    held = HeldOut(drawn.images, drawn.labels, "test")
    values = measured_styles(held, bundles.silent)
    assert values is not None
    noise = np.random.default_rng(0).normal(size=1000)
    mean = np.stack([drawn.factors["slant"] + 9 * drawn.labels, -drawn.factors["width"], noise, np.zeros(1000)], axis=1)
    found = axis_correlations(mean, values, drawn.labels)
    assert list(found) == ["slant", "stroke width"]
    assert found["slant"][0] > 0.8
    assert found["stroke width"][1] < -0.9
    assert max(np.abs(found[name][2:]).max() for name in found) < 0.15
    alone = axis_correlations(mean, values, None)
    assert abs(alone["slant"][0]) < 0.5  # without the labels, the axis shows the label
    expected = np.corrcoef(mean[:, 1], values[:, 1])[0, 1]
    assert alone["stroke width"][1] == pytest.approx(expected)
    inverted = measured_styles(held._replace(images=255 - drawn.images), bundles.silent)
    np.testing.assert_array_equal(inverted, values)


def test_styles_are_measured_on_enough_drawings_only() -> None:
    drawn = draw_strokes(LEAST_IMAGES, seed=5)
    few = HeldOut(drawn.images, drawn.labels, "test")
    grey = np.random.default_rng(0).integers(0, 256, (LEAST_IMAGES + 1, 1, 8, 8), dtype=np.uint8)
    for held in (None, few, HeldOut(grey, None, "test")):
        assert measured_styles(held, bundles.silent) is None


def test_pictures_match_the_manifest(bundle: Bundle, studio_run: Path) -> None:
    first = bundle.manifest["first"]
    with Image.open(bundle.folder / first["file"]) as image:
        shown = np.asarray(image).reshape(3, 8, 10, 8).swapaxes(1, 2)
    drawn = load(studio_run).decode(np.tile(first["z"], (3, 1)), np.repeat(np.arange(3), 10)).reshape(3, 10, 8, 8)
    assert np.abs(shown.astype(int) - drawn).max() <= 1
    points = bundle.manifest["models"]["vae"]["points"]
    assert (points["thumbs_columns"], points["thumbs_count"], points["split"]) == (100, 30, "test")
    with Image.open(bundle.folder / points["thumbs"]) as image:
        thumbs = np.asarray(image).reshape(8, 100, 8).swapaxes(0, 1)
    test = load_dataset(studio_run.parent / "tiny.npz").test.images[np.random.default_rng(0).permutation(30)]
    assert np.array_equal(thumbs[:30], test[:, 0])


def test_the_onnx_files_match_the_model(bundle: Bundle, studio_run: Path) -> None:
    z, labels = np.ones((3, 2), np.float32), np.eye(3, dtype=np.float32)
    session = onnxruntime.InferenceSession(bundle.folder / "cvae-decoder.onnx")
    (decoded,) = session.run(["decoded"], {"z": z, "labels": labels})
    expected = load(studio_run).decode(z, [0, 1, 2])
    assert np.abs(np.rint(255 * np.asarray(decoded)[:, 0]) - expected).max() <= 1


def test_the_second_opening_uses_the_cache(alone: Path) -> None:
    first, again = (open_bundle(alone, source="tiny.npz") for _ in range(2))
    assert first.fresh
    assert not again.fresh
    assert again.manifest == first.manifest
    assert again.key == first.key


def test_changed_inputs_rebuild_the_bundle(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = open_bundle(alone)
    assert first.manifest["models"]["cvae"]["points"] is not None
    assert not open_bundle(alone).fresh
    (first.folder / "first.png").unlink()
    assert open_bundle(alone).fresh
    monkeypatch.setattr(bundles, "FORMAT", 4)
    newer = open_bundle(alone)
    assert newer.fresh
    assert newer.key != first.key
    (alone / "report.json").write_text("{}")  # not cached, so available at once
    assert open_bundle(alone).manifest["report"] == "report.json"
    assert sorted(path.name for path in alone.iterdir() if path.name.startswith(".")) == []


def test_without_data_there_are_no_points_but_a_note(alone: Path) -> None:
    Path("tiny.npz").rename("moved.npz")
    bundle = open_bundle(alone)
    facts = bundle.manifest["models"]["cvae"]
    assert (facts["points"], facts["surprise"]) == (None, None)
    assert facts["principal"]["components"] == np.eye(2)[facts["order"]].tolist()
    (note,) = bundle.notes
    assert "'tiny'" in note
    assert note.endswith("vaelab studio run SOURCE")
    there = open_bundle(alone, source="moved.npz")
    assert there.fresh
    assert there.manifest["models"]["cvae"]["points"]["count"] == 30


def test_other_data_of_the_same_name_are_rejected(alone: Path, tiny: Dataset) -> None:
    np.savez(
        "tiny.npz", images=tiny.test.images, labels=np.array(["<img src=x onerror=alert(1)>", "down", "frame"] * 10)
    )
    (note,) = open_bundle(alone).notes
    assert "tiny.npz: its data have the fingerprint " in note
    assert "give the source that the run was trained on" in note
    with pytest.raises(DataError, match=r"^tiny\.npz: its data have the fingerprint .* trained on 'tiny'"):
        open_bundle(alone, source="tiny.npz")
    with pytest.raises(DataError, match=r"'nowhere'"):
        open_bundle(alone, source="nowhere")


def test_the_selection_from_the_source_is_derived_from_the_run(
    tiny: Dataset, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("bars.npz", images=tiny.train.images, labels=np.array(tiny.classes)[tiny.train.labels])
    chosen = load_dataset("bars.npz", limit=40, classes="frame,across", size="6x6")
    for _ in fit(
        Config(ModelConfig(model="cvae", width=8, depth=1, latent_dim=1), TrainConfig(epochs=1)), chosen, out=Path("r")
    ):
        pass
    dataset, note = data_of(runs.open_run(Path("r")), None, None, bundles.silent)
    assert note is None
    assert dataset is not None
    images = held_out(dataset, 5)
    assert images.images.shape == (5, 1, 6, 6)
    assert isinstance(images, HeldOut)
    monkeypatch.setattr(bundles, "export_onnx", lambda *_, **__: None)
    facts = model_facts.model_facts(runs.open_run(Path("r")), load("r"), images, tmp_path, bundles.silent)
    assert facts["principal"]["explained"] == [1.0, 0.0]  # of one latent dimension


def test_a_sibling_of_other_data_is_left_out(alone: Path, tiny: Dataset, tiny_config: Config) -> None:
    config = Config(ModelConfig(model="vae", network="mlp", width=8, depth=1, latent_dim=2), TrainConfig(epochs=1))
    for _ in fit(config, tiny, out=alone / "vae"):
        pass
    bundle = open_bundle(alone)
    assert list(bundle.manifest["models"]) == ["cvae"]
    (note,) = bundle.notes
    assert "run/vae" in note
    assert "'vae'" in note


def test_a_read_only_run_is_shown(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = bundles.tempfile.mkdtemp

    def refused(prefix: str, dir: Path | None = None) -> str:  # noqa: A002 - as it is called
        if dir is not None:
            raise PermissionError(13, "Permission denied")
        return real(prefix=prefix)

    monkeypatch.setattr(bundles.tempfile, "mkdtemp", refused)
    bundle = open_bundle(alone)
    assert alone.resolve() not in bundle.folder.resolve().parents
    assert (bundle.folder / "first.png").is_file()


def test_a_run_in_training_is_empty_before_the_first_weights(alone: Path) -> None:
    (alone / runs.WEIGHTS).unlink()
    bundle = open_bundle(alone, training=True)
    assert (bundle.manifest["models"], bundle.manifest["first"]) == ({}, None)
    assert bundle.files == ["manifest.json", "curve.json"]
    with pytest.raises(RunError, match="no weights"):
        open_bundle(alone)


def test_unsupported_runs_are_rejected(alone: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"^nowhere: no such folder"):
        open_bundle(Path("nowhere"))
    rows = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)).numpy()
    from vaelab.data import Split

    table = Dataset("table", Split(rows[:40]), Split(rows[40:50]), Split(rows[50:]))
    for _ in fit(
        Config(ModelConfig(model="vae", width=8, latent_dim=2), TrainConfig(epochs=1)), table, out=tmp_path / "t"
    ):
        pass
    with pytest.raises(RunError, match=r"got a model of rows of 3 .*; expected a model of images$"):
        open_bundle(tmp_path / "t")
    weights = alone / runs.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(RunError, match=r"model\.safetensors: "):
        open_bundle(alone)
