"""Files that appear under their names whole or not at all; what was there before survives a failure."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vaelab.errors import OutputError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, of the same suffix, that takes its place when the block ends without an error.

    Raises
    ------
    OutputError
        If the folder cannot be made or the file cannot be written.
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
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files; these are the user's own
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def expect_suffix(path: Path, *suffixes: str) -> None:
    """Refuse an output that is not named as one of the kinds that can be written.

    Raises
    ------
    OutputError
        If the name of `path` ends in none of `suffixes`.
    """
    if path.suffix.lower() not in suffixes:
        *others, last = suffixes
        raise OutputError(
            f"--out: got {path}; expected a name that ends in {' or '.join([', '.join(others), last] if others else [last])}"
        )


def cannot_write(path: Path, error: OSError) -> OutputError:
    """The one error of every output that fails."""
    reason = error.strerror or str(error)
    return OutputError(f"cannot write {path}: {reason}; expected a place that can be written to: give another --out")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
