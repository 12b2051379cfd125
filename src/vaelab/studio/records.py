"""The training curve and the report of a run for the page, whatever is in their files."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from vaelab import runs
from vaelab.checked_files import parse_json, read_regular
from vaelab.errors import VaelabError
from vaelab.evaluation.results import MAX_BYTES, MAX_VALUES, REPORT
from vaelab.runs import Run


def curve_of(run: Run) -> list[dict[str, Any]]:
    """Return the readable lines of `metrics.jsonl`; those that another program has damaged are left out."""
    lines: list[Any] = []
    with suppress(VaelabError, OSError, ValueError, RecursionError):
        lines = runs.read_metrics(run)
    return [line for line in lines if _is_readable(line)]


def _is_readable(line: Any) -> bool:
    if not isinstance(line, dict):
        return False
    if not all(isinstance(line.get(name), int | float) for name in ("step", "epoch", "seconds")):
        return False
    try:
        json.dumps(line, allow_nan=False)
    except (ValueError, RecursionError):
        return False
    return True


def report_of(run: Run) -> bytes | None:
    """Return the report of a run, JSON; None if there is none, or it is left out."""
    with suppress(OSError, ValueError):
        return read_report(run)
    return None


def read_report(run: Run) -> bytes | None:
    """Return the report of a run, JSON; None if there is none.

    Raises
    ------
    OSError, ValueError
        If it is a link, too large, or no JSON.
    """
    path = run.folder / REPORT
    if not (path.is_symlink() or path.exists()):
        return None
    content = read_regular(path, MAX_BYTES, follow_links=False)
    parse_json(content, MAX_VALUES)
    return content
