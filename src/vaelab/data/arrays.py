"""Build a `Dataset` from arrays: reorder axes, number labels, split into train, validation and test.

Symbols: N images, C channels (1 grey, 3 RGB), H×W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vaelab.data.dataset import Dataset, Split
from vaelab.data.limits import Limits
from vaelab.data.names import checked_name
from vaelab.data.split import HELD_OUT_SHARE, hold_out
from vaelab.errors import DataError, counted

MAX_CHANNELS = 4

MOST_NAMED = 5
"""Maximum number of classes or files that a note names; the others are counted."""

HELD_OUT = "Held out"
"""Beginning of the note on a split that the source does not have."""


class Part(NamedTuple):
    """Images, uint8 (N, C, H, W), and their labels, integers or text (N,), or None.

    Before the images are read, their indices (N,) replace them.
    """

    images: np.ndarray
    labels: np.ndarray | None

    def at(self, index: np.ndarray | slice) -> Part:
        """Return the images at `index`, with their labels."""
        return Part(self.images[index], None if self.labels is None else self.labels[index])


class Arranged(NamedTuple):
    """The splits "train", "validation" and "test", with labels as indices into `classes`, and notes on how they were made."""

    parts: dict[str, Part]
    classes: tuple[str, ...]
    notes: list[str]


def channels_first(images: np.ndarray, where: str) -> np.ndarray:
    """Reorder images of shape (N, H, W), (N, H, W, C) or (N, C, H, W) to (N, C, H, W).

    If both the second and the last axis could be the channels, the second is used. Raises `DataError`, with `where` as
    the prefix of its message, for any other shape, for empty arrays, and for a single image (H, W, C).
    """
    if images.ndim == 3 and images.shape[2] in (1, 3) and min(images.shape[:2]) > MAX_CHANNELS:
        raise DataError(
            f"{where}: got one image of shape {images.shape}; expected several, (N, H, W, C); for one image, pass images[None]"
        )
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
        raise DataError(
            f"{where}: got images of shape {images.shape}; expected at least one image of at least one pixel"
        )
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
    limits: Limits | None = None,
) -> Dataset:
    """Build the dataset of a source, with splits made by `arrange`."""
    source_parts = {"train": train, "validation": validation, "test": test}
    arranged = arrange(name, source_parts, classes=classes, seed=seed, limits=limits)
    all_notes = [*notes, *arranged.notes, *class_notes(arranged.parts, arranged.classes)]
    return as_dataset(name, arranged.parts, arranged.classes, all_notes)


def as_dataset(name: str, parts: Mapping[str, Part], classes: tuple[str, ...], notes: Sequence[str]) -> Dataset:
    """Build a dataset from its three splits."""
    train, validation, test = (Split(*parts[split]) for split in ("train", "validation", "test"))
    return Dataset(name, train, validation, test, classes, tuple(notes))


def arrange(
    name: str,
    source_parts: Mapping[str, Part | None],
    *,
    classes: tuple[str, ...] | None = None,
    seed: int,
    limits: Limits | None = None,
) -> Arranged:
    """Make the three splits of a source: keep those it has, and hold the missing ones out of its training images.

    If `classes` is None, the classes are the sorted distinct labels of all parts, and labels are converted to indices;
    otherwise the labels are already indices into `classes`. Nothing is held out of a source without training images.
    Raises `DataError` if labels and images differ in number, if only some parts have labels, or for more classes than `limits`.
    """
    present = {split: part for split, part in source_parts.items() if part is not None}
    first = next(iter(present.values()))
    _check_labels(name, present)
    if first.labels is None:
        classes = ()
    elif classes is None:
        if limits:
            limits.expect_classes(len(_distinct(present)), name)
        present = {split: _composed(part, f"{name}: labels") for split, part in present.items()}
        values = _distinct(present)
        classes = tuple(str(value) for value in values)
        present = {split: _numbered(part, values) for split, part in present.items()}

    notes = []
    empty = first.at(np.arange(0))
    parts = {"train": present.get("train", empty)}
    for split in ("test", "validation"):
        part = present.get(split)
        if part is not None:
            note = f"Used the source's {split} set of {counted(len(part.images), 'image')}."
        elif "train" in present:
            parts["train"], part, note = _held_out(parts["train"], split, len(classes), seed)
        else:
            part, note = empty, None
        parts[split] = part
        if note:
            notes.append(note)
    if "train" not in present:
        notes.append("The source has no training images: it can be used with a trained model, but not for training.")
    return Arranged({split: parts[split] for split in ("train", "validation", "test")}, classes, notes)


def class_notes(parts: Mapping[str, Part], classes: tuple[str, ...], *, limited: bool = False) -> Iterator[str]:
    """Yield notes on classes with no training image or with a single image.

    Single images are expected after a limit on the number of training images: no note on them if `limited`.
    """
    labels = [part.labels for part in parts.values() if part.labels is not None]
    train = parts["train"].labels
    if train is None or len(train) == 0:
        return
    if untrained := [classes[k] for k in np.setdiff1d(np.arange(len(classes)), train)]:
        yield f"No training image has the label {listed(untrained)}."
    totals = np.bincount(np.concatenate(labels), minlength=len(classes))
    single = [classes[k] for k in np.flatnonzero((totals == 1) & (np.bincount(train, minlength=len(classes)) == 1))]
    if single and not limited:
        subject = (
            f"The class {listed(single)} has"
            if len(single) == 1
            else f"{len(single):,} classes ({listed(single)}) have"
        )
        yield f"{subject} a single image, which is used for training."


def listed(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """Return the first `most` of the names, quoted and separated by commas, and the number of the others."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more


def _check_labels(name: str, parts: Mapping[str, Part]) -> None:
    """Raise `DataError` unless all parts have labels or none has, and each has as many labels as images."""
    adjectives = {split: "training" if split == "train" else split for split in parts}
    first = next(iter(parts))
    for split, part in parts.items():
        if (part.labels is None) != (parts[first].labels is None):
            labelled, unlabelled = (first, split) if part.labels is None else (split, first)
            raise DataError(
                f"{name}: got labels for the {adjectives[labelled]} images but not for the {adjectives[unlabelled]} "
                "images; expected labels for both or for neither"
            )
        if part.labels is not None and part.labels.shape != (len(part.images),):
            raise DataError(
                f"{name}: got {len(part.images)} {adjectives[split]} images and labels of shape {part.labels.shape}; "
                f"expected shape ({len(part.images)},), one label per image"
            )


def _composed(part: Part, where: str) -> Part:
    """Return the part with text labels in Unicode's composed form."""
    if part.labels is None or part.labels.dtype.kind != "U":
        return part
    values, index = np.unique(part.labels, return_inverse=True)
    if "" in values:
        raise DataError(f"{where}: got an empty text as a label; expected the name of a class for every image")
    return Part(part.images, np.array([checked_name(str(value), where) for value in values])[index])


def _distinct(parts: Mapping[str, Part]) -> np.ndarray:
    """Return the sorted distinct labels of all parts."""
    return np.unique(np.concatenate([part.labels for part in parts.values() if part.labels is not None]))


def _numbered(part: Part, values: np.ndarray) -> Part:
    """Replace each label by its index in the sorted `values`."""
    return part if part.labels is None else Part(part.images, np.searchsorted(values, part.labels))


def _held_out(train: Part, split: str, classes: int, seed: int) -> tuple[Part, Part, str]:
    """Hold a split out of `train`; return the remaining part, the held-out part, and a note."""
    N = len(train.images)
    kept, held = hold_out(N if train.labels is None else train.labels, seed=seed)
    if len(held) == 0:
        of = f" of {counted(classes, 'class')}" if classes and N >= 1 / HELD_OUT_SHARE else ""
        few = f"{counted(N, 'image')}{of} {'is' if N == 1 else 'are'} too few to split"
        return train, train.at(held), f"{HELD_OUT} no {split} set: {few}."
    how = "at random" if train.labels is None else "stratified by class"
    part = f"{HELD_OUT_SHARE:.0%}, {how}, seed {seed}"
    note = f"{HELD_OUT} {len(held):,} of {N:,} images as the {split} set ({part})."
    return train.at(kept), train.at(held), note


def has_own_test(dataset: Dataset) -> bool:
    """Return whether the test images of a dataset are those of its source, not some that were held out of the others."""
    return len(dataset.test) > 0 and not any(
        note.startswith(HELD_OUT) and " test set" in note for note in dataset.notes
    )


def label_values(names: tuple[str, ...]) -> np.ndarray:
    """Convert class names to label values: integers if every name is the decimal form of one, otherwise text."""
    try:
        numbers = [int(name) for name in names]
    except ValueError:
        return np.array(names)
    return np.array(numbers if [str(number) for number in numbers] == list(names) else names)
