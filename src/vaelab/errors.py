"""What can go wrong at a user's hands, each a class.

Every message says what was got, what was expected, and what to type. The command line prints it as one line and
exits with status 2; in Python it is an exception. Our own mistakes are `assert`, and never one of these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from numbers import Integral


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


MOST_NAMED = 20


def unknown_label(label: object, classes: Sequence[str], *, indices: bool) -> LabelError:
    """The error of a label that is none of `classes`; `indices` says that their positions would do too."""
    known = ", ".join(classes[:MOST_NAMED]) + (", …" if len(classes) > MOST_NAMED else "")
    known += f", or an index 0 to {len(classes) - 1}" if indices else ""
    several = [part.strip() for part in str(label).split(",")]
    if len(several) > 1 and set(several) <= set(classes):
        hint = f" For several, repeat it: {' '.join(f'--label {part}' for part in several)}"
    else:
        hint = did_you_mean(str(label), classes)
    return LabelError(f"unknown label {label!r}; expected one of {known}.{hint}")


def expect_list(labels: object, *, conditional: bool, grid: str = "grid") -> None:
    """Refuse a single label, or a number of images, where a list of labels is asked for.

    Parameters
    ----------
    labels
        What `sample` was given.
    conditional
        Whether the model takes labels.
    grid
        What the caller calls the method that makes so many of every label.
    """
    number = isinstance(labels, Integral)
    if not number and not isinstance(labels, str):
        return
    got = int(labels) if number else labels
    if conditional:
        many = f", or for {got} images of every label {grid}(count={got})" if number else ""
        raise LabelError(
            f"got {got!r} for labels; expected a list, a label for each image: sample(labels=[{got!r}]){many}"
        )
    if number:
        raise LabelError(
            f"got {got} for labels, but this model takes none; expected a number of images: sample(count={got})"
        )
