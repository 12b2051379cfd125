"""Tables with a column of encoded images, as in the Parquet and Arrow files of Hugging Face.

The column is binary, or a struct with the binary field `bytes`. The schema may name the classes that integer labels stand for
(`ClassLabel` of Hugging Face).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vaelab.data.arrays import listed
from vaelab.data.encoded import Encoded
from vaelab.data.names import canonical, composed, renamed_notes
from vaelab.data.objects import COLUMNS as OBJECTS
from vaelab.data.shards import Shard
from vaelab.data.table import COLUMNS, Table, splits_of, texts
from vaelab.errors import DataError

IMAGES = (*OBJECTS["image"], "jpg", "jpeg", "png", "webp")
"""Names of a column of encoded images besides "image"."""


class ImageColumns(NamedTuple):
    """The column of encoded images, its part that holds them, such as `image.bytes`, and the columns "label" and "split"."""

    image: str
    leaf: str
    others: Mapping[str, str]


def image_columns(schema: Any, path: Path) -> ImageColumns | None:
    """Return the columns of a table of images, or None if no column holds any. Raises `DataError` if several do."""
    holders = {field.name: leaf for field in schema if (leaf := _leaf(field)) is not None}
    image = canonical(holders, {"image": IMAGES}, str(path), "column").get("image")
    structs = [name for name, leaf in holders.items() if leaf != name]
    if image is None and len(structs) == 1:
        image = structs[0]
    if image is None:
        return None
    others = canonical(
        [name for name in schema.names if name != image],
        {key: COLUMNS[key] for key in ("label", "split")},
        str(path),
        "column",
    )
    return ImageColumns(image, holders[image], others)


def _leaf(field: Any) -> str | None:
    """Return the name of the binary column of a field, or None."""
    from pyarrow import types

    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind):
        return field.name
    if types.is_struct(kind):
        return next((f"{field.name}.bytes" for inner in kind if inner.name == "bytes" and _leaf(inner)), None)
    return None


def column_notes(schema: Any, columns: ImageColumns) -> list[str]:
    """Return notes on columns that have other names, and on those that are ignored."""
    used = {"image": columns.image, **columns.others}
    ignored = [name for name in schema.names if name not in used.values()]
    return [*renamed_notes(used, "column"), *([f"Ignored the columns {listed(ignored)}."] if ignored else [])]


def shard_of(
    path: Path,
    schema: Any,
    columns: ImageColumns,
    found: Mapping[str, list[Any]],
    images: Sequence[Encoded],
    split: str,
) -> Shard:
    """Return the images of a table with their labels and splits.

    Parameters
    ----------
    path, schema, columns
        The table.
    found
        Values of `columns.others`.
    images
        One per row.
    split
        Split of the images if no column gives it.

    Raises
    ------
    DataError
        For a row without label, a label that its class names do not have, and an unknown split.
    """
    classes = _class_names(schema, columns.others.get("label"))
    values = dict(found)
    if classes and "label" in values:
        for row, label in enumerate(values["label"], 1):
            if label is not None and not (isinstance(label, int) and 0 <= label < len(classes)):
                raise DataError(
                    f"{path}: got the label {label!r} in row {row}; expected 0…{len(classes) - 1}, as the file names "
                    f"{len(classes):,} classes; remove the row, or the file if it has no labels"
                )
        values["label"] = [None if label is None else classes[label] for label in values["label"]]
    table = Table(values, range(1, len(images) + 1), [], "row")
    named = {name: texts(path, name, table) for name in values}
    splits = splits_of(path, named["split"], table) if "split" in named else [split] * len(images)
    return Shard(images, splits, named.get("label"), classes)


def _class_names(schema: Any, label: str | None) -> list[str]:
    """Return the class names that integer labels stand for, or [] if the schema has none."""
    try:
        feature = json.loads(schema.metadata[b"huggingface"])["info"]["features"][label]
        names = feature["names"] if feature["_type"] == "ClassLabel" else []
        return [composed(name) for name in names]
    except (KeyError, TypeError, ValueError, RecursionError):  # no such metadata, or others than those of Hugging Face
        return []
