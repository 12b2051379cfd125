"""`vaelab train --log` and the example of loggers: what they record, that they contact nobody, and what becomes of failures."""

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_network_use import addresses

from vaelab import runs
from vaelab.cli import loggers, main
from vaelab.cli.loggers import LOGGERS, expect_installed, opened
from vaelab.config import Config
from vaelab.data import Dataset
from vaelab.errors import ConfigError
from vaelab.training.fit import fit

EXAMPLE = Path(__file__).parents[1] / "examples" / "loggers.py"
TRACKIO = Path(sys.prefix) / "trackio" / "bin" / "python"
"""Python of an environment with trackio, which needs an older Pillow: `make test-slow` makes it."""


@pytest.fixture
def source(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """`tiny.npz` in the current folder, which is empty but for it."""
    monkeypatch.chdir(tmp_path)
    assert tiny.train.labels is not None
    np.savez("tiny.npz", images=tiny.train.images, labels=np.array(tiny.classes)[tiny.train.labels])
    return "tiny.npz"


def train(source: str, *words: str) -> None:
    with pytest.raises(SystemExit) as end:
        main(["train", source, "--device", "cpu", "--compile", "no", "--width", "8", "--out", "run", *words])
    if end.value.code:
        raise end.value


def status_and_line(capsys: pytest.CaptureFixture[str], work: Callable[[], None]) -> tuple[Any, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        work()
    return end.value.code, capsys.readouterr().err.splitlines()[-1]


def events(folder: Path) -> EventAccumulator:
    found = EventAccumulator(str(folder))
    found.Reload()
    return found


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # of MLflow's own queries
@pytest.mark.filterwarnings(
    "ignore:unclosed database", "ignore::pytest.PytestUnraisableExceptionWarning"
)  # and of its store
def test_a_training_and_its_continuation_are_one_run(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "tests")
    log = ["--log", "tensorboard", "--log", "mlflow"]
    train(source, "--epochs", "3", *log)
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    train(source, "--epochs", "6", "--resume", *log)

    found = events(Path("run/tensorboard"))
    names = {f"{kind}/{name}" for kind in ("train", "validation", "best") for name in ("nats", "distortion", "rate")}
    names |= {"learning_rate", "epoch", "seconds", "images_per_second"}
    assert names <= set(found.Tags()["scalars"])
    lines = runs.read_metrics(runs.open_run(Path("run")))
    logged = {line["step"]: line["validation"]["nats"] for line in lines}
    validations = found.Scalars("validation/nats")
    assert len(validations) >= 3
    for event in validations:
        assert event.value == pytest.approx(logged[event.step], rel=1e-6)

    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("tests")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert names <= set(run.data.metrics)
    assert run.data.metrics["best/nats"] == pytest.approx(min(logged.values()))
    assert run.data.params["source"] == "tiny"
    assert run.data.params["epochs"] == "3"
    history = client.get_metric_history(run.info.run_id, "validation/nats")
    assert {each.step for each in history} == {each.step for each in validations}
    gc.collect()  # closes the store here, and not in a later test


def test_a_logger_that_is_not_installed_is_refused_before_anything_is_read(
    source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    Path(source).unlink()
    status, line = status_and_line(capsys, lambda: train(source, "--log", "mlflow"))
    assert (status, line) == (
        2,
        'vaelab: --log: mlflow is not installed; install it with pip install "vaelab[mlflow]"',
    )
    assert list(Path().iterdir()) == []


def test_an_unknown_logger_is_refused(source: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, line = status_and_line(capsys, lambda: train(source, "--log", "paper"))
    assert status == 2
    assert "--log" in line
    assert "tensorboard" in line


def test_a_logger_that_cannot_be_opened_stops_before_a_run_is_written(
    source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreachable(folder: Path, resume: bool) -> Any:
        raise OSError("no answer\nfrom the server")

    monkeypatch.setitem(LOGGERS, "tensorboard", unreachable)
    status, line = status_and_line(capsys, lambda: train(source, "--log", "tensorboard"))
    assert status == 2
    assert line == "vaelab: --log: tensorboard cannot be opened (no answer from the server); check its settings"
    assert not Path("run").exists()


def test_a_configuration_that_is_refused_opens_no_logger(
    source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[Path] = []
    monkeypatch.setitem(LOGGERS, "tensorboard", lambda folder, resume: made.append(folder))
    status, line = status_and_line(
        capsys, lambda: train(source, "--log", "tensorboard", "--likelihood", "colour-logistic")
    )
    assert status == 2
    assert line.startswith("vaelab: --likelihood: got colour-logistic"), line
    assert made == []


class Failing:
    """A logger that takes `most` records, and then fails."""

    where = "nowhere"

    def __init__(self, most: int) -> None:
        self.left, self.closed = most, False

    def start(self, parameters: dict[str, Any], step: int) -> None:
        assert (parameters["model"], parameters["epochs"], step) == ("cvae", 3, 0)

    def log(self, figures: dict[str, float], step: int) -> None:
        self.left -= 1
        if self.left < 0:
            raise RuntimeError("the server is gone")

    def close(self, best: dict[str, float] | None, *, failed: bool) -> None:
        self.closed = True


def test_a_logger_that_fails_is_left_out_and_the_training_continues(
    source: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing, whole = Failing(1), Failing(1000)
    monkeypatch.setitem(LOGGERS, "mlflow", lambda folder, resume: failing)
    monkeypatch.setitem(LOGGERS, "tensorboard", lambda folder, resume: whole)
    train(source, "--epochs", "3", "--log", "mlflow", "--log", "tensorboard")
    said = capsys.readouterr().err
    assert said.count("note: mlflow has failed, and the training continues without it: the server is gone") == 1
    assert whole.left < 999
    assert (failing.closed, whole.closed) == (False, True)
    assert Path("run/model.safetensors").exists()


def test_a_training_that_is_stopped_or_fails_is_closed(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    def stop(folder: Path, error: type[BaseException], *, removed: bool = False) -> None:
        training = fit(tiny_config, tiny, out=folder)
        with opened(["tensorboard"], folder, resume=False) as log:
            progress = next(training)
            log.start(runs.open_run(folder), progress)
            training.close()
            if removed:  # as that of a training that has learned nothing
                for path in folder.glob("*.*"):
                    path.unlink()
            raise error

    with pytest.raises(KeyboardInterrupt):
        stop(tmp_path / "stopped", KeyboardInterrupt)
    scalars = events(tmp_path / "stopped" / "tensorboard").Tags()["scalars"]
    assert "train/nats" in scalars
    assert "best/nats" not in scalars
    with pytest.raises(RuntimeError):
        stop(tmp_path / "removed", RuntimeError, removed=True)
    assert not (tmp_path / "removed").exists()
    with pytest.raises(ConfigError), opened(["tensorboard"], tmp_path / "new", resume=False):
        raise ConfigError("before the run is written")
    assert not (tmp_path / "new").exists()


def test_installed_loggers_are_accepted() -> None:
    expect_installed(["tensorboard", "mlflow"])


def traced(python: Path | str, folder: Path, *words: str) -> None:
    """Run a program, which must contact nobody."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "WANDB_"))}
    environment |= {"HOME": str(folder / "home"), "TRACKIO_DIR": str(folder / "trackio"), "OMP_NUM_THREADS": "1"}
    trace = folder / "trace"
    tracer = ["strace", "-f", "-qq", "-e", "trace=network", "-o", str(trace)] if shutil.which("strace") else []
    done = subprocess.run(
        [*tracer, str(python), *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    if tracer:
        assert addresses(trace.read_text()) == []


PYTHONS = {"tensorboard": sys.executable, "mlflow": sys.executable, "wandb": sys.executable, "trackio": TRACKIO}


@pytest.mark.slow
@pytest.mark.parametrize("name", PYTHONS)
def test_the_example_and_the_command_write_local_files_only(source: str, tmp_path: Path, name: str) -> None:
    if not Path(PYTHONS[name]).exists():
        pytest.skip("needs the environment of trackio: make test-slow")
    traced(PYTHONS[name], tmp_path, str(EXAMPLE), name, "--source", source, "--epochs", "3")
    left = {"tensorboard": "logs/events*", "mlflow": "mlflow.db", "wandb": "wandb/offline-run-*/*.wandb"}
    assert list(tmp_path.glob(left.get(name, "trackio/*.db")))
    if name == "wandb":
        return
    words = ["train", source, "--epochs", "3", "--compile", "no", "--out", "run", "--log", name]
    traced(PYTHONS[name], tmp_path, "-m", "vaelab", *words)
    if name == "trackio":
        traced(TRACKIO, tmp_path, "-m", "vaelab", *[*words[:3], "6", *words[4:]], "--resume")
        query = "from trackio import Api; print([r.name for r in Api().runs('vaelab')])"
        environment = os.environ | {"TRACKIO_DIR": str(tmp_path / "trackio")}
        found = subprocess.run([TRACKIO, "-c", query], env=environment, capture_output=True, text=True, check=True)
        assert found.stdout.count("'run'") == 1, found.stdout  # the continued training is the same run
