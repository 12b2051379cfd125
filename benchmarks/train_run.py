"""Train from the command line, as a user would, into a new folder under `runs/`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from vaelab.cli.train_run import COUNT_LOADING


def train_run(name: str, source: str, *options: str) -> Path:
    """Run `vaelab train SOURCE OPTIONS` into `runs/NAME` and return that folder; an old one is deleted.

    A budget in seconds counts from the command to the saved weights, with loading, unlike in `vaelab train`;
    `runs/NAME.seconds` receives that wall time.
    """
    folder = Path("runs") / name
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "vaelab", "train", source, "--out", str(folder), *options]
    began = time.time()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env={**os.environ, COUNT_LOADING: "1"})
    saved = (folder / "model.safetensors").stat().st_mtime
    folder.with_suffix(".seconds").write_text(f"{saved - began:.1f}", encoding="utf-8")
    return folder
