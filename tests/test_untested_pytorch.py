"""Where names inside PyTorch are gone or have moved, as another version may have it, training continues plainly and says so."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from building import trainer_of

from vaelab import Config, Dataset, fit
from vaelab.acceleration import cache
from vaelab.acceleration.graph import CompileKey
from vaelab.acceleration.runner import AcceleratedRunner
from vaelab.optim.step import PlainRunner
from vaelab.training.fit import Progress

MOVED = [
    ImportError("cannot import name 'aoti_load_package' from 'torch._inductor'"),
    ModuleNotFoundError("No module named 'torch._moved'", name="torch._moved"),
    AttributeError("module 'torch' has no attribute '_moved'"),
]
"""What Python raises at a name that PyTorch no longer has."""


@pytest.fixture
def compiled(tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A training whose step is to be compiled."""
    monkeypatch.setenv("VAELAB_CACHE_DIR", str(tmp_path))
    return replace(tiny_config, train=replace(tiny_config.train, compile="yes"))


def raising(error: Exception) -> Any:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def one_remark(progress: Sequence[Progress]) -> str:
    (remark,) = [each.remark for each in progress if each.remark]
    assert "\n" not in remark
    return remark


class FailsToImport:
    """A finder of modules, for `sys.meta_path`: importing `vaelab.acceleration.graph` raises `error`."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name == "vaelab.acceleration.graph":
            raise self.error
        return None


@pytest.mark.parametrize("error", MOVED, ids=lambda error: type(error).__name__)
def test_a_name_that_is_gone_at_import_time(
    tiny: Dataset, tiny_config: Config, compiled: Config, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    for name in ("runner", "graph"):
        monkeypatch.delitem(sys.modules, f"vaelab.acceleration.{name}")
    monkeypatch.setattr(sys, "meta_path", [FailsToImport(error), *sys.meta_path])
    *_, plain = fit(tiny_config, tiny)
    progress = list(fit(compiled, tiny))
    remark = one_remark(progress)
    assert str(error) in remark
    assert f"PyTorch {torch.__version__}" in remark
    assert progress[-1].validation == plain.validation


def test_a_package_that_is_removed_needs_no_remark(
    tiny: Dataset, compiled: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "vaelab.acceleration.runner"
    monkeypatch.setitem(sys.modules, name, None)
    runner = trainer_of(compiled, tiny).runner
    assert isinstance(runner, PlainRunner)
    assert runner.remarks == []


@pytest.mark.parametrize("error", MOVED, ids=lambda error: type(error).__name__)
def test_a_name_that_is_gone_when_training_is_prepared(
    tiny: Dataset, compiled: Config, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(CompileKey, "of", staticmethod(raising(error)))
        assert str(error) in one_remark(list(fit(compiled, tiny)))
    monkeypatch.setattr(cache, "find", raising(error))
    progress = list(fit(compiled, tiny))
    assert str(error) in one_remark(progress)
    assert progress[-1].finished


def test_a_name_that_is_gone_when_a_compiled_step_is_loaded(
    tiny: Dataset, compiled: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "find", lambda key: Path("package"))
    monkeypatch.setitem(sys.modules, "torch._inductor", ModuleType("torch._inductor"))
    progress = list(fit(compiled, tiny))
    assert "ImportError: cannot import name 'aoti_load_package'" in one_remark(progress)
    assert progress[-1].finished


@pytest.mark.parametrize("error", MOVED, ids=lambda error: type(error).__name__)
def test_a_name_that_is_gone_at_a_step(tiny: Dataset, tiny_config: Config, compiled: Config, error: Exception) -> None:
    trainer, plain = trainer_of(compiled, tiny), trainer_of(tiny_config, tiny)
    assert isinstance(trainer.runner, AcceleratedRunner)
    trainer.runner._fast, trainer.runner.compiled = raising(error), True
    for _ in range(2):
        trainer.take_step(0.5)
        plain.take_step(0.5)
    (remark,) = trainer.runner.remarks
    assert str(error) in remark
    assert torch.equal(trainer.state.weights[0], plain.state.weights[0])
