"""Conversion of arrays to a dataset: axes, label indices, splits and notes."""

import re

import numpy as np
import pytest

from vaelab.data.arrays import Part, assemble, channels_first
from vaelab.errors import DataError


def grey(count: int) -> np.ndarray:
    return np.arange(count * 6, dtype=np.uint8).reshape(count, 1, 2, 3)


@pytest.mark.parametrize(
    ("shape", "ordered"),
    [
        ((5, 4, 6), (5, 1, 4, 6)),
        ((5, 4, 6, 1), (5, 1, 4, 6)),
        ((5, 4, 6, 3), (5, 3, 4, 6)),
        ((5, 1, 4, 6), (5, 1, 4, 6)),
        ((5, 3, 4, 6), (5, 3, 4, 6)),
        ((5, 3, 4, 3), (5, 3, 4, 3)),
    ],
)
def test_channels_come_second(shape: tuple[int, ...], ordered: tuple[int, ...]) -> None:
    images = np.arange(np.prod(shape)).reshape(shape)
    got = channels_first(images, "here")
    assert got.shape == ordered
    if shape[-1] in (1, 3) and shape != ordered:
        assert np.array_equal(got[:, 0], images[..., 0])


@pytest.mark.parametrize("shape", [(5,), (5, 4), (5, 4, 6, 2), (5, 2, 4, 6), (5, 1, 1, 4, 6)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"^here: got images of shape .*expected \(N, H, W\)"):
        channels_first(np.zeros(shape), "here")


@pytest.mark.parametrize("shape", [(0, 4, 6), (5, 0, 6), (5, 4, 0), (5, 4, 0, 3)])
def test_images_without_pixels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"^here: .*at least one image"):
        channels_first(np.zeros(shape), "here")


def test_labels_are_numbered_over_all_parts_in_numeric_order() -> None:
    train, test = Part(grey(3), np.array([10, 2, 2])), Part(grey(2), np.array([2, 7]))
    dataset = assemble("d", train, validation=train, test=test, seed=0)
    assert dataset.classes == ("2", "7", "10")
    assert dataset.train.labels is not None
    assert dataset.test.labels is not None
    assert dataset.train.labels.tolist() == [2, 0, 0]
    assert dataset.test.labels.tolist() == [0, 1]
    assert "No training image has the label '7'." in dataset.notes


def test_given_parts_are_honoured_and_the_others_held_out() -> None:
    labels = np.arange(100) % 2
    dataset = assemble("d", Part(grey(100), labels), test=Part(grey(7), labels[:7]), seed=5)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (90, 10, 7)
    source_note, held_out_note = dataset.notes
    assert "test set of 7 images" in source_note
    assert held_out_note == "Held out 10 of 100 images as the validation set (10%, stratified by class, seed 5)."


def test_unlabelled_images_are_parted_at_random() -> None:
    dataset = assemble("d", Part(grey(40), None), seed=1)
    assert dataset.classes == ()
    assert dataset.train.labels is None
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (32, 4, 4)
    assert dataset.notes[0] == "Held out 4 of 40 images as the test set (10%, at random, seed 1)."


def test_a_handful_of_images_is_not_parted_and_the_notes_say_so() -> None:
    dataset = assemble("d", Part(grey(3), np.array([0, 1, 1])), seed=0)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (3, 0, 0)
    assert re.search("no test set: 3 images .* too few", dataset.notes[0])


def test_labels_that_do_not_match_in_number_are_refused() -> None:
    with pytest.raises(DataError, match=r"^d: got 3 training images .*\(2,\); expected shape \(3,\)"):
        assemble("d", Part(grey(3), np.array([0, 1])), seed=0)


def test_labels_of_only_one_part_are_refused() -> None:
    with pytest.raises(DataError, match=r"^d: got labels for the training images but not for the test images"):
        assemble("d", Part(grey(3), np.array([0, 1, 1])), test=Part(grey(3), None), seed=0)
    with pytest.raises(DataError, match=r"^d: got labels for the test images but not for the training images"):
        assemble("d", Part(grey(3), None), test=Part(grey(3), np.array([0, 1, 1])), seed=0)
