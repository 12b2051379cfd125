"""Shared by the commands: the app, the options of a data source, and loading what a command needs of it."""

from __future__ import annotations

import time

STARTED = time.perf_counter()  # the wall time printed at the end counts from here, imports included

from collections.abc import Mapping, Sequence  # noqa: E402
from dataclasses import asdict, dataclass, fields, replace  # noqa: E402
from importlib import import_module  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args  # noqa: E402

from cyclopts import App, ArgumentCollection, Group, Parameter  # noqa: E402

from vaelab.cli.spelling import option, with_options  # noqa: E402
from vaelab.errors import ConfigError, DataError, printable  # noqa: E402
from vaelab.run_folder import expect_run, recorded_data  # noqa: E402
from vaelab.version import __version__  # noqa: E402

if TYPE_CHECKING:
    import numpy as np

    from vaelab.data import Dataset
    from vaelab.inference.trained import TrainedModel

INTERRUPTED = 130
"""Exit status after Ctrl-C."""

Fit = Literal["crop", "pad"]
SplitName = Literal["train", "validation", "test", "all"]

Flag = Annotated[bool, Parameter(negative=(), show_default=False)]
"""An option without a value."""

TrustCode = Annotated[
    bool,
    Parameter(
        negative=(),
        show_default=False,
        help="Import the custom networks that the run names, which runs the code of their modules.",
    ),
]
"""Consent of the user, for every command that loads a run."""

GROUPS = {
    name: Group(name, sort_key=rank)
    for rank, name in enumerate(("Data", "Model", "Hierarchy", "Objective", "Training", "Hardware", "Run"))
}
"""Groups of options in the help, in this order."""


def _expect_whole_numbers(_: App, __: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuse a fraction for a whole number, which cyclopts would round."""
    for argument in arguments:
        if int in (argument.hint, *get_args(argument.hint)):
            for token in argument.tokens:
                if "." in token.value:
                    raise ConfigError(f"{argument.name}: got {token.value}; expected a whole number")


app = App(
    name="vaelab",
    version=__version__,
    help="Train autoencoders, VAEs and conditional VAEs on images, and generate images of the label you choose.",
    config=_expect_whole_numbers,
)


@dataclass(frozen=True)
class SourceOptions:
    """Options of a data source, the same for every command that takes one."""

    size: str | None = None
    """Scale every image to this size in pixels: 32, or 32x48 for height 32 and width 48. Default: the size of the run's
    images, if there is a run; else that of the images, or their median side, at most 64, if they differ in size."""

    fit: Fit | None = None
    """How --size treats images of another aspect ratio: crop cuts, pad adds borders. Default: as for the run, else crop."""

    skip_broken: Flag = False
    """Skip image files that cannot be read, and report how many, instead of stopping at the first."""

    white: float | None = None
    """Stored value of white, for grey images whose levels do not use all bits: 4095 for 12 bits, 1 for masks of 0 and 1.
    Default: what the format or the file states."""

    follow_links: Flag = False
    """Follow links in a folder of images that lead out of it, instead of stopping at the first."""

    max_pixels: int | None = None
    """Largest number of pixels of an image file. Default: 64 million."""

    max_bytes: int | None = None
    """Largest size of the decoded images in bytes. Default: 16 GiB, and 250 times the size of compressed files."""

    max_classes: int | None = None
    """Largest number of classes. Default: 10,000."""

    limit: int | None = None
    """Maximum number of training images, with class proportions preserved; validation and test images are not reduced."""

    classes: str | None = None
    """Keep only these classes, in this order: names separated by commas. Default: those of the run, if there is a run; else
    all."""


Options = Annotated[SourceOptions | None, Parameter(name="*", group=GROUPS["Data"])]


def source_arguments(options: SourceOptions | None) -> list[str]:
    """Return the options that differ from their defaults, as words of a command line."""
    values, defaults = options or SourceOptions(), SourceOptions()
    words = []
    for field in fields(values):
        value = getattr(values, field.name)
        if value != getattr(defaults, field.name):
            words += [option(field.name)] if value is True else [option(field.name), str(value)]
    return words


def expect_files(run: Path, source: str | None = None) -> None:
    """Refuse a run or a data source that does not exist, before PyTorch is imported."""
    expect_run(run)
    if source is not None:
        from vaelab.data.sources import expect_source

        expect_source(source)


def import_pytorch(*modules: str) -> None:
    """Import PyTorch, and modules that use it, which takes seconds, with progress; after the checks that do not need it."""
    from vaelab.progress import work_bar

    with work_bar(waiting="importing PyTorch"):
        for name in ("torch", *modules):
            import_module(name)


def load_model(run: Path, trust_code: bool) -> TrainedModel:
    """Load the model of a run with progress, which includes importing PyTorch."""
    import_pytorch("vaelab.cli.outputs")
    from vaelab.inference.trained import load

    return load(run, trust_code=trust_code)


def show(text: str) -> None:
    """Print a line on standard output, with characters that cannot be printed escaped."""
    print(printable(text))


def load_source(source: str, options: SourceOptions | None) -> Dataset:
    """Load a data source with a progress bar, and print its notes."""
    return _with_notes(_loaded(source, options or SourceOptions(), {}))


def load_for_run(run: Path, source: str, options: SourceOptions | None, *, any_class: bool = False) -> Dataset:
    """Load a data source like `load_source`, with the size, fit and classes of a run where the options give none.

    Classes of the source that the run does not have are left out, unless it has none of them or `any_class` is true.
    """
    data = dict(recorded_data(run)) | ({"classes": ()} if any_class else {})
    return _with_notes(_loaded(source, options or SourceOptions(), data))


def load_data_of_run(run: Path, source: str, options: SourceOptions | None) -> Dataset:
    """Load the data that a run was trained on like `load_for_run`, and with the limit of its training if they need one."""
    data, given = recorded_data(run), options or SourceOptions()
    dataset = _loaded(source, given, data)
    if dataset.fingerprint != data.get("fingerprint") and given.limit is None and given.classes is None:
        given = replace(given, limit=data.get("train_count"))
        dataset = _loaded(source, given, data, data.get("classes") or None)  # before the limit, which depends on them
    return _with_notes(dataset)


def _loaded(
    source: str, options: SourceOptions, run: Mapping[str, Any], classes: Sequence[str] | None = None
) -> Dataset:
    """Load a data source; `run` is what a run records of its data, and is used where `options` are not given."""
    from vaelab.progress import work_bar

    shape, fit = tuple(run.get("shape", ())), options.fit or run.get("fit", "crop")
    with work_bar(waiting=f"loading {source}") as report:
        from vaelab.data import load_dataset
        from vaelab.data.resize import resize_dataset
        from vaelab.data.select import Selection, select_from
        from vaelab.data.sources import is_of_image_files

        implied = options.size is None and len(shape) == 3
        size = f"{shape[1]}x{shape[2]}" if implied and is_of_image_files(source) else options.size
        values = asdict(options) | {"size": size, "fit": fit, "classes": options.classes or classes}
        dataset = load_dataset(source, **values, progress=report)
        kept = [name for name in run.get("classes", ()) if name in dataset.classes]
        if options.classes is None and kept and len(kept) < len(dataset.classes):
            dataset = select_from(dataset, Selection(tuple(kept)), 0)
        if implied and len(dataset.shape) == 3 and dataset.shape[1:] != shape[1:]:
            dataset = resize_dataset(dataset, (shape[1], shape[2]), fit, report)
    return dataset


def _with_notes(dataset: Dataset) -> Dataset:
    """Print the notes of a dataset and return it."""
    from vaelab.progress import say

    for note in dataset.notes:
        say(with_options(note))
    return dataset


def images_of_split(
    model: TrainedModel, dataset: Dataset, split: SplitName
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, np.ndarray]:
    """Return the images of a split with labels and split names.

    Returns
    -------
    images : (N, C, H, W) uint8, or (N, D) for a table
    labels : (N,) indices into the model's classes, or None
    data_labels : (N,) indices into the data's classes, or None
    splits : (N,) name of the split of each image
    """
    import numpy as np

    names = ("train", "validation", "test") if split == "all" else (split,)
    parts = {name: getattr(dataset, name) for name in names}
    if not any(map(len, parts.values())):
        raise DataError(f"{dataset.name}: got no {split} images; expected some: give --split all")
    images = np.concatenate([part.images for part in parts.values()])
    data_labels = np.concatenate([part.labels for part in parts.values()]) if dataset.labelled else None
    labels = model.matched_labels(data_labels, dataset.classes)
    return images, labels, data_labels, np.concatenate([np.full(len(part), name) for name, part in parts.items()])


def nats_text(distortion: float, rate: float, autoencoder: bool) -> str:
    """Return nats per image as text: −ELBO with its parts, or the distortion of an autoencoder."""
    if autoencoder:
        return f"{distortion:.2f} nats of distortion"
    return f"−ELBO {distortion + rate:.2f} nats (distortion {distortion:.2f} + rate {rate:.2f})"
