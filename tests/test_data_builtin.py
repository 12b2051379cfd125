"""Built-in sources: MNIST from a folder, the cache or a mirror, verified on every way; digits from scikit-learn."""

import gzip
import hashlib
import os
import socket
import struct
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from vaelab.data import builtin
from vaelab.data.builtin import BUILTIN, MnistFile, load_builtin, load_digits, load_mnist
from vaelab.errors import DataError

SMALL = {
    "train-images-idx3-ubyte": (30, 28, 28),
    "train-labels-idx1-ubyte": (30,),
    "t10k-images-idx3-ubyte": (5, 28, 28),
    "t10k-labels-idx1-ubyte": (5,),
}


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


@pytest.fixture(autouse=True)
def small_mnist(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in small files for MNIST's, an empty cache, and mirrors that cannot be reached."""
    if request.node.get_closest_marker("mnist"):
        return
    published = write_small(tmp_path / "published")
    files = {
        name: MnistFile(
            shape,
            hashlib.sha256((published / f"{name}.gz").read_bytes()).hexdigest(),
            hashlib.sha256(small_values(name).tobytes()).hexdigest(),
        )
        for name, shape in SMALL.items()
    }
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/"
    monkeypatch.setattr(builtin, "MNIST_FILES", files)
    monkeypatch.setattr(builtin, "VALIDATION", 10)
    monkeypatch.setattr(builtin, "MIRRORS", (closed,))
    monkeypatch.setattr(builtin, "_cache_folder", lambda: tmp_path / "cache" / "mnist")
    monkeypatch.delenv("VAELAB_DATA_DIR", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


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
    dataset = load_mnist()
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (20, 10, 5)
    images, labels = small_values("train-images-idx3-ubyte"), small_values("train-labels-idx1-ubyte")
    assert np.array_equal(dataset.train.images[:, 0], images[:20])
    assert np.array_equal(dataset.validation.images[:, 0], images[20:])
    assert dataset.validation.labels is not None
    assert np.array_equal(dataset.validation.labels, labels[20:])
    assert dataset.notes == (
        "Took the last 10 training images for validation, and the 5 test images for the test set.",
    )
    assert not (tmp_path / "cache").exists()


def test_mnist_is_downloaded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: tuple[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    url, served = mirror
    monkeypatch.setattr(builtin, "MIRRORS", (*builtin.MIRRORS, url))  # the first cannot be reached
    dataset = load_mnist()
    assert len(dataset.test) == 5
    assert dataset.notes[0] == f"Downloaded the files to {tmp_path / 'cache' / 'mnist'}."
    assert "100%" in capfd.readouterr().err
    for path in served.iterdir():
        path.unlink()
    assert load_mnist().fingerprint == dataset.fingerprint


def test_a_file_with_another_hash_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: tuple[str, Path]
) -> None:
    url, served = mirror
    monkeypatch.setattr(builtin, "MIRRORS", (url,))
    (served / "train-images-idx3-ubyte.gz").write_bytes(b"not what was published")
    with pytest.raises(DataError, match=r"mnist: got wrong SHA-256 when downloading train-images-idx3-ubyte\.gz"):
        load_mnist()
    assert list((tmp_path / "cache" / "mnist").iterdir()) == []


def test_a_missing_file_is_taken_from_the_next_mirror(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mirror: tuple[str, Path]
) -> None:
    url, _ = mirror
    monkeypatch.setattr(builtin, "MIRRORS", (f"{url}nowhere/", url))
    assert len(load_mnist().train) == 20


@pytest.mark.parametrize("named", [None, "data"])
def test_without_network_it_is_said_where_to_put_which_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str | None
) -> None:
    folder = tmp_path / "cache" / "mnist"
    if named:
        monkeypatch.setenv("VAELAB_DATA_DIR", str(tmp_path / named))
        folder = tmp_path / named / "mnist"
    with pytest.raises(DataError) as caught:
        load_mnist()
    assert str(caught.value) == (
        "mnist: got ConnectionError when downloading train-images-idx3-ubyte.gz; expected a network or the four files; "
        "put train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz, "
        f"t10k-labels-idx1-ubyte.gz into {folder}"
    )
    write_small(folder, spelling="{}")
    assert len(load_mnist().train) == 20


def test_a_folder_without_all_four_is_passed_over_and_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_small(tmp_path / "cache" / "mnist")
    write_small(tmp_path / "data")
    (tmp_path / "data" / "t10k-images-idx3-ubyte.gz").unlink()
    monkeypatch.setenv("VAELAB_DATA_DIR", str(tmp_path / "data"))
    assert load_mnist().notes[0] == (
        f"VAELAB_DATA_DIR ({tmp_path / 'data'}) does not hold MNIST's four files; "
        f"read them from {tmp_path / 'cache' / 'mnist'}."
    )


def test_another_set_under_the_same_names_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAELAB_DATA_DIR", str(write_small(tmp_path / "fashion")))
    monkeypatch.setattr(
        builtin,
        "MNIST_FILES",
        {name: file._replace(values_sha256="0" * 64) for name, file in builtin.MNIST_FILES.items()},
    )
    with pytest.raises(
        DataError, match=r"got values of shape \(30, 28, 28\) that are not MNIST's train-images-idx3-ubyte; expected"
    ):
        load_mnist()


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
    assert list(BUILTIN) == ["mnist", "digits", "strokes"]
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
