"""Decode an encoded image of any supported format, mode and depth to uint8 pixels, grey or RGB.

Transparent pixels are composited on white, the EXIF orientation is applied, levels of 16 and 32 bits are reduced to 8 (see
`depth`), and only the first of several frames or pages is read. WebP and GIF have no grey mode: their images are grey if every
pixel is.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps

from vaelab.data.depth import (
    EIGHT_BITS,
    SIXTEEN_BITS,
    Stored,
    grey_levels,
    is_dark,
    scaled_deep,
    stated_white,
    stored_as,
)
from vaelab.data.encoded import ImageFile
from vaelab.data.limits import MAX_PIXELS
from vaelab.data.resize import Fit, fit_image, to_pixels
from vaelab.errors import DataError
from vaelab.files import open_regular

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
KINDS = "PNG, JPEG, WebP, BMP, TIFF or GIF"
WITHOUT_GREY = frozenset({"WEBP", "GIF"})
ORIENTATION = 0x0112
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXT_CHUNKS = frozenset({b"tEXt", b"zTXt", b"iTXt"})

SIDE_SHARE = 640
"""Largest number of pixels over longest side: Pillow needs 48 bytes for each pixel of a side that it scales."""

FILE_BYTES = 64 << 20
"""Bytes that a file may have in addition to 8 for each of the largest number of pixels."""

_Result = TypeVar("_Result")


class Decoded(NamedTuple):
    """A decoded image.

    Attributes
    ----------
    pixels
        uint8 (C, H, W); None if the file is broken or the image does not have the expected size.
    size
        (H, W) in the file.
    transparent
        Whether the image has transparency.
    several
        Whether the file contains several frames or pages.
    error
        Error message if the file is broken, otherwise ''.
    white
        Value of white in the file that was used.
    brightest
        Brightest value in the file.
    stated
        Value of white for the depth that the file states, if that is less than `white`; otherwise 0.
    """

    pixels: np.ndarray | None
    size: tuple[int, int] = (0, 0)
    transparent: bool = False
    several: bool = False
    error: str = ""
    white: float = EIGHT_BITS
    brightest: float = 0
    stated: int = 0


class Flattened(NamedTuple):
    """An image as 8-bit grey ("L") or RGB, whether it had transparency, and the brightest value that it stored."""

    image: Image.Image
    transparent: bool
    brightest: float


@contextmanager
def pixel_limit(most: int = MAX_PIXELS) -> Iterator[None]:
    """Refuse images of more than `most` pixels, and ignore warnings about metadata such as malformed EXIF."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, most
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def decode_image(file: ImageFile, size: tuple[int, int], fit: Fit | None, white: float | None = None) -> Decoded:
    """Decode an image at `size`; if `fit` is None, the image must already have that size.

    `white` is the stored value of white, if it is not what the format implies. Does not raise: errors are returned in the result.
    """
    try:
        return _read(file, lambda stream: _decode(stream, size, fit, white))
    except Exception as error:  # Pillow raises many types on broken files, from SyntaxError to struct.error
        return Decoded(None, error=_error_message(file, error))


def _decode(stream: IO[bytes], size: tuple[int, int], fit: Fit | None, white: float | None) -> Decoded:
    with _opened(stream) as file:
        # The other pictures of an MPO file are previews.
        several = file.format != "MPO" and getattr(file, "is_animated", False)
        may_be_grey = file.format in WITHOUT_GREY
        stored = stored_as(file)
        image, transparent, brightest = _flattened_file(file, stream, stored, white)
        used = stored.white if white is None else _capped(white, stored, file.mode)
        may_state = stored.grey and white is None and (stored.white > EIGHT_BITS or is_dark(brightest, used))
        stated = stated_white(file, stream) if may_state else 0
    if may_be_grey and image.mode == "RGB":
        image = _without_colour(image)
    old = (image.height, image.width)
    if fit:
        image = fit_image(image, size, fit)
    pixels = to_pixels(image)
    right_size = pixels.shape[1:] == size
    facts = (used, brightest, stated if stated < used else 0)
    return Decoded(pixels if right_size else None, old, transparent, several, "", *facts)


def open_image(path: str, max_pixels: int | None = None, white: float | None = None) -> Image.Image:
    """Read an image at its own size, as grey ("L") or RGB, with its levels up to `white`, as in `load_dataset`.

    Raises `DataError` if it is broken, or larger than `max_pixels`.
    """

    def read(stream: IO[bytes]) -> Image.Image:
        with _opened(stream) as file:
            return _flattened_file(file, stream, stored_as(file), white).image

    with pixel_limit(max_pixels or MAX_PIXELS):
        try:
            return _read(path, read)
        except Exception as error:  # as in `decode_image`
            raise DataError(_error_message(path, error, remedy="fix it or choose another file")) from None


@contextmanager
def _opened(stream: IO[bytes]) -> Iterator[Image.Image]:
    """Open an image without decoding it. Raises ValueError for extreme shapes, which Pillow does not refuse."""
    with Image.open(stream, formats=FORMATS) as file:
        most = (Image.MAX_IMAGE_PIXELS or MAX_PIXELS) // SIDE_SHARE + SIDE_SHARE
        if max(file.size) > most:
            raise ValueError(
                f"{file.height}×{file.width} pixels; expected sides of at most {most:,}; `max_pixels` raises that"
            )
        yield file


def _flattened_file(file: Image.Image, stream: IO[bytes], stored: Stored, white: float | None = None) -> Flattened:
    """Decode an opened image and convert it as `flattened` does."""
    if (
        stored.reduced
        and white is not None
        and white < SIXTEEN_BITS
        and not isinstance(file.info.get("transparency"), tuple)
    ):
        image, brightest = scaled_deep(file, stream, white)
        return flattened(image, Stored(grey=stored.grey))._replace(brightest=brightest)
    ImageOps.exif_transpose(file, in_place=True)
    return flattened(file, stored, white)


def flattened(image: Image.Image, stored: Stored | None = None, white: float | None = None) -> Flattened:
    """Convert an image of any mode to 8-bit grey ("L") or RGB, on white.

    Parameters
    ----------
    image
        The image.
    stored
        How its file stores the levels; by default, what its mode implies.
    white
        Stored value of white; by default, what `stored` implies. Does not apply to files of fewer bits.

    Raises
    ------
    ValueError
        If a value is brighter than white, or if the levels cannot be computed from what Pillow decodes.
    """
    stored = stored or stored_as(image)
    if stored.reduced and isinstance(image.info.get("transparency"), tuple):
        raise ValueError("16 bits per channel are read without transparent colours; save it with 8 bits")
    white = None if white is None else _capped(white, stored, image.mode)
    if image.mode == "F" or image.mode.startswith("I"):
        levels, brightest = grey_levels(image, stored, white)
        return Flattened(_on_white(levels, np.asarray(image), stored.key), stored.key is not None, brightest)
    if image.mode == "1":
        image = image.convert("L")
    if image.mode == "La":
        image = image.convert("LA")
    transparent = stored.key is not None or image.has_transparency_data
    grey = stored.grey
    colours = "RGBA" if transparent and stored.key is None else "L" if grey else "RGB"
    if stored.key is not None:
        image = image.copy()
        del image.info["transparency"]  # Pillow reads it wrongly for fewer than 8 bits
    image = image.convert(colours)
    bands = 1 if colours == "L" else 3
    brightest = int(np.reshape(image.getextrema(), (-1, 2))[:bands, 1].max())
    values = np.asarray(image) if stored.key is not None else None
    if white is not None and white != EIGHT_BITS:
        if brightest > white:
            raise ValueError(f"values up to {brightest}; expected 0…{white:g}, as `white` says")
        scaled = [min(EIGHT_BITS, round(level * EIGHT_BITS / white)) for level in range(256)]
        image = image.point(scaled * bands + list(range(256)) * (colours == "RGBA"))
    if colours == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("L" if grey else "RGB")
    elif values is not None:
        image = _on_white(np.asarray(image), values, stored.key)
    return Flattened(image, transparent, brightest * 257 if stored.reduced else brightest)


def _capped(white: float, stored: Stored, mode: str) -> float:
    """Return the value of white for a file: that of its format if the file cannot store `white`."""
    return white if mode in ("I", "F") else min(white, stored.white)


def _on_white(levels: np.ndarray, values: np.ndarray, key: int | None) -> Image.Image:
    """Return a grey image with the pixels of the transparent value made white."""
    return Image.fromarray(levels if key is None else np.where(values == key, np.uint8(EIGHT_BITS), levels))


def header_size(image: ImageFile) -> tuple[int, int]:
    """Read the (H, W) of an image from its header. Raises `DataError` if it is broken."""

    def read(stream: IO[bytes]) -> tuple[int, int]:
        with _opened(stream) as file:
            # A PNG can store its orientation after the pixels (rare): it is then found only when decoding. For a TIFF, Pillow
            # reports the size after the rotation.
            has_orientation = "exif" in file.info if file.format == "PNG" else file.format != "TIFF"
            rotated = has_orientation and file.getexif().get(ORIENTATION, 1) >= 5
            return (file.width, file.height) if rotated else (file.height, file.width)

    try:
        return _read(image, read)
    except Exception as error:  # as in `decode_image`
        raise DataError(_error_message(image, error)) from None


def content_limit() -> int:
    """Return the largest size in bytes of an encoded image, within `pixel_limit`."""
    return FILE_BYTES + 8 * (Image.MAX_IMAGE_PIXELS or MAX_PIXELS)


def _read(image: ImageFile, read: Callable[[IO[bytes]], _Result]) -> _Result:
    """Apply `read` to an encoded image; if Pillow finds the texts in a PNG too long, without them.

    Opened by path instead of as a stream, Pillow memory-maps uncompressed files and scrambles TIFFs with a rotation.
    """
    most = content_limit()
    with open_regular(image) if isinstance(image, str) else io.BytesIO(image.read(most + 1)) as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        # A TIFF that is a file is not read as a whole.
        if size > most and (not isinstance(image, str) or stream.read(2) not in (b"II", b"MM")):
            raise ValueError(f"more than {most:,} bytes; `max_pixels` raises that limit")
        if size == 0 and not isinstance(image, str):
            raise ValueError("it is empty")
        stream.seek(0)
        try:
            return read(stream)
        except ValueError as error:
            if "MAX_TEXT" not in str(error):
                raise
            stream.seek(0)
            return read(_without_texts(stream))


def _without_texts(stream: IO[bytes]) -> IO[bytes]:
    """Return a PNG without its text chunks, which Pillow limits in size."""
    kept = io.BytesIO()
    kept.write(stream.read(len(PNG_SIGNATURE)))
    while len(header := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", header)
        if kind in TEXT_CHUNKS:
            stream.seek(length + 4, io.SEEK_CUR)
        else:
            kept.write(header + stream.read(length + 4))
    kept.seek(0)
    return kept


def _without_colour(image: Image.Image) -> Image.Image:
    """Convert an RGB image to grey if all its pixels are grey."""
    red, green, blue = np.moveaxis(np.asarray(image), -1, 0)
    return image.getchannel(0) if np.array_equal(red, green) and np.array_equal(red, blue) else image


def _error_message(
    image: ImageFile, error: Exception, remedy: str = "fix or remove it, or pass `skip_broken=True`"
) -> str:
    if isinstance(error, DataError):
        return str(error)
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        count = int(match[0]) if (match := re.search(r"\d+", str(error))) else 0
        return (
            f"{image}: got {count:,} pixels; expected at most {Image.MAX_IMAGE_PIXELS:,}; scale it down, or pass "
            f"`max_pixels={count}`"
        )
    reason = error.strerror or error if isinstance(error, OSError) else error
    reason = f"content is not {KINDS}" if isinstance(error, Image.UnidentifiedImageError) else reason
    return f"{image}: cannot be read ({reason}); expected a valid {KINDS} image; {remedy}"
