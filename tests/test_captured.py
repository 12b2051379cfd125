"""A recorded step sees each batch and changes what the step as it stands changes; on a GPU, by a CUDA graph."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from vaelab.acceleration.threads import Team

from vaelab import Config, Dataset, fit
from vaelab.acceleration.cuda_graph import WARM_UP, captured, plain_step
from vaelab.acceleration.policy import Compiling
from vaelab.config import CompileName, ModelConfig
from vaelab.objectives import elbo
from vaelab.precision import rounded_weights
from vaelab.training.fit import Progress
from vaelab.training.resolve import resolve
from vaelab.training.trainer import Trainer

NO_GPU = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device: run pytest -m gpu where there is one"
)
LADDER = ModelConfig("vae", "ladder", None, "bernoulli", 8, 1, levels="3,2@4,1@2", spatial_mixing="conv")


def with_train(config: Config, **changes: Any) -> Config:
    return replace(config, train=replace(config.train, **changes))


def trainer_of(config: Config, dataset: Dataset, device: str = "cpu") -> Trainer:
    return Trainer(resolve(config, dataset), dataset, torch.device(device))


@pytest.mark.parametrize("kind", ["vae", "cvae"])
def test_what_is_replayed_is_the_step(tiny: Dataset, tiny_config: Config, kind: str) -> None:
    """In place of CUDA's graph, what is recorded is kept as a function: of what it was shown then, and of nothing else."""
    config = replace(tiny_config, model=replace(tiny_config.model, model=kind))  # pyright: ignore[reportArgumentType]
    trainer, plain = (trainer_of(config, tiny) for _ in range(2))
    recorded, replays = 0, 0

    def record(work: Callable[[], object]) -> Callable[[], object]:
        nonlocal recorded
        recorded += 1

        def replay() -> None:
            nonlocal replays
            replays += 1
            work()

        return replay

    trainer.stepper._quick = captured(plain_step, record)
    for step in range(WARM_UP + 5):
        trainer.take_step(step / 8)
        plain.take_step(step / 8)
    assert (recorded, replays) == (1, 5)
    assert not trainer.compiled
    for weight, other in zip(trainer.moving.weights, plain.moving.weights, strict=True):
        torch.testing.assert_close(weight, other)
    torch.testing.assert_close(trainer.tally.sums, plain.tally.sums)


def test_a_step_that_cannot_be_recorded_is_taken_as_it_stands(tiny: Dataset, tiny_config: Config) -> None:
    trainer, plain = (trainer_of(tiny_config, tiny) for _ in range(2))

    def refuse(_: object) -> Callable[[], object]:
        raise RuntimeError("operation not permitted when stream is capturing\nand much more")

    trainer.stepper._quick = captured(plain_step, refuse)
    for _ in range(WARM_UP + 2):
        trainer.take_step(0.5)
        plain.take_step(0.5)
    assert trainer.stepper.remarks == [
        "the step is not recorded, and training goes on without: RuntimeError: operation not permitted when stream is capturing"
    ]
    for weight, other in zip(trainer.moving.weights, plain.moving.weights, strict=True):
        torch.testing.assert_close(weight, other)


@pytest.mark.parametrize("ladder", [False, True])
@pytest.mark.parametrize("wish", ["auto", "yes", "no"])
def test_on_a_gpu_all_steps_are_recorded_and_few_trainings_compiled(
    tiny: Dataset, tiny_config: Config, monkeypatch: pytest.MonkeyPatch, ladder: bool, wish: CompileName
) -> None:
    """What is decided for a trainer that says that it is on one."""
    config = with_train(
        replace(tiny_config, model=LADDER) if ladder else tiny_config, compile=wish, epochs=None, seconds=600.0
    )
    trainer, asked = trainer_of(config, tiny), []
    trainer.device = torch.device("cuda")
    monkeypatch.setattr(trainer.stepper, "compile", lambda: asked.append("compile"))
    compiling = Compiling(trainer, resolve(config, tiny), None, Team())
    assert list(compiling.begin()) == []
    assert (trainer.stepper._quick is None) == (wish == "no")
    compiling.tend(299.0)
    assert asked == ["compile"] * (wish == "yes")
    compiling.tend(301.0)
    assert asked == ["compile"] * (wish == "yes" or (wish == "auto" and not ladder))


@pytest.mark.parametrize("ladder", [False, True])
def test_weights_that_are_cast_at_once_are_those_that_autocast_casts(
    tiny: Dataset, tiny_config: Config, ladder: bool
) -> None:
    config = replace(tiny_config, model=LADDER) if ladder else tiny_config
    trainer = trainer_of(config, tiny)
    trainer.take_step(0.5)  # away from the zeros that a ladder begins with
    model, batch = trainer.model, trainer._batch().drawn("bernoulli")
    given, weights = (batch.images, batch.labels, batch.noise), list(model.parameters())
    found = []
    with torch.autocast("cpu", torch.bfloat16):
        for made in (model(*given), torch.func.functional_call(model, rounded_weights(model), given)):
            loss = elbo.loss(elbo.terms(made, batch.images))
            found.append((loss, *torch.autograd.grad(loss, weights)))
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert (one - other).norm() <= 0.02 * one.norm()


def test_a_weight_that_two_layers_share_is_cast_once(tiny: Dataset, tiny_config: Config) -> None:
    trainer = trainer_of(replace(tiny_config, model=replace(LADDER, levels="3,2,2")), tiny)
    model, batch = trainer.model, trainer._batch().drawn("bernoulli")
    first, second = model.get_submodule("rungs.0.prior"), model.get_submodule("rungs.1.prior")
    second.weight = first.weight
    cast = rounded_weights(model)
    assert ("rungs.0.prior.weight" in cast, "rungs.1.prior.weight" in cast) == (True, False)
    with torch.autocast("cpu", torch.bfloat16):
        made = torch.func.functional_call(model, cast, (batch.images, batch.labels, batch.noise))
    assert made.likelihood.log_prob(batch.images).isfinite().all()


@pytest.mark.gpu
@NO_GPU
@pytest.mark.parametrize("ladder", [False, True])
@pytest.mark.parametrize("compile_it", [False, True])
def test_on_a_gpu_it_is_the_same_step(tiny: Dataset, tiny_config: Config, ladder: bool, compile_it: bool) -> None:
    config = replace(tiny_config, model=LADDER) if ladder else tiny_config
    trainer, plain = (trainer_of(config, tiny, "cuda") for _ in range(2))
    if compile_it:
        trainer.compile()
    else:
        trainer.stepper.record()
    for _ in range(WARM_UP + 5):
        trainer.take_step(0.5)
        plain.take_step(0.5)
    assert trainer.stepper._quick is not None
    assert trainer.compiled == compile_it
    assert not trainer.stepper.remarks
    torch.testing.assert_close(trainer.tally.sums, plain.tally.sums, rtol=1e-3, atol=1e-2)


@pytest.mark.gpu
@NO_GPU
def test_a_training_on_a_gpu_records_its_steps(tiny: Dataset, tiny_config: Config) -> None:
    def last(**changes: Any) -> Progress:
        *_, progress = fit(with_train(tiny_config, device="cuda", epochs=30, **changes), tiny)
        return progress

    plain, recorded = last(compile="no"), last(compile="auto")
    assert plain.validation is not None
    assert recorded.validation is not None
    assert recorded.remark is None
    assert recorded.validation.nats == pytest.approx(plain.validation.nats, abs=0.5)
