"""Names that sources give: class names, and the names of splits, columns and arrays in the spellings that are in use.

Names are compared in Unicode's composed form (NFC): "é" may be one character or "e" and an accent, which look the same. Otherwise
class names are kept as they are; `vaelab.errors.printable` escapes them where they are printed.
"""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vaelab.errors import DataError

SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Names of each split, in lower case."""

WEAK = frozenset({"valid", "dev"})
"""Names that are classes unless a folder of another split is beside them."""

MAX_NAMES = 1000
"""Largest number of columns or arrays that a source may have, because each name is compared with the known ones."""

MAX_NAME = 255
"""Maximum length of a class name in characters, the same as for a folder."""

ALMOST = 0.8
"""Similarity, 0…1 (`difflib`), from which a name is taken for a misspelling: 0.8 for two letters exchanged in "label"."""

_WORDS = {word: split for split, words in SPLITS.items() for word in words}
_SEPARATOR = r"[\s_.-]"
_CONTENTS = "set|sets|data|dataset|folder|split|images?|imgs?"
_EXACT = re.compile(rf"({'|'.join(_WORDS)})(?:{_SEPARATOR}*(?:{_CONTENTS}))?")
_INSIDE = re.compile(rf"(?:(.*){_SEPARATOR})?({'|'.join(_WORDS)})(?:{_SEPARATOR}(.*))?")


def composed(name: str) -> str:
    """Return a name in Unicode's composed form."""
    return unicodedata.normalize("NFC", name)


def existing_form(path: str) -> str:
    """Return a path in the Unicode form in which it exists, or as it is if it exists in none."""
    if path.isascii() or os.path.lexists(path):
        return path
    forms = (unicodedata.normalize(form, path) for form in ("NFC", "NFD"))
    return next((form for form in forms if os.path.lexists(form)), path)


def split_named(name: str) -> str | None:
    """Return the split, "train", "validation" or "test", of a name that is a word of `SPLITS`, also as in TEST_SET; else None."""
    match = _EXACT.fullmatch(name.strip().casefold())
    return match and _WORDS[match[1]]


def split_folders(names: Sequence[str]) -> dict[str, str]:
    """Return the folders that are splits, each with its split.

    A folder is one if `split_named` knows it, or if another folder differs from it only in the word for the split, such as
    seg_train beside seg_test: bullet_train beside crash_test are classes.
    """
    found = {name: split for name in names if (split := split_named(name))}
    affixed: dict[tuple[str | None, str | None], dict[str, str]] = {}
    for name in names:
        if name not in found and (match := _INSIDE.fullmatch(name.casefold())):
            affixed.setdefault((match[1], match[3]), {})[name] = _WORDS[match[2]]
    for group in affixed.values():
        if len(set(group.values())) > 1:
            found |= group
    if all(name.strip().casefold() in WEAK for name in found):
        return {}
    return found


def canonical(names: Iterable[str], known: Mapping[str, Sequence[str]], where: str, noun: str) -> dict[str, str]:
    """Return the name that is meant by each of the `known` ones, for those that are found.

    Parameters
    ----------
    names
        Names that the source has.
    known
        Other spellings of each known name, in lower case. A known name itself always counts first; letter case and spaces around
        a name do not.
    where, noun
        Source, and what is named, for messages.

    Raises
    ------
    DataError
        If several names have a known meaning, if a known name is missing and another one is almost the same, or if there are
        more than `MAX_NAMES`.
    """
    given = list(names)
    if len(given) > MAX_NAMES:
        raise DataError(f"{where}: got {len(given):,} {noun}s; expected at most {MAX_NAMES:,}; keep {', '.join(known)}")
    meant: dict[str, str] = {}
    for key, spellings in known.items():
        found = [name for name in given if composed(name).strip().casefold() in (key, *spellings)]
        if key in found:
            found = [key]
        if len(found) > 1:
            raise DataError(
                f"{where}: got the {noun}s {', '.join(map(repr, found))}; expected one, {key!r}; rename or remove the others"
            )
        if found:
            meant[key] = found[0]
    for name in set(given) - set(meant.values()):
        near = difflib.get_close_matches(name.strip().casefold(), known, n=1, cutoff=ALMOST)
        if near and near[0] not in meant:
            raise DataError(f"{where}: got the {noun} {name!r}; did you mean {near[0]!r}? Rename it")
    return meant


def renamed_notes(meant: Mapping[str, str], noun: str) -> Iterator[str]:
    """Yield a note on the result of `canonical` if it took names for others."""
    if other := [f"{name!r} as {key}" for key, name in meant.items() if name != key]:
        yield f"Read the {noun}{'s' * (len(other) > 1)} {', '.join(other)}."


def class_name(value: Any, where: str) -> str:
    """Return the class name for a label of any type; "" for a missing one (None, NaN).

    Whole numbers of any type are written without a decimal point, and bytes are UTF-8. Raises `DataError`, with `where` in front,
    for other numbers, bytes that are not UTF-8, lists and other containers, and names of more than `MAX_NAME` characters.
    """
    if isinstance(value, np.generic) or getattr(value, "shape", None) == ():
        value = value.item()
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        raise DataError(f"{where}: got a label of type {type(value).__name__}; expected text or an integer")
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            raise DataError(
                f"{where}: got the label {value!r}, which is not UTF-8; expected text or integers"
            ) from None
    if isinstance(value, float):
        if not value.is_integer():
            raise DataError(f"{where}: got the label {value}; expected text or integers, the names of classes")
        value = int(value)
    return checked_name(str(value), where)


def checked_name(name: str, where: str) -> str:
    """Return a class name in composed form. Raises `DataError`, with `where` in front, if it is too long."""
    if len(name) > MAX_NAME:
        raise DataError(
            f"{where}: got a label of {len(name):,} characters, {name[:20]!r}…; expected the name of a class, at most {MAX_NAME}"
        )
    return composed(name)
