"""Kill trainings with SIGKILL, many of them within saves, resume them, and compare with one that was left alone.

    python benchmarks/soak/kills.py [--count 100]

Each training runs in a process of its own and is killed once, at a point that is chosen beforehand: while a file is half-written,
before or after it is flushed, moved or linked, within a line of the log, or after a step. What it leaves is resumed, in another
process. The result must have the same weights and state to the bit, and the same log except for what depends on the clock.
A training that is killed before it has written `config.json` is begun again by the same command.

Needs `fork`; exits with status 1 if one differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vaelab import runs
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data import Dataset, Split
from vaelab.runs import recorder, tensors
from vaelab.training import loop, trainer
from vaelab.training.fit import fit

STEPS_BETWEEN_SAVES = 3
CLOCK = ("seconds", "images_per_second")  # of a line of the log
CLOCK_FACTS = ("seconds", "closing", "fraction", "budget")  # of a checkpoint


def training_data() -> Dataset:
    """A small data set: 90 images of random pixels to train on."""
    images = np.random.default_rng(0).integers(0, 256, (120, 1, 6, 6), dtype=np.uint8)
    return Dataset("noise", Split(images[:90]), Split(images[90:]), Split(images[:0]))


CONFIG = Config(
    ModelConfig(model="vae", network="mlp", latent_dim=2, likelihood="bernoulli", width=8, depth=1),
    TrainConfig(epochs=6, batch_size=20, device="cpu", compile="no", precision="float32", checkpoint_every=1e-9),
)


@dataclass
class Points:
    """Counts the points at which a training can be killed, and kills it at the `last`-th of a kind."""

    log: Path | None = None
    """File for the kinds of all points in order."""

    last: int = 0
    passed: list[str] = field(default_factory=list)
    saves: int = 0

    def pass_(self, kind: str, damage: Callable[[], object] = lambda: None) -> None:
        """Pass a point; if it is the last one, do some damage and die."""
        where = "first save" if self.saves <= 1 and kind != "step" else "a save" if kind != "step" else "a step"
        self.passed.append(f"{where}: {kind}")
        if self.log is not None:
            self.log.write_text(json.dumps(self.passed))
        if len(self.passed) == self.last:
            damage()
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Let everything that a training writes pass points."""
        save_file, fsync, move, link = tensors.save_file, os.fsync, Path.replace, Path.hardlink_to
        take, save = trainer.Trainer.take_step, loop.Loop._save
        append = recorder.append_metrics

        def half(path: Path, content: bytes) -> None:
            with Path(path).open("ab") as file:
                file.write(content)

        def saving_file(whole: Any, path: Path, metadata: Any) -> None:
            save_file(whole, path, metadata)
            content = Path(path).read_bytes()
            self.pass_("half a file", lambda: Path(path).write_bytes(content[: len(content) // 2]))

        def flushing(handle: int) -> None:
            self.pass_("before a flush")
            fsync(handle)

        def moving(path: Path, target: Path) -> Path:
            self.pass_("before a move")
            moved = move(path, target)
            self.pass_("after a move")
            return moved

        def linking(path: Path, target: Path) -> None:
            self.pass_("before a link")
            link(path, target)

        def appending(run: runs.Run, line: Any, number: int) -> None:
            self.pass_("half a line", lambda: half(run.folder / runs.METRICS, b'{"step": 1'))
            append(run, line, number)

        def stepping(it: trainer.Trainer, fraction: float) -> None:
            take(it, fraction)
            self.pass_("step")

        def saving(it: loop.Loop) -> None:
            if it.trainer.step % STEPS_BETWEEN_SAVES == 0:
                self.saves += 1
                save(it)

        tensors.save_file, os.fsync, recorder.append_metrics = saving_file, flushing, appending
        Path.replace, Path.hardlink_to = moving, linking  # type: ignore[method-assign]
        trainer.Trainer.take_step, loop.Loop._save = stepping, saving  # type: ignore[method-assign]
        loop.PROGRESS_EVERY = 0.0


def in_process(work: Callable[[], object]) -> int:
    """Do some work in a child process, and return its status as `os.waitstatus_to_exitcode` does."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def train(folder: Path, points: Points, *, resume: bool = False) -> None:
    """Train into a folder, or resume a run."""
    torch.set_num_threads(1)
    points.install()
    for _ in fit(Config() if resume else CONFIG, training_data(), out=folder, resume=resume):
        pass


def result(folder: Path) -> dict[str, Any]:
    """What a training leaves, without what depends on the clock."""
    run = runs.open_run(folder)
    state, facts = runs.load_resume(run)
    return {
        "weights": (folder / runs.WEIGHTS).read_bytes(),
        "state": tensors.digest_of(state),
        "facts": {name: value for name, value in facts.items() if name not in CLOCK_FACTS},
        "log": [{name: value for name, value in line.items() if name not in CLOCK} for line in runs.read_metrics(run)],
        "left over": sorted(path.name for path in folder.rglob(".vaelab-*")),
    }


def chosen(points: list[str], count: int) -> list[int]:
    """Return `count` numbers of points from 1 on: a quarter in the first save, a half in later ones, the others after steps."""
    rng = random.Random(0)
    numbers: list[int] = []
    for where, share in (
        ("first save", count // 4),
        ("a save", count // 2),
        ("a step", count - count // 4 - count // 2),
    ):
        of_this = [number for number, point in enumerate(points, 1) if point.startswith(where)]
        while len(of_this) < share:
            of_this += of_this
        numbers += rng.sample(of_this, share)
    return numbers


def kill_and_resume(folder: Path, number: int, expected: dict[str, Any]) -> str:
    """Kill a training at a point, resume it, and return what differs from `expected`, or an empty text."""
    status = in_process(lambda: train(folder, Points(last=number)))
    if status != -signal.SIGKILL:
        return f"was not killed, but ended with status {status}"
    resume = (folder / "config.json").exists()
    if status := in_process(lambda: train(folder, Points(), resume=resume)):
        return f"resuming ended with status {status}"
    found = result(folder)
    return ", ".join(name for name in expected if found[name] != expected[name])


def soak(count: int) -> bool:
    """Kill `count` trainings, print the figures, and return whether all were resumed to the bit."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        log = place / "points.json"
        if in_process(lambda: train(place / "whole", Points(log=log))):
            print("the training that is left alone failed")
            return False
        expected, points = result(place / "whole"), json.loads(log.read_text())
        killed, failed = Counter[str](), []
        for number in chosen(points, count):
            killed[points[number - 1].partition(":")[0]] += 1
            if difference := kill_and_resume(place / "killed", number, expected):
                failed.append(f"point {number} ({points[number - 1]}): {difference}")
            shutil.rmtree(place / "killed")
    print(f"{len(points)} points; killed at {count}: " + ", ".join(f"{n} in {where}" for where, n in killed.items()))
    print(f"resumed to the bit, with the same log: {count - len(failed)} of {count}")
    print(*failed, sep="\n", end="\n" if failed else "")
    return not failed


def main() -> None:
    """Run the soak."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100, help="trainings to kill (default: 100)")
    raise SystemExit(not soak(parser.parse_args().count))


if __name__ == "__main__":
    main()
