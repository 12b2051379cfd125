"""Some of a dataset: the classes that are asked for, and at most so many training images.

It comes after the splits, so that which split an image belongs to does not depend on what else is asked for.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from vaelab.data.arrays import Arranged, Part, class_notes, listed
from vaelab.data.dataset import Dataset
from vaelab.data.split import choose
from vaelab.errors import ConfigError, did_you_mean


class Selection(NamedTuple):
    """What to keep: these classes in this order, and at most `limit` training images; None keeps all."""

    classes: tuple[str, ...] | None = None
    limit: int | None = None


EVERYTHING = Selection()


def parse_selection(classes: str | Sequence[str | int] | None, limit: int | None) -> Selection:
    """A selection as the user gives it: class names as a sequence, or as text with commas between them.

    Raises
    ------
    ConfigError
        No class is named, or one twice; or `limit` is no whole number of at least 1.
    """
    names = None
    if classes is not None:
        typed = isinstance(classes, str)
        names = tuple(name.strip() for name in classes.split(",")) if typed else tuple(map(str, classes))
        if not any(names):
            raise ConfigError(
                f"classes: got {classes!r}; expected names of classes; type for instance --classes cat,dog"
            )
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise ConfigError(f"classes: got {listed(twice)} twice; expected each class once")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | np.integer) or limit < 1):
        raise ConfigError(
            f"limit: got {limit!r}; expected a whole number of at least 1; type for instance --limit 1000"
        )
    return Selection(names, None if limit is None else int(limit))


def select(parts: Mapping[str, Part], classes: tuple[str, ...], selection: Selection, seed: int) -> Arranged:
    """`parts` thinned to a selection, and what was left out.

    The limit thins the training images alone, each class alike (see `choose`); validation and test images stay, so that
    figures can be compared.

    Raises
    ------
    ConfigError
        If a class is asked for that there is not.
    """
    kept, notes = dict(parts), []
    if selection.classes is not None:
        wanted = _positions(selection.classes, classes)
        renumbered = np.full(len(classes), -1)
        renumbered[wanted] = np.arange(len(wanted))
        for split, part in parts.items():
            assert part.labels is not None
            labels = renumbered[part.labels]
            kept[split] = Part(part.images, labels).at(np.flatnonzero(labels >= 0))
        classes = tuple(classes[k] for k in wanted)
        counts = [sum(len(part.images) for part in group.values()) for group in (kept, parts)]
        notes.append(
            f"Took the class{'es' * (len(wanted) > 1)} {listed(classes)}: {counts[0]:,} of {counts[1]:,} images."
        )
    train = kept["train"]
    if selection.limit is not None and (N := len(train.images)) > selection.limit:
        kept["train"] = train.at(choose(N if train.labels is None else train.labels, selection.limit, seed=seed))
        how = "at random" if train.labels is None else "stratified by class"
        notes.append(f"Took {selection.limit:,} of {N:,} training images ({how}, seed {seed}).")
    return Arranged(kept, classes, notes)


def select_from(dataset: Dataset, selection: Selection, seed: int) -> Dataset:
    """`dataset` thinned to a selection, with the notes that say so."""
    if selection == EVERYTHING:
        return dataset
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    positions = {name: Part(np.arange(len(split)), split.labels) for name, split in splits.items()}
    chosen = select(positions, dataset.classes, selection, seed)
    thinned = {name: replace(splits[name][part.images], labels=part.labels) for name, part in chosen.parts.items()}
    notes = [*chosen.notes, *class_notes(chosen.parts, chosen.classes, limited=selection.limit is not None)]
    said = tuple(note for note in notes if note not in dataset.notes)
    return replace(dataset, **thinned, classes=chosen.classes, notes=(*dataset.notes, *said))


def _positions(wanted: Sequence[str], classes: tuple[str, ...]) -> np.ndarray:
    """Where the wanted classes stand among `classes`; an accent may be typed as one sign or as two."""
    if not classes:
        raise ConfigError(f"classes: got {listed(wanted)} for images without labels; expected no classes")
    composed = {unicodedata.normalize("NFC", name): k for k, name in enumerate(classes)}
    exact = {name: k for k, name in enumerate(classes)}
    found = [exact.get(name, composed.get(unicodedata.normalize("NFC", name))) for name in wanted]
    for name, position in zip(wanted, found, strict=True):
        if position is None:
            raise ConfigError(
                f"classes: got {name!r}; expected some of {listed(classes, 20)}.{did_you_mean(name, classes)}"
            )
    return np.array(found, dtype=np.int64)
