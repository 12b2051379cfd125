"""`metrics.jsonl`: one line of figures per validation."""

from __future__ import annotations

import json
from typing import Any

from vaelab.files import atomic_write, cannot_write
from vaelab.runs.run import METRICS, Run


def append_metrics(run: Run, line: dict[str, Any]) -> None:
    """Append a line to `metrics.jsonl`."""
    path = run.folder / METRICS
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
    except OSError as error:
        raise cannot_write(path, error) from error


def read_metrics(run: Run) -> list[dict[str, Any]]:
    """Return the lines of `metrics.jsonl`, up to one that is incomplete."""
    path, lines = run.folder / METRICS, []
    if path.is_file():
        for text in path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except ValueError:
                break
    return lines


def drop_metrics_after(run: Run, step: int) -> None:
    """Remove the lines of later steps from `metrics.jsonl`, before a training is resumed at this step."""
    kept = [json.dumps(line) + "\n" for line in read_metrics(run) if line["step"] <= step]
    with atomic_write(run.folder / METRICS) as temporary:
        temporary.write_text("".join(kept), encoding="utf-8")
