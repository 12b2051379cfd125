"""IDX files: round trips, and errors for every kind of broken file."""

import gzip
import re
import struct
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vaelab.data.idx import is_idx_name, load_idx_folder, read_idx
from vaelab.errors import DataError


def to_idx(values: np.ndarray, *, code: int = 8, shape: tuple[int, ...] | None = None) -> bytes:
    shape = values.shape if shape is None else shape
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, code, len(shape), *shape) + values.tobytes()


def random_images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train-images-idx3-ubyte").write_bytes(to_idx(random_images(40, 4, 5)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(to_idx(np.arange(40, dtype=np.uint8) % 2))
    (tmp_path / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(to_idx(random_images(6, 4, 5))))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(to_idx(np.ones(6, dtype=np.uint8))))
    return tmp_path


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, max_side=6)), st.booleans())
def test_what_is_written_is_read(values: np.ndarray, zipped: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "values"
        path.write_bytes(gzip.compress(to_idx(values)) if zipped else to_idx(values))
        assert np.array_equal(read_idx(path), values)


@given(hnp.arrays(np.uint8, hnp.array_shapes(max_dims=3, max_side=5)), st.booleans(), st.data())
def test_every_cut_is_noticed(values: np.ndarray, zipped: bool, data: st.DataObject) -> None:
    whole = gzip.compress(to_idx(values)) if zipped else to_idx(values)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "values"
        path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
        with pytest.raises(DataError, match=r"expected|header states"):
            read_idx(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"got the first bytes \(none\); expected an IDX file, .* 00 00 08 03"),
        (b"\x89PNG1234", "got the first bytes 89 50 4e 47; expected an IDX file"),
        (b"\0\0\x08\x00", "got the first bytes 00 00 08 00; expected an IDX file"),
        (b"\0\0\x0d\x01\0\0\0\1\0\0\0\0", "got IDX values of type float32; expected uint8"),
        (b"\0\0\x08\x03\0\0", "got a header of 6 bytes; expected 16; the file is cut off"),
        (
            to_idx(random_images(2, 3, 4))[:-1],
            "2 × 3 × 4 = 24 bytes, got fewer; the file is cut off",
        ),
        (
            to_idx(random_images(2, 3, 4)) + b"x",
            "2 × 3 × 4 = 24 bytes, got more; .*trailing data",
        ),
        (gzip.compress(to_idx(random_images(2, 3, 4))[:-1], mtime=0), "= 24 bytes, got 23; the file is cut off"),
        (gzip.compress(to_idx(random_images(2, 3, 4)) + b"x", mtime=0), "= 24 bytes, got more; .*trailing data"),
        (
            gzip.compress(to_idx(random_images(99, 9, 9)), mtime=0)[:-9],
            "cannot be read .*; expected a complete IDX file",
        ),
        (
            gzip.compress(to_idx(random_images(2, 3, 4)), mtime=0) + b"junk",
            "cannot be read .*; expected a complete IDX file",
        ),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken"
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"broken: .*{message}"):
        read_idx(path)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_lying_header_takes_no_memory(tmp_path: Path, zipped: bool) -> None:
    content = to_idx(random_images(10), shape=(2**31, 2**31, 2**31))
    path = tmp_path / "liar"
    path.write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"header states 2147483648 × .* got fewer"):
        read_idx(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_a_gzip_that_inflates_past_its_header_is_not_inflated(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(to_idx(np.zeros(200_000_000, dtype=np.uint8), shape=(10, 4, 4)), 1))
    tracemalloc.start()
    with pytest.raises(DataError, match="10 × 4 × 4 = 160 bytes, got more"):
        read_idx(path)
    assert tracemalloc.get_traced_memory()[1] < 5e6
    tracemalloc.stop()


def test_a_folder_is_a_dataset(folder: Path) -> None:
    dataset = load_idx_folder(folder)
    assert dataset.shape == (1, 4, 5)
    assert dataset.classes == ("0", "1")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (36, 4, 6)
    assert np.array_equal(dataset.test.images[:, 0], random_images(6, 4, 5))
    assert dataset.name == folder.name


def test_labels_are_numbered_and_their_values_kept_as_names(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte").write_bytes(to_idx(np.where(np.arange(40) % 2, 1, 12).astype(np.uint8)))
    dataset = load_idx_folder(folder)
    assert dataset.classes == ("1", "12")
    assert dataset.train.labels is not None
    assert set(dataset.train.labels.tolist()) == {0, 1}


def test_labels_and_test_files_may_be_missing(folder: Path) -> None:
    for path in folder.glob("*labels*"):
        path.unlink()
    assert load_idx_folder(folder).classes == ()
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    assert len(load_idx_folder(folder).test) == 4


@pytest.mark.parametrize("shape", [(20, 3, 4, 5), (20, 4, 5, 3)])
def test_rgb_is_of_rank_four(tmp_path: Path, shape: tuple[int, ...]) -> None:
    (tmp_path / "train-images.idx4-ubyte").write_bytes(to_idx(random_images(*shape)))
    assert load_idx_folder(tmp_path).shape == (3, 4, 5)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (
            "train-labels-idx1-ubyte",
            np.zeros(39, np.uint8),
            r"labels of shape \(39,\) for 40 images; expected shape \(40,\)",
        ),
        ("train-labels-idx1-ubyte", np.zeros((40, 1), np.uint8), r"labels of shape \(40, 1\) for 40 images"),
        (
            "train-images-idx3-ubyte",
            np.zeros(40, np.uint8),
            r"got images of shape \(40,\); expected \(N, H, W\)",
        ),
        (
            "train-images-idx3-ubyte",
            np.zeros((40, 0, 5), np.uint8),
            "header of shape 40 × 0 × 5; expected up to 4 dimensions, none of them 0",
        ),
        (
            "train-images-idx3-ubyte",
            np.zeros((40, 5, 5), np.uint8),
            r"got test images of shape \(1, 4, 5\); expected",
        ),
        (
            "emnist-train-images-idx3-ubyte",
            np.zeros((40, 4, 5), np.uint8),
            "expected one file of train-images",
        ),
    ],
)
def test_files_that_do_not_match_are_refused(folder: Path, name: str, values: np.ndarray, message: str) -> None:
    (folder / name).write_bytes(to_idx(values))
    with pytest.raises(DataError, match=message):
        load_idx_folder(folder)


def test_a_folder_without_training_images_is_refused(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte").unlink()
    with pytest.raises(DataError, match=r"expected train-images-idx3-ubyte \(or \.gz\)"):
        load_idx_folder(folder)


def test_labels_of_the_training_images_alone_are_refused(folder: Path) -> None:
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match="labels for the training images but not for the test images"):
        load_idx_folder(folder)


def test_other_files_are_named_in_a_note(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte").rename(folder / "labels.idx1")
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    (folder / ".hidden").touch()
    dataset = load_idx_folder(folder)
    assert not dataset.labelled
    assert re.match(r"Ignored 'labels\.idx1': .*train-labels-idx1-ubyte", dataset.notes[0])


@pytest.mark.parametrize(
    ("code", "dtype", "name"), [(0x0C, ">i4", "int"), (0x0B, ">i2", "short"), (0x09, "i1", "byte")]
)
def test_labels_may_be_any_integers(folder: Path, code: int, dtype: str, name: str) -> None:
    (folder / "train-labels-idx1-ubyte").unlink()
    (folder / f"q-train-labels-idx1-{name}").write_bytes(
        to_idx((np.arange(40) % 2).astype(dtype), code=code, shape=(40,))
    )
    assert load_idx_folder(folder).classes == ("0", "1")


def test_images_may_be_floats_from_0_to_1(folder: Path) -> None:
    levels = load_idx_folder(folder)
    (folder / "train-images-idx3-ubyte").unlink()
    path = folder / "train-images-idx3-float"
    path.write_bytes(to_idx((random_images(40, 4, 5) / 255).astype(">f4"), code=0x0D))
    dataset = load_idx_folder(folder)
    assert dataset.fingerprint == levels.fingerprint
    assert dataset.notes[0].startswith("Scaled the floating-point images of train-images-idx3-float")
    path.write_bytes(to_idx(random_images(40, 4, 5).astype(">f4"), code=0x0D))
    with pytest.raises(DataError, match=r"idx3-float: got floats from 0 to 255; expected"):
        load_idx_folder(folder)


def test_labels_in_several_columns_are_refused(folder: Path) -> None:
    (folder / "train-labels-idx1-ubyte").unlink()
    (folder / "q-train-labels-idx2-int").write_bytes(to_idx(np.zeros((40, 8), ">i4"), code=0x0C))
    with pytest.raises(DataError, match=r"q-train-labels-idx2-int: got labels of shape \(40, 8\) for 40 images"):
        load_idx_folder(folder)


def test_emnist_lies_on_its_side_and_a_note_says_so(folder: Path) -> None:
    assert not any("EMNIST" in note for note in load_idx_folder(folder).notes)
    for path in folder.iterdir():
        path.rename(folder / f"emnist-digits-{path.name.replace('t10k', 'test')}")
    (note,) = (note for note in load_idx_folder(folder).notes if "EMNIST" in note)
    assert re.search("side.*emnist-letters", note)


def test_a_file_and_its_gzip_are_one(folder: Path) -> None:
    plain = (folder / "train-images-idx3-ubyte").read_bytes()
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(plain, mtime=0))
    assert len(load_idx_folder(folder).train) == 36


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("train-images-idx3-ubyte", True),
        ("t10k-labels.idx1-ubyte.gz", True),
        ("emnist-letters-test-images-idx3-ubyte.gz", True),
        ("train-images.png", False),
        ("train-images-idx3-ubyte.txt", False),
    ],
)
def test_idx_files_are_known_by_name(name: str, is_one: bool) -> None:
    assert is_idx_name(name) is is_one


@pytest.mark.parametrize("sides", [(1,) * 100, (0, 2**32 - 1, 2**32 - 1, 2**32 - 1), (0,)])
def test_a_header_of_no_image_is_refused(tmp_path: Path, sides: tuple[int, ...]) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(bytes([0, 0, 8, len(sides)]) + struct.pack(f">{len(sides)}I", *sides) + b"\0")
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte: got a header of shape .*; expected up to 4 dimensions"
    ):
        read_idx(path)
