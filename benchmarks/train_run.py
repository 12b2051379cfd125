"""Train from the command line, as a user would, into a new folder under `runs/`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path


def train_run(name: str, source: str, *options: str) -> Path:
    """Run `vaelab train SOURCE OPTIONS` into `runs/NAME` and return that folder; an old one is deleted.

    `runs/NAME.seconds` receives the wall time from the command to the saved weights.
    """
    folder = Path("runs") / name
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "vaelab", "train", source, "--out", str(folder), *options]
    began = time.time()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    saved = (folder / "model.safetensors").stat().st_mtime
    folder.with_suffix(".seconds").write_text(f"{saved - began:.1f}", encoding="utf-8")
    return folder
