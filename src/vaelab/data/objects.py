"""Make a dataset of Python objects: arrays, tensors, lists of images, and the data sets of PyTorch and Hugging Face.

Objects are known by what they have, so that no library is imported for them:

    tensor          detach, cpu, numpy
    data loader     dataset, batch_size; iterated once, each batch is images or (images, labels)
    Hugging Face    column_names, features; each row has a column of images and possibly one of labels
    data set        __len__, __getitem__ (PyTorch; a list); each item is an image or (image, label)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from vaelab.data.arrays import Part, assemble, channels_first, label_values, listed
from vaelab.data.dataset import Dataset
from vaelab.data.depth import EIGHT_BITS, brightest_level, dark_notes, parse_white, scaled_levels, stored_as
from vaelab.data.formats import flattened
from vaelab.data.layout import as_levels, grey_note
from vaelab.data.names import SPLITS, canonical, class_name, renamed_notes, split_named
from vaelab.data.resize import (
    Fit,
    check_fit,
    common_size,
    common_size_note,
    fit_image,
    fit_note,
    parse_size,
    to_image,
    to_pixels,
)
from vaelab.errors import ConfigError, DataError, counted

COLUMNS = {
    "image": ("images", "img", "imgs", "picture", "pixels", "pixel_values", "x"),
    "label": ("labels", "class", "classes", "category", "target", "targets", "y"),
}
"""Columns of rows, each with other names for it."""

EXPECTED = (
    "expected an array or tensor of images, a list of PIL images, a PyTorch Dataset or DataLoader, a Hugging Face Dataset, "
    "or a dict of these by split"
)


class _Content(NamedTuple):
    """uint8 images (N, C, H, W) or a table, float32 (N, D); labels as given, or None; names of labels that are indices; notes."""

    images: np.ndarray
    labels: Any
    names: tuple[str, ...]
    notes: list[str]


class _Options(NamedTuple):
    """Name of the data for messages, and options for images."""

    where: str
    size: tuple[int, int] | None
    fit: Fit
    white: float | None


def dataset_from(
    data: Any,
    labels: Any = None,
    *,
    name: str = "data",
    size: int | tuple[int, int] | str | None = None,
    fit: Fit = "crop",
    seed: int = 0,
    white: float | None = None,
) -> Dataset:
    """Make a dataset of Python objects.

    Parameters
    ----------
    data
        An array or tensor of images, (N, H, W), (N, H, W, C) or (N, C, H, W), or of rows of a table, (N, D); a list of PIL images
        or arrays; a PyTorch `Dataset` or `DataLoader` that gives images or pairs (image, label); a Hugging Face `Dataset` with a
        column of images and possibly one of labels; a tuple (images, labels) of two of these; or a dict of any of these with the
        names of splits as keys. Images are uint8, or
        floats in [0, 1]. A loader is iterated once, in its order, which should not be random.
    labels
        One label per image, integers or text, if `data` contains none; for a dict, a dict with the same keys. The class names
        are those of `data` (`classes` of PyTorch, `names` of Hugging Face) or the distinct labels.
    name
        Name of the dataset.
    size, fit, seed, white
        As in `load_dataset`.

    Raises
    ------
    DataError
        If `data` is of another kind, or its images or labels are of the wrong shape, type or range.
    ConfigError
        If an option is out of range.
    """
    check_fit(fit)
    if seed < 0:
        raise ConfigError(f"`seed`: got {seed}; expected a whole number of at least 0")
    options = _Options(name, parse_size(size), fit, parse_white(white))
    contents = {}
    for split, (of_split, its_labels) in _by_split(data, labels, name).items():
        content = _content(of_split, its_labels is not None, options)
        contents[split] = content if its_labels is None else content._replace(labels=its_labels)
    numbered, classes = _classes(contents, name)
    parts = {split: Part(content.images, numbered[split]) for split, content in contents.items()}
    shapes = {part.images.shape[1:] for part in parts.values()}
    if len(shapes) > 1:
        raise DataError(f"{name}: got splits of the shapes {listed(list(map(str, shapes)))}; expected one; pass `size`")
    notes = list(dict.fromkeys(note for content in contents.values() for note in content.notes))
    train, validation, test = (parts.get(split) for split in SPLITS)
    return assemble(name, train, validation=validation, test=test, classes=classes, seed=seed, notes=notes)


def _by_split(data: Any, labels: Any, name: str) -> dict[str, tuple[Any, Any]]:
    """Return data and labels by split."""
    if not isinstance(data, Mapping):
        return {"train": _unpaired(data, labels)}
    if labels is not None and (not isinstance(labels, Mapping) or labels.keys() != data.keys()):
        raise DataError(f"{name}: got a dict of data, but not one of labels with the same keys; expected both or none")
    found: dict[str, tuple[Any, Any]] = {}
    for key, of_split in data.items():
        split = split_named(str(key))
        if split is None or split in found:
            raise DataError(f"{name}: got the keys {listed(list(map(str, data)))}; expected train, validation, test")
        found[split] = _unpaired(of_split, None if labels is None else labels[key])
    if not found:
        raise DataError(f"{name}: got an empty dict; {EXPECTED}")
    return found


def _unpaired(data: Any, labels: Any) -> tuple[Any, Any]:
    """Return images and labels of a tuple (images, labels), which has as many of both; else `data` and `labels`."""
    if labels is None and isinstance(data, tuple) and len(data) == 2:
        images, its_labels = map(_as_array, data)
        several = isinstance(images, list) or (isinstance(images, np.ndarray) and images.ndim > 1)
        if several and len(images) == _label_count(its_labels):
            return images, its_labels
    return data, labels


def _label_count(values: Any) -> int:
    """Return the number of labels, or -1 if these are not labels."""
    if isinstance(values, np.ndarray):
        return len(values) if values.ndim == 1 else -1
    return len(values) if isinstance(values, list) and values and isinstance(values[0], int | str | np.generic) else -1


def _content(data: Any, labels_given: bool, options: _Options) -> _Content:
    """Return the images and labels of a split."""
    data = _as_array(data)
    if isinstance(data, list | tuple) and len(data) and _is_number(_first_leaf(data)):
        try:
            data = np.asarray(data)
        except ValueError:
            raise DataError(f"{options.where}: got lists of numbers of different lengths; {EXPECTED}") from None
    if isinstance(data, np.ndarray) and data.dtype.kind in "biuf":
        return _array_content(data, options)
    items, notes = _items(data, options.where)
    names = _class_names(data)
    labels: list[Any] = []

    def images() -> Iterator[Any]:
        for image, label in items:
            if label is not None and labels_given:
                raise DataError(
                    f"{options.where}: got labels in `data` and as `labels`; expected them once; leave out `labels`"
                )
            labels.append(label)
            yield image

    pixels, image_notes = _stacked(images(), options)
    labelled = any(label is not None for label in labels)
    return _Content(pixels, labels if labelled else None, names, [*notes, *image_notes])


def _as_array(data: Any) -> Any:
    """Return a tensor as a NumPy array, and anything else as it is."""
    if all(hasattr(data, method) for method in ("detach", "cpu", "numpy")):
        data = data.detach().cpu()
        try:
            return data.numpy()
        except TypeError:  # a type that NumPy does not have, such as bfloat16
            return data.float().numpy()
    return data


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _first_leaf(data: Any) -> Any:
    while isinstance(data, list | tuple) and len(data):
        data = data[0]
    return data


def _array_content(data: np.ndarray, options: _Options) -> _Content:
    """Return the images or the table of an array."""
    where, size, fit, white = options
    if data.ndim == 2:
        if size is not None or white is not None:
            raise ConfigError(f"{where}: `size` and `white` are for images; got a table of {data.shape[1]} columns")
        with np.errstate(over="ignore"):  # `Split` refuses infinity
            return _Content(data.astype(np.float32), None, (), [])
    levels, notes = _levels(channels_first(data, where), where, white)
    if size is not None and size != levels.shape[2:]:
        notes.append(fit_note([levels.shape[2:]] * len(levels), size, fit) or "")
        levels = np.stack([_fitted(pixels, size, fit) for pixels in levels])
    return _Content(levels, None, (), notes)


def _levels(images: np.ndarray, where: str, white: float | None) -> tuple[np.ndarray, list[str]]:
    """Convert images to uint8; also return notes."""
    if white is not None:
        return scaled_levels(images, white, where), []
    notes = ["Scaled floating-point images from [0, 1] to 0…255 and rounded them."] if images.dtype.kind == "f" else []
    levels = as_levels(images, f"{where}: ")
    return levels, [*notes, *dark_notes([(brightest_level(levels), EIGHT_BITS)])]


def _items(data: Any, where: str) -> tuple[Iterator[tuple[Any, Any]], list[str]]:
    """Return images and labels (None if it has none) of a loader or data set, and notes."""
    if hasattr(data, "dataset") and hasattr(data, "batch_size"):
        return _of_batches(data, where), []
    sequence = hasattr(data, "__len__") and hasattr(data, "__getitem__")
    if not sequence or isinstance(data, str | bytes | Mapping | np.ndarray | np.generic):
        got = "iterator; pass list(data)" if isinstance(data, Iterator) else type(data).__name__
        raise DataError(f"{where}: got a value of type {got}; {EXPECTED}")
    rows = (data[i] for i in range(len(data)))
    columns, notes = None, []
    if hasattr(data, "column_names") and hasattr(data, "features"):
        columns = _columns(list(data.column_names), where)
        notes += renamed_notes(columns, "column")
        if others := sorted(set(data.column_names) - set(columns.values())):
            notes.append(f"Ignored the columns {listed(others)}.")
    return (_pair(row, columns, where) for row in rows), notes


def _columns(names: list[str], where: str) -> dict[str, str]:
    columns = canonical(names, COLUMNS, where, "column")
    if "image" not in columns:
        raise DataError(
            f"{where}: got the columns {listed(names, 10)}; expected a column 'image' and optionally 'label'"
        )
    return columns


def _pair(row: Any, columns: Mapping[str, str] | None, where: str) -> tuple[Any, Any]:
    """Return the image of a row, and its label or None."""
    if isinstance(row, Mapping):
        columns = columns or _columns(list(map(str, row)), where)
        return row[columns["image"]], row[columns["label"]] if "label" in columns else None
    if isinstance(row, tuple | list) and not _is_number(_first_leaf(row)):
        if len(row) not in (1, 2):
            raise DataError(f"{where}: got an item of {len(row)} values; expected an image, or an image and a label")
        return row[0], row[1] if len(row) == 2 else None
    return row, None


def _of_batches(loader: Iterable[Any], where: str) -> Iterator[tuple[Any, Any]]:
    """Yield images and labels of a data loader."""
    for batch in loader:
        images, labels = _pair(batch, None, where)
        images, labels = _as_array(images), _as_array(labels)
        if labels is not None and len(labels) != len(images):
            raise DataError(
                f"{where}: got a batch of {len(images)} images and {len(labels)} labels; expected one per image"
            )
        yield from zip(images, repeat(None) if labels is None else labels, strict=False)


def _stacked(items: Iterable[Any], options: _Options) -> tuple[np.ndarray, list[str]]:
    """Convert images to uint8 (N, C, H, W), at one size, or rows to a table, float32 (N, D); also return notes."""
    where, size, fit, white = options
    shown: list[np.ndarray] = []
    sizes: list[tuple[int, int]] = []
    brightest: list[tuple[float, float]] = []
    floats = transparent = 0
    for i, item in enumerate(map(_as_array, items)):
        at = f"{where}: image {i}"
        if isinstance(item, Image.Image):
            try:
                image = flattened(item, white=white)
            except (ValueError, OSError) as error:
                raise DataError(f"{at}: cannot be converted to 8 bits ({error}); convert it first") from None
            pixels = to_pixels(image.image)
            brightest.append((image.brightest, stored_as(item).white))
            transparent += image.transparent
        elif isinstance(item, np.ndarray) and item.ndim in (2, 3):
            pixels = _levels(channels_first(item[None], at), at, white)[0][0]
            brightest.append((int(pixels.max()), EIGHT_BITS))
            floats += item.dtype.kind == "f"
        elif isinstance(item, np.ndarray) and item.ndim == 1 and item.dtype.kind in "biuf" and not sizes:
            shown.append(item)
            continue
        else:
            shape = f" and shape {item.shape}" if isinstance(item, np.ndarray) else ""
            raise DataError(
                f"{at}: got type {type(item).__name__}{shape}; expected a PIL image, or an array (H, W) or (C, H, W)"
            )
        sizes.append((pixels.shape[1], pixels.shape[2]))
        shown.append(pixels if size is None else _fitted(pixels, size, fit))
    if not shown:
        raise DataError(f"{where}: got no images; expected at least one")
    if len({pixels.ndim for pixels in shown}) > 1 or (not sizes and len({len(row) for row in shown}) > 1):
        raise DataError(f"{where}: got rows of different lengths or rows and images; {EXPECTED}")
    if not sizes:
        return _array_content(np.stack(shown), options).images, []
    notes = []
    if white is None:
        if floats:
            notes.append(f"Scaled {counted(floats, 'floating-point image')} from [0, 1] to 0…255 and rounded them.")
        notes += dark_notes(brightest)
    if transparent:
        notes.append(f"Composited {counted(transparent, 'image')} with transparency on white.")
    if size is None and len(set(sizes)) > 1:
        size = common_size(sizes)
        shown = [_fitted(pixels, size, fit) for pixels in shown]
        notes.append(common_size_note(sizes, size, fit))
    elif size is not None and (note := fit_note(sizes, size, fit)):
        notes.append(note)
    channels = max(len(pixels) for pixels in shown)
    if grey := sum(len(pixels) < channels for pixels in shown):
        notes.append(grey_note(grey, len(shown) - grey))
    return np.stack([np.repeat(pixels, channels // len(pixels), axis=0) for pixels in shown]), notes


def _fitted(pixels: np.ndarray, size: tuple[int, int], fit: Fit) -> np.ndarray:
    """Resize one image, uint8 (C, H, W)."""
    return to_pixels(fit_image(to_image(pixels), size, fit))


def _class_names(data: Any) -> tuple[str, ...]:
    """Return the names of labels that are indices: `names` of Hugging Face, or `classes` of PyTorch; otherwise ()."""
    if hasattr(data, "features") and hasattr(data, "column_names"):
        label = canonical(data.column_names, COLUMNS, "data", "column").get("label")
        names = getattr(data.features[label], "names", None) if label else None
    else:
        names = getattr(data, "classes", None)
        while names is None and hasattr(data, "dataset"):  # a loader, or a subset
            data = data.dataset
            names = getattr(data, "classes", None)
    return tuple(names) if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names) else ()


def _classes(
    contents: Mapping[str, _Content], where: str
) -> tuple[dict[str, np.ndarray | None], tuple[str, ...] | None]:
    """Return the labels of each split, and the class names if the labels are indices of them, otherwise None."""
    labels = {split: _label_array(content.labels, where) for split, content in contents.items()}
    names = {content.names for split, content in contents.items() if labels[split] is not None}
    present = [array for array in labels.values() if array is not None]
    if names in (set(), {()}) or any(array.dtype.kind != "i" for array in present):
        return labels, None
    if len(names) > 1:
        raise DataError(f"{where}: got splits with different class names; expected the same in each")
    (given,) = names
    values = np.unique(np.concatenate(present))
    if not 0 <= values[0] <= values[-1] < len(given):
        raise DataError(
            f"{where}: got labels from {values[0]} to {values[-1]}; expected 0…{len(given) - 1}, as it has classes"
        )
    classes = tuple(class_name(given[value], where) for value in values)
    return {
        split: None if array is None else np.searchsorted(values, array) for split, array in labels.items()
    }, classes


def _label_array(labels: Any, where: str) -> np.ndarray | None:
    """Return labels as integers or text, shape (N,)."""
    if labels is None:
        return None
    labels = _as_array(labels)
    if isinstance(labels, str | bytes) or not isinstance(labels, Iterable):
        raise DataError(f"{where}: got labels of type {type(labels).__name__}; expected one label per image")
    if isinstance(labels, np.ndarray) and labels.dtype.kind in "iu" and labels.ndim == 1:
        return labels.astype(np.int64)
    names = [class_name(label, f"{where}: image {i}") for i, label in enumerate(labels)]
    if "" in names:
        raise DataError(
            f"{where}: got no label for image {names.index('')}; expected a label for every image or for none"
        )
    return label_values(tuple(names))
