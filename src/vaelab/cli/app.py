"""Shared by the commands: the app, the options of a data source, and loading what a command needs of it."""

from __future__ import annotations

import time

STARTED = time.perf_counter()  # the wall time printed at the end counts from here, imports included

from collections.abc import Callable  # noqa: E402
from dataclasses import dataclass, fields  # noqa: E402
from importlib import import_module  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args  # noqa: E402

from cyclopts import App, ArgumentCollection, Group, Parameter  # noqa: E402

from vaelab.errors import ConfigError, DataError, printable  # noqa: E402
from vaelab.run_folder import expect_run  # noqa: E402
from vaelab.spelling import option, with_options  # noqa: E402
from vaelab.version import __version__  # noqa: E402

if TYPE_CHECKING:
    from vaelab.data import Dataset
    from vaelab.inference.trained import TrainedModel
    from vaelab.progress import Report
    from vaelab.runs import Run

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
    """Skip image files that cannot be read, and report how many, instead of stopping at the first. Default: as for the run, if
    there is a run."""

    white: float | None = None
    """Stored value of white, for grey images whose levels do not use all bits: 4095 for 12 bits, 1 for masks of 0 and 1.
    Default: that of the run, if it was given there; else what the format or the file states."""

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


def given_options(options: SourceOptions | None) -> dict[str, Any]:
    """Return the options that differ from their defaults, as options of `load_dataset`."""
    values, defaults = options or SourceOptions(), SourceOptions()
    every = {field.name: getattr(values, field.name) for field in fields(values)}
    return {name: value for name, value in every.items() if value != getattr(defaults, name)}


def source_arguments(options: SourceOptions | None) -> list[str]:
    """Return the options that differ from their defaults, as words of a command line."""
    given = given_options(options).items()
    return [word for name, value in given for word in ([option(name)] if value is True else [option(name), str(value)])]


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
    from vaelab.data import load_dataset

    return _with_notes(source, lambda report: load_dataset(source, **given_options(options), progress=report))


def load_for_run(
    run: Path, source: str, options: SourceOptions | None, *, any_class: bool = False, every: bool = False
) -> Dataset:
    """Load a data source like `load_source`, as the data of a run where no options are given.

    Classes of the source that the run does not have are left out, unless it has none of them or `any_class` is true. If `every`
    image is used, notes on splits are not printed.
    """
    from vaelab.data import of_run

    given = given_options(options)
    return _with_notes(
        source,
        lambda report: of_run.load_for_run(run, source, given, any_class=any_class, progress=report),
        without=SPLIT_NOTES if every else (),
    )


def load_data_of_run(run: Path, source: str, options: SourceOptions | None) -> Dataset:
    """Load the data that a run was trained on like `load_for_run`, and with the limit of its training if they need one."""
    from vaelab.data import of_run

    given = given_options(options)
    return _with_notes(source, lambda report: of_run.load_data_of_run(run, source, given, progress=report))


def data_of_run(run: Run, options: SourceOptions | None, command: str) -> Dataset:
    """Load the data that a run was trained on by their name: a built-in name, or a file or folder in the current folder.

    Raises
    ------
    DataError
        If they are not found, or are other data; the message names the `command` that gives their source.
    """
    from vaelab.data.sources import found_again

    name = run.data.source
    found = found_again(name)
    if found is None:
        raise DataError(
            f"{run.folder}: was trained on {name!r}, which is neither a built-in name nor in the current folder; give its "
            f"source: {command}"
        )
    dataset = load_data_of_run(run.folder, found, options)
    if dataset.fingerprint != run.data.fingerprint:
        raise DataError(
            f"{run.folder}: was trained on {name!r} with fingerprint {run.data.fingerprint[:8]}…, but {found!r} has "
            f"{dataset.fingerprint[:8]}…; give the same data: {command}, with the options of the training"
        )
    return dataset


SPLIT_NOTES = ("Held out ", "Used the source's ", "The source has no training images")
"""Beginnings of notes on splits."""


def _with_notes(source: str, load: Callable[[Report], Dataset], without: tuple[str, ...] = ()) -> Dataset:
    """Load a dataset with progress, and print its notes, except for those that begin in one of these ways."""
    from vaelab.progress import say, work_bar

    with work_bar(waiting=f"loading {source}") as report:
        dataset = load(report)
    for note in dataset.notes:
        if not note.startswith(without or ("\0",)):
            say(with_options(note))
    return dataset


def split_name(dataset: Dataset, split: SplitName | None) -> SplitName:
    """Return a split that has images; by default the test split, or all images if it is empty.

    Raises
    ------
    DataError
        If the split has no images.
    """
    if split is None:
        return "test" if len(dataset.test) else "all"
    if not dataset.count(split):
        raise DataError(f"{dataset.name}: got no {split} images; expected some: give --split all")
    return split


def nats_text(distortion: float, rate: float, autoencoder: bool) -> str:
    """Return nats per image as text: −ELBO with its parts, or the distortion of an autoencoder."""
    if autoencoder:
        return f"{distortion:.2f} nats of distortion"
    return f"−ELBO {distortion + rate:.2f} nats (distortion {distortion:.2f} + rate {rate:.2f})"
