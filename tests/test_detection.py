"""Odd images: p-values, their rate of false alarms, the map of nats, the estimator, and `vaelab detect`."""

import csv
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import build_model, with_output_weights
from conftest import LinearGaussian, draw_tiny
from PIL import Image
from scipy.stats import betabinom, binom
from sklearn.utils.estimator_checks import parametrize_with_checks

import vaelab
from vaelab import VAE, Autoencoder, ConditionalVAE, OutlierDetector
from vaelab.cli import main
from vaelab.config import Config, LikelihoodName, ModelConfig, ModelName
from vaelab.data import load_dataset
from vaelab.errors import ConfigError, DataError
from vaelab.inference.detection import (
    conformal_p_values,
    flagged,
    flagged_by_chance,
    nats_per_pixel,
    rank_of,
    score_images,
)
from vaelab.inference.trained import TrainedModel
from vaelab.training.fit import fit

SMALL: dict[str, Any] = {"latent_dim": 2, "width": 16, "depth": 1, "device": "cpu"}


@pytest.fixture(scope="module")
def trained() -> TrainedModel:
    """A VAE of the tiny images."""
    return VAE(latent_dim=2, width=32, depth=1, epochs=30, device="cpu").fit(draw_tiny(300, 1).images).trained_


def noise(count: int) -> np.ndarray:
    return 255 * np.random.default_rng(7).integers(0, 2, (count, 1, 8, 8), dtype=np.uint8)


def model_of(likelihood: LikelihoodName, kind: ModelName = "vae") -> TrainedModel:
    colour = likelihood in ("colour-logistic", "two-colour")
    config = ModelConfig(model=kind, network="mlp", likelihood=likelihood, latent_dim=3, width=12, depth=2)
    model = with_output_weights(build_model(config, (3 if colour else 1, 8, 8), 3 * (kind == "cvae"))).eval()
    return TrainedModel(model, kind, likelihood, ("a", "b", "c") if kind == "cvae" else ())


def test_a_p_value_is_the_rank_among_calibration_scores() -> None:
    rng = np.random.default_rng(0)
    calibration, scores = rng.integers(0, 30, 99).astype(float), rng.integers(-5, 40, 200).astype(float)
    found = conformal_p_values(calibration, scores)
    np.testing.assert_allclose(found, [(1 + np.sum(calibration >= score)) / 100 for score in scores])
    assert found.min() == 0.01
    assert conformal_p_values(calibration, np.array([np.nan, np.inf, -np.inf])).tolist() == [0.01, 0.01, 1]


@pytest.mark.parametrize(("rate", "count"), [(0.01, 99), (0.07, 99), (0.05, 150), (0.29, 99), (0.1, 9)])
def test_an_image_is_odd_if_it_scores_above_the_highest_scores_but_some(rate: float, count: int) -> None:
    calibration = np.random.default_rng(1).permutation(count).astype(float)
    scores = np.arange(-1, count + 1).astype(float)
    threshold = np.sort(calibration)[-rank_of(rate, count)]
    np.testing.assert_array_equal(flagged(conformal_p_values(calibration, scores), rate), scores > threshold)
    assert rank_of(rate, count) == int(round(rate * (count + 1), 6))


def test_the_realised_rate_of_false_alarms_is_the_stated_one() -> None:
    """50 splits of other images each: the number of false alarms has a beta-binomial distribution, as scores are continuous."""
    splits, calibrating, tested = 50, 199, 200
    model = VAE(latent_dim=2, width=32, depth=1, likelihood="logistic", epochs=5, device="cpu")
    trained = model.fit(draw_tiny(300, 1).images).trained_
    images = draw_tiny(splits * (calibrating + tested), seed=2).images
    scores = score_images(trained, images, samples=2)
    for name in ("likelihood", "corrected", "reconstruction"):
        parts = scores[name].reshape(splits, -1)
        for rate in (0.01, 0.05, 0.1):
            p_values = [conformal_p_values(part[:calibrating], part[calibrating:]) for part in parts]
            alarms = np.array([flagged(p, rate).sum() for p in p_values])
            k = rank_of(rate, calibrating)
            assert k == rate * 200
            expected = betabinom(tested, k, calibrating + 1 - k)
            error = expected.std() / splits**0.5
            assert abs(alarms.mean() - expected.mean()) < 3.5 * error, (name, rate)
            outside = np.sum((alarms < expected.ppf(0.025)) | (alarms > expected.ppf(0.975)))
            assert outside <= binom(splits, 0.05).ppf(0.9999), (name, rate)


def test_by_chance_is_the_distribution_of_the_number_of_false_alarms() -> None:
    rng = np.random.default_rng(0)
    drawn = [flagged(conformal_p_values(*np.split(rng.random(150), [99])), 0.05).sum() for _ in range(4000)]
    mean, low, high = flagged_by_chance(0.05, 99, 51)
    assert mean == pytest.approx(np.mean(drawn), rel=0.05)
    assert mean == pytest.approx(0.05 * 51)
    assert low == 0
    assert np.mean(np.array(drawn) <= high) >= 0.97


@pytest.mark.parametrize("likelihood", ["bernoulli", "logistic"])
@pytest.mark.parametrize("kind", ["vae", "cvae"])
def test_a_score_depends_on_its_image_alone(likelihood: LikelihoodName, kind: ModelName) -> None:
    model, images = model_of(likelihood, kind), draw_tiny(30, 0).images
    images[3] = 255 * (images[3] > 127)  # black and white among grey images
    every = score_images(model, images)
    assert list(every) == ["likelihood", "corrected", "reconstruction"]
    order = np.random.default_rng(0).permutation(30)[:11]
    for name, values in score_images(model, images[order]).items():
        np.testing.assert_allclose(values, every[name][order], atol=0.011)
    np.testing.assert_allclose(score_images(model, images[3:4])["corrected"], every["corrected"][3], atol=0.011)


@pytest.mark.parametrize(
    "likelihood", ["bernoulli", "continuous-bernoulli", "logistic", "colour-logistic", "two-colour"]
)
@pytest.mark.parametrize("kind", ["ae", "cvae"])
def test_the_map_of_nats_adds_up_to_the_reconstruction_score(likelihood: LikelihoodName, kind: ModelName) -> None:
    model = model_of(likelihood, kind)
    images = np.random.default_rng(0).integers(0, 256, (4, *model.model.shape), dtype=np.uint8)
    decoded, nats = nats_per_pixel(model, images, seed=3)
    assert decoded.shape[:3] == nats.shape == (4, 8, 8)
    expected = score_images(model, images, seed=3)["reconstruction"]
    np.testing.assert_allclose(nats.sum((1, 2)), expected, rtol=1e-5, atol=0.01)


def test_noise_is_odd_and_good_images_are_not(trained: TrainedModel) -> None:
    reports: list[tuple[int, int]] = []
    images = np.concatenate([draw_tiny(40, 3).images, noise(10)])
    found = vaelab.detect(
        trained, images, draw_tiny(200, 4).images, false_alarms=0.05, progress=lambda *report: reports.append(report)
    )
    assert found.odd[40:].all()
    assert found.odd[:40].sum() <= 8
    assert (found.p_values[40:] == 1 / 201).all()
    assert reports[-1] == (250, 250)
    assert reports == sorted(reports)
    np.testing.assert_array_equal(found.odd, found.p_values <= 0.05)


def test_rows_of_a_table(linear_gaussian: LinearGaussian) -> None:
    model = TrainedModel(linear_gaussian.model.float().eval(), "vae", "gaussian", ())
    rows = linear_gaussian.draw(300)[0].float().numpy()
    found = vaelab.detect(model, np.concatenate([rows[:50], rows[:5] + 50]), rows[50:], false_alarms=0.02)
    assert found.odd[50:].all()
    assert list(found.scores) == ["likelihood", "reconstruction"]
    expected = -linear_gaussian.log_evidence(linear_gaussian.draw(300)[0])[:50]
    np.testing.assert_allclose(found.scores["likelihood"][:50], expected, atol=0.02)
    with pytest.raises(
        ConfigError, match="`score`: got corrected for a model of a table; expected likelihood or recon"
    ):
        vaelab.detect(model, rows, rows, score="corrected")


def test_an_autoencoder_has_one_score() -> None:
    model, images = model_of("bernoulli", "ae"), draw_tiny(100, 0).images
    assert list(vaelab.detect(model, images, images).scores) == ["reconstruction"]
    with pytest.raises(ConfigError, match="`score`: got likelihood for an autoencoder; expected reconstruction"):
        vaelab.detect(model, images, images, score="likelihood")


@pytest.mark.parametrize(
    ("options", "count", "message"),
    [
        ({}, 98, r"`false_alarms`: got 0.01 with 98 held-out images .*at least 0.0102 \(1.02%\).*at least 99 "),
        ({"false_alarms": 0.001}, 200, r"at least 0.005 \(0.5%\), or give at least 999 as `calibration`"),
        ({"false_alarms": 1.5}, 200, "`false_alarms`: got 1.5; expected a share above 0 and below 1"),
        ({"samples": 0}, 200, "`samples`: got 0"),
        ({"score": "elbow"}, 200, "`score`: got elbow for a model of images; expected likelihood or corrected or"),
    ],
)
def test_what_cannot_be_is_refused(trained: TrainedModel, options: dict[str, Any], count: int, message: str) -> None:
    images = draw_tiny(200, 0).images
    with pytest.raises(ConfigError, match=message):
        vaelab.detect(trained, images, images[:count], **options)


def test_images_of_another_size_and_none_are_refused(trained: TrainedModel) -> None:
    images = draw_tiny(200, 0).images
    with pytest.raises(DataError, match="grey images of 7×8; expected grey images of 8×8"):
        vaelab.detect(trained, images[:, :, 1:], images)
    with pytest.raises(DataError, match="`images`: got none; expected at least one"):
        vaelab.detect(trained, images[:0], images)
    with pytest.raises(DataError, match="`calibration`: got no images"):
        vaelab.detect(trained, images, images[:0])


@parametrize_with_checks(
    [OutlierDetector(kind(**SMALL, epochs=2), false_alarms=0.25, held_out=0.3) for kind in (VAE, Autoencoder)]
)
def test_scikit_learn_finds_nothing_amiss(estimator: OutlierDetector, check: Any) -> None:
    """All of its checks, with no exemption; the smallest samples there support a rate of 25 %."""
    check(estimator)


@pytest.mark.parametrize("kind", [VAE, ConditionalVAE])
def test_the_estimator_detects_as_the_function_does(kind: Any) -> None:
    split = draw_tiny(500, 5)
    model = kind(latent_dim=2, width=32, depth=1, epochs=15, device="cpu")
    detector = OutlierDetector(model, false_alarms=0.02, samples=3).fit(split.images[:, 0], split.labels)
    assert len(detector.calibration_) == 100
    assert len(detector.estimator_.trained_.classes) == (3 if kind is ConditionalVAE else 0)
    images = np.concatenate([draw_tiny(40, 3).images, noise(10)])
    assert detector.predict(images)[40:].tolist() == [-1] * 10
    p_values = detector.p_values(images)
    np.testing.assert_array_equal(detector.predict(images) == -1, p_values <= 0.02)
    scores = score_images(detector.estimator_.trained_, images, samples=3)["likelihood"]
    np.testing.assert_array_equal(detector.score_samples(images), -scores)
    np.testing.assert_array_equal(detector.decision_function(images), -scores - detector.offset_)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {},
            "`false_alarms`: got 0.01 with 20 held-out images.* or hold out at least 99: more samples, or a larger `held_o",
        ),
        ({"false_alarms": 0}, "`false_alarms`: got 0; expected a share"),
        ({"held_out": 1.0}, "`held_out`: got 1.0; expected a share"),
        ({"false_alarms": 0.1, "samples": 0}, "`samples`: got 0"),
        ({"false_alarms": 0.1, "score_name": "x"}, "`score_name`: got x for a model of images"),
    ],
)
def test_the_estimator_refuses_before_it_trains(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OutlierDetector(VAE(epochs=10**6), **options).fit(draw_tiny(100, 0).images)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, tiny_config: Config) -> Path:
    """A folder with good.npz, 150 of whose images are test images; runs of it; and odd.npz, with a class more."""
    folder = tmp_path_factory.mktemp("detect")
    names = np.array(["across", "down", "frame", "noise"])
    train, test, new = (draw_tiny(count, seed) for count, seed in ((200, 0), (150, 1), (40, 2)))
    assert train.labels is not None
    assert test.labels is not None
    assert new.labels is not None
    arrays: dict[str, Any] = {"images": train.images, "labels": names[train.labels]}
    np.savez(folder / "good.npz", **arrays, test_images=test.images, test_labels=names[test.labels])
    np.savez(folder / "few.npz", images=train.images[:60])
    odd: dict[str, Any] = {"images": np.concatenate([new.images, noise(8)]), "labels": names[[*new.labels, *[3] * 8]]}
    np.savez(folder / "odd.npz", **odd)
    np.savez(folder / "colour.npz", images=np.zeros((9, 8, 8, 3), np.uint8))
    Image.fromarray(noise(1)[0, 0]).save(folder / "one.png")
    kinds: dict[str, ModelName] = {"vae": "vae", "cvae": "cvae", "ae": "ae"}
    for name, kind in kinds.items():
        train_config = replace(tiny_config.train, epochs=40)
        config = Config(replace(tiny_config.model, model=kind), train_config)
        for _ in fit(config, load_dataset(folder / "good.npz"), out=folder / name):
            pass
    config = replace(tiny_config, model=replace(tiny_config.model, model="vae"))
    for _ in fit(config, load_dataset(folder / "few.npz"), out=folder / "few-run"):
        pass
    VAE(latent_dim=2, epochs=1, device="cpu").fit(np.random.default_rng(0).normal(size=(99, 4))).save(folder / "table")
    return folder


def detected(*words: str) -> int:
    """The status of `vaelab detect`."""
    try:
        main(["detect", *words])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("run", ["vae", "cvae"])
def test_the_command_writes_scores_and_a_sheet(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run: str
) -> None:
    monkeypatch.chdir(place)
    out, sheet = tmp_path / "s.csv", tmp_path / "odd.png"
    words = [run, "odd.npz", "--out", str(out), "--sheet", str(sheet), "--false-alarms", "2%", "--samples", "3"]
    assert detected(*words) == 0
    told = capsys.readouterr()
    found = rows(out)
    columns = ["path", "split", "label", "likelihood", "corrected", "reconstruction", "p_value", "odd"]
    assert list(found[0]) == columns
    assert len(found) == 48
    flags = {row["path"]: row["odd"] for row in found if row["label"] == "noise"}
    assert list(flags.values()) == ["1"] * 8
    model, good, odd = vaelab.load(run), load_dataset("good.npz"), load_dataset("odd.npz")
    expected = vaelab.detect(model, odd.part("all").images, good.test.images, false_alarms=0.02, samples=3)
    assert [float(row["p_value"]) for row in found] == expected.p_values.tolist()
    assert [float(row["likelihood"]) for row in found] == expected.scores["likelihood"].tolist()
    assert [int(row["odd"]) for row in found] == expected.odd.tolist()
    *listed, summary = told.out.strip().splitlines()
    count = int(expected.odd.sum())
    assert len(listed) == min(10, count)
    assert re.match(
        rf"{count} of 48 images are odd by likelihood at 2 % false alarms; if all were .*, 0\.\d+ would", summary
    )
    assert "compared with the test images of good: 150 images" in told.err
    with Image.open(sheet) as drawn:
        assert drawn.size[0] > 500
    assert detected(*words, "--fail-on-odd") == 1


def test_single_files_and_other_tables(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    pytest.importorskip("pyarrow")
    assert detected("cvae", "one.png", "good.npz:test:3", "--out", str(tmp_path / "s.parquet"), "--fail-on-odd") == 1
    assert detected("vae", "good.npz:test:3", "--false-alarms", "0.01", "--fail-on-odd") == 0
    assert detected("ae", "odd.npz", "--out", str(tmp_path / "s.npz")) == 0
    with np.load(tmp_path / "s.npz") as found:
        assert "likelihood" not in found
        assert found["odd"].dtype == np.int8


def test_another_source_calibrates(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    assert detected("few-run", "odd.npz", "--calibration", "good.npz", "--out", str(tmp_path / "s.csv")) == 0
    assert (
        "compared with good (not the data of the run; the model must not have seen them): 150 im"
        in capsys.readouterr().err
    )
    assert detected("few-run", "odd.npz", "--false-alarms", "20%") == 0
    assert "compared with the test images of few: 6 images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["vae", "odd.npz", "--false-alarms", "0.1%"],
            r"--false-alarms: got 0.001 with 150 held-out.*0.0067 \(0.67%\)",
        ),
        (["vae", "odd.npz", "--false-alarms", "one"], r"--false-alarms: got one; expected a share .*1% or 0.01"),
        (["vae", "odd.npz", "--false-alarms", "5"], r"--false-alarms: got 5; expected a share"),
        (["few-run", "odd.npz"], r"--false-alarms: got 0.01 with 6 held-out images.*0.1429 .*99 as --calibration"),
        (["vae", "colour.npz"], r"colour.npz, all: got RGB images of 8×8; expected grey images of 8×8"),
        (["table", "odd.npz"], "got a model of rows of 4 reals; expected a model of images"),
        (["vae", "odd.npz", "--calibration", "colour.npz"], r"colour \(.*\): got RGB images of 8×8; expected grey"),
        (["vae"], "got no images"),
        (["vae", "nothing"], "nothing"),
        (["vae", "odd.npz", "--calibration", "nothing"], "nothing"),
        (["vae", "odd.npz", "--split", "test", "--samples", "0"], "--samples: got 0"),
        (["ae", "odd.npz", "--score", "likelihood"], "--score: got likelihood for an autoencoder"),
        (["vae", "odd.npz", "--sheet", "x.jpg"], "--sheet: got x.jpg; expected a name that ends in .png"),
        (["vae", "odd.npz", "--out", "x.txt"], "--out: got x.txt"),
        (["moved", "odd.npz"], "moved: was trained on 'good'.*vaelab detect moved … --calibration SOURCE"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    for path in place.iterdir():
        if not (words[0] == "moved" and path.name == "good.npz"):
            (tmp_path / ("moved" if words[0] == "moved" and path.name == "vae" else path.name)).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    assert detected(*words, *([] if "--out" in words else ["--out", "s.csv"])) == 2
    assert re.search(message, capsys.readouterr().err.strip().splitlines()[-1])
    assert sorted(tmp_path.iterdir()) == before


def test_a_score_that_is_not_a_number_is_the_oddest() -> None:
    rows = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    detector = OutlierDetector(VAE(**SMALL, epochs=2), false_alarms=0.1).fit(rows)
    far = np.full((1, 3), 3e38, np.float32)
    assert detector.predict(far).tolist() == [-1]
    assert detector.p_values(far)[0] == detector.p_values(np.concatenate([far, rows])).min()
