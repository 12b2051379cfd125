"""Train from the command line, as a user would, into a folder under `runs/` that is made anew."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path


def train_run(name: str, source: str, *options: str) -> Path:
    """The run folder `runs/NAME` of `vaelab train SOURCE OPTIONS`, trained now.

    Beside it `runs/NAME.seconds` says how long it was from the command to the saved weights, on the clock on the wall.
    """
    folder = Path("runs") / name
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "vaelab", "train", source, "--out", str(folder), *options]
    began = time.time()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    saved = (folder / "model.safetensors").stat().st_mtime
    folder.with_suffix(".seconds").write_text(f"{saved - began:.1f}", encoding="utf-8")
    return folder
