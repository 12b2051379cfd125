"""A run folder before it is opened: whether it holds a run, and what it records of its data. Does not import torch.

`config.json` may come from a stranger. Its size, its numbers of values and classes, and the types of what it holds are checked
before anything is made of it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from vaelab.checked_files import read_json
from vaelab.errors import RunError, did_you_mean, printable
from vaelab.version import __version__

CONFIG = "config.json"
"""Name of the file that makes a folder a run."""

FORMAT = 2
"""Version of `config.json`; format 1 is that of vaelab 0.1."""

MAX_CLASSES = "VAELAB_MAX_CLASSES"
"""Environment variable with the largest number of classes of a run; `CLASSES` if it is not set."""

CLASSES = 10_000

MAX_VALUES = 3 * 64_000_000
"""Largest number of values of an image or of a row of a table: 64 million pixels of three colours."""

MAX_TEXT = 4096
"""Largest number of characters of a text in `config.json`, such as the source of the data."""

PRIVATE = ".vaelab-"
"""Beginning of the names of files that are no part of a run: the lock, and temporary files (`vaelab.files`)."""


def expect_run(folder: Path) -> Path:
    """Return the path of the `config.json` of a run; a RunError if there is none or it cannot be read."""
    path = folder / CONFIG
    _expect_utf8(folder)
    try:
        if path.is_file():
            return path
        what = "no such folder" if not folder.exists() else f"no {CONFIG} in it"
    except OSError as error:
        raise cannot_read(folder, error) from error
    raise RunError(f"{folder}: {what}; expected a run folder, as vaelab train writes")


def cannot_read(path: Path, error: OSError) -> RunError:
    """Return the error of a file or folder of a run that cannot be read."""
    return RunError(f"{path}: cannot be read ({error.strerror or error}); check that it exists and you may read it")


def _expect_utf8(folder: Path) -> None:
    """Raise a RunError for a path that is not valid UTF-8, which safetensors can neither read nor write."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise RunError(f"{folder}: the path of the run folder is not valid UTF-8; rename the folder") from None


def check_new(folder: Path) -> None:
    """Raise a RunError unless a folder is new or empty, except for what a killed process left in it, and its name is UTF-8."""
    _expect_utf8(folder)
    try:
        if (folder / CONFIG).exists():
            raise RunError(
                f"{folder} already holds a run; expected a new folder: give another `out`, or `resume=True` to continue it"
            )
        if folder.exists() and (
            not folder.is_dir() or any(not path.name.startswith(PRIVATE) for path in folder.iterdir())
        ):
            raise RunError(f"{folder} exists and is not an empty folder; expected a new one: give another `out`")
    except OSError as error:
        raise cannot_read(folder, error) from error


def read_config(folder: Path) -> dict[str, Any]:
    """Return the JSON of the `config.json` of a run: its format is known, and its `data` are checked.

    Keys that a newer version of vaelab has added are left out.

    Raises
    ------
    RunError
        If there is no run, or one of a newer format.
    OSError, ValueError, KeyError, TypeError
        If `config.json` cannot be read, or is not what vaelab writes; the text says why.
    """
    values = read_json(expect_run(folder))
    if not isinstance(values, dict):
        raise TypeError("not an object")
    version = values["format"]
    if type(version) is int and version > FORMAT:
        raise RunError(
            f"{folder}: got a run of format {str(version)[:20]}; this vaelab reads up to {FORMAT}: pip install --upgrade vaelab"
        )
    if type(version) is not int or version < 1:
        raise ValueError(f"`format` is {_short(version)}; expected 1 or {FORMAT}")
    newer = _is_newer(values["versions"])
    for part in ("model", "train", "data", "versions"):
        if not isinstance(values[part], dict) and (part, values[part]) != ("train", None):
            raise TypeError(f"`{part}` is {_short(values[part])}; expected an object")
    values = only_known(values, ("format", "model", "train", "data", "versions"), newer=newer)
    values["data"] = _checked_data(values["data"], newer=newer)
    return values | {"newer": newer}


def recorded_data(folder: Path) -> Mapping[str, Any]:
    """Return what `config.json` records of the data of a run, or nothing if it is damaged, which `open_run` reports."""
    expect_run(folder)
    with suppress(OSError, ValueError, KeyError, TypeError):
        return read_config(folder)["data"]
    return {}


def only_known(values: Mapping[str, Any], known: Collection[str], *, newer: bool) -> dict[str, Any]:
    """Return the values with `known` keys; a ValueError for another key, unless a `newer` version of vaelab wrote it."""
    for key in values:
        if key not in known and not newer:
            raise ValueError(f"`{_short(key)}` is unknown.{did_you_mean(key[:100], known)}")
    return {key: value for key, value in values.items() if key in known}


def expect_type(name: str, value: object, expected: Any) -> None:
    """Raise a TypeError unless a value has a type, or is one of a `Literal`; a float is finite, and a text is not long."""
    if get_origin(expected) is Literal:
        right = isinstance(value, str) and value in get_args(expected)
        what = f"one of {', '.join(get_args(expected))}"
    elif expected is float:
        right, what = is_int(value) or (isinstance(value, float) and math.isfinite(value)), "a finite number"
    elif expected is bool:
        right, what = isinstance(value, bool), "true or false"
    elif expected is int:
        right, what = is_int(value), "a whole number"
    else:
        right = isinstance(value, str) and len(value) <= MAX_TEXT and "\0" not in value
        what = f"a text of at most {MAX_TEXT:,} characters"
    if not right:
        raise TypeError(f"`{name}` is {_short(value)}; expected {what}")


def is_int(value: object) -> bool:
    """Return whether a value is a whole number of 64 bits, and not a bool."""
    return type(value) is int and abs(value) < 2**63


def expect_class_count(count: int) -> None:
    """Raise a ValueError if a run has more classes than are allowed."""
    text = os.environ.get(MAX_CLASSES, str(CLASSES))
    if count > (int(text) if text.isdecimal() else CLASSES):
        raise ValueError(f"{count:,} classes; expected at most {text}: set {MAX_CLASSES} to allow more")


def _checked_data(values: Mapping[str, Any], *, newer: bool) -> dict[str, Any]:
    """Return what `config.json` records of the data, with tuples for `shape` and `classes`; a ValueError or TypeError."""
    known = ("source", "shape", "classes", "train_count", "fingerprint", "fit", "skip_broken", "white", "seed")
    data = only_known(values, known, newer=newer)
    for name, expected in (("source", str), ("fingerprint", str), ("train_count", int)):
        expect_type(name, data[name], expected)
    expect_type("fit", data.get("fit", "crop"), Literal["crop", "pad"])
    expect_type("seed", data.get("seed", 0), int)
    if data.get("skip_broken", False) != "0.1":
        expect_type("skip_broken", data.get("skip_broken", False), bool)
    if (white := data.get("white")) is not None:
        expect_type("white", white, float)
    if data.get("seed", 0) < 0 or (white is not None and white <= 0):
        raise ValueError("`seed` or `white` is negative; expected a whole number, and a value above 0")
    shape, classes = data["shape"], data["classes"]
    if not (isinstance(shape, list) and len(shape) in (1, 3) and all(is_int(side) and side > 0 for side in shape)):
        raise TypeError(f"`shape` is {_short(shape)}; expected [channels, height, width] or [columns]")
    if math.prod(shape) > MAX_VALUES:
        raise ValueError(f"`shape` is {'×'.join(map(str, shape))}; expected at most {MAX_VALUES:,} values")
    if not isinstance(classes, list):
        raise TypeError(f"`classes` is {_short(classes)}; expected a list of names")
    expect_class_count(len(classes))
    for name in classes:
        expect_type("classes", name, str)
    if len(set(classes)) < len(classes):
        raise ValueError("`classes` has a name twice")
    if data["train_count"] < 1:
        raise ValueError(f"`train_count` is {data['train_count']}; expected at least 1")
    return data | {"shape": tuple(shape), "classes": tuple(classes)}


def _is_newer(versions: object) -> bool:
    """Return whether a run was written by a newer minor version of vaelab, from the `versions` of its `config.json`."""
    found = re.match(r"(\d{1,6})\.(\d{1,6})", str(versions["vaelab"])[:20] if isinstance(versions, dict) else "")
    own = tuple(map(int, __version__.split(".")[:2]))
    return found is not None and tuple(map(int, found.groups())) > own


def _short(value: object) -> str:
    """Return a value for a message, cut to 80 characters."""
    if isinstance(value, list | dict):
        return f"a {'list' if isinstance(value, list) else 'object'} of {len(value):,} values"
    text = printable(value if isinstance(value, str) else repr(value))
    return text if len(text) <= 80 else text[:79] + "…"
