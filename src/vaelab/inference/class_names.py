"""Labels given by class name or index, as indices 0…K−1.

Names are compared in Unicode form NFC. The labels of a dataset are matched by name only; an index is accepted where a person
asks for a label, if no class has that name.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from unicodedata import normalize

import numpy as np

from vaelab.errors import LabelError, counted, unknown_label


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


def indices_or_weights(labels: Sequence[str | int] | np.ndarray, count: int, classes: Sequence[str]) -> np.ndarray:
    """Return the labels of `count` images as indices, int64 (N,), or weights of the classes, (N, K), as float32.

    Raises
    ------
    LabelError
        If there are more or fewer, a label is unknown, or weights have another shape or are not finite.
    """
    if len(labels) != count:
        raise LabelError(
            f"got {counted(len(labels), 'label')} for {counted(count, 'image')}; expected one label per image"
        )
    if isinstance(labels, np.ndarray) and labels.ndim == 2:
        if labels.shape[1] != len(classes) or not np.isfinite(labels).all():
            raise LabelError(
                f"got label weights of shape {labels.shape}; expected ({count}, {len(classes)}), all finite"
            )
        return labels.astype(np.float32)
    return indices_of_labels(labels, classes)


def labels_by_name(labels: np.ndarray, of: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Return labels (N,), indices into the class names `of`, as indices of the classes of these names.

    Raises
    ------
    LabelError
        If one is unknown.
    """
    table = np.zeros(len(of), dtype=np.int64)
    for index in np.unique(labels):
        table[index] = index_of_name(of[int(index)], classes)
    return table[labels]
