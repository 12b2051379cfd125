"""When a training is compiled, what happens where that fails, and that a compiled step is the step."""

import hashlib
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from building import trainer_of
from safetensors.torch import load_file

from vaelab import Config, Dataset, fit, runs
from vaelab.acceleration import cache, policy
from vaelab.acceleration.cpu_parallel import ParallelStep
from vaelab.acceleration.graph import CompileKey, NotCompiledError, as_step, expect_same, step_inputs
from vaelab.acceleration.policy import plan
from vaelab.acceleration.runner import AcceleratedRunner
from vaelab.acceleration.worker import CompileJob, expect_compiler
from vaelab.config import (
    Budget,
    PrecisionName,
    ResolvedConfig,
    ResolvedModelConfig,
    ResolvedTrainConfig,
    TrainConfig,
)
from vaelab.errors import ConfigError
from vaelab.objectives.elbo import elbo
from vaelab.optim.schedule import Schedule, schedule_at
from vaelab.optim.step import PlainRunner
from vaelab.training.fit import Progress
from vaelab.training.trainer import Trainer


def has_compiler() -> bool:
    try:
        expect_compiler()
    except NotCompiledError:
        return False
    return True


NEEDS_COMPILER = pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler: on Debian apt-get install g++")
WITHOUT = "the training step is not compiled, and training continues without: "


def with_train(config: Config, **changes: Any) -> Config:
    return replace(config, train=replace(config.train, **changes))


def accelerated(config: Config, dataset: Dataset, **changes: Any) -> tuple[Trainer, AcceleratedRunner]:
    """A trainer whose step may be compiled, and its runner."""
    trainer = trainer_of(with_train(config, **({"compile": "yes"} | changes)), dataset)
    assert isinstance(trainer.runner, AcceleratedRunner)
    return trainer, trainer.runner


def key_of(config: Config, dataset: Dataset, **changes: Any) -> CompileKey:
    """The key of the compiled step of such a training."""
    return accelerated(config, dataset, **changes)[1].key()


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VAELAB_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


class Made:
    """In place of the process that compiles: done after so many looks, or failed."""

    looks = 0
    error: str | None = None
    started: list["Made"] = []  # noqa: RUF012 - emptied by the fixture

    def __init__(self, key: CompileKey) -> None:
        self.key, self.seen, self.closed = key, 0, False
        self.started.append(self)

    def done(self) -> bool:
        if self.error is not None:
            raise NotCompiledError(self.error)
        self.seen += 1
        return self.seen > self.looks

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Made]]:
    """The compilers that were started; what they make is the step as a compiler is given it."""

    def find(key: CompileKey) -> Path | None:
        done = [each for each in Made.started if each.key == key and each.seen > each.looks]
        return Path("made") if done else None

    monkeypatch.setattr("vaelab.acceleration.runner.CompileJob", Made)
    monkeypatch.setattr("vaelab.acceleration.cache.find", find)
    monkeypatch.setattr("vaelab.acceleration.runner._load_step", plain_step)
    monkeypatch.setattr("vaelab.training.loop.PROGRESS_EVERY", 0.0)
    monkeypatch.setattr("vaelab.acceleration.runner.LOOK_EVERY", 0.0)
    monkeypatch.setattr(Made, "looks", 3)
    yield Made.started
    Made.started.clear()


def plain_step(_: Path, plain: PlainRunner) -> Any:
    return lambda batch, schedule: plain.step(batch, schedule, elbo)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of every step, whether it was compiled."""
    seen: list[bool] = []
    take = AcceleratedRunner.step

    def taking(self: AcceleratedRunner, *given: Any) -> None:
        seen.append(self.compiled)
        take(self, *given)

    monkeypatch.setattr(AcceleratedRunner, "step", taking)
    return seen


def remarks(progress: list[Progress]) -> list[str]:
    return [each.remark for each in progress if each.remark is not None]


def resolved(config: Config) -> ResolvedConfig:
    model = ResolvedModelConfig("vae", "mlp", 2, "bernoulli", 8, 1, decoder=str(config.model.decoder or ""))
    train = ResolvedTrainConfig(Budget(1, "epochs"), 32, "float32", "cpu", compile=config.train.compile or "auto")
    return ResolvedConfig(model, train)


@pytest.mark.parametrize(
    ("wish", "steps", "own", "expected"),
    [
        ("auto", None, None, "beside"),
        ("auto", 19_999, None, "never"),
        ("auto", 20_000, None, "before"),
        ("auto", None, "my:Net", "never"),
        ("auto", 20_000, "my:Net", "never"),
        ("yes", 1, None, "before"),
        ("yes", None, "my:Net", "beside"),
        ("no", None, None, "never"),
        ("no", 20_000, None, "never"),
    ],
)
def test_the_plan(tiny_config: Config, wish: str, steps: int | None, own: str | None, expected: str) -> None:
    config = with_train(replace(tiny_config, model=replace(tiny_config.model, decoder=own)), compile=wish)
    assert plan(resolved(config), steps) == expected


def test_a_long_training_in_seconds_goes_over_when_the_step_is_made(
    tiny: Dataset, tiny_config: Config, made: list[Made], steps: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(policy.WORTH_SECONDS, "mlp", 0.1)
    progress = list(fit(with_train(tiny_config, epochs=None, seconds=1.0, compile="auto"), tiny))
    assert len(made) == 1
    assert made[0].closed
    assert steps == sorted(steps)
    assert 3 <= steps.count(False) <= 8  # the first one, one for each look, and the validations between
    assert steps.count(True) > steps.count(False)
    assert remarks(progress) == ["compiled step in use: training is faster from here on"]
    assert progress[0].step == 1


def test_a_short_one_does_without(tiny: Dataset, tiny_config: Config, made: list[Made], steps: list[bool]) -> None:
    list(fit(with_train(tiny_config, epochs=None, seconds=0.5, compile="auto"), tiny))
    assert not made
    assert not any(steps)


def test_what_is_kept_is_taken_from_the_first_step_on(
    tiny: Dataset, tiny_config: Config, made: list[Made], steps: list[bool]
) -> None:
    config = with_train(tiny_config, epochs=None, seconds=0.5, compile="auto")
    ready = Made(key_of(config, tiny, compile="auto"))
    ready.seen = 4
    list(fit(config, tiny))
    assert made == [ready]
    assert all(steps)


@pytest.mark.parametrize(("wish", "least", "expected"), [("auto", 8, True), ("auto", 13, False), ("yes", 99, True)])
def test_a_training_in_epochs_is_compiled_from_its_first_step_or_not_at_all(
    tiny: Dataset,
    tiny_config: Config,
    made: list[Made],
    steps: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    wish: str,
    least: int,
    expected: bool,
) -> None:
    monkeypatch.setattr(policy, "WORTH_STEPS", least)
    progress = list(fit(with_train(tiny_config, compile=wish), tiny))
    assert steps == [expected] * 12
    assert len(made) == expected
    if expected:
        assert [each.step for each in progress[:3]] == [0, 0, 0]
        assert progress[0].seconds_left == float("inf")


@pytest.mark.parametrize("budget", [{"seconds": 0.5, "epochs": None}, {"epochs": 3}])
def test_a_compiler_that_fails_is_one_line_and_training_goes_on(
    tiny: Dataset,
    tiny_config: Config,
    made: list[Made],
    steps: list[bool],
    monkeypatch: pytest.MonkeyPatch,
    budget: dict[str, Any],
) -> None:
    monkeypatch.setattr(Made, "error", "No space left on device")
    progress = list(fit(with_train(tiny_config, **budget, compile="yes"), tiny))
    assert remarks(progress) == [WITHOUT + "No space left on device"]
    assert not any(steps)
    assert len(made) == 1
    assert made[0].closed
    assert progress[-1].finished


def test_a_missing_compiler_is_one_line(
    tiny: Dataset, tiny_config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    plain = list(fit(tiny_config, tiny))
    progress = list(fit(with_train(tiny_config, compile="yes"), tiny, out=tmp_path / "run"))
    (remark,) = remarks(progress)
    assert remark.startswith(WITHOUT + "there is no no-such-compiler on this machine")
    assert "CXX" in remark
    assert progress[-1].validation == plain[-1].validation


def test_a_compiled_step_that_fails_is_given_up(tiny: Dataset, tiny_config: Config) -> None:
    (trainer, runner), plain = accelerated(tiny_config, tiny), trainer_of(tiny_config, tiny)

    def broken(*_: object) -> None:
        raise RuntimeError("a kernel that is not there\nand much more")

    runner._fast, runner.compiled = broken, True
    for _ in range(2):
        trainer.take_step(0.5)
        plain.take_step(0.5)
    assert trainer.runner.remarks == [WITHOUT + "RuntimeError: a kernel that is not there"]
    assert not runner.compiled
    assert torch.equal(trainer.state.weights[0], plain.state.weights[0])


def test_leaving_the_loop_ends_the_compiler(
    tiny: Dataset, tiny_config: Config, made: list[Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Made, "looks", 10**9)
    for budget in ({"seconds": 600.0, "epochs": None}, {"epochs": 3}):
        training = fit(with_train(tiny_config, **budget, compile="yes"), tiny)
        next(training)
        next(training)
        assert not made[-1].closed
        training.close()
        assert made[-1].closed
    assert len(made) == 2


@pytest.mark.parametrize(("cores", "meanwhile"), [(2, 1), (4, 2)])
def test_a_core_is_left_to_the_compiler(
    tiny: Dataset,
    tiny_config: Config,
    made: list[Made],
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    meanwhile: int,
) -> None:
    monkeypatch.setattr(policy, "cores", lambda: cores)
    used: list[int] = []
    take = AcceleratedRunner.step

    def taking(self: AcceleratedRunner, *given: Any) -> None:
        used.append(torch.get_num_threads())
        take(self, *given)

    monkeypatch.setattr(AcceleratedRunner, "step", taking)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        training = fit(with_train(tiny_config, epochs=None, seconds=600.0, compile="yes"), tiny)
        next(training)
        next(training)
        assert used == [2, meanwhile]
        training.close()
        assert torch.get_num_threads() == 2
        assert made[0].key.threads == 2
    finally:
        torch.set_num_threads(before)


def test_short_memory_ends_the_compiler(tiny: Dataset, tiny_config: Config, made: list[Made]) -> None:
    _, runner = accelerated(tiny_config, tiny, epochs=None, seconds=600.0)
    runner.tend(600.0)
    assert len(made) == 1
    runner.plain.at_once = 16
    runner.tend(600.0)
    assert made[0].closed
    runner.tend(600.0)
    assert len(made) == 1


def test_old_runs_kept_a_yes_or_no(tmp_path: Path) -> None:
    assert [TrainConfig(compile=old).compile for old in (True, False)] == ["yes", "no"]  # type: ignore[arg-type]
    shutil.copytree(Path(__file__).parent / "runs-0.1" / "vae", tmp_path / "run")
    path = tmp_path / "run" / runs.CONFIG
    for text, expected in (("true", "yes"), ("false", "no")):
        path.write_text(re.sub(r'"compile": ("auto"|true)', f'"compile": {text}', path.read_text()))
        assert runs.open_run(tmp_path / "run").config.train.compile == expected


def test_going_on_need_not_match_it(tiny: Dataset, tiny_config: Config, tmp_path: Path, made: list[Made]) -> None:
    list(fit(tiny_config, tiny, out=tmp_path / "run"))
    asked = Config(train=TrainConfig(epochs=4, compile="yes"))
    assert list(fit(asked, tiny, out=tmp_path / "run", resume=True))[-1].step == 15
    assert len(made) == 1


def test_another_wish_is_refused() -> None:
    with pytest.raises(ConfigError, match="`compile`: got 'maybe'; expected one of auto, yes, no"):
        TrainConfig(compile="maybe")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["ae", "vae", "cvae"])
def test_the_step_as_a_function_of_tensors_is_the_step(tiny: Dataset, tiny_config: Config, kind: str) -> None:
    config = replace(tiny_config, model=replace(tiny_config.model, model=kind))
    trainer = trainer_of(config, tiny)
    for _ in range(3):
        trainer.take_step(0.5)
    batch, schedule = trainer.batches.at(trainer.step), Schedule(*torch.tensor(schedule_at(trainer.config, 0.5)))
    tensors = step_inputs(trainer.model, trainer.state, trainer.stats, batch, schedule)
    copies = [tensor.detach().clone() for tensor in tensors]
    other = trainer_of(with_train(config, seed=1), tiny).model  # its own weights are not looked at
    as_step(other, trainer.config)(*copies)
    trainer.take_step(0.5)
    for ours, theirs in zip(copies, tensors, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_compiled_step_that_does_something_else_is_not_used() -> None:
    examples = [torch.ones(3), torch.zeros(2)]

    def step(first: torch.Tensor, second: torch.Tensor) -> None:
        first.add_(1)
        second.add_(3)

    expect_same(step, step, examples, coarse=False)

    def near(*tensors: torch.Tensor) -> None:
        step(*tensors)
        tensors[1].add_(0.3)

    def spoilt(*tensors: torch.Tensor) -> None:
        step(*tensors)
        tensors[0].mul_(torch.nan)

    with pytest.raises(ArithmeticError, match=r"by 0\.42\d* in tensor 1, which changes by 4\.24"):
        expect_same(near, step, examples, coarse=False)
    expect_same(near, step, examples, coarse=True)
    with pytest.raises(ArithmeticError, match="tensor 0"):
        expect_same(lambda *_: None, lambda *tensors: tensors[0].add_(1), [torch.zeros(100)], coarse=True)
    with pytest.raises(ArithmeticError, match="by nan in tensor 0"):
        expect_same(spoilt, step, examples, coarse=False)


def test_a_name_follows_from_all_that_a_step_depends_on(tiny: Dataset, tiny_config: Config) -> None:
    def path(config: Config) -> str:
        return cache._place(accelerated(config, tiny)[1].key())[1]

    first = path(tiny_config)
    for changes in (
        {"beta": 2.0},
        {"seed": 7},
        {"epochs": 9},
        {"learning_rate": 0.1},
        {"ema": 0.5},
    ):
        assert path(with_train(tiny_config, **changes)) == first
    others = [path(with_train(tiny_config, **changes)) for changes in ({"batch_size": 16}, {"free_bits": 0.1})]
    others += [path(with_train(tiny_config, weight_decay=0.5)), path(with_train(tiny_config, gradient_clip=9.0))]
    others += [path(replace(tiny_config, model=replace(tiny_config.model, latent_dim=3)))]
    assert len({first, *others}) == 6


def test_a_recipe_is_read_as_it_was_written(tiny: Dataset, tiny_config: Config) -> None:
    key = key_of(tiny_config, tiny)
    assert CompileKey.from_json(key.to_json()) == key


def kept(key: CompileKey, content: bytes = b"anything") -> Path:
    """The package of a key in the cache, with this content."""
    source = Path(os.environ["VAELAB_CACHE_DIR"]).parent / "source"
    source.write_bytes(content)
    cache.keep(source, key)
    path = cache.find(key)
    assert path is not None
    return path


def test_what_cannot_be_loaded_is_one_line_and_training_goes_on(tiny: Dataset, tiny_config: Config) -> None:
    trainer, runner = accelerated(tiny_config, tiny)
    key = runner.key()
    assert not runner._load()
    kept(key, b"no package")  # whole, but PyTorch cannot load it
    for _ in runner.prepare():
        pass
    (remark,) = runner.remarks
    assert remark.startswith(WITHOUT + "the compiled step cannot be loaded: ")
    assert not runner.compiled
    trainer.take_step(0.5)


POSIX = pytest.mark.skipif(os.name == "nt", reason="needs the permissions of POSIX: run it on Linux or macOS")


@POSIX
@pytest.mark.parametrize("what", ["folder", "package"])
def test_a_package_that_others_could_have_written_is_not_loaded(tiny: Dataset, tiny_config: Config, what: str) -> None:
    """Loading a package runs its code."""
    key = key_of(tiny_config, tiny)
    path = kept(key)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path.stat().st_mode & 0o777 == 0o600
    (path.parent if what == "folder" else path).chmod(0o772 if what == "folder" else 0o620)
    assert cache.find(key) is None
    if what == "folder":
        with pytest.raises(OSError, match="others can write to it; remove it"):
            cache.keep(path, key)
    else:
        assert not path.exists()
        assert kept(key).name == path.name


def test_a_package_of_somebody_else_is_not_loaded(
    tiny: Dataset, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = key_of(tiny_config, tiny)
    kept(key)
    monkeypatch.setattr(os, "getuid", lambda: 12345, raising=False)
    assert cache.find(key) is None


@POSIX
@pytest.mark.parametrize("what", ["link to a package", "link to a folder", "pipe"])
def test_a_package_behind_a_link_is_not_loaded(tiny: Dataset, tiny_config: Config, tmp_path: Path, what: str) -> None:
    """The name fits the content, which is all that somebody who can write to the folder needs for a digest."""
    key = key_of(tiny_config, tiny)
    path = kept(key)
    moved = tmp_path / "elsewhere"
    if what == "link to a folder":
        path.parent.rename(moved)
        path.parent.symlink_to(moved)
        assert cache.find(key) is None
        with pytest.raises(OSError, match="is a link"):
            cache.keep(moved / path.name, key)
        return
    path.rename(moved)
    path.symlink_to(moved) if what == "link to a package" else os.mkfifo(path)
    assert cache.find(key) is None
    assert not path.exists()
    assert kept(key) == path
    assert not path.is_symlink()


@pytest.mark.parametrize("change", ["cut", "empty", "one bit", "longer"])
def test_a_damaged_package_is_removed_and_made_again(tiny: Dataset, tiny_config: Config, change: str) -> None:
    key = key_of(tiny_config, tiny)
    content = bytes(range(256)) * 20
    path = kept(key, content)
    damaged = {
        "cut": content[:-100],
        "empty": b"",
        "one bit": content[:9] + b"\0" + content[10:],
        "longer": content * 2,
    }
    path.write_bytes(damaged[change])
    assert cache.find(key) is None
    assert not path.exists()
    assert kept(key, content).read_bytes() == content


def test_what_another_process_has_made_is_used(tiny: Dataset, tiny_config: Config) -> None:
    key = key_of(tiny_config, tiny)
    first = kept(key, b"first")
    assert kept(key, b"second") == first
    other = first.with_name(first.name.replace(first.stem[-64:], hashlib.sha256(b"x").hexdigest()))
    other.write_bytes(b"x")  # kept by another process in the same moment
    other.chmod(0o600)
    assert kept(key).read_bytes() in (b"first", b"x")
    assert len(list(first.parent.iterdir())) == 1


def test_the_newest_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAX_PACKAGES", 2)
    monkeypatch.setattr(cache, "_place", lambda name: (tmp_path / "kept", name))
    source = tmp_path / "source"
    source.write_bytes(b"made")
    for age, name in enumerate(("d", "c", "b", "a")):
        cache.keep(source, name)  # pyright: ignore[reportArgumentType] - stands for a key
        (path,) = (tmp_path / "kept").glob(f"{name}-*.pt2")
        os.utime(path, (age, age))
    cache.keep(source, "e")  # pyright: ignore[reportArgumentType]
    assert sorted(path.name[:2] for path in (tmp_path / "kept").iterdir()) == ["a-", "e-"]


def gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return False


def waited(until: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_a_preparation_that_is_closed_leaves_nothing(tiny: Dataset, tiny_config: Config) -> None:
    preparation = CompileJob(key_of(tiny_config, tiny))
    process, folder = preparation._process.pid, Path(preparation._folder.name)
    assert not preparation.done()
    assert folder.is_dir()
    preparation.close()
    preparation.close()
    assert gone(process)
    assert not folder.exists()


def test_a_preparation_that_fails_says_why(
    tiny: Dataset, tiny_config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recipe = key_of(tiny_config, tiny)
    (tmp_path / "cache").write_text("in the way")
    wrong = replace(recipe, tensors=recipe.tensors[:-1])
    preparation = CompileJob(wrong)
    with pytest.raises(NotCompiledError, match=r"^\w+Error: .+"):
        waited(preparation.done, 60)
    preparation.close()
    monkeypatch.setattr(sys, "executable", "/usr/bin/a-frozen-app")
    with pytest.raises(NotCompiledError, match="not run by a Python interpreter"):
        CompileJob(recipe)


@pytest.mark.skipif(os.name == "nt", reason="needs the signals of POSIX: run it on Linux or macOS")
def test_a_compiler_ends_with_the_process_that_asked_for_it(tiny: Dataset, tiny_config: Config) -> None:
    preparation = CompileJob(key_of(tiny_config, tiny))
    assert preparation._process.stdin is not None
    preparation._process.stdin.close()  # as the end of this process would do
    assert waited(lambda: preparation._process.poll() is not None, 30)
    assert preparation._process.poll() in (1, -signal.SIGKILL)
    preparation.close()


def command(folder: Path, *options: str) -> list[str]:
    program = str(Path(sys.executable).parent / "vaelab")
    return [program, "train", "digits", "--out", str(folder), "--device", "cpu", *options]


@pytest.mark.slow
@NEEDS_COMPILER
def test_compiled_it_is_the_same_step(tmp_path: Path, empty_cache: Path) -> None:
    """To rounding; and what the compiled one leaves, the plain one goes on with."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for name in ("plain", "compiled", "again"):
        wish = "no" if name == "plain" else "yes"
        for options in (("--epochs", "2", "--compile", wish), ("--epochs", "3", "--resume", "--compile", "no")):
            exact = command(tmp_path / name, "--precision", "float32", *options)
            result = subprocess.run(exact, capture_output=True, text=True, env=environment)
            assert result.returncode == 0, result.stderr
            assert "not compiled" not in result.stderr
    assert len(list((empty_cache / "compiled-steps").glob("*.pt2"))) == 1
    plain, first, again = (
        {file: load_file(tmp_path / name / file) for file in ("model.safetensors", "resume.safetensors")}
        for name in ("plain", "compiled", "again")
    )
    for file, tensors in plain.items():
        for name, tensor in tensors.items():
            torch.testing.assert_close(
                first[file][name], tensor, rtol=0.02, atol=2e-3, msg=lambda m, n=name: f"{n}: {m}"
            )
            assert torch.equal(first[file][name], again[file][name])  # made or kept, it is one step


@pytest.mark.slow
@NEEDS_COMPILER
def test_two_trainings_that_start_together_share_a_package(tmp_path: Path, empty_cache: Path) -> None:
    options = ("--epochs", "1", "--compile", "yes")
    started = [subprocess.Popen(command(tmp_path / name, *options), stderr=subprocess.PIPE, text=True) for name in "ab"]
    for process in started:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
        assert "not compiled" not in errors
    assert len(list((empty_cache / "compiled-steps").iterdir())) == 1
    weights = [load_file(tmp_path / name / "model.safetensors") for name in "ab"]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor)


@pytest.mark.slow
@NEEDS_COMPILER
@pytest.mark.parametrize(
    ("network", "shares", "precision", "figures", "weights"),
    [
        ("mlp", 1, "float32", 1e-4, 0.05),
        ("conv", 1, "float32", 1e-4, 0.05),
        ("ladder", 1, "float32", 1e-4, 0.05),
        ("ladder", 2, "float32", 1e-4, 0.05),
        ("mlp", 1, "bfloat16", 1e-2, 0.25),
        ("ladder", 2, "bfloat16", 1e-2, 0.25),
    ],
)
def test_every_network_is_compiled(
    tiny: Dataset,
    tiny_config: Config,
    network: str,
    shares: int,
    precision: PrecisionName,
    figures: float,
    weights: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On images of 16×16, the least that a convolutional network takes; three steps beside three plain ones."""
    grown = replace(
        tiny, **{name: replace(part, images=part.images.repeat(2, 2).repeat(2, 3)) for name, part in parts_of(tiny)}
    )
    model = replace(tiny_config.model, network=network, width=16, depth=None, latent_dim=None)
    train = replace(tiny_config.train, precision=precision)
    monkeypatch.setattr("vaelab.acceleration.runner.part_count", lambda *_: shares)
    (trainer, runner), plain = accelerated(Config(model, train), grown), trainer_of(Config(model, train), grown)
    before = [weight.detach().clone() for weight in trainer.state.weights]
    runner.compile()
    assert isinstance(runner._fast, ParallelStep) == (shares > 1)
    for _ in range(3):
        trainer.take_step(0.5)
        plain.take_step(0.5)
    assert runner.compiled
    assert not runner.remarks
    torch.testing.assert_close(trainer.stats.sums, plain.stats.sums, rtol=figures, atol=1e-3)
    for start, one, other in zip(before, trainer.state.weights, plain.state.weights, strict=True):
        # rounded to bfloat16, the gradient of a weight may have the other sign, and AdamW's first updates depend on that
        turned = 2 / math.sqrt(one.numel()) if precision == "bfloat16" else 0
        assert (one - other).norm() <= (weights + turned) * (other - start).norm()


def parts_of(dataset: Dataset) -> list[tuple[str, Any]]:
    return [(name, getattr(dataset, name)) for name in ("train", "validation", "test")]


def children(process: int) -> list[int]:
    """Processes that it started."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # one that ended meanwhile
            number, _, rest = path.read_text().partition(" (")
            if int(rest.rpartition(") ")[2].split()[1]) == process:
                found.append(int(number))
    return found


@pytest.mark.slow
@NEEDS_COMPILER
@pytest.mark.skipif(
    os.name == "nt" or not Path("/proc").is_dir(), reason="looks for processes in /proc: run it on Linux"
)
def test_ctrl_c_while_compiling_saves_and_leaves_no_process(tmp_path: Path) -> None:
    training = subprocess.Popen(
        command(tmp_path / "run", "--seconds", "600"), stderr=subprocess.PIPE, text=True, start_new_session=True
    )

    assert waited(lambda: bool(children(training.pid)), 60)
    time.sleep(3)
    processes = children(training.pid)
    processes += [each for process in processes for each in children(process)]
    os.killpg(training.pid, signal.SIGINT)
    _, told = training.communicate(timeout=30)
    assert training.returncode == 130
    assert "stopped at step" in told
    assert all(gone(process) for process in processes)


TWO_PROCESSES = """
import sys
from vaelab.acceleration.graph import CompileKey
from vaelab.acceleration.worker import CompileJob
key = CompileKey.from_json(sys.stdin.readline())
job = CompileJob(key)
while not job.done():
    pass
job.close()
"""


@pytest.mark.slow
@NEEDS_COMPILER
def test_two_processes_may_compile_one_step_at_the_same_time(
    tiny: Dataset, tiny_config: Config, empty_cache: Path
) -> None:
    """Each writes the package whole; the last one stays, and it can be loaded."""
    trainer, runner = accelerated(tiny_config, tiny)
    text = runner.key().to_json()
    processes = [
        subprocess.Popen([sys.executable, "-c", TWO_PROCESSES], stdin=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(text + "\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=180)
        assert process.returncode == 0
    assert [path.suffix for path in (empty_cache / "compiled-steps").iterdir()] == [".pt2"]
    assert runner._load()
    trainer.take_step(0.5)
    assert runner.compiled
