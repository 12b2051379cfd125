"""What can go wrong at a user's hands, each a class.

Every message says what was got, what was expected, and what to type. The command line prints it as one line and
exits with status 2; in Python it is an exception. Our own mistakes are `assert`, and never one of these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VaelabError(Exception):
    """A mistake that the user can mend; its text is one line that says how."""


class ConfigError(VaelabError, ValueError):
    """A hyper-parameter or option outside its range, or two that exclude each other."""


class DataError(VaelabError, ValueError):
    """A source of images that is missing, broken, or not of the form asked for."""


class LabelError(VaelabError, ValueError):
    """A label that the model does not know, or one given or missing where it should not be."""


class RunError(VaelabError, ValueError):
    """A run folder that is missing, half-written, altered, or of another version."""


class OutputError(VaelabError, OSError):
    """A file or folder that cannot be written; what was there before is left as it was."""


class ExportError(VaelabError, RuntimeError):
    """A model that cannot be written as ONNX, or whose file would not do what the model does."""


class StudioError(VaelabError, RuntimeError):
    """The page on a model that cannot be shown: it is not built, or what serves it is not there."""


class TrainingError(VaelabError, RuntimeError):
    """Training that cannot go on, such as a loss that stays NaN."""


def counted(count: int, noun: str) -> str:
    """`1 image`, `2 images`, `1,000 images`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def did_you_mean(got: str, choices: Iterable[str]) -> str:
    """' Did you mean “x”?' for the nearest of `choices`, or '' where none is near."""
    near = difflib.get_close_matches(got, list(choices), n=1)
    return f" Did you mean {near[0]!r}?" if near else ""
