"""A training whose figures are no longer finite ends with an error of one line, and leaves no weights that are of no use."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from building import resolve_model, trainer_of
from conftest import flat
from sklearn.exceptions import NotFittedError
from torch import Tensor, nn

import vaelab
from vaelab import runs
from vaelab.cli import main
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data import Dataset, Split
from vaelab.errors import ConfigError, TrainingError
from vaelab.models.custom import build_encoder
from vaelab.objectives.batch import Batch
from vaelab.objectives.elbo import Objective
from vaelab.optim.schedule import Schedule
from vaelab.optim.step import PlainRunner
from vaelab.training.fit import fit
from vaelab.training.trainer import Trainer


def with_train(config: Config, **changes: object) -> Config:
    return replace(config, train=replace(config.train, **changes))


def run_through(config: Config, dataset: Dataset, **options: object) -> vaelab.Progress:
    *_, last = fit(config, dataset, **options)  # type: ignore[arg-type]
    return last


@pytest.fixture
def failing_from(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """From a step on, the weights that the next steps see are infinite."""

    def begin(first: int) -> None:
        take_step = Trainer.take_step

        def spoilt(self: Trainer, fraction: float) -> None:
            take_step(self, fraction)
            if self.step >= first:
                with torch.no_grad():
                    for weights in (self.model, self.averaged):
                        flat(weights).head.weight.fill_(torch.inf)

        monkeypatch.setattr(Trainer, "take_step", spoilt)

    return begin


@pytest.fixture
def failing_at(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """After each of these steps, the weights are infinite."""

    def begin(*steps: int) -> None:
        take_step = Trainer.take_step

        def spoilt(self: Trainer, fraction: float) -> None:
            take_step(self, fraction)
            if self.step in steps:
                with torch.no_grad():
                    for weights in (self.model, self.averaged):
                        flat(weights).head.weight.fill_(torch.inf)

        monkeypatch.setattr(Trainer, "take_step", spoilt)

    return begin


@pytest.fixture
def told_of_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaelab.training.loop.PROGRESS_EVERY", 0.0)


def test_a_hopeless_learning_rate_is_one_line_and_leaves_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as end:
        main(["train", "digits", "--epochs", "2", "--learning-rate", "1e9", "--width", "16", "--out", str(out)])
    assert end.value.code == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r" at step \d+; try a smaller --learning-rate \(it is 1e\+09\) or --beta \(it is 1\); ", line), (
        line
    )
    assert line.endswith(f"; nothing was learned, and {out} is removed")
    assert not out.exists()  # so that the same command with another rate works


@pytest.mark.parametrize(("good", "recovers"), [(3, True), (8, False)])
def test_few_steps_that_are_bad_are_enough(
    tiny: Dataset, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, good: int, recovers: bool
) -> None:
    """Of ten steps the later ones are bad, while the averaged weights are those of the good ones."""
    take_step = Trainer.take_step

    def bad_step(self: Trainer, fraction: float) -> None:
        if self.step == good:
            forward = flat(self.model).decoder.forward
            self.model.decoder.forward = lambda *inputs: forward(*inputs) * torch.nan  # type: ignore[method-assign]
        take_step(self, fraction)

    monkeypatch.setattr(Trainer, "take_step", bad_step)
    few, config = replace(tiny, train=tiny.train[:32]), with_train(tiny_config, epochs=10)
    progress = list(fit(config, few, out=tmp_path / "run"))
    told = [each.remark for each in progress if each.remark]
    assert len(told) == recovers
    assert all(
        re.match("loss or gradient was NaN or infinite in 7 steps in a row, at step 10; ", each) for each in told
    )
    assert progress[-1].skipped == 10 - good
    assert runs.weight_facts(runs.open_run(tmp_path / "run"))["step"] > 0


def test_a_hopeless_learning_rate_is_found_without_validation_images(
    tiny: Dataset, tiny_config: Config, tmp_path: Path
) -> None:
    bare = replace(tiny, validation=tiny.validation[:0])
    with pytest.raises(TrainingError, match="try a smaller `learning_rate`"):
        run_through(with_train(tiny_config, epochs=2, learning_rate=1e38, warmup=0.0), bare, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_weights_that_give_no_figures_are_found_without_validation_images(
    tiny: Dataset, tiny_config: Config, failing_from: Callable[[int], None]
) -> None:
    failing_from(12)  # the last of the steps: all were good
    bare = replace(tiny, train=tiny.train[:32], validation=tiny.validation[:0])
    last = run_through(with_train(tiny_config, epochs=12), bare)
    assert last.remark is not None
    assert re.match(
        "the averaged weights give figures that are NaN or infinite, at step 12; .* of step 11 ", last.remark
    )
    assert all(value.isfinite().all() for value in last.model.state_dict().values())


def test_the_weights_before_are_kept(
    tiny: Dataset, tiny_config: Config, tmp_path: Path, failing_from: Callable[[int], None]
) -> None:
    failing_from(60)
    message = r"at step 6\d; try a smaller `learning_rate` .*; the last good weights are saved in .*run$"
    with pytest.raises(TrainingError, match=message):
        run_through(with_train(tiny_config, epochs=20), tiny, out=tmp_path / "run")
    run = runs.open_run(tmp_path / "run")
    assert runs.weight_facts(run)["step"] in [line["step"] for line in runs.read_metrics(run)]
    assert 0 < runs.weight_facts(run)["step"] < 60
    assert all(value.isfinite().all() for value in runs.load_model(run).state_dict().values())
    for line in (tmp_path / "run" / runs.METRICS).read_text().splitlines():
        assert np.isfinite(json.loads(line)["validation"]["nats"])


@pytest.mark.usefixtures("told_of_every_step")
def test_a_run_that_is_resumed_stays_as_it_was(
    tiny: Dataset, tiny_config: Config, tmp_path: Path, failing_from: Callable[[int], None]
) -> None:
    training = fit(with_train(tiny_config, epochs=100), tiny, out=tmp_path / "run")
    assert next(training).step == 1  # nothing was validated yet: what was reached is kept
    training.close()
    before = (tmp_path / "run" / runs.WEIGHTS).read_bytes()
    failing_from(2)
    with pytest.raises(TrainingError, match=r"nothing was learned, and .*run is unchanged$"):
        run_through(Config(), tiny, out=tmp_path / "run", resume=True)
    assert (tmp_path / "run" / runs.WEIGHTS).read_bytes() == before


@pytest.mark.usefixtures("told_of_every_step")
def test_leaving_the_loop_saves_no_weights_that_are_not_finite(
    tiny: Dataset, tiny_config: Config, tmp_path: Path, failing_from: Callable[[int], None]
) -> None:
    failing_from(1)
    training = fit(with_train(tiny_config, epochs=100), tiny, out=tmp_path / "run")
    assert not flat(next(training).model).head.weight.isfinite().any()
    training.close()
    model = runs.load_model(runs.open_run(tmp_path / "run"))
    assert all(value.isfinite().all() for value in model.state_dict().values())


def test_a_training_that_diverges_goes_on_at_half_the_learning_rate(
    tiny: Dataset,
    tiny_config: Config,
    tmp_path: Path,
    failing_at: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates: list[float] = []
    step = PlainRunner.step

    def noting(self: PlainRunner, batch: Batch, schedule: Schedule, objective: Objective) -> None:
        rates.append(float(schedule.learning_rate))
        step(self, batch, schedule, objective)

    monkeypatch.setattr(PlainRunner, "step", noting)
    config = with_train(tiny_config, epochs=20, learning_rate=0.002, warmup=0.0)
    usual = run_through(config, tiny)
    usual_rates, rates = rates, []
    failing_at(30)
    progress = list(fit(config, tiny, out=tmp_path / "run"))
    (remark,) = [each.remark for each in progress if each.remark]
    found = re.match(
        r".* at step (\d+); training goes on from the weights of step (\d+) at half .* rate, 0\.001$", remark
    )
    assert found is not None, remark
    at, back = map(int, found.groups())
    assert back < 30 <= at < 40
    assert rates[:at] == usual_rates[:at]
    assert rates[at:] == [rate / 2 for rate in usual_rates[at:]]
    assert progress[-1].validation is not None
    assert usual.validation is not None
    assert progress[-1].validation.nats < usual.validation.nats + 3
    assert runs.load_resume(runs.open_run(tmp_path / "run"))[1]["halvings"] == 1


def test_recovery_brings_back_the_best_weights_with_fresh_moments(tiny: Dataset, tiny_config: Config) -> None:
    trainer = trainer_of(with_train(tiny_config, epochs=50), tiny)
    trainer.validate(0.0)
    for _ in range(40):
        trainer.take_step(0.1)
    trainer.take_sums()
    before = trainer.validate(0.2)
    for _ in range(3):
        trainer.take_step(0.3)
    with torch.no_grad():
        flat(trainer.averaged).head.weight.fill_(torch.nan)
    assert trainer.validate(0.4) == before
    assert trainer.best is not None
    assert trainer.best.step == 40
    assert trainer.halvings == 1
    for model in (trainer.model, trainer.averaged):
        assert all(torch.equal(value, trainer.best.weights[name]) for name, value in model.state_dict().items())
    state = trainer.state
    assert not any(tensor.any() for tensor in (*state.means, *state.squares, state.updates, trainer.stats.usual_norm))


def test_the_third_divergence_ends_a_training(
    tiny: Dataset, tiny_config: Config, tmp_path: Path, failing_at: Callable[..., None]
) -> None:
    config = with_train(tiny_config, epochs=30)
    failing_at(30, 50)
    assert run_through(config, tiny).finished
    failing_at(70)  # beside the others
    with pytest.raises(
        TrainingError, match=r"at step 7\d; try a smaller .*; the last good weights are saved in .*run$"
    ):
        run_through(config, tiny, out=tmp_path / "run")


@pytest.mark.parametrize("stop", [45, 60])
def test_a_training_that_diverged_is_resumed_exactly(
    tiny: Dataset,
    tiny_config: Config,
    tmp_path: Path,
    failing_at: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    stop: int,
) -> None:
    config = with_train(tiny_config, epochs=20)
    failing_at(30, 50)
    whole = run_through(config, tiny)
    take = Trainer.take_step

    def interrupted(self: Trainer, fraction: float) -> None:
        if self.step == stop:
            raise KeyboardInterrupt
        take(self, fraction)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "take_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_through(config, tiny, out=tmp_path / "run")
    resumed = run_through(Config(), tiny, out=tmp_path / "run", resume=True)
    kept = resumed.model.state_dict()
    assert all(torch.equal(value, kept[name]) for name, value in whole.model.state_dict().items())


def test_data_that_no_model_can_take_are_told_from_a_learning_rate() -> None:
    column = np.where(np.arange(40) % 4 == 0, 3.4e38, -3.4e38).astype(np.float32)  # differences leave float32
    rows = Split(np.tile(column[:, None], 3))
    with pytest.raises(TrainingError, match="from the first step on; check for very large values"):
        run_through(Config(train=TrainConfig(epochs=1)), Dataset("large", rows, rows, rows))


def test_an_estimator_is_not_fitted_by_it() -> None:
    table = np.random.default_rng(0).normal(size=(60, 4))
    model = vaelab.VAE(epochs=3, learning_rate=1e30, width=8)
    with pytest.raises(TrainingError, match="try a smaller `learning_rate`"):
        model.fit(table)
    with pytest.raises(NotFittedError):
        model.sample()


def test_weights_saved_are_those_whose_figures_are_told(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    """Where training only made it worse, these are the first, and not the last ones."""
    config = with_train(tiny_config, epochs=2, learning_rate=0.3, warmup=0.0, ema=0.0)
    last = run_through(config, tiny, out=tmp_path / "run")
    run = runs.open_run(tmp_path / "run")
    assert runs.weight_facts(run)["step"] == 0
    assert runs.weight_facts(run)["distortion"] == last.validation.distortion  # type: ignore[union-attr]
    kept, told = runs.load_model(run).state_dict(), last.model.state_dict()
    assert all(torch.equal(kept[name], told[name]) for name in kept)


class Nan(nn.Module):
    def __init__(self) -> None:
        super().__init__()

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return images.flatten(1) * torch.nan


class Standardising(nn.Module):
    """Divides by each image's deviation, which is 0 of an image of zeros, and of no other."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        flat = images.flatten(1)
        return (flat - flat.mean(1, keepdim=True)) / flat.std(1, keepdim=True)


def test_a_network_of_ones_own_is_tried_for_finite_numbers() -> None:
    config = resolve_model(ModelConfig("vae", "mlp", 2, "bernoulli", 8, 1, encoder=Nan), (1, 8, 8))
    with pytest.raises(ConfigError, match=r"`encoder='test_divergence:Nan'`.*NaN or infinity"):
        build_encoder(config, (1, 8, 8), 0)
    assert build_encoder(replace(config, encoder="test_divergence:Standardising"), (1, 8, 8), 0)[1] == 64
