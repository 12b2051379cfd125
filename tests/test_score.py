"""`vaelab score` and `encode`: figures of every image as a table, in parts that are continued after an interruption."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from building import build_model, with_output_weights
from conftest import draw_tiny, read_npz

import vaelab
from vaelab import parts
from vaelab.cli import main
from vaelab.config import LikelihoodName, ModelConfig, ModelName
from vaelab.data import Dataset, Split
from vaelab.data.binarization import binarise_once
from vaelab.errors import ConfigError, DataError, LabelError, OutputError
from vaelab.inference import scoring, tables
from vaelab.inference.given import Given, given_source
from vaelab.inference.scoring import write_posteriors, write_scores
from vaelab.inference.trained import TrainedModel
from vaelab.objectives.bounds import held_out_terms, negative_bounds
from vaelab.random import latent_noise

parquet = pytest.importorskip("pyarrow.parquet")


def model_of(
    kind: ModelName = "cvae",
    likelihood: LikelihoodName = "bernoulli",
    *,
    classes: tuple[str, ...] = ("across", "down", "frame"),
) -> TrainedModel:
    shape = (5,) if likelihood == "gaussian" else (1, 8, 8)
    config = ModelConfig(model=kind, network="mlp", likelihood=likelihood, latent_dim=3, width=12, depth=2)
    model = with_output_weights(build_model(config, shape, len(classes)), 0).eval()
    return TrainedModel(model, kind, likelihood, classes if kind == "cvae" else ())


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART", 50)


def read(path: Path) -> dict[str, np.ndarray]:
    """The columns of a table of any kind, without the classes."""
    if path.suffix == ".parquet":
        return {name: np.array(values) for name, values in parquet.read_table(path).to_pydict().items()}
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return read_npz(path)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npz"])
@pytest.mark.parametrize("kind", ["vae", "cvae"])
def test_the_figures_are_those_of_the_evaluation(tiny: Dataset, tmp_path: Path, kind: ModelName, suffix: str) -> None:
    model, out = model_of(kind), tmp_path / f"scores{suffix}"
    summary = write_scores(given_source(model, tiny), out, samples=4, seed=3)
    found, every = read(out), tiny.part("all")
    labels = torch.from_numpy(every.labels) if kind == "cvae" else None
    levels = torch.from_numpy(binarise_once(every.images))
    terms = held_out_terms(model.model, levels, labels, latent_noise(180, 3, 3))
    bound = negative_bounds(model.model, levels, labels, samples=[4], seed=3, shared=True)[:, 0]
    expected = {
        "distortion": terms.distortion,
        "rate": terms.rate.sum(1),
        "nats": terms.negative_elbo(),
        "bound": bound,
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name].astype(float), values.numpy(), rtol=1e-6, atol=1e-6)
        assert summary[name] == pytest.approx(values.double().mean().item())
    assert np.isfinite(found["nats"].astype(float)).all()
    given = every.labels if kind == "cvae" else None
    np.testing.assert_allclose(model.reconstruct(every.images, given, seed=3).nats, terms.negative_elbo(), rtol=1e-6)
    np.testing.assert_allclose(-model.score_samples(every.images, given, samples=4, seed=3), bound, rtol=1e-6)
    assert found["split"].tolist() == ["train"] * 120 + ["validation"] * 30 + ["test"] * 30
    assert found["paths" if suffix == ".npz" else "path"][[0, 150]].tolist() == ["tiny:train:0", "tiny:test:0"]
    names = found["classes"][found["labels"]] if suffix == ".npz" else found["label"]
    assert names.tolist() == [tiny.classes[label] for label in np.array(every.labels)]
    assert os.listdir(tmp_path) == [out.name]  # noqa: PTH208


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npz"])
def test_the_posteriors_are_those_of_encode(tiny: Dataset, tmp_path: Path, suffix: str) -> None:
    model, out = model_of(), tmp_path / f"z{suffix}"
    write_posteriors(given_source(model, tiny), out)
    found, every = read(out), tiny.part("all")
    encoded = model.encode(every.images, every.labels)
    for name, values in encoded._asdict().items():
        columns = found[name] if suffix == ".npz" else np.stack([found[f"{name}_{k}"] for k in range(3)], axis=1)
        np.testing.assert_allclose(columns.astype(float), values, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("likelihood", ["logistic", "continuous-bernoulli"])
def test_a_part_of_the_source_is_scored_by_its_place_in_it(
    tiny: Dataset, tmp_path: Path, likelihood: LikelihoodName
) -> None:
    model = model_of("vae", likelihood)
    write_scores(given_source(model, tiny, "test", source="x"), tmp_path / "s.npz")
    np.testing.assert_allclose(read(tmp_path / "s.npz")["nats"], model.reconstruct(tiny.test.images).nats, rtol=1e-6)
    assert read(tmp_path / "s.npz")["paths"][3] == "x:test:3"


def test_an_autoencoder_has_a_distortion_only(tiny: Dataset, tmp_path: Path) -> None:
    model = model_of("ae")
    given = given_source(model, tiny)
    write_scores(given, tmp_path / "s.parquet")
    found = read(tmp_path / "s.parquet")
    assert list(found) == ["path", "split", "label", "distortion"]
    np.testing.assert_allclose(found["distortion"], model.reconstruct(tiny.part("all").images).distortion, rtol=1e-6)
    with pytest.raises(ConfigError, match="`samples`: got 5 for an autoencoder"):
        write_scores(given, tmp_path / "x.parquet", samples=5)


def test_a_table(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(120, 5)).astype(np.float32)
    model, empty = model_of("vae", "gaussian"), Split(rows[:0])
    write_scores(given_source(model, Dataset("rows", Split(rows), empty, empty)), tmp_path / "s.csv")
    np.testing.assert_allclose(read(tmp_path / "s.csv")["nats"].astype(float), model.reconstruct(rows).nats, rtol=1e-6)


def test_labels_are_given_or_inferred(tiny: Dataset, tmp_path: Path) -> None:
    model = model_of()
    bare = Dataset("bare", Split(tiny.train.images), Split(tiny.validation.images), Split(tiny.test.images))
    summary = write_scores(given_source(model, bare), tmp_path / "s.npz")
    found, images = read(tmp_path / "s.npz"), tiny.part("all").images
    assert found["inferred"].all()
    assert found["labels"].tolist() == model.inferred_labels(images).tolist()
    assert summary["inferred"].tolist() == np.bincount(found["labels"], minlength=3).tolist()
    write_scores(given_source(model, tiny, labels=["down"] * 180), tmp_path / "s.npz")
    np.testing.assert_allclose(
        read(tmp_path / "s.npz")["nats"], model.reconstruct(images, ["down"] * 180).nats, rtol=1e-6
    )


class Stop:
    """Raises an error in the work on a part."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int, error: BaseException) -> None:
        self.calls, self.monkeypatch, self.plain = 0, monkeypatch, scoring.held_out_terms

        def stopping(*arguments: Any) -> Any:
            self.calls += 1
            if self.calls > after:
                raise error
            return self.plain(*arguments)

        monkeypatch.setattr(scoring, "held_out_terms", stopping)

    def restore(self) -> None:
        self.monkeypatch.setattr(scoring, "held_out_terms", self.plain)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".npz"])
def test_what_was_interrupted_is_continued_with_the_same_content(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    model, whole, out = model_of(), tmp_path / f"whole{suffix}", tmp_path / f"scores{suffix}"
    given = given_source(model, tiny)
    write_scores(given, whole)
    out.write_bytes(b"old")
    stop = Stop(monkeypatch, 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        write_scores(given, out)
    stop.restore()
    assert out.read_bytes() == b"old"
    partial = tmp_path / f"scores{suffix}.partial"
    assert sorted(path.name for path in partial.iterdir()) == ["000000.npz", "000001.npz", "plan.txt"]
    others: list[tuple[Given, dict[str, Any]]] = [
        (given, {"seed": 1}),
        (given, {"samples": 2}),
        (given_source(model_of(classes=("frame", "down", "across")), tiny, labels=["down"] * 180), {}),
        (given_source(model, Dataset("tiny", tiny.train[::-1], tiny.validation, tiny.test, tiny.classes)), {}),
    ]
    for other, options in others:
        with pytest.raises(OutputError, match=r"partial: holds the beginning of another file.*delete it"):
            write_scores(other, out, **options)
    calls = Stop(monkeypatch, 99, KeyboardInterrupt())
    reports: list[tuple[str, int, int]] = []
    write_scores(given, out, progress=lambda *report: reports.append(report))
    assert calls.calls == 2  # the parts that were missing
    assert reports == [("scoring", done, 180) for done in (100, 150, 180)]
    assert out.read_bytes() == whole.read_bytes()
    assert not partial.exists()


def test_a_full_disk_is_one_clear_error(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    given = given_source(model_of(), tiny)
    for name in ("savez", "savez_compressed"):  # of a part, and of the result
        with monkeypatch.context() as patched:
            patched.setattr(np, name, full)
            with pytest.raises(OutputError, match="No space left on device"):
                write_scores(given, tmp_path / "s.npz")
        assert not (tmp_path / "s.npz").exists()
    write_scores(given, tmp_path / "s.npz")


def test_what_cannot_be_scored_is_refused(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, out = model_of(), tmp_path / "s.parquet"
    given = given_source(model, tiny)
    with pytest.raises(ConfigError, match="`samples`: got 0"):
        write_scores(given, out, samples=0)
    with pytest.raises(OutputError, match=r"expected a name that ends in \.parquet, \.csv or \.npz"):
        write_scores(given, tmp_path / "s.txt")
    nine = Split(np.zeros((9, 1, 9, 9), np.uint8))
    large = Dataset("large", nine, nine, nine)
    with pytest.raises(DataError, match="got grey images of 9×9; expected grey images of 8×8"):
        write_scores(given_source(model_of("vae"), large), out)
    with pytest.raises(DataError, match="got no test images"):
        given_source(model, Dataset("tiny", tiny.train, tiny.test, tiny.test[:0], tiny.classes), "test")
    with pytest.raises(LabelError, match="'frame'"):
        given_source(model_of(classes=("across", "down", "x")), tiny)
    monkeypatch.setattr(tables, "find_spec", lambda _: None)
    with pytest.raises(OutputError, match=r"needs pyarrow; install it with pip install 'vaelab\[parquet\]'"):
        write_scores(given, out)
    assert list(tmp_path.iterdir()) == []


def test_noise_and_binarisation_belong_to_a_part() -> None:
    images = draw_tiny(180, seed=1).images
    whole, noise = binarise_once(images), latent_noise(180, 3, 5)
    for number, part in enumerate(parts.parts_of(180)):
        some = slice(part.start, part.stop)
        np.testing.assert_array_equal(binarise_once(images[some], number), whole[some])
        assert torch.equal(latent_noise(len(part), 3, 5, number), noise[some])
    published = np.random.RandomState(777).binomial(1, images[:50] / 255.0)
    np.testing.assert_array_equal(whole[:50], 255 * published)
    assert latent_noise(0, 3, 0).shape == (0, 3)


def test_the_results_of_parts_are_used_in_order() -> None:
    used: list[tuple[int, int]] = []
    parts.in_parts(lambda part: part**2, range(9), lambda *result: used.append(result))
    assert used == [(part, part**2) for part in range(9)]

    def fail(_: int, __: int) -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        parts.in_parts(lambda part: part, range(9), fail)


def call(*words: object) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    assert end.value.code == 0


def test_from_the_command_line(studio_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = studio_run.parent / "tiny.npz"
    call("score", studio_run, source, "--out", tmp_path / "s.parquet", "--samples", "3", "--split", "test")
    said = capsys.readouterr().err
    assert "30 images, −ELBO " in said
    assert ", bound " in said
    found, data = read(tmp_path / "s.parquet"), vaelab.load_dataset(source)
    model = vaelab.load(studio_run)
    assert data.test.labels is not None
    np.testing.assert_allclose(found["nats"], model.reconstruct(data.test.images, data.test.labels).nats, rtol=1e-6)
    call("score", studio_run / "ae", source, "--out", tmp_path / "s.csv")
    assert "nats of distortion per image" in capsys.readouterr().err
    call("encode", studio_run, source, "--out", tmp_path / "z.parquet")
    assert "150 posteriors of 2 dimensions" in capsys.readouterr().err
    call("score", studio_run, f"{source}:test:3", "--label", "down", "--out", tmp_path / "one.parquet")
    assert read(tmp_path / "one.parquet")["label"].tolist() == ["down"]


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL of POSIX: run it on Linux or macOS")
@pytest.mark.slow
def test_a_killed_process_is_continued(tiny: Dataset, studio_run: Path, tmp_path: Path) -> None:
    repeated = np.concatenate([tiny.train.images] * 400)
    np.savez(tmp_path / "many.npz", images=repeated)

    def command(out: str) -> list[str]:
        words = ["score", str(studio_run / "vae"), "many.npz", "--out", out, "--samples", "20"]
        return [sys.executable, "-m", "vaelab", *words]

    subprocess.run(command("whole.parquet"), cwd=tmp_path, check=True)
    process = subprocess.Popen(command("s.parquet"), cwd=tmp_path)
    while not (tmp_path / "s.parquet.partial" / "000001.npz").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "s.parquet").exists()
    subprocess.run(command("s.parquet"), cwd=tmp_path, check=True)
    assert (tmp_path / "s.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
