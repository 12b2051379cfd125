"""The step: what it moves follows AdamW's formula, a bad one moves nothing, and in parts it is the same step."""

import math
from dataclasses import replace

import building
import pytest
import torch

from vaelab import Config, Dataset
from vaelab.objectives.batch import Batch
from vaelab.objectives.elbo import elbo
from vaelab.optim.adamw import AdamW, Descent, adamw_for, fused_adamw, plain_adamw
from vaelab.optim.schedule import Schedule, schedule_at
from vaelab.optim.state import TrainState
from vaelab.training.trainer import Trainer


def moving(count: int = 3) -> TrainState:
    generator = torch.Generator().manual_seed(0)
    lists = [[torch.randn(4, index + 2, generator=generator) for index in range(count)] for _ in range(2)]
    means, squares = ([torch.zeros_like(weight) for weight in lists[0]] for _ in range(2))
    return TrainState(lists[0], lists[1], means, squares, torch.zeros(()))


@pytest.mark.parametrize("move", [plain_adamw, fused_adamw])
def test_adamw_is_that_of_pytorch(move: AdamW) -> None:
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
        move(ours, Descent(gradients, torch.tensor(1.0 + step), torch.zeros(()), 0.01, 0.1))
    for mine, other in zip(ours.weights, theirs, strict=True):
        torch.testing.assert_close(mine, other.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("move", [plain_adamw, fused_adamw])
def test_weights_kept_by_column_move_as_others(move: AdamW) -> None:
    """Whichever way their gradients lie."""
    rows, columns = (moving() for _ in range(2))
    for part in (columns.weights, columns.averaged, columns.means, columns.squares):
        part[:] = [each.t().contiguous().t() if each.ndim == 2 else each for each in part]
    assert any(each.ndim == 2 and not each.is_contiguous() for each in columns.weights)
    gradients = [torch.randn(weight.shape, generator=torch.Generator().manual_seed(3)) for weight in rows.weights]
    for each in (rows, columns):
        each.updates.add_(1)
        move(each, Descent(gradients, torch.ones(()), torch.zeros(()), 0.01, 0.1))
    for one, other in zip(rows.weights + rows.squares, columns.weights + columns.squares, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("move", [plain_adamw, fused_adamw])
def test_a_bad_step_moves_neither_weights_nor_moments(move: AdamW) -> None:
    ours = moving()
    before = [tensor.clone() for part in (ours.weights, ours.means, ours.squares) for tensor in part]
    gradients = [torch.full_like(weight, torch.nan) for weight in ours.weights]
    move(ours, Descent(gradients, torch.tensor(torch.nan), torch.ones(()), 0.01, 0.1))
    after = [tensor for part in (ours.weights, ours.means, ours.squares) for tensor in part]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize(("device", "expected"), [("cpu", fused_adamw), ("cuda", fused_adamw), ("mps", plain_adamw)])
def test_the_fused_kernel_is_used_only_where_it_skips_bad_steps(device: str, expected: AdamW) -> None:
    """PyTorch's fused kernel for MPS takes `grad_scale` and `found_inf` and ignores them: NaN steps would be taken."""
    assert adamw_for(torch.device(device)) is expected


def test_average_follows_the_weights(monkeypatch: pytest.MonkeyPatch, tiny: Dataset, tiny_config: Config) -> None:
    """Each of the first steps; then every few, as far as in those together."""
    monkeypatch.setattr("vaelab.optim.ema.EVERY_STEP_UNTIL", 6)
    monkeypatch.setattr("vaelab.optim.ema.UPDATE_EVERY", 4)
    trainer = trainer_of(tiny_config, tiny, ema=0.6)
    expected = trainer.state.averaged[0].clone()
    for step in range(20):
        trainer.take_step(0.5)
        seen = range(step, step + 1) if step < 6 else range(step - 3, step + 1) if step % 4 == 3 else ()
        kept = math.prod(min(0.6, (1 + each) / (10 + each)) for each in seen)
        expected = expected * kept + trainer.state.weights[0].detach() * (1 - kept)
        torch.testing.assert_close(trainer.state.averaged[0], expected)


def trainer_of(config: Config, dataset: Dataset, **changes: object) -> Trainer:
    config = replace(config, train=replace(config.train, **changes))
    return building.trainer_of(config, dataset)


def taken(trainer: Trainer) -> tuple[Batch, Schedule]:
    """The batch and the schedule that the next step would see."""
    return trainer.batches.at(trainer.step), schedule_at(trainer.config, 0.5)


@pytest.mark.parametrize("at_once", [1, 7, 16, 31])
@pytest.mark.parametrize("changes", [{}, {"beta": 3.0}, {"free_bits": 0.02}, {"free_bits": 5.0}])
def test_in_parts_a_batch_has_the_same_loss_and_gradients(
    tiny: Dataset, tiny_config: Config, at_once: int, changes: dict[str, float]
) -> None:
    """Free bits are of the mean over the batch: with parts taken by themselves, other dimensions would be below them."""
    trainer = trainer_of(tiny_config, tiny, **changes)
    for _ in range(20):
        trainer.take_step(0.5)
    batch, schedule = taken(trainer)
    given = trainer, batch, schedule, elbo
    whole, parts = building.loss_and_grad(*given), building.loss_and_grad(*given, at_once=at_once)
    for one, other in zip((*whole[:3], *whole.gradients), (*parts[:3], *parts.gradients), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-6)
    assert any(gradient.abs().max() > 1e-2 for gradient in whole.gradients)


def test_an_autoencoder_is_taken_in_parts_too(tiny: Dataset, tiny_config: Config) -> None:
    trainer = trainer_of(replace(tiny_config, model=replace(tiny_config.model, model="ae")), tiny)
    given = trainer, *taken(trainer), elbo
    for one, other in zip(
        building.loss_and_grad(*given).gradients, building.loss_and_grad(*given, at_once=10).gradients, strict=True
    ):
        torch.testing.assert_close(other, one, rtol=1e-6, atol=1e-6)


def test_parts_of_a_batch_are_its_images_in_order() -> None:
    whole = Batch(torch.arange(10.0)[:, None], torch.arange(10), torch.arange(20.0).view(2, 10, 1))
    parts = whole.split(4)
    assert [len(part.images) for part in parts] == [4, 4, 2]
    assert torch.equal(torch.cat([part.noise for part in parts], dim=-2), whole.noise)
    assert all(torch.equal(part.images[:, 0].long(), part.labels) for part in parts if part.labels is not None)
