"""Training speed of pythae, from PyPI, in a separate environment under the user's cache folder (1.2 GB, created once).

Clément Chadebec, Louis J. Vincent, Stéphanie Allassonnière, arXiv:2206.08309. The environment has the PyTorch release that
vaelab uses here.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
import urllib.request
import venv
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from turns import note

from vaelab.data.cache import cache_folder

PYTHAE = "0.1.2"
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
"""PyTorch's index of builds without CUDA, gigabytes smaller on Linux; used if vaelab's PyTorch is such a build."""


class PeerError(Exception):
    """pythae cannot be run; the message says why."""


def environment() -> Path:
    """Return the Python of pythae's environment, which is created if it does not exist.

    Raises
    ------
    PeerError
        If it cannot be created.
    """
    release, _, build = torch.__version__.partition("+")
    folder = cache_folder() / "peers" / f"pythae-{PYTHAE}-torch-{release}-python-{platform.python_version()}"
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    complete = folder / "whole"
    if complete.is_file():
        return python
    note(f"creating an environment for pythae {PYTHAE} in {folder}: one minute, 1.2 GB")
    index = ["--extra-index-url", CPU_BUILDS] if build == "cpu" and _reachable(f"{CPU_BUILDS}/torch/") else []
    command = ["-m", "pip", "install", "--quiet", *index, f"pythae=={PYTHAE}", f"torch=={release}"]
    try:
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run([str(python), *command], check=True, capture_output=True, text=True)
        complete.touch()
    except subprocess.CalledProcessError as error:
        raise PeerError(last_line(error.stderr or "", "pip failed")) from error
    except OSError as error:
        raise PeerError(str(error)) from error
    return python


class Pythae:
    """Training of the 784-400-20 model by pythae with batches of `batch` images, in a process that waits between turns.

    Parameters
    ----------
    images
        uint8 (N, 28, 28); a turn is one epoch of them.
    """

    def __init__(self, python: Path, images: np.ndarray, batch: int) -> None:
        self.count = len(images)
        self._folder = tempfile.TemporaryDirectory()
        self._stderr = Path(self._folder.name) / "stderr"
        np.save(path := Path(self._folder.name) / "images.npy", images)
        worker = Path(__file__).with_name("pythae_worker.py")
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        with self._stderr.open("w") as stderr:
            self._process = subprocess.Popen(
                [str(python), "-W", "ignore", str(worker), str(path), str(batch)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environment,
            )
        facts = json.loads(self._line())
        self.name = f"pythae {facts['pythae']}"

    def speed(self) -> float:
        """Train one epoch and return images per second."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self.count / float(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return line
        self._process.wait()
        raise PeerError(last_line(self._stderr.read_text(), "pythae's process ended"))

    def __enter__(self) -> Pythae:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate(timeout=60)
        self._folder.cleanup()


def _reachable(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


def last_line(text: str, otherwise: str) -> str:
    """Return the last line of `text`, or `otherwise` if it is empty."""
    return (text.strip().splitlines() or [otherwise])[-1]
