"""Labels given by class name or index, as indices 0…K−1.

Names are compared in Unicode form NFC. The labels of a dataset are matched by name only; an index is accepted where a person
asks for a label, if no class has that name.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from unicodedata import normalize

import numpy as np

from vaelab.errors import unknown_label


def composed(label: object) -> object:
    """Return a label for comparison: a name in Unicode form NFC, anything else as it is."""
    return normalize("NFC", label) if isinstance(label, str) else label


def index_of_name(name: str, classes: Sequence[str]) -> int:
    """Return the index of the class called `name`.

    Raises
    ------
    LabelError
        If there is none.
    """
    known = [composed(each) for each in classes]
    if composed(name) not in known:
        raise unknown_label(name, classes, indices=False)
    return known.index(composed(name))


def index_of_label(label: object, classes: Sequence[str]) -> int:
    """Return the index of a label that a person asks for: a class name, else an index, as a number or in digits.

    Raises
    ------
    LabelError
        If it is neither, such as 2.7 or None.
    """
    number = isinstance(label, Integral) and not isinstance(label, bool | np.bool_)
    text = str(label)
    if not (isinstance(label, str) or number):
        raise unknown_label(label, classes, indices=True)
    if composed(text) in map(composed, classes):
        return index_of_name(text, classes)
    if text.isascii() and text.isdecimal() and int(text) < len(classes):
        return int(text)
    raise unknown_label(text, classes, indices=True)


def indices_of_labels(labels: Sequence[object] | np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return the indices of labels, int64 (N,).

    An array of integers holds indices already, as `TrainedModel.matched_labels` returns them; the entries of other arrays and
    of sequences are class names or, if no class has that name, indices.

    Raises
    ------
    LabelError
        If a label is unknown or an index out of range.
    """
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "iu":
        outside = labels[(labels < 0) | (labels >= len(classes))]
        if outside.size:
            raise unknown_label(str(outside.flat[0]), classes, indices=True)
        return labels.astype(np.int64)
    return np.array([index_of_label(label, classes) for label in labels], dtype=np.int64)
