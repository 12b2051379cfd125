"""Fonts of the pictures: DejaVu Sans, which has Latin, Greek and Cyrillic, else an installed font that has the characters."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from PIL import ImageFont

from vaelab.errors import printable


def font_for(texts: Iterable[str], size: int) -> ImageFont.FreeTypeFont:
    """Return the font for texts, in pixels: DejaVu Sans, or the installed font that has most of the characters it lacks."""
    return ImageFont.truetype(_other(_lacking(texts)) or _dejavu(), size)


def families_for(texts: Iterable[str]) -> list[str]:
    """Return the families in which matplotlib looks for the characters of texts, one after the other."""
    from matplotlib.font_manager import FontProperties, fontManager

    path = _other(_lacking(texts))
    if path is None:
        return ["DejaVu Sans"]
    fontManager.addfont(path)
    return ["DejaVu Sans", FontProperties(fname=path).get_name()]


def undrawable(texts: Iterable[str]) -> str:
    """Return the characters of texts, at most 10, that no font has and that are drawn as boxes."""
    lacking = _lacking(texts)
    path = _other(lacking)
    return "".join(sorted(lacking if path is None else lacking - _characters(path))[:10])


def _lacking(texts: Iterable[str]) -> frozenset[str]:
    """Return the characters of texts that DejaVu Sans does not have."""
    characters = {char for text in texts for char in printable(text) if not char.isspace()}
    return frozenset() if all(map(str.isascii, characters)) else frozenset(characters - _characters(_dejavu()))


@cache
def _other(lacking: frozenset[str]) -> str | None:
    """Return the path of the installed font that has most of these characters, or None if none has any."""
    if not lacking:
        return None
    from matplotlib.font_manager import findSystemFonts

    paths = sorted(path for path in findSystemFonts() if Path(path).suffix.lower() in (".ttf", ".otf", ".ttc"))
    best = max(paths, key=lambda path: len(lacking & _characters(path)), default=None)
    return best if best is not None and lacking & _characters(best) else None


@cache
def _characters(path: str) -> frozenset[str]:
    """Return the characters that a font has."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()


@cache
def _dejavu() -> str:
    """Return the path of DejaVu Sans among matplotlib's files."""
    spec = importlib.util.find_spec("matplotlib")  # not imported, as that is slow
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf")
