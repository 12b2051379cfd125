"""Start-up time: wall time of commands in separate processes."""

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
    """Yield the seconds of each command; the first run of each only fills the caches and is not counted."""
    vaelab = [str(Path(sys.executable).with_name("vaelab"))]
    first_step = [sys.executable, str(Path(__file__).with_name("first_step.py"))]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run_of(folder / "run", ModelConfig())
        sample = ["sample", str(folder / "run"), "--label", "7", "--count", "64", "--out", str(folder / "sevens.png")]
        commands: dict[str, tuple[list[str], float | None]] = {
            "vaelab --help": ([*vaelab, "--help"], HELP),
            "vaelab sample RUN --label 7 --count 64 --out FILE.png": ([*vaelab, *sample], SAMPLE),
        }
        for source in ("mnist", "strokes"):  # the first of these commands fills the compile cache for the rest
            compiled = [*first_step, "compiled", "train", source, "--compile", "yes"]
            commands[f"vaelab train {source} --compile yes: to the first compiled step"] = (compiled, None)
            first = [*first_step, "step", "train", source]
            commands[f"vaelab train {source}: to the first step"] = (first, FIRST_STEP)
        for what, (command, goal) in commands.items():
            note(what)
            seconds = [_seconds(command) for _ in range(scale.commands + 1)][1:]
            successful = [each for each in seconds if each is not None]
            shown = spread(successful, ".2f") if successful else "failed"
            rows.append([what, shown, str(len(successful)), "" if goal is None else f"{goal:g}"])
    yield table(["command", "s", "n", "goal"], rows)


def _seconds(command: list[str]) -> float | None:
    """Run a command and return its wall time; None if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        out = ["--out", f"{folder}/run"] if "train" in command else []
        began = time.perf_counter()
        done = subprocess.run([*command, *out], capture_output=True, text=True)
        taken = time.perf_counter() - began
    if done.returncode:
        note(f"failed: {(done.stderr.strip().splitlines() or [''])[-1]}")
        return None
    return taken
