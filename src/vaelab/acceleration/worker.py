"""Compiling a step in another process while training continues.

`CompileJob` starts `python -m vaelab.acceleration.worker`, which reads a `CompileKey` from standard input and ends at once
when that closes, because the training is gone then. A failure is one line on standard error, and status 1.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import torch

from vaelab.acceleration.cache import keep
from vaelab.acceleration.graph import CompileKey, NotCompiledError, compile_to

NICENESS = 5  # added to the worker's, so that the training has priority


class CompileJob:
    """A process that compiles a step into the cache; it ends with this process, or when it is closed."""

    def __init__(self, key: CompileKey) -> None:
        """Start it; a NotCompiledError if it cannot be started, or there is no C++ compiler."""
        if getattr(sys, "frozen", False) or not Path(sys.executable or "").name.startswith(("python", "pypy")):
            raise NotCompiledError("this program is not run by a Python interpreter that could be started again")
        expect_compiler()
        self._folder = tempfile.TemporaryDirectory(prefix="vaelab-", ignore_cleanup_errors=True)
        self._log = Path(self._folder.name) / "log"
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path),
            "TORCHINDUCTOR_CACHE_DIR": self._folder.name,
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
            "TORCHINDUCTOR_VEC_ISA_OK": "1",  # do not test the compiler's vector instructions, which takes seconds
        }
        try:
            with self._log.open("w") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-W", "ignore", "-m", "vaelab.acceleration.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    env=environment,
                    start_new_session=True,  # Ctrl-C is for the training
                    text=True,
                )
            assert self._process.stdin is not None
            self._process.stdin.write(key.to_json() + "\n")
            self._process.stdin.flush()  # left open: the worker ends when it closes
        except OSError as error:
            self._folder.cleanup()
            raise NotCompiledError(str(error)) from error

    def done(self) -> bool:
        """Return whether the step is compiled; a NotCompiledError if it could not be."""
        status = self._process.poll()
        if status is None:
            return False
        if status == 0:
            return True
        lines: list[str] = []
        with suppress(OSError):
            lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        raise NotCompiledError(lines[-1].strip() if lines else f"the compiler ended with status {status}")

    def close(self) -> None:
        """End the process and what it has started, and remove its files."""
        if self._process.poll() is None:
            with suppress(OSError):
                if hasattr(os, "killpg"):
                    os.killpg(self._process.pid, signal.SIGKILL)
                else:
                    self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        self._folder.cleanup()


def expect_compiler() -> None:
    """Raise a NotCompiledError if PyTorch would find no C++ compiler."""
    compiler = os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    if shutil.which(compiler) is None:
        raise NotCompiledError(
            f"there is no {compiler} on this machine; install one (on Debian apt-get install g++), or name one in CXX"
        )


def main() -> int:
    """Compile the step whose key is on standard input, and return the exit status."""
    key = CompileKey.from_json(sys.stdin.readline())
    threading.Thread(target=_end_with_standard_input, daemon=True).start()
    if hasattr(os, "nice"):
        os.nice(NICENESS)
    torch.set_num_threads(key.threads)  # what is worth dividing depends on it
    try:
        with tempfile.TemporaryDirectory(prefix="vaelab-") as folder:
            package = Path(folder) / "step.pt2"
            compile_to(package, key)
            keep(package, key)
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        print(f"{type(error).__name__}: {lines[0]}", file=sys.stderr)  # noqa: T201 - read by CompileJob
        return 1
    return 0


def _end_with_standard_input() -> None:
    with suppress(ValueError, OSError):
        while sys.stdin.read(1):
            pass
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)  # with the C++ compiler
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
