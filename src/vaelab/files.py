"""Atomic and durable writes: a file or folder is replaced completely, or stays as it was, whatever ends the process. Reading of
regular files only.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vaelab.errors import OutputError
from vaelab.interruption import open_signals

TEMPORARY = ".vaelab-"
"""Beginning of the names of temporary files, which a killed process leaves behind."""


@contextmanager
def atomic_write(path: Path, *, keep: Path | None = None) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, with the same suffix, and move it to `path` if no error occurs.

    The content is on the disk before the file is moved, and the move before the end.

    Parameters
    ----------
    path
        File to write.
    keep
        Where the file that is replaced is kept, if there is one, instead of what is there.

    Raises
    ------
    OutputError
        If the folder cannot be created or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        handle, name = tempfile.mkstemp(prefix=f"{TEMPORARY}{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise cannot_write(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp creates private files; give the usual permissions
        _flush(temporary)
        if keep is not None and path.is_file():
            _keep(path, keep)
        temporary.replace(path)
        _flush(path.parent)
    except OutputError:  # of an inner atomic_write
        raise
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def expect_new_folder(out: Path) -> None:
    """Raise an OutputError if `out` exists and is not an empty folder; temporary files of killed processes do not count."""
    if out.exists() and not (out.is_dir() and all(path.name.startswith(TEMPORARY) for path in out.iterdir())):
        raise OutputError(f"`out`: {out} exists and is not an empty folder; expected a new one: give another `out`")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `out`, and rename it to `out` if no error occurs; SIGTERM and SIGHUP leave nothing.

    Raises
    ------
    OutputError
        If `out` exists and is not an empty folder, or something cannot be written.
    """
    expect_new_folder(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise cannot_write(out, error) from error
    try:
        with open_signals():
            yield temporary
        temporary.chmod(0o777 & ~_umask())
        expect_new_folder(out)  # filling it may have taken long
        if out.is_dir():
            shutil.rmtree(out)
        temporary.replace(out)
    except OutputError:
        raise
    except OSError as error:
        raise cannot_write(out, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def expect_room(out: Path, needed: float, what: str) -> None:
    """Raise an OutputError if the disk of `out`, which may not exist yet, has less than `needed` bytes free for `what`."""
    free = shutil.disk_usage(next(folder for folder in (out, *out.absolute().parents) if folder.exists())).free
    if free < needed:
        raise OutputError(
            f"{out}: got {free / 2**30:.3g} GiB free on this disk; expected {needed / 2**30:.3g} GiB for {what}; make room, or "
            "give another `out`"
        )


def append_line(path: Path, line: str) -> None:
    """Append a line to a text file; it is on the disk at the end. An OutputError if it cannot be written."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise cannot_write(path, error) from error


def sweep(folder: Path, *stems: str) -> None:
    """Remove the temporary files of killed processes that wrote files with these stems; no process may be writing them."""
    for stem in stems:
        for left in folder.glob(f"{TEMPORARY}{stem}-*"):
            left.unlink(missing_ok=True)


def open_regular(path: str | os.PathLike[str], *, follow_links: bool = True) -> io.BufferedReader:
    """Open a file for reading in binary mode, and raise OSError unless it is a regular file, or without `follow_links` a link.

    Reading a pipe, a socket or a device could wait for ever, or never end.
    """

    def opener(name: str, flags: int) -> int:
        handle = os.open(name, flags | getattr(os, "O_NONBLOCK", 0))  # opening a pipe would wait for its writer
        if not stat.S_ISREG(os.fstat(handle).st_mode) or not (follow_links or stat.S_ISREG(os.lstat(name).st_mode)):
            os.close(handle)
            raise OSError(errno.EINVAL, "Not a regular file", name)
        return handle

    return open(path, "rb", opener=opener)


def expect_suffix(path: Path, *suffixes: str, parameter: str = "out") -> None:
    """Check that the name of an output file ends in one of `suffixes`; `parameter` is named in the error.

    Raises
    ------
    OutputError
        If it does not.
    """
    if path.suffix.lower() not in suffixes:
        *others, last = suffixes
        expected = " or ".join([", ".join(others), last] if others else [last])
        raise OutputError(f"`{parameter}`: got {path}; expected a name that ends in {expected}")


def cannot_write(path: Path, error: OSError) -> OutputError:
    """Return the error that every failed output raises."""
    return OutputError(f"cannot write {path}: {error.strerror or error}; choose another location")


def _keep(path: Path, kept: Path) -> None:
    """Make `kept` a second name of the file, or a copy where the file system has no links."""
    if kept.parent.is_symlink():
        raise NotADirectoryError(f"{kept.parent} is a link")
    kept.parent.mkdir(exist_ok=True)
    temporary = kept.with_name(f"{TEMPORARY}{kept.stem}-kept{kept.suffix}")
    temporary.unlink(missing_ok=True)
    try:
        temporary.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, temporary)
        _flush(temporary)
    temporary.replace(kept)
    _flush(kept.parent)


def _flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    folder = path.is_dir()
    if folder and os.name == "nt":  # Windows cannot open folders
        return
    handle = os.open(path, os.O_RDONLY if folder else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if not (folder and error.errno in (errno.EINVAL, errno.ENOTSUP)):  # a file system that does not order names
            raise
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
