"""Labels as a person asks for them: what is said of one that is not known, and of what is no list of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vaelab.errors import LabelError, did_you_mean

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
    number = isinstance(labels, int | np.integer)
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
