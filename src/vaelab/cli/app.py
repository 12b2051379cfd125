"""Shared by the commands: the app, the options of a data source, and loading what a command needs of it."""

from __future__ import annotations

import time

STARTED = time.perf_counter()  # a budget in seconds counts from the start of the command, imports included

from dataclasses import asdict, dataclass, fields  # noqa: E402
from typing import TYPE_CHECKING, Annotated, Literal, get_args  # noqa: E402

from cyclopts import App, ArgumentCollection, Group, Parameter  # noqa: E402

from vaelab.cli.spelling import option, with_options  # noqa: E402
from vaelab.errors import ConfigError, DataError  # noqa: E402
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
    """Scale every image to this size in pixels: 32, or 32x48 for height 32 and width 48."""

    fit: Fit = "crop"
    """How --size treats images of another aspect ratio: crop cuts, pad adds borders."""

    skip_broken: Flag = False
    """Skip image files that cannot be read, and report how many, instead of stopping at the first."""

    limit: int | None = None
    """Maximum number of training images, with class proportions preserved; validation and test images are not reduced."""

    classes: str | None = None
    """Keep only these classes, in this order: names separated by commas."""


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


def load_source(source: str, options: SourceOptions | None) -> Dataset:
    """Load a data source with a progress bar, and print its notes."""
    from vaelab.data import load_dataset
    from vaelab.progress import say, work_bar

    with work_bar() as report:
        dataset = load_dataset(source, **asdict(options or SourceOptions()), progress=report)
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
