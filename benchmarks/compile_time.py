"""Seconds until the first compiled step, with empty and with warm compile caches.

Each start is a separate process. The time starts when compilation is requested, with the data in memory, and is measured to
the end of the next step, compiled or not, and to the end of the first compiled step.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from steps import DENSE, compile_step, drawings, trainer_for
from turns import Scale, note, spread, table

BATCH = 128


def compile_times(scale: Scale) -> str:
    """Return a table of cold and warm starts; `scale.commands` / 2 of each, rounded up."""
    cold, warm = [], []
    for _ in range((scale.commands + 1) // 2):
        with tempfile.TemporaryDirectory() as folder:
            caches = {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor", "VAELAB_CACHE_DIR": f"{folder}/vaelab"}
            note("compiling with empty caches")
            cold.append(_start(caches))
            note("compiling with warm caches")
            warm.append(_start(caches))
    rows = []
    for name, starts in (("empty", cold), ("warm", warm)):
        columns = zip(*starts, strict=True)
        rows.append([name, *(spread(column, ".1f") for column in columns), str(len(starts))])
    return table(["compile cache", "s to the next step", "s to the first compiled step", "n"], rows)


def _start(caches: dict[str, str]) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, str(Path(__file__))],
        env={**os.environ, **caches},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    first, compiled = json.loads(done.stdout)
    return first, compiled


def main() -> None:
    """Make one start and print both times as JSON."""
    trainer = trainer_for(DENSE, drawings(10 * BATCH), BATCH)
    trainer.take_step(0.5)
    trainer.take_sums()
    print(json.dumps(compile_step(trainer)))


if __name__ == "__main__":
    main()
