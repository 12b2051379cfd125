"""A finish that minimises the importance-weighted bound: when it comes, what it lowers, and that parts add up to the whole."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from building import loss_and_grad, negative_elbo, negative_importance_bound, trainer_of

from vaelab import runs
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data import Dataset
from vaelab.errors import ConfigError
from vaelab.objectives.batch import held_out_levels
from vaelab.objectives.importance import importance_weighted
from vaelab.optim.schedule import Schedule
from vaelab.training.fit import fit
from vaelab.training.resolve import resolve


def config(**train: object) -> Config:
    model = ModelConfig(model="vae", network="mlp", latent_dim=4, likelihood="bernoulli", width=32, depth=1)
    return Config(model, TrainConfig(batch_size=32, device="cpu", compile="no", **train))  # pyright: ignore[reportArgumentType]


def test_it_comes_at_the_end(tiny: Dataset) -> None:
    trainer = trainer_of(config(epochs=2, iwae_samples=5, iwae_fraction=0.25), tiny)
    for fraction, finishing in ((0.0, False), (0.74, False), (0.75, True), (1.0, True)):
        trainer.take_step(fraction)
        assert trainer.fine_tuning is finishing
    assert torch.equal(trainer.batches.at(trainer.step, 5).images, trainer.batches.at(trainer.step).images)
    assert trainer.batches.at(trainer.step, 5).noise.shape == (5, 32, 4)


def test_it_lowers_the_bound_and_its_weights_are_kept(tiny: Dataset) -> None:
    """The same training with and without: the bound of its own K is lower, at the cost of −ELBO."""
    bounds, elbos = [], []
    levels = held_out_levels(tiny.test.images, "bernoulli")
    for samples in (1, 20):
        *_, last = fit(config(epochs=120, iwae_samples=samples, iwae_fraction=0.5), tiny)
        bounds.append(negative_importance_bound(last.model, levels, samples=20).mean().item())
        elbos.append(negative_elbo(last.model, levels).mean().item())
    assert bounds[1] < bounds[0] - 0.1
    assert elbos[1] > elbos[0]


def test_its_weights_are_kept_whatever_beta_was(tiny: Dataset, tmp_path: Path) -> None:
    """With a small β the objective before the finish lies far below the bound: they are two measures."""
    for _ in fit(config(epochs=40, beta=0.1, iwae_samples=3, iwae_fraction=0.25), tiny, out=tmp_path / "run"):
        pass
    steps = runs.read_metrics(run := runs.open_run(tmp_path / "run"))[-1]["step"]
    assert runs.weight_facts(run)["step"] >= 0.75 * steps


def test_interrupted_within_it_the_training_is_the_same(tiny: Dataset, tmp_path: Path) -> None:
    asked = config(epochs=8, iwae_samples=3, iwae_fraction=0.5)
    for name, stop in (("whole", None), ("stopped", 6.5)):
        training = fit(asked, tiny, out=tmp_path / name)
        for progress in training:
            if stop is not None and progress.epoch >= stop:
                break
        training.close()
    for _ in fit(asked, tiny, out=tmp_path / "stopped", resume=True):
        pass
    whole, stopped = (runs.load_resume(runs.open_run(tmp_path / name))[0] for name in ("whole", "stopped"))
    for name, tensor in whole.items():
        assert torch.equal(tensor, stopped[name]), name


def test_parts_add_up_to_the_whole(tiny: Dataset) -> None:
    made = trainer_of(config(epochs=1, iwae_samples=3, precision="float32"), tiny)
    batch = made.batches.at(made.step, 3)
    given = made, batch, Schedule(1.0, 1e-3), importance_weighted
    whole, parts = loss_and_grad(*given), loss_and_grad(*given, at_once=7)
    for one, other in zip(
        (whole.loss, whole.distortion, whole.rate), (parts.loss, parts.distortion, parts.rate), strict=True
    ):
        torch.testing.assert_close(one, other)
    for one, other in zip(whole.gradients, parts.gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_an_autoencoder_has_none(tiny: Dataset) -> None:
    asked = config(epochs=1, iwae_samples=5)
    with pytest.raises(
        ConfigError, match=r"`iwae_samples`: got 5 for an autoencoder, which draws no z; expected `model=vae`"
    ):
        resolve(replace(asked, model=replace(asked.model, model="ae")), tiny)
    with pytest.raises(
        ConfigError, match=r"`iwae_fraction`: got 1\.5; expected a finite number of at least 0 and of at most 1"
    ):
        TrainConfig(iwae_fraction=1.5)


def test_the_phase_is_kept_in_what_resuming_needs(tiny: Dataset) -> None:
    """A run that is resumed after its budget is over takes no step, and compares weights by the bound as before."""
    made, other = (trainer_of(config(epochs=4, iwae_samples=3), tiny) for _ in range(2))
    made.validate(0.0)
    made.take_step(1.0)
    tensors, facts = made.state_to_save()
    other.restore(tensors, json.loads(json.dumps(facts)))
    assert other.fine_tuning
    other.validate(1.0)
    assert other.best is not None
    assert other.best.fine_tuned
