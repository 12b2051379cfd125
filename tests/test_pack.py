"""Packs hold what their sources hold, are continued after an interruption, and refuse what was altered."""

from __future__ import annotations

import json
import mmap
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vaelab.cli import main
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data import load_dataset
from vaelab.data import pack as pack_module
from vaelab.data import packing as packing_module
from vaelab.data.dataset import Dataset, Split
from vaelab.data.pack import INDEX, Source, check_pack, load_pack
from vaelab.data.pack_writing import BLOCKS, partial_folder, source_of, write_pack
from vaelab.data.packing import pack_source
from vaelab.data.strokes import draw_strokes
from vaelab.errors import ConfigError, DataError, OutputError
from vaelab.models.moments import Moments
from vaelab.training.fit import PackedMoments, fit, moments_of

COUNT = 60  # images of the folder

moments = PackedMoments


class Stop(PackedMoments):
    """Interrupts the packing when all blocks are written."""

    def planes(self) -> np.ndarray:
        raise KeyboardInterrupt


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of seven images of 8×8 in colour."""
    monkeypatch.setattr(pack_module, "BLOCK_BYTES", 7 * 3 * 8 * 8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 8×8 images in colour."""
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        path = tmp_path / "source" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8)).save(path)
    return tmp_path / "source"


def expect_equal(packed: Dataset, loaded: Dataset) -> None:
    assert (packed.name, packed.classes, packed.shape) == (loaded.name, loaded.classes, loaded.shape)
    for split in ("train", "validation", "test"):
        ours, theirs = packed.part(split), loaded.part(split)
        np.testing.assert_array_equal(ours.images, theirs.images)
        if theirs.labels is None:
            assert ours.labels is None
        else:
            assert ours.labels is not None
            np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert packed.fingerprint == loaded.fingerprint


def is_mapped(array: np.ndarray) -> bool:
    base: Any = array
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    return isinstance(base, np.memmap) or (isinstance(base, memoryview) and isinstance(base.obj, mmap.mmap))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("options", [{}, {"size": 4}, {"classes": "b"}, {"limit": 20, "seed": 3}])
def test_the_pack_of_a_folder_holds_what_the_folder_holds(
    folder: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    reports = []
    pack_source(folder, tmp_path / "pack", moments, progress=lambda *report: reports.append(report), **options)
    packed, loaded = load_dataset(tmp_path / "pack"), load_dataset(folder, **options)
    expect_equal(packed, loaded)
    assert is_mapped(packed.train.images)
    assert is_mapped(packed.test.images)
    names = {"train", "validation", "test"}
    assert {path.name for path in (tmp_path / "pack").iterdir()} == {
        *("pack.json", "moments.npy"),
        *(f"{name}{what}.npy" for name in names for what in ("", "-labels")),
    }
    total = len(loaded.train) + len(loaded.validation) + len(loaded.test)
    assert reports[-1] == ("packing", total, total)
    assert set(loaded.notes) - set(packed.notes) <= {note for note in loaded.notes if note.startswith("Scaled")}
    for ours, theirs in zip(moments_of(packed.train), Moments.of(torch.from_numpy(loaded.train.images)), strict=True):
        assert ours is not None
        assert theirs is not None
        assert torch.equal(ours, theirs)
    assert not partial_folder(tmp_path / "pack").exists()


@pytest.mark.usefixtures("small_blocks")
def test_a_folder_without_labels_and_of_mixed_sizes(folder: Path, tmp_path: Path) -> None:
    for path in folder.rglob("*.png"):
        shutil.move(path, folder / path.name)
    for name in "ab":
        (folder / name).rmdir()
    Image.new("RGB", (40, 30), (9, 200, 30)).save(folder / "wide.png")
    pack_source(folder, tmp_path / "pack", moments)
    expect_equal(load_dataset(tmp_path / "pack"), load_dataset(folder))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("judged", [1, 1000])
def test_one_image_in_colour_makes_all_images_rgb(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judged: int
) -> None:
    monkeypatch.setattr(packing_module, "JUDGED", judged)
    for path in sorted(folder.rglob("*.png"))[:-1]:
        with Image.open(path) as image:
            grey = image.convert("L")
        grey.save(path)
    pack_source(folder, tmp_path / "pack", moments)
    packed = load_dataset(tmp_path / "pack")
    assert packed.shape == (3, 8, 8)
    expect_equal(packed, load_dataset(folder))


def test_a_table_and_arrays(folder: Path, tmp_path: Path, tiny: Dataset) -> None:
    table = tmp_path / "table.csv"
    rows = [f"source/{'ab'[n % 2]}/{n}.png,{'ab'[n % 2]}" for n in range(COUNT)]
    table.write_text("\n".join(["path,label", *rows]), "utf-8")
    assert tiny.train.labels is not None
    np.savez(tmp_path / "arrays.npz", images=tiny.train.images, labels=tiny.train.labels)
    for source in (table, tmp_path / "arrays.npz"):
        pack_source(source, tmp_path / f"{source.stem}.pack", moments)
        expect_equal(load_dataset(tmp_path / f"{source.stem}.pack"), load_dataset(source))


def test_strokes_in_any_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing_module, "VALIDATION", 300)
    monkeypatch.setattr(packing_module, "TEST", 200)
    monkeypatch.setattr(pack_module, "BLOCK_BYTES", 130 * 28 * 28)
    pack_source("strokes", tmp_path / "pack", moments, count=700, seed=4)
    packed, drawn = load_dataset(tmp_path / "pack"), draw_strokes(1200, seed=4)
    for split, part in zip(
        (packed.train, packed.validation, packed.test), (drawn[:700], drawn[700:1000], drawn[1000:]), strict=True
    ):
        np.testing.assert_array_equal(split.images, part.images)
        np.testing.assert_array_equal(split.labels, part.labels)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("broken_at", range(1, 9, 2))
def test_an_interrupted_pack_is_continued(folder: Path, tmp_path: Path, broken_at: int) -> None:
    whole = source_of(load_dataset(folder))
    asked: list[tuple[str, int]] = []

    def interrupted(split: str, *, after: int) -> Callable[[int, int], tuple[np.ndarray, np.ndarray | None]]:
        def read(first: int, last: int) -> tuple[np.ndarray, np.ndarray | None]:
            if len(asked) == after:
                raise KeyboardInterrupt
            asked.append((split, first))
            return whole.read[split](first, last)

        return read

    out = tmp_path / "pack"
    with pytest.raises(KeyboardInterrupt):
        write_pack(whole._replace(read={s: interrupted(s, after=broken_at) for s in whole.read}), out, moments)
    assert not out.exists()
    with (partial_folder(out) / BLOCKS).open("a") as file:
        file.write('["train 7", ["cut')  # a line that was being written
    before = list(asked)
    write_pack(whole._replace(read={s: interrupted(s, after=1000) for s in whole.read}), out, moments)
    assert asked[: len(before)] == before
    assert len(asked) == len(set(asked))  # no block was read twice
    expect_equal(load_pack(out), load_dataset(folder))


@pytest.mark.usefixtures("small_blocks")
def test_a_block_that_did_not_reach_the_disk_is_written_again(folder: Path, tmp_path: Path) -> None:
    whole, out = source_of(load_dataset(folder)), tmp_path / "pack"

    with pytest.raises(KeyboardInterrupt):
        write_pack(whole, out, Stop)
    altered(partial_folder(out) / "train.npy")
    write_pack(whole, out, moments)
    expect_equal(load_pack(out), load_dataset(folder))


def altered(path: Path) -> None:
    """Change one byte near the end of a file."""
    with path.open("r+b") as file:
        file.seek(-5, 2)
        byte = file.read(1)
        file.seek(-5, 2)
        file.write(bytes([byte[0] ^ 1]))


@pytest.fixture
def packed(folder: Path, tmp_path: Path) -> Path:
    pack_source(folder, tmp_path / "pack", moments)
    return tmp_path / "pack"


@pytest.mark.parametrize("file", ["train.npy", "train-labels.npy", "test.npy", "validation-labels.npy"])
def test_altered_files_are_refused(packed: Path, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    altered(packed / file)
    with pytest.raises(DataError, match=r"altered; expected the checksum"):
        load_dataset(packed)
    monkeypatch.setattr(pack_module, "CHECKED_BYTES", 0)  # a large pack is checked on request
    with pytest.raises(DataError, match=r"altered; expected the checksum"):
        check_pack(packed)


@pytest.mark.parametrize("file", ["train.npy", "test-labels.npy", "moments.npy"])
def test_missing_and_shortened_files_are_refused(packed: Path, file: str) -> None:
    content = (packed / file).read_bytes()
    (packed / file).write_bytes(content[:-20])
    with pytest.raises(DataError, match="pack"):
        load_dataset(packed)
    (packed / file).unlink()
    with pytest.raises(DataError, match=r"cannot be read .*expected all files of the pack"):
        load_dataset(packed)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "got a pack of format 2; expected 1"),
        ({"counts": {"train": 3, "validation": 6, "test": 6}}, "pack"),
        ({"shape": [3, 8]}, "no valid index"),
        ({"shape": [3, 8, -8]}, "pack"),
        ({"blocks": {}}, "no valid index"),
        ({"classes": ["a"]}, "got a label out of range"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(packed: Path, change: dict[str, Any], message: str) -> None:
    index = json.loads((packed / INDEX).read_text("utf-8"))
    (packed / INDEX).write_text(json.dumps(index | change), "utf-8")
    with pytest.raises(DataError, match=message):
        load_dataset(packed)


@pytest.mark.skipif(os.name == "nt", reason="needs the pipes of POSIX: run it on Linux or macOS")
def test_an_index_that_is_too_large_and_a_pipe_are_refused(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (packed / "test.npy").unlink()
    os.mkfifo(packed / "test.npy")
    with pytest.raises(DataError, match=r"test\.npy"):
        load_dataset(packed)
    monkeypatch.setattr(pack_module, "MAX_INDEX", 100)
    with pytest.raises(DataError, match="expected the index of a pack"):
        load_dataset(packed)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"format": 1}'])
def test_an_index_that_is_none_is_refused(packed: Path, text: str) -> None:
    (packed / INDEX).write_text(text, "utf-8")
    with pytest.raises(DataError, match="pack"):
        load_dataset(packed)


def test_what_cannot_be_packed_is_refused(folder: Path, packed: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="exists"):
        pack_source(folder, packed, moments)
    with pytest.raises(ConfigError, match="`count`: got 7 for"):
        pack_source(folder, tmp_path / "x", moments, count=7)
    with pytest.raises(ConfigError, match="`count`: got 0"):
        pack_source("strokes", tmp_path / "x", moments, count=0)
    with pytest.raises(ConfigError, match="`size`: got one for the pack"):
        load_dataset(packed, size=4)
    table = Split(np.zeros((20, 3), np.float32))
    with pytest.raises(DataError, match="got a table of numbers"):
        source_of(Dataset("table", table, table, table))
    broken = sorted(folder.rglob("*.png"))[5]
    broken.write_bytes(b"no image")
    with pytest.raises(DataError, match=broken.name):
        pack_source(folder, tmp_path / "x", moments)
    pack_source(folder, tmp_path / "skipped", moments, skip_broken=True)
    assert any("Skipped 1 broken file" in note for note in load_dataset(tmp_path / "skipped").notes)


def test_another_source_does_not_continue_a_pack(folder: Path, tmp_path: Path, tiny: Dataset) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_pack(source_of(tiny), tmp_path / "pack", Stop)
    with pytest.raises(OutputError, match="the beginning of a pack of other images"):
        pack_source(folder, tmp_path / "pack", moments)


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OutputError, match=r"got .* GiB free on this disk; expected .* GiB for the pack"):
        pack_source(folder, tmp_path / "pack", moments)
    assert not (partial_folder(tmp_path / "pack") / "train.npy").exists()


def test_a_full_disk_is_one_clear_error(folder: Path, tmp_path: Path) -> None:
    whole = source_of(load_dataset(folder))

    def full(_first: int, _last: int) -> tuple[np.ndarray, np.ndarray | None]:
        raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match="No space left on device"):
        write_pack(whole._replace(read=dict.fromkeys(whole.read, full)), tmp_path / "pack", moments)
    assert not (tmp_path / "pack").exists()


def test_training_on_a_pack_is_training_on_its_source(packed: Path, folder: Path) -> None:
    config = Config(
        ModelConfig(latent_dim=4, width=8, network="pca"), TrainConfig(epochs=2, batch_size=8, compile="no")
    )
    ours, theirs = ([*fit(config, load_dataset(source))][-1].model for source in (packed, folder))
    for (name, weight), other in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.equal(weight, other), name


def call(*arguments: object) -> None:
    """Run the command line in this process; a clean end only."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == 0


def test_from_the_command_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    call("data", "pack", folder, "--out", "packed", "--size", "8")
    assert "pack: packed" in capsys.readouterr().out
    call("data", "packed")
    told = capsys.readouterr()
    assert "checksums: all blocks are as they were packed" in told.out
    assert "source: 49 train, 5 validation, 6 test images" in told.out
    assert "Mapped 60 images" in told.err
    call("train", "packed", "--epochs", "1", "--batch-size", "16", "--out", "run")
    assert Path("run/model.safetensors").exists()
    call("reconstruct", "run", "packed", "--out", "pairs.png")  # the run knows the size of its images
    call("reconstruct", "run", folder, "--out", "pairs-of-the-folder.png")
    call("train", "packed", "--resume", "--epochs", "2", "--out", "run")
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(["data", "pack", str(folder), "--out", "packed"])
    assert stopped.value.code == 2
    assert "--out: got packed, which exists" in capsys.readouterr().err


def test_a_source_need_not_fit_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than a block is read at a time."""
    monkeypatch.setattr(pack_module, "BLOCK_BYTES", 10 * 16)
    largest = 0

    def read(first: int, last: int) -> tuple[np.ndarray, np.ndarray | None]:
        nonlocal largest
        largest = max(largest, last - first)
        return np.full((last - first, 1, 4, 4), first % 256, np.uint8), None

    counts = {"train": 95, "validation": 0, "test": 3}
    write_pack(Source("drawn", (1, 4, 4), (), counts, dict.fromkeys(counts, read)), tmp_path / "pack", moments)
    assert largest == 10
    packed = load_pack(tmp_path / "pack")
    assert (len(packed.train), len(packed.validation), len(packed.test)) == (95, 0, 3)


def test_images_of_fewer_bits_than_their_files_are_noted(tmp_path: Path) -> None:
    for number in range(20):
        Image.fromarray(np.full((4, 4), 4095 if number == 7 else 900, np.uint16)).save(tmp_path / f"{number}.png")
    pack_source(tmp_path, tmp_path / "pack", moments)
    (note,) = (note for note in load_dataset(tmp_path / "pack").notes if "dark" in note)
    assert note in load_dataset(tmp_path).notes
    assert "`white=4095`" in note
    pack_source(tmp_path, tmp_path / "white", moments, white=4095)
    assert not any("dark" in note for note in load_dataset(tmp_path / "white").notes)


@pytest.mark.skipif(os.name == "nt", reason="needs the locks of POSIX: run it on Linux or macOS")
def test_a_second_process_that_packs_to_the_same_name_is_refused(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "pack"

    def meanwhile() -> PackedMoments:
        with pytest.raises(OutputError, match=rf"pack: process {os.getpid()} is packing to it; .* another `out`"):
            pack_source(folder, out, moments)
        return moments()

    pack_source(folder, out, meanwhile)
    expect_equal(load_pack(out), load_dataset(folder))
    assert {path.name for path in tmp_path.iterdir()} == {"source", "pack"}
