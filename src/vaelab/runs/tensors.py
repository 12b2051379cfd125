"""Reading and writing of safetensors files with metadata and their digests. Never pickle.

The entry `sha256` is the digest of all other metadata, and `tensors_sha256`, one of these, that of the tensors. So a flipped bit
anywhere is found, and the metadata can be checked alone. The header is sorted: equal content is equal bytes.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vaelab.checked_files import parse_json
from vaelab.errors import RunError, RunWarning
from vaelab.files import atomic_write, cannot_write
from vaelab.run_folder import FORMAT, expect_type
from vaelab.runs.header import MAX_HEADER_VALUES, Kind, read_header
from vaelab.runs.run import PREVIOUS

EARLIER = ("weights_sha256", "state_sha256")
"""Entries that earlier versions had instead of `tensors_sha256`; they had no `sha256`."""

Check = Callable[[Mapping[str, Kind], Mapping[str, str]], None]
"""Receives the kinds of the tensors and the metadata of a file, before its tensors are read; raises a RunError."""


def digest_of(tensors: dict[str, Tensor]) -> str:
    """Return the SHA-256 of tensors with their names, types and shapes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str], *, keep: bool = False) -> None:
    """Write tensors and metadata to a file, atomically; with `keep`, the file before is kept in the folder `previous`.

    An OutputError if it cannot be written.
    """
    whole: dict[str, Tensor] = {}
    places: set[int] = set()
    for name, value in tensors.items():
        tensor = value.detach().cpu().contiguous()
        # Weights that a custom network shares between layers are written once for each name.
        whole[name] = tensor.clone() if tensor.data_ptr() in places else tensor
        places.add(tensor.data_ptr())
    metadata = {"format": str(FORMAT), **metadata, "tensors_sha256": digest_of(whole)}
    metadata["sha256"] = _digest_of_metadata(metadata)
    with atomic_write(path, keep=path.parent / PREVIOUS / path.name if keep else None) as temporary:
        try:
            save_file(whole, temporary, metadata)
        except SafetensorError as error:  # such as a full disk
            raise cannot_write(path, OSError(str(error))) from error
        _sort_header(temporary)


def _sort_header(path: Path) -> None:
    """Sort the header of a safetensors file, whose metadata are in random order."""
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        text = json.dumps(header, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        assert len(text) <= length
        file.seek(8)
        file.write(text.ljust(length))


def accept(kinds: Mapping[str, Kind], metadata: Mapping[str, str]) -> None:
    """Accept any tensors and metadata."""


def load_tensors(path: Path, missing: str, check: Check = accept) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a file, or with a RunWarning those of the previous one if it is damaged.

    `check` receives the kinds of the tensors and the metadata before the tensors take memory, and may raise a RunError.

    Raises
    ------
    RunError
        If both are damaged, or there is none; then it says `missing`.
    """
    try:
        return _load(path, missing, check)
    except RunError as error:
        previous = path.parent / PREVIOUS / path.name
        try:
            found = _load(previous, missing, check)
            step = facts_of(previous, found[1]).get("step", 0)
        except RunError:
            raise error from None
        state = "damaged" if path.is_file() else "missing"
        warnings.warn(f"{path}: {state}; used the checkpoint before it, of step {step:,}", RunWarning, stacklevel=1)
        return found


def facts_of(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the figures in the metadata of a file; a RunError if there are none, or its `step` is no whole number."""
    try:
        facts = parse_json(metadata["facts"].encode(), MAX_HEADER_VALUES)
        expect_type("step", facts.get("step", 0), int)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, error) from error
    return facts


def load_metadata(path: Path, missing: str) -> dict[str, str]:
    """Return the metadata of a file, without its tensors; a RunError if they are damaged or there is none."""
    with open_tensors(path, missing) as file:
        metadata = file.metadata() or {}
    if "facts" not in metadata:
        raise damaged(path)
    if "sha256" in metadata:
        intact = metadata["sha256"] == _digest_of_metadata(metadata)
    else:
        facts = hashlib.sha256(metadata["facts"].encode()).hexdigest()
        intact = any(name in metadata for name in EARLIER) and metadata.get("facts_sha256", facts) == facts
    if not intact:
        raise damaged(path)
    return metadata


def _load(path: Path, missing: str, check: Check) -> tuple[dict[str, Tensor], dict[str, str]]:
    metadata = load_metadata(path, missing)
    check(checked_header(path, missing), metadata)
    with open_tensors(path, missing) as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    if digest_of(tensors) not in [metadata.get(name) for name in ("tensors_sha256", *EARLIER)]:
        raise damaged(path)
    return tensors, metadata


def _digest_of_metadata(metadata: dict[str, str]) -> str:
    others = {name: value for name, value in metadata.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(others, sort_keys=True).encode()).hexdigest()


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
