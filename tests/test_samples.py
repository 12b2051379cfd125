"""The samples section: real images instead of generated ones score like real ones, and worse images score worse."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from conftest import draw_tiny
from evaluation_contexts import channels_last, context_of, table

from vaelab.data import Dataset
from vaelab.evaluation import samples
from vaelab.evaluation.context import EvaluationContext
from vaelab.evaluation.results import Bars, Lines, Section
from vaelab.evaluation.samples import _signed, samples_section

Change = Callable[[np.ndarray, np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def many(tiny: Dataset) -> Dataset:
    return Dataset("many", tiny.train, tiny.validation, draw_tiny(600, seed=3), tiny.classes)


def measured(many: Dataset, monkeypatch: pytest.MonkeyPatch, change: Change, kind: str = "cvae") -> Section:
    """The section with modified fresh real images instead of generated ones."""

    def draw(context: EvaluationContext, labels: np.ndarray, *, seed: int | None = None) -> np.ndarray:
        del context, seed
        pool = draw_tiny(2000, seed=8)
        assert pool.labels is not None
        place = {label: iter(np.flatnonzero(pool.labels == label)) for label in range(3)}
        chosen = np.array([next(place[int(label)]) for label in labels])
        return change(channels_last(pool.images[chosen]), labels)

    monkeypatch.setattr(samples, "generate_images", draw)
    monkeypatch.setattr(samples, "SIZES", (75, 150))
    return samples_section(context_of(many, kind))


def same(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    del labels
    return images


def faint(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    del labels
    return images // 2


def one_of_each(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    first = {int(label): images[np.flatnonzero(labels == label)[0]] for label in np.unique(labels)}
    return np.stack([first[int(label)] for label in labels])


def test_real_images_in_their_place_score_as_real_ones(many: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    section = measured(many, monkeypatch, same)
    for key, near in (("precision", 0.1), ("recall", 0.1), ("coverage", 0.1), ("density", 0.2)):
        beside = section[key].beside[0]
        assert beside[0] == "real against real"
        assert section[key].value == pytest.approx(beside[1], rel=near)
        assert section[key].count == 300
    assert section["fid"].value < 0.5  # two sets of 300 fresh ones: 0.09 to 0.33
    assert section["diversity_in_features"].value == pytest.approx(1, abs=0.1)
    assert section["diversity_in_pixels"].value == pytest.approx(1, abs=0.1)


def test_labels_are_drawn_apart_from_the_references_so_that_kid_is_without_bias(
    many: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sets with equal class counts would look more alike than two random sets: KID far below 0."""
    asked: list[np.ndarray] = []

    def spy(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        asked.append(labels)
        return images

    measured(many, monkeypatch, spy)
    order = np.random.default_rng(0).permutation(600)
    assert many.test.labels is not None
    assert not np.array_equal(asked[0], many.test.labels[order[:300]])
    assert np.array_equal(asked[0], many.test.labels[order[300:]])


def test_worse_images_score_worse(many: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = (measured(many, monkeypatch, change) for change in (same, faint))
    assert bad["fid"].value > 3
    assert bad["kid"].value > good["kid"].value + 0.05
    assert bad["precision"].value < good["precision"].value - 20


def test_one_image_of_each_class_is_precise_and_without_variety(many: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    section = measured(many, monkeypatch, one_of_each)
    assert section["precision"].value == 100
    assert section["coverage"].value < 20
    assert section["diversity_in_features"].value == pytest.approx(0, abs=1e-6)
    assert section["diversity_in_pixels"].value == pytest.approx(0, abs=1e-6)


def test_fid_is_shown_at_several_sizes_beside_real_images(many: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, bars = measured(many, monkeypatch, same).plots
    assert isinstance(lines, Lines)
    assert isinstance(bars, Bars)
    assert [line.name for line in lines.series] == ["generated against real", "real against real"]
    assert [list(line.x) for line in lines.series] == [[75, 150, 300]] * 2
    assert all(line.y[0] > line.y[-1] > 0 for line in lines.series)
    assert bars.names == ("across", "down", "frame")


def test_classes_of_an_unconditional_model_are_predicted(many: Dataset) -> None:
    section = samples_section(context_of(many, "vae"))
    assert section["fid"].value > section["fid"].beside[0][1]


def test_few_images_say_that_fid_is_bias_and_leave_diversity_out(tiny: Dataset) -> None:
    section = samples_section(context_of(tiny))
    assert section.plots == ()  # a curve of one point
    assert any(
        "precision, recall, density and coverage can be high" in sentence
        and "15 images per set are too few" in sentence
        and "1,000 per set, hence 2,000 test images" in sentence
        for sentence in section.words
    )
    assert any("Diversity was not measured" in sentence for sentence in section.words)
    assert math.isfinite(section["fid"].value)
    assert section["kid"].error is None


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda tiny: context_of(tiny, "ae"),
            "An autoencoder has no prior",
        ),
        (
            lambda tiny: context_of(Dataset("few", tiny.train, tiny.validation, tiny.test[:11], tiny.classes)),
            "Half of 11 test images is too few",
        ),
        (
            lambda tiny: context_of(Dataset("one", tiny.train, tiny.validation, tiny.test[:1], tiny.classes)),
            "Half of 1 test images is too few",
        ),
        (
            lambda tiny: context_of(table(), classifier=False),
            "No features to compare images in: table: got a table",
        ),
        (
            lambda tiny: context_of(table(labelled=False), "vae", classifier=False),
            "No features to compare images in: table: got a table",
        ),
    ],
)
def test_what_cannot_be_compared_is_left_out_with_the_reason(tiny: Dataset, make, reason: str) -> None:
    assert reason in samples_section(make(tiny)).left_out


def test_a_test_split_without_a_class_is_measured(tiny: Dataset) -> None:
    test = draw_tiny(120, seed=3)
    kept = test[np.flatnonzero(test.labels != 1)]
    section = samples_section(context_of(Dataset("two", tiny.train, tiny.validation, kept, tiny.classes)))
    (bars,) = section.plots
    assert isinstance(bars, Bars)
    assert bars.names == ("across", "frame")


def test_a_negative_value_has_a_minus_sign() -> None:
    assert _signed(-0.001) == "−0.0010"
