"""Train from the command line, as a user would, into a new folder under `runs/`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from vaelab.cli.train_run import COUNT_LOADING


def train_run(name: str, source: str, *options: str, count_loading: bool = True) -> Path:
    """Run `vaelab train SOURCE OPTIONS` into `runs/NAME` and return that folder; an old one is deleted.

    A budget in seconds counts from the command to the saved weights, with loading, unlike in `vaelab train`, or with
    `count_loading=False` as there; `runs/NAME.seconds` receives the wall time with loading.
    """
    folder = Path("runs") / name
    shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, "-m", "vaelab", "train", source, "--out", str(folder), *options]
    counting = {COUNT_LOADING: "1"} if count_loading else {}
    began = time.time()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env={**os.environ, **counting})
    saved = (folder / "model.safetensors").stat().st_mtime
    folder.with_suffix(".seconds").write_text(f"{saved - began:.1f}", encoding="utf-8")
    return folder
