"""Diagnosis: what the symptoms are, which faults they show, and where they are reported."""

from __future__ import annotations

import math
import re
import shutil
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from building import build_model

import vaelab
from vaelab.cli import main
from vaelab.config import Config, ModelConfig, ResolvedConfig, TrainConfig
from vaelab.data import Dataset, Split
from vaelab.errors import DataError, RunError
from vaelab.evaluation import faults, symptoms
from vaelab.evaluation.faults import Finding, findings
from vaelab.evaluation.symptoms import Symptoms
from vaelab.inference.trained import TrainedModel
from vaelab.models.factory import start_from_images
from vaelab.runs import Averages
from vaelab.training.fit import moments_of
from vaelab.training.resolve import resolve

CURVE = ((1000, 120.0), (2000, 101.0), (3000, 100.5), (4000, 100.0))


def healthy(**changes: Any) -> Symptoms:
    usual = Symptoms(
        train=Averages(80.0, 18.0),
        held_out=Averages(82.0, 18.0),
        without_latents=200.0,
        rates=np.full(7, 2.0),
        explained=0.8,
        label_gain=0.95,
        label_in_latent=0.02,
        copies=0.0,
        constant=False,
        counts=np.array([40, 40, 40]),
        gap_error=1.0,
        curve=CURVE,
    )
    return replace(usual, **changes)


@pytest.fixture(scope="module")
def data(tiny: Dataset) -> Dataset:
    return tiny


def settings(
    dataset: Dataset, model: dict[str, Any] | None = None, train: dict[str, Any] | None = None
) -> ResolvedConfig:
    return resolve(Config(ModelConfig(**(model or {})), TrainConfig(epochs=10, **(train or {}))), dataset)


def found(dataset: Dataset, shown: Symptoms, model: dict[str, Any] | None = None, **train: Any) -> list[Finding]:
    return list(findings(shown, settings(dataset, model, train), dataset))


def test_healthy_symptoms_show_no_fault(data: Dataset) -> None:
    assert not found(data, healthy())
    assert not found(data, healthy(label_gain=None, label_in_latent=None), {"model": "vae"})
    autoencoder = healthy(rates=np.zeros(7), label_gain=None, label_in_latent=None, held_out=Averages(60.0, 0.0))
    assert not found(data, autoencoder, {"model": "ae"})


FAULTS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # key: symptoms, settings of the model, of the training, remedy
    "constant_data": ({"constant": True}, {}, {}, {}),
    "copies": ({"copies": 0.3}, {}, {}, {}),
    "small_class": ({"counts": np.array([40, 3, 40])}, {}, {}, {"classes": "across,frame"}),
    "unfit_likelihood": ({}, {"likelihood": "logistic"}, {}, {}),
    "short_training": ({"curve": ((1000, 150.0), (2000, 120.0), (3000, 110.0), (4000, 100.0))}, {}, {}, {"epochs": 40}),
    "collapse": ({"rates": np.full(7, 0.01)}, {}, {}, {"kl_warmup": 0.5, "free_bits": 0.1}),
    "no_gain": ({"train": Averages(40.0, 168.0), "held_out": Averages(40.0, 170.0)}, {}, {"beta": 0.01}, {"beta": 1.0}),
    "held_out_rate": ({"held_out": Averages(75.0, 30.0)}, {}, {}, {}),
    "small_latent": ({"rates": np.full(2, 3.1), "explained": 0.4}, {"latent_dim": 2}, {}, {"latent_dim": 7}),
    "large_latent": ({"rates": np.r_[np.full(10, 2.0), np.zeros(190)]}, {"latent_dim": 200}, {}, {"latent_dim": 15}),
    "overfitting": ({"train": Averages(40.0, 18.0)}, {}, {}, {}),
    "label_ignored": ({"label_gain": 0.02}, {}, {}, {"model": "vae"}),
    "label_in_latent": ({"label_in_latent": 0.6}, {}, {"beta": 0.1}, {"beta": 1.0, "latent_dim": 3}),
}


@pytest.mark.parametrize("key", [key for key in FAULTS if key != "unfit_likelihood"])
def test_a_symptom_shows_its_fault_alone(data: Dataset, key: str) -> None:
    shown, model, train, remedy = FAULTS[key]
    (finding,) = found(data, healthy(**shown), model, **train)
    assert finding.key == key
    assert dict(finding.change) == remedy
    assert finding.evidence.endswith(".")
    assert finding.remedy.endswith(".")
    options = {field.name for kind in (ModelConfig, TrainConfig) for field in fields(kind)} | {"classes"}
    assert finding.change.keys() <= options


def test_every_fault_is_tested() -> None:
    source = Path(faults.__file__).read_text(encoding="utf-8")
    assert set(re.findall(r'Finding\(\s*"(\w+)"', source)) == FAULTS.keys()


def test_a_likelihood_unfit_for_the_data(data: Dataset) -> None:
    grey = replace(data, train=Split(data.train.images // 2, data.train.labels))
    (finding,) = found(grey, healthy(), {"likelihood": "bernoulli"})
    assert (finding.key, dict(finding.change)) == ("unfit_likelihood", {"likelihood": "logistic"})
    rng = np.random.default_rng(0)
    colour = [Split(rng.integers(0, 256, (60, 3, 8, 8), dtype=np.uint8)) for _ in range(3)]
    (finding,) = found(
        Dataset("noise", colour[0], colour[1], colour[2]), healthy(counts=np.zeros(0)), {"network": "two-colour"}
    )
    assert dict(finding.change) == {"likelihood": "colour-logistic", "network": "pca"}


def test_a_large_beta_is_the_remedy_of_a_partial_collapse(data: Dataset) -> None:
    (finding,) = found(data, healthy(rates=np.array([2.0, 0, 2, 0, 2, 0, 0])), beta=8.0)
    assert dict(finding.change) == {"beta": 1.0}
    assert "4 of 7 latent dimensions (1, 3, 5, 6, counted from 0)" in finding.evidence
    assert not found(data, healthy(rates=np.array([2.0, 0, 2, 0, 2, 0, 0])))


def test_labels_that_the_latent_tells_are_ignored_for_another_reason(data: Dataset) -> None:
    shown = healthy(label_gain=0.1, label_in_latent=0.9, rates=np.full(64, 2.0))
    (finding,) = found(data, shown, {"latent_dim": 64})
    assert (finding.key, dict(finding.change)) == ("label_ignored", {"latent_dim": 7})


def test_a_short_training_hides_the_faults_of_the_model_only(data: Dataset) -> None:
    shown = healthy(label_gain=0.0, copies=0.5, curve=((50, 190.0), (100, 150.0)))
    assert [finding.key for finding in found(data, shown)] == ["copies", "short_training"]
    assert not found(data, healthy(curve=()))


def untrained(dataset: Dataset, kind: Any = "cvae") -> TrainedModel:
    likelihood = "gaussian" if len(dataset.shape) == 1 else "bernoulli"
    config = ModelConfig(model=kind, network="mlp", latent_dim=2, likelihood=likelihood, width=16, depth=1)
    model = build_model(config, dataset.shape, len(dataset.classes)).eval()
    start_from_images(model, torch.from_numpy(dataset.train.images), moments_of(dataset.train))
    return TrainedModel(model, kind, likelihood, dataset.classes if kind == "cvae" else ())


def test_an_untrained_model_explains_nothing(data: Dataset) -> None:
    shown = symptoms.measure(untrained(data), data, data.validation)
    assert shown.held_out.distortion == pytest.approx(
        shown.without_latents, rel=1e-4
    )  # its output does not depend on z
    assert shown.explained == pytest.approx(0, abs=0.05)
    assert shown.label_gain == pytest.approx(0, abs=0.2)
    assert shown.rates.shape == (2,)
    assert shown.counts.tolist() == np.bincount(data.train.labels).tolist()  # type: ignore[arg-type]
    assert not shown.constant
    assert shown.copies > 0.5  # bars at few places, with a little noise


def test_the_label_gain_is_a_share_of_its_maximum() -> None:
    true = torch.tensor([0, 2])
    sure = torch.full((2, 3), 900.0)
    sure[[0, 1], true] = 0
    assert symptoms._gain_share(sure, true) == pytest.approx(1)
    assert symptoms._gain_share(torch.zeros(2, 3), true) == pytest.approx(0)
    half = torch.tensor([[0.0, math.log(2), 50], [50, math.log(2), 0]])  # 2/3, 1/3 and nothing
    assert symptoms._gain_share(half, true) == pytest.approx(1 + math.log(2 / 3) / math.log(3))


def test_copies_and_constants_of_tables_are_found_in_units_of_each_column() -> None:
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(200, 9)) * ([1, 1e3, 1e-3] * 3)).astype(np.float32)
    assert symptoms._copies(Split(rows[:150]), Split(rows[150:])) == (0, False)
    assert symptoms._copies(Split(rows[:150]), Split(rows[:40] * np.float32(1.001)))[0] == 1
    assert symptoms._copies(Split(np.ones((20, 9), np.float32)), Split(rows))[1]


def test_a_model_without_labels_or_noise_is_measured_too(data: Dataset) -> None:
    for kind in ("ae", "vae"):
        shown = symptoms.measure(untrained(data, kind), data, data.validation)
        assert shown.label_gain is None
        assert shown.label_in_latent is None
    rows = [Split(np.random.default_rng(0).normal(size=(n, 3)).astype(np.float32)) for n in (60, 20, 20)]
    table = Dataset("table", rows[0], rows[1], rows[2])
    assert symptoms.measure(untrained(table, "vae"), table, table.validation).counts.size == 0


@pytest.fixture(scope="module")
def run(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diagnosed")
    np.savez(folder / "bars.npz", images=data.train.images, labels=np.array(data.classes)[data.train.labels])
    config = Config(ModelConfig(width=8, depth=1, latent_dim=2), TrainConfig(epochs=1, compile="no"))
    for _ in vaelab.fit(config, vaelab.load_dataset(folder / "bars.npz"), out=folder / "run"):
        pass
    return folder / "run"


def test_a_run_is_diagnosed_with_its_curve(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent)
    found = vaelab.diagnose("run")
    assert [finding.key for finding in found.findings] == ["copies", "short_training"]
    assert "copies" in found
    assert "collapse" not in found
    assert str(found).count("\n") == 1
    with pytest.raises(RunError, match="differ from those it was trained on"):
        vaelab.diagnose("run", vaelab.load_dataset("digits"))
    data = vaelab.load_dataset("bars.npz")
    monkeypatch.setattr("vaelab.runs.expect_same_data", lambda *_: None)
    with pytest.raises(DataError, match="no validation images"):
        vaelab.diagnose("run", replace(data, validation=data.validation[:0]))


def test_the_command_and_the_report_name_the_faults(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.parent)
    with pytest.raises(SystemExit) as end:
        main(["diagnose", "run"])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[: line.index(".")] for line in lines] == [
        "diagnosis: Near-duplicate data",
        "diagnosis: Training too short",
    ]
    assert lines[1].endswith("Continue it with --resume and --epochs 4.")
    data = vaelab.load_dataset("bars.npz")
    report = vaelab.evaluate(vaelab.load("run"), data, run="run", sections=["diagnosis"])
    assert [words[: words.index(".")] for words in report["diagnosis"].words] == [
        line[11 : line.index(".")] for line in lines
    ]
    other = replace(data, train=data.train[:20])
    left = vaelab.evaluate(vaelab.load("run"), other, run="run", sections=["diagnosis"])["diagnosis"].left_out
    assert "not the data that the model was trained on" in left


def test_a_run_of_an_unknown_source_needs_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["diagnose", str(run)])
    assert end.value.code == 2
    assert re.fullmatch(r"vaelab: .*give its SOURCE\n", capsys.readouterr().err)
    with pytest.raises(SystemExit) as end:
        main(["diagnose", str(run), str(run.parent / "bars.npz")])
    assert end.value.code == 0


def test_where_the_latent_saves_nothing_a_small_difference_is_no_overfitting(data: Dataset) -> None:
    shown = healthy(train=Averages(198.0, 1.0), held_out=Averages(198.5, 1.2))
    assert "overfitting" not in [finding.key for finding in found(data, shown)]
    shown = healthy(train=Averages(198.0, 1.0), held_out=Averages(220.0, 1.2))
    assert "overfitting" in [finding.key for finding in found(data, shown)]


def test_the_remedy_of_a_resumed_training_goes_on_from_its_last_budget(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    data = vaelab.load_dataset(run.parent / "bars.npz")
    for _ in vaelab.fit(Config(train=TrainConfig(epochs=2)), data, out=tmp_path / "run", resume=True):
        pass
    (*_, finding) = vaelab.diagnose(tmp_path / "run", data).findings
    assert dict(finding.change) == {"epochs": 8}
