"""The reference classifier: deterministic, cached by data, seed and format, and its training reports progress."""

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_contexts import table, unlabelled
from safetensors import SafetensorError

from vaelab.data import Dataset, Split
from vaelab.errors import DataError, LabelError
from vaelab.evaluation import image_network, reference_classifier
from vaelab.evaluation.reference_classifier import reference_classifier_for, train_classifier


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder; trainings take 25 steps."""
    monkeypatch.setattr(reference_classifier, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(image_network, "MOST_STEPS", 25)
    return tmp_path / "classifiers"


def test_it_leaves_the_global_random_state_alone_and_follows_its_seed(tiny: Dataset) -> None:
    state = torch.get_rng_state()
    one, same, other = (train_classifier(tiny.train, 3, tiny.test, steps=3, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.probabilities(tiny.test.images), same.probabilities(tiny.test.images))
    assert not torch.equal(one.probabilities(tiny.test.images), other.probabilities(tiny.test.images))
    assert one.held_out == 30


def test_it_learns_and_is_read_back_from_the_cache(tiny: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = reference_classifier_for(tiny)
    assert trained.accuracy > 0.8
    assert trained.labelled
    (kept,) = cache.iterdir()
    assert kept.name == f"labels-{tiny.fingerprint[:32]}-0-{image_network.FORMAT}.safetensors"
    monkeypatch.setattr(reference_classifier, "train_network", lambda *_, **__: pytest.fail("trained again"))
    again = reference_classifier_for(tiny)
    assert again.accuracy == trained.accuracy
    assert torch.equal(again.features(tiny.test.images), trained.features(tiny.test.images))


def test_weights_of_another_format_are_not_read(tiny: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reference_classifier_for(tiny)
    monkeypatch.setattr(reference_classifier, "FORMAT", image_network.FORMAT + 1)
    reference_classifier_for(tiny)
    assert len(list(cache.iterdir())) == 2


def test_a_damaged_file_is_replaced(tiny: Dataset, cache: Path) -> None:
    trained = reference_classifier_for(tiny)
    (kept,) = cache.iterdir()
    kept.write_bytes(b"cut short")
    assert reference_classifier_for(tiny).accuracy == trained.accuracy
    assert kept.stat().st_size > 1000


def test_weights_that_cannot_be_cached_are_no_error(
    tiny: Dataset, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(image_network, "save_file", full)
    assert reference_classifier_for(tiny).accuracy > 0.8
    assert list(cache.iterdir()) == []


def test_training_reports_progress_from_the_first_step_to_the_last(tiny: Dataset, cache: Path) -> None:
    told: list[tuple[str, int, int]] = []
    reference_classifier_for(tiny, work=lambda *done: told.append(done))
    assert told == [("training the reference classifier", done, 25) for done in (0, 10, 20, 25)]
    told.clear()
    reference_classifier_for(tiny, work=lambda *done: told.append(done))
    assert told == []


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 12), (1, 5, 3), (1, 1, 1)])
def test_the_network_takes_every_shape(shape: tuple[int, ...]) -> None:
    body, head = image_network.image_network(shape, 4)
    assert head(body(torch.zeros(2, *shape))).shape == (2, 4)


def test_every_layout_of_images_is_read_alike(tiny: Dataset) -> None:
    classifier = train_classifier(tiny.train, 3, tiny.test, steps=3)
    images = tiny.test.images
    read = classifier.features(images)
    for layout in (images[:, 0], np.moveaxis(images, 1, -1)):
        assert torch.equal(classifier.features(layout), read)


def test_data_that_it_cannot_learn_from_are_refused(tiny: Dataset) -> None:
    empty = Split(tiny.train.images[:0], tiny.test.labels[:0])  # type: ignore[index]
    with pytest.raises(DataError, match="empty: got no training images"):
        reference_classifier_for(Dataset("empty", empty, tiny.validation, tiny.test, tiny.classes))
    with pytest.raises(LabelError, match="tiny: got fewer than two classes"):
        reference_classifier_for(unlabelled(tiny))
    with pytest.raises(DataError, match="table: got a table"):
        reference_classifier_for(table())
