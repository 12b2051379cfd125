"""The images that a command is given one by one: files, or places in a source such as mnist:test:12."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from vaelab.cli.app import SourceOptions, load_source
from vaelab.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import numpy as np

    from vaelab.data import Dataset
    from vaelab.inference.trained import TrainedModel

PLACE = re.compile(r"(?P<source>.+?)(?::(?P<split>train|validation|test))?:(?P<index>\d+)")


PartName = Literal["train", "validation", "test"]
SPLITS = get_args(PartName)


def _is_source(text: str) -> bool:
    """Whether `text` names a built-in source, or something here that could be one."""
    from vaelab.data import BUILTIN
    from vaelab.data.table import SUFFIXES

    path = Path(text).expanduser()
    return text in BUILTIN or path.is_dir() or (path.is_file() and path.suffix.lower() in (".npz", *SUFFIXES))


class Seen(NamedTuple):
    """An image, uint8 (H, W) or (H, W, 3), the label that its source gives it as the model counts them, and its name."""

    image: np.ndarray
    label: int | None
    name: str


class Reader:
    """Reads images for a model."""

    def __init__(self, model: TrainedModel, options: SourceOptions | None, *, prepare: bool) -> None:
        from vaelab.inference.latents import expect_images

        self.model, self.options, self.prepare = model, options, prepare
        self.datasets: dict[str, Dataset] = {}
        expect_images(model)
        self.channels, H, W = model.model.shape
        self.size = (H, W)
        if prepare and self.channels == 3:
            raise DataError(
                "--prepare: got a model of RGB images; expected one of grey images, as MNIST's are: leave it out"
            )

    def one(self, text: str) -> Seen:
        """The image that `text` names: a file, or SOURCE:INDEX or SOURCE:SPLIT:INDEX (test, where no split is named)."""
        place = PLACE.fullmatch(text)
        if place is None or Path(text).exists():
            return self._file(text)
        source, _, split = place["source"].rpartition(":")
        if source and _is_source(source) and not _is_source(place["source"]):
            raise DataError(
                f"{text}: got the split {split!r}; expected {', '.join(SPLITS[:-1])} or {SPLITS[-1]}."
                f"{did_you_mean(split, SPLITS)}"
            )
        dataset, split = self.dataset(place["source"]), place["split"] or "test"
        part, index = getattr(dataset, split), int(place["index"])
        if index >= len(part):
            raise DataError(
                f"{text}: got index {index}, but {dataset.name} has {len(part):,} {split} images; expected less"
            )
        return self._of_source(dataset, part.images[index], None if part.labels is None else part.labels[index], text)

    def several(self, text: str, split: PartName, count: int) -> list[Seen]:
        """The image that `text` names; or, of a source, `count` images spread evenly over a split."""
        from vaelab.cli.outputs import spread
        from vaelab.data.formats import EXTENSIONS

        file = Path(text).suffix.lower() in EXTENSIONS and not Path(text).is_dir()
        if file or (PLACE.fullmatch(text) is not None and not Path(text).exists()):
            return [self.one(text)]
        if Path(text).suffix and not _is_source(text):
            got = f"a file of kind {Path(text).suffix}" if Path(text).is_file() else "no such file or source"
            raise DataError(
                f"{text}: got {got}; expected an image file ({', '.join(sorted(EXTENSIONS))}), a place such as mnist:test:12, "
                f"or a source: a built-in name, a folder, an .npz file or a table of paths"
            )
        dataset = self.dataset(text)
        part = getattr(dataset, split)
        if not len(part):
            raise DataError(f"{dataset.name}: got no {split} images; expected some: give another --split")
        return [
            self._of_source(
                dataset, part.images[i], None if part.labels is None else part.labels[i], f"{text}:{split}:{i}"
            )
            for i in spread(len(part), count)
        ]

    def dataset(self, source: str) -> Dataset:
        """The data of a source, read once."""
        if source not in self.datasets:
            self.datasets[source] = load_source(source, self.options)
        return self.datasets[source]

    def _of_source(self, dataset: Dataset, pixels: np.ndarray, label: int | None, name: str) -> Seen:
        import numpy as np

        if pixels.ndim != 3:
            raise DataError(f"{name}: got a row of a table; expected an image")
        image = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)
        if self.prepare:
            image = self._prepared(image, name)
        elif pixels.shape != self.model.model.shape:
            from vaelab.data.layout import describe_shape

            raise DataError(
                f"{name}: got {describe_shape(pixels.shape)}; expected {describe_shape(self.model.model.shape)}, as the model "
                f"was trained on: {self._how_to_fit()}"
            )
        known = label is not None and self.model.conditional
        matched = self.model.matched_labels(np.array([label]), dataset.classes) if known else None
        return Seen(image, None if matched is None else int(matched[0]), name)

    def _file(self, text: str) -> Seen:
        import numpy as np

        from vaelab.data.formats import open_image
        from vaelab.data.resize import fit_image, parse_size

        if self.prepare:
            return Seen(self._prepared(text, text), None, text)
        picture = open_image(text).convert("L" if self.channels == 1 else "RGB")
        if self.options is not None and (size := parse_size(self.options.size)) is not None:
            picture = fit_image(picture, size, self.options.fit)
        if (picture.height, picture.width) != self.size:
            H, W = self.size
            raise DataError(
                f"{text}: got {picture.height}×{picture.width} pixels; expected {H}×{W}, as the model was trained on: "
                f"{self._how_to_fit()}"
            )
        return Seen(np.asarray(picture), None, text)

    def _how_to_fit(self) -> str:
        prepare = ", or --prepare to read a drawing as MNIST was made" if self.channels == 1 else ""
        return f"type --size {self.size[0]}x{self.size[1]} to scale it{prepare}"

    def _prepared(self, image: str | np.ndarray, name: str) -> np.ndarray:
        from vaelab.data.photo import read_drawing
        from vaelab.progress import say

        drawing = read_drawing(image, self.size)
        say(f"{name}: {drawing.told()}")
        return drawing.levels
