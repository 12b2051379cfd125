"""From arrays to a `Dataset`: the axes put in order, the labels numbered, the three splits parted.

Symbols: N images, C channels (1 grey, 3 RGB), H×W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vaelab.data.dataset import Dataset, Split
from vaelab.data.split import HELD_OUT_SHARE, hold_out
from vaelab.errors import DataError, counted

MOST_NAMED = 5
"""How many classes or files a note names before it counts the rest."""


class Part(NamedTuple):
    """Images of a source, uint8 (N, C, H, W), and a label for each, integers or text (N,), or None.

    Where images are yet to be read, their positions (N,) stand for them.
    """

    images: np.ndarray
    labels: np.ndarray | None

    def at(self, index: np.ndarray | slice) -> Part:
        """The images at `index`, with their labels."""
        return Part(self.images[index], None if self.labels is None else self.labels[index])


class Arranged(NamedTuple):
    """The three splits, "train", "validation" and "test", their labels as positions in `classes`, and what was done."""

    parts: dict[str, Part]
    classes: tuple[str, ...]
    notes: list[str]


def channels_first(images: np.ndarray, where: str) -> np.ndarray:
    """`images` of shape (N, H, W), (N, H, W, C) or (N, C, H, W) as (N, C, H, W).

    Where both the second and the last axis could be channels, the second is taken. Raises `DataError`, which
    names `where`, for any other shape and for images without a pixel.
    """
    if images.ndim == 3:
        ordered = images[:, None]
    elif images.ndim == 4 and images.shape[1] in (1, 3):
        ordered = images
    elif images.ndim == 4 and images.shape[3] in (1, 3):
        ordered = images.transpose(0, 3, 1, 2)
    else:
        raise DataError(
            f"{where}: got images of shape {images.shape}; expected (N, H, W), (N, H, W, C) or (N, C, H, W) "
            "with C = 1 (grey) or 3 (RGB)"
        )
    if 0 in ordered.shape:
        raise DataError(f"{where}: got images of shape {images.shape}; expected at least one image of one pixel")
    return ordered


def assemble(
    name: str,
    train: Part | None,
    *,
    validation: Part | None = None,
    test: Part | None = None,
    classes: tuple[str, ...] | None = None,
    seed: int,
    notes: Sequence[str] = (),
) -> Dataset:
    """The dataset of a source, parted as `arrange` does it."""
    given = {"train": train, "validation": validation, "test": test}
    arranged = arrange(name, given, classes=classes, seed=seed)
    said = [*notes, *arranged.notes, *class_notes(arranged.parts, arranged.classes)]
    return as_dataset(name, arranged.parts, arranged.classes, said)


def as_dataset(name: str, parts: Mapping[str, Part], classes: tuple[str, ...], notes: Sequence[str]) -> Dataset:
    """The dataset of three parts."""
    splits = {split: Split(part.images, part.labels) for split, part in parts.items()}
    return Dataset(name, **splits, classes=classes, notes=tuple(notes))


def arrange(
    name: str, given: Mapping[str, Part | None], *, classes: tuple[str, ...] | None = None, seed: int
) -> Arranged:
    """The three splits of a source: the parts that it brings are honoured, the others are held out of its training images.

    Where `classes` is None, the classes are the distinct labels of all parts, sorted, and the labels become
    their positions; else the labels are positions in `classes` already. A source without training images keeps its parts
    as they are. Raises `DataError` where labels and images differ in number, or only some parts have labels.
    """
    brought = {split: part for split, part in given.items() if part is not None}
    first, leading = next(iter(brought.items()))
    _check(name, brought, "training" if first == "train" else first, leading)
    if leading.labels is None:
        classes = ()
    elif classes is None:
        values = np.unique(np.concatenate([part.labels for part in brought.values() if part.labels is not None]))
        classes = tuple(str(value) for value in values)
        brought = {split: _numbered(part, values) for split, part in brought.items()}

    notes = []
    nothing = leading.at(np.arange(0))
    train = brought.get("train", nothing)
    parts = {"train": train}
    for split in ("test", "validation"):
        part = brought.get(split)
        if part is not None:
            note = f"Took the source's own {split} set of {len(part.images):,} images."
        elif "train" in brought:
            parts["train"], part, note = _held_out(parts["train"], split, len(classes), seed)
        else:
            part, note = nothing, None
        parts[split] = part
        if note:
            notes.append(note)
    if "train" not in brought:
        notes.append("The source has no training images: a trained model can be tried on it, none can be trained.")
    return Arranged({split: parts[split] for split in ("train", "validation", "test")}, classes, notes)


def class_notes(parts: Mapping[str, Part], classes: tuple[str, ...], *, limited: bool = False) -> Iterator[str]:
    """Sentences on classes that a model cannot learn, or hardly."""
    labels = [part.labels for part in parts.values() if part.labels is not None]
    train = parts["train"].labels
    if train is None or len(train) == 0:
        return
    if untrained := [classes[k] for k in np.setdiff1d(np.arange(len(classes)), train)]:
        yield f"No training image has the label {listed(untrained)}."
    totals = np.bincount(np.concatenate(labels), minlength=len(classes))
    single = [classes[k] for k in np.flatnonzero((totals == 1) & (np.bincount(train, minlength=len(classes)) == 1))]
    if single and not limited:
        whose = (
            f"The class {listed(single)} has"
            if len(single) == 1
            else f"{len(single):,} classes ({listed(single)}) have"
        )
        yield f"{whose} one image, which is for training."


def listed(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """`names` quoted, the first `most` of them, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def _check(name: str, brought: Mapping[str, Part], first: str, leading: Part) -> None:
    """Raise `DataError` unless all parts are labelled as the first one is, and each has as many labels as images."""
    for split, part in brought.items():
        called = "training" if split == "train" else split
        if (part.labels is None) != (leading.labels is None):
            here, there = ("no labels", "some") if part.labels is None else ("labels", "none")
            raise DataError(
                f"{name}: got {here} for the {called} images and {there} for the {first} images; "
                "expected them for both or for neither"
            )
        if part.labels is not None and part.labels.shape != (len(part.images),):
            raise DataError(
                f"{name}: got {len(part.images)} {called} images and labels of shape {part.labels.shape}; "
                f"expected shape ({len(part.images)},), one label per image"
            )


def _numbered(part: Part, values: np.ndarray) -> Part:
    """`part` with each label as its position in the sorted `values`."""
    return part if part.labels is None else Part(part.images, np.searchsorted(values, part.labels))


def _held_out(train: Part, split: str, classes: int, seed: int) -> tuple[Part, Part, str]:
    """`train` without what is held out of it, what is held out, and the sentence that says so."""
    N = len(train.images)
    kept, held = hold_out(N if train.labels is None else train.labels, seed=seed)
    if len(held) == 0:
        of = f" of {classes:,} classes" if classes and N >= 1 / HELD_OUT_SHARE else ""
        few = f"{counted(N, 'image')}{of} {'is' if N == 1 else 'are'} too few to part"
        return train, train.at(held), f"Held out no {split} set: {few}."
    how = "at random" if train.labels is None else "stratified by class"
    part = f"{HELD_OUT_SHARE:.0%}, {how}, seed {seed}"
    note = f"Held out {len(held):,} of {N:,} images as the {split} set ({part})."
    return train.at(kept), train.at(held), note


def label_values(names: tuple[str, ...]) -> np.ndarray:
    """Class names as labels: integers, if all of them are written as integers are."""
    try:
        numbers = [int(name) for name in names]
    except ValueError:
        return np.array(names)
    return np.array(numbers if [str(number) for number in numbers] == list(names) else names)
