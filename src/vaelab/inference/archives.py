"""Images as PNG in one file: Parquet as Hugging Face's `datasets` reads it, and tar as WebDataset reads it.

Sources: https://huggingface.co/docs/datasets (features Image and ClassLabel); https://github.com/webdataset/webdataset (members
of an image share the part of their names before the first dot).
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from vaelab.files import atomic_write
from vaelab.inference.tables import Columns


def png_columns(images: np.ndarray, labels: np.ndarray | None, first: int) -> Columns:
    """Return images (N, H, W[, 3]) as PNG one after another, where they end, the number of the first, and their labels."""
    encoded = [_png(image) for image in images]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    columns = {"png": np.frombuffer(b"".join(encoded), np.uint8), "ends": ends, "first": np.array(first)}
    return columns if labels is None else columns | {"labels": labels}


def write_image_table(path: Path, parts: Iterable[Columns], classes: Sequence[str]) -> None:
    """Write parts of `png_columns` as Parquet, a row group each."""
    import pyarrow as pa
    from pyarrow import parquet

    features: dict[str, object] = {"image": {"_type": "Image"}}
    fields = [pa.field("image", pa.struct({"bytes": pa.binary(), "path": pa.string()}))]
    if classes:
        features["label"] = {"_type": "ClassLabel", "names": list(classes)}
        fields.append(pa.field("label", pa.int64()))
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    # PNG is compressed already, and each is different, so neither compression nor a dictionary makes the file smaller
    options = {"compression": "none", "use_dictionary": False}
    with (
        atomic_write(path) as temporary,
        parquet.ParquetWriter(temporary, pa.schema(fields, metadata), **options) as writer,
    ):
        for part in parts:
            count, first = len(part["ends"]) - 1, int(part["first"])
            buffers = [None, pa.py_buffer(part["ends"]), pa.py_buffer(part["png"])]
            names = pa.array([f"{number:09}.png" for number in range(first, first + count)])
            images = pa.StructArray.from_arrays(
                [pa.Array.from_buffers(pa.binary(), count, buffers), names], fields=list(fields[0].type)
            )
            columns = [images, pa.array(part["labels"])] if classes else [images]
            writer.write_table(pa.table(columns, schema=writer.schema))


def tar_columns(images: np.ndarray, labels: np.ndarray | None, first: int) -> Columns:
    """Return images (N, H, W[, 3]) and their labels as the members of a tar file; `first` is the number of the first."""
    content = io.BytesIO()
    for number, image in enumerate(images):
        _add(content, f"{first + number:09}.png", _png(image))
        if labels is not None:
            _add(content, f"{first + number:09}.cls", str(labels[number]).encode())
    return {"members": np.frombuffer(content.getvalue(), np.uint8)}


def write_tar(path: Path, parts: Iterable[Columns]) -> None:
    """Write parts of `tar_columns` as one tar file."""
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        for part in parts:
            file.write(part["members"].data)
        file.write(bytes(2 * tarfile.BLOCKSIZE))  # its end


def _add(file: io.BytesIO, name: str, content: bytes) -> None:
    header = tarfile.TarInfo(name)
    header.size = len(content)
    file.write(header.tobuf(tarfile.USTAR_FORMAT))
    file.write(content + bytes(-len(content) % tarfile.BLOCKSIZE))


def _png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
