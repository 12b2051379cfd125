"""The held-out images of a run, found again by the name that it remembers of its data.

A run keeps the name of its source, not where it lay, and the fingerprint of its training images. What was chosen of the source
(`--limit`, `--size`, `--classes`) follows from the run, so it need not be typed again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, get_args

import numpy as np

from vaelab.data import BUILTIN, Dataset, load_dataset
from vaelab.data.resize import Fit
from vaelab.data.sources import found_again
from vaelab.errors import DataError, VaelabError
from vaelab.training.runs import DataCard, Run

Work = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""

SEED = 0
"""Of the order of the images: the first of them are a fair choice of all."""


class HeldOut(NamedTuple):
    """Images that the model has not learnt from, in an order drawn by `SEED`.

    Attributes
    ----------
    images
        uint8 (N, C, H, W).
    labels
        int64 (N,), indices into the classes of the run; None for unlabelled data.
    split
        test; validation or train where there is no test.
    """

    images: np.ndarray
    labels: np.ndarray | None
    split: str


def held_out(run: Run, source: str | None, most: int, work: Work) -> tuple[HeldOut | None, str | None]:
    """At most `most` held-out images of a run, from `source`, or from what its name leads to; or None, and why.

    Raises
    ------
    VaelabError
        If a `source` that is named cannot be read, or is not the data that the run was trained on.
    """
    if source is None:
        found = found_again(run.data.source)
        if found is None:
            return None, (
                f"No images: the run was trained on {run.data.source!r}, which is no built-in name and not in this folder. "
                f"To have the map, type vaelab studio {run.folder} SOURCE"
            )
        try:
            return _drawn(_loaded(found, run.data, work), most), None
        except VaelabError as error:
            return None, f"No images: {error}"
    return _drawn(_loaded(source, run.data, work), most), None


def _loaded(source: str, card: DataCard, work: Work) -> Dataset:
    """The data of `source`, of which the same is taken as the card says.

    Raises
    ------
    VaelabError
        If the source cannot be read, or holds others.
    """
    height, width = card.shape[1:]
    got = ""
    for fit in ("crop",) if source in BUILTIN else get_args(Fit):
        dataset = load_dataset(
            source,
            size=(height, width),
            fit=fit,
            limit=card.train_count,
            classes=card.classes or None,
            progress=work,
        )
        if dataset.fingerprint == card.fingerprint:
            return dataset
        got = dataset.fingerprint
    raise DataError(
        f"{source}: got data of fingerprint {got[:8]}…, but the run was trained on {card.source!r} of "
        f"{card.fingerprint[:8]}…; expected the same data: name their source"
    )


def _drawn(dataset: Dataset, most: int) -> HeldOut:
    name, split = next(
        (name, split)
        for name, split in (("test", dataset.test), ("validation", dataset.validation), ("train", dataset.train))
        if len(split)
    )
    chosen = split[np.random.default_rng(SEED).permutation(len(split))[:most]]
    return HeldOut(chosen.images, chosen.labels, name)
