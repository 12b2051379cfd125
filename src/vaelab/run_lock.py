"""Locks of outputs: at most one process trains a run, or writes a pack. Does not import torch."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from vaelab.errors import OutputError, RunError, VaelabError
from vaelab.run_folder import PRIVATE

LOCK = f"{PRIVATE}lock"
"""Name of the file that a process locks while it trains a run; it holds the number of the process."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder, which is made if it does not exist; the system releases it if the process is killed.

    File systems without locks have none.

    Raises
    ------
    RunError
        If a process, which the message names, is training the run.
    OutputError
        If the folder cannot be made or written.
    """
    try:
        with locked_by(folder / LOCK, lambda: _in_use(folder)):
            yield
    finally:
        with suppress(OSError):
            folder.rmdir()  # if nothing else is in it


@contextmanager
def locked_by(path: Path, in_use: Callable[[], VaelabError]) -> Iterator[None]:
    """Hold the lock file `path`, whose folder is made if it does not exist; it is removed at the end.

    Raises
    ------
    VaelabError
        `in_use()`, if another process holds it.
    OutputError
        If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _locked_file(path)
    except BlockingIOError:
        raise in_use() from None
    except OSError as error:
        raise OutputError(f"cannot write {path.parent}: {error.strerror or error}; choose another location") from error
    try:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
    finally:
        ours = _is_at(file, path)  # not that of another training, after the folder was deleted
        if os.name == "nt":
            file.close()
        with suppress(OSError):
            if ours:
                path.unlink()
        file.close()


def expect_free(folder: Path) -> None:
    """Raise a RunError if a process, which the message names, is training the run in a folder."""
    with suppress(OSError), _opened(folder / LOCK, "r+") as file:
        try:
            _lock(file)
        except BlockingIOError:
            raise _in_use(folder) from None


def _locked_file(path: Path) -> IO[str]:
    """Return the file at `path`, open and locked; a BlockingIOError if another process has locked it."""
    while True:
        file = _opened(path, "a+")
        try:
            _lock(file)
        except BaseException:
            file.close()
            raise
        if _is_at(file, path):
            return file
        file.close()  # another process has removed it meanwhile


def _opened(path: Path, mode: str) -> IO[str]:
    """Open a file, but not through a link, with which a run of others could have a file changed."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o666))


def _is_at(file: IO[str], path: Path) -> bool:
    """Return whether an open file is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def _lock(file: IO[str]) -> None:
    """Lock an open file until it is closed; a BlockingIOError if it is locked already."""
    if sys.platform == "win32":
        import msvcrt

        file.seek(2**20)  # behind the content, which stays readable
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            raise BlockingIOError from None
    else:
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if isinstance(error, BlockingIOError):
                raise  # else this file system has no locks


def _in_use(folder: Path) -> RunError:
    return RunError(f"{folder}: {holder(folder / LOCK)} is training it; wait for its end, or give another `out`")


def holder(path: Path) -> str:
    """Return the process that holds a lock file, for messages."""
    with suppress(OSError):
        if number := path.read_text():
            return f"process {number}"
    return "another process"
