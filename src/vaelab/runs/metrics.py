"""`metrics.jsonl`: one line of figures per validation, with its number and a check value.

A line is a JSON object that ends in `"line": NUMBER, "check": "…"}`. The check value is the beginning of the SHA-256 of the line
without it, and `resume.safetensors` has the number of lines of its checkpoint: damaged, missing and repeated lines are found.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vaelab.checked_files import parse_json
from vaelab.errors import RunError, RunWarning
from vaelab.files import append_line, atomic_write
from vaelab.run_folder import cannot_read
from vaelab.runs.resume import resume_facts
from vaelab.runs.run import METRICS, Run

CHECK = ', "check": "'


def append_metrics(run: Run, line: Mapping[str, Any], number: int) -> None:
    """Append a line, the `number`-th of the run, to `metrics.jsonl`."""
    append_line(run.folder / METRICS, _text(line, number))


def read_metrics(run: Run) -> list[dict[str, Any]]:
    """Return the lines of `metrics.jsonl` that are intact; a RunWarning tells of others, or that the file cannot be read."""
    try:
        lines, wrong = _read(run, (resume_facts(run) or {}).get("lines"))
    except RunError as error:
        lines, wrong = [], f"{error}; the training log is left out"
    if wrong:
        warnings.warn(wrong, RunWarning, stacklevel=1)
    return [{name: value for name, value in line.items() if name != "line"} for line in lines]


def keep_metrics(run: Run, facts: Mapping[str, Any]) -> int:
    """Remove the lines after the checkpoint with these `facts`, from which a training is resumed; return how many are left.

    A RunWarning tells of lines that are not intact, and a RunError that the file cannot be read.
    """
    lines, wrong = _read(run, facts.get("lines"))
    if wrong:
        warnings.warn(wrong, RunWarning, stacklevel=1)
    most = facts.get("lines", math.inf)
    kept = [line for line in lines if line["step"] <= facts["step"] and line.pop("line", 0) <= most]
    with atomic_write(run.folder / METRICS) as temporary:
        texts = [_text(line, number) + "\n" for number, line in enumerate(kept, 1)]
        temporary.write_text("".join(texts), encoding="utf-8")
    return len(kept)


def _read(run: Run, expected: int | None) -> tuple[list[dict[str, Any]], str]:
    """Return the intact lines by number, and what is wrong with the others, if anything; there are at least `expected`.

    A last line without its end is not wrong: it is being written, or one of those that are expected.
    """
    path = run.folder / METRICS
    try:
        content = path.read_bytes().decode(errors="replace") if path.exists() else ""
    except OSError as error:
        raise cannot_read(path, error) from error
    *texts, last = content.split("\n")
    earlier = expected is None and CHECK not in content  # as vaelab 0.1 writes it
    read = _parsed if earlier else _checked
    lines = [line for text in texts if (line := read(text)) is not None]
    damaged = len(texts) - len(lines)
    lines += [line for line in [read(last)] if line is not None]
    if earlier:
        return lines, _wrong(path, damaged=damaged)
    by_number = {line["line"]: line for line in lines}
    missing = max(expected or 0, *by_number, 0) - len(by_number)
    repeated = len(lines) - len(by_number)
    wrong = _wrong(path, damaged=damaged, missing=max(0, missing - damaged), repeated=repeated)
    return [by_number[number] for number in sorted(by_number)], wrong


def _wrong(path: Path, **counts: int) -> str:
    wrong = " and ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    return f"{path}: of its lines {wrong}; the others are used" if wrong else ""


def _text(line: Mapping[str, Any], number: int) -> str:
    body = json.dumps({**line, "line": number}, allow_nan=False)
    return f'{body[:-1]}{CHECK}{_check(body)}"}}'


def _check(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def _checked(text: str) -> dict[str, Any] | None:
    """Return a line without its check value, or None if that is wrong; its author may be a stranger, who can compute it."""
    body = text.rpartition(CHECK)[0] + "}"
    line = _parsed(body) if text == f'{body[:-1]}{CHECK}{_check(body)}"}}' else None
    return line if line is not None and type(line.get("line")) is int else None


def _parsed(text: str) -> dict[str, Any] | None:
    """Return a line without a check value, as an earlier version writes it, or None if it is damaged."""
    try:
        line = parse_json(text.encode())
    except ValueError:
        return None
    known = isinstance(line, dict) and all(
        isinstance(line.get(name), int | float) for name in ("step", "epoch", "seconds")
    )
    return line if known else None
