"""Table of what a user waits for after typing a command: wall time of processes of their own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from generating import run_of
from turns import Scale, note, spread, table

from vaelab.config import ModelConfig

HELP, SAMPLE, FIRST_STEP = 0.3, 2.5, 3.0
"""Goals in seconds."""


def start_up(scale: Scale) -> Iterator[str]:
    """Seconds of each command; the first run of each is left out, so that files and compiled graphs are where they will be."""
    vaelab = [str(Path(sys.executable).with_name("vaelab"))]
    watched = [sys.executable, str(Path(__file__).with_name("first_step.py"))]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_of(folder / "run", ModelConfig())
        sample = ["sample", str(folder / "run"), "--label", "7", "--count", "64", "--out", str(folder / "sevens.png")]
        commands: dict[str, tuple[list[str], float | None]] = {
            "vaelab --help": ([*vaelab, "--help"], HELP),
            "vaelab sample RUN --label 7 --count 64 --out FILE.png": ([*vaelab, *sample], SAMPLE),
        }
        for source in ("mnist", "strokes"):  # the first of these fills the cache of compiled steps for the rest
            compiled = [*watched, "compiled", "train", source, "--compile", "yes"]
            commands[f"vaelab train {source} --compile yes: to the first compiled step"] = (compiled, None)
            first = [*watched, "step", "train", source]
            commands[f"vaelab train {source}: to the first step"] = (first, FIRST_STEP)
        for what, (command, goal) in commands.items():
            note(what)
            seconds = [_seconds(command) for _ in range(scale.commands + 1)][1:]
            found = [each for each in seconds if each is not None]
            shown = spread(found, ".2f") if found else "left out: it failed"
            rows.append([what, shown, str(len(found)), "" if goal is None else f"{goal:g}"])
    yield table(["command", "s", "n", "goal"], rows)


def _seconds(command: list[str]) -> float | None:
    """Wall time of a command, from here to its end; None if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        out = ["--out", f"{folder}/run"] if "train" in command else []
        began = time.perf_counter()
        done = subprocess.run([*command, *out], capture_output=True, text=True)
        taken = time.perf_counter() - began
    if done.returncode:
        note(f"failed: {(done.stderr.strip().splitlines() or [''])[-1]}")
        return None
    return taken
