"""The header of a safetensors file, checked before its tensors are read: they may come from a stranger.

Format: the length of the header in 8 bytes, little-endian; the header as JSON, with type, shape and place of each tensor by its
name and texts under `__metadata__`; the tensors.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from vaelab.checked_files import parse_json
from vaelab.config import ResolvedModelConfig, level_parts
from vaelab.models.factory import build_model

MAX_HEADER_BYTES = 8_000_000
"""Largest header: 20,000 tensors, and statistics of 65,536 latent dimensions."""

MAX_TENSORS = 50_000
"""Largest number of tensors in a file."""

MAX_HEADER_VALUES = 10 * MAX_TENSORS + 300_000
"""Largest number of brackets, commas and colons in a header."""


class Kind(NamedTuple):
    """Type, as safetensors names it, and shape of a tensor."""

    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path) -> dict[str, Kind]:
    """Return the kind of each tensor in a file by its name; safetensors itself checks that they fit into the file.

    Raises
    ------
    OSError, ValueError, KeyError, TypeError, OverflowError
        If the header cannot be read, is too large, or is damaged; the text says why.
    """
    with path.open("rb") as file:
        size, (length,) = os.fstat(file.fileno()).st_size, struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        if hasattr(os, "sysconf") and size > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
            raise ValueError(f"{size / 1e9:,.1f} GB, more than the memory of this machine")
        if length > (most := min(MAX_HEADER_BYTES, size - 8)):
            raise ValueError(f"a header of {length:,} bytes; expected at most {max(most, 0):,}")
        values = parse_json(file.read(length), MAX_HEADER_VALUES)
    if not isinstance(values, dict):
        raise TypeError("the header is not an object")
    if len(values) > MAX_TENSORS:
        raise ValueError(f"{len(values):,} tensors; expected at most {MAX_TENSORS:,}")
    values.pop("__metadata__")
    return {name: Kind(str(value["dtype"]), tuple(map(int, value["shape"]))) for name, value in values.items()}


def expected_kinds(config: ResolvedModelConfig, shape: tuple[int, ...], classes: int, most: int) -> dict[str, Kind]:
    """Return the kind of each weight of a model of built-in networks by its name, without memory for the weights.

    Raises
    ------
    ValueError
        If there is no such model, or it is so deep that it has more than `most` weights.
    """
    deep = 0 if config.network == "conv" else config.depth
    if max(deep, len(level_parts(config.levels)) if config.levels else 0) > most:
        raise ValueError(f"a model deeper than {most:,} tensors")
    try:
        with torch.device("meta"), _Shapes():
            weights = build_model(config, shape, classes).state_dict()
    except (AssertionError, ArithmeticError, RuntimeError, TypeError) as error:
        raise ValueError(f"no model can be built: {type(error).__name__}") from error
    return {name: Kind(_NAMES[value.dtype], tuple(value.shape)) for name, value in weights.items()}


_NAMES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.int64: "I64", torch.bool: "BOOL"}


class _Shapes(TorchFunctionMode):
    """Makes empty tensors of drawn numbers and of ranges: on the device `meta`, these import compilers for a second."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Tensor:
        if func in (torch.randn, torch.arange):
            return torch.empty(*args, dtype=torch.int64 if func is torch.arange else torch.float32, device="meta")
        return func(*args, **(kwargs or {}))
