"""Probes: full accuracy for a label in the latent, chance without one, and a valid information bound."""

import math

import numpy as np
import pytest
from conftest import draw_tiny, flat
from evaluation_contexts import context_of, table

from vaelab.data import Dataset
from vaelab.evaluation.leakage import (
    Probe,
    _words,
    information_bound,
    label_entropy,
    leakage_section,
    probe,
    wilson_interval,
)
from vaelab.evaluation.results import Estimate


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 20, 0.0, 0.1611), (50, 100, 0.4038, 0.5962), (20, 20, 0.8389, 1.0)],
)
def test_wilson_interval_is_that_of_the_textbooks(hits: int, count: int, low: float, high: float) -> None:
    assert wilson_interval(hits, count) == pytest.approx((low, high), abs=1e-4)


def test_wilson_interval_holds_the_true_share_as_often_as_it_says() -> None:
    hits = np.random.default_rng(0).binomial(60, 0.15, 4000)
    held = [low <= 0.15 <= high for low, high in (wilson_interval(int(one), 60) for one in hits)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


def test_label_entropy() -> None:
    assert label_entropy(np.arange(40) % 4) == pytest.approx(math.log(4))
    assert label_entropy(np.array([3, 3, 3, 5])) == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25))
    assert label_entropy(np.array([7, 7])) == 0


def test_a_probe_that_knows_finds_the_entropy_and_one_that_guesses_nothing() -> None:
    labels = np.array([0, 0, 0, 1, 2, 2])
    frequency = np.tile([1 / 2, 1 / 6, 1 / 3], (6, 1))
    assert information_bound(np.eye(3)[labels], labels).mean() == pytest.approx(label_entropy(labels))
    assert information_bound(frequency, labels) == pytest.approx(np.zeros(6))


@pytest.mark.parametrize("dense", [False, True])
def test_probes_read_all_of_a_label_that_the_latent_holds(dense: bool) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    latents = rng.standard_normal((300, 4))
    latents[:, :3] = 4 * np.eye(3)[labels] + 0.1 * rng.standard_normal((300, 3))
    found = probe(latents, labels, dense=dense)
    assert found.accuracy.value == 1
    assert found.interval[0] > 0.98
    assert found.information.value == pytest.approx(math.log(3), abs=0.1)
    assert found.information.value <= math.log(3) + 1e-9


@pytest.mark.parametrize("dense", [False, True])
def test_probes_read_chance_from_a_latent_without_the_label(dense: bool) -> None:
    rng = np.random.default_rng(1)
    found = probe(rng.standard_normal((800, 3)), rng.permutation(np.arange(800) % 5), dense=dense)
    assert found.accuracy.value == pytest.approx(0.2, abs=4 * found.accuracy.error)
    assert -0.3 < found.information.value < 4 * found.information.error


def test_only_the_dense_probe_sees_what_no_line_parts() -> None:
    rng = np.random.default_rng(2)
    latents = rng.standard_normal((1000, 2))
    labels = (latents[:, 0] * latents[:, 1] > 0).astype(np.int64)
    assert probe(latents, labels, dense=False).accuracy.value < 0.6
    assert probe(latents, labels, dense=True).accuracy.value > 0.93


def test_information_is_below_the_true_one_and_near_it() -> None:
    """Two labels, z = ±1 + noise: I(z; y) = ln 2 − E ln(1 + exp(−2 z)) for the first, by quadrature."""
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    true = math.log(2) - float(weights @ np.logaddexp(0, -2 * (1 + points)) / weights.sum())
    labels = np.arange(1200) % 2
    latents = (1.0 - 2 * labels + np.random.default_rng(3).standard_normal(1200))[:, None]
    for dense in (False, True):
        information = probe(latents, labels, dense=dense).information
        assert information.value < true + 3 * information.error
        assert information.value > true - 0.06
        assert information.error == pytest.approx(0.5 / math.sqrt(1200), rel=0.5)


def test_a_probe_is_seeded() -> None:
    rng = np.random.default_rng(4)
    latents, labels = rng.standard_normal((60, 2)), np.arange(60) % 2
    assert probe(latents, labels, dense=True, seed=1) == probe(latents, labels, dense=True, seed=1)
    assert probe(latents, labels, dense=True, seed=1) != probe(latents, labels, dense=True, seed=2)


def test_the_section_reads_the_label_that_an_encoder_passes_on(tiny: Dataset) -> None:
    test = draw_tiny(150, seed=5)
    context = context_of(Dataset("more", tiny.train, tiny.validation, test, tiny.classes))
    section = leakage_section(context)
    weight = flat(context.model.model).head.weight.data
    plain = section["linear_probe"].value
    assert section["dense_probe"].count == 150
    assert dict(section["dense_probe"].beside)["chance: always predict the most frequent label"] == pytest.approx(
        100 / 3
    )
    encoder = flat(context.model.model).encoder
    weight.zero_()

    def tell(images, labels):
        features = encoder_forward(images, labels)
        features[:, : labels.shape[1]] = labels
        return features

    encoder_forward = encoder.forward
    encoder.forward = tell  # type: ignore[method-assign]
    weight[0, :3], weight[1, :3] = 40 * (weight.new_tensor([-1.0, 0.0, 1.0])), 40 * weight.new_tensor([0.0, 1.0, 0.0])
    told = leakage_section(context)
    assert told["linear_probe"].value == 100 > plain
    assert told["label_information"].value == pytest.approx(math.log(3), abs=0.1)
    assert "MLP probe predicts 100.0 % of the labels correctly (95 % interval 97.5 to 100.0 %)" in told.words[0]


def test_a_class_of_few_images_is_left_out_of_the_probes(tiny: Dataset) -> None:
    test = draw_tiny(60, seed=5)
    assert test.labels is not None
    kept = np.flatnonzero((test.labels != 1) | (np.cumsum(test.labels == 1) <= 3))
    section = leakage_section(context_of(Dataset("few", tiny.train, tiny.validation, test[kept], tiny.classes)))
    assert section["dense_probe"].count == 40
    assert "40 of 43 held-out images were used." in section.words
    assert "40 images are too few, about 400 give it within ±5" in section.words[0]
    assert "interval" not in section.words[0]


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda tiny: tiny.test[:4], "at least 5 test images each"),
        (lambda tiny: tiny.test[:1], "the classes have 1 image."),
        (
            lambda tiny: tiny.test[np.flatnonzero(tiny.test.labels == 0)],
            "the classes have 6 images",
        ),
    ],
)
def test_too_few_images_are_said(tiny: Dataset, make, reason: str) -> None:
    section = leakage_section(context_of(Dataset("few", tiny.train, tiny.validation, make(tiny), tiny.classes)))
    assert reason in section.left_out


def test_an_unconditional_model_leaks_nothing(tiny: Dataset) -> None:
    section = leakage_section(context_of(tiny, "vae"))
    assert "not given the label" in section.left_out


def test_tables_are_probed_too() -> None:
    section = leakage_section(context_of(table(120), classifier=False))
    assert section["linear_probe"].count == 40


@pytest.mark.parametrize(
    ("interval", "nats", "said"),
    [
        ((0.384, 0.632), (-0.02, 0.1), "The accuracy is above chance (95 % interval 38.4 to 63.2 %)"),
        ((0.28, 0.5), (-0.02, 0.1), "The probes find no label information in z."),
        ((0.384, 0.632), (0.5, 0.1), "So z contains at least 0.50 ± 0.10"),
    ],
)
def test_the_verdict_agrees_with_the_interval(
    interval: tuple[float, float], nats: tuple[float, float], said: str
) -> None:
    labels = np.arange(60) % 3
    one = Probe(Estimate(0.508, 0.06, 60), interval, Estimate(*nats, 60))
    words = _words({"linear_probe": one, "dense_probe": one}, labels, 60)
    assert words[1].startswith(said)
    assert "-" not in words[1]
