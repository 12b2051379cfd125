"""Folders of images: layouts, image modes, and errors that name the broken file."""

import os
import re
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vaelab.data import load_dataset
from vaelab.data.folders import natural_order
from vaelab.data.formats import KINDS
from vaelab.errors import DataError


def save(path: Path, mode: str = "L", size: tuple[int, int] = (6, 4), colour: str = "grey", **options: Any) -> None:
    """A one-coloured image; `size` is (W, H) as Pillow has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)


def fill(folder: Path, classes: str = "ant bee cat", count: int = 20, mode: str = "L") -> Path:
    for name in classes.split():
        for i in range(count):
            save(folder / name / f"{i}.png", mode)
    return folder


def test_class_folders_are_classes(tmp_path: Path) -> None:
    dataset = load_dataset(fill(tmp_path))
    assert dataset.classes == ("ant", "bee", "cat")
    assert dataset.shape == (1, 4, 6)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (49, 5, 6)
    assert dataset.train.images.flags.c_contiguous
    assert dataset.name == tmp_path.name
    assert dataset.notes[0] == "Held out 6 of 60 images as the test set (10%, stratified by class, seed 0)."


def test_the_images_keep_their_labels_and_order(tmp_path: Path) -> None:
    for k, name in enumerate(["1", "2", "10"]):
        for i in range(12):
            path = tmp_path / "train" / name / f"{i}.png"
            save(path, colour=f"#{k * 100 + i:02x}" * 1 + f"{k * 100 + i:02x}" * 2)
    for name in ("1", "10"):
        save(tmp_path / "test" / name / "a.PNG")
    save(tmp_path / "val" / "2" / "b.jpeg")
    dataset = load_dataset(tmp_path)
    assert dataset.classes == ("1", "2", "10")
    assert dataset.train.images[:, 0, 0, 0].tolist() == [k * 100 + i for k in range(3) for i in range(12)]
    for split, labels in (
        (dataset.train, [0] * 12 + [1] * 12 + [2] * 12),
        (dataset.validation, [1]),
        (dataset.test, [0, 2]),
    ):
        assert split.labels is not None
        assert split.labels.tolist() == labels
    assert any("test set of 2 images" in note for note in dataset.notes)


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    for i in range(20):
        save(tmp_path / f"{i}.jpg", "RGB", colour="red")
    dataset = load_dataset(tmp_path)
    assert dataset.classes == ()
    assert dataset.train.labels is None
    assert dataset.shape == (3, 4, 6)
    assert len(dataset.train) == 16


def test_names_are_in_natural_order() -> None:
    names = ["b", "10", "2", "a10", "a2", "x", "02"]
    assert sorted(names, key=natural_order) == ["02", "2", "10", "a2", "a10", "b", "x"]


def test_other_files_are_ignored_and_counted(tmp_path: Path) -> None:
    fill(tmp_path, "ant bee", 5)
    for name in ("notes.txt", "ant/.DS_Store", "ant/x.svg", "bee/y.svg"):
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / ".cache").mkdir()
    dataset = load_dataset(tmp_path)
    assert dataset.classes == ("ant", "bee")
    assert re.match(r"Ignored .*: 2 \.svg, 1 \.txt, 1 empty folder, 1 hidden\.$", dataset.notes[0])


@pytest.mark.parametrize(
    ("mode", "colour", "pixel"),
    [
        ("1", "white", [255]),
        ("L", "#777777", [0x77]),
        ("LA", "#777777", [0x77]),
        ("I;16", "white", None),
        ("RGB", "#102030", [0x10, 0x20, 0x30]),
        ("RGBA", "#10203000", [255, 255, 255]),
        ("RGBA", "#102030", [0x10, 0x20, 0x30]),
        ("P", "white", None),
    ],
)
def test_every_mode_is_read(tmp_path: Path, mode: str, colour: str, pixel: list[int] | None) -> None:
    path = tmp_path / "a.png"
    if mode == "I;16":
        Image.fromarray(np.full((4, 6), 0x80FF, np.uint16)).save(path)
        pixel = [0x80]
    elif mode == "P":
        Image.new("RGB", (6, 4), "#ff8000").quantize(4).save(path)
        pixel = [0xFF, 0x80, 0]
    else:
        save(path, mode, colour=colour)
    images = load_dataset(tmp_path).train.images
    assert images.shape == (1, len(pixel or ()), 4, 6)
    assert images[0, :, 2, 3].tolist() == pixel


def test_transparency_is_laid_on_white_and_noted(tmp_path: Path) -> None:
    save(tmp_path / "0.png", "RGBA", colour="#00000080")
    save(tmp_path / "1.png", "P", transparency=0)
    dataset = load_dataset(tmp_path)
    assert dataset.train.images[0, :, 0, 0].tolist() == [127] * 3
    assert dataset.train.images[1, :, 0, 0].tolist() == [255] * 3
    assert re.search("2 images with transparency on white", dataset.notes[0])


def test_grey_images_among_colour_become_rgb(tmp_path: Path) -> None:
    save(tmp_path / "0.png", "L", colour="#777777")
    save(tmp_path / "1.png", "RGB", colour="#102030")
    dataset = load_dataset(tmp_path)
    assert dataset.train.images[:, :, 0, 0].tolist() == [[0x77] * 3, [0x10, 0x20, 0x30]]
    assert re.search("1 grey image to RGB", dataset.notes[0])


def test_cmyk_is_read_as_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (6, 4), (0, 0, 0, 0)).save(tmp_path / "a.jpg")
    assert load_dataset(tmp_path).train.images.tolist() == [[[[255] * 6] * 4] * 3]


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_exif_orientation_is_applied(tmp_path: Path, name: str) -> None:
    image = Image.new("L", (8, 16))
    image.paste(255, (0, 0, 8, 8))  # the top half white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: the top comes to the right
    image.save(tmp_path / name, exif=exif)
    pixels = load_dataset(tmp_path, size=(8, 16)).train.images[0, 0]
    assert pixels[:, :8].max() < 10
    assert pixels[:, 8:].min() > 245
    if name == "a.jpg":
        assert load_dataset(tmp_path).shape == (1, 8, 16)


def test_images_of_different_sizes_can_be_given_one(tmp_path: Path) -> None:
    fill(tmp_path, "ant", 4)
    save(tmp_path / "bee" / "wide.png", size=(30, 9))
    save(tmp_path / "bee" / "small.png", size=(2, 3))
    calls: list[tuple[str, int, int]] = []
    dataset = load_dataset(tmp_path, size=(4, 6), progress=lambda *call: calls.append(call))
    assert dataset.shape == (1, 4, 6)
    assert dataset.notes[0] == "Scaled 2 of 6 images to 4×6, centre-cropped 2 of them, enlarged 1 of them."
    assert calls == [("reading images", i, 6) for i in range(1, 7)]
    assert "padded 2 of them" in load_dataset(tmp_path, size=(4, 6), fit="pad").notes[0]


@pytest.mark.parametrize(
    ("sides", "chosen"),
    [([20, 22, 40], 24), ([20, 20, 40], 24), ([18, 18, 100], 16), ([3, 4, 5], 8), ([90, 100, 300], 64), ([60, 68], 64)],
)
def test_without_a_size_the_median_short_side_is_taken(tmp_path: Path, sides: list[int], chosen: int) -> None:
    for i, side in enumerate(sides):
        save(tmp_path / f"{i}.png", size=(side + 7, side))
    dataset = load_dataset(tmp_path, fit="pad")
    assert dataset.shape == (1, chosen, chosen)
    (note,) = (note for note in dataset.notes if "sizes" in note)
    low, high = f"{sides[0]}×{sides[0] + 7}", f"{sides[-1]}×{sides[-1] + 7}"
    assert re.search(
        rf"to {chosen}×{chosen}, padded .*{len(set(sides))} sizes, from {low} to {high} .*`size=\d+`", note
    )
    assert dataset.fingerprint == load_dataset(tmp_path, fit="pad", size=chosen).fingerprint


def test_the_size_of_a_table_of_paths_is_chosen_in_the_same_way(tmp_path: Path) -> None:
    for i in range(4):
        save(tmp_path / "images" / f"{i}.png", size=(30 + i, 40))
    (tmp_path / "table.csv").write_text("path\n" + "".join(f"images/{i}.png\n" for i in range(4)))
    dataset = load_dataset(tmp_path / "table.csv")
    assert dataset.shape == (1, 32, 32)
    assert dataset.fingerprint == load_dataset(tmp_path / "images").fingerprint


def test_broken_images_have_no_part_in_the_size(tmp_path: Path) -> None:
    save(tmp_path / "0.png", size=(24, 24))
    save(tmp_path / "1.png", size=(24, 25))
    (tmp_path / "2.png").write_text("no image")
    with pytest.raises(DataError, match=r"2\.png: cannot be read"):
        load_dataset(tmp_path)
    assert load_dataset(tmp_path, skip_broken=True).shape == (1, 24, 24)


def test_links_are_followed(tmp_path: Path) -> None:
    fill(tmp_path / "real", "ant")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "bee").symlink_to(tmp_path / "real" / "ant")
    assert load_dataset(tmp_path / "linked", follow_links=True).classes == ("bee",)


def test_a_folder_is_read_once_and_not_through_links_to_it(tmp_path: Path) -> None:
    fill(tmp_path / "set", "ant bee", 3)
    for name, target in {"ant/root": "set", "ant/up": ".", "ant/sister": "set/bee", "zoo": "set/ant"}.items():
        (tmp_path / "set" / name).symlink_to(tmp_path / target)
    save(tmp_path / "elsewhere" / "1.png", size=(6, 4))
    for name in ("ant/more", "bee/more"):
        (tmp_path / "set" / name).symlink_to(tmp_path / "elsewhere")
    dataset = load_dataset(tmp_path / "set", follow_links=True)
    assert dataset.classes == ("ant", "bee")
    assert sum(map(len, (dataset.train, dataset.validation, dataset.test))) == 7
    assert any("5 link to a folder that is read already" in note for note in dataset.notes)


def test_links_between_splits_do_not_mix_them(tmp_path: Path) -> None:
    fill(tmp_path / "train", "ant", 3)
    fill(tmp_path / "test", "ant", 2)
    (tmp_path / "train" / "ant" / "more").symlink_to(tmp_path / "test" / "ant")
    assert [len(split) for split in (load_dataset(tmp_path).train, load_dataset(tmp_path).test)] == [3, 2]


SYSTEM = [
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "lost+found",
    "System Volume Information",
    "__MACOSX",
    "__macosx",
    ".trash",
]


@pytest.mark.parametrize("name", SYSTEM)
def test_system_folders_are_passed_over_at_every_level(tmp_path: Path, name: str) -> None:
    for folder in ("", "train", "train/ant", "test"):
        save(tmp_path / folder / name / "x.png")
        save(tmp_path / folder / name / "deep" / "x.png")
    fill(tmp_path / "train", "ant bee", 3)
    fill(tmp_path / "test", "ant bee", 2)
    dataset = load_dataset(tmp_path)
    assert dataset.classes == ("ant", "bee")
    assert (len(dataset.train) + len(dataset.validation), len(dataset.test)) == (6, 4)


SPLIT_NAMES = [
    ("Training", "Testing", None),
    ("TRAIN", "Test", "Val"),
    ("train_set", "test_set", "valid_set"),
    ("trainset", "testset", None),
    ("seg_train", "seg_test", None),
    ("train-images", "eval-images", "dev-images"),
    ("pets.training", "pets.evaluation", "pets.validation"),
    ("train", "test", "dev"),
    ("train", "evaluation", "valid"),
]


@pytest.mark.parametrize(("train", "test", "validation"), SPLIT_NAMES)
def test_folders_with_other_names_of_splits_are_splits(
    tmp_path: Path, train: str, test: str, validation: str | None
) -> None:
    fill(tmp_path / train, "ant bee", 5)
    fill(tmp_path / test, "ant bee", 3)
    if validation:
        fill(tmp_path / validation, "ant bee", 2)
    dataset = load_dataset(tmp_path)
    assert dataset.classes == ("ant", "bee")
    assert len(dataset.test) == 6
    assert (len(dataset.train), len(dataset.validation)) == ((10, 4) if validation else (9, 1))


@pytest.mark.parametrize(
    "folders",
    ["train Training test", "Train test cat", "seg_train seg_test seg_pred", "val validation train", "eval test train"],
)
def test_splits_beside_other_folders_are_refused(tmp_path: Path, folders: str) -> None:
    for name in folders.split():
        fill(tmp_path / name, "ant bee", 2)
    with pytest.raises(DataError, match=r"got the folders .*; expected only train/, .*rename"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    "names", ["bullet_train steam_train", "crash_test train_station", "valid invalid", "trains tests"]
)
def test_classes_whose_names_contain_those_of_splits_are_classes(tmp_path: Path, names: str) -> None:
    assert load_dataset(fill(tmp_path, names, 3)).classes == tuple(sorted(names.split()))


def test_a_folder_within_a_folder_is_unwrapped(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    fill(photos / "photos", "cat dog", 3)
    (photos / "README.txt").touch()
    dataset = load_dataset(photos)
    assert (dataset.name, dataset.classes) == ("photos", ("cat", "dog"))
    assert any("folder photos inside" in note for note in dataset.notes)
    photos.rename(tmp_path / "other")
    assert load_dataset(tmp_path / "other").classes == ("cat", "dog")
    assert load_dataset(fill(tmp_path / "one" / "one", "cat", 3)).classes == ("cat",)


def test_splits_within_folders_are_unwrapped(tmp_path: Path) -> None:
    for name in ("seg_train", "seg_test"):
        fill(tmp_path / "intel" / "intel" / name / name, "sea street", 3)
    dataset = load_dataset(tmp_path / "intel")
    assert dataset.classes == ("sea", "street")
    assert len(dataset.test) == 6


def test_a_single_split_within_a_folder_is_a_split(tmp_path: Path) -> None:
    fill(tmp_path / "set" / "photos" / "Test", "cat dog", 3)
    dataset = load_dataset(tmp_path / "set")
    assert (dataset.classes, len(dataset.train), len(dataset.test)) == (("cat", "dog"), 0, 6)


def test_a_class_with_subfolders_is_not_unwrapped(tmp_path: Path) -> None:
    save(tmp_path / "cat" / "2024" / "1.png")
    assert load_dataset(tmp_path).classes == ("cat",)


def test_composed_and_decomposed_names_are_one_class(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    for split, name in (("train", composed), ("train", decomposed), ("test", decomposed)):
        for i in range(3):
            save(tmp_path / split / name / f"{i}.png")
    dataset = load_dataset(tmp_path)
    assert dataset.classes == (composed,)
    assert (len(dataset.train) + len(dataset.validation), len(dataset.test)) == (6, 3)
    assert load_dataset(tmp_path, classes=[decomposed]).classes == (composed,)


UNDECODABLE = os.fsdecode(b"\xe9t\xe9")


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "\x1b[31m", "$x$", "\u2028", UNDECODABLE])
def test_names_that_cannot_be_printed_are_kept_and_escaped_in_messages(tmp_path: Path, name: str) -> None:
    for i in range(3):
        save(tmp_path / name / "b" / f"{name}{i}.png")
        save(tmp_path / name / name / f"{i}.png")
    (tmp_path / name / "b" / "x.png").write_text("no image")
    with pytest.raises(DataError) as refused:
        load_dataset(tmp_path / name)
    dataset = load_dataset(tmp_path / name, skip_broken=True, size=4)
    assert set(dataset.classes) == {"b", name}
    for text in (str(refused.value), *dataset.notes):
        assert not set(text) & set("\n\r\x1b\u2028")
        text.encode()


def make_truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:3000])


def make_flipped(path: Path) -> None:
    save(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 6] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("bad.png", lambda path: path.write_bytes(b""), f"not {KINDS}"),
        ("bad.jpg", lambda path: path.write_text("no image"), f"not {KINDS}"),
        ("bad.png", lambda path: Image.new("L", (6, 4)).save(path, "PPM"), f"not {KINDS}"),
        ("bad.png", make_truncated, "truncated"),
        ("bad.jpg", make_truncated, "truncated"),
        ("bad.png", make_flipped, "broken"),
        ("bad.png", lambda path: path.symlink_to("nowhere"), "No such file"),
    ],
)
@pytest.mark.parametrize("size", [None, (8, 8)])
def test_a_broken_image_is_named(
    tmp_path: Path, name: str, make: Callable[[Path], object], message: str, size: tuple[int, int] | None
) -> None:
    if message == "truncated" or size:
        save(tmp_path / "good.png", size=(64, 64))
    make(tmp_path / name)
    with pytest.raises(DataError, match=f"{name}: cannot be read .*{message}.*; .*`skip_broken=True`"):
        load_dataset(tmp_path, size=size)


@pytest.mark.parametrize("limit", [10, 20])  # more than twice the limit, and less
@pytest.mark.parametrize("size", [None, (8, 8)])
def test_decompression_bombs_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, size: tuple[int, int] | None
) -> None:
    save(tmp_path / "bomb.png")
    before = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        with pytest.raises(DataError, match=rf"bomb\.png: got 24 pixels; expected at most {limit}; .*`max_pixels=24`"):
            load_dataset(tmp_path, size=size, max_pixels=limit)
        assert len(load_dataset(tmp_path, size=size, max_pixels=24).train) == 1
    assert before == Image.MAX_IMAGE_PIXELS


def test_no_image_is_half_read_when_memory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allocate = np.empty

    def refuse(shape: Any, *rest: Any, **options: Any) -> np.ndarray:
        if np.ndim(shape) == 1 and len(shape) == 4:
            raise MemoryError
        return allocate(shape, *rest, **options)

    save(tmp_path / "a.png")
    monkeypatch.setattr(np, "empty", refuse)
    with pytest.raises(DataError, match=r"1 images of 1×4×6 .*memory; .*`size=64`"):
        load_dataset(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"got nothing; expected {KINDS} images"):
        load_dataset(tmp_path)
    (tmp_path / "a.txt").touch()
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match=rf"got 1 \.txt, 1 empty folder; expected {KINDS} images"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            "ant/1.png loose.png",
            r"1 images \(loose\.png, …\) beside class folders \(ant, …\); ",
        ),
        ("test/ant/1.png ant/2.png", "got the folders ant, test; expected only train/"),
        ("train/1.png car/2.png", "got the folders car, train; expected only train/"),
        ("train/1.png val/1.png validation/1.png", "got the folders train, val, validation; expected only train/"),
        (
            "train/ant/1.png test/1.png",
            "class folders in only one of train/ and test/; ",
        ),
        (
            "train/1.png test/ant/1.png",
            "class folders in only one of train/ and test/; ",
        ),
        (
            "train/ant/1.png test/bee/1.png",
            "class 'bee' in test/ but not in train/; expected only ant",
        ),
        (
            "train/1.png 2.png",
            "got images beside train/; .*move them",
        ),
    ],
)
def test_unclear_layouts_are_refused(tmp_path: Path, files: str, message: str) -> None:
    for name in files.split():
        save(tmp_path / name)
    with pytest.raises(DataError, match=message):
        load_dataset(tmp_path)
