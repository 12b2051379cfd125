"""Levels of fewer bits than their file can store: read as what the file states, rescaled on request, and otherwise noted."""

import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vaelab.data import Dataset, image_files, load_dataset
from vaelab.errors import ConfigError, DataError

LEVELS = np.arange(256).reshape(16, 16)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(pixels: np.ndarray, colour: int, *chunks: bytes, bits: int = 16, after: bytes = b"") -> bytes:
    """A PNG of `bits` bits per sample, of shape (H, W) or (H, W, samples), with more chunks before or after the pixels."""
    height, width = pixels.shape[:2]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    if bits < 8:
        samples = (pixels[..., None] >> np.arange(bits)[::-1] & 1).astype(np.uint8).reshape(height, -1)
        rows = [np.packbits(row).tobytes() for row in samples]
    else:
        rows = [row.astype(f">u{bits // 8}").tobytes() for row in pixels]
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IDAT", body) + after + chunk(b"IEND", b"")


def tiff(path: Path, pixels: np.ndarray, **tags: Any) -> None:
    Image.fromarray(pixels).save(path, tiffinfo=tags["tags"] if tags else {})


def twelve_bits(path: Path) -> None:
    """A TIFF of 2×4 pixels with 12 bits each: 0, 1, 2, 4095, 100, 200, 4000, 4095."""
    text = "".join(f"{value:012b}" for value in (0, 1, 2, 4095, 100, 200, 4000, 4095))
    data = bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
    entries = [(256, 4, 4), (257, 4, 2), (258, 3, 12), (259, 3, 1), (262, 3, 1), (273, 4, 8), (277, 3, 1), (278, 4, 2)]
    entries.append((279, 4, len(data)))
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    path.write_bytes(
        b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(entries)) + table + bytes(4)
    )


def notes_on(dataset: Dataset, word: str) -> list[str]:
    return [note for note in dataset.notes if word in note]


DARK: dict[str, tuple[Callable[[Path], object], int, int]] = {
    "12 bits in 16.png": (lambda path: Image.fromarray((16 * LEVELS).astype(np.uint16)).save(path), 4080, 4095),
    "12 bits in 16.tif": (lambda path: tiff(path, (16 * LEVELS).astype(np.uint16)), 4080, 4095),
    "14 bits in 16.png": (lambda path: Image.fromarray((64 * LEVELS).astype(np.uint16)).save(path), 16320, 16383),
    "8 bits in 16.png": (lambda path: Image.fromarray(LEVELS.astype(np.uint16)).save(path), 255, 255),
    "8 bits in 32.tif": (lambda path: tiff(path, LEVELS.astype(np.int32)), 255, 255),
    "a mask in 8.png": (lambda path: Image.fromarray((LEVELS % 2).astype(np.uint8)).save(path), 1, 1),
    "a mask in 8.bmp": (lambda path: Image.fromarray((LEVELS % 2).astype(np.uint8)).save(path), 1, 1),
    "a mask in 16.png": (lambda path: Image.fromarray((LEVELS % 2).astype(np.uint16)).save(path), 1, 1),
    "a mask in colour.png": (
        lambda path: Image.fromarray((LEVELS % 2).astype(np.uint8)).convert("RGB").save(path),
        1,
        1,
    ),
    "a mask with alpha.png": (
        lambda path: Image.fromarray((LEVELS % 2).astype(np.uint8)).convert("LA").save(path),
        1,
        1,
    ),
}


@pytest.mark.parametrize("case", DARK)
def test_dark_images_are_noted_with_the_option_that_rescales_them(tmp_path: Path, case: str) -> None:
    save, brightest, white = DARK[case]
    save(tmp_path / case)
    (note,) = notes_on(load_dataset(tmp_path), "dark")
    assert re.search(rf"brightest value is {brightest}\b.*`white={white}`", note)
    assert notes_on(load_dataset(tmp_path, size=8), "dark") == [note]
    dataset = load_dataset(tmp_path, white=white)
    assert not notes_on(dataset, "dark")
    values = LEVELS % 2 if "mask" in case else LEVELS * brightest // 255
    assert (dataset.train.images[0, 0] == np.rint(255 * values / white)).all()


@pytest.mark.parametrize("kind", ["npz", "idx"])
def test_dark_arrays_are_noted_and_rescaled(tmp_path: Path, kind: str) -> None:
    images = (np.arange(20 * 16).reshape(20, 4, 4) % 17).astype(np.uint8)
    source = tmp_path / "set.npz"
    if kind == "npz":
        np.savez(source, images=images)
    else:
        source = tmp_path
        (tmp_path / "train-images-idx3-ubyte").write_bytes(
            struct.pack(">4B3I", 0, 0, 8, 3, 20, 4, 4) + images.tobytes()
        )
    (note,) = notes_on(load_dataset(source), "dark")
    assert re.search("brightest value is 16, .*`white=16`", note)
    dataset = load_dataset(source, white=16)
    assert dataset.train.images.max() == 255
    assert not notes_on(dataset, "dark")
    with pytest.raises(DataError, match=r"got .* from 0 to 16; expected 0…15"):
        load_dataset(source, white=15)


def test_integers_of_every_type_are_read_with_their_white(tmp_path: Path) -> None:
    images = np.arange(32).reshape(2, 4, 4) * 100
    for dtype in (np.int64, np.uint16, np.float32):
        np.savez(tmp_path / "set.npz", images=images.astype(dtype))
        dataset = load_dataset(tmp_path / "set.npz", white=3100)
        assert (dataset.train.images[:, 0] == np.rint(images * 255 / 3100)).all()


def test_bright_and_black_images_are_not_noted(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "0.png")
    assert not notes_on(load_dataset(tmp_path), "dark")
    Image.new("L", (4, 4), 64).save(tmp_path / "1.png")
    assert not notes_on(load_dataset(tmp_path), "dark")
    assert not notes_on(load_dataset("digits"), "dark")


def test_files_of_each_depth_are_judged_on_their_own(tmp_path: Path) -> None:
    Image.new("L", (16, 16), 255).save(tmp_path / "0.png")
    Image.fromarray((16 * LEVELS).astype(np.uint16)).save(tmp_path / "1.png")
    (note,) = notes_on(load_dataset(tmp_path), "dark")
    assert "4080, where white is 65535" in note
    assert load_dataset(tmp_path, white=4080).train.images.max(axis=(1, 2, 3)).tolist() == [255, 255]


def test_values_above_white_are_refused(tmp_path: Path) -> None:
    Image.fromarray((16 * LEVELS).astype(np.uint16)).save(tmp_path / "0.png")
    with pytest.raises(DataError, match=r"0\.png: cannot be read \(values up to 4080; expected 0…1000"):
        load_dataset(tmp_path, white=1000)
    Image.fromarray(LEVELS.astype(np.uint8)).save(tmp_path / "0.png")
    with pytest.raises(DataError, match=r"0\.png: cannot be read \(values up to 255; expected 0…100, .*`white`"):
        load_dataset(tmp_path, white=100)


@pytest.mark.parametrize("white", [0, -1, float("nan"), float("inf"), True, "255"])
def test_other_values_of_white_are_refused(white: Any) -> None:
    with pytest.raises(ConfigError, match=r"^`white`: got .*; expected .* above 0; .*`white=4095`"):
        load_dataset("digits", white=white)


@pytest.mark.parametrize("stated", ["sBIT", "MaxSampleValue", "MaxSampleValue of the image"])
def test_a_depth_that_the_files_state_is_used(tmp_path: Path, stated: str) -> None:
    for i in range(3):
        values = (16 * LEVELS // (i + 1)).astype(np.uint16)
        if stated == "sBIT":
            (tmp_path / f"{i}.png").write_bytes(png(values, 0, chunk(b"sBIT", b"\x0c")))
        else:
            tiff(tmp_path / f"{i}.tif", values, tags={281: 4095 if stated == "MaxSampleValue" else int(values.max())})
    dataset = load_dataset(tmp_path)
    shown = [np.rint((16 * LEVELS // (i + 1)) * 255 / 4095).tolist() for i in range(3)]
    assert dataset.train.images[:, 0].tolist() == shown
    assert notes_on(dataset, "0…4095")
    assert not notes_on(dataset, "dark")


def test_a_stated_depth_that_the_levels_already_fill_changes_nothing(tmp_path: Path) -> None:
    for i, factor in enumerate((257, 16)):  # by the PNG standard, the levels are scaled to 16 bits whatever sBIT says
        (tmp_path / f"{i}.png").write_bytes(png(factor * LEVELS, 0, chunk(b"sBIT", b"\x0c")))
    assert load_dataset(tmp_path).train.images[:, 0].tolist() == [LEVELS.tolist(), (16 * LEVELS >> 8).tolist()]


def test_masks_that_state_one_bit_are_white(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(png(LEVELS % 2, 0, chunk(b"sBIT", b"\1"), bits=8))
    (tmp_path / "1.png").write_bytes(png(LEVELS * 0, 0, chunk(b"sBIT", b"\1"), bits=8))
    assert load_dataset(tmp_path).train.images[:, 0].tolist() == [(LEVELS % 2 * 255).tolist(), (LEVELS * 0).tolist()]


def test_twelve_bits_per_pixel_are_read_as_such(tmp_path: Path) -> None:
    twelve_bits(tmp_path / "a.tif")
    assert load_dataset(tmp_path).train.images[0, 0].tolist() == [[0, 0, 0, 255], [6, 12, 249, 255]]


def test_sixteen_bits_with_zero_as_white_are_inverted(tmp_path: Path) -> None:
    tiff(tmp_path / "a.tif", (257 * LEVELS).astype(np.uint16), tags={262: 0})
    assert load_dataset(tmp_path).train.images[0, 0].tolist() == (255 - LEVELS).tolist()


def test_float_images_from_0_to_1_are_taken_and_others_refused(tmp_path: Path) -> None:
    tiff(tmp_path / "a.tif", (LEVELS / 255).astype(np.float32))
    dataset = load_dataset(tmp_path)
    assert dataset.train.images[0, 0].tolist() == LEVELS.tolist()
    assert notes_on(dataset, "1 floating-point image from [0, 1]")
    tiff(tmp_path / "a.tif", LEVELS.astype(np.float32))
    with pytest.raises(
        DataError, match=r"a\.tif: cannot be read \(32-bit pixels from 0 to 255; expected 0…1, or `white`"
    ):
        load_dataset(tmp_path)
    assert load_dataset(tmp_path, white=255).train.images[0, 0].tolist() == LEVELS.tolist()


def test_the_white_is_part_of_the_cached_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "MANY_FILES", 2)
    monkeypatch.setenv("VAELAB_CACHE_DIR", str(tmp_path / "cache"))
    for i in range(4):
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray((16 * LEVELS).astype(np.uint16)).save(tmp_path / "images" / f"{i}.png")
    seen = [
        load_dataset(tmp_path / "images", white=white).train.images.max() for white in (None, 4080, None, 8160, 4080)
    ]
    assert seen == [15, 255, 15, 128, 255]
    assert notes_on(load_dataset(tmp_path / "images"), "dark")


KEYED = np.where(LEVELS == 3, 255, LEVELS)
PNGS: dict[str, tuple[bytes, np.ndarray]] = {
    "16-bit grey with alpha": (png(np.stack([257 * LEVELS, np.where(LEVELS == 3, 0, 65535)], -1), 4), KEYED),
    "16-bit RGB with alpha": (
        png(np.stack([257 * LEVELS] * 3 + [np.where(LEVELS == 3, 0, 65535)], -1), 6),
        np.stack([KEYED] * 3),
    ),
    "16-bit RGB": (png(np.stack([257 * LEVELS] * 3, -1), 2), np.stack([LEVELS] * 3)),
    "16-bit grey, one level transparent": (png(257 * LEVELS, 0, chunk(b"tRNS", struct.pack(">H", 771))), KEYED),
    "8-bit grey, one level transparent": (png(LEVELS, 0, chunk(b"tRNS", b"\0\3"), bits=8), KEYED),
    "8-bit RGB, one colour transparent": (
        png(np.stack([LEVELS] * 3, -1), 2, chunk(b"tRNS", b"\0\3" * 3), bits=8),
        np.stack([KEYED] * 3),
    ),
    "4-bit grey, one level transparent": (
        png(LEVELS % 16, 0, chunk(b"tRNS", b"\0\3"), bits=4),
        np.where(LEVELS % 16 == 3, 255, LEVELS % 16 * 17),
    ),
    "2-bit grey, one level transparent": (
        png(LEVELS % 4, 0, chunk(b"tRNS", b"\0\1"), bits=2),
        np.where(LEVELS % 4 == 1, 255, LEVELS % 4 * 85),
    ),
    "1-bit grey, black transparent": (png(LEVELS % 2, 0, chunk(b"tRNS", b"\0\0"), bits=1), LEVELS * 0 + 255),
    "long text before the pixels": (
        png(LEVELS, 0, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2_000_000))), bits=8),
        LEVELS,
    ),
    "long text after the pixels": (
        png(LEVELS, 0, bits=8, after=chunk(b"iTXt", b"k\0\1\0\0\0" + zlib.compress(b"a" * 2_000_000))),
        LEVELS,
    ),
}


@pytest.mark.parametrize("case", PNGS)
def test_rare_pngs_show_their_pixels(tmp_path: Path, case: str) -> None:
    content, shown = PNGS[case]
    (tmp_path / "a.png").write_bytes(content)
    images = load_dataset(tmp_path).train.images
    assert images[0].tolist() == shown.reshape(-1, 16, 16).tolist()


def test_much_text_in_many_chunks_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.PngImagePlugin.MAX_TEXT_MEMORY", 1000)
    (tmp_path / "a.png").write_bytes(
        png(LEVELS, 0, *[chunk(b"tEXt", b"k%d\0" % i + b"a" * 300) for i in range(5)], bits=8)
    )
    assert load_dataset(tmp_path).train.images[0, 0].tolist() == LEVELS.tolist()
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-30])
    with pytest.raises(DataError, match=r"a\.png: cannot be read"):
        load_dataset(tmp_path)


@pytest.mark.parametrize("white", [None, 4095])
def test_a_transparent_colour_of_sixteen_bits_is_not_guessed(tmp_path: Path, white: int | None) -> None:
    (tmp_path / "a.png").write_bytes(png(np.stack([16 * LEVELS] * 3, -1), 2, chunk(b"tRNS", b"\0\3" * 3)))
    with pytest.raises(DataError, match=r"a\.png: cannot be read \(16 bits per channel .*8 bits"):
        load_dataset(tmp_path, white=white)


COLOURS = np.stack([16 * LEVELS, 16 * LEVELS[::-1], 16 * LEVELS.T + 1], -1)
"""16-bit levels of 12 bits, none of them alike in two channels, up to 4081."""
OPAQUE = np.where(LEVELS == 3, 0, 65535)[..., None]


def write_tiff(path: Path, order: str, *tags: tuple[int, int, int]) -> None:
    """A TIFF of `COLOURS` in two strips, in the byte order "<" or ">"."""
    strips = [part.astype(f"{order}u2").tobytes() for part in np.split(COLOURS, 2)]
    place = 8 + 2 * len(strips[0])
    entries = [(256, 4, 16), (257, 4, 16), (259, 3, 1), (262, 3, 2), (277, 3, 3), (278, 4, 8), *tags]
    arrays = [(258, 3, 3, place), (273, 4, 2, place + 8), (279, 4, 2, place + 16)]
    one = {3: f"{order}HHIHH", 4: f"{order}HHII"}
    table = [struct.pack(one[kind], tag, kind, 1, value, *[0] * (4 - kind)) for tag, kind, value in entries]
    table += [struct.pack(one[4], *array) for array in arrays]
    table.sort(key=lambda entry: struct.unpack(f"{order}H", entry[:2]))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", place + 24)
    extra = struct.pack(f"{order}4H", 16, 16, 16, 0) + struct.pack(
        f"{order}4I", 8, 8 + len(strips[0]), *[len(strips[0])] * 2
    )
    path.write_bytes(
        head + b"".join(strips) + extra + struct.pack(f"{order}H", len(table)) + b"".join(table) + bytes(4)
    )


DEEP_COLOURS: dict[str, tuple[Callable[[Path], object], np.ndarray]] = {
    "RGB.png": (lambda path: path.write_bytes(png(COLOURS, 2)), COLOURS),
    "RGBA.png": (
        lambda path: path.write_bytes(png(np.concatenate([COLOURS, OPAQUE], -1), 6)),
        np.where(OPAQUE == 0, 4081, COLOURS),
    ),
    "LA.png": (
        lambda path: path.write_bytes(png(np.concatenate([COLOURS[..., :1], OPAQUE], -1), 4)),
        np.where(OPAQUE == 0, 4081, COLOURS[..., :1]),
    ),
    "little-endian.tif": (lambda path: write_tiff(path, "<"), COLOURS),
    "big-endian.tif": (lambda path: write_tiff(path, ">"), COLOURS),
    "turned.tif": (lambda path: write_tiff(path, "<", (274, 3, 6)), np.rot90(COLOURS, -1)),
}


@pytest.mark.parametrize("case", DEEP_COLOURS)
def test_sixteen_bits_per_channel_are_scaled_from_white(tmp_path: Path, case: str) -> None:
    """Pillow decodes only the upper 8 of their bits; the note on dark images suggests `white`, which reads all of them."""
    write, levels = DEEP_COLOURS[case]
    write(tmp_path / case)
    assert notes_on(load_dataset(tmp_path), "`white=4095`")
    dataset = load_dataset(tmp_path, white=4081)
    assert np.array_equal(np.moveaxis(dataset.train.images[0], 0, -1), np.rint(levels * (255 / 4081)))
    with pytest.raises(DataError, match=r"values up to 408[01]; expected 0…4000"):
        load_dataset(tmp_path, white=4000)


@pytest.mark.parametrize("mode", ["PA", "YCbCr", "CMYK", "LA", "RGBA"])
def test_rare_tiffs_are_read(tmp_path: Path, mode: str) -> None:
    colour = {"PA": (0, 255), "YCbCr": (255, 128, 128), "CMYK": (0, 0, 0, 0), "LA": (9, 0), "RGBA": (9, 9, 9, 0)}[mode]
    image = Image.new(mode, (3, 2), colour)
    if mode == "PA":
        image.putpalette([255, 255, 255] * 256)
    image.save(tmp_path / "a.tif")
    images = load_dataset(tmp_path).train.images
    assert images.tolist() == np.full((1, 1 if mode == "LA" else 3, 2, 3), 255).tolist()
