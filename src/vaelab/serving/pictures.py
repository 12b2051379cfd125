"""Images in requests and answers: PNG files in base64."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from vaelab.data.layout import describe_shape
from vaelab.errors import DataError

MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
"""Pillow's modes with at most 8 bits per channel."""


def from_png(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the levels of a PNG file in base64, uint8 (C, H, W), whose size must be that of `shape`.

    The size is checked before pixels are decoded. Colours become grey for a grey model.

    Raises
    ------
    DataError
        If it is not a PNG file with 8 bits per channel, is of another size, or is transparent.
    """
    channels, height, width = shape
    expected = f"expected a PNG file in base64 of {describe_shape(shape)}"
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=["PNG"]) as file:
            if file.size != (width, height) or file.mode not in MODES:
                raise DataError(f"`images`: got {file.height}×{file.width} pixels of mode {file.mode}; {expected}")
            if file.has_transparency_data and file.convert("RGBA").getchannel("A").getextrema() != (255, 255):
                raise DataError(f"`images`: got a transparent image; {expected}, opaque")
            levels = np.asarray(file.convert("L" if channels == 1 else "RGB"))
    except DataError:
        raise
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise DataError(f"`images`: got no readable PNG file ({type(error).__name__}); {expected}") from error
    return levels.reshape(height, width, channels).transpose(2, 0, 1)


def to_png(values: np.ndarray) -> str:
    """Return an image, (C, H, W) in [0, 1], as a PNG file in base64."""
    levels = np.rint(255 * values.clip(0, 1)).astype(np.uint8).transpose(1, 2, 0)
    file = io.BytesIO()
    Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()
