"""`dataset_from`: arrays, tensors, lists of images, and the data sets of PyTorch and Hugging Face, by what they have."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Subset, TensorDataset

import vaelab
from vaelab import dataset_from
from vaelab.data import Dataset
from vaelab.errors import ConfigError, DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 4, 5), dtype=np.uint8)
RGB = np.random.default_rng(1).integers(0, 256, (20, 3, 4, 5), dtype=np.uint8)
LABELS = np.arange(20) % 2
NAMES = np.array(["shoe", "bag"])[LABELS]


class Pairs:
    """A map-style data set as PyTorch and torchvision have them."""

    def __init__(self, images: Any, labels: Any, classes: list[str] | None = None) -> None:
        self.images, self.labels = images, labels
        if classes:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.images[index], self.labels[index]


class ClassLabel:
    names = ("shoe", "bag")


class HuggingFace:
    """A data set with the interface of `datasets.Dataset`."""

    def __init__(self, features: dict[str, Any], **columns: Any) -> None:
        self.features, self.columns = features, columns
        self.column_names = list(columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {name: values[index] for name, values in self.columns.items()}


def pictures(images: np.ndarray = IMAGES) -> list[Image.Image]:
    return [Image.fromarray(pixels if pixels.ndim == 2 else np.moveaxis(pixels, 0, -1)) for pixels in images]


def everything(dataset: Dataset) -> dict[bytes, str | None]:
    """The images of all splits and their class names."""
    found = {}
    for split in (dataset.train, dataset.validation, dataset.test):
        labels = [None] * len(split) if split.labels is None else [dataset.classes[label] for label in split.labels]
        found |= {pixels.tobytes(): label for pixels, label in zip(split.images, labels, strict=True)}
    return found


def tensors() -> TensorDataset:
    return TensorDataset(torch.from_numpy(RGB), torch.from_numpy(LABELS))


UNLABELLED: dict[str, Callable[[], Any]] = {
    "an array": lambda: RGB,
    "an array, channels last": lambda: RGB.transpose(0, 2, 3, 1),
    "floats": lambda: RGB / 255,
    "a tensor": lambda: torch.from_numpy(RGB),
    "a tensor of floats": lambda: torch.from_numpy(RGB / np.float32(255)).requires_grad_(),
    "a list of PIL images": lambda: pictures(RGB),
    "a list of arrays": lambda: list(RGB),
    "a list of tensors": lambda: list(torch.from_numpy(RGB)),
    "a loader of tensors": lambda: DataLoader(torch.from_numpy(RGB), batch_size=7),  # pyright: ignore[reportArgumentType]
    "a data set": lambda: TensorDataset(torch.from_numpy(RGB)),
    "Hugging Face": lambda: HuggingFace({}, image=pictures(RGB)),
}


@pytest.mark.parametrize("kind", UNLABELLED)
def test_every_kind_gives_the_same_images(kind: str) -> None:
    dataset = dataset_from(UNLABELLED[kind](), seed=3)
    assert dataset.fingerprint == dataset_from(RGB, seed=3).fingerprint
    assert (dataset.name, dataset.shape, dataset.classes) == ("data", (3, 4, 5), ())
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (16, 2, 2)
    assert any("floating-point" in note for note in dataset.notes) == ("floats" in kind)


LABELLED: dict[str, Callable[[], Any]] = {
    "a list of pairs": lambda: list(zip(pictures(RGB), LABELS, strict=True)),
    "a data set of pairs": lambda: Pairs(pictures(RGB), LABELS.tolist()),
    "a data set of tensors": tensors,
    "a loader": lambda: DataLoader(tensors(), batch_size=6),
    "a loader of dicts": lambda: DataLoader(
        [{"image": torch.from_numpy(i), "label": k} for i, k in zip(RGB, LABELS, strict=True)]  # type: ignore[arg-type]
    ),
    "Hugging Face": lambda: HuggingFace({"label": None}, image=pictures(RGB), label=LABELS.tolist()),
    "Hugging Face, other names": lambda: HuggingFace({"labels": None}, img=list(RGB), labels=LABELS.tolist()),
}


@pytest.mark.parametrize("kind", LABELLED)
def test_labels_of_the_data_are_taken(kind: str) -> None:
    dataset = dataset_from(LABELLED[kind]())
    assert dataset.classes == ("0", "1")
    assert everything(dataset) == everything(dataset_from(RGB, LABELS))


@pytest.mark.parametrize(
    "labels",
    [NAMES, NAMES.tolist(), NAMES.astype("S"), NAMES.astype(object), [np.str_(name) for name in NAMES]],
)
def test_labels_may_be_text(labels: Any) -> None:
    dataset = dataset_from(IMAGES, labels, name="things")
    assert (dataset.name, dataset.classes) == ("things", ("bag", "shoe"))
    assert everything(dataset)[IMAGES[0].tobytes()] == "shoe"


@pytest.mark.parametrize(
    "labels", [LABELS + 9, (LABELS + 9.0).tolist(), torch.from_numpy(LABELS + 9), (LABELS + 9).astype(np.uint8)]
)
def test_labels_may_be_numbers(labels: Any) -> None:
    dataset = dataset_from(IMAGES, labels)
    assert dataset.classes == ("9", "10")
    assert everything(dataset)[IMAGES[0].tobytes()] == "9"


NAMED: dict[str, Callable[[], Any]] = {
    "torchvision": lambda: Pairs(pictures(), LABELS.tolist(), ["shoe", "bag", "hat"]),
    "a subset": lambda: Subset(Pairs(pictures(), LABELS.tolist(), ["shoe", "bag", "hat"]), list(range(20))),  # type: ignore[arg-type]
    "a loader": lambda: DataLoader(Pairs(IMAGES, LABELS, ["shoe", "bag"])),  # type: ignore[arg-type]
    "Hugging Face": lambda: HuggingFace({"label": ClassLabel()}, image=pictures(), label=LABELS.tolist()),
}


@pytest.mark.parametrize("kind", NAMED)
def test_class_names_of_the_data_are_used_in_their_order(kind: str) -> None:
    dataset = dataset_from(NAMED[kind]())
    assert dataset.classes == ("shoe", "bag")
    assert everything(dataset) == {pixels.tobytes(): str(name) for pixels, name in zip(IMAGES, NAMES, strict=True)}


def test_a_dict_gives_the_splits() -> None:
    parts = {
        "train": Pairs(IMAGES, LABELS),
        "Validation": Pairs(IMAGES[:6], LABELS[:6]),
        "test": Pairs(IMAGES[:4], LABELS[:4]),
    }
    dataset = dataset_from(parts)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (20, 6, 4)
    again = dataset_from({"train": IMAGES, "test": IMAGES[:4]}, {"train": LABELS, "test": LABELS[:4]})
    assert np.array_equal(again.test.images[:, 0], IMAGES[:4])
    assert len(dataset_from({"test": IMAGES}).test) == 20


def test_rows_are_a_table() -> None:
    rows = np.random.default_rng(0).normal(size=(20, 3))
    for data in (
        rows,
        rows.tolist(),
        torch.from_numpy(rows),
        TensorDataset(torch.from_numpy(rows), torch.from_numpy(LABELS)),
    ):
        dataset = dataset_from(data)
        assert dataset.shape == (3,)
        assert dataset.train.images.dtype == np.float32
    assert dataset.classes == ("0", "1")
    with pytest.raises(DataError, match="NaN"):
        dataset_from(np.full((20, 3), np.nan))
    with pytest.raises(ConfigError, match="`size`"):
        dataset_from(rows, size=8)


def test_images_of_different_sizes_and_modes_are_made_alike() -> None:
    images = [Image.new(mode, (20 + i, 20), "white") for i, mode in enumerate(["L", "RGB", "LA", "1"])]
    dataset = dataset_from(images)
    assert dataset.shape == (3, 24, 24)
    assert any("4 sizes" in note and "`size=64`" in note for note in dataset.notes)
    assert any("1 image with transparency" in note for note in dataset.notes)
    assert dataset_from(images, size=(8, 10), fit="pad").shape == (3, 8, 10)
    assert dataset_from(IMAGES, size=8).shape == (1, 8, 8)


def test_dark_images_are_noted_and_rescaled() -> None:
    deep = [Image.fromarray((np.arange(256).reshape(16, 16) * 16).astype(np.uint16)) for _ in range(3)]
    for data, brightest, white in ((IMAGES % 2, 1, 1), (pictures(IMAGES % 17), 16, 16), (deep, 4080, 4095)):
        (note,) = (note for note in dataset_from(data).notes if "dark" in note)
        assert re.search(rf"brightest value is {brightest}\b.*`white={white}`", note)
        bright = dataset_from(data, white=white)
        assert bright.train.images.max() >= 254
        assert not any("dark" in note for note in bright.notes)
    assert dataset_from(IMAGES.astype(np.int64) * 8, white=2040).fingerprint == dataset_from(IMAGES).fingerprint


def forever() -> Iterator[np.ndarray]:
    while True:
        yield IMAGES[0]


@pytest.mark.parametrize(
    ("data", "labels", "message"),
    [
        ("photos", None, "got a value of type str; expected an array"),
        (3, None, "got a value of type int; expected an array"),
        (None, None, "got a value of type NoneType; expected an array"),
        (forever(), None, r"got a value of type iterator; pass list\(data\)"),
        ({IMAGES.tobytes()}, None, "got a value of type set; expected an array"),
        (IMAGES.astype(object), None, "got a value of type ndarray; expected an array"),
        ([], None, "got no images"),
        ({}, None, "got an empty dict"),
        ([[1, 2], [3]], None, "lists of numbers of different lengths"),
        (IMAGES.astype(int), None, r"got images of type int64; .*astype\(np\.uint8\)"),
        (IMAGES.astype(float), None, r"got floats from 0 to 255; expected uint8 .*\[0, 1\]"),
        (IMAGES / 255 - 0.5, None, r"got floats from -0\.5 to 0\.5; expected"),
        (torch.from_numpy(IMAGES / 127.5 - 1), None, "got floats from -1 to 1; expected"),
        (IMAGES[0, 0], None, r"got images of shape \(5,\)"),
        (np.zeros((28, 28, 3), np.uint8), None, r"got one image of shape \(28, 28, 3\)"),
        ([np.zeros(3), np.zeros(4)], None, "got rows of different lengths"),
        (["a", "b"], None, "image 0: got type str; expected a PIL image"),
        ([IMAGES], None, "image 0: got images of shape"),
        ([(IMAGES[0], 1, 2)], None, "got an item of 3 values"),
        (IMAGES, LABELS[:19], r"got 20 training images and labels of shape \(19,\)"),
        (IMAGES, "shoe", "got labels of type str; expected one label per image"),
        (IMAGES, 3, "got labels of type int; expected one label per image"),
        (IMAGES, [None] * 20, "got no label for image 0"),
        (IMAGES, [1.0] * 19 + [float("nan")], "got no label for image 19"),
        (IMAGES, LABELS + 0.5, r"image 0: got the label 0\.5"),
        (IMAGES, LABELS[:, None], "image 0: got a label of type ndarray"),
        (list(zip(IMAGES, LABELS, strict=True)), LABELS, "got labels in `data` and as `labels`; .*leave out"),
        ({"train": IMAGES, "training": IMAGES}, None, "got the keys 'train', 'training'; expected train"),
        ({"train": IMAGES, "other": IMAGES}, None, "got the keys 'train', 'other'; expected train"),
        ({"train": IMAGES}, LABELS, "not one of labels with the same keys"),
        ({"train": IMAGES, "test": IMAGES[:, :3]}, None, "got splits of the shapes .*; expected one"),
        (Pairs(IMAGES, LABELS - 1, ["a", "b"]), None, "got labels from -1 to 0; expected 0…1"),
        (HuggingFace({}, text=["a"]), None, "got the columns 'text'; expected a column 'image'"),
    ],
)
def test_anything_else_is_refused(data: Any, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        dataset_from(data, labels)


def test_options_out_of_range_are_refused() -> None:
    for options in ({"size": 0}, {"fit": "crpo"}, {"seed": -1}, {"white": 0}):
        with pytest.raises(ConfigError, match=f"^`{next(iter(options))}`: "):
            dataset_from(IMAGES, **options)  # type: ignore[arg-type]


def test_it_is_public_and_imports_no_torch() -> None:
    assert "dataset_from" in vaelab.__all__
    program = (
        "import sys, numpy, vaelab; vaelab.dataset_from(numpy.zeros((9, 4, 4), 'u1')); print('torch' in sys.modules)"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"
    )


def test_a_tuple_is_images_and_labels_like_the_pair_of_a_split() -> None:
    pair = dataset_from((IMAGES, LABELS))
    assert pair.fingerprint == dataset_from(IMAGES, LABELS).fingerprint
    both = dataset_from({"train": (IMAGES, NAMES), "test": (list(IMAGES[:6]), NAMES[:6].tolist())})
    assert both.classes == ("bag", "shoe")
    assert len(both.test) == 6
    assert dataset_from((torch.from_numpy(RGB), torch.from_numpy(LABELS))).labelled
    table = dataset_from((np.ones((20, 3)) * LABELS[:, None], LABELS))
    assert table.shape == (3,)
    assert table.labelled
    two = dataset_from((IMAGES[0], IMAGES[1]))  # a tuple of two images, as before
    assert not two.labelled
    assert two.shape == (1, 4, 5)


@pytest.mark.parametrize(
    ("grey", "colour", "note"),
    [
        (3, 2, "Converted 3 grey images to RGB, because the other 2 are RGB."),
        (1, 1, "Converted 1 grey image to RGB, because the other is RGB."),
        (0, 2, ""),
        (2, 0, ""),
    ],
)
def test_grey_images_among_colour_ones_are_noted(grey: int, colour: int, note: str) -> None:
    pictures = [Image.fromarray(image) for image in IMAGES[:grey]]
    pictures += [Image.fromarray(np.moveaxis(image, 0, -1)) for image in RGB[:colour]]
    converted = [one for one in dataset_from(pictures).notes if one.startswith("Converted")]
    assert converted == [note] * bool(note)
