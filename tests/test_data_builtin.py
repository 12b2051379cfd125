"""Built-in sources: published data sets from a folder, the cache or a mirror, always verified; digits from scikit-learn."""

import gzip
import hashlib
import os
import re
import socket
import struct
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vaelab.data.builtin import BUILTIN, load_builtin, load_digits
from vaelab.data.download import PUBLISHED, Archive, PublishedFile, load_published
from vaelab.errors import DataError

SMALL = {
    "train-images-idx3-ubyte": (30, 28, 28),
    "train-labels-idx1-ubyte": (30,),
    "t10k-images-idx3-ubyte": (5, 28, 28),
    "t10k-labels-idx1-ubyte": (5,),
}
EMNIST = [
    f"emnist-letters-{part}-ubyte"
    for part in ("train-images-idx3", "train-labels-idx1", "test-images-idx3", "test-labels-idx1")
]


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def small_values(name: str) -> np.ndarray:
    return np.random.default_rng(len(name)).integers(0, 10, SMALL[name], dtype=np.uint8)


def write_small(folder: Path, *, spelling: str = "{}.gz") -> Path:
    """Four small files under MNIST's names, gzipped where the spelling says so."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, shape in SMALL.items():
        content = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + small_values(name).tobytes()
        path = folder / spelling.format(name.replace("-idx", ".idx") if "dot" in spelling else name)
        path = path.with_name(path.name.replace("dot", ""))
        path.write_bytes(gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
    return folder


def alter(monkeypatch: pytest.MonkeyPatch, name: str, **changes: Any) -> None:
    monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], **changes))


@pytest.fixture(autouse=True)
def small_sets(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in small files for the published ones, an empty cache, and mirrors that cannot be reached."""
    if request.node.get_closest_marker("mnist"):
        return
    folder = write_small(tmp_path / "published")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/"
    for set_name in ("mnist", "fashion-mnist", "kmnist"):
        files = {
            name: PublishedFile(
                shape,
                hashlib.sha256((folder / f"{name}.gz").read_bytes()).hexdigest(),
                hashlib.sha256(small_values(name).tobytes()).hexdigest() if set_name == "mnist" else None,
            )
            for name, shape in SMALL.items()
        }
        alter(monkeypatch, set_name, files=files, validation=10, mirrors=(closed,))
    letters = {name: PublishedFile(shape) for name, shape in zip(EMNIST, SMALL.values(), strict=True)}
    archive = pack_letters(tmp_path / "published", tmp_path / "letters")
    alter(monkeypatch, "emnist-letters", files=letters, archive=archive, mirrors=(closed,))
    monkeypatch.setenv("VAELAB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("VAELAB_DATA_DIR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def pack_letters(source: Path, folder: Path) -> Archive:
    """gzip.zip as EMNIST's: letters 1…26, the files in a folder, and others beside them."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "gzip.zip", "w") as archive:
        for name, small in zip(EMNIST, SMALL, strict=True):
            content = gzip.decompress((source / f"{small}.gz").read_bytes())
            if "labels" in name:
                content = content[:8] + bytes(1 + value for value in content[8:])
            archive.writestr(f"gzip/{name}.gz", gzip.compress(content, mtime=0))
        archive.writestr("gzip/emnist-digits-train-images-idx3-ubyte.gz", b"another")
    return Archive("gzip.zip", hashlib.sha256((folder / "gzip.zip").read_bytes()).hexdigest(), "gzip/")


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A mirror on the loopback, and the folder that it serves."""
    folder = tmp_path / "published"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", folder
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("spelling", ["{}", "{}.gz", "dot{}", "dot{}.gz"])
@pytest.mark.parametrize("inside", [".", "mnist"])
def test_the_named_folder_needs_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str, inside: str
) -> None:
    write_small(tmp_path / "data" / inside, spelling=spelling)
    monkeypatch.setenv("VAELAB_DATA_DIR", str(tmp_path / "data"))
    dataset = load_published("mnist")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (20, 10, 5)
    images, labels = small_values("train-images-idx3-ubyte"), small_values("train-labels-idx1-ubyte")
    assert np.array_equal(dataset.train.images[:, 0], images[:20])
    assert np.array_equal(dataset.validation.images[:, 0], images[20:])
    assert dataset.validation.labels is not None
    assert np.array_equal(dataset.validation.labels, labels[20:])
    (note,) = dataset.notes
    assert re.search("last 10 training images for validation.* 5 test images", note)
    assert not (tmp_path / "cache").exists()


def test_mnist_is_downloaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: tuple[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    url, served = mirror
    alter(monkeypatch, "mnist", mirrors=(*PUBLISHED["mnist"].mirrors, url))  # the first cannot be reached
    dataset = load_published("mnist")
    assert len(dataset.test) == 5
    assert dataset.notes[0] == f"Downloaded the files to {tmp_path / 'cache' / 'mnist'}."
    assert "100%" in capfd.readouterr().err
    for path in served.iterdir():
        path.unlink()
    assert load_published("mnist").fingerprint == dataset.fingerprint


def test_a_file_with_another_hash_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: tuple[str, Path]
) -> None:
    url, served = mirror
    alter(monkeypatch, "mnist", mirrors=(url,))
    (served / "train-images-idx3-ubyte.gz").write_bytes(b"not what was published")
    with pytest.raises(DataError, match=r"^mnist: train-images-idx3-ubyte\.gz .*wrong SHA-256"):
        load_published("mnist")
    assert list((tmp_path / "cache" / "mnist").iterdir()) == []


def test_a_missing_file_is_taken_from_the_next_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: tuple[str, Path]
) -> None:
    url, _ = mirror
    alter(monkeypatch, "mnist", mirrors=(f"{url}nowhere/", url))
    assert len(load_published("mnist").train) == 20


@pytest.mark.parametrize("named", [None, "data"])
def test_without_network_it_is_said_where_to_put_which_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str | None
) -> None:
    folder = tmp_path / "cache" / "mnist"
    if named:
        monkeypatch.setenv("VAELAB_DATA_DIR", str(tmp_path / named))
        folder = tmp_path / named / "mnist"
    with pytest.raises(DataError) as caught:
        load_published("mnist")
    message = str(caught.value)
    assert re.match(r"mnist: train-images-idx3-ubyte\.gz .*ConnectionError", message)
    assert all(f"{file}.gz" in message for file in SMALL)
    assert message.endswith(f" into {folder}")
    write_small(folder, spelling="{}")
    assert len(load_published("mnist").train) == 20


def test_a_folder_without_all_four_is_passed_over_and_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_small(tmp_path / "cache" / "mnist")
    write_small(tmp_path / "data")
    (tmp_path / "data" / "t10k-images-idx3-ubyte.gz").unlink()
    monkeypatch.setenv("VAELAB_DATA_DIR", str(tmp_path / "data"))
    note = load_published("mnist").notes[0]
    assert note.startswith(f"VAELAB_DATA_DIR ({tmp_path / 'data'}) ")
    assert note.endswith(f" {tmp_path / 'cache' / 'mnist'}.")


def test_another_set_under_the_same_names_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAELAB_DATA_DIR", str(write_small(tmp_path / "fashion")))
    files = {name: file._replace(values_sha256="0" * 64) for name, file in PUBLISHED["mnist"].files.items()}
    alter(monkeypatch, "mnist", files=files)
    with pytest.raises(DataError, match=r"\(30, 28, 28\) that are not .*train-images-idx3-ubyte of MNIST; .*`source`"):
        load_published("mnist")


@pytest.mark.parametrize("name", ["fashion-mnist", "kmnist"])
def test_sets_in_mnists_form_are_downloaded_and_verified(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: tuple[str, Path], name: str
) -> None:
    url, served = mirror
    alter(monkeypatch, name, mirrors=(url,))
    dataset = load_builtin(name)
    assert dataset.name == name
    assert dataset.classes == PUBLISHED[name].classes
    assert len(dataset.classes) == 10
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (20, 10, 5)
    assert dataset.notes[0] == f"Downloaded the files to {tmp_path / 'cache' / name}."
    assert np.array_equal(dataset.train.images[:, 0], small_values("train-images-idx3-ubyte")[:20])
    for path in served.iterdir():
        path.unlink()
    assert load_builtin(name).fingerprint == dataset.fingerprint  # from the cache


@pytest.mark.parametrize("name", ["fashion-mnist", "kmnist"])
def test_a_set_is_not_looked_for_among_mnists_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("VAELAB_DATA_DIR", str(write_small(tmp_path / "data")))
    with pytest.raises(DataError, match=rf"^{name}: .*ConnectionError.* into {tmp_path / 'data' / name}$"):
        load_builtin(name)
    write_small(tmp_path / "data" / name, spelling="{}")
    assert len(load_builtin(name).train) == 20


def test_a_gzip_that_is_not_the_published_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_small(tmp_path / "data" / "kmnist")
    monkeypatch.setenv("VAELAB_DATA_DIR", str(tmp_path / "data"))
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1] + b"x"))
    with pytest.raises(DataError, match=r"not .*train-images-idx3-ubyte of KMNIST; .*`source`"):
        load_builtin("kmnist")


def test_emnist_letters_come_out_of_an_archive_and_stand_upright(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: tuple[str, Path]
) -> None:
    url, _ = mirror
    (tmp_path / "letters" / "gzip.zip").rename(tmp_path / "published" / "gzip.zip")
    alter(monkeypatch, "emnist-letters", mirrors=(f"{url}nowhere/", url))
    dataset = load_builtin("emnist-letters")
    assert dataset.classes == tuple("abcdefghijklmnopqrstuvwxyz")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (27, 3, 5)
    assert np.array_equal(dataset.test.images[:, 0], small_values("t10k-images-idx3-ubyte").transpose(0, 2, 1))
    assert dataset.test.labels is not None
    assert np.array_equal(dataset.test.labels, small_values("t10k-labels-idx1-ubyte"))
    kept = sorted(path.name for path in (tmp_path / "cache" / "emnist-letters").iterdir())
    assert kept == sorted(f"{name}.gz" for name in EMNIST)
    (tmp_path / "published" / "gzip.zip").unlink()
    assert load_builtin("emnist-letters").fingerprint == dataset.fingerprint


def test_without_network_it_is_said_which_letters_to_put_where(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_builtin("emnist-letters")
    message = str(caught.value)
    assert re.match(r"emnist-letters: gzip\.zip .*ConnectionError", message)
    assert f"put {', '.join(f'{name}.gz' for name in EMNIST)} into {tmp_path / 'cache' / 'emnist-letters'} (" in message
    assert message.endswith("gzip.zip)")


def test_labels_out_of_range_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "data" / "emnist-letters"
    folder.mkdir(parents=True)
    for name, small in zip(EMNIST, SMALL, strict=True):  # labels from 0, as no letter has
        (folder / f"{name}.gz").write_bytes((tmp_path / "published" / f"{small}.gz").read_bytes())
    monkeypatch.setenv("VAELAB_DATA_DIR", str(tmp_path / "data"))
    with pytest.raises(DataError, match=r"not .*emnist-letters-train-labels-idx1-ubyte of EMNIST; "):
        load_builtin("emnist-letters")


def test_the_published_hashes_are_hashes() -> None:
    for name in ("mnist", "fashion-mnist", "kmnist"):
        assert all(re.fullmatch("[0-9a-f]{64}", file.gz_sha256 or "") for file in PUBLISHED[name].files.values())


def test_digits_are_bundled() -> None:
    dataset = load_digits()
    assert dataset.name == "digits"
    assert dataset.shape == (1, 8, 8)
    assert dataset.classes == tuple("0123456789")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (1455, 162, 180)
    assert (dataset.train.images.min(), dataset.train.images.max()) == (0, 255)
    assert load_digits(seed=1).fingerprint != dataset.fingerprint
    assert load_builtin("digits").fingerprint == dataset.fingerprint


def test_the_names_are_told_in_one_line_each() -> None:
    assert list(BUILTIN) == ["mnist", "digits", "strokes", "fashion-mnist", "kmnist", "emnist-letters"]
    assert not any("\n" in line for line in BUILTIN.values())


@pytest.mark.mnist
def test_mnist_itself() -> None:
    assert os.environ["VAELAB_DATA_DIR"]
    dataset = load_builtin("mnist")
    assert dataset.shape == (1, 28, 28)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (50_000, 10_000, 10_000)
    assert dataset.train.labels is not None
    assert dataset.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert dataset.train.images.mean() == pytest.approx(33.3, abs=0.3)
