"""A step in shares is the step: the same pixels, gradients and moves, on threads of its own."""

import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from building import build_model, trainer_of
from conftest import generator
from torch import Tensor

from vaelab import Config, Dataset
from vaelab.acceleration.cache import _place
from vaelab.acceleration.cpu_parallel import Library, ParallelStep, part_count
from vaelab.acceleration.graph import CompileKey, as_gradients
from vaelab.acceleration.runner import AcceleratedRunner
from vaelab.config import (
    Budget,
    ModelConfig,
    ModelName,
    ResolvedConfig,
    ResolvedModelConfig,
    ResolvedTrainConfig,
    TrainConfig,
)
from vaelab.models.base import Model
from vaelab.objectives.batch import Batch
from vaelab.objectives.elbo import elbo
from vaelab.optim.schedule import Schedule
from vaelab.optim.state import StepStats, TrainState
from vaelab.optim.step import PlainRunner

LADDER = ModelConfig("vae", "ladder", None, "bernoulli", 8, 1, levels="3,2@4,1@2")
TRAIN = TrainConfig(epochs=1, precision="float32")
RESOLVED = ResolvedTrainConfig(Budget(1, "epochs"), 12, "float32", "cpu")
SHAPE = (1, 8, 8)


def model_of(kind: ModelName) -> Model:
    built = build_model(replace(LADDER, model=kind), SHAPE, 3, seed=0)
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


def plain_of(model: Model) -> PlainRunner:
    state = TrainState.of(list(model.parameters()), [])
    return PlainRunner(model, state, StepStats.zeros(torch.device("cpu")), RESOLVED)


class Written:
    """In place of a compiled library: the look as it is written. It notes who calls, and waits until so many are there."""

    def __init__(self, model: Model, wait_for: int = 1) -> None:
        self.look = as_gradients(model, RESOLVED)
        self.callers: set[str] = set()
        self.threads: set[int] = set()
        self.together, self.alone = threading.Barrier(wait_for), threading.Lock()

    def run(self, tensors: list[Tensor]) -> None:
        self.together.wait(60)
        self.callers.add(threading.current_thread().name)
        self.threads.add(torch.get_num_threads())
        with self.alone:  # as it is written it puts other weights into the one model
            self.look(*tensors)


def shared_of(
    library: object, plain: PlainRunner, monkeypatch: pytest.MonkeyPatch, parts: int = 3, threads: int = 1
) -> ParallelStep:
    monkeypatch.setattr("vaelab.acceleration.cpu_parallel.Library", lambda *_: library)
    return ParallelStep(Path(), plain, parts, threads)


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
    ladder = ResolvedModelConfig("vae", "ladder", 3, "bernoulli", 8, 1, levels="3")
    assert part_count(ResolvedConfig(ladder, replace(RESOLVED, **changes)), images, threads) == expected
    assert part_count(ResolvedConfig(replace(ladder, network="mlp"), RESOLVED), images, threads) == 1


@pytest.mark.parametrize("key", [(5, -9), (2**31 - 1, 3), (-(2**31), 2**31 - 1)])
def test_shares_see_the_pixels_of_the_whole(key: tuple[int, int]) -> None:
    batch = batch_of(model_of("cvae"), key=key)
    whole, parts = batch.prepared("bernoulli"), [part.prepared("bernoulli") for part in batch.split(4)]
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)
    assert torch.equal(torch.cat([part.noise for part in parts]), whole.noise)
    assert batch.labels is not None
    assert torch.equal(torch.cat([part.labels for part in parts if part.labels is not None]), batch.labels)
    assert not torch.equal(parts[0].images, parts[1].images)


@pytest.mark.parametrize("kind", ["vae", "cvae"])
def test_steps_in_shares_are_the_steps(kind: ModelName, monkeypatch: pytest.MonkeyPatch) -> None:
    model, plain = model_of(kind), model_of(kind)
    runner, reference = plain_of(model), plain_of(plain)
    moving, tally, other, counted = runner.state, runner.stats, reference.state, reference.stats
    shared, start = shared_of(Written(model), runner, monkeypatch), model_of(kind).parameters()
    for step in range(3):
        batch = batch_of(model, key=(step, 4))
        shared(batch, Schedule(torch.tensor(0.7), torch.tensor(1e-2)))
        reference.step(batch, Schedule(0.7, 1e-2), elbo)
    assert tally.sums[2] == 3
    for before, ours, theirs in zip(start, moving.weights, other.weights, strict=True):
        assert (ours - theirs).norm() <= 2e-3 * (theirs - before).norm()  # AdamW's first moves make much of a rounding
    for ours, theirs in zip(moving.means, other.means, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    for ours, theirs in zip((tally.sums, tally.usual_norm), (counted.sums, counted.usual_norm), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_shares_run_at_the_same_time_each_on_its_own_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    model, before = model_of("vae"), torch.get_num_threads()
    library = Written(model, wait_for=3)  # none of them goes on before all are there
    shared = shared_of(library, plain_of(model), monkeypatch, threads=before + 1)
    shared(batch_of(model), Schedule(torch.tensor(1.0), torch.tensor(1e-2)))
    assert len(library.callers) == 3
    assert library.threads == {before + 1}
    assert torch.get_num_threads() == before


def test_a_step_with_a_bad_share_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of("vae")
    runner, batch = plain_of(model), batch_of(model)
    moving, tally = runner.state, runner.stats
    batch.noise[-1, 0] = torch.nan
    before = [weight.detach().clone() for weight in moving.weights]
    shared = shared_of(Written(model), runner, monkeypatch)
    shared(batch, Schedule(torch.tensor(1.0), torch.tensor(1e-2)))
    assert tally.bad.tolist() == [1, 1]
    assert all(torch.equal(one, other) for one, other in zip(before, moving.weights, strict=True))


class Failing:
    def run(self, tensors: list[Tensor]) -> None:
        raise RuntimeError("the compiled step failed")


def test_where_a_share_fails_training_goes_on_without(
    tiny: Dataset, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = Config(LADDER, replace(TRAIN, batch_size=12, compile="yes"))
    trainer, plain = (trainer_of(config, tiny) for _ in range(2))
    runner = trainer.runner
    assert isinstance(runner, AcceleratedRunner)
    runner._fast, runner.compiled = shared_of(Failing(), runner.plain, monkeypatch), True
    trainer.take_step(0.5)
    plain.take_step(0.5)
    assert not runner.compiled
    (remark,) = runner.remarks
    assert "not compiled" in remark
    assert "RuntimeError: the compiled step failed" in remark
    for one, other in zip(trainer.state.weights, plain.state.weights, strict=True):
        assert torch.equal(one, other)


def test_what_is_no_compiled_package_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt2").write_text("no package")
    with zipfile.ZipFile(tmp_path / "none.pt2", "w") as archive:
        archive.writestr("readme", "no library")
    with zipfile.ZipFile(tmp_path / "broken.pt2", "w") as archive:
        archive.writestr("data/model.so", "no library")
    for name in ("missing.pt2", "text.pt2", "none.pt2", "broken.pt2"):
        with pytest.raises((OSError, zipfile.BadZipFile), match=r"."):
            Library(tmp_path / name, 1)


def test_the_key_is_of_a_part(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(LADDER, replace(TRAIN, batch_size=60, compile="yes"))
    runner = trainer_of(config, tiny).runner
    assert isinstance(runner, AcceleratedRunner)
    whole = runner.key()
    monkeypatch.setattr("vaelab.acceleration.cpu_parallel.FEWEST_IMAGES", 30)
    monkeypatch.setattr("torch.get_num_threads", lambda: 4)
    part = runner.key()
    assert (whole.parts, part.parts, part.threads) == (1, 2, 2)
    assert ((30, *SHAPE), "uint8") in [(shape, dtype) for shape, _, dtype in part.tensors]
    assert CompileKey.from_json(part.to_json()) == part
    assert _place(part) != _place(whole)
