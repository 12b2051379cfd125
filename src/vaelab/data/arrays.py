"""From arrays to a `Dataset`: the axes put in order, the labels numbered, the three splits parted.

Symbols: N images, C channels (1 grey, 3 RGB), H×W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vaelab.data.dataset import Dataset, Split
from vaelab.data.split import HELD_OUT_SHARE, hold_out
from vaelab.errors import DataError


class Part(NamedTuple):
    """Images of a source, uint8 (N, C, H, W), and a label for each, integers or text (N,), or None."""

    images: np.ndarray
    labels: np.ndarray | None


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
    train: Part,
    *,
    validation: Part | None = None,
    test: Part | None = None,
    classes: tuple[str, ...] | None = None,
    seed: int,
    notes: Sequence[str] = (),
) -> Dataset:
    """The dataset of a source: the parts that it brings are honoured, the others are held out of `train`.

    Where `classes` is None, the classes are the distinct labels of all parts, sorted, and the labels become
    their positions; else the labels are positions in `classes` already. Raises `DataError` where labels and
    images differ in number, or only some parts have labels.
    """
    for split, part in (("training", train), ("validation", validation), ("test", test)):
        if part is None:
            continue
        if (part.labels is None) != (train.labels is None):
            here, there = ("no labels", "some") if part.labels is None else ("labels", "none")
            raise DataError(
                f"{name}: got {here} for the {split} images and {there} for the training images; "
                "expected them for both or for neither"
            )
        if part.labels is not None and part.labels.shape != (len(part.images),):
            raise DataError(
                f"{name}: got {len(part.images)} {split} images and labels of shape {part.labels.shape}; "
                f"expected shape ({len(part.images)},), one label per image"
            )
    if train.labels is None:
        classes = ()
    elif classes is None:
        present = [part.labels for part in (train, validation, test) if part and part.labels is not None]
        values = np.unique(np.concatenate(present))
        classes = tuple(str(value) for value in values)
        train = _numbered(train, values)
        validation = validation and _numbered(validation, values)
        test = test and _numbered(test, values)

    said = list(notes)
    parts = {"test": test, "validation": validation}
    for split in parts:
        given = parts[split]
        if given is None:
            train, parts[split], note = _held_out(train, split, seed)
        else:
            note = f"Took the source's own {split} set of {len(given.images):,} images."
        said.append(note)

    if train.labels is not None:
        untrained = [classes[k] for k in np.setdiff1d(np.arange(len(classes)), train.labels)]
        if untrained:
            said.append(f"No training image has the label {', '.join(map(repr, untrained))}.")
    splits = {split: Split(part.images, part.labels) for split, part in parts.items() if part}
    return Dataset(name, Split(train.images, train.labels), **splits, classes=classes, notes=tuple(said))


def _numbered(part: Part, values: np.ndarray) -> Part:
    """`part` with each label as its position in the sorted `values`."""
    return part if part.labels is None else Part(part.images, np.searchsorted(values, part.labels))


def _held_out(train: Part, split: str, seed: int) -> tuple[Part, Part, str]:
    """`train` without what is held out of it, what is held out, and the sentence that says so."""
    N = len(train.images)
    kept, held = hold_out(N if train.labels is None else train.labels, seed=seed)
    if len(held) == 0:
        empty = Part(train.images[:0], None if train.labels is None else train.labels[:0])
        return train, empty, f"Held out no {split} set: {N:,} images are too few to part."
    how = "at random" if train.labels is None else "stratified by class"
    part = f"{HELD_OUT_SHARE:.0%}, {how}, seed {seed}"
    note = f"Held out {len(held):,} of {N:,} images as the {split} set ({part})."
    left, right = (
        Part(train.images[index], None if train.labels is None else train.labels[index]) for index in (kept, held)
    )
    return left, right, note
