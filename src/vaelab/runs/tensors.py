"""Reading and writing of safetensors files with metadata. Never pickle."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vaelab.errors import RunError
from vaelab.files import atomic_write, cannot_write
from vaelab.runs.header import Kind, read_header
from vaelab.runs.run import FORMAT


def digest_of(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of tensors with their names, types and shapes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors and metadata to a file, atomically; an OutputError if it cannot be written."""
    whole: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, value in tensors.items():
        tensor = value.detach().cpu().contiguous()
        # Weights that a custom network shares between layers are written once for each name.
        whole[name] = tensor.clone() if tensor.data_ptr() in places else tensor
        places.add(tensor.data_ptr())
    with atomic_write(path) as temporary:
        try:
            save_file(whole, temporary, {"format": str(FORMAT), **metadata})
        except SafetensorError as error:  # such as a full disk
            raise cannot_write(path, OSError(str(error))) from error


def load_tensors(path: Path, missing: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a file; a RunError, which says `missing` if there is none."""
    with open_tensors(path, missing) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 - not a dict


@contextmanager
def open_tensors(path: Path, missing: str) -> Iterator[Any]:
    """Open a file of tensors; a RunError if it is damaged, or if there is none, which says `missing`."""
    checked_header(path, missing)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise damaged(path, error) from error


def checked_header(path: Path, missing: str) -> dict[str, Kind]:
    """Return the kind of each tensor of a file; a RunError as `open_tensors` raises, or if there are too many."""
    if not path.is_file():
        raise RunError(f"{path.parent}: {missing}; expected {path.name} in it")
    try:
        return read_header(path)
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception | None = None) -> RunError:
    """Return the error of a file that cannot be read, which `error` says, or whose digest is wrong."""
    what = "changed or damaged" if error is None else f"damaged or truncated ({str(error)[:200]})"
    return RunError(f"{path}: {what}; expected it as vaelab train wrote it")
