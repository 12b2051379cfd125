"""A ladder from training to report: Python, command line and evaluation."""

from pathlib import Path

import pytest
from conftest import read_npz

import vaelab
from vaelab import runs
from vaelab.cli import main
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data import Dataset
from vaelab.evaluation.context import EvaluationContext, Settings
from vaelab.evaluation.latent_section import LADDER, latent_section
from vaelab.evaluation.likelihood import likelihood_section
from vaelab.inference.explore import manifold, posterior, restyle, traverse
from vaelab.inference.trained import TrainedModel
from vaelab.training.fit import fit


@pytest.fixture(scope="module")
def run(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ladder") / "run"
    model = ModelConfig(network="ladder", levels="3,1", patch=4, width=32)
    train = TrainConfig(epochs=100, batch_size=32, learning_rate=1e-2, device="cpu", compile="no")
    for _ in fit(Config(model, train), tiny, out=folder):
        pass
    return folder


@pytest.fixture(scope="module")
def model(run: Path) -> TrainedModel:
    return vaelab.load(run)


def test_it_learns_the_classes(model: TrainedModel) -> None:
    """Images generated from the prior show horizontal bars for one label and vertical bars for the other."""
    drawn = model.grid(["across", "down"], count=20)
    assert drawn.labels is not None
    assert drawn.z.shape == (40, 3 + 4)
    rows, columns = (drawn.images.astype(float).sum(axis).std(-1) for axis in (2, 1))
    assert ((rows < columns) == (drawn.labels == 1)).mean() > 0.9


def test_all_methods_work(tiny: Dataset, model: TrainedModel) -> None:
    images, labels = tiny.test.images[:, 0], tiny.test.labels
    encoded = model.encode(images, labels)
    assert encoded.mean.shape == encoded.log_variance.shape == (30, 7)
    rebuilt = model.reconstruct(images, labels)
    assert rebuilt.nats.mean() < 30
    assert -model.score_samples(images, labels, samples=50).mean() < rebuilt.nats.mean() - 0.02
    assert restyle(model, images[:2]).images.shape == (2, 3, 8, 8)
    assert traverse(model, label="across").images.shape[0] == 7
    assert manifold(model, steps=4).images.shape[-2:] == (8, 8)
    assert posterior(model, images, labels).mean.shape == (30, 7)


def test_the_report_explains_the_posteriors_of_a_ladder(tiny: Dataset, model: TrainedModel) -> None:
    subject = EvaluationContext(model, tiny, Settings(importance_samples=20))
    assert LADDER in latent_section(subject).words
    figures = {quantity.key: quantity.value for quantity in likelihood_section(subject).quantities}
    assert figures["bound"] < figures["negative_elbo"]
    noise_free = model.reconstruct(tiny.test.images, tiny.test.labels)
    assert figures["negative_elbo"] == pytest.approx(noise_free.nats.mean(), rel=1e-5)


def command(*arguments: object) -> None:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert ended.value.code == 0


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    command("train", "digits", "--preset", "quick", "--epochs", 1, "--width", 16, "--levels", "4,1", "--out", out)
    assert "cvae (ladder, 20 latent dimensions, logistic)" in capsys.readouterr().err
    config = runs.open_run(out).config
    assert (config.model.levels, config.model.width, config.train.learning_rate) == ("4,1", 16, 1e-2)
    command("sample", out, "--label", "3", "--count", 2, "--out", tmp_path / "three.npz")
    assert read_npz(tmp_path / "three.npz")["z"].shape == (2, 20)
    command("train", "digits", "--resume", "--epochs", 2, "--out", out)
    assert runs.read_metrics(runs.open_run(out))[-1]["epoch"] >= 2
