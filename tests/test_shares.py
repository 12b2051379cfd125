"""A step in shares is the step: the same pixels, gradients and moves, on threads of its own."""

import ctypes.util
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import generator
from torch import Tensor

from vaelab import Config, Dataset
from vaelab.acceleration.cpu_parallel import Library, Shared, how_many
from vaelab.acceleration.graph import CompileKey, as_look
from vaelab.config import ModelConfig, ModelName, TrainConfig
from vaelab.models.base import Model
from vaelab.models.factory import build_model
from vaelab.objectives.batch import Batch
from vaelab.optim.adamw import fused_adamw
from vaelab.optim.schedule import Schedule
from vaelab.optim.state import StepStats, TrainState
from vaelab.optim.step import train_step
from vaelab.training.resolve import resolve, resolve_model
from vaelab.training.trainer import Trainer

LADDER = ModelConfig("vae", "ladder", None, "bernoulli", 8, 1, levels="3,2@4,1@2")
TRAIN = TrainConfig(epochs=1, precision="float32")
SHAPE = (1, 8, 8)


def model_of(kind: ModelName) -> Model:
    built = build_model(resolve_model(replace(LADDER, model=kind), SHAPE), SHAPE, 3, seed=0)
    random = generator(5)
    with torch.no_grad():
        for weight in built.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=random))
    return built


def batch_of(model: Model, images: int = 12, key: tuple[int, int] = (5, -9)) -> Batch:
    levels = torch.randint(0, 256, (images, *SHAPE), generator=generator(1), dtype=torch.uint8)
    labels = torch.arange(images) % 3 if model.classes else None
    noise = torch.randn(images, model.latent_dim, generator=generator(2))
    return Batch(levels, labels, noise, torch.tensor(key, dtype=torch.int32))


def movable(model: Model) -> tuple[TrainState, StepStats]:
    weights: list[Tensor] = list(model.parameters())
    means, squares = ([torch.zeros_like(weight) for weight in weights] for _ in range(2))
    return TrainState(weights, [], means, squares, torch.zeros(())), StepStats(
        *(torch.zeros(n) for n in ((3,), (2,), ()))
    )


class Written:
    """In place of a compiled library: the look as it is written. It notes who calls, and waits until so many are there."""

    def __init__(self, model: Model, wait_for: int = 1) -> None:
        self.look = as_look(model, TRAIN)
        self.callers: set[str] = set()
        self.threads: set[int] = set()
        self.together, self.alone = threading.Barrier(wait_for), threading.Lock()

    def run(self, tensors: list[Tensor]) -> None:
        self.together.wait(60)
        self.callers.add(threading.current_thread().name)
        self.threads.add(torch.get_num_threads())
        with self.alone:  # as it is written it puts other weights into the one model
            self.look(*tensors)


def shared_of(library: object, monkeypatch: pytest.MonkeyPatch, shares: int = 3, threads: int = 1) -> Shared:
    monkeypatch.setattr("vaelab.acceleration.cpu_parallel.Library", lambda *_: library)
    return Shared("", shares, threads)


@pytest.mark.parametrize(
    ("images", "threads", "changes", "expected"),
    [
        (128, 2, {}, 2),
        (128, 1, {}, 1),
        (128, 3, {}, 2),  # 43 do not go into 128
        (96, 3, {}, 3),
        (128, 64, {}, 4),  # 32 images each
        (60, 4, {}, 1),
        (7, 4, {}, 1),
        (128, 2, {"free_bits": 0.1}, 1),
    ],
)
def test_a_batch_is_cut_into_equal_shares_for_the_threads(
    images: int, threads: int, changes: dict[str, Any], expected: int
) -> None:
    assert how_many(Config(LADDER, replace(TRAIN, **changes)), images, threads) == expected
    assert how_many(Config(ModelConfig(network="mlp"), TRAIN), images, threads) == 1


@pytest.mark.parametrize("key", [(5, -9), (2**31 - 1, 3), (-(2**31), 2**31 - 1)])
def test_shares_see_the_pixels_of_the_whole(key: tuple[int, int]) -> None:
    batch = batch_of(model_of("cvae"), key=key)
    whole, parts = batch.drawn("bernoulli"), [part.drawn("bernoulli") for part in batch.parts(4)]
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    assert torch.equal(torch.cat([part.noise for part in parts]), whole.noise)
    assert batch.labels is not None
    assert torch.equal(torch.cat([part.labels for part in parts if part.labels is not None]), batch.labels)
    assert not torch.equal(parts[0].images, parts[1].images)


@pytest.mark.parametrize("kind", ["vae", "cvae"])
def test_steps_in_shares_are_the_steps(kind: ModelName, monkeypatch: pytest.MonkeyPatch) -> None:
    model, plain = model_of(kind), model_of(kind)
    (moving, tally), (other, counted) = movable(model), movable(plain)
    shared, start = shared_of(Written(model), monkeypatch), model_of(kind).parameters()
    for step in range(3):
        batch = batch_of(model, key=(step, 4))
        shared(model, moving, tally, batch, Schedule(torch.tensor(0.7), torch.tensor(1e-2)), TRAIN)
        train_step(plain, other, counted, batch, Schedule(0.7, 1e-2), TRAIN, fused_adamw)
    assert tally.sums[2] == 3
    for before, ours, theirs in zip(start, moving.weights, other.weights, strict=True):
        assert (ours - theirs).norm() <= 2e-3 * (theirs - before).norm()  # AdamW's first moves make much of a rounding
    for ours, theirs in zip(moving.means, other.means, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip((tally.sums, tally.usual_norm), (counted.sums, counted.usual_norm), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_shares_run_at_the_same_time_each_on_its_own_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    model, before = model_of("vae"), torch.get_num_threads()
    moving, tally = movable(model)
    library = Written(model, wait_for=3)  # none of them goes on before all are there
    shared = shared_of(library, monkeypatch, threads=before + 1)
    shared(model, moving, tally, batch_of(model), Schedule(torch.tensor(1.0), torch.tensor(1e-2)), TRAIN)
    assert len(library.callers) == 3
    assert library.threads == {before + 1}
    assert torch.get_num_threads() == before


def test_a_step_with_a_bad_share_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("vae")
    moving, tally = movable(model)
    batch = batch_of(model)
    batch.noise[-1, 0] = torch.nan
    before = [weight.detach().clone() for weight in moving.weights]
    shared = shared_of(Written(model), monkeypatch)
    shared(model, moving, tally, batch, Schedule(torch.tensor(1.0), torch.tensor(1e-2)), TRAIN)
    assert tally.bad.tolist() == [1, 1]
    assert all(torch.equal(one, other) for one, other in zip(before, moving.weights, strict=True))


class Failing:
    def run(self, tensors: list[Tensor]) -> None:
        raise RuntimeError("the compiled step failed")


def test_where_a_share_fails_training_goes_on_without(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = resolve(Config(LADDER, replace(TRAIN, batch_size=12, compile="yes")), tiny)
    trainer, plain = (Trainer(config, tiny, torch.device("cpu")) for _ in range(2))
    trainer.stepper._quick, trainer.stepper._compiled = shared_of(Failing(), monkeypatch), True
    assert trainer.stepper.shared
    trainer.take_step(0.5)
    plain.take_step(0.5)
    assert not trainer.stepper.shared
    (remark,) = trainer.stepper.remarks
    assert remark == "the step is not compiled, and training goes on without: RuntimeError: the compiled step failed"
    for one, other in zip(trainer.moving.weights, plain.moving.weights, strict=True):
        assert torch.equal(one, other)


def test_what_is_no_compiled_look_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.so").write_text("no library")
    for path in (tmp_path / "missing.so", tmp_path / "text.so", ctypes.util.find_library("m")):
        with pytest.raises(OSError, match=r"."):
            Library(str(path), 1)


def test_the_recipe_is_of_a_share(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve(Config(LADDER, replace(TRAIN, batch_size=60)), tiny)
    trainer = Trainer(config, tiny, torch.device("cpu"))
    whole = trainer.recipe()
    monkeypatch.setattr("vaelab.acceleration.cpu_parallel.FEWEST_IMAGES", 30)
    monkeypatch.setattr("torch.get_num_threads", lambda: 4)
    shared = trainer.recipe()
    assert (whole.shares, shared.shares, shared.threads) == (1, 2, 2)
    assert ((30, *SHAPE), "uint8") in [(shape, dtype) for shape, _, dtype in shared.tensors]
    assert CompileKey.read(shared.text()) == shared
    assert shared.path != whole.path
