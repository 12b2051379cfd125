"""Grey levels as a file stores them: which stored value is white, and their reduction to 8 bits.

Files of 16 or 32 bits per pixel often contain levels of fewer bits: 12-bit cameras, or 8-bit levels and masks saved as integers.
Without `white`, such images are almost black. Some files state their depth: a PNG in the chunk sBIT, a TIFF as 12 bits per pixel
or in the tag MaxSampleValue. A PNG should scale its levels to all bits whatever sBIT says, and a MaxSampleValue may be that of
one image; therefore `image_files` uses what the files state only if no image of the source is brighter.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image, ImageOps

from vaelab.data.dataset import Dataset
from vaelab.errors import ConfigError, DataError

GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"})
EIGHT_BITS, SIXTEEN_BITS = 0xFF, 0xFFFF
DARK_SHARE = 4
"""Images are dark if white is more than this many times their brightest value."""

PHOTOMETRIC, MAX_SAMPLE_VALUE = 262, 281
"""Tags of a TIFF."""


class Stored(NamedTuple):
    """How a file stores its levels.

    Attributes
    ----------
    white
        Stored value of white that the format implies; 1 for floats.
    grey
        Whether the image is grey, also if Pillow opens it as RGBA.
    reduced
        Whether Pillow itself reduces 16 bits to the upper 8, so that the lower ones are lost.
    inverted
        Whether 0 is white and Pillow does not invert it.
    key
        Stored value of the one transparent grey level, or None.
    """

    white: int = EIGHT_BITS
    grey: bool = False
    reduced: bool = False
    inverted: bool = False
    key: int | None = None


def stored_as(file: Image.Image) -> Stored:
    """Return how an image that is not decoded yet stores its levels; for an image without a file, what its mode implies."""
    tile = getattr(file, "tile", None)
    raw = next((part for part in _parts(tile[0].args) if isinstance(part, str)), "") if tile else ""
    grey = file.mode in GREY_MODES or raw.startswith("LA")
    deep = file.mode == "F" or file.mode.startswith("I")
    white = 1 if file.mode == "F" else SIXTEEN_BITS if deep or ";16" in raw else EIGHT_BITS
    if raw == "I;12":
        white = 0xFFF
    key = file.info.get("transparency")
    if isinstance(key, int) and grey:
        key = key & white if deep else (key & EIGHT_BITS) * {"L;2": 85, "L;4": 17}.get(raw, 1)
    tags = getattr(file, "tag_v2", {})
    return Stored(white, grey, ";16" in raw and not deep, deep and tags.get(PHOTOMETRIC) == 0, key if grey else None)


def _parts(args: object) -> tuple[object, ...]:
    return args if isinstance(args, tuple) else (args,)


_OTHER_ORDER = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
"""Raw modes of 16 bits, each with the one of the other byte order, in which Pillow keeps the lower bytes instead of the upper."""


def scaled_deep(file: Image.Image, stream: IO[bytes], white: float) -> tuple[Image.Image, float]:
    """Decode an image of 16 bits per channel, of which Pillow decodes only 8, and scale its levels from 0…white to 8 bits.

    Returns the image, grey or RGB, with its alpha channel if it has one, and its brightest stored value.

    Raises
    ------
    ValueError
        If a value is above white, or Pillow decodes only the upper bits of such a file.
    """
    tile: Any = getattr(file, "tile", None)
    raw = str(_parts(tile[0].args)[0])
    kind, _, depth = raw.partition(";")
    if raw == "LA;16B":  # read as RGBA, which has as many bits: the two bytes of each channel
        both = _decoded(file, "RGBA")
        upper, lower = both[..., 0::2], both[..., 1::2]
    elif kind in ("RGB", "RGBA") and depth in _OTHER_ORDER:
        with Image.open(stream, formats=(file.format or "",)) as again:
            lower = _decoded(again, f"{kind};{_OTHER_ORDER[depth]}")
        upper = _decoded(file, raw)
    else:
        raise ValueError("16 bits per channel are read as 8, without `white`; save it with 8 bits")
    colours = upper.shape[2] - (kind != "RGB")
    values = upper[..., :colours].astype(np.uint16) * 256 + lower[..., :colours]
    high = int(values.max())
    if high > white:
        raise ValueError(f"values up to {high}; expected 0…{white:g}, as `white` says")
    levels = np.rint(values * np.float32(EIGHT_BITS / white)).astype(np.uint8)
    return Image.fromarray(np.concatenate([levels, upper[..., colours:]], axis=2)), high


def _decoded(file: Any, raw: str) -> np.ndarray:
    """Decode an image from another raw mode and apply its orientation, uint8 (H, W, C)."""
    file.tile = [
        each._replace(args=(raw, *each.args[1:]) if isinstance(each.args, tuple) else raw) for each in file.tile
    ]
    ImageOps.exif_transpose(file, in_place=True)
    return np.asarray(file)


def stated_white(file: Image.Image, stream: IO[bytes]) -> int:
    """Return the value of white for the depth that a grey file states, or 0 if it states none."""
    if file.format == "PNG":
        bits = _png_bits(stream)
    else:
        value = getattr(file, "tag_v2", {}).get(MAX_SAMPLE_VALUE, 0)
        bits = int(value[0] if isinstance(value, tuple) else value).bit_length()
    return (1 << bits) - 1


def _png_bits(stream: IO[bytes]) -> int:
    """Return the number of significant bits of a grey PNG (chunk sBIT), or 0 if it is not stated."""
    stream.seek(8)
    while len(header := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        if kind == b"sBIT":
            return stream.read(1)[0]
        if kind in (b"PLTE", b"IDAT"):
            break
        stream.seek(length + 4, 1)
    return 0


def grey_levels(image: Image.Image, stored: Stored, white: float | None) -> tuple[np.ndarray, float]:
    """Reduce an image of 16 or 32 bits per pixel to 8 bits, uint8 (H, W); also return its brightest stored value.

    Without `white`, 16 bits are reduced to their upper 8.

    Raises
    ------
    ValueError
        If a value is below 0 or above white.
    """
    values: np.ndarray = np.asarray(image)
    low, high = values.min(), values.max()
    most = white or stored.white
    if not 0 <= low <= high <= most:
        got = f"32-bit pixels from {low:g} to {high:g}" if image.mode in ("I", "F") else f"values up to {high}"
        expected = f"0…{most:g}, as `white` says" if white else f"0…{most:g}, or `white`, their value of white"
        raise ValueError(f"{got}; expected {expected}, or 8 or 16 bits per pixel")
    if stored.inverted:
        values, high = most - values, most - low
    upper = white is None and stored.white == SIXTEEN_BITS
    levels = np.right_shift(values, 8) if upper else np.rint(values * (EIGHT_BITS / most))
    return levels.astype(np.uint8), float(high)


def parse_white(white: object) -> float | None:
    """Check a value of white. Raises `ConfigError` unless it is None or a finite number above 0."""
    if white is None:
        return None
    if isinstance(white, int | float | np.integer | np.floating) and not isinstance(white, bool) and 0 < white < np.inf:
        return white.item() if isinstance(white, np.generic) else white
    raise ConfigError(
        f"`white`: got {white!r}; expected the stored value of white, above 0; pass for instance `white=4095` for 12-bit levels"
    )


def scaled_levels(images: np.ndarray, white: float, where: str) -> np.ndarray:
    """Scale images of any numeric type from 0…white to uint8. Raises `DataError`, with `where` in front, for other values."""
    if len(images) == 0:
        return images.astype(np.uint8)
    if images.dtype.kind not in "iufb" or not 0 <= images.min() <= images.max() <= white:
        got = f" from {images.min()} to {images.max()}" if images.dtype.kind in "iufb" else ""
        raise DataError(f"{where}: got {images.dtype} values{got}; expected 0…{white:g}, as `white` says")
    levels = np.empty(images.shape, np.uint8)
    chunk = max(1, (1 << 24) // images[0].size)  # floats of all images at once would take eight times the memory
    for first in range(0, len(images), chunk):
        levels[first : first + chunk] = np.rint(images[first : first + chunk] * (EIGHT_BITS / white))
    return levels


def rescaled(dataset: Dataset, white: float | None) -> Dataset:
    """Return a dataset of images with its levels 0…white scaled to 0…255; None changes nothing."""
    if white is None or white >= EIGHT_BITS:
        return dataset
    splits = {
        split: replace(part, images=scaled_levels(part.images, white, dataset.name))
        for split, part in (("train", dataset.train), ("validation", dataset.validation), ("test", dataset.test))
    }
    return replace(dataset, **splits)


def brightest_level(images: np.ndarray) -> int:
    """Return the brightest level of uint8 images if they are dark, and otherwise that of the first images that are not."""
    brightest = 0
    for first in range(0, len(images), 1000):
        brightest = max(brightest, int(images[first : first + 1000].max()))
        if not is_dark(brightest, EIGHT_BITS):
            break
    return brightest


def is_dark(brightest: float, white: float) -> bool:
    """Return whether images are dark, but not black: their white may be another value."""
    return 0 < DARK_SHARE * brightest <= white


def dark_notes(levels: Iterable[tuple[float, float]]) -> Iterator[str]:
    """Yield a note on images that are dark, for each value of white.

    Parameters
    ----------
    levels
        For each image, or for all, the brightest stored value and the value of white.
    """
    brightest: dict[float, float] = {}
    for level, white in levels:
        brightest[white] = max(level, brightest.get(white, 0))
    for white, level in sorted(brightest.items()):
        if is_dark(level, white):
            example = level if level < 64 else (1 << int(level).bit_length()) - 1
            yield (
                f"The images are dark: their brightest value is {level:g}, where white is {white:g}. If it should be bright, "
                f"pass the value of white, for instance `white={example:g}`."
            )
