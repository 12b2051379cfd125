"""Every fault provoked by a training, and removed by its remedy; and the default models, in which no fault is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coloured_letters import LETTERS, draw_letters
from test_diagnosis import FAULTS

import vaelab
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data import Dataset, Split
from vaelab.evaluation.diagnosis import Diagnosis, diagnose, diagnose_model
from vaelab.evaluation.faults import Finding
from vaelab.runs import open_run

pytestmark = pytest.mark.slow

SMALL: dict[str, Any] = {"width": 128, "depth": 2}


def trained(
    dataset: Dataset, out: Path, model: dict[str, Any], train: dict[str, Any], *, resume: bool = False
) -> Diagnosis:
    config = Config(ModelConfig(**model), TrainConfig(compile="no", **train))
    for _ in vaelab.fit(config, dataset, out=out, resume=resume):
        pass
    return diagnose(out, dataset)


@pytest.fixture(scope="module")
def strokes() -> Dataset:
    return vaelab.load_dataset("strokes", limit=5000)


def changed(values: dict[str, Any], change: dict[str, Any], kind: type) -> dict[str, Any]:
    return values | {name: value for name, value in change.items() if name in kind.__dataclass_fields__}


PROVOKED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "collapse": ({"model": "vae"}, {"beta": 30.0}),
    "no_gain": ({"model": "vae"}, {"beta": 0.01}),
    "small_latent": ({"model": "vae", "latent_dim": 1}, {"epochs": 80}),
    "large_latent": ({"model": "vae", "latent_dim": 250}, {"epochs": 100}),
    "label_in_latent": ({"latent_dim": 64}, {"beta": 0.02}),
}


@pytest.mark.parametrize("key", PROVOKED)
def test_settings_provoke_a_fault_and_its_remedy_removes_it(strokes: Dataset, tmp_path: Path, key: str) -> None:
    model, train = PROVOKED[key]
    model, train = SMALL | model, {"epochs": 40} | train
    finding = found_in(trained(strokes, tmp_path / "ill", model, train), key)
    change = dict(finding.change)
    assert change
    healed = trained(
        strokes, tmp_path / "healed", changed(model, change, ModelConfig), changed(train, change, TrainConfig)
    )
    assert key not in healed, str(healed)


def found_in(diagnosis: Diagnosis, key: str) -> Finding:
    assert key in diagnosis, f"{diagnosis}\n{diagnosis.symptoms}"
    return next(finding for finding in diagnosis.findings if finding.key == key)


def test_a_short_training_is_continued_to_its_remedy(strokes: Dataset, tmp_path: Path) -> None:
    finding = found_in(trained(strokes, tmp_path / "run", SMALL, {"epochs": 10}), "short_training")
    longer = trained(strokes, tmp_path / "run", {}, dict(finding.change), resume=True)
    assert not longer.findings, str(longer)


def test_overfitting_to_few_images_and_more_of_them(strokes: Dataset, tmp_path: Path) -> None:
    few = replace(strokes, train=strokes.train[:200])
    finding = found_in(trained(few, tmp_path / "few", {"model": "vae"}, {"epochs": 300}), "overfitting")
    assert "more images" in finding.remedy
    assert "overfitting" not in trained(strokes, tmp_path / "many", {"model": "vae"}, {"epochs": 40})


def test_test_images_of_another_kind_and_a_random_split(strokes: Dataset, tmp_path: Path) -> None:
    odd = Split(255 - strokes.test.images[:2000])
    images = np.concatenate([strokes.train.images, odd.images])
    order = np.random.default_rng(0).permutation(len(images))
    mixed = [Split(images[part]) for part in np.split(order, [len(images) - 2000, len(images) - 1000])]
    apart = Dataset("strokes", Split(strokes.train.images), Split(strokes.validation.images), odd)
    for name, dataset in (("apart", apart), ("mixed", Dataset("mixed", mixed[0], mixed[1], mixed[2]))):
        trained(dataset, tmp_path / name, SMALL, {"epochs": 20})
        run = tmp_path / name
        found = diagnose_model(vaelab.load(run), dataset, dataset.test, open_run(run))  # as the report does
        assert ("held_out_rate" in found) == (name == "apart"), f"{found}\n{found.symptoms}"


def test_labels_that_say_nothing_and_a_model_without_them(strokes: Dataset, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    splits = (strokes.train, strokes.validation, strokes.test)
    train, validation, test = (Split(each.images, rng.permutation(np.asarray(each.labels))) for each in splits)
    shuffled = Dataset("shuffled", train, validation, test, strokes.classes)
    finding = found_in(trained(shuffled, tmp_path / "ill", SMALL, {"epochs": 20}), "label_ignored")
    assert dict(finding.change) == {"model": "vae"}
    assert "label_ignored" not in trained(shuffled, tmp_path / "healed", SMALL | {"model": "vae"}, {"epochs": 20})


def test_faults_of_data_and_data_without_them(tmp_path: Path) -> None:
    digits = vaelab.load_dataset("digits")
    train = {"epochs": 15}
    finding = found_in(trained(digits, tmp_path / "0", SMALL | {"likelihood": "bernoulli"}, train), "unfit_likelihood")
    assert "unfit_likelihood" not in trained(digits, tmp_path / "1", SMALL | dict(finding.change), train)
    labels = digits.train.labels
    assert labels is not None
    rare = replace(digits, train=digits.train[np.flatnonzero((labels != 3) | (np.cumsum(labels == 3) <= 5))])
    finding = found_in(trained(rare, tmp_path / "2", SMALL, train), "small_class")
    np.savez(tmp_path / "rare.npz", images=rare.train.images, labels=np.array(rare.classes)[rare.train.labels])
    kept = vaelab.load_dataset(tmp_path / "rare.npz", **finding.change)
    assert "small_class" not in trained(kept, tmp_path / "3", SMALL, train)
    images = digits.train.images[:600]
    copied = vaelab.dataset_from(np.repeat(images, 3, axis=0))
    found_in(trained(copied, tmp_path / "4", SMALL, train), "copies")
    unique = vaelab.dataset_from(np.unique(np.repeat(images, 3, axis=0), axis=0))
    assert "copies" not in trained(unique, tmp_path / "5", SMALL, train)
    same = vaelab.dataset_from(np.repeat(images[:1], 200, axis=0))
    found_in(trained(same, tmp_path / "6", SMALL, train), "constant_data")
    assert "constant_data" not in trained(unique, tmp_path / "7", SMALL, train)


def test_every_fault_is_provoked() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{key}"' in source for key in FAULTS)


@pytest.mark.parametrize(("source", "epochs"), [("strokes", 8), ("digits", 60), ("letters", 30)])
def test_no_fault_is_found_in_the_default_models(tmp_path: Path, source: str, epochs: int) -> None:
    if source == "letters":
        drawn = draw_letters(6000, 0)
        dataset = vaelab.dataset_from(drawn.images, np.array(list(LETTERS))[drawn.labels])
    else:
        dataset = vaelab.load_dataset(source)
    found = trained(dataset, tmp_path / "run", {}, {"epochs": epochs})
    assert not found.findings, f"{found}\n{found.symptoms}"


@pytest.mark.mnist
def test_no_fault_is_found_in_the_default_model_of_mnist(tmp_path: Path) -> None:
    found = trained(vaelab.load_dataset("mnist"), tmp_path / "run", {}, {"epochs": 6})
    assert not found.findings, f"{found}\n{found.symptoms}"
