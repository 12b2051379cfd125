"""Train on generated, test on real: the classifier learns what the generated images show."""

import numpy as np
import pytest
from conftest import draw_tiny
from evaluation_contexts import channels_last, context_of, table

from vaelab.data import Dataset
from vaelab.evaluation import train_on_synthetic
from vaelab.evaluation.context import EvaluationContext
from vaelab.evaluation.results import Section
from vaelab.evaluation.train_on_synthetic import train_on_synthetic_section


@pytest.fixture(scope="module")
def more(tiny: Dataset) -> Dataset:
    return Dataset("more", draw_tiny(300, seed=1), tiny.validation, draw_tiny(150, seed=2), tiny.classes)


def measured(data: Dataset, monkeypatch: pytest.MonkeyPatch, shift: int) -> Section:
    """The section with real images instead of generated ones, of the requested label or of one `shift` further."""

    def draw(context: EvaluationContext, labels: np.ndarray, *, seed: int | None = None) -> np.ndarray:
        del context, seed
        pool = draw_tiny(600, seed=9)
        assert pool.labels is not None
        chosen = [np.flatnonzero(pool.labels == (label + shift) % 3)[i % 150] for i, label in enumerate(labels)]
        return channels_last(pool.images[chosen])

    monkeypatch.setattr(train_on_synthetic, "generate_images", draw)
    monkeypatch.setattr(train_on_synthetic, "STEPS", 60)
    return train_on_synthetic_section(context_of(data, classifier=False))


def test_real_images_in_their_place_teach_as_much(more: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    section = measured(more, monkeypatch, shift=0)
    found = section["train_on_generated"]
    assert found.value > 90
    assert found.beside[0][0] == "trained on as many real images"
    assert found.beside[0][1] > 90
    assert found.count == 150
    assert "100 images of each of 3 classes" in found.definition


def test_wrong_labels_teach_wrong_answers(more: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    section = measured(more, monkeypatch, shift=1)
    assert section["train_on_generated"].value < 10
    assert section["train_on_generated"].beside[0][1] > 90


def test_the_rarest_class_sets_the_number(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    train = draw_tiny(120, seed=1)
    assert train.labels is not None
    kept = train[np.flatnonzero((train.labels != 0) | (np.cumsum(train.labels == 0) <= 7))]
    section = measured(Dataset("rare", kept, tiny.validation, tiny.test, tiny.classes), monkeypatch, shift=0)
    assert "7 images of each of 3 classes" in section["train_on_generated"].definition
    fewer = kept[np.flatnonzero((kept.labels != 0) | (np.cumsum(kept.labels == 0) <= 4))]
    section = train_on_synthetic_section(
        context_of(Dataset("rare", fewer, tiny.validation, tiny.test, tiny.classes), classifier=False)
    )
    assert "The rarest class has 4 training images" in section.left_out


def test_work_is_told_what_is_trained(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    told: set[str] = set()
    monkeypatch.setattr(train_on_synthetic, "STEPS", 10)
    context = context_of(tiny, classifier=False)
    object.__setattr__(context, "work", lambda what, done, total: told.add(what))
    train_on_synthetic_section(context)
    assert told == {"training on generated images", "training on real images"}


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda tiny: context_of(tiny, "vae", classifier=False),
            "no labelled images",
        ),
        (
            lambda tiny: context_of(tiny, classifier=False, quick=True),
            "quick mode",
        ),
        (lambda tiny: context_of(table(), classifier=False), "rows of a table"),
        (
            lambda tiny: context_of(
                Dataset(
                    "one", tiny.train[np.flatnonzero(tiny.train.labels == 0)], tiny.validation, tiny.test, tiny.classes
                ),
                classifier=False,
            ),
            "fewer than two classes",
        ),
    ],
)
def test_what_cannot_be_trained_is_left_out_with_the_reason(tiny: Dataset, make, reason: str) -> None:
    assert reason in train_on_synthetic_section(make(tiny)).left_out
