"""Images given to a model, with their labels and where they come from, read a part at a time.

Symbols: N images; K labels of a conditional model.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from vaelab.data.dataset import Dataset
from vaelab.errors import DataError, counted
from vaelab.inference.latents import image_labels
from vaelab.inference.trained import TrainedModel

Known: TypeAlias = np.ndarray | Sequence[str | None] | None
"""Labels of images: indices, or names with None for those to infer; None instead of all of them infers all."""


HASHED_BYTES = 1 << 30
"""Most bytes of images that are compared when work on them is continued; of more, only the fingerprint of the training images."""


class GivenImages(NamedTuple):
    """Images given to a model.

    Attributes
    ----------
    images
        uint8 (N, H, W[, 3]) or (N, C, H, W), or rows of a table, (N, D).
    labels
        Labels of the model under which to encode them, indices (N,); None for an unconditional model.
    facts
        What identifies each image in a file of results, (N,): `paths`, its file, or SOURCE:SPLIT:INDEX; `split`; `labels`,
        indices into `classes`; and `inferred`, for labels that the model inferred.
    name
        Their name in a title.
    """

    images: np.ndarray
    labels: np.ndarray | None
    facts: dict[str, np.ndarray]
    name: str

    def at(self, index: np.ndarray) -> GivenImages:
        """Return the images at `index`."""
        facts = {name: values if name == "classes" else values[index] for name, values in self.facts.items()}
        labels = None if self.labels is None else self.labels[index]
        return GivenImages(self.images[index], labels, facts, self.name)


@dataclass(frozen=True)
class Given:
    """Images that are read when they are needed.

    Attributes
    ----------
    name
        Their name in a title.
    count
        Number of images.
    take
        Returns the images at an ascending index, their known labels, and their facts without inferred labels.
    infers
        Whether the model infers labels of some of them.
    identity
        Computes a text that differs for other images.
    """

    model: TrainedModel
    name: str
    count: int
    take: Callable[[np.ndarray], tuple[np.ndarray, Known, dict[str, np.ndarray]]]
    infers: bool
    identity: Callable[[], str]

    def read(self, index: np.ndarray) -> GivenImages:
        """Return the images at an ascending index, with labels that are not known inferred by a conditional model."""
        images, known, facts = self.take(index)
        labels, probabilities = image_labels(self.model, images, known)
        if labels is not None and "labels" not in facts:
            facts |= {"labels": labels, "classes": np.array(self.model.classes)}
        if self.infers:
            facts["inferred"] = np.zeros(len(index), bool) if probabilities is None else ~np.isnan(probabilities)
        return GivenImages(images, labels, facts, self.name)


def given_source(
    model: TrainedModel,
    dataset: Dataset,
    split: str = "all",
    *,
    source: str | None = None,
    labels: Sequence[str] | None = None,
    any_label: bool = False,
) -> Given:
    """Return the images of a data set for a model.

    Parameters
    ----------
    dataset
        Its images may be larger than memory.
    split
        train, validation, test or all.
    source
        What the data set is called in `paths` if its images have no files. Default: its name.
    labels
        One per image of the split. Default: those of the data set, if it has any; else they are inferred.
    any_label
        Whether labels of the data set are facts only, which the model need not know; `take` then returns no known labels.

    Raises
    ------
    DataError
        If there are none.
    LabelError
        If the model is conditional and the images have a label that it does not know.
    """
    names = ["train", "validation", "test"] if split == "all" else [split]
    parts = {name: dataset.part(name) for name in names if dataset.count(name)}
    if not parts:
        raise DataError(f"{dataset.name}: got no {split} images; expected some: give `split='all'`")
    starts = np.cumsum([0, *map(len, parts.values())])
    given: list[str] | None = None if labels is None else list(labels)
    labelled = dataset.labelled and given is None
    for part in (
        parts.values() if labelled and not any_label else ()
    ):  # an unknown label is an error before any work is done
        model.matched_labels(np.unique(_known(part.labels)), dataset.classes)

    def take(index: np.ndarray) -> tuple[np.ndarray, Known, dict[str, np.ndarray]]:
        inside = {
            name: index[(start <= index) & (index < start + len(part))] - start
            for start, (name, part) in zip(starts, parts.items(), strict=False)
        }
        pieces = [_at(parts[name].images, at) for name, at in inside.items() if len(at)]
        images = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        paths: list[str] = []
        for name, at in inside.items():
            files = parts[name].paths
            paths += [f"{source or dataset.name}:{name}:{i}" for i in at] if files is None else files[at].tolist()
        facts = {"paths": np.array(paths, dtype=str), "split": np.repeat(list(inside), list(map(len, inside.values())))}
        if not labelled:
            return images, given and [given[i] for i in index.tolist()], facts
        own = np.concatenate([_known(parts[name].labels)[at] for name, at in inside.items()])
        facts |= {"labels": own, "classes": np.array(dataset.classes)}
        return images, None if any_label else model.matched_labels(own, dataset.classes), facts

    def identity() -> str:
        small = sum(part.images.nbytes for part in parts.values()) <= HASHED_BYTES
        digests = (
            [hashlib.sha256(np.ascontiguousarray(part.images).data).hexdigest() for part in parts.values()]
            if small
            else []
        )
        return repr((source, split, starts.tolist(), dataset.fingerprint, digests, dataset.classes, given))

    title = f"{Path(source or dataset.name).name}, {split}"
    return Given(model, title, int(starts[-1]), take, model.conditional and not (labelled or given), identity)


def given_arrays(model: TrainedModel, images: np.ndarray, labels: Sequence[str | None], paths: Sequence[str]) -> Given:
    """Return images in memory for a model, one label each, or None to infer it."""

    def take(index: np.ndarray) -> tuple[np.ndarray, Known, dict[str, np.ndarray]]:
        at = index.tolist()
        return images[index], [labels[i] for i in at], {"paths": np.array([paths[i] for i in at])}

    def identity() -> str:
        return repr((hashlib.sha256(images.data).hexdigest(), labels, paths))

    count, infers = len(images), model.conditional and None in labels
    return Given(model, counted(count, "image"), count, take, infers, identity)


def _at(images: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the images at an ascending index, as a view if they follow one another."""
    first, last = int(index[0]), int(index[-1])
    return images[first : last + 1] if last - first + 1 == len(index) else images[index]


def _known(labels: np.ndarray | None) -> np.ndarray:
    assert labels is not None
    return labels
