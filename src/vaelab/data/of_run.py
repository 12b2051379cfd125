"""Load a source as the data of a run: with what the run records of its data, unless an option is given.

A run records the name of its source, but not its location. What protects the reader of a source, such as its limits, is not
recorded: a run may come from a stranger.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np

from vaelab.data.arrays import has_own_test
from vaelab.data.builtin import BUILTIN
from vaelab.data.dataset import Dataset, Loading
from vaelab.data.resize import Fit, Progress, resize_dataset
from vaelab.data.select import Selection, select_from
from vaelab.data.sources import found_again, is_of_image_files, load_dataset
from vaelab.errors import DataError
from vaelab.run_folder import recorded_data

Source = str | os.PathLike[str]


def recorded_options(recorded: Mapping[str, Any], given: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """Return the options of `load_dataset` for a source: those `given`, else those with which the data of a run were loaded.

    Parameters
    ----------
    recorded
        What the run records of its data, as `recorded_data` returns it.
    given
        Options that differ from their defaults.
    source
        The source. White is not taken over for built-in sources, which state theirs.
    """
    options = {name: recorded[name] for name in Loading._fields if name in recorded}
    if source in BUILTIN and source != recorded.get("source"):
        options.pop("white", None)
    return options | dict(given)


def load_for_run(
    run: Path,
    source: Source,
    given: Mapping[str, Any] | None = None,
    *,
    any_class: bool = False,
    progress: Progress | None = None,
) -> Dataset:
    """Load a source for a run: at the size, with the options and with the classes of its data where `given` has none.

    Classes of the source that the run does not have are left out, unless it has none of them or `any_class` is true.
    """
    recorded = recorded_data(run)
    dataset = _loaded(recorded, source, given or {}, progress)
    kept = tuple(name for name in recorded.get("classes", ()) if name in dataset.classes)
    if not any_class and "classes" not in (given or {}) and 0 < len(kept) < len(dataset.classes):
        dataset = select_from(dataset, Selection(kept), 0)
    return dataset


def load_data_of_run(
    run: str | os.PathLike[str],
    source: Source | None = None,
    given: Mapping[str, Any] | None = None,
    *,
    progress: Progress | None = None,
) -> Dataset:
    """Load the data that a run was trained on.

    Parameters
    ----------
    run
        Run folder.
    source
        Their source. Default: the source with the recorded name, if it is built in or in the current folder.
    given
        Options of `load_dataset` that differ from those of the training.
    progress
        As for `load_dataset`.

    Returns
    -------
    Dataset
        With the fingerprint that the run records, if the source has the same images still.

    Raises
    ------
    DataError
        If there is no such source, or it cannot be read.
    """
    folder = Path(run)
    recorded, given = recorded_data(folder), given or {}
    source = source_of(folder) if source is None else source
    dataset = load_for_run(folder, source, given, progress=progress)
    for more in _attempts(recorded, given, source, dataset):
        if dataset.fingerprint == recorded.get("fingerprint"):
            break
        other = _loaded(recorded, source, more, progress)
        dataset = other if other.fingerprint == recorded.get("fingerprint") else dataset
    return dataset


def source_of(run: Path) -> str:
    """Return the source of the data of a run by the recorded name; a DataError unless it is built in or in the current folder."""
    name = recorded_data(run).get("source", "")
    if (source := found_again(name)) is None:
        raise DataError(
            f"{run}: was trained on {name!r}, which is neither a built-in name nor in the current folder; give its `source`"
        )
    return source


def not_trained_on(other: Dataset, fingerprint: str) -> list[np.ndarray]:
    """Return images that a model trained on data with this fingerprint was not trained on, in parts that may exceed memory.

    They are the test images of a source that has its own, else all its images; of the same data, the test images.
    """
    if has_own_test(other) or (len(other.test) and other.fingerprint == fingerprint):
        return [other.test.images]
    return [split.images for split in (other.train, other.validation, other.test) if len(split)]


def _attempts(
    recorded: Mapping[str, Any], given: Mapping[str, Any], source: Source, dataset: Dataset
) -> Iterator[dict[str, Any]]:
    """Yield other options with which the data of a run may have been loaded, if those for `dataset` were not right.

    A run does not record a limit, only the number of its training images; one of vaelab 0.1 records neither the fit nor whether
    broken files were skipped, which it did after the split.
    """
    options, classes, count = dict(given), recorded.get("classes", ()), recorded.get("train_count")
    if "classes" not in given and classes and set(classes) <= set(dataset.classes):
        options["classes"] = classes
    if "limit" not in given and count is not None:
        options["limit"] = count
        if len(dataset.train) > count:
            yield options
    if "fit" not in recorded and "fit" not in given and is_of_image_files(os.fspath(source)):
        yield from (options | {"fit": fit} for fit in get_args(Fit)[1:])
    if given.get("skip_broken") is True and "skip_broken" not in recorded:
        yield options | {"skip_broken": "0.1"}


def _loaded(
    recorded: Mapping[str, Any], source: Source, given: Mapping[str, Any], progress: Progress | None
) -> Dataset:
    """Load a source with `recorded_options`, at the size of the run's images unless one is given."""
    options, shape = recorded_options(recorded, given, source), recorded.get("shape", ())
    size = tuple(shape[1:]) if len(shape) == 3 and "size" not in given else None
    if size is not None and is_of_image_files(os.fspath(source)):
        options["size"] = size  # others are selected first: resizing them takes time
    try:
        dataset = load_dataset(source, **options, progress=progress)
    except DataError as error:
        if "as `white` says" not in str(error) or "white" in given or "white" not in options:
            raise
        raise DataError(
            f"{error}; the run was trained with `white={options['white']:g}`: give that of these data"
        ) from None
    if size is not None and len(dataset.shape) == 3 and dataset.shape[1:] != size:
        dataset = resize_dataset(dataset, (size[0], size[1]), options.get("fit", "crop"), progress)
    return dataset
