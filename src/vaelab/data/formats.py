"""One image file: its pixels as uint8, grey or RGB, whatever the format, mode and depth it was saved in.

Transparency is laid on white, a camera's EXIF orientation is applied, 16 bits become the upper 8 of them, and of several
frames or pages the first is taken. WebP and GIF have no grey of their own: they are grey if every pixel is.
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
    """One image.

    Attributes
    ----------
    pixels
        uint8 (C, H, W); None where the file is broken, or has not the size that was expected.
    size
        The (H, W) that it has in its file.
    transparent
        Whether it has transparency.
    several
        Whether its file holds more frames or pages.
    error
        What is wrong with the file, '' for nothing.
    """

    pixels: np.ndarray | None
    size: tuple[int, int] = (0, 0)
    transparent: bool = False
    several: bool = False
    error: str = ""


@contextmanager
def only_bombs_warn() -> Iterator[None]:
    """Malformed EXIF and the like go unsaid: the pixels are what counts. A decompression bomb is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def decode_image(path: str, size: tuple[int, int], fit: Fit | None) -> Decoded:
    """The image at `size`; without `fit` it must have that size. What is wrong with it is told, never raised."""
    try:
        with _opened(path) as file:
            several = file.format != "MPO" and getattr(
                file, "is_animated", False
            )  # an MPO's other pictures are previews
            may_be_grey = file.format in WITHOUT_GREY
            image, transparent = flattened(ImageOps.exif_transpose(file))
        if may_be_grey and image.mode == "RGB":
            image = _without_colour(image)
        old = (image.height, image.width)
        if fit:
            image = fit_image(image, size, fit)
        pixels = to_pixels(image)
    except Exception as error:  # on a broken file Pillow raises nearly anything, from SyntaxError to struct.error
        return Decoded(None, error=_what_is_wrong(path, error))
    return Decoded(pixels if pixels.shape[1:] == size else None, old, transparent, several)


def open_image(path: str) -> Image.Image:
    """The image, grey ("L") or RGB, at the size it has. Raises `DataError` for a broken one."""
    try:
        with only_bombs_warn(), Image.open(path, formats=FORMATS) as file:
            return flattened(ImageOps.exif_transpose(file))[0]
    except Exception as error:  # as in `decode_image`
        raise DataError(_what_is_wrong(path, error, mend="mend it, or name another")) from None


def flattened(image: Image.Image) -> tuple[Image.Image, bool]:
    """An image of any mode as grey ("L") or RGB of 8 bits, laid on white, and whether it had transparency."""
    grey = image.mode in GREY_MODES
    if image.mode == "F" or image.mode.startswith("I"):
        image = _eight_bits(image)
    transparent = image.has_transparency_data
    if transparent:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if grey else "RGB"), transparent


def header_size(path: str) -> tuple[int, int]:
    """The (H, W) of an image, told by its header alone. Raises `DataError` for a broken one."""
    try:
        with _opened(path) as file:
            # A PNG may tell its orientation, which is rare, behind its pixels: then it is seen when it is decoded. A TIFF's
            # size is told as turned.
            told = "exif" in file.info if file.format == "PNG" else file.format != "TIFF"
            turned = told and file.getexif().get(ORIENTATION, 1) >= 5
            return (file.width, file.height) if turned else (file.height, file.width)
    except Exception as error:  # as in `decode_image`
        raise DataError(_what_is_wrong(path, error)) from None


@contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    """The file as Pillow sees it, not yet decoded.

    Given the path itself, Pillow would map an uncompressed file into memory, and scrambles a TIFF that is to be turned.
    """
    with open(path, "rb") as stream, Image.open(stream, formats=FORMATS) as file:  # noqa: PTH123
        yield file


def _eight_bits(image: Image.Image) -> Image.Image:
    """The upper 8 of 16 bits a pixel."""
    values = np.asarray(image)
    if image.mode == "F" or (image.mode == "I" and not 0 <= values.min() <= values.max() <= 0xFFFF):
        raise ValueError("its pixels are 32-bit numbers, whose white is not known; save it with 8 or 16 bits a pixel")
    return Image.fromarray((values >> 8).astype(np.uint8))


def _without_colour(image: Image.Image) -> Image.Image:
    """An RGB image as grey, if all of its pixels are."""
    red, green, blue = np.moveaxis(np.asarray(image), -1, 0)
    return image.getchannel(0) if np.array_equal(red, green) and np.array_equal(red, blue) else image


def _what_is_wrong(path: str, error: Exception, mend: str = "mend or remove it, or give --skip-broken") -> str:
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return (
            f"{path}: got more than {Image.MAX_IMAGE_PIXELS:,} pixels; expected an image that is safe to "
            f"decompress; scale it down: {mend}"
        )
    reason = f"not {KINDS} inside" if isinstance(error, Image.UnidentifiedImageError) else error
    reason = "No such file" if isinstance(error, FileNotFoundError) else reason
    return f"{path}: cannot be read ({reason}); expected a whole {KINDS} image; {mend}"
