"""Run folders: what was written comes back; what was altered, cut short or is of another version is found."""

import json
from pathlib import Path

import pytest
import torch

from vaelab import runs
from vaelab.config import Config
from vaelab.data import Dataset
from vaelab.errors import RunError, RunWarning
from vaelab.inference.trained import load
from vaelab.training.fit import fit
from vaelab.training.resolve import resolve


@pytest.fixture
def run(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> runs.Run:
    for _ in fit(tiny_config, tiny, out=tmp_path / "run"):
        pass
    return runs.open_run(tmp_path / "run")


def test_a_run_comes_back(run: runs.Run, tiny: Dataset, tiny_config: Config) -> None:
    assert run.config == resolve(tiny_config, tiny)
    assert run.data == runs.DataCard.of(tiny)
    assert run.data.classes == ("across", "down", "frame")
    assert set(run.versions) == {"vaelab", "torch", "numpy", "python"}
    model = runs.load_model(run)
    assert not model.training
    assert runs.weight_facts(run).keys() == {"step", "distortion", "rate", "axes"}
    assert (run.folder / runs.RESUME).read_bytes()[8:9] == b"{"  # safetensors, no pickle


def edit(path: Path, **changes: object) -> None:
    values = json.loads(path.read_text())
    path.write_text(json.dumps(values | changes))


def test_a_missing_run_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"none: no such folder; expected a run folder, as vaelab train writes"):
        load(tmp_path / "none")
    with pytest.raises(RunError, match=r"no config\.json in it"):
        load(tmp_path)


def test_a_half_written_run_is_said(run: runs.Run) -> None:
    (run.folder / runs.WEIGHTS).unlink()
    with pytest.raises(RunError, match=r"no weights yet.*expected model\.safetensors in it"):
        load(run.folder)
    (run.folder / runs.RESUME).unlink()
    with pytest.raises(RunError, match="stopped before the first save: train again"):
        runs.load_resume(run)


@pytest.mark.parametrize("name", [runs.WEIGHTS, runs.RESUME])
def test_weights_cut_short_are_found(run: runs.Run, name: str) -> None:
    path = run.folder / name
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RunError, match="damaged or truncated"):
        load(run.folder) if name == runs.WEIGHTS else runs.load_resume(run)


@pytest.mark.parametrize("name", [runs.WEIGHTS, runs.RESUME])
def test_one_altered_byte_of_the_weights_is_found(run: runs.Run, name: str) -> None:
    path = run.folder / name
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(RunError, match="changed or damaged"):
        load(run.folder) if name == runs.WEIGHTS else runs.load_resume(run)


def test_an_altered_config_is_found(run: runs.Run) -> None:
    path = run.folder / runs.CONFIG
    path.write_text(path.read_text().replace('"across"', '"ACROSS"'))
    with pytest.raises(RunError, match="changed since the weights were saved"):
        load(run.folder)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"format": 1}', '{"format": 1, "model": {"latent_dim": -1}, "train": {}, "data": {}}'],
)
def test_a_config_that_is_none_is_said(run: runs.Run, text: str) -> None:
    (run.folder / runs.CONFIG).write_text(text)
    with pytest.raises(RunError, match="changed or damaged"):
        load(run.folder)


def test_a_newer_format_is_said(run: runs.Run) -> None:
    edit(run.folder / runs.CONFIG, format=99)
    with pytest.raises(
        RunError, match=r"got a run of format 99; this vaelab reads up to 2: pip install --upgrade vaelab$"
    ):
        load(run.folder)


def test_weights_of_another_shape_are_found(run: runs.Run) -> None:
    model = runs.load_model(run)
    weights = dict(model.state_dict()) | {"head.bias": torch.zeros(99)}
    runs.save_weights(run, weights, {"step": 1})
    with pytest.raises(RunError, match=r"its weights do not fit config\.json"):
        load(run.folder)


def test_metrics_cut_short_in_the_last_line_are_read(run: runs.Run) -> None:
    path = run.folder / runs.METRICS
    lines = runs.read_metrics(run)
    path.write_text(path.read_text() + '{"step": 12')
    assert runs.read_metrics(run) == lines
    assert runs.keep_metrics(run, {"step": lines[0]["step"]}) == 1
    with pytest.warns(RunWarning, match="2 missing"):
        assert runs.read_metrics(run) == lines[:1]
