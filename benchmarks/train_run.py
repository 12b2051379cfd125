"""Train from the command line, as a user would, into a folder under `runs/` that is made anew."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


def train_run(name: str, source: str, *options: str) -> Path:
    """The run folder `runs/NAME` of `vaelab train SOURCE OPTIONS`, trained now."""
    folder = Path("runs") / name
    shutil.rmtree(folder, ignore_errors=True)
    command = [str(Path(sys.executable).parent / "vaelab"), "train", source, "--out", str(folder), *options]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return folder
