"""Files of every format, mode and depth load with the pixels that viewers show."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vaelab.data import load_dataset
from vaelab.data.formats import EXTENSIONS, KINDS
from vaelab.errors import DataError

GREY = np.array([[0, 60, 120], [180, 240, 255]], dtype=np.uint8)
"""2×3, no two pixels alike, so that a turned or mirrored image is seen."""
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)
ALPHA = np.array([[255, 0, 255], [0, 255, 255]], dtype=np.uint8)
ON_WHITE = np.where(ALPHA == 0, 255, GREY)
BITS = np.array([[0, 255, 0], [255, 255, 0]], dtype=np.uint8)
DEEP = GREY.astype(np.uint16) * 257
ORIENTED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
"""What a viewer does with what is stored, by the number of the EXIF orientation."""


def rgb() -> Image.Image:
    return Image.fromarray(COLOUR)


def with_alpha(grey: bool) -> Image.Image:
    image = Image.fromarray(GREY) if grey else Image.fromarray(COLOUR)
    image.putalpha(Image.fromarray(ALPHA))
    return image


def palette(colours: list[int]) -> Image.Image:
    """Each pixel its own entry of a palette."""
    image = Image.new("P", (3, 2))
    image.putdata(range(6))
    image.putpalette(colours)
    return image


PALETTE = COLOUR.reshape(-1).tolist()
GREY_PALETTE = np.repeat(GREY.reshape(-1), 3).tolist()
COLOUR_ON_WHITE = np.where(ALPHA[..., None] == 0, 255, COLOUR)

FILES: dict[str, tuple[Callable[[], Image.Image], np.ndarray, dict[str, Any]]] = {
    "1.png": (lambda: Image.fromarray(BITS).convert("1"), BITS, {}),
    "1.bmp": (lambda: Image.fromarray(BITS).convert("1"), BITS, {}),
    "1.tif": (lambda: Image.fromarray(BITS).convert("1"), BITS, {"compression": "group4"}),
    "L.png": (lambda: Image.fromarray(GREY), GREY, {}),
    "L.bmp": (lambda: Image.fromarray(GREY), GREY, {}),
    "L.tiff": (lambda: Image.fromarray(GREY), GREY, {"compression": "tiff_lzw"}),
    "L.gif": (lambda: Image.fromarray(GREY), GREY, {}),
    "L.webp": (lambda: Image.fromarray(GREY), GREY, {"lossless": True}),
    "LA.png": (lambda: with_alpha(True), ON_WHITE, {}),
    "LA.tif": (lambda: with_alpha(True), ON_WHITE, {}),
    "16.png": (lambda: Image.fromarray(DEEP), GREY, {}),
    "16.tif": (lambda: Image.fromarray(DEEP), GREY, {}),
    "16-big-endian.tif": (lambda: Image.frombytes("I;16B", (3, 2), DEEP.astype(">u2").tobytes()), GREY, {}),
    "RGB.png": (rgb, COLOUR, {}),
    "RGB.bmp": (rgb, COLOUR, {}),
    "RGB.TIF": (rgb, COLOUR, {"compression": "tiff_deflate"}),
    "RGB.webp": (rgb, COLOUR, {"lossless": True}),
    "RGBA.png": (lambda: with_alpha(False), COLOUR_ON_WHITE, {}),
    "RGBA.webp": (lambda: with_alpha(False), COLOUR_ON_WHITE, {"lossless": True}),
    "RGBA.tif": (lambda: with_alpha(False), COLOUR_ON_WHITE, {}),
    "P.png": (lambda: palette(PALETTE), COLOUR, {}),
    "P.gif": (lambda: palette(PALETTE), COLOUR, {}),
    "P.bmp": (lambda: palette(PALETTE), COLOUR, {}),
    "P.tif": (lambda: palette(PALETTE), COLOUR, {}),
    "P-grey.gif": (lambda: palette(GREY_PALETTE), GREY, {}),
    "P-transparent.gif": (
        lambda: palette(PALETTE),
        np.where((np.arange(6).reshape(2, 3) == 4)[..., None], 255, COLOUR),
        {"transparency": 4},
    ),
    "P-transparent.png": (
        lambda: palette(PALETTE),
        np.where((np.arange(6).reshape(2, 3) == 4)[..., None], 255, COLOUR),
        {"transparency": 4},
    ),
    "CMYK.tif": (
        lambda: Image.merge(
            "CMYK", [Image.fromarray(255 - c) for c in np.moveaxis(COLOUR, -1, 0)] + [Image.new("L", (3, 2))]
        ),
        COLOUR,
        {},
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_every_mode_and_format_shows_its_pixels(tmp_path: Path, name: str) -> None:
    make, shown, options = FILES[name]
    make().save(tmp_path / name, **options)
    images = load_dataset(tmp_path).train.images
    assert images[0].tolist() == (shown[None] if shown.ndim == 2 else np.moveaxis(shown, -1, 0)).tolist()


@pytest.mark.parametrize(
    ("mode", "colour", "shown"),
    [("L", 90, [90]), ("RGB", (90, 90, 200), [90, 90, 200]), ("CMYK", (165, 165, 55, 0), [90, 90, 200])],
)
def test_jpeg_in_every_mode(tmp_path: Path, mode: str, colour: Any, shown: list[int]) -> None:
    Image.new(mode, (8, 8), colour).save(tmp_path / "a.JPEG", quality=98)
    pixels = load_dataset(tmp_path).train.images[0, :, 3, 4].astype(int)
    assert np.abs(pixels - shown).max() <= 3
    assert len(pixels) == len(shown)


def test_grey_webp_that_is_compressed_is_grey(tmp_path: Path) -> None:
    Image.new("L", (16, 16), 90).save(tmp_path / "a.webp", quality=60)
    images = load_dataset(tmp_path).train.images
    assert images.shape == (1, 1, 16, 16)
    assert np.abs(images.astype(int) - 90).max() <= 2


def test_sixteen_bits_keep_their_upper_half(tmp_path: Path) -> None:
    levels = np.array([[0, 255, 256], [0x7FFF, 0x8000, 0xFFFF]], dtype=np.uint16)
    Image.fromarray(levels).save(tmp_path / "a.png")
    assert load_dataset(tmp_path).train.images[0, 0].tolist() == [[0, 0, 1], [127, 128, 255]]


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_numbers_without_a_known_white_are_refused(tmp_path: Path, dtype: type) -> None:
    Image.fromarray(np.full((2, 3), 70_000, dtype=dtype)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif: cannot be read \(.*32-bit .*8 or 16 bits"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("orientation", ORIENTED)
@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "a.jpg"])
def test_every_orientation_is_applied(tmp_path: Path, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.kron(GREY, np.ones((16, 16), dtype=np.uint8))  # large enough that JPEG keeps the levels apart
    options: dict[str, Any] = {"quality": 95} if name == "a.jpg" else {"lossless": True} if name == "a.webp" else {}
    Image.fromarray(stored).save(tmp_path / name, exif=exif, **options)
    shown = ORIENTED[orientation](stored)
    pixels = load_dataset(tmp_path).train.images[0, 0]
    assert np.abs(pixels.astype(int) - shown).max() <= (6 if name == "a.jpg" else 0)


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_of_several_frames_the_first_is_taken_and_noted(tmp_path: Path, name: str) -> None:
    frames = [Image.fromarray(np.roll(GREY, i)) for i in range(3)]
    options: dict[str, Any] = {"lossless": True} if name == "a.webp" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    frames[1].save(tmp_path / "b.png")
    dataset = load_dataset(tmp_path)
    assert dataset.train.images[:, 0].tolist() == [GREY.tolist(), np.roll(GREY, 1).tolist()]
    assert re.search("first frame .*1 file ", dataset.notes[0])


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png", "BMP")
    assert load_dataset(tmp_path).train.images[0, 0].tolist() == GREY.tolist()


def test_other_files_are_passed_over(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    for name in (".hidden.png", "Thumbs.db", "notes.txt", "README"):
        (tmp_path / name).write_text("no image")
    dataset = load_dataset(tmp_path)
    assert len(dataset.train) == 1
    assert re.match(r"Ignored .*: 1 \.db, 1 \.txt, 1 hidden, 1 without extension\.$", dataset.notes[0])


@pytest.mark.parametrize("extension", sorted(EXTENSIONS))
def test_a_broken_file_of_every_kind_is_named(tmp_path: Path, extension: str) -> None:
    (tmp_path / f"a{extension}").write_bytes(b"no image")
    with pytest.raises(DataError, match=rf"a\{extension}: cannot be read \(.*not {KINDS}\); .*`skip_broken=True`"):
        load_dataset(tmp_path)


def test_a_truncated_file_of_every_kind_is_named(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for name in ("a.png", "a.jpg", "a.webp", "a.bmp", "a.tif", "a.gif"):
        path = tmp_path / name.replace(".", "-") / name
        path.parent.mkdir()
        noise.save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(DataError, match=rf"{name}: cannot be read \(.*\); expected a valid"):
            load_dataset(path.parent)
