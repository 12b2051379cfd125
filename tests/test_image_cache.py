"""Large folders: decoding in worker processes, and the cache of decoded images."""

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaelab.data import cache, decoding, image_files, load_dataset
from vaelab.data.cache import load_entry
from vaelab.data.decoding import decode_images
from vaelab.data.formats import decode_image
from vaelab.errors import DataError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of 20 images that counts as large, a few of them odd; an empty cache."""
    monkeypatch.setattr(image_files, "MANY_FILES", 10)
    monkeypatch.setenv("VAELAB_CACHE_DIR", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    for i in range(20):
        path = tmp_path / "images" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(rng.integers(0, 256, (4 + i % 3, 5), dtype=np.uint8))
        if i % 5 == 4:
            image = image.convert("RGBA")
        image.save(path)
    return tmp_path / "images"


def entries(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "decoded").iterdir())


def test_the_second_load_decodes_nothing(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_dataset(folder, size=4)
    (kept,) = entries(tmp_path)
    monkeypatch.setattr(image_files, "decode_images", None)
    again = load_dataset(folder, size=4)
    assert again.fingerprint == first.fingerprint
    for split in ("train", "validation", "test"):
        assert np.array_equal(getattr(again, split).images, getattr(first, split).images)
        assert getattr(again, split).images.flags.writeable
    (saved,) = (note for note in first.notes if str(kept.parent) in note)
    (loaded,) = (note for note in again.notes if str(kept) in note)
    assert again.notes == tuple(loaded if note == saved else note for note in first.notes)
    assert any("4 images with transparency on white" in note for note in again.notes)
    assert any(note.startswith("Scaled 20 of 20 images") for note in again.notes)


def test_the_folder_may_be_named_in_any_way(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load_dataset(folder, size=4)
    monkeypatch.setattr(image_files, "decode_images", None)
    monkeypatch.chdir(folder)
    assert len(load_dataset(".", size=4).train) == 16
    monkeypatch.chdir(tmp_path)
    assert len(load_dataset("images", size=4).train) == 16


@pytest.mark.parametrize("change", ["another image", "another time", "one more", "one fewer", "another name"])
def test_a_change_is_noticed_and_the_old_entry_goes(tmp_path: Path, folder: Path, change: str) -> None:
    load_dataset(folder, size=4)
    (before,) = entries(tmp_path)
    path = folder / "a" / "0.png"
    if change == "another image":
        Image.new("L", (5, 4), 77).save(path)
    elif change == "another time":
        os.utime(path, ns=(1, 1))
    elif change == "one more":
        Image.new("L", (5, 4), 77).save(folder / "a" / "new.png")
    elif change == "one fewer":
        path.unlink()
    else:
        path.rename(folder / "a" / "00.png")
    dataset = load_dataset(folder, size=4)
    (after,) = entries(tmp_path)
    assert after != before
    images = np.concatenate([dataset.train.images, dataset.validation.images, dataset.test.images])
    assert len(images) == {"one more": 21, "one fewer": 19}.get(change, 20)
    assert (images == 77).all(axis=(1, 2, 3)).any() == (change in ("another image", "one more"))


def test_each_way_of_reading_is_kept_apart_and_the_newest_three_stay(tmp_path: Path, folder: Path) -> None:
    seen = [load_dataset(folder, size=4, fit="pad").fingerprint]
    for number, options in enumerate([{"size": 5}, {"size": 4}, {"size": 4, "classes": "a"}, {"size": 6}]):
        for path in entries(tmp_path):
            os.utime(path, (number, number))
        seen.append(load_dataset(folder, **options).fingerprint)  # type: ignore[arg-type]
        assert len(entries(tmp_path)) == min(3, number + 2)
    assert len(set(seen)) == 5


def test_a_limit_is_kept_for_its_own_seed(folder: Path) -> None:
    limited = [load_dataset(folder, size=4, limit=10, seed=seed).fingerprint for seed in (0, 1, 0, 1)]
    assert limited[:2] == limited[2:]
    assert limited[0] != limited[1]


def test_broken_files_that_were_left_out_are_remembered(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a" / "x.png").write_text("no image")
    first = load_dataset(folder, size=4, skip_broken=True)
    with pytest.raises(DataError, match=r"x\.png: cannot be read"):
        load_dataset(folder, size=4)
    monkeypatch.setattr(image_files, "decode_images", None)
    again = load_dataset(folder, size=4, skip_broken=True)
    assert f"Skipped 1 broken file: a{os.sep}x.png." in again.notes
    assert again.fingerprint == first.fingerprint


@pytest.mark.parametrize("where", [0, 9, 200, -200, -20, -13, -5, -1])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_entry_is_ignored_and_written_anew(tmp_path: Path, folder: Path, where: int, damage: str) -> None:
    first = load_dataset(folder, size=4)
    (path,) = entries(tmp_path)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[where:]
    else:
        content[where] ^= 0xFF
    path.write_bytes(content)
    again = load_dataset(folder, size=4)
    assert again.notes == first.notes
    assert again.fingerprint == first.fingerprint
    assert entries(tmp_path) == [path]
    assert path.read_bytes() != content


def test_a_cache_that_cannot_be_written_is_no_error(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VAELAB_CACHE_DIR", str(tmp_path / "file" / "cache"))
    dataset = load_dataset(folder, size=4)
    assert not any("decoded images" in note for note in dataset.notes)
    assert load_dataset(folder, size=4).fingerprint == dataset.fingerprint


def test_what_killed_processes_left_is_deleted(tmp_path: Path, folder: Path) -> None:
    decoded = tmp_path / "cache" / "decoded"
    decoded.mkdir(parents=True)
    for name, age in ((".a-b.npy", 7200), (".c-d.npy", 60)):  # one of a process that still writes
        (decoded / name).write_bytes(b"cut off")
        then = time.time() - age
        os.utime(decoded / name, (then, then))
    load_dataset(folder, size=4)
    assert [path.name for path in entries(tmp_path) if path.name.startswith(".")] == [".c-d.npy"]


def test_no_disk_is_filled(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: usage)
    load_dataset(folder, size=4)
    assert entries(tmp_path) == []


def test_small_folders_are_not_kept(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "MANY_FILES", 21)
    load_dataset(folder, size=4)
    assert not (tmp_path / "cache").exists()


def test_a_table_of_paths_is_kept_too(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"images/{path.relative_to(folder)}" for path in sorted(folder.rglob("*.png"))]
    (tmp_path / "table.csv").write_text("\n".join(["path", *rows]))
    first = load_dataset(tmp_path / "table.csv", size=4)
    monkeypatch.setattr(image_files, "decode_images", None)
    assert load_dataset(tmp_path / "table.csv", size=4).fingerprint == first.fingerprint


def test_the_cache_is_the_users_own_unless_another_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("VAELAB_CACHE_DIR", str(tmp_path))
    assert cache.cache_folder() == tmp_path
    monkeypatch.delenv("VAELAB_CACHE_DIR")
    assert cache.cache_folder().name == "vaelab"


def test_a_missing_entry_is_not_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAELAB_CACHE_DIR", str(tmp_path))
    assert load_entry(cache.entry_for(tmp_path, 1, b"")) is None


@pytest.fixture
def by_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two workers for few files."""
    monkeypatch.setattr(decoding, "MANY_FILES", 5)
    monkeypatch.setattr(decoding, "JOB", 3)
    monkeypatch.setattr(decoding, "_cores", lambda: 2)


def same(got: list, expected: list) -> bool:
    return all(
        a[1:] == b[1:] and (a.pixels is None) == (b.pixels is None) and (a.pixels is None or np.array_equal(a[0], b[0]))
        for a, b in zip(got, expected, strict=True)
    )


@pytest.mark.usefixtures("by_workers")
@pytest.mark.parametrize("fit", ["crop", None])
def test_workers_decode_as_this_process_does(
    tmp_path: Path, folder: Path, fit: image_files.Fit | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "été\nline.png").write_text("no image")
    paths = sorted(map(str, folder.rglob("*.png")))
    expected = [decode_image(path, (4, 5), fit) for path in paths]
    assert sum(image.pixels is None for image in expected) == (1 if fit else 14)
    monkeypatch.setattr(decoding, "decode_image", None)  # so that none is decoded here
    assert same(list(decode_images(paths, (4, 5), fit)), expected)


@pytest.mark.usefixtures("by_workers")
@pytest.mark.parametrize("program", ["nowhere/python", "/bin/true", "/bin/cat"])
def test_without_workers_this_process_decodes(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    paths = sorted(map(str, folder.rglob("*.png")))
    expected = [decode_image(path, (4, 5), "crop") for path in paths]
    monkeypatch.setattr(sys, "executable", program)
    assert same(list(decode_images(paths, (4, 5), "crop")), expected)


@pytest.mark.usefixtures("by_workers")
def test_workers_that_are_stopped_are_done_without(folder: Path) -> None:
    paths = sorted(map(str, folder.rglob("*.png"))) * 10
    images = decode_images(paths, (4, 5), "crop")
    got = [next(images)]
    frame = images.gi_frame  # type: ignore[attr-defined]
    started = frame.f_locals["started"]
    deadline = time.monotonic() + 20
    while not any(worker.process for worker in started) and time.monotonic() < deadline:
        time.sleep(0.01)
    for worker in started:
        if worker.process:
            worker.process.kill()
    got += images
    assert same(got, [decode_image(path, (4, 5), "crop") for path in paths])


@pytest.mark.usefixtures("by_workers")
def test_no_worker_outlives_a_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workers: list = []
    stop = decoding._Worker.stop

    def stopped(worker: decoding._Worker) -> None:
        stop(worker)
        workers.append(worker)

    monkeypatch.setattr(decoding._Worker, "stop", stopped)
    (folder / "a" / "00.png").write_text("no image")
    with pytest.raises(DataError, match=r"00\.png: cannot be read"):
        load_dataset(folder, size=4)
    assert len(workers) == 2
    assert all(worker.process is None or worker.process.returncode is not None for worker in workers)


@pytest.mark.usefixtures("by_workers")
def test_a_bomb_is_refused_by_workers_too(folder: Path) -> None:
    Image.new("L", (50, 50)).save(folder / "a" / "bomb.png")
    with pytest.raises(DataError, match=r"bomb\.png: got 2,500 pixels; expected at most 2,000; .*`max_pixels=2500`"):
        load_dataset(folder, size=4, max_pixels=2000)
    assert len(load_dataset(folder, size=4, max_pixels=2500).train) == 17
