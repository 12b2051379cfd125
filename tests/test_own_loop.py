"""A model trained in a loop outside vaelab: a run folder that everything accepts, and what cannot be one."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import vaelab
from vaelab import runs
from vaelab.cli import main
from vaelab.cli.evaluate import _run_facts
from vaelab.config import Config, ModelConfig
from vaelab.data import Dataset
from vaelab.errors import ConfigError, RunError
from vaelab.inference.trained import TrainedModel
from vaelab.models.base import Model
from vaelab.studio.bundle import open_bundle


def own_loop(config: Config, dataset: Dataset, steps: int = 30) -> Model:
    """A model trained by Adam in a loop of this test."""
    model = vaelab.new_model(config.model, dataset, seed=1)
    optimizer, source = torch.optim.Adam(model.parameters(), 3e-3), torch.Generator().manual_seed(0)
    images, labels = torch.from_numpy(dataset.train.images), torch.from_numpy(np.asarray(dataset.train.labels))
    for _ in range(steps):
        chosen = torch.randint(len(images), (32,), generator=source)
        x = torch.bernoulli(images[chosen] / 255, generator=source)
        found = model(x, labels[chosen], torch.randn(32, model.latent_dim, generator=source))
        optimizer.zero_grad()
        (found.rate.sum(-1) - found.likelihood.log_prob(x)).mean().backward()
        optimizer.step()
    return model


@pytest.fixture(scope="module")
def model(tiny: Dataset, tiny_config: Config) -> Model:
    return own_loop(tiny_config, tiny)


@pytest.fixture(scope="module")
def run(model: Model, tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "run"
    TrainedModel.from_parts(model, tiny).save(folder)
    return folder


def test_a_saved_model_is_loaded_with_the_same_weights_and_figures(run: Path, model: Model, tiny: Dataset) -> None:
    made, trained = TrainedModel.from_parts(model, tiny), vaelab.load(run)
    for name, weight in model.state_dict().items():
        assert torch.equal(trained.model.state_dict()[name], weight)
    assert (trained.kind, trained.classes, trained.axes) == ("cvae", tiny.classes, made.axes)
    np.testing.assert_array_equal(trained.sample(["down"], seed=3), made.sample(["down"], seed=3))
    facts = runs.weight_facts(runs.open_run(run))
    assert facts["distortion"] + facts["rate"] < 40
    assert "step" not in facts
    config = json.loads((run / "config.json").read_text())
    assert config["train"] is None
    assert config["data"]["fingerprint"] == tiny.fingerprint


def test_a_loaded_run_is_saved_again_as_it_was(run: Path, tmp_path: Path) -> None:
    vaelab.load(run).save(tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (run / name).read_bytes()


def test_the_model_in_training_stays_as_it_was(model: Model) -> None:
    assert model.training
    assert all(weight.requires_grad for weight in model.parameters())


def test_evaluate_and_the_page_accept_it(run: Path, tiny: Dataset, tmp_path: Path) -> None:
    place = shutil.copytree(run, tmp_path / "run")
    report = vaelab.evaluate(vaelab.load(place), tiny, quick=True, sections=["likelihood"])
    report.facts["run"] = facts = _run_facts(runs.open_run(place), same_data=True)
    assert (facts["trained_for"], facts["config"]["train"]) == ("a loop outside vaelab", None)
    vaelab.save_page(report, tmp_path / "report.html")
    assert "in a loop outside vaelab" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert open_bundle(place).manifest["models"]["cvae"]["figures"]["nats"] > 0


def test_it_cannot_be_resumed(run: Path, tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="outside vaelab, which cannot be resumed"):
        next(vaelab.fit(replace(tiny_config, model=ModelConfig()), tiny, out=run, resume=True))
    source = tmp_path / "tiny.npz"
    np.savez(source, images=tiny.train.images)
    with pytest.raises(SystemExit, match="2"):
        main(["train", str(source), "--out", str(run), "--resume"])


def test_without_validation_images_there_are_no_figures(model: Model, tiny: Dataset, tmp_path: Path) -> None:
    few = replace(tiny, validation=tiny.validation[:0], test=tiny.test[:0])
    TrainedModel.from_parts(model, few).save(tmp_path / "run")
    assert runs.weight_facts(runs.open_run(tmp_path / "run")) == {}
    assert vaelab.load(tmp_path / "run").axes is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda model, data: (nn.Linear(2, 2), data), "`model`: got an object of type Linear"),
        (lambda model, data: (model, replace(data, **of_columns(data))), "`model`: got a model of grey images of 8×8"),
        (
            lambda model, data: (model, replace(data, classes=(*data.classes, "ring"))),
            "of 3 classes for tiny, which has 4",
        ),
        (lambda model, data: (changed(model, "weight"), data), "`model`: got NaN or infinity in weight"),
        (lambda model, data: (changed(model, "layer"), data), "`model`: got a model whose layers were replaced"),
        (
            lambda model, data: (model, replace(data, train=data.train[:0])),
            "`dataset`: got tiny, which has no training",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(change, words: str, model: Model, tiny: Dataset) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        TrainedModel.from_parts(*change(model, tiny))
    assert "\n" not in str(caught.value)


def of_columns(data: Dataset) -> dict:
    """The splits of `data` with 8×7 images."""
    return {
        name: replace(split, images=np.ascontiguousarray(split.images[..., :7]))
        for name in ("train", "validation", "test")
        for split in [data.part(name)]
    }


def changed(model: Model, what: str) -> Model:
    model = copy.deepcopy(model)
    if what == "weight":
        with torch.no_grad():
            next(model.parameters()).view(-1)[0] = float("nan")
    else:
        model.decoder = nn.Linear(3, 3)
    return model


def test_a_model_of_unknown_data_is_not_saved_and_nothing_replaces_a_run(run: Path, tmp_path: Path) -> None:
    trained = vaelab.load(run)
    with pytest.raises(ConfigError, match="`save`"):
        replace(trained, origin=None).save(tmp_path / "run")
    with pytest.raises(RunError, match="already holds a run"):
        trained.save(run)
    assert not (tmp_path / "run").exists()
