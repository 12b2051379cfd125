"""Single images given to a command: files, or images of a data source such as mnist:test:12."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from vaelab.cli.app import SourceOptions, SplitName, given_options, load_for_run, load_source, split_name
from vaelab.errors import DataError, LabelError, counted, did_you_mean
from vaelab.run_folder import recorded_data

if TYPE_CHECKING:
    import numpy as np

    from vaelab.data import Dataset
    from vaelab.inference.given import Given, GivenImages
    from vaelab.inference.latents import Placed
    from vaelab.inference.trained import TrainedModel

REFERENCE = re.compile(r"(?P<source>.+?)(?::(?P<split>train|validation|test|all))?:(?P<index>\d+)", re.DOTALL)
"""An image of a data source: SOURCE:INDEX or SOURCE:SPLIT:INDEX."""

SPLITS = get_args(SplitName)


def _is_source(text: str) -> bool:
    """Return whether `text` is a built-in name, or an existing folder or file that can be a data source."""
    from vaelab.data import BUILTIN
    from vaelab.data.sources import SUFFIXES

    path = Path(text).expanduser()
    return text in BUILTIN or path.is_dir() or (path.is_file() and path.suffix.lower() in SUFFIXES)


def is_single(text: str) -> bool:
    """Return whether `text` is an image file or an image of a source, not a source."""
    from vaelab.data.formats import EXTENSIONS

    is_file = Path(text).suffix.lower() in EXTENSIONS and not Path(text).is_dir()
    return is_file or (REFERENCE.fullmatch(text) is not None and not Path(text).exists())


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
        """Return the image of a file, or of SOURCE:INDEX (of the default split) or SOURCE:SPLIT:INDEX."""
        reference = REFERENCE.fullmatch(text)
        if reference is None or Path(text).exists():
            return self._file(text)
        source, _, split = reference["source"].rpartition(":")
        if source and _is_source(source) and not _is_source(reference["source"]):
            raise DataError(
                f"{text}: got the split {split!r}; expected {', '.join(SPLITS[:-1])} or {SPLITS[-1]}."
                f"{did_you_mean(split, SPLITS)}"
            )
        dataset = self.dataset(reference["source"], any_class=True)
        split: Any = reference["split"] or split_name(dataset, None)
        part, index = dataset.part(split), int(reference["index"])
        if index >= len(part):
            raise DataError(
                f"{text}: got index {index}, but {dataset.name} has {len(part):,} {split} images; expected a smaller index, or "
                "another split, such as SOURCE:train:0"
            )
        return self._of_source(dataset, part.images[index], None if part.labels is None else part.labels[index], text)

    def several(self, text: str, split: SplitName | None, count: int) -> list[InputImage]:
        """Return the image of a file or reference, or `count` images spread evenly over a split of a data source."""
        from vaelab.cli.outputs import spread
        from vaelab.data.formats import EXTENSIONS

        if is_single(text):
            return [self.one(text)]
        if Path(text).suffix and not _is_source(text):
            got = f"a file of kind {Path(text).suffix}" if Path(text).is_file() else "no such file or source"
            raise DataError(
                f"{text}: got {got}; expected an image file ({', '.join(sorted(EXTENSIONS))}), an image of a source, such "
                "as mnist:test:12, or a source: a built-in name, a folder, or an .npz, .csv, .parquet or .tar file"
            )
        dataset = self.dataset(text, any_class=self.labels_given)
        name = split_name(dataset, split)
        part = dataset.part(name)
        labels = [None] * len(part) if part.labels is None else part.labels.tolist()
        paths = None if part.paths is None else part.paths.tolist()
        return [
            self._of_source(dataset, part.images[i], labels[i], f"{text}:{name}:{i}" if paths is None else paths[i])
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
        loading = self._loading(text)
        picture = open_image(text, self.options.max_pixels, loading.get("white"))
        picture = picture.convert("L" if self.channels == 1 else "RGB")
        if parse_size(self.options.size) not in (None, self.size):
            H, W = self.size
            raise DataError(
                f"--size: got {self.options.size} for a model of {H}×{W} images; leave it out: {text} is scaled"
            )
        if (picture.height, picture.width) != self.size:
            H, W = self.size
            fit = loading.get("fit", "crop")
            how = "" if picture.height * W == picture.width * H else ", cropped" if fit == "crop" else ", padded"
            say(
                f"{text}: scaled from {picture.height}×{picture.width} to {H}×{W} pixels, the size of the model's images{how}"
            )
            picture = fit_image(picture, self.size, fit)
        return InputImage(np.asarray(picture), None, text)

    def _loading(self, text: str) -> dict[str, Any]:
        """Return the options for an image file: those given, else those of the run's data."""
        from vaelab.data.of_run import recorded_options

        return recorded_options(recorded_data(self.run), given_options(self.options), text)

    def _hint(self) -> str:
        prepare = ", or --prepare to convert a drawing to the format of MNIST" if self.channels == 1 else ""
        return f"use --size {self.size[0]}x{self.size[1]} to scale it{prepare}"

    def _prepared(self, image: str | np.ndarray, name: str) -> np.ndarray:
        from vaelab.data.photo import read_drawing
        from vaelab.progress import say

        drawing = read_drawing(image, self.size, self.options.max_pixels, self._loading(name).get("white"))
        say(f"{name}: {drawing.told()}")
        return drawing.levels


def stack(images: Sequence[InputImage]) -> np.ndarray:
    """Return images as one array, (N, H, W) or (N, H, W, 3)."""
    import numpy as np

    return np.stack([image.image for image in images])


def report_inferred(model: TrainedModel, images: Sequence[InputImage], placed: Placed) -> None:
    """Print the labels that the model inferred for images without one."""
    import numpy as np

    from vaelab.progress import say

    if placed.labels is None or placed.probabilities is None:
        return
    for image, label, probability in zip(images, placed.labels, placed.probabilities, strict=True):
        if not np.isnan(probability):
            say(f"{image.name}: read as {model.classes[label]}")


def open_images(
    run: Path,
    model: TrainedModel,
    texts: Sequence[str],
    options: SourceOptions | None,
    *,
    split: SplitName | None,
    label: Sequence[str] | None = None,
    count: int | None = None,
    any_label: bool = False,
) -> Given:
    """Return the images of a data source, or image files and images of sources, for a model; they are read when they are needed.

    Parameters
    ----------
    split
        Split of a source. Default: test, or all if that is empty.
    label
        Labels of the images: one for all, or one for each. Default: those of the source, else the model infers them.
    count
        Maximum number of images of a source that is not the only one. Default: all of them.
    any_label
        Whether the model needs no labels, so that images of classes that it does not know are read, too.
    """
    from vaelab.inference.given import given_arrays, given_source

    if len(texts) == 1 and not is_single(texts[0]):
        any_class = any_label or bool(label)
        dataset = load_for_run(run, texts[0], options, any_class=any_class, every=split == "all")
        name = split_name(dataset, split)
        labels = each_label(label, dataset.count(name)) if label else None
        return given_source(model, dataset, name, source=texts[0], labels=labels, any_label=any_label)
    reader = Reader(run, model, options, prepare=False, labels_given=any_label or bool(label))
    read = [image for text in texts for image in reader.several(text, split, count or 10**9)]
    labels = each_label(label, len(read)) if label else [image.label for image in read]
    return given_arrays(model, stack(read), labels, [image.name for image in read])


def read_images(
    run: Path,
    model: TrainedModel,
    texts: Sequence[str],
    options: SourceOptions | None,
    *,
    split: SplitName | None,
    label: Sequence[str] | None = None,
    count: int | None = None,
) -> GivenImages:
    """Read images like `open_images`, of a source at most `count`, spread evenly over the split."""
    import numpy as np

    from vaelab.cli.outputs import spread
    from vaelab.progress import work_bar

    given = open_images(run, model, texts, options, split=split, label=label, count=count)
    only_source = len(texts) == 1 and not is_single(texts[0])
    with work_bar(waiting="inferring the labels"):
        images = given.read(spread(given.count, count or given.count) if only_source else np.arange(given.count))
    if images.labels is not None and "inferred" in images.facts:
        say_inferred(model, np.bincount(images.labels[images.facts["inferred"]], minlength=len(model.classes)))
    return images


def say_inferred(model: TrainedModel, counts: np.ndarray) -> None:
    """Print the number of images of each label that the model inferred, (K,), if there are any."""
    import numpy as np

    from vaelab.progress import say

    if counts.any():
        order = [k for k in np.argsort(-counts, kind="stable")[:10] if counts[k]]
        read_as = ", ".join(f"{counts[k]:,} {model.classes[k]}" for k in order)
        total = counted(int(counts.sum()), "image")
        say(f"read the labels of {total} with the model: {read_as}; use --label to set them")


def each_label(label: Sequence[str], count: int) -> list[str]:
    """Return the label of each of `count` images, from one for all or one for each."""
    if len(label) not in (1, count):
        raise LabelError(
            f"--label: got {counted(len(label), 'label')} for {counted(count, 'image')}; expected one for all, or one for each"
        )
    return list(label) * count if len(label) == 1 else list(label)
