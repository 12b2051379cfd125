"""Folders of images: layouts, image modes, and errors that name the broken file."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vaelab.data.folders import load_image_folder, natural_order
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
    dataset = load_image_folder(fill(tmp_path))
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
    dataset = load_image_folder(tmp_path)
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
    dataset = load_image_folder(tmp_path)
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
    dataset = load_image_folder(tmp_path)
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
    images = load_image_folder(tmp_path).train.images
    assert images.shape == (1, len(pixel or ()), 4, 6)
    assert images[0, :, 2, 3].tolist() == pixel


def test_transparency_is_laid_on_white_and_noted(tmp_path: Path) -> None:
    save(tmp_path / "0.png", "RGBA", colour="#00000080")
    save(tmp_path / "1.png", "P", transparency=0)
    dataset = load_image_folder(tmp_path)
    assert dataset.train.images[0, :, 0, 0].tolist() == [127] * 3
    assert dataset.train.images[1, :, 0, 0].tolist() == [255] * 3
    assert re.search("2 images with transparency on white", dataset.notes[0])


def test_grey_images_among_colour_become_rgb(tmp_path: Path) -> None:
    save(tmp_path / "0.png", "L", colour="#777777")
    save(tmp_path / "1.png", "RGB", colour="#102030")
    dataset = load_image_folder(tmp_path)
    assert dataset.train.images[:, :, 0, 0].tolist() == [[0x77] * 3, [0x10, 0x20, 0x30]]
    assert re.search("1 grey images to RGB", dataset.notes[0])


def test_cmyk_is_read_as_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (6, 4), (0, 0, 0, 0)).save(tmp_path / "a.jpg")
    assert load_image_folder(tmp_path).train.images.tolist() == [[[[255] * 6] * 4] * 3]


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_exif_orientation_is_applied(tmp_path: Path, name: str) -> None:
    image = Image.new("L", (8, 16))
    image.paste(255, (0, 0, 8, 8))  # the top half white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: the top comes to the right
    image.save(tmp_path / name, exif=exif)
    pixels = load_image_folder(tmp_path, size=(8, 16)).train.images[0, 0]
    assert pixels[:, :8].max() < 10
    assert pixels[:, 8:].min() > 245
    if name == "a.jpg":
        assert load_image_folder(tmp_path).shape == (1, 8, 16)


def test_mixed_sizes_need_a_size(tmp_path: Path) -> None:
    fill(tmp_path, "ant", 4)
    save(tmp_path / "bee" / "wide.png", size=(30, 9))
    save(tmp_path / "bee" / "small.png", size=(2, 3))
    with pytest.raises(DataError, match=r"3 sizes, from 3×2 to 9×30 .*`size=64`"):
        load_image_folder(tmp_path)
    calls: list[tuple[str, int, int]] = []
    dataset = load_image_folder(tmp_path, size=(4, 6), progress=lambda *call: calls.append(call))
    assert dataset.shape == (1, 4, 6)
    assert dataset.notes[0] == "Scaled 2 of 6 images to 4×6, centre-cropped 2 of them, enlarged 1 of them."
    assert calls == [("reading images", i, 6) for i in range(1, 7)]
    assert "padded 2 of them" in load_image_folder(tmp_path, size=(4, 6), fit="pad").notes[0]


def test_links_are_followed(tmp_path: Path) -> None:
    fill(tmp_path / "real", "ant")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "bee").symlink_to(tmp_path / "real" / "ant")
    assert load_image_folder(tmp_path / "linked").classes == ("bee",)


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
        load_image_folder(tmp_path, size=size)


@pytest.mark.parametrize("limit", [10, 20])  # more than twice the limit, and less
@pytest.mark.parametrize("size", [None, (8, 8)])
def test_decompression_bombs_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, size: tuple[int, int] | None
) -> None:
    save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        with pytest.raises(DataError, match=rf"bomb\.png: got more than {limit} pixels"):
            load_image_folder(tmp_path, size=size)


def test_no_image_is_half_read_when_memory_is_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allocate = np.empty

    def refuse(shape: Any, *rest: Any, **options: Any) -> np.ndarray:
        if np.ndim(shape) == 1 and len(shape) == 4:
            raise MemoryError
        return allocate(shape, *rest, **options)

    save(tmp_path / "a.png")
    monkeypatch.setattr(np, "empty", refuse)
    with pytest.raises(DataError, match=r"1 images of 1×4×6 .*memory; .*`size=64`"):
        load_image_folder(tmp_path)


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"got nothing; expected {KINDS} images"):
        load_image_folder(tmp_path)
    (tmp_path / "a.txt").touch()
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match=rf"got 1 \.txt, 1 empty folder; expected {KINDS} images"):
        load_image_folder(tmp_path)


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
        load_image_folder(tmp_path)
