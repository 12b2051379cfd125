"""Labels by class name or index: names first, in NFC; the labels of a dataset by name only; everything else is refused."""

from dataclasses import replace
from unicodedata import normalize

import numpy as np
import pytest
from evaluation_contexts import context_of

from vaelab.data import Dataset
from vaelab.errors import LabelError
from vaelab.inference import explore, latents
from vaelab.inference.trained import TrainedModel

ODD = ("3", "5", "7")
TURNED = ("1", "2", "0")
CAFE = normalize("NFD", "café")


def named(tiny: Dataset, *classes: str) -> TrainedModel:
    """An untrained conditional model of classes of these names."""
    return context_of(replace(tiny, classes=classes), classifier=False).model


def test_a_name_comes_before_an_index(tiny: Dataset) -> None:
    model = named(tiny, *TURNED)
    assert [model.label_index(label) for label in ("1", 1, np.int64(0), "0", np.str_("2"))] == [0, 0, 2, 2, 1]
    odd = named(tiny, *ODD)
    assert [odd.label_index(label) for label in ("5", 5, 0, "2")] == [1, 1, 0, 2]


def test_an_array_of_integers_holds_indices(tiny: Dataset) -> None:
    """`matched_labels` and `grid` return such arrays, so that what they return can be passed on."""
    model = named(tiny, *TURNED)
    grid = model.grid(count=2)
    assert grid.labels is not None
    assert np.array_equal(model.decode(grid.z, grid.labels), grid.images)
    assert np.array_equal(model.decode(grid.z, [TURNED[index] for index in grid.labels]), grid.images)
    z = model.latents(1)
    assert np.array_equal(model.decode(z, [1]), model.decode(z, np.array([0])))
    placed = latents.place(model, tiny.test.images[:3], np.array([0, 2, 1]))
    assert placed.labels is not None
    assert placed.labels.tolist() == [0, 2, 1]
    some = latents.place(model, tiny.test.images[:3], ["0", None, 1])
    assert some.labels is not None
    assert some.labels[[0, 2]].tolist() == [2, 0]
    between = explore.interpolate(model, tiny.test.images[:2], placed.labels[:2], steps=3)
    assert between.names == ("1 → 0",)
    started = latents.starting_point(model, "0", tiny.test.images[0], None)
    assert started[0] == 2


@pytest.mark.parametrize(
    "label", [2.7, 1.0, None, float("inf"), float("nan"), True, "-1", "3", " 1", "²", b"across", ["a"]]
)
def test_what_is_neither_a_name_nor_an_index_is_refused(tiny: Dataset, label: object) -> None:
    model = named(tiny, "across", "down", "frame")
    with pytest.raises(LabelError, match=r"label .*across, down, frame, or an index 0 to 2"):
        model.label_index(label)  # type: ignore[arg-type]
    with pytest.raises(LabelError, match=r"label .*across, down, frame"):
        model.sample(labels=[label])  # type: ignore[list-item]


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0], [0.0, 1.0], [True, False]])
def test_arrays_of_other_numbers_are_refused(tiny: Dataset, labels: list) -> None:
    model = named(tiny, "across", "down", "frame")
    with pytest.raises(LabelError, match=r"label .*across, down, frame"):
        model.encode(tiny.test.images[:2], np.array(labels))


def test_names_are_compared_in_nfc(tiny: Dataset) -> None:
    for known, given in ((CAFE, normalize("NFC", CAFE)), (normalize("NFC", CAFE), CAFE)):
        model = named(tiny, "tea", known, "cocoa")
        assert model.label_index(given) == 1
        matched = model.matched_labels(np.array([0, 1]), [given, "cocoa"])
        assert matched is not None
        assert matched.tolist() == [1, 2]


def test_labels_of_a_dataset_go_by_name_only(tiny: Dataset) -> None:
    """Class "0" is not the first of the classes 3, 5 and 7."""
    model = named(tiny, *ODD)
    matched = model.matched_labels(np.array([0, 1, 1]), ["7", "3", "0"])
    assert matched is not None
    assert matched.tolist() == [2, 0, 0]
    for foreign in ("0", "2"):
        with pytest.raises(LabelError, match=f"label '{foreign}'; expected one of 3, 5, 7"):
            model.matched_labels(np.array([0]), [foreign])


def test_an_evaluation_refuses_classes_that_the_model_does_not_know(tiny: Dataset) -> None:
    with pytest.raises(LabelError, match=r"tiny: .*'0'.*3, 5, 7"):
        context_of(replace(tiny, classes=("0", "1", "2")), classes=ODD, classifier=False)
