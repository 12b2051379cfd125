"""Errors that users can fix, and texts for their messages.

A message says what was given, what is wrong and what to do. It names a parameter in backticks by its Python name, alone or
with a value: `count`, `model='vae'`; the command line spells these as options and prints one line, with status 2. Mistakes
in vaelab itself are `assert`, never one of these classes.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable, Sequence
from numbers import Integral


class VaelabError(Exception):
    """Base of all errors that the user can fix; the message is one line that says how."""


class ConfigError(VaelabError, ValueError):
    """A parameter out of range, or two that exclude each other."""


class DataError(VaelabError, ValueError):
    """A data source that is missing, broken, or of the wrong form."""


class LabelError(VaelabError, ValueError):
    """A label that the model does not know, or one that is missing or not allowed."""


class RunError(VaelabError, ValueError):
    """A run folder that is missing, incomplete, altered, or of another version."""


class OutputError(VaelabError, OSError):
    """A file or folder that cannot be written; what existed before is unchanged."""


class ExportError(VaelabError, RuntimeError):
    """A model that cannot be exported to ONNX, or whose exported file gives other results."""


class StudioError(VaelabError, RuntimeError):
    """The page of `vaelab studio` cannot be served: it is not built, or a package is not installed."""


class HubError(VaelabError, RuntimeError):
    """The Hugging Face Hub cannot be reached, refuses a request, or has no such repository."""


class TrainingError(VaelabError, RuntimeError):
    """A training that cannot continue, such as a loss that stays NaN."""


class RunWarning(UserWarning):
    """A part of a run that is damaged and was left out or replaced by an older one; the command line prints it as a note."""


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 image`, `2 images`, `1,000 classes`."""
    return f"{count:,} {noun}{('es' if noun.endswith('s') else 's') * (count != 1)}"


_ESCAPED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Unicode categories of control characters, of hidden and bidirectional controls, of surrogates, and of line breaks."""

_BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"
"""Letters and marks without a shape."""

_JOINERS = "\u200c\u200d"
"""Hidden characters that Persian, Indic scripts and emoji need; kept between two characters of `_JOINED`."""

_JOINED = frozenset({"Lo", "Mn", "Mc", "Me", "So", "Sk"})
"""Unicode categories of uncased letters, marks and symbols."""


def printable(text: str) -> str:
    """Return a text on one line that can be printed and drawn as what it is.

    Line breaks, control characters, hidden and bidirectional ones, and surrogates, which stand for undecodable bytes, are escaped
    as in Python's literals. The page of `vaelab studio` has the same function (studio/src/lib/printable.ts).
    """
    if text.isascii() and text.isprintable():
        return text
    kinds = [unicodedata.category(char) for char in text]

    def shown(at: int, char: str) -> bool:
        if char in _JOINERS:
            return 0 < at < len(text) - 1 and kinds[at - 1] in _JOINED and kinds[at + 1] in _JOINED
        return kinds[at] not in _ESCAPED and char not in _BLANK

    return "".join(c if shown(at, c) else c.encode("unicode_escape").decode() for at, c in enumerate(text))


MAX_LINE = 500
"""Largest number of characters of a printed error."""


def shortened(text: str, most: int = MAX_LINE) -> str:
    """Return a text of at most `most` characters, with "…" instead of its middle if it is longer; its end says what to do."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[len(text) - (most - 1) // 2 :]}"


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest of `choices`, or an empty text if none is near."""
    near = difflib.get_close_matches(word, list(choices), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


MAX_NAMED = 20
"""Largest number of classes that a message lists."""


def unknown_label(label: object, classes: Sequence[str], *, indices: bool) -> LabelError:
    """Return the error for a label that is not one of `classes`; with `indices`, the message offers their indices too."""
    known = ", ".join(classes[:MAX_NAMED]) + (", …" if len(classes) > MAX_NAMED else "")
    known += f", or an index 0 to {len(classes) - 1}" if indices else ""
    parts = [part.strip() for part in str(label).split(",")]
    if len(parts) > 1 and set(parts) <= set(classes):
        hint = f" For several labels, pass `labels={parts!r}`"
    else:
        hint = did_you_mean(str(label), classes)
    return LabelError(f"unknown label {label!r}; expected one of {known}.{hint}")


def expect_list(labels: object, *, conditional: bool, grid: str = "grid") -> None:
    """Refuse a single label, or a number of images, where a list of labels is expected.

    Parameters
    ----------
    labels
        The argument of `sample`.
    conditional
        Whether the model is conditional.
    grid
        Name of the method that generates a number of images of every label, for the message.

    Raises
    ------
    LabelError
        If `labels` is a number or a text.
    """
    number = isinstance(labels, Integral)
    if not number and not isinstance(labels, str):
        return
    value = int(labels) if number else labels
    if conditional:
        every_label = f", or for {value} images of every label {grid}(count={value})" if number else ""
        raise LabelError(
            f"`labels`: got {value!r}; expected a list with one label per image: sample(labels=[{value!r}]){every_label}"
        )
    if number:
        raise LabelError(
            f"`labels`: got {value} for a model without labels; expected a number of images: sample(count={value})"
        )
