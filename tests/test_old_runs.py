"""Run folders written by vaelab 0.1.0: they load, generate, evaluate and resume. `runs-0.1` holds a cvae and a ladder."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from vaelab import runs
from vaelab.config import Budget, Config, TrainConfig
from vaelab.data import load_dataset
from vaelab.errors import ConfigError
from vaelab.inference.trained import load
from vaelab.training.fit import fit

OLD = Path(__file__).parent / "runs-0.1"


@pytest.mark.parametrize("name", ["vae", "ladder"])
def test_it_loads_and_has_the_figures_that_were_saved(name: str) -> None:
    """The distortion and rate stored beside the weights are those that the loaded model gives today."""
    model, dataset = load(OLD / name), load_dataset("digits")
    facts = runs.weight_facts(runs.open_run(OLD / name))
    part = dataset.validation
    labels = model.matched_labels(part.labels, dataset.classes)
    found = model.reconstruct(part.images, labels)
    assert found.distortion.mean() == pytest.approx(facts["distortion"], rel=1e-5)
    assert found.rate.mean() == pytest.approx(facts["rate"], rel=1e-4)
    labels = ["3"] * 4 if model.conditional else None
    images = model.sample(labels) if labels else model.sample(count=4)
    assert images.shape == (4, 8, 8)
    assert images.dtype == np.uint8


def test_its_configuration_has_the_present_names() -> None:
    ladder = runs.open_run(OLD / "ladder").config
    assert (ladder.model.levels, ladder.model.spatial_mixing, ladder.model.patch) == ("3,1", "relative", 4)
    assert (ladder.train.iwae_samples, ladder.train.iwae_fraction) == (2, 0.1)
    assert ladder.train.budget == Budget(1, "epochs")
    assert ladder.train.precision in ("float32", "bfloat16")
    conditional = runs.open_run(OLD / "vae").config.model
    assert (conditional.model, conditional.encoder, conditional.levels) == ("cvae", "", "")


def test_a_run_of_a_device_that_this_machine_lacks_is_opened(tmp_path: Path) -> None:
    shutil.copytree(OLD / "vae", tmp_path / "run")
    path = tmp_path / "run" / "config.json"
    values = json.loads(path.read_text())
    values["train"] |= {"device": "cuda:97", "precision": "auto"}
    path.write_text(json.dumps(values))
    assert runs.open_run(tmp_path / "run").config.train.device == "cuda:97"


@pytest.mark.parametrize("name", ["vae", "ladder"])
def test_it_is_resumed(name: str, tmp_path: Path) -> None:
    shutil.copytree(OLD / name, tmp_path / "run")
    before = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    asked = Config(train=TrainConfig(epochs=2, device="cpu", compile="no"))
    *_, last = fit(asked, load_dataset("digits"), out=tmp_path / "run", resume=True)
    assert last.step == 2 * before - 1  # 45.5 batches make an epoch
    with pytest.raises(ConfigError, match="`beta`: got 2"):
        next(fit(Config(train=TrainConfig(beta=2.0)), load_dataset("digits"), out=tmp_path / "run", resume=True))
