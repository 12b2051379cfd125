"""Output files are written atomically."""

import os
from pathlib import Path

import pytest

from vaelab.errors import OutputError
from vaelab.files import atomic_write


def test_a_file_appears_with_the_usual_rights(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "deep" / "a.txt") as path:
        path.write_text("new")
    assert (tmp_path / "deep" / "a.txt").read_text() == "new"
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "deep" / "a.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")

    def fail() -> None:
        with atomic_write(tmp_path / "a.txt") as path:
            path.write_text("half of the n")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]  # noqa: PTH208


def test_a_failed_write_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OutputError, match=r"cannot write .*file/a\.txt.* location"),
        atomic_write(tmp_path / "file" / "a.txt"),
    ):
        pass
    with pytest.raises(OutputError, match="is a folder"), atomic_write(tmp_path):
        pass


def test_an_inner_failure_is_reported_once(tmp_path: Path) -> None:
    (tmp_path / "b.txt").mkdir()
    with (
        pytest.raises(OutputError, match=r"^cannot write [^:]*b\.txt: [^:]* is a folder; "),
        atomic_write(tmp_path / "a.txt"),
        atomic_write(tmp_path / "b.txt"),
    ):
        pass
    assert os.listdir(tmp_path) == ["b.txt"]  # noqa: PTH208
