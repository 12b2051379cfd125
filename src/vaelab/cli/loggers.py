"""`vaelab train --log`: the figures of a training in TensorBoard, MLflow or trackio.

All three write to local files, unless the user's own settings name a server (such as MLFLOW_TRACKING_URI). A logger is opened
before the training; one that fails later is left out with a note, and the training continues.
"""

from __future__ import annotations

import io
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, final

from vaelab.errors import ConfigError, shortened
from vaelab.run_folder import CONFIG

if TYPE_CHECKING:
    from vaelab.runs import Averages, Run
    from vaelab.training.fit import Progress

LoggerName = Literal["tensorboard", "mlflow", "trackio"]
"""The loggers, by the names of their modules."""

PACKAGES: dict[LoggerName, str] = {
    "tensorboard": "vaelab[tensorboard]",
    "mlflow": "vaelab[mlflow]",
    "trackio": "trackio",
}
"""What to install for each."""

PROJECT = "vaelab"
"""Name of the experiment of MLflow and of the project of trackio."""

EVERY = 2.0
"""Seconds between two records of the training figures; each validation is recorded."""


def expect_installed(names: Sequence[LoggerName]) -> None:
    """Raise a ConfigError for a logger that is not installed; nothing is imported."""
    for name in names:
        if find_spec(name) is None:
            raise ConfigError(f'`log`: {name} is not installed; install it with pip install "{PACKAGES[name]}"')


class Logger(Protocol):
    """Made with the run folder, and whether its training is resumed; both are known before the training starts."""

    where: str
    """How to see what was logged."""

    def start(self, parameters: dict[str, Any], step: int) -> None:
        """Record the configuration, at a step that is 0 unless the training is resumed."""
        ...

    def log(self, figures: dict[str, float], step: int) -> None:
        """Record figures by name."""
        ...

    def close(self, best: dict[str, float] | None, *, failed: bool) -> None:
        """Record the figures of the best weights; None if the training was stopped, or has `failed`."""
        ...


@final
class TensorBoard:
    """Event files in the folder `tensorboard` of the run."""

    def __init__(self, folder: Path, resume: bool) -> None:
        self.folder = folder / "tensorboard"
        self.where = f"tensorboard --logdir {folder}"
        self.parameters: dict[str, Any] = {}
        self.writer: Any = None

    def start(self, parameters: dict[str, Any], step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.parameters = parameters
        self.writer = SummaryWriter(str(self.folder), purge_step=step)  # steps after the checkpoint are hidden

    def log(self, figures: dict[str, float], step: int) -> None:
        for name, value in figures.items():
            self.writer.add_scalar(name, value, step)

    def close(self, best: dict[str, float] | None, *, failed: bool) -> None:
        if self.writer is None:
            return
        if best:
            self.writer.add_hparams(self.parameters, best, run_name=".")
        self.writer.close()
        if failed and not (self.folder.parent / CONFIG).exists():  # nothing was learned, and the run is removed
            shutil.rmtree(self.folder)
            with suppress(OSError):
                self.folder.parent.rmdir()


@final
class MLflow:
    """A run of MLflow, by default in mlflow.db of the current folder; a resumed training continues its own."""

    def __init__(self, folder: Path, resume: bool) -> None:
        os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"} | os.environ
        import mlflow

        uri = mlflow.get_tracking_uri()  # that of a server may have a password in it
        self.where = f"mlflow, in {uri}" if uri.startswith("sqlite:") else "mlflow, at the tracking URI that is set"
        self.client = client = mlflow.MlflowClient()
        name, self.name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT), str(folder)
        experiment = client.get_experiment_by_name(name)
        self.experiment = client.create_experiment(name) if experiment is None else experiment.experiment_id
        self.tags = {"vaelab.folder": str(folder.resolve())}
        runs = client.search_runs([self.experiment]) if resume else []
        self.run = next((run.info.run_id for run in runs if self.tags.items() <= run.data.tags.items()), None)

    def start(self, parameters: dict[str, Any], step: int) -> None:
        from mlflow.entities import Param

        if self.run is None:
            run = self.client.create_run(self.experiment, tags=self.tags, run_name=self.name)
            self.run = run.info.run_id
            self.client.log_batch(self.run, params=[Param(name, str(value)) for name, value in parameters.items()])
        else:
            self.client.update_run(self.run, status="RUNNING")

    def log(self, figures: dict[str, float], step: int) -> None:
        from mlflow.entities import Metric

        assert self.run is not None
        now = round(time.time() * 1000)
        self.client.log_batch(self.run, metrics=[Metric(name, value, now, step) for name, value in figures.items()])

    def close(self, best: dict[str, float] | None, *, failed: bool) -> None:
        if self.run is not None:
            self.client.set_terminated(self.run, "FAILED" if failed else "KILLED" if best is None else "FINISHED")


@final
class Trackio:
    """A run of trackio, in its folder in the user's cache; a resumed training continues its own."""

    def __init__(self, folder: Path, resume: bool) -> None:
        self.name, self.resume = str(folder), "allow" if resume else "never"
        self.where = f"trackio show --project {PROJECT}"
        self.trackio: Any = import_module("trackio")
        self.run: Any = None

    def start(self, parameters: dict[str, Any], step: int) -> None:
        with redirect_stdout(io.StringIO()):  # it prints several lines
            self.run = self.trackio.init(
                project=PROJECT,
                name=self.name,
                config=parameters,
                resume=self.resume,
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, figures: dict[str, float], step: int) -> None:
        self.run.log(figures, step=step)

    def close(self, best: dict[str, float] | None, *, failed: bool) -> None:
        if self.run is not None:
            with redirect_stdout(io.StringIO()):
                self.trackio.finish()


LOGGERS: dict[LoggerName, Callable[[Path, bool], Logger]] = {
    "tensorboard": TensorBoard,
    "mlflow": MLflow,
    "trackio": Trackio,
}


@final
class Log:
    """Hands the progress of a training to its loggers."""

    def __init__(self, loggers: dict[LoggerName, Logger], resume: bool) -> None:
        self.loggers, self.resume = loggers, resume
        self.validation: Averages | None = None
        self.recorded_at = -math.inf
        self.best: dict[str, float] | None = None

    def start(self, run: Run, progress: Progress) -> None:
        """Record the configuration of a run, whose training begins or is resumed, and the first progress."""
        from vaelab.progress import say

        if self.resume:
            self.validation = progress.validation  # recorded before
        self._each(lambda logger: logger.start(parameters(run), progress.step if self.resume else 0))
        for logger in self.loggers.values():
            say(f"log: {logger.where}")
        self.record(progress)

    def record(self, progress: Progress) -> None:
        """Record a progress, unless the last was recorded less than `EVERY` seconds before; each validation is recorded."""
        new = progress.validation is not self.validation
        if not (new or progress.finished or time.monotonic() - self.recorded_at >= EVERY):
            return
        figures = _named("train", progress.train)
        if progress.finished:
            self.best = _named("best", progress.validation)
            figures |= self.best
        elif new:
            figures |= _named("validation", progress.validation)
        figures |= {"learning_rate": progress.learning_rate, "epoch": progress.epoch, "seconds": progress.seconds}
        figures |= {"images_per_second": progress.images_per_second}
        finite = {name: value for name, value in figures.items() if math.isfinite(value)}
        self._each(lambda logger: logger.log(finite, progress.step))
        self.validation, self.recorded_at = progress.validation, time.monotonic()

    def close(self, *, failed: bool) -> None:
        """Close all loggers."""
        self._each(lambda logger: logger.close(self.best, failed=failed))

    def _each(self, work: Callable[[Logger], None]) -> None:
        """Do `work` for each logger; one that fails is left out from then on."""
        from vaelab.progress import say

        for name, logger in list(self.loggers.items()):
            try:
                work(logger)
            except Exception as error:  # packages of others raise errors of any kind
                del self.loggers[name]
                say(f"note: {name} has failed, and the training continues without it: {_short(error)}")


@contextmanager
def opened(names: Sequence[LoggerName], folder: Path, *, resume: bool) -> Iterator[Log]:
    """Open loggers, and close them at the end.

    Raises
    ------
    ConfigError
        If one cannot be opened, such as on a server that does not answer.
    """
    loggers: dict[LoggerName, Logger] = {}
    for name in dict.fromkeys(names):
        try:
            loggers[name] = LOGGERS[name](folder, resume)
        except Exception as error:  # packages of others raise errors of any kind
            raise ConfigError(f"`log`: {name} cannot be opened ({_short(error)}); check its settings") from error
    log, failed = Log(loggers, resume), False
    try:
        yield log
    except Exception:
        failed = True
        raise
    finally:
        log.close(failed=failed)


def parameters(run: Run) -> dict[str, Any]:
    """Return the configuration of a run and the facts of its data, by the names of the options."""
    values = asdict(run.config.model) | asdict(run.config.train)
    budget = values.pop("budget")
    values |= {budget["unit"]: budget["amount"], "source": run.data.source, "train_count": run.data.train_count}
    return values | {"data_fingerprint": run.data.fingerprint, "vaelab": run.versions["vaelab"]}


def _named(kind: str, averages: Averages | None) -> dict[str, float]:
    if averages is None:
        return {}
    return {f"{kind}/{name}": getattr(averages, name) for name in ("nats", "distortion", "rate")}


def _short(error: Exception) -> str:
    return shortened(" ".join(str(error).split()) or type(error).__name__, 200)
