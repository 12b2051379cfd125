"""The step: what it moves follows AdamW's formula, a bad one moves nothing, and compiled it is the same step."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vaelab import Config, Dataset, TrainConfig, fit
from vaelab.errors import ConfigError
from vaelab.step import Moving, Schedule, _adamw, _fused_adamw


def moving(count: int = 3) -> Moving:
    generator = torch.Generator().manual_seed(0)
    lists = [[torch.randn(4, index + 2, generator=generator) for index in range(count)] for _ in range(2)]
    means, squares = ([torch.zeros_like(weight) for weight in lists[0]] for _ in range(2))
    return Moving(lists[0], lists[1], means, squares, torch.zeros(()))


@pytest.mark.parametrize("move", [_adamw, _fused_adamw])
def test_adamw_is_that_of_pytorch(move: Callable[..., None]) -> None:
    """Ten steps with decay and a divided gradient, against torch.optim.AdamW in its plainest form."""
    ours = moving()
    theirs = [torch.nn.Parameter(weight.clone()) for weight in ours.weights]
    optimiser = torch.optim.AdamW(theirs, lr=0.01, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.1, foreach=False)
    generator = torch.Generator().manual_seed(1)
    for step in range(10):
        gradients = [torch.randn(weight.shape, generator=generator) for weight in theirs]
        for weight, gradient in zip(theirs, gradients, strict=True):
            weight.grad = gradient / (1 + step)
        optimiser.step()
        ours.updates.add_(1)
        move(ours, gradients, torch.tensor(1.0 + step), torch.zeros(()), Schedule(1.0, 0.01, 0.5), 0.1)
    for mine, other in zip(ours.weights, theirs, strict=True):
        torch.testing.assert_close(mine, other.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("move", [_adamw, _fused_adamw])
def test_a_bad_step_moves_neither_weights_nor_moments(move: Callable[..., None]) -> None:
    ours = moving()
    before = [tensor.clone() for part in (ours.weights, ours.means, ours.squares) for tensor in part]
    gradients = [torch.full_like(weight, torch.nan) for weight in ours.weights]
    move(ours, gradients, torch.tensor(torch.nan), torch.ones(()), Schedule(1.0, 0.01, 0.5), 0.1)
    after = [tensor for part in (ours.weights, ours.means, ours.squares) for tensor in part]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


def test_average_follows_the_weights() -> None:
    ours = moving()
    expected = [torch.lerp(a, w, 0.25) for a, w in zip(ours.averaged, ours.weights, strict=True)]
    gradients = [torch.zeros_like(weight) for weight in ours.weights]
    ours.updates.add_(1)
    _fused_adamw(ours, gradients, torch.ones(()), torch.zeros(()), Schedule(1.0, 0.01, 0.25), 0.0)
    for mine, other in zip(ours.averaged, expected, strict=True):
        torch.testing.assert_close(mine, other)


def test_without_a_compiler_one_is_told_so(tiny: Dataset, tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    config = Config(tiny_config.model, TrainConfig(epochs=1, compile=True, device="cpu"))
    with pytest.raises(ConfigError, match=r"--compile: got no no-such-compiler .* leave --compile out"):
        next(fit(config, tiny))


@pytest.mark.slow
@pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="needs a C++ compiler: apt-get install g++"
)
def test_compiled_it_is_the_same_step(tmp_path: Path) -> None:
    """To rounding; and what the compiled one leaves, the plain one goes on with. In processes of their own, where no shapes
    are checked: the compiler does not see through that.
    """

    def train(out: str, *options: str) -> None:
        command = [
            str(Path(sys.executable).parent / "vaelab"),
            "train",
            "digits",
            "--out",
            out,
            "--device",
            "cpu",
            *options,
        ]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert result.returncode == 0, result.stderr

    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    for name, options in (("plain", ()), ("compiled", ("--compile",))):
        train(name, "--epochs", "2", *options)
        train(name, "--epochs", "3", "--resume")
    assert any((tmp_path / "cache").rglob("*.so"))
    plain, compiled = (
        {file: load_file(tmp_path / name / file) for file in ("model.safetensors", "resume.safetensors")}
        for name in ("plain", "compiled")
    )
    for file, tensors in plain.items():
        for name, tensor in tensors.items():
            torch.testing.assert_close(
                compiled[file][name], tensor, rtol=0.02, atol=2e-3, msg=lambda m, n=name: f"{n}: {m}"
            )
