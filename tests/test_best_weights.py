"""What a training says about its best weights."""

from pathlib import Path
from typing import Any

import pytest

from vaelab import runs
from vaelab.cli.best_weights import best_weights_lines, overfitted
from vaelab.config import Config
from vaelab.data import Dataset
from vaelab.training.fit import fit


def lines_of(validation: list[float], train: list[float]) -> list[dict[str, Any]]:
    return [
        {
            "step": 10 * number,
            "epoch": float(number),
            "train": {"distortion": trained - 10, "rate": 10.0, "nats": trained},
            "validation": {"distortion": checked - 10, "rate": 10.0, "nats": checked},
        }
        for number, (checked, trained) in enumerate(zip(validation, train, strict=True), 1)
    ]


@pytest.mark.parametrize(
    ("validation", "train", "found"),
    [
        ([90, 92, 94, 96], [88, 86, 84, 82], True),
        ([90, 92, 94, 96], [88, 88, 89, 90], False),  # that is no overfitting: the training images fare worse too
        ([90, 90.05, 90.1, 90.02], [88, 86, 84, 82], False),  # within the noise
        ([90, 95, 96], [88, 86, 84], False),  # too soon to tell
        ([90], [88], False),
    ],
)
def test_overfitting_is_a_validation_that_rises_while_training_falls(
    validation: list[float], train: list[float], found: bool
) -> None:
    told = overfitted(lines_of(validation, train), 1.0)
    assert bool(told) == found
    assert not found or "from 90.0 to 96.0 nats" in told


@pytest.fixture
def run(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> runs.Run:
    for _ in fit(tiny_config, tiny, out=tmp_path / "run"):
        pass
    return runs.open_run(tmp_path / "run")


def test_the_epoch_of_the_saved_weights_is_said(run: runs.Run, monkeypatch: pytest.MonkeyPatch) -> None:
    step = runs.weight_facts(run)["step"]
    (line,) = best_weights_lines(run, None)
    validated = {one["step"]: one["epoch"] for one in runs.read_metrics(run)}
    assert line.startswith(
        f"best at epoch {validated[step]:.1f} of {max(validated.values()):.1f}; those weights are saved"
    )
    (resumed,) = best_weights_lines(run, step)
    assert resumed.startswith("no better weights since the training was resumed: best at epoch")
    (better,) = best_weights_lines(run, step - 1)
    assert better == line
    lines = lines_of([95, 90, 92, 94, 96], [95, 88, 86, 84, 82])
    monkeypatch.setattr(runs, "read_metrics", lambda _: lines)
    monkeypatch.setattr(runs, "weight_facts", lambda _: {"step": 20})
    (line,) = best_weights_lines(run, None)
    assert line.startswith("best at epoch 2.0 of 5.0; those weights are saved; since then, ")
    assert "overfitting" in line
    monkeypatch.setattr(runs, "weight_facts", lambda _: {"step": 0})
    assert list(best_weights_lines(run, None)) == []
