"""The loop: progress, schedules, resuming, steps that go wrong, and what is written."""

import itertools
import json
import math
import re
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from building import held_out_input, trainer_of
from conftest import flat

from vaelab import runs
from vaelab.config import Budget, Config, ModelConfig, TrainConfig
from vaelab.data import Dataset, Split, load_dataset
from vaelab.data.describe import doubts
from vaelab.errors import ConfigError, LabelError, RunError, TrainingError
from vaelab.inference.trained import load
from vaelab.models.base import Inference
from vaelab.objectives import bounds
from vaelab.optim import adamw
from vaelab.optim.schedule import learning_rate_factor
from vaelab.optim.step import PlainRunner
from vaelab.precision import pick_device
from vaelab.random import latent_noise
from vaelab.training.fit import Progress, fit, make_trainer
from vaelab.training.resolve import resolve
from vaelab.training.trainer import MAX_BAD_STEPS, Trainer
from vaelab.training.validation import MAX_VALUES, validation_subset


def with_train(config: Config, **changes: object) -> Config:
    return replace(config, train=replace(config.train, **changes))


def run_through(config: Config, dataset: Dataset, **options: object) -> Progress:
    *_, last = fit(config, dataset, **options)  # type: ignore[arg-type]
    return last


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_training_lowers_the_nats_and_ends_with_the_best_weights(tiny: Dataset, tiny_config: Config) -> None:
    config = with_train(tiny_config, epochs=40)
    first, *_, last = (progress for progress in fit(config, tiny) if progress.validation is not None)
    assert last.finished
    assert last.fraction == 1.0
    assert last.step == math.ceil(40 * len(tiny.train) / 32)
    assert first.validation is not None
    assert last.validation is not None
    assert last.validation.nats < first.validation.nats - 5
    assert not last.model.training


class Clock:
    """Wall time that passes by `tick` seconds each time it is read."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 100.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def test_progress_comes_often(tiny: Dataset, tiny_config: Config) -> None:
    """A step takes some readings of the clock; progress is yielded once at least 0.2 s have passed."""
    config = with_train(tiny_config, epochs=None, seconds=20.0)
    times = [progress.seconds for progress in fit(config, tiny, clock=Clock(0.01))]
    assert len(times) >= 50
    assert max(b - a for a, b in itertools.pairwise(times)) < 1.0


def test_a_budget_in_seconds_is_kept_from_the_given_start(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    clock = Clock(0.001)
    started = clock() - 1.0  # the command has already taken a second
    config = with_train(tiny_config, epochs=None, seconds=2.5)
    last = list(fit(config, tiny, out=tmp_path / "run", started=started, clock=clock))[-1]
    assert 2.4 < last.seconds < 2.6
    assert (tmp_path / "run" / runs.WEIGHTS).is_file()


@pytest.mark.parametrize(("tick", "least"), [(1e-4, 20), (3e-2, 2)])
def test_a_training_shorter_than_an_epoch_is_validated_on_its_way(
    tiny: Dataset, tiny_config: Config, tmp_path: Path, tick: float, least: int
) -> None:
    """Every 4 % of the seconds; less often where a validation, some readings of the clock, takes more than 2 % of them."""
    images = np.tile(tiny.train.images, (400, 1, 1, 1))
    labels = np.tile(np.asarray(tiny.train.labels), 400)
    long = replace(tiny, train=Split(images, labels))
    config = with_train(tiny_config, epochs=None, seconds=0.2 if tick < 1e-3 else 20.0)
    *_, last = fit(config, long, out=tmp_path / "run", clock=Clock(tick))
    assert last.epoch < 1
    steps = [line["step"] for line in runs.read_metrics(runs.open_run(tmp_path / "run"))]
    assert least <= len(steps) <= 26
    assert steps == sorted(set(steps))


def test_ctrl_c_in_a_loop_over_fit_saves_what_was_reached(
    tiny: Dataset, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it comes within a step or in the body of the loop; nothing since the last periodic save is lost."""
    take = Trainer.take_step

    def interrupted(self: Trainer, fraction: float) -> None:
        if self.step == 30:
            raise KeyboardInterrupt
        take(self, fraction)

    monkeypatch.setattr(Trainer, "take_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_through(with_train(tiny_config, epochs=20), tiny, out=tmp_path / "run")
    monkeypatch.setattr(Trainer, "take_step", take)
    _, facts = runs.load_resume(runs.open_run(tmp_path / "run"))
    assert facts["step"] == 30
    whole = run_through(with_train(tiny_config, epochs=20), tiny)
    resumed = run_through(with_train(tiny_config, epochs=20), tiny, out=tmp_path / "run", resume=True)
    assert same(whole.model, resumed.model)


def test_seconds_count_from_the_first_step_to_the_last(
    tiny: Dataset, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compiling ahead and the first validation do not count; an interruption later, the seconds before it do."""
    clock = Clock(0.001)

    def prepare(self: PlainRunner) -> Iterator[None]:
        clock.now += 1000
        yield

    monkeypatch.setattr(PlainRunner, "prepare", prepare)
    config = with_train(tiny_config, epochs=None, seconds=2.0)
    first, *_, last = fit(config, tiny, out=tmp_path / "run", clock=clock)
    assert (first.step, first.seconds, first.fraction) == (0, 0.0, 0.0)
    assert math.isinf(first.seconds_left)
    assert 1.9 < last.seconds < 2.1
    assert last.step > 20
    more = Config(train=TrainConfig(seconds=4.0))
    *_, longer = fit(more, tiny, out=tmp_path / "run", resume=True, clock=clock)
    assert 3.9 < longer.seconds < 4.1


@pytest.mark.parametrize("asked", [{"epochs": 1}, {"epochs": 3}, {"seconds": 1e-6}])
def test_a_run_that_was_trained_for_as_long_already_is_not_resumed(
    tiny: Dataset, tiny_config: Config, tmp_path: Path, asked: dict[str, float]
) -> None:
    run_through(tiny_config, tiny, out=tmp_path / "run")
    (name,) = asked
    with pytest.raises(ConfigError, match=rf"`{name}`: got .* has trained for .* {name} already; expected more"):
        run_through(Config(train=TrainConfig(**asked)), tiny, out=tmp_path / "run", resume=True)  # type: ignore[arg-type]
    assert run_through(Config(), tiny, out=tmp_path / "run", resume=True).finished


def test_defaults_are_chosen_for_the_data(tiny: Dataset) -> None:
    chosen = resolve(Config(), tiny)
    assert (chosen.model.model, chosen.model.network, chosen.model.likelihood) == ("cvae", "mlp", "bernoulli")
    assert (chosen.train.budget, chosen.train.batch_size, chosen.model.latent_dim) == (Budget(90, "seconds"), 32, 7)
    bare = Dataset("bare", Split(tiny.train.images), Split(tiny.test.images), Split(tiny.test.images))
    assert resolve(Config(), bare).model.model == "vae"
    first = tiny.train[np.flatnonzero(tiny.train.labels == 0)]
    one = Dataset("one class", first, first, first, tiny.classes[:1])
    assert resolve(Config(), one).model.model == "vae"
    assert resolve(Config(ModelConfig(model="cvae")), one).model.model == "cvae"
    assert list(doubts(one, conditional=False)) == [
        f"All images are of the class {tiny.classes[0]!r}: the model is unconditional."
    ]
    grey = np.random.default_rng(0).integers(0, 256, (9, 3, 40, 30), dtype=np.uint8)
    rgb = Dataset("rgb", Split(grey), Split(grey[:0]), Split(grey[:0]))
    assert (resolve(Config(), rgb).model.network, resolve(Config(), rgb).model.latent_dim) == ("pca", 544)
    assert resolve(Config(ModelConfig(model="ae")), rgb).model.network == "conv"
    labels = np.arange(9)
    three = Split(grey, labels), Split(grey, labels), Split(grey, labels)
    named = Dataset("named", *three, tuple("abcdefghi"))
    assert resolve(Config(ModelConfig(network="conv")), named).model.latent_dim == 16
    large = Split(np.zeros((5, 3, 96, 96), dtype=np.uint8))
    assert resolve(Config(), Dataset("large", large, large, large)).model.network == "conv"
    many = Split(np.zeros((5000, 1, 2, 2), dtype=np.uint8))
    assert resolve(Config(), Dataset("many", many, many, many)).train.batch_size == 128
    assert resolve(Config(), rgb).model.likelihood == "colour-logistic"
    table = Split(np.zeros((9, 5), dtype=np.float32))
    assert resolve(Config(), Dataset("t", table, table, table)).model.likelihood == "gaussian"


def test_a_conditional_model_needs_labels(tiny: Dataset) -> None:
    bare = Dataset("bare", Split(tiny.train.images), Split(tiny.test.images), Split(tiny.test.images))
    with pytest.raises(LabelError) as caught:
        resolve(Config(ModelConfig(model="cvae")), bare)
    assert "`model`: got cvae for bare, which has no labels" in str(caught.value)
    assert "`model=vae`" in str(caught.value)


@pytest.mark.parametrize(
    ("likelihood", "table", "message"),
    [
        (
            "gaussian",
            False,
            "`likelihood`: got gaussian for images; expected bernoulli, continuous-bernoulli or logistic",
        ),
        ("logistic", True, "`likelihood`: got logistic for a table; expected gaussian"),
        ("colour-logistic", False, "`likelihood`: got colour-logistic for grey images; expected logistic"),
    ],
)
def test_a_likelihood_must_suit_the_data(tiny: Dataset, likelihood: str, table: bool, message: str) -> None:
    rows = Split(np.zeros((9, 5), dtype=np.float32))
    dataset = Dataset("table", rows, rows, rows) if table else tiny
    with pytest.raises(ConfigError, match=message):
        resolve(Config(ModelConfig(likelihood=likelihood)), dataset)  # type: ignore[arg-type]


def test_an_unknown_device_is_said() -> None:
    with pytest.raises(ConfigError, match="`device`: 'quantum' is not available on this machine; expected auto, cpu"):
        pick_device("quantum")


def test_reported_figures_ignore_beta_and_free_bits(tiny: Dataset, tiny_config: Config) -> None:
    """The objective changes what is learnt, never what is reported: at step 0 all objectives report the same."""

    def at_the_start(**changes: float) -> object:
        return trainer_of(with_train(tiny_config, **changes), tiny).validate(0.0)

    assert at_the_start() == at_the_start(beta=7.0, free_bits=3.0, kl_warmup=0.5)


def test_beta_trades_rate_for_distortion(tiny: Dataset, tiny_config: Config) -> None:
    low = run_through(with_train(tiny_config, epochs=60, beta=0.1), tiny).validation
    high = run_through(with_train(tiny_config, epochs=60, beta=10.0), tiny).validation
    assert low is not None
    assert high is not None
    assert low.rate > high.rate + 1
    assert low.distortion < high.distortion - 1


def test_an_interrupted_training_goes_on_to_the_same_weights(
    tiny: Dataset, tiny_config: Config, tmp_path: Path
) -> None:
    config = with_train(tiny_config, epochs=200)
    whole = run_through(config, tiny, out=tmp_path / "whole")
    training = fit(config, tiny, out=tmp_path / "parts")
    stopped = next(training)
    assert 0 < stopped.fraction < 1
    training.close()
    assert runs.load_resume(runs.open_run(tmp_path / "parts"))[1]["step"] == stopped.step
    resumed = run_through(Config(), tiny, out=tmp_path / "parts", resume=True)
    assert resumed.step == whole.step
    assert same(resumed.model, whole.model)
    lines = [runs.read_metrics(runs.open_run(tmp_path / name)) for name in ("whole", "parts")]
    assert [line["step"] for line in lines[0]] == [line["step"] for line in lines[1]]
    assert [line["validation"] for line in lines[0]] == [line["validation"] for line in lines[1]]
    assert load(tmp_path / "parts").model.state_dict().keys() == whole.model.state_dict().keys()


def test_a_finished_training_goes_on_to_a_longer_budget(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    run_through(tiny_config, tiny, out=tmp_path / "run")
    last = run_through(Config(train=TrainConfig(epochs=6)), tiny, out=tmp_path / "run", resume=True)
    assert last.step == math.ceil(6 * len(tiny.train) / 32)


def test_a_longer_budget_is_validated_from_where_the_training_went_on(
    tiny: Dataset, tiny_config: Config, tmp_path: Path
) -> None:
    """The fraction at the last validation was 1 of the old budget."""
    run_through(with_train(tiny_config, epochs=5), tiny, out=tmp_path / "run")
    run_through(Config(train=TrainConfig(epochs=15)), tiny, out=tmp_path / "run", resume=True)
    assert len(runs.read_metrics(runs.open_run(tmp_path / "run"))) == 15


def test_ctrl_c_in_a_step_waits_for_its_end(
    tiny: Dataset, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is saved is the state after whole steps, so that the training goes on to the same weights."""
    config = with_train(tiny_config, epochs=200)
    whole = run_through(config, tiny, out=tmp_path / "whole")
    take = Trainer.take_step

    def interrupted(trainer: Trainer, fraction: float) -> None:
        if trainer.step == 7:
            signal.raise_signal(signal.SIGINT)
        take(trainer, fraction)

    monkeypatch.setattr(Trainer, "take_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_through(config, tiny, out=tmp_path / "parts")
    monkeypatch.undo()
    assert runs.load_resume(runs.open_run(tmp_path / "parts"))[1]["step"] == 8
    assert same(run_through(Config(), tiny, out=tmp_path / "parts", resume=True).model, whole.model)


def test_resuming_refuses_other_data_and_other_hyper_parameters(
    tiny: Dataset, tiny_config: Config, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    run_through(tiny_config, tiny, out=out)
    fewer = replace(tiny, train=tiny.train[:50])
    with pytest.raises(RunError, match=r"the data tiny differ from those it was trained on \(tiny\)"):
        run_through(Config(), fewer, out=out, resume=True)
    with pytest.raises(ConfigError, match=r"`beta`: got 3\.0, but .* was trained with 1\.0; expected it left out"):
        run_through(Config(train=TrainConfig(beta=3.0)), tiny, out=out, resume=True)
    with pytest.raises(RunError, match="no such folder; expected a run folder"):
        run_through(Config(), tiny, out=tmp_path / "none", resume=True)
    with pytest.raises(
        RunError, match="already holds a run; expected a new folder: give another `out`, or `resume=True`"
    ):
        run_through(tiny_config, tiny, out=out)


def test_the_metrics_are_one_line_per_validation(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    last = run_through(with_train(tiny_config, epochs=5), tiny, out=str(tmp_path / "run"))
    lines = [json.loads(text) for text in (tmp_path / "run" / runs.METRICS).read_text().splitlines()]
    assert [line["step"] for line in lines] == sorted({line["step"] for line in lines})
    assert len(lines) == 5
    assert lines[-1]["step"] == last.step
    for line in lines:
        for figures in (line["train"], line["validation"]):
            assert figures["nats"] == pytest.approx(figures["distortion"] + figures["rate"])


def test_the_validation_shown_is_that_of_the_last_line_of_metrics(
    tiny: Dataset, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first step on: what the untrained model gives is not shown."""
    monkeypatch.setattr("vaelab.training.loop.PROGRESS_EVERY", 0.0)
    shown = []
    for progress in fit(with_train(tiny_config, epochs=4), tiny, out=tmp_path / "run"):
        lines = runs.read_metrics(runs.open_run(tmp_path / "run"))
        nats = None if progress.validation is None else progress.validation.nats
        assert nats == (lines[-1]["validation"]["nats"] if lines else None) or progress.finished
        shown.append(nats)
    assert shown[0] is None
    assert shown[-2] is not None


def test_a_bad_step_is_skipped_counted_and_changes_nothing(tiny: Dataset, tiny_config: Config) -> None:
    trainer = trainer_of(tiny_config, tiny)
    trainer.take_step(0.5)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    forward = flat(trainer.model).decoder.forward
    trainer.model.decoder.forward = lambda *inputs: forward(*inputs) * torch.nan  # type: ignore[method-assign]
    trainer.take_step(0.5)
    assert all(torch.equal(before[name], value) for name, value in trainer.model.state_dict().items())
    trainer.model.decoder.forward = forward  # type: ignore[method-assign]
    trainer.take_step(0.5)
    sums = trainer.take_sums()
    assert trainer.skipped == 1
    assert sums.steps == 2
    assert math.isfinite(sums.averages().nats)
    assert not torch.equal(before["head.weight"], flat(trainer.model).head.weight)


def test_many_bad_steps_in_a_row_stop_with_the_good_weights(
    tiny: Dataset, tiny_config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_step = Trainer.take_step

    def bad_step(self: Trainer, fraction: float) -> None:
        if self.step == 30:
            forward = flat(self.model).decoder.forward
            self.model.decoder.forward = lambda *inputs: forward(*inputs) * torch.nan  # type: ignore[method-assign]
        take_step(self, fraction)

    monkeypatch.setattr(Trainer, "take_step", bad_step)
    message = r"NaN or infinite in (\d+) steps in a row.*`learning_rate`.*; the last good weights are saved in .*run$"
    with pytest.raises(TrainingError, match=message) as caught:
        run_through(with_train(tiny_config, epochs=200), tiny, out=tmp_path / "run")
    assert int(re.search(message, str(caught.value)).group(1)) >= MAX_BAD_STEPS  # type: ignore[union-attr]
    kept = load(tmp_path / "run").model.state_dict()
    assert 0 < runs.weight_facts(runs.open_run(tmp_path / "run"))["step"] <= 30 + MAX_BAD_STEPS
    assert all(torch.isfinite(value).all() for value in kept.values())


def initial_weights(config: Config, dataset: Dataset) -> dict[str, torch.Tensor]:
    trainer = trainer_of(config, dataset)
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def test_a_training_stopped_before_its_first_validation_leaves_what_it_has_learnt(
    tiny: Dataset, tiny_config: Config, tmp_path: Path
) -> None:
    config = with_train(tiny_config, epochs=None, seconds=600.0)
    training = fit(config, tiny, out=tmp_path / "run")
    stopped = next(training)
    training.close()
    run = runs.open_run(tmp_path / "run")
    assert runs.weight_facts(run) == {"step": stopped.step}
    kept = load(tmp_path / "run").model.state_dict()["head.weight"]
    assert not torch.equal(kept, initial_weights(config, tiny)["head.weight"])


def test_a_new_budget_is_remembered(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    run_through(tiny_config, tiny, out=tmp_path / "run")
    longer = fit(Config(train=TrainConfig(epochs=100_000)), tiny, out=tmp_path / "run", resume=True)
    step = next(longer).step
    longer.close()
    again = fit(Config(), tiny, out=tmp_path / "run", resume=True)
    assert not next(again).finished
    assert next(again).step > step
    again.close()


def test_an_altered_config_is_found_on_resuming(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    run_through(tiny_config, tiny, out=tmp_path / "run")
    path = tmp_path / "run" / runs.CONFIG
    path.write_text(path.read_text().replace('"learning_rate": 0.003', '"learning_rate": 0.5'))
    with pytest.raises(RunError, match="changed since the weights were saved"):
        run_through(Config(train=TrainConfig(epochs=5)), tiny, out=tmp_path / "run", resume=True)


def test_resuming_a_finished_run_changes_no_figure(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    last = run_through(tiny_config, tiny, out=tmp_path / "run")
    path = tmp_path / "run" / runs.METRICS
    before = path.read_text()
    again = run_through(Config(), tiny, out=tmp_path / "run", resume=True)
    assert path.read_text() == before
    assert same(last.model, again.model)
    assert again.validation == last.validation


def test_the_last_figures_are_those_of_the_last_weights(tiny: Dataset, tiny_config: Config) -> None:
    """A learning rate that overfits: the best weights are not the last ones."""
    config = with_train(tiny_config, epochs=300, learning_rate=2e-2)
    few = replace(tiny, train=tiny.train[:24])
    *_, before, last = fit(config, few)
    assert last.validation is not None
    trainer = trainer_of(config, few)
    trainer.averaged.load_state_dict(last.model.state_dict())
    assert trainer.validate(0.0) == last.validation
    assert before.validation is not None
    assert last.validation.nats < before.validation.nats


def test_a_gradient_of_exactly_zero_leaves_the_weights_alone(tiny: Dataset, tiny_config: Config) -> None:
    trainer = trainer_of(with_train(tiny_config, weight_decay=0.0), tiny)
    before = trainer.model.state_dict()["head.weight"].clone()
    forward = trainer.model.forward
    trainer.model.forward = lambda *inputs: detached(forward(*inputs))  # type: ignore[method-assign]
    trainer.take_step(0.5)
    assert torch.equal(trainer.model.state_dict()["head.weight"], before)


def detached(inference: Inference) -> Inference:
    """The same figures, with gradients that are zero."""
    nothing = 0 * inference.posterior.mean.sum()
    likelihood = type(inference.likelihood)(inference.likelihood.parameters.detach() + nothing, 3)
    return replace(inference, rate=inference.rate.detach() + nothing, likelihood=likelihood)


def test_a_large_validation_set_is_looked_at_in_part(tiny: Dataset) -> None:
    config = resolve(Config(ModelConfig(network="conv")), tiny)
    large = Split(np.zeros((500, 3, 64, 64), dtype=np.uint8), np.arange(500))
    part = validation_subset(large, config)
    assert len(part) == MAX_VALUES["conv"] // (3 * 64 * 64) == 341
    assert part.labels is not None
    assert (np.diff(part.labels) > 0).all()
    assert np.array_equal(part.labels, validation_subset(large, config).labels)  # type: ignore[arg-type]
    assert validation_subset(tiny.validation, config) is tiny.validation


def test_a_learning_rate_that_explodes_is_stopped_and_explained(tiny: Dataset, tiny_config: Config) -> None:
    config = with_train(tiny_config, learning_rate=1e30, warmup=0.0, epochs=400)
    with pytest.raises(TrainingError, match="try a smaller `learning_rate`"):
        run_through(config, tiny)


def test_no_validation_images_keep_the_last_weights(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    empty = replace(tiny, validation=tiny.validation[:0], test=tiny.test[:0])
    last = run_through(tiny_config, empty, out=tmp_path / "run")
    assert last.validation is None
    assert same(load(tmp_path / "run").model, last.model)
    resumed = run_through(Config(train=TrainConfig(epochs=4)), empty, out=tmp_path / "run", resume=True)
    assert resumed.step == 15


def test_the_learning_rate_rises_and_falls() -> None:
    factors = [learning_rate_factor(fraction, 0.1) for fraction in np.linspace(0, 1, 101)]
    peak = int(np.argmax(factors))
    assert peak == 10
    assert factors[peak] == pytest.approx(1.0)
    assert all(np.diff(factors[: peak + 1]) > 0)
    assert all(np.diff(factors[peak:]) < 0)
    assert factors[-1] == pytest.approx(0.01)
    assert learning_rate_factor(0.0, 0.0) == pytest.approx(1.0)


def test_a_table_of_reals_trains(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 1))
    rows = (z * [1.0, 5.0, 0.1] + rng.normal(size=(300, 3)) * [0.1, 0.5, 0.01] + [0, 100, -3]).astype(np.float32)
    dataset = Dataset("table", Split(rows[:200]), Split(rows[200:]), Split(rows[200:]))
    config = Config(ModelConfig(latent_dim=1, width=32), TrainConfig(epochs=150, batch_size=50, learning_rate=5e-3))
    last = run_through(config, dataset, out=tmp_path / "run")
    covariance = np.cov(rows[:200].T)
    best = 0.5 * (3 * math.log(2 * math.pi) + np.linalg.slogdet(covariance)[1] + 3)  # −log p of the fitted normal
    independent = 0.5 * (3 * math.log(2 * math.pi) + np.log(np.diag(covariance)).sum() + 3)
    assert last.validation is not None
    assert best - 0.5 < last.validation.nats < (best + independent) / 2
    assert load(tmp_path / "run").sample(count=4).shape == (4, 3)
    labelled = Split(rows, np.arange(300) % 2)
    chosen = resolve(Config(), Dataset("table", labelled, labelled, labelled, ("a", "b"))).model
    assert (chosen.model, chosen.latent_dim) == ("cvae", 3)  # no more than there are columns


def test_a_gradient_far_beyond_the_usual_is_scaled_down(
    tiny: Dataset, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step whose loss is scaled by 1,000 moves the weights as one scaled to 3 times the usual norm would."""
    # without moments, and with so large an eps, a step is proportional to the gradient
    for name, value in (("BETA1", 0.0), ("BETA2", 0.0), ("EPSILON", 3e3)):
        monkeypatch.setattr(adamw, name, value)
    config = resolve(with_train(tiny_config, weight_decay=0.0), tiny)

    def moved(scale: float) -> float:
        trainer = make_trainer(config, tiny)
        trainer.take_step(0.5)
        usual = trainer.stats.usual_norm.item()
        assert usual > 0
        before = torch.cat([p.detach().flatten().clone() for p in trainer.model.parameters()])
        forward = flat(trainer.model).decoder.forward
        if scale != 1:
            trainer.model.decoder.forward = lambda *inputs: scale * forward(*inputs)  # type: ignore[method-assign]
        trainer.take_step(0.5)
        after = torch.cat([p.detach().flatten() for p in trainer.model.parameters()])
        rate = 0.5 * (1 + math.cos(math.pi * (0.5 - 0.02) / 0.98)) * 0.99 + 0.01
        return (after - before).norm().item() * 3e3 / rate / usual / config.train.learning_rate

    assert moved(1.0) < 2
    assert moved(1000.0) == pytest.approx(3.0, rel=0.03)


def test_each_step_draws_its_own_pixels_and_noise(tiny: Dataset, tiny_config: Config) -> None:
    grey = replace(tiny, train=Split(np.full((32, 1, 8, 8), 128, dtype=np.uint8), np.zeros(32, dtype=np.int64)))
    trainer = trainer_of(tiny_config, grey)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    trainer.model.register_forward_pre_hook(lambda _, inputs: seen.append((inputs[0], inputs[2])))
    for _ in range(3):
        trainer.take_step(0.5)
    for one, other in itertools.combinations(seen, 2):
        assert 0.4 < (one[0] != other[0]).float().mean() < 0.6  # half of fair coins differ
        assert not torch.equal(one[1], other[1])


@pytest.mark.mnist
def test_one_epoch_of_mnist_learns_to_write_digits(tmp_path: Path) -> None:
    """Weights follow from the seed, so the figure does: 119.2 nats when this was written."""
    dataset = load_dataset("mnist")
    config = Config(ModelConfig(model="vae"), TrainConfig(epochs=1, device="cpu"))
    last = run_through(config, dataset, out=tmp_path / "run")
    assert last.validation is not None
    assert last.validation.nats < 124
    shown = load(tmp_path / "run").sample(count=200).mean() / 255
    assert shown == pytest.approx(dataset.train.images.mean() / 255, rel=0.15)  # as much ink as in real digits


@pytest.mark.gpu
def test_a_gpu_learns_what_the_cpu_learns(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    """The draws differ between devices, so the figures agree and the weights do not."""
    config = with_train(tiny_config, epochs=60)
    on_cpu = run_through(config, tiny).validation
    on_gpu = run_through(with_train(config, device="cuda"), tiny, out=tmp_path / "run").validation
    assert on_cpu is not None
    assert on_gpu is not None
    assert on_gpu.nats == pytest.approx(on_cpu.nats, abs=3)
    resumed = run_through(Config(train=TrainConfig(epochs=70, device="cpu")), tiny, out=tmp_path / "run", resume=True)
    assert resumed.step == math.ceil(70 * 120 / 32)


def test_validation_in_parts_is_validation_of_all(tiny: Dataset, tiny_config: Config) -> None:
    """2,530 images, more than are held as floats at a time, and no multiple of it."""
    index = np.arange(2530) % 30
    many = replace(tiny, validation=tiny.validation[index])
    trainer = trainer_of(tiny_config, many)
    averages = trainer.validate(0.0)
    assert many.validation.labels is not None
    terms = bounds.held_out_terms(
        trainer.averaged,
        held_out_input(many.validation.images, "bernoulli"),
        torch.from_numpy(many.validation.labels),
        latent_noise(2530, 2, 0),
    )
    assert averages is not None
    assert averages.distortion == pytest.approx(terms.distortion.double().mean().item(), rel=1e-6)
    assert averages.rate == pytest.approx(terms.rate.sum(-1).double().mean().item(), rel=1e-6)
