"""Memorization: copies are found, and fresh images are not taken for copies."""

from collections.abc import Callable

import numpy as np
import pytest
from conftest import draw_tiny
from evaluation_contexts import channels_last, context_of, table, unlabelled

from vaelab.data import Dataset, Split
from vaelab.evaluation import memorization
from vaelab.evaluation.context import EvaluationContext
from vaelab.evaluation.memorization import memorization_section, nearer_share, nearest
from vaelab.evaluation.results import Points, Section, Sheet


def test_nearest_is_that_of_a_plain_search() -> None:
    rng = np.random.default_rng(0)
    images, among = rng.integers(0, 256, (7, 20), dtype=np.uint8), rng.integers(0, 256, (31, 20), dtype=np.uint8)
    exact = np.sqrt(((images[:, None].astype(float) - among[None]) ** 2).sum(-1)) / 255
    for most_at_once in (1, 60, 10**6):
        found = nearest(images, among, most_at_once=most_at_once)
        assert found.place.tolist() == exact.argmin(1).tolist()
        assert found.distance == pytest.approx(exact.min(1), rel=1e-5)


def test_a_copy_is_at_distance_0() -> None:
    among = np.random.default_rng(0).integers(0, 256, (50, 64), dtype=np.uint8)
    found = nearest(among[[30, 4]], among)
    assert found.place.tolist() == [30, 4]
    assert found.distance.tolist() == [0, 0]


def test_reals_are_compared_as_they_are() -> None:
    found = nearest(np.array([[1.0, 2.0]], np.float32), np.array([[4.0, 6.0], [9.0, 9.0]], np.float32))
    assert found.distance.tolist() == [5]


def test_progress_counts_what_is_looked_among() -> None:
    told: list[tuple[int, int]] = []
    rows = np.zeros((5, 4), dtype=np.uint8)
    nearest(rows[:1], rows, most_at_once=8, progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 5), (4, 5), (5, 5)]


def test_equal_distances_count_half() -> None:
    found = nearer_share(np.array([1.0, 2, 3, 4]), np.array([2.0, 2, 2, 9]))
    assert found.value == 2.5 / 4


@pytest.fixture(scope="module")
def many(tiny: Dataset) -> Dataset:
    return Dataset("many", draw_tiny(400, seed=1), draw_tiny(400, seed=2), draw_tiny(400, seed=3), tiny.classes)


def measured(
    data: Dataset, monkeypatch: pytest.MonkeyPatch, draw: Callable[[int], np.ndarray], kind: str = "cvae"
) -> Section:
    def drawn(context: EvaluationContext, labels: np.ndarray | int, *, seed: int | None = None) -> np.ndarray:
        del context, seed
        return draw(labels if isinstance(labels, int) else len(labels))

    monkeypatch.setattr(memorization, "generate_images", drawn)
    return memorization_section(context_of(data, kind, classifier=False))


def test_copies_are_found_and_said(many: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    section = measured(many, monkeypatch, lambda count: channels_last(many.train.images[:count]))
    assert section["nearest_training_distance"].value == 0
    assert section["nearest_training_ratio"].value == 0
    assert section["nearer_to_training"].value == 100
    assert "are copies of training images" in section.words[-1]


def test_fresh_images_are_no_copies(many: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    section = measured(many, monkeypatch, lambda count: channels_last(draw_tiny(count, seed=9).images))
    assert section["nearest_training_ratio"].value == pytest.approx(1, abs=0.1)
    nearer = section["nearer_to_training"]
    assert nearer.error is not None
    assert nearer.value == pytest.approx(50, abs=4 * nearer.error)
    assert nearer.count == 200
    assert "no sign" in section.words[-1]


def test_where_there_is_no_validation_unseen_images_are_held_out_ones(
    many: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = Dataset("alone", many.train, Split(many.train.images[:0], many.train.labels[:0]), many.test, many.classes)  # type: ignore[index]
    section = measured(alone, monkeypatch, lambda count: channels_last(draw_tiny(count, seed=9).images))
    assert "200 images in each set" in section["nearer_to_training"].definition
    assert section["nearer_to_training"].value == pytest.approx(50, abs=15)


def test_neighbours_stand_under_what_was_drawn(many: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = channels_last(many.train.images)
    points, sheet = measured(many, monkeypatch, lambda count: copies[:count]).plots
    assert isinstance(points, Points)
    assert isinstance(sheet, Sheet)
    assert np.array_equal(sheet.rows[0], sheet.rows[1])
    assert np.array_equal(sheet.rows[0], copies[:10])
    assert sheet.captions[1][0].startswith("distance 0.0; unseen ")


def test_an_unlabelled_source_needs_no_classifier(tiny: Dataset) -> None:
    assert memorization_section(context_of(unlabelled(tiny), "vae", classifier=False))["nearer_to_training"].count == 15


def test_tables_have_no_sheet() -> None:
    section = memorization_section(context_of(table(), "vae", classifier=False))
    assert [plot.key for plot in section.plots] == ["nearest_quantiles"]


def test_colour_images_are_compared_channel_by_channel() -> None:
    rng = np.random.default_rng(0)
    splits = [
        Split(rng.integers(0, 256, (count, 3, 4, 5), dtype=np.uint8), np.arange(count) % 2) for count in (30, 20, 20)
    ]
    data = Dataset("colours", splits[0], splits[1], splits[2], ("a", "b"))
    context = context_of(data, "vae", classifier=False)
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patched:
        section = measured(data, patched, lambda count: np.moveaxis(data.train.images[:count], 1, -1), "vae")
    assert context.dataset.shape == (3, 4, 5)
    assert section["nearest_training_distance"].value == 0
    sheet = section.plots[1]
    assert isinstance(sheet, Sheet)
    assert np.array_equal(sheet.rows[0], sheet.rows[1])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda tiny: context_of(tiny, "ae", classifier=False), "An autoencoder has no prior"),
        (
            lambda tiny: context_of(
                Dataset("few", tiny.train, tiny.validation, tiny.test[:1], tiny.classes), classifier=False
            ),
            "Got 1 test image; at least",
        ),
        (
            lambda tiny: context_of(
                Dataset("none", tiny.train[:0], tiny.validation, tiny.test, tiny.classes), classifier=False
            ),
            "no training images",
        ),
    ],
)
def test_what_cannot_be_compared_is_left_out_with_the_reason(tiny: Dataset, make, reason: str) -> None:
    assert reason in memorization_section(make(tiny)).left_out
