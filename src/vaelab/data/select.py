"""Select classes of a dataset, and limit the number of training images.

Applied after splitting, so that the split of an image does not depend on the selection.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from vaelab.data.arrays import Arranged, Part, class_notes, listed
from vaelab.data.dataset import Dataset
from vaelab.data.names import composed
from vaelab.data.split import choose
from vaelab.errors import ConfigError, did_you_mean


class Selection(NamedTuple):
    """Classes to keep, in this order, and maximum number of training images; None keeps all."""

    classes: tuple[str, ...] | None = None
    limit: int | None = None


EVERYTHING = Selection()


def parse_selection(classes: str | Sequence[str | int] | None, limit: int | None) -> Selection:
    """Convert `classes`, a sequence of names or text with commas between them, and `limit` to a selection.

    Raises
    ------
    ConfigError
        If no class is given or a class is given twice, or if `limit` is not a whole number of at least 1.
    """
    names = None
    if classes is not None:
        as_text = isinstance(classes, str)
        names = tuple(name.strip() for name in classes.split(",")) if as_text else tuple(map(str, classes))
        names = tuple(map(composed, names))
        if not any(names):
            raise ConfigError(
                f"`classes`: got {classes!r}; expected names of classes; pass for instance `classes='cat,dog'`"
            )
        if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise ConfigError(f"`classes`: got {listed(repeated)} more than once; expected each class once")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | np.integer) or limit < 1):
        raise ConfigError(
            f"`limit`: got {limit!r}; expected a whole number of at least 1; pass for instance `limit=1000`"
        )
    return Selection(names, None if limit is None else int(limit))


def select(parts: Mapping[str, Part], classes: tuple[str, ...], selection: Selection, seed: int) -> Arranged:
    """Apply a selection to the splits; the notes state what was selected.

    The limit applies to the training images only and keeps the class proportions (see `choose`). Validation and test images
    stay, so that metrics remain comparable.

    Raises
    ------
    ConfigError
        If a class does not exist.
    """
    selected, notes = dict(parts), []
    if selection.classes is not None:
        indices = _class_indices(selection.classes, classes)
        new_index = np.full(len(classes), -1)
        new_index[indices] = np.arange(len(indices))
        for split, part in parts.items():
            assert part.labels is not None
            labels = new_index[part.labels]
            selected[split] = Part(part.images, labels).at(np.flatnonzero(labels >= 0))
        classes = tuple(classes[k] for k in indices)
        counts = [sum(len(part.images) for part in group.values()) for group in (selected, parts)]
        notes.append(
            f"Selected the class{'es' * (len(indices) > 1)} {listed(classes)}: {counts[0]:,} of {counts[1]:,} images."
        )
    train = selected["train"]
    if selection.limit is not None and (N := len(train.images)) > selection.limit:
        selected["train"] = train.at(choose(N if train.labels is None else train.labels, selection.limit, seed=seed))
        how = "at random" if train.labels is None else "stratified by class"
        notes.append(f"Selected {selection.limit:,} of {N:,} training images ({how}, seed {seed}).")
    return Arranged(selected, classes, notes)


def select_from(dataset: Dataset, selection: Selection, seed: int) -> Dataset:
    """Apply a selection to a dataset, and add notes on it."""
    if selection == EVERYTHING:
        return dataset
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    indices = {name: Part(np.arange(len(split)), split.labels) for name, split in splits.items()}
    selected = select(indices, dataset.classes, selection, seed)
    new_splits = {name: replace(splits[name][part.images], labels=part.labels) for name, part in selected.parts.items()}
    notes = [*selected.notes, *class_notes(selected.parts, selected.classes, limited=selection.limit is not None)]
    new_notes = tuple(note for note in notes if note not in dataset.notes)
    return replace(dataset, **new_splits, classes=selected.classes, notes=(*dataset.notes, *new_notes))


def _class_indices(names: Sequence[str], classes: tuple[str, ...]) -> np.ndarray:
    """Return the indices of names in `classes`."""
    if not classes:
        raise ConfigError(f"`classes`: got {listed(names)} for images without labels; expected no classes")
    number = {composed(name): k for k, name in enumerate(classes)}
    found = [number.get(name) for name in names]
    for name, index in zip(names, found, strict=True):
        if index is None:
            raise ConfigError(
                f"`classes`: got {name!r}; expected some of {listed(classes, 20)}.{did_you_mean(name, classes)}"
            )
    return np.array(found, dtype=np.int64)
