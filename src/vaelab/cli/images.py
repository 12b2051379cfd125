"""Single images given to a command: files, or images of a data source such as mnist:test:12."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

from vaelab.cli.app import SourceOptions, load_for_run, load_source
from vaelab.errors import DataError, did_you_mean
from vaelab.run_folder import recorded_data

if TYPE_CHECKING:
    import numpy as np

    from vaelab.data import Dataset
    from vaelab.inference.latents import Placed
    from vaelab.inference.trained import TrainedModel

REFERENCE = re.compile(r"(?P<source>.+?)(?::(?P<split>train|validation|test))?:(?P<index>\d+)")
"""An image of a data source: SOURCE:INDEX or SOURCE:SPLIT:INDEX."""

PartName = Literal["train", "validation", "test"]
SPLITS = get_args(PartName)


def _is_source(text: str) -> bool:
    """Return whether `text` is a built-in name, or an existing folder or file that can be a data source."""
    from vaelab.data import BUILTIN
    from vaelab.data.table import SUFFIXES

    path = Path(text).expanduser()
    return text in BUILTIN or path.is_dir() or (path.is_file() and path.suffix.lower() in (".npz", *SUFFIXES))


def expect_images(*texts: str | None) -> None:
    """Refuse image files and sources that do not exist, before PyTorch is imported."""
    from vaelab.data.formats import EXTENSIONS, open_image
    from vaelab.data.sources import expect_source

    for text in texts:
        if text is None or Path(text).exists():
            continue
        if reference := REFERENCE.fullmatch(text):
            if not (source := reference["source"].rpartition(":")[0]) or not _is_source(source):
                expect_source(reference["source"])
        elif Path(text).suffix.lower() in EXTENSIONS:
            open_image(text)


class InputImage(NamedTuple):
    """An image, uint8 (H, W) or (H, W, 3), its class name in the model if its source has labels, its name."""

    image: np.ndarray
    label: str | None
    name: str


class Reader:
    """Read images for a model.

    Parameters
    ----------
    run
        Run folder of the model.
    model
        A model of images.
    options
        Options of the data sources; images are brought to the size of the model's unless they say otherwise.
    prepare
        Convert the images to the format of MNIST (`vaelab.prepare`).
    labels_given
        The images have other labels than those of their sources, of which all classes are read then.
    """

    def __init__(
        self,
        run: Path,
        model: TrainedModel,
        options: SourceOptions | None,
        *,
        prepare: bool,
        labels_given: bool = False,
    ) -> None:
        from vaelab.inference.latents import expect_images

        self.run, self.model, self.options, self.prepare = run, model, options or SourceOptions(), prepare
        self.labels_given = labels_given
        self.datasets: dict[tuple[str, bool], Dataset] = {}
        expect_images(model)
        self.channels, H, W = model.model.shape
        self.size = (H, W)
        if prepare and self.channels == 3:
            raise DataError(
                "--prepare: got a model of RGB images; expected a model of grey images, like those of MNIST: leave it out"
            )

    def one(self, text: str) -> InputImage:
        """Return the image of a file, or of SOURCE:INDEX (of the test split) or SOURCE:SPLIT:INDEX."""
        reference = REFERENCE.fullmatch(text)
        if reference is None or Path(text).exists():
            return self._file(text)
        source, _, split = reference["source"].rpartition(":")
        if source and _is_source(source) and not _is_source(reference["source"]):
            raise DataError(
                f"{text}: got the split {split!r}; expected {', '.join(SPLITS[:-1])} or {SPLITS[-1]}."
                f"{did_you_mean(split, SPLITS)}"
            )
        dataset, split = self.dataset(reference["source"], any_class=True), reference["split"] or "test"
        part, index = getattr(dataset, split), int(reference["index"])
        if index >= len(part):
            raise DataError(
                f"{text}: got index {index}, but {dataset.name} has {len(part):,} {split} images; expected a smaller index"
            )
        return self._of_source(dataset, part.images[index], None if part.labels is None else part.labels[index], text)

    def several(self, text: str, split: PartName, count: int) -> list[InputImage]:
        """Return the image of a file or reference, or `count` images spread evenly over a split of a data source."""
        from vaelab.cli.outputs import spread
        from vaelab.data.formats import EXTENSIONS

        is_file = Path(text).suffix.lower() in EXTENSIONS and not Path(text).is_dir()
        if is_file or (REFERENCE.fullmatch(text) is not None and not Path(text).exists()):
            return [self.one(text)]
        if Path(text).suffix and not _is_source(text):
            got = f"a file of kind {Path(text).suffix}" if Path(text).is_file() else "no such file or source"
            raise DataError(
                f"{text}: got {got}; expected an image file ({', '.join(sorted(EXTENSIONS))}), an image of a source, such "
                "as mnist:test:12, or a source: a built-in name, a folder, an .npz file or a table of paths"
            )
        dataset = self.dataset(text, any_class=self.labels_given)
        part = getattr(dataset, split)
        if not len(part):
            raise DataError(f"{dataset.name}: got no {split} images; expected some: use another --split")
        return [
            self._of_source(
                dataset, part.images[i], None if part.labels is None else part.labels[i], f"{text}:{split}:{i}"
            )
            for i in spread(len(part), count)
        ]

    def dataset(self, source: str, *, any_class: bool) -> Dataset:
        """Return the data of a source, which is loaded once; with `any_class`, also images of classes that the run lacks."""
        if (source, any_class) not in self.datasets:
            if self.prepare:  # which scales drawings itself, from their full size
                dataset = load_source(source, self.options)
            else:
                dataset = load_for_run(self.run, source, self.options, any_class=any_class)
            self.datasets[source, any_class] = dataset
        return self.datasets[source, any_class]

    def _of_source(self, dataset: Dataset, pixels: np.ndarray, label: int | None, name: str) -> InputImage:
        import numpy as np

        if pixels.ndim != 3:
            raise DataError(f"{name}: got a row of a table; expected an image")
        image = pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)
        if self.prepare:
            image = self._prepared(image, name)
        elif pixels.shape != self.model.model.shape:
            from vaelab.data.layout import describe_shape

            raise DataError(
                f"{name}: got {describe_shape(pixels.shape)}; expected {describe_shape(self.model.model.shape)}, the shape of "
                f"the training images: {self._hint()}"
            )
        labelled = label is not None and self.model.conditional and not self.labels_given
        matched = self.model.matched_labels(np.array([label]), dataset.classes) if labelled else None
        return InputImage(image, None if matched is None else self.model.classes[matched[0]], name)

    def _file(self, text: str) -> InputImage:
        import numpy as np

        from vaelab.data.formats import open_image
        from vaelab.data.resize import fit_image, parse_size
        from vaelab.progress import say

        if self.prepare:
            return InputImage(self._prepared(text, text), None, text)
        picture = open_image(text, self.options.max_pixels).convert("L" if self.channels == 1 else "RGB")
        if parse_size(self.options.size) not in (None, self.size):
            H, W = self.size
            raise DataError(
                f"--size: got {self.options.size} for a model of {H}×{W} images; leave it out: {text} is scaled"
            )
        if (picture.height, picture.width) != self.size:
            H, W = self.size
            fit = self.options.fit or recorded_data(self.run).get("fit", "crop")
            how = "" if picture.height * W == picture.width * H else ", cropped" if fit == "crop" else ", padded"
            say(
                f"{text}: scaled from {picture.height}×{picture.width} to {H}×{W} pixels, the size of the model's images{how}"
            )
            picture = fit_image(picture, self.size, fit)
        return InputImage(np.asarray(picture), None, text)

    def _hint(self) -> str:
        prepare = ", or --prepare to convert a drawing to the format of MNIST" if self.channels == 1 else ""
        return f"use --size {self.size[0]}x{self.size[1]} to scale it{prepare}"

    def _prepared(self, image: str | np.ndarray, name: str) -> np.ndarray:
        from vaelab.data.photo import read_drawing
        from vaelab.progress import say

        drawing = read_drawing(image, self.size, self.options.max_pixels)
        say(f"{name}: {drawing.told()}")
        return drawing.levels


def stack(images: Sequence[InputImage]) -> np.ndarray:
    """Return images as one array, (N, H, W) or (N, H, W, 3)."""
    import numpy as np

    return np.stack([image.image for image in images])


def report_inferred(model: TrainedModel, images: Sequence[InputImage], placed: Placed) -> None:
    """Print the labels that the model inferred for images without one."""
    import numpy as np

    from vaelab.inference.explore import percent
    from vaelab.progress import say

    if placed.labels is None or placed.probabilities is None:
        return
    for image, label, probability in zip(images, placed.labels, placed.probabilities, strict=True):
        if not np.isnan(probability):
            say(f"{image.name}: read as {model.classes[label]} ({percent(probability)})")
