"""Label-free features: figures in them rise with noise, blur and mixtures, and real images are at the floor."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluation_contexts import context_of, one_class, table, unlabelled
from scipy import ndimage

from vaelab.data import Dataset, Split, load_dataset
from vaelab.errors import DataError
from vaelab.evaluation import image_network, label_free, reference_classifier
from vaelab.evaluation.autoencoder import random_points_section
from vaelab.evaluation.fidelity import frechet_distance
from vaelab.evaluation.label_free import CHANGES, DEFECTS, label_free_network_for
from vaelab.evaluation.reference_classifier import ReferenceClassifier
from vaelab.evaluation.samples import samples_section


@pytest.fixture(autouse=True)
def quickly(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the networks for this file, and train them for fewer steps."""
    folder = tmp_path_factory.getbasetemp() / "label-free"
    monkeypatch.setattr(reference_classifier, "cache_folder", lambda: folder)
    monkeypatch.setattr(image_network, "MOST_STEPS", 150)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    """Grey 8×8 digits without labels, and as many held-out ones as possible."""
    loaded = load_dataset("digits")
    images = np.concatenate([loaded.train.images, loaded.validation.images, loaded.test.images])
    images = np.random.default_rng(0).permutation(images)  # the writers come one after the other
    return Dataset("bare", Split(images[:800]), Split(images[800:801]), Split(images[801:]))


@pytest.fixture
def network(digits: Dataset) -> ReferenceClassifier:
    return label_free_network_for(digits)


def distances(network: ReferenceClassifier, digits: Dataset, *changed: np.ndarray) -> list[float]:
    """FID of the second half of the held-out images, after each change, against the first half."""
    size = len(digits.test) // 2
    real = network.features(digits.test.images[:size])
    return [frechet_distance(real, network.features(images.clip(0, 255).astype(np.uint8))) for images in changed]


def other_half(digits: Dataset) -> np.ndarray:
    size = len(digits.test) // 2
    return digits.test.images[size : 2 * size].astype(float)


def test_changes_are_recognised_and_labels_are_not_used(digits: Dataset, network: ReferenceClassifier) -> None:
    assert not network.labelled
    assert network.accuracy > 4 / CHANGES
    assert network.held_out == len(digits.test)


def test_figures_rise_with_noise(digits: Dataset, network: ReferenceClassifier) -> None:
    images, rng = other_half(digits), np.random.default_rng(0)
    noise = 255 * rng.standard_normal(images.shape)
    found = distances(network, digits, *(images + amount * noise for amount in (0, 0.1, 0.2, 0.4)))
    assert all(later > 1.2 * earlier for earlier, later in pairwise(found))


def test_figures_rise_with_blur(digits: Dataset, network: ReferenceClassifier) -> None:
    images = other_half(digits)
    blurred = (ndimage.gaussian_filter(images, (0, 0, width, width)) for width in (0.5, 0.8, 1.2))
    found = distances(network, digits, images, *blurred)
    assert all(later > 1.2 * earlier for earlier, later in pairwise(found))


def test_figures_rise_with_mixtures(digits: Dataset, network: ReferenceClassifier) -> None:
    images = other_half(digits)
    mixed = [(1 - share) * images + share * np.roll(images, 1, 0) for share in (0, 0.15, 0.3, 0.5)]
    found = distances(network, digits, *mixed)
    assert all(later > 1.2 * earlier for earlier, later in pairwise(found))


def test_real_images_are_at_the_floor(digits: Dataset, network: ReferenceClassifier) -> None:
    """Other held-out images and training images are near; slight noise is farther than either."""
    size = len(digits.test) // 2
    images = other_half(digits)
    noise = 255 * np.random.default_rng(0).standard_normal(images.shape)
    held_out, training, noisy = distances(
        network, digits, images, digits.train.images[:size].astype(float), images + 0.2 * noise
    )
    assert noisy > 2 * max(held_out, training)


def test_changes_are_what_they_are_called() -> None:
    images = torch.rand(200, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    inputs, changes = label_free._changed(images, torch.Generator().manual_seed(0))
    assert inputs.shape == images.shape
    assert 0 <= inputs.min() < inputs.max() <= 1
    assert set(changes.tolist()) == set(range(CHANGES))
    again, same = label_free._changed(images, torch.Generator().manual_seed(0))
    assert torch.equal(again, inputs)
    assert torch.equal(same, changes)
    label_free_shift = label_free._shifted(images, torch.Generator().manual_seed(0))
    assert label_free_shift.shape == images.shape
    # Without a defect an image is only turned: all its values are those of the shifted image.
    for place in (changes % DEFECTS == 0).nonzero()[:, 0].tolist():
        values = inputs[place].flatten().sort().values
        assert set(values.tolist()) <= set(images[place].flatten().tolist())


def test_images_that_are_not_square_are_mirrored() -> None:
    images = torch.rand(40, 3, 4, 7, generator=torch.Generator().manual_seed(1))
    inputs, _ = label_free._changed(images, torch.Generator().manual_seed(0))
    assert inputs.shape == images.shape


def test_the_network_is_cached_apart_from_the_reference_classifier(digits: Dataset) -> None:
    label_free_network_for(digits)
    folder: Path = reference_classifier.cache_folder() / "classifiers"
    assert [path.name.split("-")[0] for path in folder.iterdir() if digits.fingerprint[:32] in path.name] == ["changes"]


def test_sections_of_unlabelled_images_name_their_features(digits: Dataset) -> None:
    context = context_of(digits, "vae", classifier=False)
    for section in (samples_section(context), random_points_section(context)):
        assert section.left_out == ""
        (about,) = (sentence for sentence in section.words if "no labels" in sentence)
        assert f"{CHANGES} artificial changes" in about
        assert "not comparable with figures in the features of a classifier" in about
        assert all(
            one.name.endswith("label-free features") or "diversity of all images" in one.name
            for one in section.quantities
        )
        assert "confidence" not in " ".join(one.name for one in section.quantities)
    fid = samples_section(context)["fid"]
    assert "label-free features" in fid.definition
    assert fid.value > 3 * fid.beside[0][1]


def test_one_class_has_no_classifier_but_features(tiny: Dataset) -> None:
    section = samples_section(context_of(one_class(tiny, "bar"), "cvae", classifier=False))
    assert section["fid"].name == "FID, label-free features"


def test_labelled_images_are_compared_in_the_classifiers_features(tiny: Dataset) -> None:
    context = context_of(tiny)
    assert context.features is context.classifier


def test_data_without_training_images_and_tables_are_refused(tiny: Dataset) -> None:
    bare = unlabelled(tiny)
    with pytest.raises(DataError, match="none: got no training images"):
        label_free_network_for(Dataset("none", bare.train[:0], bare.validation, bare.test))
    with pytest.raises(DataError, match="table: got a table"):
        label_free_network_for(table(labelled=False))
