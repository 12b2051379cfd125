"""Label agreement: the report finds errors that were planted."""

import numpy as np
import pytest
from conftest import draw_tiny
from evaluation_contexts import channels_last, context_of, table, unlabelled

from vaelab.data import Dataset
from vaelab.evaluation import agreement
from vaelab.evaluation.agreement import agreement_section, confusion, worst
from vaelab.evaluation.context import EvaluationContext
from vaelab.evaluation.generated import shared_classes
from vaelab.evaluation.results import Bars, Matrix, Section, Sheet


def test_confusion_has_a_row_for_what_was_asked() -> None:
    asked, read = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 2, 0, 0])
    assert confusion(asked, read, 3).tolist() == [[1, 1, 0], [0, 1, 0], [2, 0, 1]]


def test_worst_are_those_whose_label_is_least_probable() -> None:
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.05, 0.95]])
    assert worst(np.array([0, 0, 1, 0]), probabilities, 3).tolist() == [3, 1, 2]


def draw_with_mistakes(wrong: int) -> object:
    """Real images of the requested label, except that frames replace the first bars across."""
    pool = draw_tiny(600, seed=9)

    def draw(context: EvaluationContext, labels: np.ndarray, *, seed: int | None = None) -> np.ndarray:
        del context, seed
        shown = labels.copy()
        shown[np.flatnonzero(labels == 0)[:wrong]] = 2
        assert pool.labels is not None
        return np.stack([channels_last(pool.images[pool.labels == label])[i % 100] for i, label in enumerate(shown)])

    return draw


@pytest.fixture
def measured(tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> Section:
    monkeypatch.setattr(agreement, "IMAGES", 300)
    monkeypatch.setattr(agreement, "generate_images", draw_with_mistakes(12))
    return agreement_section(context_of(tiny))


def test_planted_mistakes_are_found(measured: Section) -> None:
    assert measured["agreement"].value == pytest.approx(100 * (300 - 12) / 300, abs=1)
    assert measured["lowest_agreement"].value == pytest.approx(88, abs=2)
    assert "(across)" in measured["lowest_agreement"].name
    assert any("across requested, frame predicted, 1" in sentence for sentence in measured.words)


def test_accuracy_on_real_images_is_the_reference_value(tiny: Dataset, measured: Section) -> None:
    own = 100 * context_of(tiny).classifier.accuracy
    assert own > 90
    assert measured["agreement"].beside == (("real held-out images", own),)


def test_plots_show_the_mistakes(measured: Section) -> None:
    bars, matrix, sheet = measured.plots
    assert isinstance(bars, Bars)
    assert isinstance(matrix, Matrix)
    assert isinstance(sheet, Sheet)
    assert bars.names == ("across", "down", "frame")
    assert matrix.values[0, 2] >= 12
    assert matrix.values.sum(1).tolist() == [100, 100, 100]
    assert sheet.rows[0].shape == (10, 8, 8)
    assert all(caption.startswith("requested across: predicted frame, ") for caption in sheet.captions[0])


def test_labels_go_by_name_where_the_model_counts_them_otherwise(tiny: Dataset) -> None:
    context = context_of(tiny, classes=("frame", "down", "across", "dot"))
    asked: list[list[int]] = []
    original = context.model.model.decode

    def decode(latent, labels):
        asked.append(labels.tolist())
        return original(latent, labels)

    context.model.model.decode = decode  # type: ignore[method-assign]
    section = agreement_section(context)
    given = [label for part in asked for label in part]
    per_class = section["lowest_agreement"].count
    assert per_class is not None
    assert given == [2] * per_class + [1] * per_class + [0] * per_class


def test_a_class_without_training_images_is_not_asked_for(tiny: Dataset) -> None:
    assert tiny.train.labels is not None
    kept = tiny.train[tiny.train.labels != 1]
    section = agreement_section(context_of(Dataset("two", kept, tiny.validation, tiny.test, tiny.classes), quick=True))
    assert section["agreement"].count == 2000
    assert any("1 of 3 classes" in sentence and "no training images" in sentence for sentence in section.words)
    assert shared_classes(context_of(Dataset("two", kept, tiny.validation, tiny.test, tiny.classes))).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (lambda tiny: context_of(tiny, "vae"), "takes no labels"),
        (
            lambda tiny: context_of(unlabelled(tiny), "vae", classifier=False),
            "takes no labels",
        ),
        (
            lambda tiny: context_of(table(), classifier=False),
            "No reference classifier: table: got a table",
        ),
    ],
)
def test_what_cannot_be_classified_is_left_out_with_the_reason(tiny: Dataset, context, reason: str) -> None:
    assert reason in agreement_section(context(tiny)).left_out
