"""The data of a run, found by their recorded name, and their held-out images.

A run records the name of its source, but not its location, and the fingerprint of its training images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from vaelab.data import Dataset, load_data_of_run
from vaelab.data.sources import found_again
from vaelab.errors import DataError, VaelabError
from vaelab.runs import Run

Work = Callable[[str, int, int], None]
"""Progress callback: what is being done, the number of units done, and their total."""

SEED = 0
"""Seed of the order of the images, so that the first ones are a random sample."""


class HeldOut(NamedTuple):
    """Images that were not used for training, in a random order given by `SEED`.

    Attributes
    ----------
    images
        uint8 (N, C, H, W).
    labels
        int64 (N,), indices into the classes of the run; None for unlabelled data.
    split
        `test`; `validation` or `train` if there are no test images.
    """

    images: np.ndarray
    labels: np.ndarray | None
    split: str


def data_of(
    run: Run, source: str | None, options: Mapping[str, Any] | None, work: Work
) -> tuple[Dataset | None, str | None]:
    """Return the data of a run and None; or None and the reason why there are none.

    Parameters
    ----------
    run
        The run.
    source
        Source of its data. Default: the source with the recorded name, if it is built in or in the current folder.
    options
        Options of `load_dataset` that differ from those of the training.
    work
        Progress callback.

    Raises
    ------
    VaelabError
        If `source` is given and cannot be read, or is not the data that the run was trained on.
    """
    found = source or found_again(run.data.source)
    if found is None:
        return None, (
            f"The map has no images: the run was trained on {run.data.source!r}, which is neither a built-in source nor in "
            f"the current folder. To add the images, give their source: vaelab studio {run.folder} SOURCE"
        )
    try:
        dataset = load_data_of_run(run.folder, found, options, progress=work)
        if dataset.fingerprint != run.data.fingerprint:
            raise DataError(
                f"{found}: its data have the fingerprint {dataset.fingerprint[:8]}…, but the run was trained on "
                f"{run.data.source!r} with the fingerprint {run.data.fingerprint[:8]}…; give the source that the run was "
                "trained on, with the options of the training"
            )
    except VaelabError as error:
        if source is not None:
            raise
        return None, f"The map has no images: {error}"
    return dataset, None


def held_out(dataset: Dataset, most: int) -> HeldOut:
    """Return a random sample of at most `most` held-out images."""
    name, split = next(
        (name, split)
        for name, split in (("test", dataset.test), ("validation", dataset.validation), ("train", dataset.train))
        if len(split)
    )
    chosen = split[np.random.default_rng(SEED).permutation(len(split))[:most]]
    return HeldOut(chosen.images, chosen.labels, name)
