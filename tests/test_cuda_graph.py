"""A recorded step sees each batch and changes what the step as it stands changes; on a GPU, by a CUDA graph."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from building import trainer_of

from vaelab import Config, Dataset, fit
from vaelab.acceleration.cuda_graph import WARM_UP, recorded
from vaelab.acceleration.runner import AcceleratedRunner
from vaelab.config import CompileName, ModelConfig
from vaelab.objectives import elbo
from vaelab.precision import rounded_weights
from vaelab.training.fit import Progress
from vaelab.training.trainer import Trainer

NO_GPU = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a CUDA device: run pytest -m gpu where there is one"
)
LADDER = ModelConfig("vae", "ladder", None, "bernoulli", 8, 1, levels="3,2@4,1@2", spatial_mixing="conv")


def with_train(config: Config, **changes: Any) -> Config:
    return replace(config, train=replace(config.train, **changes))


def accelerated(config: Config, dataset: Dataset, **changes: Any) -> tuple[Trainer, AcceleratedRunner]:
    """A trainer whose step may be recorded, and its runner."""
    trainer = trainer_of(with_train(config, **({"compile": "auto"} | changes)), dataset)
    assert isinstance(trainer.runner, AcceleratedRunner)
    return trainer, trainer.runner


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", ["vae", "cvae"])
def test_what_is_replayed_is_the_step(tiny: Dataset, tiny_config: Config, kind: str, shared: bool) -> None:
    """In place of CUDA's graph, what is recorded is kept as a function: of what it was shown then, and of nothing else."""
    config = replace(tiny_config, model=replace(tiny_config.model, model=kind))  # pyright: ignore[reportArgumentType]
    (trainer, runner), plain = accelerated(config, tiny), trainer_of(config, tiny)
    records, replays = 0, 0

    def record(work: Callable[[], object]) -> Callable[[], object]:
        nonlocal records
        records += 1

        def replay() -> None:
            nonlocal replays
            replays += 1
            work()

        return replay

    whole = recorded(runner._plain_step(runner.plain.train_step.adamw), record)
    runner._fast = runner._shared_step(record) if shared else whole
    for step in range(WARM_UP + 5):
        trainer.take_step(step / 8)
        plain.take_step(step / 8)
    assert (records, replays) == (1, 5)
    assert not runner.compiled
    for weight, other in zip(trainer.state.weights, plain.state.weights, strict=True):
        torch.testing.assert_close(weight, other)
    torch.testing.assert_close(trainer.stats.sums, plain.stats.sums)


def test_a_step_that_cannot_be_recorded_is_taken_as_it_stands(tiny: Dataset, tiny_config: Config) -> None:
    (trainer, runner), plain = accelerated(tiny_config, tiny), trainer_of(tiny_config, tiny)

    def refuse(_: object) -> Callable[[], object]:
        raise RuntimeError("operation not permitted when stream is capturing\nand much more")

    runner._fast = recorded(runner._plain_step(runner.plain.train_step.adamw), refuse)
    for _ in range(WARM_UP + 2):
        trainer.take_step(0.5)
        plain.take_step(0.5)
    assert runner.remarks == [
        "the training step is not recorded, and training continues without: RuntimeError: operation not permitted when stream "
        "is capturing"
    ]
    for weight, other in zip(trainer.state.weights, plain.state.weights, strict=True):
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
    runner = trainer.runner
    if wish == "no":
        assert not isinstance(runner, AcceleratedRunner)
        return
    assert isinstance(runner, AcceleratedRunner)
    runner.plain.device, runner.on_cpu, runner._key = torch.device("cuda"), False, None
    runner.config = replace(runner.config, train=replace(runner.config.train, device="cuda"))
    monkeypatch.setattr("vaelab.acceleration.runner.compiled_by_torch", lambda step: asked.append("compile") or step)
    assert list(runner.prepare()) == []
    assert runner._fast is not None
    runner.tend(299.0)
    assert asked == ["compile"] * (wish == "yes")
    runner.tend(301.0)
    assert asked == ["compile"] * (wish == "yes" or not ladder)


@pytest.mark.parametrize("ladder", [False, True])
def test_weights_that_are_cast_at_once_are_those_that_autocast_casts(
    tiny: Dataset, tiny_config: Config, ladder: bool
) -> None:
    config = replace(tiny_config, model=LADDER) if ladder else tiny_config
    trainer = trainer_of(config, tiny)
    trainer.take_step(0.5)  # away from the zeros that a ladder begins with
    model, batch = trainer.model, trainer.batches.at(trainer.step).prepared("bernoulli")
    given, weights = (batch.images, batch.labels, batch.noise), list(model.parameters())
    found = []
    with torch.autocast("cpu", torch.bfloat16):
        for made in (model(*given), torch.func.functional_call(model, rounded_weights(model), given)):
            loss = elbo.loss(elbo.terms_of(made, batch.images))
            found.append((loss, *torch.autograd.grad(loss, weights)))
    for one, other in zip(*found, strict=True):
        assert one.dtype == other.dtype == torch.float32
        assert (one - other).norm() <= 0.02 * one.norm()


def test_a_weight_that_two_layers_share_is_cast_once(tiny: Dataset, tiny_config: Config) -> None:
    trainer = trainer_of(replace(tiny_config, model=replace(LADDER, levels="3,2,2")), tiny)
    model, batch = trainer.model, trainer.batches.at(trainer.step).prepared("bernoulli")
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
    (trainer, runner), plain = (
        accelerated(config, tiny, device="cuda"),
        trainer_of(with_train(config, device="cuda"), tiny),
    )
    if compile_it:
        runner.compile()
    else:
        list(runner.prepare())
    for _ in range(WARM_UP + 5):
        trainer.take_step(0.5)
        plain.take_step(0.5)
    assert runner._fast is not None
    assert runner.compiled == compile_it
    assert not runner.remarks
    torch.testing.assert_close(trainer.stats.sums, plain.stats.sums, rtol=1e-3, atol=1e-2)


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
