"""Folders with links, pipes, sockets, and folders without end: only regular files within the folder are read."""

import os
import socket
from pathlib import Path

import pytest
from test_data_folders import fill, save

from vaelab.data import load_dataset
from vaelab.errors import DataError


@pytest.mark.parametrize("link", ["bee", "bee/1.png", "ant/more"])
def test_links_that_leave_the_folder_are_refused(tmp_path: Path, link: str) -> None:
    fill(tmp_path / "elsewhere", "ant", 2)
    fill(tmp_path / "set", "ant", 2)
    (tmp_path / "set" / link).parent.mkdir(exist_ok=True)
    (tmp_path / "set" / link).symlink_to(tmp_path / "elsewhere" / "ant" / ("1.png" if link.endswith("png") else ""))
    (tmp_path / "set" / "notes.txt").symlink_to("/etc/hosts")  # not read
    with pytest.raises(DataError, match=rf"{link}: got a link to .*elsewhere.*`follow_links=True`"):
        load_dataset(tmp_path / "set")
    dataset = load_dataset(tmp_path / "set", follow_links=True)
    assert sum(map(len, (dataset.train, dataset.validation, dataset.test))) == (3 if link.endswith("png") else 4)


def test_a_folder_that_is_a_link_itself_is_taken(tmp_path: Path) -> None:
    fill(tmp_path / "set", "ant", 2)
    (tmp_path / "set" / "ant" / "again.png").symlink_to("1.png")
    (tmp_path / "link").symlink_to("set")
    assert len(load_dataset(tmp_path / "link").train) == 3


@pytest.mark.parametrize("kind", ["pipe", "socket", "link to a pipe"])
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    """A pipe would wait for a writer for ever."""
    fill(tmp_path, "ant", 2)
    path = tmp_path / "ant" / "x.png"
    with socket.socket(socket.AF_UNIX) as server:
        if kind == "socket":
            server.bind(str(path))
        else:
            os.mkfifo(tmp_path / "pipe" if "link" in kind else path)
            if "link" in kind:
                path.symlink_to("../pipe")
        dataset = load_dataset(tmp_path)
    assert len(dataset.train) == 2
    count = 2 if "link" in kind else 1
    assert any(f"{count} pipe, socket or device" in note for note in dataset.notes)


def test_links_to_themselves_are_broken_files(tmp_path: Path) -> None:
    fill(tmp_path, "ant", 2)
    (tmp_path / "ant" / "x.png").symlink_to("x.png")
    with pytest.raises(DataError, match=r"x\.png: cannot be read"):
        load_dataset(tmp_path)
    assert len(load_dataset(tmp_path, skip_broken=True).train) == 2


def test_many_links_to_many_folders_are_read_once(tmp_path: Path) -> None:
    """Ten folders with ten links to all of them: every path through them would be 10^10."""
    fill(tmp_path, "bee", 1)
    fill(tmp_path / "ant", " ".join(map(str, range(10))), 1)
    for i in range(10):
        for j in range(10):
            (tmp_path / "ant" / f"{i}" / f"link{j}").symlink_to(f"../{j}")
    dataset = load_dataset(tmp_path)
    assert sum(map(len, (dataset.train, dataset.validation, dataset.test))) == 11
    assert any("100 link to a folder that is read already" in note for note in dataset.notes)


def test_folders_within_folders_have_a_largest_depth(tmp_path: Path) -> None:
    fill(tmp_path, "ant", 1)
    save(tmp_path / "ant" / "/".join("d" * 64) / "x.png")
    assert len(load_dataset(tmp_path).train) == 2
    save(tmp_path / "ant" / "/".join("d" * 65) / "x.png")
    with pytest.raises(DataError, match="more than 64 folders inside one another"):
        load_dataset(tmp_path)


def test_the_number_of_classes_is_limited(tmp_path: Path) -> None:
    fill(tmp_path, "a b c d", 1)
    assert len(load_dataset(tmp_path, max_classes=4).classes) == 4
    with pytest.raises(DataError, match=r"more than 3 folders.*`max_classes`"):
        load_dataset(tmp_path, max_classes=3)
    fill(tmp_path / "deep", "ant bee", 1)
    fill(tmp_path / "deep" / "ant", "1 2 3 4 5", 1)  # folders within a class are no classes
    assert load_dataset(tmp_path / "deep", max_classes=3).classes == ("ant", "bee")


def test_idx_files_that_are_links_stay_within_the_folder(tmp_path: Path) -> None:
    name = "train-images-idx3-ubyte"
    (tmp_path / "set").mkdir()
    (tmp_path / name).write_bytes(bytes([0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2]) + bytes(8))
    (tmp_path / "set" / name).symlink_to(f"../{name}")
    with pytest.raises(DataError, match=r"got a link to .*`follow_links=True`"):
        load_dataset(tmp_path / "set")
    assert len(load_dataset(tmp_path / "set", follow_links=True).train) == 2


def test_the_command_line_spells_the_options(tmp_path: Path) -> None:
    from vaelab.cli.app import SourceOptions, source_arguments
    from vaelab.spelling import with_options

    assert source_arguments(SourceOptions(follow_links=True, max_bytes=7)) == ["--follow-links", "--max-bytes", "7"]
    (tmp_path / "a.png").symlink_to("/etc/hosts")
    with pytest.raises(DataError) as raised:
        load_dataset(tmp_path)
    assert with_options(str(raised.value)).endswith("if you trust the folder, pass --follow-links")
