"""After an out-of-memory error, training, validation and evaluation continue in smaller batches, with the same results."""

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from building import trainer_of

from vaelab import Config, Dataset, fit
from vaelab.errors import ConfigError, TrainingError
from vaelab.inference.labels import label_nats
from vaelab.memory import half, is_out_of_memory, map_batches, retry_halved
from vaelab.models.base import Model
from vaelab.objectives.batch import held_out_levels
from vaelab.objectives.bounds import held_out_terms, negative_bounds
from vaelab.training.trainer import Trainer

ON_A_GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
ON_THE_CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried to"
)
ON_WINDOWS = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:116] data. DefaultCPUAllocator: not enough memory: you tried to"
)


def limit_memory(model: Model, most: int, error: RuntimeError = ON_A_GPU) -> list[int]:
    """Make `model` run out of memory above `most` images (times samples); return the list of sizes it is called with."""
    sizes: list[int] = []

    def check(_: object, inputs: tuple[Any, ...]) -> None:
        sizes.append(inputs[2][..., 0].numel())
        if sizes[-1] > most:
            raise error

    model.register_forward_pre_hook(check)
    return sizes


@pytest.fixture
def trainer(tiny: Dataset, tiny_config: Config) -> Trainer:
    return trainer_of(tiny_config, tiny)


@pytest.mark.parametrize("error", [ON_A_GPU, ON_THE_CPU, ON_WINDOWS])
def test_pytorch_s_messages_are_recognised(error: RuntimeError) -> None:
    assert is_out_of_memory(error)


def test_other_errors_are_not_out_of_memory_errors() -> None:
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="shapes"):
        map_batches(3, 2, failing(RuntimeError("shapes")))


def failing(error: RuntimeError) -> Callable[[object], None]:
    def work(_: object) -> None:
        raise error

    return work


def test_half_is_rounded_up() -> None:
    assert [half(count) for count in (1, 2, 3, 100)] == [1, 1, 2, 50]


def test_every_image_is_done_once_and_in_order() -> None:
    tried = []

    def work(part: slice) -> list[int]:
        tried.append(part.stop - part.start)
        if tried[-1] > 3:
            raise ON_THE_CPU
        return list(range(20))[part]

    assert list(itertools.chain(*map_batches(20, 10, work))) == list(range(20))
    assert tried == [10, 5, 3, 3, 3, 3, 3, 3, 2]


def test_one_image_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"memory.* single image .*smaller model"):
        retry_halved(failing(ON_A_GPU), 8)


@pytest.mark.parametrize("error", [ON_A_GPU, ON_THE_CPU])
def test_training_in_smaller_batches_gives_the_same_weights(
    tiny: Dataset, tiny_config: Config, trainer: Trainer, error: RuntimeError
) -> None:
    whole = trainer_of(tiny_config, tiny)
    before = [weight.detach().clone() for weight in whole.state.weights]
    sizes = limit_memory(trainer.model, 9, error)
    for _ in range(3):
        whole.take_step(0.5)
        trainer.take_step(0.5)
    assert sizes[:3] == [32, 16, 8]
    assert set(sizes[3:]) == {8}
    (remark,) = trainer.runner.remarks
    assert re.search(r"memory.*\b32\b.*\b8 images", remark)
    torch.testing.assert_close(trainer.stats.sums, whole.stats.sums, rtol=1e-6, atol=0)
    for start, one, other in zip(before, whole.state.weights, trainer.state.weights, strict=True):
        assert (one - start).norm() > 1e-3
        assert (one - other).norm() < 1e-4 * (one - start).norm()


def test_training_without_memory_for_one_image_is_an_error(trainer: Trainer) -> None:
    limit_memory(trainer.model, 0)
    before = [weight.detach().clone() for weight in trainer.state.weights]
    with pytest.raises(TrainingError, match=r"not enough memory.* one image.*`width`.*`device`"):
        trainer.take_step(0.5)
    assert all(torch.equal(old, new) for old, new in zip(before, trainer.state.weights, strict=True))


def test_other_errors_of_a_step_are_not_hidden(trainer: Trainer) -> None:
    limit_memory(trainer.model, 0, RuntimeError("a mistake in a network"))
    with pytest.raises(RuntimeError, match="a mistake in a network"):
        trainer.take_step(0.5)


def test_the_remark_is_made_once(tiny: Dataset, tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaelab.training.loop.PROGRESS_EVERY", 0.0)
    made = Trainer.__init__

    def with_little_memory(self: Trainer, *given: Any, **named: Any) -> None:
        made(self, *given, **named)
        limit_memory(self.model, 20)

    monkeypatch.setattr(Trainer, "__init__", with_little_memory)
    remarks = [progress.remark for progress in fit(tiny_config, tiny)]
    assert len(remarks) > 5
    (remark,) = [remark for remark in remarks if remark]
    assert re.search(r"memory.*\b32\b.*\b16 images", remark)


def test_validation_continues_in_smaller_batches(tiny: Dataset, tiny_config: Config, trainer: Trainer) -> None:
    sizes = limit_memory(trainer.averaged, 10)
    assert trainer.validate(0.0) == trainer_of(tiny_config, tiny).validate(0.0)
    assert sizes == [30, 15, 8, 8, 8, 6]


@pytest.fixture
def model(trainer: Trainer) -> Iterator[Model]:
    with torch.no_grad():
        yield trainer.averaged


def test_scores_do_not_depend_on_the_batch_size(tiny: Dataset, trainer: Trainer, model: Model) -> None:
    images = held_out_levels(tiny.test.images, "bernoulli")
    labels = torch.from_numpy(tiny.test.labels)
    noise = torch.randn(30, model.latent_dim, generator=torch.Generator().manual_seed(0))

    def scores() -> list[torch.Tensor]:
        terms = held_out_terms(model, images, labels, noise)
        curve = negative_bounds(model, images, labels, samples=(1, 5, 20))
        return [terms.distortion, terms.rate, curve, label_nats(model, images)]

    before = scores()
    sizes = limit_memory(model, 7)
    after = scores()
    assert max(sizes) > 7
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5)


def test_progress_of_the_bound_counts_each_image_once(tiny: Dataset, model: Model) -> None:
    images, labels = held_out_levels(tiny.test.images, "bernoulli"), torch.from_numpy(tiny.test.labels)
    limit_memory(model, 50)
    reported: list[tuple[int, int]] = []
    negative_bounds(model, images, labels, samples=(20,), progress=lambda *counts: reported.append(counts))
    assert [done for done, _ in reported] == sorted({done for done, _ in reported})
    assert reported[-1] == (30, 30)


def test_a_failed_step_changes_no_state(trainer: Trainer) -> None:
    """Neither moments nor counters; the weights are checked above."""
    kept = {name: tensor.clone() for name, tensor in trainer._counters_and_moments().items()}
    limit_memory(trainer.model, 0)
    with pytest.raises(TrainingError):
        trainer.take_step(0.5)
    assert all(torch.equal(kept[name], tensor) for name, tensor in trainer._counters_and_moments().items())
