"""Commands of several processes, started by `--processes` and by torchrun: the same weights, one message, a prompt end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vaelab import runs

pytestmark = pytest.mark.slow

VAELAB = (sys.executable, "-m", "vaelab")
TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
TRAIN = (
    "train",
    "strokes",
    "--limit",
    "1280",
    "--batch-size",
    "64",
    "--seed",
    "3",
    "--width",
    "64",
    "--compile",
    "no",
    "--precision",
    "float32",
)
ENOUGH = 120  # seconds for a command, on a slow machine


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(words, capture_output=True, text=True, env=environment(), timeout=ENOUGH, check=False)


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1"}


def weights(out: Path) -> dict[str, Tensor]:
    return load_file(out / "resume.safetensors")


def wait_for_step(out: Path, step: int) -> None:
    """Wait until a training has saved a checkpoint of this step, or a later one."""
    end = time.monotonic() + ENOUGH
    while (
        not (out / runs.WEIGHTS).exists() or (runs.resume_facts(runs.open_run(out)) or runs.NOTHING_DONE)["step"] < step
    ):
        assert time.monotonic() < end
        time.sleep(0.02)


def process_of_rank(rank: int, out: Path) -> int:
    """Return the number of the process of this rank that trains into `out`."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words, facts = (folder / "cmdline").read_text(), (folder / "environ").read_text()
            except OSError:
                continue
            if str(out) in words and f"\0RANK={rank}\0" in facts:
                return int(folder.name)
    raise ProcessLookupError(rank)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes, of 20 epochs."""
    out = tmp_path_factory.mktemp("several") / "undisturbed"
    done = command(*VAELAB, *TRAIN, "--epochs", "20", "--processes", "2", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("weights saved after") == 1
    assert (out / "figures" / "grid.png").is_file()
    return out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--processes", "2", "--batch-size", "1"), "vaelab: --batch-size: got 1 for 2 processes; expected"),
        (("--processes", "2", "--latent-dim", "0"), "vaelab: --latent-dim: got 0; expected"),
        (("--processes", "2", "--no-such-option"), "vaelab: Unknown option"),
        (("--processes", "0"), "vaelab: --processes: got 0; expected 1 to"),
        (("--processes", "1000"), "vaelab: --processes: got 1000; expected 1 to"),
    ],
)
def test_a_mistake_is_one_message(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = command(*VAELAB, "train", "strokes", *options, "--out", str(tmp_path / "run"))
    assert done.returncode == 2
    assert [
        line for line in done.stderr.splitlines() if line != "importing PyTorch" and not line.startswith("note: ")
    ] == [next(line for line in done.stderr.splitlines() if line.startswith(message))]
    assert not (tmp_path / "run").exists()


def test_the_number_of_processes_may_change_when_a_run_is_resumed(undisturbed: Path, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "run"))
    for words in (
        ("--epochs", "5"),
        ("--epochs", "13", "--processes", "2", "--resume"),
        ("--epochs", "20", "--resume"),
    ):
        done = command(*VAELAB, *(TRAIN if "--resume" not in words else TRAIN[:4]), *words, *out)
        assert done.returncode == 0, done.stderr
    whole = tmp_path / "whole"
    for epochs in (5, 13, 20):  # the schedule follows the budget, so it is extended in the same way
        resume = ("--resume",) if epochs > 5 else ()
        words = TRAIN[:4] if resume else TRAIN
        assert command(*VAELAB, *words, "--epochs", str(epochs), "--out", str(whole), *resume).returncode == 0
    for name, tensor in weights(whole).items():
        if name.startswith("model.") and tensor.is_floating_point():
            assert (weights(tmp_path / "run")[name] - tensor).norm() <= 1e-5 * tensor.norm(), name


def test_a_process_that_dies_is_started_again_and_nothing_changes(undisturbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = [*TORCHRUN, "--max-restarts=1", "-m", "vaelab", *TRAIN, "--epochs", "20", "--checkpoint-every", "0.2"]
    with subprocess.Popen([*words, "--out", str(out)], stderr=subprocess.PIPE, text=True, env=environment()) as run:
        wait_for_step(out, 100)
        os.kill(process_of_rank(1, out), signal.SIGKILL)
        _, messages = run.communicate(timeout=ENOUGH)
    assert run.returncode == 0, messages
    assert "stopped at step" in messages
    expected = weights(undisturbed)
    assert all(
        torch.equal(tensor, expected[name]) for name, tensor in weights(out).items() if name.startswith("model.")
    )


def test_if_a_process_dies_the_others_save_and_end(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = [*VAELAB, *TRAIN, "--epochs", "100000", "--checkpoint-every", "0.2", "--processes", "2", "--out", str(out)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment()) as run:
        wait_for_step(out, 1)
        os.kill(process_of_rank(1, out), signal.SIGKILL)
        began = time.monotonic()
        _, messages = run.communicate(timeout=ENOUGH)
    assert time.monotonic() - began < 30
    assert run.returncode == 128 + signal.SIGKILL
    assert "stopped at step" in messages
    assert messages.count("another process has ended without a message") <= 1
    assert "Traceback" not in messages
    assert runs.load_resume(runs.open_run(out))[1]["step"] > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_all_after_the_same_step_and_saves(number: signal.Signals, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = [*VAELAB, *TRAIN, "--epochs", "100000", "--checkpoint-every", "0.2", "--processes", "2", "--out", str(out)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=environment()) as run:
        wait_for_step(out, 1)
        run.send_signal(number)
        _, messages = run.communicate(timeout=ENOUGH)
    assert run.returncode == 128 + number
    assert "stopped at step" in messages
    assert "--resume" in messages
    assert "another process" not in messages
    assert "Traceback" not in messages


def test_a_training_that_torchrun_may_restart_needs_a_folder() -> None:
    done = command(*TORCHRUN, "--max-restarts=1", "-m", "vaelab", *TRAIN)
    assert done.returncode != 0
    assert "--out: got nothing with --max-restarts of torchrun" in done.stderr


def test_a_command_of_one_process_is_refused_by_torchrun(undisturbed: Path) -> None:
    done = command(*TORCHRUN, "-m", "vaelab", "export", str(undisturbed), "--out", "x")
    assert done.returncode != 0
    assert "vaelab: export: got started by torchrun in several processes; expected one" in done.stderr
