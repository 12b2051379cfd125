"""Decode an image file of any supported format, mode and depth to uint8 pixels, grey or RGB.

Transparent pixels are composited on white, the EXIF orientation is applied, 16-bit values are reduced to their upper 8 bits,
and only the first of several frames or pages is read. WebP and GIF have no grey mode: their images are grey if every pixel is.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from vaelab.data.resize import Fit, fit_image, to_pixels
from vaelab.errors import DataError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
KINDS = "PNG, JPEG, WebP, BMP, TIFF or GIF"
GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16B"})
WITHOUT_GREY = frozenset({"WEBP", "GIF"})
ORIENTATION = 0x0112


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
    """

    pixels: np.ndarray | None
    size: tuple[int, int] = (0, 0)
    transparent: bool = False
    several: bool = False
    error: str = ""


@contextmanager
def only_bombs_warn() -> Iterator[None]:
    """Ignore warnings about metadata such as malformed EXIF, and turn decompression-bomb warnings into errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def decode_image(path: str, size: tuple[int, int], fit: Fit | None) -> Decoded:
    """Decode an image at `size`; if `fit` is None, the image must already have that size.

    Does not raise: errors are returned in the result.
    """
    try:
        with _opened(path) as file:
            # The other pictures of an MPO file are previews.
            several = file.format != "MPO" and getattr(file, "is_animated", False)
            may_be_grey = file.format in WITHOUT_GREY
            image, transparent = flattened(ImageOps.exif_transpose(file))
        if may_be_grey and image.mode == "RGB":
            image = _without_colour(image)
        old = (image.height, image.width)
        if fit:
            image = fit_image(image, size, fit)
        pixels = to_pixels(image)
    except Exception as error:  # Pillow raises many types on broken files, from SyntaxError to struct.error
        return Decoded(None, error=_error_message(path, error))
    return Decoded(pixels if pixels.shape[1:] == size else None, old, transparent, several)


def open_image(path: str) -> Image.Image:
    """Read an image at its own size, as grey ("L") or RGB. Raises `DataError` if it is broken."""
    try:
        with only_bombs_warn(), Image.open(path, formats=FORMATS) as file:
            return flattened(ImageOps.exif_transpose(file))[0]
    except Exception as error:  # as in `decode_image`
        raise DataError(_error_message(path, error, remedy="fix it or choose another file")) from None


def flattened(image: Image.Image) -> tuple[Image.Image, bool]:
    """Convert an image of any mode to 8-bit grey ("L") or RGB on white; also return whether it had transparency."""
    grey = image.mode in GREY_MODES
    if image.mode == "F" or image.mode.startswith("I"):
        image = _eight_bits(image)
    transparent = image.has_transparency_data
    if transparent:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if grey else "RGB"), transparent


def header_size(path: str) -> tuple[int, int]:
    """Read the (H, W) of an image from its header. Raises `DataError` if it is broken."""
    try:
        with _opened(path) as file:
            # A PNG can store its orientation after the pixels (rare): it is then found only when decoding. For a TIFF, Pillow
            # reports the size after the rotation.
            has_orientation = "exif" in file.info if file.format == "PNG" else file.format != "TIFF"
            rotated = has_orientation and file.getexif().get(ORIENTATION, 1) >= 5
            return (file.width, file.height) if rotated else (file.height, file.width)
    except Exception as error:  # as in `decode_image`
        raise DataError(_error_message(path, error)) from None


@contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    """Open an image file without decoding it.

    Opened by path instead of as a stream, Pillow memory-maps uncompressed files and scrambles TIFFs with a rotation.
    """
    with open(path, "rb") as stream, Image.open(stream, formats=FORMATS) as file:  # noqa: PTH123
        yield file


def _eight_bits(image: Image.Image) -> Image.Image:
    """Reduce 16 bits per pixel to the upper 8."""
    values = np.asarray(image)
    if image.mode == "F" or (image.mode == "I" and not 0 <= values.min() <= values.max() <= 0xFFFF):
        raise ValueError("32-bit pixels have no defined white level; save it with 8 or 16 bits per pixel")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _without_colour(image: Image.Image) -> Image.Image:
    """Convert an RGB image to grey if all its pixels are grey."""
    red, green, blue = np.moveaxis(np.asarray(image), -1, 0)
    return image.getchannel(0) if np.array_equal(red, green) and np.array_equal(red, blue) else image


def _error_message(path: str, error: Exception, remedy: str = "fix or remove it, or pass `skip_broken=True`") -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return (
            f"{path}: got more than {Image.MAX_IMAGE_PIXELS:,} pixels, which is not safe to decompress; "
            f"scale it down, {remedy}"
        )
    reason = f"content is not {KINDS}" if isinstance(error, Image.UnidentifiedImageError) else error
    reason = "No such file" if isinstance(error, FileNotFoundError) else reason
    return f"{path}: cannot be read ({reason}); expected a valid {KINDS} image; {remedy}"
