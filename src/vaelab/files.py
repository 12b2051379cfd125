"""Atomic file writes: a file is replaced completely, or stays as it was."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vaelab.errors import OutputError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`, with the same suffix, and move it to `path` if no error occurs.

    Raises
    ------
    OutputError
        If the folder cannot be created or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(f"{path} is a folder")
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise cannot_write(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp creates private files; give the usual permissions
        temporary.replace(path)
    except OutputError:  # of an inner atomic_write
        raise
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
