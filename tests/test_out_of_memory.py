"""Where memory runs out, training, validation and evaluation go on with fewer images at a time, and come to the same."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from vaelab import Config, Dataset, fit
from vaelab.errors import ConfigError, TrainingError
from vaelab.inference.labels import label_nats
from vaelab.memory import half, is_out_of_memory, map_batches, retry_halved
from vaelab.models.base import Model
from vaelab.objectives.bounds import held_out_terms, negative_bound_curve
from vaelab.optim.batches import held_out_levels
from vaelab.training.fit import complete
from vaelab.training.trainer import Trainer

ON_A_GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
ON_THE_CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried to"
)
ON_WINDOWS = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:116] data. DefaultCPUAllocator: not enough memory: you tried to"
)


def short(model: Model, most: int, error: RuntimeError = ON_A_GPU) -> list[int]:
    """Let `model` have memory for `most` images (with their samples) at a time; what it was asked for is listed."""
    asked: list[int] = []

    def look(_: object, inputs: tuple[Any, ...]) -> None:
        asked.append(inputs[2][..., 0].numel())
        if asked[-1] > most:
            raise error

    model.register_forward_pre_hook(look)
    return asked


def trainer_of(config: Config, dataset: Dataset) -> Trainer:
    return Trainer(complete(config, dataset), dataset, torch.device("cpu"))


@pytest.fixture
def trainer(tiny: Dataset, tiny_config: Config) -> Trainer:
    return trainer_of(tiny_config, tiny)


@pytest.mark.parametrize("error", [ON_A_GPU, ON_THE_CPU, ON_WINDOWS])
def test_pytorch_s_words_for_it_are_known(error: RuntimeError) -> None:
    assert is_out_of_memory(error)


def test_other_errors_are_not_taken_for_it() -> None:
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


def test_where_one_is_too_much_it_is_said() -> None:
    message = r"^got too little memory for a single image; expected enough for one: free some, or take a smaller model"
    with pytest.raises(ConfigError, match=message):
        retry_halved(failing(ON_A_GPU), 8)


@pytest.mark.parametrize("error", [ON_A_GPU, ON_THE_CPU])
def test_a_training_goes_on_with_fewer_images_at_a_time_and_comes_to_the_same(
    tiny: Dataset, tiny_config: Config, trainer: Trainer, error: RuntimeError
) -> None:
    whole = trainer_of(tiny_config, tiny)
    before = [weight.detach().clone() for weight in whole.moving.weights]
    asked = short(trainer.model, 9, error)
    for _ in range(3):
        whole.take_step(0.5)
        trainer.take_step(0.5)
    assert asked[:3] == [32, 16, 8]
    assert set(asked[3:]) == {8}
    assert trainer.stepper.remarks == [
        "memory is short: batches of 32 go through 8 images at a time, for the same loss and gradients"
    ]
    torch.testing.assert_close(trainer.tally.sums, whole.tally.sums, rtol=1e-6, atol=0)
    for start, one, other in zip(before, whole.moving.weights, trainer.moving.weights, strict=True):
        assert (one - start).norm() > 1e-3
        assert (one - other).norm() < 1e-4 * (one - start).norm()


def test_a_training_that_has_no_memory_for_one_image_says_what_to_type(trainer: Trainer) -> None:
    short(trainer.model, 0)
    before = [weight.detach().clone() for weight in trainer.moving.weights]
    message = (
        r"^got too little memory on cpu for a single image; expected enough for one: free some, or take smaller images "
        r"\(--size\), a smaller network \(--width\) or another --device$"
    )
    with pytest.raises(TrainingError, match=message):
        trainer.take_step(0.5)
    assert all(torch.equal(old, new) for old, new in zip(before, trainer.moving.weights, strict=True))


def test_other_errors_of_a_step_are_not_hidden(trainer: Trainer) -> None:
    short(trainer.model, 0, RuntimeError("a mistake in a network"))
    with pytest.raises(RuntimeError, match="a mistake in a network"):
        trainer.take_step(0.5)


def test_the_remark_is_made_once(tiny: Dataset, tiny_config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaelab.training.loop.PROGRESS_EVERY", 0.0)
    made = Trainer.__init__

    def with_little_memory(self: Trainer, *given: Any) -> None:
        made(self, *given)
        short(self.model, 20)

    monkeypatch.setattr(Trainer, "__init__", with_little_memory)
    remarks = [progress.remark for progress in fit(tiny_config, tiny)]
    assert len(remarks) > 5
    assert [remark for remark in remarks if remark] == [
        "memory is short: batches of 32 go through 16 images at a time, for the same loss and gradients"
    ]


def test_validation_goes_on_with_fewer(tiny: Dataset, tiny_config: Config, trainer: Trainer) -> None:
    asked = short(trainer.averaged, 10)
    assert trainer.validate() == trainer_of(tiny_config, tiny).validate()
    assert asked == [30, 15, 8, 8, 8, 6]


@pytest.fixture
def model(trainer: Trainer) -> Iterator[Model]:
    with torch.no_grad():
        yield trainer.averaged


def test_scores_do_not_depend_on_it(tiny: Dataset, trainer: Trainer, model: Model) -> None:
    images = held_out_levels(tiny.test.images, "bernoulli")
    labels = torch.from_numpy(tiny.test.labels)
    noise = torch.randn(30, model.latent_dim, generator=torch.Generator().manual_seed(0))

    def scores() -> list[torch.Tensor]:
        terms = held_out_terms(model, images, labels, noise)
        curve = negative_bound_curve(model, images, labels, samples=(1, 5, 20))
        return [terms.distortion, terms.rate, curve, label_nats(model, images)]

    before = scores()
    asked = short(model, 7)
    after = scores()
    assert max(asked) > 7
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5)


def test_a_bound_whose_progress_is_told_counts_each_image_once(tiny: Dataset, model: Model) -> None:
    images, labels = held_out_levels(tiny.test.images, "bernoulli"), torch.from_numpy(tiny.test.labels)
    short(model, 50)
    told: list[tuple[int, int]] = []
    negative_bound_curve(model, images, labels, samples=(20,), progress=lambda *counts: told.append(counts))
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1] == (30, 30)


def test_where_memory_runs_out_nothing_has_been_moved(trainer: Trainer) -> None:
    """No moment, and no count; the weights are looked at above."""
    kept = {name: tensor.clone() for name, tensor in trainer._kept().items()}
    short(trainer.model, 0)
    with pytest.raises(TrainingError):
        trainer.take_step(0.5)
    assert all(torch.equal(kept[name], tensor) for name, tensor in trainer._kept().items())
