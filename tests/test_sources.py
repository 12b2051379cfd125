"""`load_dataset` with every kind of source, and its errors."""

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vaelab.data import Dataset, Split, builtin, load_dataset, strokes
from vaelab.data.limits import Budget, Limits
from vaelab.data.sources import expect_source, is_of_image_files
from vaelab.errors import ConfigError, DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 4, 5), dtype=np.uint8)


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Path]:
    """The same 20 grey 4×5 images as each kind of source."""
    flat, classes, idx, npz = (tmp_path / name for name in ("flat", "classes", "idx", "set.npz"))
    for folder in (flat, classes / "even", classes / "odd", idx):
        folder.mkdir(parents=True)
    for i, pixels in enumerate(IMAGES):
        Image.fromarray(pixels).save(flat / f"{i}.png")
        Image.fromarray(pixels).save(classes / ("odd" if i % 2 else "even") / f"{i}.png")
    (idx / "train-images-idx3-ubyte").write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 20, 4, 5) + IMAGES.tobytes())
    np.savez(npz, images=IMAGES)
    return {"flat": flat, "classes": classes, "idx": idx, "npz": npz}


@pytest.mark.parametrize("kind", ["flat", "classes", "idx", "npz"])
def test_every_kind_of_source_gives_the_same_images(sources: dict[str, Path], kind: str) -> None:
    for source in (sources[kind], str(sources[kind])):
        dataset = load_dataset(source)
        assert dataset.name == sources[kind].stem
        assert dataset.shape == (1, 4, 5)
        assert dataset.classes == (("even", "odd") if kind == "classes" else ())
        images = np.concatenate([split.images for split in (dataset.train, dataset.validation, dataset.test)])
        assert sorted(map(bytes, images)) == sorted(map(bytes, IMAGES))


@pytest.mark.parametrize("kind", ["flat", "classes", "idx", "npz"])
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_every_kind_of_source_can_be_resized(sources: dict[str, Path], kind: str, fit: Any) -> None:
    dataset = load_dataset(sources[kind], size="8x8", fit=fit)
    assert dataset.shape == (1, 8, 8)
    done = "centre-cropped" if fit == "crop" else "padded"
    assert any(note.startswith(f"Scaled 20 of 20 images to 8×8, {done} 20 of them") for note in dataset.notes)


@pytest.mark.parametrize("kind", ["flat", "classes", "idx", "npz"])
def test_the_split_follows_from_the_seed(sources: dict[str, Path], kind: str) -> None:
    first, again, other = (load_dataset(sources[kind], seed=seed) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint
    assert first.fingerprint != other.fingerprint


def test_a_builtin_name_wins_over_a_folder(sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    digits = sources["flat"].rename(sources["flat"].with_name("digits"))
    monkeypatch.chdir(digits.parent)
    assert load_dataset("digits").shape == (1, 8, 8)
    assert load_dataset("./digits").shape == (1, 4, 5)
    assert load_dataset(Path("digits")).shape == (1, 4, 5)
    monkeypatch.chdir(digits)
    assert load_dataset(".").name == "digits"


def test_builtin_digits_can_be_resized() -> None:
    dataset = load_dataset("digits", size=16)
    assert dataset.shape == (1, 16, 16)
    assert dataset.notes[-1] == "Scaled 1,797 of 1,797 images to 16×16, enlarged 1,797 of them."


def test_strokes_are_drawn_with_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def draw(**arguments: Any) -> Dataset:
        seen.update(arguments)
        arguments["progress"](30)
        arguments["progress"](12)
        split = Split(IMAGES[:, None])
        return Dataset("strokes", split, split[:1], split[:1])

    monkeypatch.setattr(strokes, "load_strokes", draw)
    calls: list[tuple[str, int, int]] = []
    assert load_dataset("strokes", seed=7, progress=lambda *call: calls.append(call)).name == "strokes"
    assert seen["seed"] == 7
    assert [call[:2] for call in calls] == [("drawing strokes", 30), ("drawing strokes", 42)]


NAMES = "mnist, digits, strokes, fashion-mnist, kmnist, emnist-letters"
KINDS = (
    rf"expected a built-in name \({NAMES}\), a folder \(of images, IDX files, \.parquet or \.tar files, or a pack\), an \.npz "
    r"file, a table of paths \(\.csv, \.parquet\), or images in a \.parquet or \.tar file"
)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("mnits", rf"no data source 'mnits': {KINDS}\. Did you mean 'mnist'\?$"),
        ("nowhere/at/all", rf"no data source 'nowhere/at/all': {KINDS}\.$"),
        ("missing.npz", rf"no data source 'missing\.npz': {KINDS}\.$"),
        ("", rf"no data source '': {KINDS}\.$"),
    ],
)
def test_an_unknown_source_is_refused(source: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(source)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.tsv").touch()
    with pytest.raises(DataError, match=rf"table\.tsv: got a file of kind \.tsv; {KINDS}$"):
        load_dataset(tmp_path / "table.tsv")
    (tmp_path / "train-images-idx3-ubyte").touch()
    with pytest.raises(DataError, match=f"got a file of kind .none.; {KINDS}; .*folder, {tmp_path}$"):
        load_dataset(tmp_path / "train-images-idx3-ubyte")


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got nothing; expected PNG, JPEG, WebP, BMP, TIFF or GIF images"):
        load_dataset(tmp_path)


@contextmanager
def without_privileges() -> Iterator[None]:
    """As the user nobody, where the tests run as the superuser, who may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("rights", [0o000, 0o400])
def test_a_class_folder_that_may_not_be_read_is_refused(sources: dict[str, Path], rights: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        shutil.copytree(sources["classes"], folder / "classes")
        (folder / "classes" / "odd").chmod(rights)
        message = r"odd.*: cannot be read \(.*Permission denied.*\)"
        with without_privileges(), pytest.raises(DataError, match=message):
            load_dataset(folder / "classes")
        (folder / "classes" / "odd").chmod(0o700)


def test_the_home_folder_may_be_written_short(sources: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(sources["flat"].parent))
    assert load_dataset("~/flat").name == "flat"


@pytest.mark.parametrize(("named", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_name_in_another_unicode_form_is_the_same(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: Any, stored: Any
) -> None:
    name = unicodedata.normalize(named, "é")
    sources["classes"].rename(tmp_path / unicodedata.normalize(stored, "é"))
    monkeypatch.chdir(tmp_path)
    assert load_dataset(name).classes == ("even", "odd")
    expect_source(name)
    assert is_of_image_files(name)
    (tmp_path / name).mkdir()  # now each name has its own folder
    with pytest.raises(DataError, match="got nothing"):
        load_dataset(name)


@pytest.mark.parametrize("name", ["max_pixels", "max_bytes", "max_classes"])
@pytest.mark.parametrize("value", [0, -1, 1.5, True])
def test_limits_are_whole_numbers(sources: dict[str, Path], name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"`{name}`"):
        load_dataset(sources["npz"], **{name: value})


@pytest.mark.parametrize("kind", ["flat", "idx", "npz"])
def test_decoded_bytes_are_limited(sources: dict[str, Path], kind: str) -> None:
    with pytest.raises(DataError, match=r"got 400 bytes when decoded.*`max_bytes=400`"):
        load_dataset(sources[kind], max_bytes=399)
    assert len(load_dataset(sources[kind], max_bytes=400).train) == 16


def test_a_ratio_of_compression_as_of_published_data_is_allowed() -> None:
    Budget(Limits(), 26_700_000).take(3_020_000_000, "dSprites")
    with pytest.raises(DataError, match=r"from 10,000,000 bytes of files.*`max_bytes=4500000000`"):
        Budget(Limits(), 10_000_000).take(4_500_000_000, "x")
    budget = Budget(Limits(max_bytes=100))
    budget.take(60, "first")
    with pytest.raises(DataError, match="second: got 120 bytes"):
        budget.take(60, "second")


def test_a_folder_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", refuse)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\); .*permissions"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "`size`: got 0; expected .*1…4096 pixels"),
        ({"fit": "crpo"}, r"`fit`: got 'crpo'; expected crop or pad\. Did you mean 'crop'\?"),
        ({"seed": -1}, "`seed`: got -1; expected .*at least 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        load_dataset("digits", **options)


def test_loading_imports_no_torch(sources: dict[str, Path]) -> None:
    program = (
        "import sys; from vaelab.data import load_dataset; load_dataset(sys.argv[1]); "
        "print('torch' in sys.modules, 'sklearn' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(sources["classes"])]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "False False\n"


def test_every_builtin_name_is_known() -> None:
    assert set(builtin.BUILTIN) == set(NAMES.split(", "))
