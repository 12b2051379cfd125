"""What the commands share: the app itself, the options of a source, and the parts of it that a command asks for."""

from __future__ import annotations

import time

STARTED = time.perf_counter()  # a budget in seconds counts from the command, imports included

from dataclasses import asdict, dataclass, fields  # noqa: E402
from typing import TYPE_CHECKING, Annotated, Literal, get_args  # noqa: E402

from cyclopts import App, ArgumentCollection, Parameter  # noqa: E402

from vaelab.errors import ConfigError, DataError  # noqa: E402
from vaelab.version import __version__  # noqa: E402

if TYPE_CHECKING:
    import numpy as np

    from vaelab.data import Dataset
    from vaelab.inference.trained import TrainedModel

INTERRUPTED = 130


def option(field_name: str) -> str:
    """Return the command line's spelling of a parameter, such as `--latent-dim`."""
    return "--" + field_name.replace("_", "-")


Fit = Literal["crop", "pad"]
SplitName = Literal["train", "validation", "test", "all"]


def _expect_whole_numbers(_: App, __: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Refuse a fraction for a whole number, which the reader of the command line would round."""
    for argument in arguments:
        if int in (argument.hint, *get_args(argument.hint)):
            for token in argument.tokens:
                if "." in token.value:
                    raise ConfigError(f"{argument.name}: got {token.value}; expected a whole number")


app = App(
    name="vaelab",
    version=__version__,
    help="Train autoencoders, VAEs and conditional VAEs on images, and generate the label you ask for.",
    config=_expect_whole_numbers,
)


@dataclass(frozen=True)
class SourceOptions:
    """How a source is read: the same options for every command that takes one."""

    size: str | None = None
    """Bring every image to this size in pixels: 32, or 32x48 for height 32 and width 48."""

    fit: Fit = "crop"
    """How another aspect is brought to the size: crop cuts, pad fills."""

    skip_broken: Annotated[bool, Parameter(negative=())] = False
    """Leave out image files that cannot be read, and say how many, instead of stopping at the first."""

    limit: int | None = None
    """Keep at most so many training images, each class thinned alike; validation and test images stay."""

    classes: str | None = None
    """Keep only these classes, in this order: names with commas between them."""


Options = Annotated[SourceOptions | None, Parameter(name="*")]


def source_arguments(options: SourceOptions | None) -> list[str]:
    """The options that differ from their defaults, as they are typed."""
    given, default = options or SourceOptions(), SourceOptions()
    changed = [field.name for field in fields(given) if getattr(given, field.name) != getattr(default, field.name)]
    words = {name: () if getattr(given, name) is True else (str(getattr(given, name)),) for name in changed}
    return [word for name in changed for word in (option(name), *words[name])]


def load_source(source: str, options: SourceOptions | None) -> Dataset:
    """The data of a source, its notes said, a bar shown while it is read."""
    from vaelab.data import load_dataset
    from vaelab.progress import say, work_bar

    with work_bar() as report:
        dataset = load_dataset(source, **asdict(options or SourceOptions()), progress=report)
    for note in dataset.notes:
        say(note)
    return dataset


def part_of(
    model: TrainedModel, dataset: Dataset, split: SplitName
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None, np.ndarray]:
    """Images of a split, their labels as the model counts them and as the data do, and the name of the split of each."""
    import numpy as np

    names = ("train", "validation", "test") if split == "all" else (split,)
    parts = {name: getattr(dataset, name) for name in names}
    if not any(map(len, parts.values())):
        raise DataError(f"{dataset.name}: got no {split} images; expected some: give --split all")
    images = np.concatenate([part.images for part in parts.values()])
    own = np.concatenate([part.labels for part in parts.values()]) if dataset.labelled else None
    labels = model.matched_labels(own, dataset.classes)
    return images, labels, own, np.concatenate([np.full(len(part), name) for name, part in parts.items()])


def nats_text(distortion: float, rate: float, autoencoder: bool) -> str:
    """Nats per image in words."""
    if autoencoder:
        return f"{distortion:.2f} nats of distortion"
    return f"−ELBO {distortion + rate:.2f} nats (distortion {distortion:.2f} + rate {rate:.2f})"
