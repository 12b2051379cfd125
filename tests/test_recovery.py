"""What a killed, interrupted or damaged training loses: nothing that was saved, and nothing in silence."""

import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from vaelab import VAE, runs
from vaelab.cli import main
from vaelab.config import Config, TrainConfig
from vaelab.data import Dataset
from vaelab.errors import OutputError, RunError, RunWarning
from vaelab.interruption import Signals, uninterrupted
from vaelab.optim.step import PlainRunner
from vaelab.run_lock import LOCK, locked
from vaelab.runs import recorder, tensors
from vaelab.training import loop, trainer
from vaelab.training.fit import Progress, fit
from vaelab.training.validation import Validator

POSIX = pytest.mark.skipif(os.name == "nt", reason="needs the signals and locks of POSIX")


def with_train(config: Config, **changes: object) -> Config:
    return replace(config, train=replace(config.train, **changes))


def run_through(config: Config, dataset: Dataset, **options: object) -> Progress:
    *_, last = fit(config, dataset, **options)  # type: ignore[arg-type]
    return last


def log_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of the log, without what depends on the clock."""
    clock = ("seconds", "images_per_second")
    lines = runs.read_metrics(runs.open_run(folder))
    return [{name: value for name, value in line.items() if name not in clock} for line in lines]


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress, and with `checkpoint_every` a checkpoint, after every step."""
    monkeypatch.setattr(loop, "PROGRESS_EVERY", 0.0)


@pytest.fixture
def stopped(tiny: Dataset, tiny_config: Config, tmp_path: Path, every_step: None) -> Path:
    """A run that was stopped after its 9th step, with a checkpoint of every step."""
    for state in fit(with_train(tiny_config, checkpoint_every=1e-9), tiny, out=tmp_path / "stopped"):
        if state.step == 9:
            break
    return tmp_path / "stopped"


def flip(path: Path, at: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


# Digests


def test_every_byte_of_the_facts_is_covered(stopped: Path) -> None:
    run, path = runs.open_run(stopped), stopped / runs.RESUME
    shutil.rmtree(stopped / runs.PREVIOUS)
    whole = path.read_bytes()
    first = whole.index(b'\\"step\\":')
    assert runs.resume_facts(run) is not None
    for at in range(first, first + 60):
        flip(path, at)
        assert runs.resume_facts(run) is None, whole[at : at + 1]
        with pytest.raises(RunError, match=r"resume\.safetensors: .*damaged"):
            runs.load_resume(run)
        path.write_bytes(whole)


@pytest.mark.parametrize("entry", [b'"sha256":', b'"tensors_sha256":', b'"facts":'])
@pytest.mark.parametrize("name", [runs.WEIGHTS, runs.RESUME])
def test_the_names_of_the_digests_are_covered(stopped: Path, name: str, entry: bytes) -> None:
    """A file whose digest has another name is no file of an earlier version."""
    shutil.rmtree(stopped / runs.PREVIOUS)
    flip(stopped / name, (stopped / name).read_bytes().index(entry) + 2)
    with pytest.raises(RunError, match="damaged"):
        (runs.load_model if name == runs.WEIGHTS else runs.load_resume)(runs.open_run(stopped))


def test_equal_commands_write_equal_bytes(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        run_through(tiny_config, tiny, out=tmp_path / name)
    contents = [(tmp_path / name / runs.WEIGHTS).read_bytes() for name in ("one", "two", "three")]
    assert contents[0] == contents[1] == contents[2]
    header = contents[0][8 : 8 + int.from_bytes(contents[0][:8], "little")]
    names = list(json.loads(header)["__metadata__"])
    assert names == sorted(names)
    assert {"format", "facts", "sha256", "tensors_sha256", "config_sha256"} == set(names)
    assert (
        load_file(tmp_path / "one" / runs.WEIGHTS).keys()
        == runs.load_model(runs.open_run(tmp_path / "one")).state_dict().keys()
    )


def test_a_sorted_header_is_read_again_whatever_the_names(tmp_path: Path) -> None:
    whole = {name: torch.arange(3.0) for name in ('a"\\', "ä\n", "\x7f\x01", "b" * 40)}
    tensors.save_tensors(tmp_path / "x.safetensors", whole, {"facts": '{"ü": "\\n"}'})
    found, metadata = tensors.load_tensors(tmp_path / "x.safetensors", "")
    assert all(torch.equal(found[name], value) for name, value in whole.items())
    assert metadata["facts"] == '{"ü": "\\n"}'


# The log


def damaged_log(lines: list[str], kind: str) -> list[str]:
    damages = {
        "damaged": [lines[0], lines[1].replace("1", "2", 1), *lines[2:]],
        "missing": [lines[0], *lines[2:]],
        "cut": lines[:-1],
        "half": [*lines[:-1], lines[-1][:40]],
        "repeated": [lines[0], *lines],
        "empty": [],
        "unchecked": [lines[0], lines[1].partition(', "line"')[0] + "}", *lines[2:]],
    }
    return damages[kind]


@pytest.mark.parametrize(
    ("kind", "told", "left"),
    [
        ("damaged", "1 damaged", 2),
        ("missing", "1 missing", 2),
        ("cut", "1 missing", 2),
        ("half", "1 missing", 2),
        ("repeated", "1 repeated", 3),
        ("empty", "3 missing", 0),
        ("unchecked", "1 damaged", 2),
    ],
)
def test_damage_to_the_log_is_told_and_left_out(
    tiny: Dataset, tiny_config: Config, tmp_path: Path, kind: str, told: str, left: int
) -> None:
    run_through(tiny_config, tiny, out=tmp_path / "run")
    run, path = runs.open_run(tmp_path / "run"), tmp_path / "run" / runs.METRICS
    whole = runs.read_metrics(run)
    text = "\n".join(damaged_log(path.read_text().splitlines(), kind))
    path.write_text(text + "\n" * (kind != "half" and text != ""))
    with pytest.warns(RunWarning, match=rf"metrics\.jsonl: of its lines {told}; ") as caught:
        lines = runs.read_metrics(run)
    assert len(caught) == 1
    assert len(lines) == left
    assert all(line in whole for line in lines)
    with pytest.warns(RunWarning, match=told):
        run_through(Config(train=TrainConfig(epochs=4)), tiny, out=tmp_path / "run", resume=True)
    assert len(runs.read_metrics(run)) == left + 1  # in order again


@pytest.mark.parametrize(
    "body", ["[1]", '{"step": 1}', '{"step": 1, "epoch": 1, "seconds": 1, "line": "x"}', '{"a": ' + "[" * 50_000 + "1}"]
)
def test_a_forged_line_of_the_log_is_left_out(tiny: Dataset, tiny_config: Config, tmp_path: Path, body: str) -> None:
    """Its author can compute the check value, but it is no line of a training."""
    for _ in fit(tiny_config, tiny, out=tmp_path / "run"):
        pass
    run = runs.open_run(tmp_path / "run")
    kept, check = runs.read_metrics(run), hashlib.sha256(body.encode()).hexdigest()[:16]
    with (run.folder / runs.METRICS).open("a", encoding="utf-8") as file:
        file.write(f'{body[:-1]}, "check": "{check}"}}\n')
    with pytest.warns(RunWarning, match="1 damaged"):
        assert runs.read_metrics(run) == kept


def test_a_line_that_is_being_written_is_no_damage(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    run_through(tiny_config, tiny, out=tmp_path / "run")
    run, path = runs.open_run(tmp_path / "run"), tmp_path / "run" / runs.METRICS
    lines = runs.read_metrics(run)
    path.write_text(path.read_text() + '{"step": 12')
    assert runs.read_metrics(run) == lines


@pytest.mark.parametrize("stop", [1, 7, 12, 13])
@pytest.mark.usefixtures("every_step")
def test_the_log_of_a_resumed_training_is_that_of_a_whole_one(
    tiny: Dataset, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """To the last digit, also where the sums of the next line had been read, and added up in parts."""
    monkeypatch.setattr(trainer, "ADD_EVERY", 3)
    config = with_train(tiny_config, epochs=5)
    monkeypatch.setattr(loop, "PROGRESS_EVERY", 1e9)
    whole = run_through(config, tiny, out=tmp_path / "whole")
    monkeypatch.setattr(loop, "PROGRESS_EVERY", 0.0)
    training = fit(config, tiny, out=tmp_path / "parts")
    state = next(each for each in training if each.step == stop)
    training.close()
    resumed = fit(Config(), tiny, out=tmp_path / "parts", resume=True)
    first = next(resumed)
    *_, last = resumed
    assert state.validation == first.validation or first.step > stop
    assert log_of(tmp_path / "parts") == log_of(tmp_path / "whole")
    assert len(log_of(tmp_path / "whole")) == 5
    assert (last.validation, last.skipped) == (whole.validation, whole.skipped)
    assert (tmp_path / "parts" / runs.WEIGHTS).read_bytes() == (tmp_path / "whole" / runs.WEIGHTS).read_bytes()


# The checkpoint before the last


@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_the_checkpoint_before_is_used_if_the_last_is_damaged(
    tiny: Dataset, tiny_config: Config, stopped: Path, tmp_path: Path, damage: str
) -> None:
    run_through(with_train(tiny_config, checkpoint_every=1e-9), tiny, out=tmp_path / "whole")
    run = runs.open_run(stopped)
    for name in (runs.WEIGHTS, runs.RESUME):
        path = stopped / name
        if damage == "flip":
            flip(path, -5)
        elif damage == "cut":
            path.write_bytes(path.read_bytes()[:-50])
        else:
            path.unlink()
    what = "missing" if damage == "gone" else "damaged"
    with pytest.warns(RunWarning, match=rf"model\.safetensors: {what}; .*before it, of step \d"):
        runs.load_model(run)
    with pytest.warns(RunWarning, match=rf"resume\.safetensors: {what}; .*before it, of step [89]$"):
        run_through(Config(), tiny, out=stopped, resume=True)
    assert log_of(stopped) == log_of(tmp_path / "whole")
    assert (stopped / runs.WEIGHTS).read_bytes() == (tmp_path / "whole" / runs.WEIGHTS).read_bytes()


def test_a_damaged_checkpoint_is_not_kept_in_place_of_a_good_one(
    tiny: Dataset, stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(stopped / runs.RESUME, -5)
    before = (stopped / runs.PREVIOUS / runs.RESUME).read_bytes()
    resumed = fit(Config(), tiny, out=stopped, resume=True)
    with pytest.warns(RunWarning, match="damaged"):
        next(resumed)
    assert (stopped / runs.PREVIOUS / runs.RESUME).read_bytes() == before
    resumed.close()


def test_what_was_never_trained_is_not_kept(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    run_through(tiny_config, tiny, out=tmp_path / "run")
    assert not (tmp_path / "run" / runs.PREVIOUS).exists()
    assert {path.name for path in (tmp_path / "run").iterdir()} == {
        "config.json",
        runs.WEIGHTS,
        runs.RESUME,
        runs.METRICS,
    }


# The first save


@pytest.mark.parametrize("reached", ["config", "weights"])
def test_a_run_without_a_checkpoint_is_resumed_from_its_start(
    tiny: Dataset, tiny_config: Config, tmp_path: Path, reached: str
) -> None:
    whole = run_through(tiny_config, tiny, out=tmp_path / "whole")
    training = fit(tiny_config, tiny, out=tmp_path / "run")
    next(training)
    training.close()
    folder = tmp_path / "run"
    for name in (runs.RESUME, runs.METRICS):
        (folder / name).unlink(missing_ok=True)
    if reached == "config":
        (folder / runs.WEIGHTS).unlink()
    else:
        runs.save_weights(runs.open_run(folder), runs.load_model(runs.open_run(folder)).state_dict(), {"step": 0})
    left = folder / ".vaelab-resume-abcdefgh.safetensors"
    left.write_text("half")
    assert run_through(Config(), tiny, out=folder, resume=True).step == whole.step
    assert log_of(folder) == log_of(tmp_path / "whole")
    assert not left.exists()


def test_a_model_without_its_training_is_not_trained_over(tmp_path: Path, tiny: Dataset) -> None:
    images = tiny.train.images[:, 0]
    VAE(latent_dim=2, width=8, depth=1, epochs=1).fit(images).save(tmp_path / "run")
    run = runs.open_run(tmp_path / "run")
    assert runs.was_saved(run)
    with pytest.raises(RunError, match=r"expected resume\.safetensors"):
        runs.load_resume(run)


def test_what_a_kill_left_in_a_folder_is_no_obstacle(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in (".vaelab-config-abcdefgh.json", LOCK):
        (tmp_path / "run" / name).write_text("")
    run_through(tiny_config, tiny, out=tmp_path / "run")
    assert not list((tmp_path / "run").glob(".vaelab-*"))


# The lock

HOLDING = """
import sys
from pathlib import Path
from vaelab.run_lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holding() -> Iterator[Callable[[Path], subprocess.Popen[str]]]:
    """Start another process that holds the lock of a folder."""
    started: list[subprocess.Popen[str]] = []

    def hold(folder: Path) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        words = [sys.executable, "-c", HOLDING, str(folder)]
        started.append(process := subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True))
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield hold
    for process in started:
        process.kill()
        process.communicate()


@POSIX
def test_a_second_training_is_refused_and_the_first_is_named(
    tiny: Dataset,
    tiny_config: Config,
    stopped: Path,
    capsys: pytest.CaptureFixture[str],
    holding: Callable[[Path], subprocess.Popen[str]],
) -> None:
    process = holding(stopped)
    for resume in (True, False):
        with pytest.raises(RunError, match=rf"process {process.pid} is training it; .*`out`"):
            next(fit(tiny_config, tiny, out=stopped, resume=resume))
        with pytest.raises(SystemExit) as end:
            main(["train", "digits", "--out", str(stopped), *(["--resume"] if resume else [])])
        assert end.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"process {process.pid} is training it" in line
    process.send_signal(signal.SIGKILL)
    process.wait()
    run_through(Config(), tiny, out=stopped, resume=True)  # the system has released the lock
    assert not (stopped / LOCK).exists()


def test_a_training_holds_the_lock_until_it_is_left(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    training = fit(with_train(tiny_config, epochs=1000), tiny, out=tmp_path / "run")
    next(training)
    with pytest.raises(RunError, match=rf"process {os.getpid()} is training it"):
        next(fit(Config(), tiny, out=tmp_path / "run", resume=True))
    training.close()
    with locked(tmp_path / "run"):
        pass


@POSIX
def test_links_in_a_run_of_others_are_not_written_through(tiny: Dataset, stopped: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("mine")
    (stopped / LOCK).symlink_to(tmp_path / "mine" / "notes")
    with pytest.raises(OutputError, match="cannot write"):
        next(fit(Config(), tiny, out=stopped, resume=True))
    (stopped / LOCK).unlink()
    shutil.rmtree(stopped / runs.PREVIOUS)
    (stopped / runs.PREVIOUS).symlink_to(tmp_path / "mine")
    with pytest.raises(OutputError, match="is a link"):
        run_through(Config(), tiny, out=stopped, resume=True)
    assert {path.name: path.read_text() for path in (tmp_path / "mine").iterdir()} == {"notes": "mine"}


# Signals


@pytest.mark.parametrize("where", ["step", "validation", "save", "compiling", "first validation"])
@pytest.mark.parametrize("how", ["signal", "exception"])
def test_an_interruption_anywhere_saves_the_last_step(
    tiny: Dataset, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, how: str
) -> None:
    """Whether Ctrl-C waits for the end of the step, or comes as an exception of its own in the middle."""
    config = with_train(tiny_config, epochs=6, checkpoint_every=1e-9)
    run_through(config, tiny, out=tmp_path / "whole")
    monkeypatch.setattr(loop, "PROGRESS_EVERY", 0.0)
    calls = 0

    def interrupting(work: Callable[..., Any], at: int) -> Callable[..., Any]:
        def interrupted(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at:
                if how == "exception":
                    raise KeyboardInterrupt
                signal.raise_signal(signal.SIGINT)
            return work(*arguments, **options)

        return interrupted

    place, name, at = {
        "step": (trainer.Trainer, "take_step", 8),
        "validation": (Validator, "measure", 4),
        "save": (recorder, "save_resume", 8),
        "compiling": (PlainRunner, "prepare", 1),
        "first validation": (Validator, "measure", 1),
    }[where]
    with monkeypatch.context() as patch:
        patch.setattr(place, name, interrupting(getattr(place, name), at))
        with pytest.raises(KeyboardInterrupt):
            run_through(config, tiny, out=tmp_path / "parts")
    step = (runs.resume_facts(runs.open_run(tmp_path / "parts")) or {"step": -1})["step"]
    assert (
        step
        == {
            "step": 8 if how == "signal" else 7,
            "validation": 12,
            "save": 7,
            "compiling": 0,
            "first validation": 0,
        }[where]
    )
    run_through(Config(), tiny, out=tmp_path / "parts", resume=True)
    assert log_of(tmp_path / "parts") == log_of(tmp_path / "whole")
    assert (tmp_path / "parts" / runs.WEIGHTS).read_bytes() == (tmp_path / "whole" / runs.WEIGHTS).read_bytes()


def test_an_exception_within_the_update_saves_nothing(
    tiny: Dataset, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second Ctrl-C stops at once: weights and moments that do not belong together are not saved."""
    config = with_train(tiny_config, epochs=6)
    run_through(config, tiny, out=tmp_path / "whole")
    update = trainer.ema.update_average

    def interrupted(averaged: list[torch.Tensor], weights: list[torch.Tensor], fraction: float) -> None:
        if fraction < 0.5:  # from the 9th step on
            raise KeyboardInterrupt
        update(averaged, weights, fraction)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.ema, "update_average", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_through(config, tiny, out=tmp_path / "parts")
    facts = runs.resume_facts(runs.open_run(tmp_path / "parts"))
    assert facts is not None
    assert facts["step"] == 0
    run_through(Config(), tiny, out=tmp_path / "parts", resume=True)
    assert (tmp_path / "parts" / runs.WEIGHTS).read_bytes() == (tmp_path / "whole" / runs.WEIGHTS).read_bytes()


TRAINING = """
import sys, time
import numpy as np
from vaelab.cli import main
from vaelab.training import trainer
take, told = trainer.Trainer.take_step, False
def tell(self, fraction):
    global told
    take(self, fraction)
    if not told:
        told = True
        print("training", flush=True)
trainer.Trainer.take_step = tell
main(sys.argv[1:])
"""


@POSIX
@pytest.mark.parametrize(("number", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signals_save_and_end_the_command_with_their_status(tmp_path: Path, number: str, status: int) -> None:
    words = ["train", "digits", "--epochs", "100000", "--width", "8", "--compile", "no", "--out", str(tmp_path / "run")]
    words += ["--checkpoint-every", "300"]
    command = [sys.executable, "-c", TRAINING, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "training\n"
    process.send_signal(getattr(signal, number))
    _, told = process.communicate(timeout=60)
    assert process.returncode == status
    facts = runs.resume_facts(runs.open_run(tmp_path / "run"))
    assert facts is not None
    assert f"stopped at step {facts['step']:,} and saved; to continue: vaelab train digits" in told
    assert "Traceback" not in told
    assert facts["step"] > 0
    assert not list((tmp_path / "run").glob(".vaelab-*"))


PROGRAM = """
import sys, numpy as np, vaelab
images = np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8), dtype=np.uint8)
data = vaelab.Dataset("noise", *(vaelab.Split(part, None) for part in np.split(images, 3)), ())
train = vaelab.TrainConfig(seconds=60, device="cpu", compile="no")
config = vaelab.Config(vaelab.ModelConfig(width=8, depth=1, latent_dim=2), train)
for state in vaelab.fit(config, data, out=sys.argv[1]):
    print(state.step, flush=True)
"""


@POSIX
def test_a_program_that_is_asked_to_end_saves(tmp_path: Path) -> None:
    """SIGTERM in a loop over `fit`, which the program does not handle."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    seen = int(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    facts = runs.resume_facts(runs.open_run(tmp_path / "run"))
    assert facts is not None
    assert facts["step"] >= seen


def test_an_estimator_has_the_weights_of_the_step_that_it_names(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    take, weights = trainer.Trainer.take_step, {}

    def interrupted(self: trainer.Trainer, fraction: float) -> None:
        if self.step == 40:
            signal.raise_signal(signal.SIGINT)
        take(self, fraction)
        weights[self.step] = {name: value.clone() for name, value in self.averaged.state_dict().items()}

    monkeypatch.setattr(trainer.Trainer, "take_step", interrupted)
    model = VAE(latent_dim=2, width=8, depth=1, epochs=100)
    with pytest.warns(UserWarning, match="interrupted at step 41"):
        model.fit(tiny.train.images[:, 0])
    assert model.n_steps_ == 41
    assert all(torch.equal(value, weights[41][name]) for name, value in model.trained_.model.state_dict().items())


def test_the_first_signal_waits_and_the_second_acts_at_once() -> None:
    reached = []

    def interrupted(times: int) -> None:
        with uninterrupted():
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
            reached.append(times)

    for times in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            interrupted(times)
    assert reached == [1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@POSIX
def test_a_handler_of_the_program_is_called_at_the_end() -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        with uninterrupted():
            signal.raise_signal(signal.SIGTERM)
            assert not received
        assert received == [signal.SIGTERM]
        signals = Signals()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # by the program, meanwhile
        signals.close()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


# Folders that vanish, and files that cannot be read


def test_a_run_folder_that_is_deleted_is_one_line_and_stays_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    take = trainer.Trainer.take_step

    def deleting(self: trainer.Trainer, fraction: float) -> None:
        take(self, fraction)
        if self.step == 3:
            shutil.rmtree(tmp_path / "run")

    monkeypatch.setattr(trainer.Trainer, "take_step", deleting)
    words = ["--epochs", "2", "--width", "8", "--compile", "no", "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as end:
        main(["train", "digits", *words])
    assert end.value.code == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("vaelab: ")
    assert str(tmp_path / "run") in line
    assert not (tmp_path / "run").exists()


def refuse(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Make reading files of this name fail, as without permission; the administrator of a machine may read all."""
    for method in ("read_text", "read_bytes"):
        read = getattr(Path, method)

        def refused(self: Path, *arguments: Any, read: Callable[..., Any] = read, **options: Any) -> Any:
            if self.name == name:
                raise PermissionError(13, "Permission denied", str(self))
            return read(self, *arguments, **options)

        monkeypatch.setattr(Path, method, refused)


@pytest.mark.parametrize("name", ["config.json", runs.METRICS])
def test_an_unreadable_file_of_a_run_is_one_line(
    stopped: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny: Dataset
) -> None:
    refuse(monkeypatch, name)
    with pytest.raises(RunError, match=rf"{name}.*: cannot be read \(Permission denied\); "):
        next(fit(Config(), tiny, out=stopped, resume=True))
    if name == "config.json":
        with pytest.raises(SystemExit) as end:
            main(["sample", str(stopped), "--out", str(stopped / "x.png")])
        assert end.value.code == 2
        assert "cannot be read" in capsys.readouterr().err.splitlines()[-1]
    else:
        with pytest.warns(RunWarning, match="cannot be read"):
            assert runs.read_metrics(runs.open_run(stopped)) == []


@POSIX
@pytest.mark.skipif(
    hasattr(os, "geteuid") and os.geteuid() == 0, reason="the administrator may read all: run it as another user"
)
def test_a_folder_without_permission_is_one_line(stopped: Path) -> None:
    mode = stopped.stat().st_mode
    stopped.chmod(0)
    try:
        with pytest.raises(RunError, match="cannot be read"):
            runs.open_run(stopped)
    finally:
        stopped.chmod(stat.S_IMODE(mode))


def test_damage_is_printed_as_one_note(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(stopped / runs.WEIGHTS, -5)
    with pytest.raises(SystemExit) as end:
        main(["sample", str(stopped), "--out", str(stopped / "x.png")])
    assert end.value.code == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1
    assert "model.safetensors: damaged; used the checkpoint before it" in notes[0]


# Writing


def test_content_is_on_the_disk_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vaelab.files import atomic_write

    done: list[str] = []
    fsync, move = os.fsync, Path.replace

    def flushed(handle: int) -> None:
        done.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def moved(self: Path, target: Path) -> Path:
        done.append("move")
        return move(self, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", moved)
    with atomic_write(tmp_path / "a.txt") as path:
        path.write_text("new")
    assert done == ["file", "move", "folder"]
    with atomic_write(tmp_path / "a.txt", keep=tmp_path / "kept" / "a.txt") as path:
        path.write_text("newer")
    assert (tmp_path / "kept" / "a.txt").read_text() == "new"
    assert done[3:] == ["file", "move", "folder", "move", "folder"]


def test_a_file_is_kept_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vaelab.files import atomic_write

    def no_links(self: Path, target: Path) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    for text in ("old", "new"):
        with atomic_write(tmp_path / "a.txt", keep=tmp_path / "kept" / "a.txt") as path:
            path.write_text(text)
    assert (tmp_path / "kept" / "a.txt").read_text() == "old"
    assert (tmp_path / "a.txt").read_text() == "new"


@pytest.mark.usefixtures("every_step")
def test_checkpoints_are_saved_as_often_as_asked(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    for seconds, steps in ((1e-9, [1, 2, 3, 4, 5]), (1e9, [0, 0, 0, 0, 0])):
        saved = []
        training = fit(with_train(tiny_config, checkpoint_every=seconds), tiny, out=tmp_path / f"{seconds}")
        for _, state in zip(range(5), training, strict=False):
            facts = runs.resume_facts(runs.open_run(tmp_path / f"{seconds}"))
            assert facts is not None
            saved.append(facts["step"])
            assert state.step == len(saved)
        training.close()
        assert saved == steps
    run_through(Config(train=TrainConfig(checkpoint_every=5.0)), tiny, out=tmp_path / "1e-09", resume=True)


def test_a_failed_write_of_the_log_is_said(tmp_path: Path) -> None:
    from vaelab.files import append_line

    with pytest.raises(OutputError, match=r"cannot write .*log\.jsonl: .*; choose another location"):
        append_line(tmp_path / "none" / "log.jsonl", "{}")
