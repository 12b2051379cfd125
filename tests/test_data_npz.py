"""NumPy archives: valid ones load, broken ones raise errors, and nothing is unpickled."""

import re
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaelab.data.dataset import Dataset
from vaelab.data.npz import load_npz
from vaelab.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 4, 5), dtype=np.uint8)
LABELS = np.arange(20) % 2


def save(folder: Path, **arrays: Any) -> Path:
    path = folder / "set.npz"
    np.savez(path, **arrays)
    return path


def load(folder: Path, **arrays: Any) -> Dataset:
    return load_npz(save(folder, **arrays))


def test_an_archive_is_a_dataset(tmp_path: Path) -> None:
    dataset = load(tmp_path, images=IMAGES, labels=LABELS, test_images=IMAGES[:7], test_labels=LABELS[:7])
    assert dataset.name == "set"
    assert dataset.shape == (1, 4, 5)
    assert dataset.classes == ("0", "1")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (18, 2, 7)
    assert np.array_equal(dataset.test.images[:, 0], IMAGES[:7])


def test_rgb_may_stand_last_and_labels_may_be_missing(tmp_path: Path) -> None:
    images = np.repeat(IMAGES[..., None], 3, axis=-1)
    dataset = load(tmp_path, images=images)
    assert dataset.shape == (3, 4, 5)
    assert dataset.train.images.flags.c_contiguous
    assert dataset.classes == ()


def test_text_labels_are_the_class_names(tmp_path: Path) -> None:
    dataset = load(tmp_path, images=IMAGES, labels=np.array(["shoe", "bag"])[LABELS])
    assert dataset.classes == ("bag", "shoe")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint64, np.int32])
def test_integer_labels_are_sorted_as_numbers(tmp_path: Path, dtype: type) -> None:
    assert load(tmp_path, images=IMAGES, labels=np.array([10, 9], dtype)[LABELS]).classes == ("9", "10")


@given(st.sampled_from([np.float16, np.float32, np.float64]), st.integers(0, 255))
def test_floats_come_back_as_the_bytes_that_they_were(
    tmp_path_factory: pytest.TempPathFactory, dtype: type, level: int
) -> None:
    images = np.full((3, 2, 2), level / 255).astype(dtype)
    dataset = load(tmp_path_factory.mktemp("floats"), images=images)
    assert (dataset.train.images == level).all()
    assert re.match(r"Scaled .*\[0, 1\] to 0…255", dataset.notes[0])


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("X", "y"),
        ("x", "Y"),
        ("x_train", "y_train"),
        ("Images", "Labels"),
        ("image", "targets"),
        ("train_images", "train_labels"),
    ],
)
def test_other_names_of_arrays_are_known(tmp_path: Path, images: str, labels: str) -> None:
    dataset = load(tmp_path, **{images: IMAGES, labels: LABELS})
    assert dataset.fingerprint == load(tmp_path, images=IMAGES, labels=LABELS).fingerprint
    assert f"Read the arrays {images!r} as images, {labels!r} as labels." in dataset.notes


@pytest.mark.parametrize("names", ["x_{}", "{}_images", "X_{}", "images_{}"])
def test_arrays_of_every_split_are_read(tmp_path: Path, names: str) -> None:
    split_names = ("train", "valid", "test")
    dataset = load(tmp_path, **{names.format(name): IMAGES[: 5 + i] for i, name in enumerate(split_names)})
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (5, 6, 7)


def test_labels_as_bytes_are_text(tmp_path: Path) -> None:
    assert load(tmp_path, images=IMAGES, labels=np.array([b"shoe", b"bag"])[LABELS]).classes == ("bag", "shoe")


def test_composed_and_decomposed_labels_are_one_class(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    dataset = load(tmp_path, images=IMAGES, labels=np.array([composed, decomposed])[LABELS])
    assert dataset.classes == (composed,)


def test_other_arrays_are_ignored_and_noted(tmp_path: Path) -> None:
    dataset = load(tmp_path, images=IMAGES, masks=IMAGES, notes=np.array([None]))
    assert re.match("Ignored the arrays masks, notes; .*images, labels, test_images", dataset.notes[0])


NAN = np.where(np.arange(5) == 2, np.nan, IMAGES / 255)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": IMAGES}, r"got pictures; expected an array named 'images'; .*np\.savez\(path"),
        ({}, "got no array; expected an array named 'images'"),
        ({"images": IMAGES[0]}, r"images: got images of shape \(4, 5\); expected \(N, H, W\)"),
        ({"images": IMAGES[..., None, None]}, r"got images of shape \(20, 4, 5, 1, 1\); expected"),
        ({"images": IMAGES[:0]}, "expected at least one image"),
        ({"images": NAN}, r"images: got NaN; expected uint8 in 0…255 or floats in \[0, 1\]"),
        ({"images": IMAGES.astype(float)}, r"images: got floats from 0 to 255; expected uint8"),
        ({"images": IMAGES / 255 - 0.5}, r"images: got floats from -0\.5 to 0\.5; expected uint8"),
        (
            {"images": IMAGES.astype(int)},
            r"images: got images of type int64; expected uint8 .*; .*images\.astype\(np\.uint8\)",
        ),
        ({"images": IMAGES > 3}, "images: got images of type bool; expected uint8"),
        (
            {"images": IMAGES.astype(object)},
            "got pickled Python objects.*; expected plain arrays",
        ),
        ({"images": IMAGES, "labels": LABELS.astype(object)}, "got pickled Python objects"),
        (
            {"images": IMAGES, "labels": LABELS[:19]},
            r"got 20 training images and labels of shape \(19,\); expected",
        ),
        ({"images": IMAGES, "labels": LABELS[:, None]}, r"labels of shape \(20, 1\); expected shape \(20,\)"),
        ({"images": IMAGES, "labels": LABELS / 2}, "labels: got type float64; expected integers or text"),
        ({"images": IMAGES, "labels": np.array([b"\xff"] * 20)}, "labels: got bytes that are not UTF-8; expected"),
        ({"images": IMAGES, "labels": np.array(["a", ""])[LABELS]}, "labels: got an empty text as a label; expected"),
        ({"images": IMAGES, "labels": np.array(["a" * 300] * 20)}, "got a label of 300 characters"),
        ({"X": IMAGES, "x": IMAGES}, "got the arrays 'X', 'x'; expected one, 'images'"),
        ({"images": IMAGES, "lables": LABELS}, r"got the array 'lables'; did you mean 'labels'\?"),
        ({"images": IMAGES, "val_labels": LABELS}, "got validation_labels without validation_images; expected both"),
        (
            {"images": np.zeros((28, 28, 3), np.uint8)},
            r"images: got one image of shape \(28, 28, 3\); .*images\[None\]",
        ),
        ({"images": IMAGES, "test_labels": LABELS}, "got test_labels without test_images; expected both"),
        (
            {"images": IMAGES, "labels": LABELS, "test_images": IMAGES},
            "labels for the training images but not for the test images",
        ),
        (
            {"images": IMAGES, "test_images": IMAGES[:, :3]},
            r"got test_images of shape \(1, 3, 5\) each; expected .*\(1, 4, 5\)",
        ),
        (
            {"images": IMAGES, "labels": LABELS, "test_images": IMAGES, "test_labels": LABELS.astype(str)},
            "got text labels and integer labels; expected the same type",
        ),
    ],
)
def test_bad_arrays_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(tmp_path, **arrays)


@pytest.mark.parametrize("content", [b"", b"PK\3\4 cut", b"\x93NUMPY cut", b"text"])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "set.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"set\.npz: cannot be read .*; expected a complete \.npz archive"):
        load_npz(path)


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    whole = save(tmp_path, images=IMAGES).read_bytes()
    path = tmp_path / "cut.npz"
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut\.npz: cannot be read .*; expected a complete \.npz archive"):
            load_npz(path)


def test_a_flipped_pixel_is_noticed(tmp_path: Path) -> None:
    path = save(tmp_path, images=IMAGES)
    content = bytearray(path.read_bytes())
    content[content.index(IMAGES.tobytes()) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read .*CRC.*; expected a complete \.npz archive"):
        load_npz(path)


def test_a_lying_header_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path, images=IMAGES)
    with zipfile.ZipFile(path) as archive:
        member = archive.read("images.npy")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", member.replace(b"(20, 4, 5), ", b"(2000,4,5), "))
    with pytest.raises(DataError, match="cannot be read"):
        load_npz(path)


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    with path.open("wb") as file:
        np.save(file, IMAGES)
    with pytest.raises(DataError, match=r"got a single \.npy array; expected an \.npz archive"):
        load_npz(path)
