"""A run folder before it is opened: whether it holds a run, and how its data were loaded. Does not import torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from vaelab.errors import RunError

CONFIG = "config.json"
"""Name of the file that makes a folder a run."""


def expect_run(folder: Path) -> Path:
    """Return the path of the `config.json` of a run; a RunError if there is none."""
    path = folder / CONFIG
    _expect_utf8(folder)
    if not path.is_file():
        what = "no such folder" if not folder.exists() else f"no {CONFIG} in it"
        raise RunError(f"{folder}: {what}; expected a run folder, as vaelab train writes")
    return path


def _expect_utf8(folder: Path) -> None:
    """Raise a RunError for a path that is not valid UTF-8, which safetensors can neither read nor write."""
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        raise RunError(f"{folder}: the path of the run folder is not valid UTF-8; rename the folder") from None


def check_new(folder: Path) -> None:
    """Raise a RunError unless a folder is new or empty, and its name can be passed to safetensors."""
    _expect_utf8(folder)
    if (folder / CONFIG).exists():
        raise RunError(
            f"{folder} already holds a run; expected a new folder: give another `out`, or `resume=True` to continue it"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RunError(f"{folder} exists and is not an empty folder; expected a new one: give another `out`")


def recorded_data(folder: Path) -> Mapping[str, Any]:
    """Return what `config.json` records of the data of a run, or nothing if it is damaged, which `open_run` reports."""
    path = expect_run(folder)
    with suppress(ValueError, KeyError, TypeError):
        data = json.loads(path.read_text(encoding="utf-8"))["data"]
        return data if isinstance(data, dict) else {}
    return {}
