"""Description of the machine and versions of a measurement."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

import numpy as np
import torch

import vaelab


def machine() -> str:
    """Return one line: date, processor, cores and versions."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    today = datetime.datetime.now(tz=datetime.UTC).date()
    versions = f"vaelab {vaelab.__version__}, torch {torch.__version__}, numpy {np.__version__}"
    return f"{today}, {model}, {os.cpu_count()} cores, Python {platform.python_version()}, {versions}"
