"""Encoded images inside files: Parquet, folders of `save_to_disk`, and tars hold what the same images in class folders hold."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet

from vaelab.cli import main
from vaelab.data import Dataset, load_dataset
from vaelab.data import decoding as decoding_module
from vaelab.data import image_files as image_files_module
from vaelab.data import pack as pack_module
from vaelab.data import pack_writing as writing_module
from vaelab.data.packing import pack_source
from vaelab.data.sources import expect_source, found_again, is_of_image_files
from vaelab.errors import DataError, VaelabError
from vaelab.training.fit import PackedMoments

COUNT = 60
CLASSES = ("zebra", "ant")  # not in natural order, which a ClassLabel keeps
LABELS = [int(i % 3 > 0) for i in range(COUNT)]


def encoded(number: int, side: int = 8, kind: str = "PNG") -> bytes:
    """An image in colour that differs from those of other numbers."""
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3)).astype(np.uint8)
    return saved_as(Image.fromarray(pixels), kind)


def saved_as(image: Image.Image, kind: str = "PNG") -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind)
    return sink.getvalue()


IMAGES = [encoded(i) for i in range(COUNT)]


def table(
    images: Sequence[bytes | None] = IMAGES, labels: Sequence[Any] | None = LABELS, *, struct: bool = True
) -> pyarrow.Table:
    """A table as `datasets` of Hugging Face writes it; with `struct=False`, of plain columns."""
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    rows = [{"bytes": image, "path": None} for image in images]
    columns: dict[str, Any] = {
        "image": pyarrow.array(rows, kind) if struct else pyarrow.array(images, pyarrow.binary())
    }
    if labels is not None:
        columns["label"] = labels
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list(CLASSES)}}
    metadata = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    return pyarrow.table(columns).replace_schema_metadata(metadata if struct else None)


def write_parquet(path: Path, content: pyarrow.Table, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(content, path, **{"row_group_size": 7, **options})
    return path


def write_saved(folder: Path, content: pyarrow.Table, count: int = 3) -> Path:
    """The layout of `save_to_disk`, as `datasets` 5.2 writes it."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"data-{i:05d}-of-{count:05d}.arrow" for i in range(count)]
    size = -(-len(content) // count)
    for i, name in enumerate(names):
        part = content.slice(i * size, size).combine_chunks()
        with pyarrow.OSFile(str(folder / name), "wb") as sink, pyarrow.ipc.new_stream(sink, part.schema) as writer:
            writer.write_table(part, max_chunksize=11)
    state = {"_data_files": [{"filename": name} for name in names], "_fingerprint": "0", "_split": None}
    (folder / "state.json").write_text(json.dumps(state), "utf-8")
    (folder / "dataset_info.json").write_text("{}", "utf-8")
    return folder


def write_tar(path: Path, members: Mapping[str, bytes], *others: tarfile.TarInfo, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, options.pop("mode", "w"), **options) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in others:
            tar.addfile(member)
    return path


def samples(
    first: int = 0, last: int = COUNT, label: Callable[[int], dict[str, bytes]] | None = None
) -> dict[str, bytes]:
    """Members of a WebDataset; `label` returns the other members of a sample by their extension."""
    label = label or (lambda i: {"cls": CLASSES[LABELS[i]].encode()})
    members = {}
    for i in range(first, last):
        members |= {f"{i:06d}.png": IMAGES[i], **{f"{i:06d}.{kind}": text for kind, text in label(i).items()}}
    return members


def a_struct(at: Path) -> Path:
    return write_parquet(at / "images.parquet", table())


def a_binary_column(at: Path) -> Path:
    names = [CLASSES[label] for label in LABELS]
    return write_parquet(at / "images.parquet", table(labels=names, struct=False), row_group_size=1000)


def a_folder_of_parquet(at: Path) -> Path:
    for i in range(2):
        part = table().slice(i * 30, 30)
        write_parquet(at / "photos" / "data" / f"train-{i:05d}-of-00002.parquet", part)
    (at / "photos" / "README.md").write_text("# Photos")
    return at / "photos"


def a_saved_folder(at: Path) -> Path:
    return write_saved(at / "saved", table())


def a_tar(at: Path) -> Path:
    return write_tar(at / "images.tar", samples())


def a_folder_of_tars(at: Path) -> Path:
    for i in range(3):
        part = samples(20 * i, 20 * i + 20, lambda i: {"json": json.dumps({"label": CLASSES[LABELS[i]]}).encode()})
        write_tar(at / "photos" / f"photos-train-{i:06d}.tar", part)
    return at / "photos"


KINDS = {
    write.__name__: write
    for write in (a_struct, a_binary_column, a_folder_of_parquet, a_saved_folder, a_tar, a_folder_of_tars)
}


@pytest.fixture(params=KINDS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return KINDS[request.param](tmp_path)


def write_folder(at: Path) -> Path:
    """The same images as files in class folders, in the same order."""
    for i, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        path = at / "folder" / CLASSES[label] / f"{i:06d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(image)
    return at / "folder"


NUMBER = {np.asarray(Image.open(io.BytesIO(image))).tobytes(): i for i, image in enumerate(IMAGES)}


def numbers(dataset: Dataset, split: str = "all") -> list[int]:
    return [NUMBER[image.transpose(1, 2, 0).tobytes()] for image in dataset.part(split).images]


def names(dataset: Dataset) -> list[str]:
    """Class names of all images in the order of their numbers."""
    labels = dataset.part("all").labels
    assert labels is not None
    return [dataset.classes[labels[i]] for i in np.argsort(numbers(dataset))]


def expect_equal(packed: Dataset, loaded: Dataset) -> None:
    assert (packed.name.removesuffix(".pack"), packed.classes, packed.shape) == (
        loaded.name,
        loaded.classes,
        loaded.shape,
    )
    for split in ("train", "validation", "test"):
        ours, theirs = packed.part(split), loaded.part(split)
        np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
    assert packed.fingerprint == loaded.fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_the_images_and_labels_are_those_of_the_source(kind: str, tmp_path: Path) -> None:
    dataset = load_dataset(KINDS[kind](tmp_path))
    assert sorted(numbers(dataset)) == list(range(COUNT))
    assert names(dataset) == [CLASSES[label] for label in LABELS]
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (49, 5, 6)
    assert dataset.train.paths is None
    in_order = kind in ("a_struct", "a_folder_of_parquet", "a_saved_folder")  # of a ClassLabel
    assert dataset.classes == (CLASSES if in_order else ("ant", "zebra"))


@pytest.mark.parametrize("options", [{}, {"size": 4}, {"classes": "ant"}, {"limit": 20, "seed": 3}, {"white": 255}])
def test_a_pack_holds_what_the_source_holds(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(pack_module, "BLOCK_BYTES", 7 * 3 * 8 * 8)
    reports = []
    pack_source(source, tmp_path / "x.pack", PackedMoments, progress=lambda *report: reports.append(report), **options)
    packed, loaded = load_dataset(tmp_path / "x.pack"), load_dataset(source, **options)
    expect_equal(packed, loaded)
    assert reports[-1][0] == "packing"
    assert reports[-1][1] == reports[-1][2]


def test_worker_processes_decode_the_same(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = load_dataset(source)
    monkeypatch.setattr(decoding_module, "MANY_FILES", 10)
    monkeypatch.setattr(decoding_module, "JOB", 7)
    monkeypatch.setattr(decoding_module, "JOB_BYTES", 1000)
    monkeypatch.setattr(decoding_module, "_cores", lambda: 2)
    expect_equal(load_dataset(source), expected)


def test_the_decoded_images_are_cached(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files_module, "MANY_FILES", 10)
    first, again = load_dataset(source), load_dataset(source)
    expect_equal(again, first)
    assert any("no file has changed" in note for note in again.notes)
    changed = source if source.is_file() else max(source.rglob("*0*"))
    os.utime(changed, (1, 1))
    assert not any("no file has changed" in note for note in load_dataset(source).notes)


def test_an_interrupted_pack_is_continued(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack_module, "BLOCK_BYTES", 7 * 3 * 8 * 8)

    def stop(_what: str, done: int, _total: int) -> None:
        if _what == "packing" and done > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_source(source, tmp_path / "x.pack", PackedMoments, progress=stop)
    written: list[int] = []
    write = writing_module._write_block
    monkeypatch.setattr(writing_module, "_write_block", lambda *args: (written.append(args[3]), write(*args)))
    pack_source(source, tmp_path / "x.pack", PackedMoments)
    assert written[0] >= 21
    expect_equal(load_dataset(tmp_path / "x.pack"), load_dataset(source))


def test_broken_images_are_named_or_skipped(tmp_path: Path) -> None:
    """As files are: the first is an error, or all are left out before the split and counted."""
    broken = {3: b"no image", 17: IMAGES[17][:60], 40: b""}
    images = [broken.get(i, image) for i, image in enumerate(IMAGES)]
    monkey = {f"{i:06d}.png": image for i, image in enumerate(images)}
    for path, first in (
        (write_parquet(tmp_path / "a.parquet", table(images)), "row 4"),
        (write_parquet(tmp_path / "b.parquet", table(images, struct=False)), "row 4"),
        (write_saved(tmp_path / "saved", table(images)), "row 4"),
        (write_tar(tmp_path / "a.tar", samples() | monkey), r"000003\.png"),
    ):
        with pytest.raises(DataError, match=rf"{first}: cannot be read \(content is not .*`skip_broken=True`"):
            load_dataset(path)
        with pytest.raises(DataError, match=rf"{first}: cannot be read"):
            pack_source(path, tmp_path / "x.pack", PackedMoments)
        dataset = load_dataset(path, skip_broken=True)
        assert sorted(numbers(dataset)) == [i for i in range(COUNT) if i not in broken]
        (note,) = (note for note in dataset.notes if "broken" in note)
        assert note.startswith("Skipped 3 broken files: ")
        assert first.replace("\\", "") in note
        out = tmp_path / f"{path.name}.pack"
        pack_source(path, out, PackedMoments, skip_broken=True)
        expect_equal(load_dataset(out), dataset)


def test_images_of_several_sizes_and_grey_ones(tmp_path: Path) -> None:
    images = [*IMAGES[:30], *(saved_as(Image.new("L", (20, 12 + i), 200)) for i in range(30))]
    for path in (
        write_parquet(tmp_path / "a.parquet", table(images)),
        write_tar(tmp_path / "a.tar", {f"{i}.png": image for i, image in enumerate(images)}),
    ):
        dataset = load_dataset(path)
        assert dataset.shape == (3, 8, 8)
        assert any("They have 31 sizes" in note for note in dataset.notes)
        pack_source(path, tmp_path / f"{path.name}.pack", PackedMoments)
        np.testing.assert_array_equal(
            load_dataset(tmp_path / f"{path.name}.pack").train.images, load_dataset(path).train.images
        )


@pytest.mark.parametrize("kind", ["parquet", "tar", "saved"])
def test_splits_are_those_of_the_names(tmp_path: Path, kind: str) -> None:
    parts = {"train": (0, 40), "validation": (40, 50), "test": (50, 60)}
    for split, (first, last) in parts.items():
        part = table().slice(first, last - first)
        if kind == "parquet":
            write_parquet(tmp_path / "x" / "data" / f"{split}-00000-of-00001.parquet", part)
        elif kind == "tar":
            write_tar(tmp_path / "x" / {"validation": "val"}.get(split, split) / "000.tar", samples(first, last))
        else:
            write_saved(tmp_path / "x" / split, part)
            (tmp_path / "x" / "dataset_dict.json").write_text(json.dumps({"splits": list(parts)}))
    dataset = load_dataset(tmp_path / "x")
    for split, (first, last) in parts.items():
        assert numbers(dataset, split) == list(range(first, last))
    assert dataset.name == "x"


def test_a_column_gives_the_splits(tmp_path: Path) -> None:
    split = ["train"] * 40 + ["val"] * 5 + ["test"] * 15
    path = write_parquet(tmp_path / "a.parquet", table().append_column("split", pyarrow.array(split)))
    dataset = load_dataset(path)
    assert numbers(dataset, "validation") == list(range(40, 45))
    assert numbers(dataset, "test") == list(range(45, 60))


def test_other_names_of_columns(tmp_path: Path) -> None:
    columns = table().rename_columns(["img", "class"]).append_column("caption", pyarrow.array(["x"] * COUNT))
    dataset = load_dataset(write_parquet(tmp_path / "a.parquet", columns))
    assert {"Read the columns 'img' as image, 'class' as label.", "Ignored the columns 'caption'."} <= set(
        dataset.notes
    )
    only = load_dataset(write_parquet(tmp_path / "b.parquet", table(labels=None).rename_columns(["scan"])))
    assert (only.classes, len(only.train)) == ((), 49)


def test_other_types_of_columns(tmp_path: Path) -> None:
    images, names = pyarrow.array(IMAGES), [CLASSES[label] for label in LABELS]
    for i, (kind, label) in enumerate(
        (
            (pyarrow.large_binary(), pyarrow.array(names).dictionary_encode()),
            (pyarrow.dictionary(pyarrow.int32(), pyarrow.binary()), pyarrow.array(names, pyarrow.large_string())),
        )
    ):
        content = pyarrow.table({"image": images.cast(kind), "label": label})
        dataset = load_dataset(write_parquet(tmp_path / f"{i}.parquet", content))
        assert sorted(numbers(dataset)) == list(range(COUNT))
        assert dataset.classes == ("ant", "zebra")


@pytest.mark.parametrize(
    ("label", "classes"),
    [
        (lambda i: {}, ()),
        (lambda i: {"cls": b"%d\n" % (9 + i % 2)}, ("9", "10")),
        (lambda i: {"json": b'{"class": %d}' % (i % 2)}, ("0", "1")),
        (lambda i: {"json": b'{"label": "no"}', "cls": b"7", "txt": b"a caption"}, ("7",)),
        (lambda i: {"json": b"[1]"}, ()),
    ],
)
def test_labels_of_samples(tmp_path: Path, label: Callable[[int], dict[str, bytes]], classes: tuple[str, ...]) -> None:
    assert load_dataset(write_tar(tmp_path / "a.tar", samples(label=label))).classes == classes


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_other_formats_and_names(tmp_path: Path, form: int) -> None:
    long = "a folder/é" + "n" * 90
    members = {f"{long}/{name}": content for name, content in samples().items()}
    dataset = load_dataset(write_tar(tmp_path / "a.tar", members, format=form))
    assert names(dataset) == [CLASSES[label] for label in LABELS]


def linked(kind: bytes, name: str, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def test_only_the_bytes_of_members_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links, devices and absolute names are harmless: nothing is extracted, and nothing outside is opened."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.png").write_bytes(encoded(1000))
    members = {f"/etc/../../{name}": content for name, content in samples().items()}
    others = (
        linked(tarfile.SYMTYPE, "l.png", str(tmp_path / "secret.png")),
        linked(tarfile.LNKTYPE, "h.png", "../secret.png"),
        linked(tarfile.CHRTYPE, "d.png"),
        linked(tarfile.FIFOTYPE, "f.png"),
    )
    before = sorted(tmp_path.rglob("*"))
    path = write_tar(tmp_path / "a.tar", members, *others)
    dataset = load_dataset(path)
    assert sorted(numbers(dataset)) == list(range(COUNT))
    assert "Ignored members of the tars: 4 links, devices and sparse files." in dataset.notes
    assert sorted(tmp_path.rglob("*")) == sorted([*before, path])


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"0.png": b"", "0.jpg": b""}, r"a\.tar: 0\.jpg: is the second image of its sample, beside 0\.png"),
        ({"0.png": IMAGES[0], "1.png": IMAGES[1], "1.cls": b"a"}, "got no label for '0', one of 1 image without"),
        ({"0.png": IMAGES[0], "0.cls": b" "}, r"0\.cls: is empty; expected a label"),
        ({"0.png": IMAGES[0], "0.cls": b"\xff"}, r"0\.cls: is not UTF-8 text"),
        ({"0.png": IMAGES[0], "0.cls": b"a" * 300}, r"0\.cls: got a label of 300 characters"),
        ({"0.png": IMAGES[0], "0.json": b"[" * 100_000}, r"0\.json: is not UTF-8 JSON"),
        ({"0.png": IMAGES[0], "0.json": b'{"label": [1]}'}, r"0\.json: got a label of type list"),
        ({"0.cls": b"0" * (1 << 20) + b"0"}, r"0\.cls: got 1,048,577 bytes; expected a label"),
        ({"readme": b"x", "0.txt": b"x"}, "got no images; expected at least one"),
        ({}, "got no images; expected at least one"),
    ],
)
def test_bad_samples_are_refused(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_dataset(write_tar(tmp_path / "a.tar", members))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(0, 20 * 2048 + 1024))
def test_a_tar_that_is_cut_off_is_refused(tmp_path: Path, length: int) -> None:
    whole = write_tar(tmp_path / "whole.tar", samples(0, 10)).read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512  # of the last member
    if length > end:
        return  # only some of the zeros that follow are missing
    (tmp_path / "a.tar").write_bytes(whole[:length])
    with pytest.raises(DataError, match=r"a\.tar: "):
        load_dataset(tmp_path / "a.tar")


def test_a_tar_that_states_extreme_sizes_is_refused(tmp_path: Path) -> None:
    member = tarfile.TarInfo("0.png")
    member.size = 1 << 40
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    with pytest.raises(DataError, match=r"member '0\.png' ends after the file; expected a complete tar"):
        load_dataset(tmp_path / "a.tar")
    member.type = tarfile.GNUTYPE_LONGNAME
    (tmp_path / "a.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    with pytest.raises(DataError, match=r"cannot be read .a header of 1,099,511,627,776 bytes"):
        load_dataset(tmp_path / "a.tar")


@pytest.mark.parametrize(
    ("mode", "name"), [("w:gz", "a.tar.gz"), ("w:gz", "a.tgz"), ("w:xz", "a.tar.xz"), ("w:gz", "a.tar")]
)
def test_compressed_tars_are_refused(tmp_path: Path, mode: str, name: str) -> None:
    path = write_tar(tmp_path / "x" / name, samples(), mode=mode)
    for source in (path, path.parent):
        with pytest.raises(DataError, match="compressed"):
            load_dataset(source)


@pytest.mark.parametrize("struct", [True, False])
def test_missing_images_and_labels_name_their_row(tmp_path: Path, struct: bool) -> None:
    images: list[bytes | None] = [*IMAGES]
    images[11] = None
    path = write_parquet(tmp_path / "a.parquet", table(images, struct=struct))
    with pytest.raises(DataError, match=r"a\.parquet: row 12: cannot be read \(it is empty\)"):
        load_dataset(path)
    labels: list[int | None] = [*LABELS]
    labels[5] = None
    path = write_parquet(tmp_path / "b.parquet", table(labels=labels, struct=struct))
    with pytest.raises(DataError, match=r"b\.parquet: got no label in row 6"):
        load_dataset(path)


def test_labels_that_the_class_names_do_not_have_are_refused(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", table(labels=[*LABELS[:-1], -1]))
    with pytest.raises(DataError, match=r"got the label -1 in row 60; expected 0…1, as the file names 2 classes"):
        load_dataset(path)


@pytest.mark.parametrize(
    "text", [b"{", b"[" * 100_000, b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": 3}}}}']
)
def test_metadata_of_another_form_are_ignored(tmp_path: Path, text: bytes) -> None:
    path = write_parquet(tmp_path / "a.parquet", table().replace_schema_metadata({b"huggingface": text}))
    assert load_dataset(path).classes == ("0", "1")


def test_files_without_images_or_of_several_kinds_are_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "x" / "train-0.parquet", table())
    other = write_parquet(tmp_path / "x" / "train-1.parquet", pyarrow.table({"text": ["a"]}))
    with pytest.raises(DataError, match="got no column of encoded images"):
        load_dataset(tmp_path / "x")
    with pytest.raises(DataError, match="or a column 'image' with the bytes of an image file"):
        load_dataset(other)
    other.rename(other.with_name("more.parquet"))
    with pytest.raises(DataError, match=r"more\.parquet: names no split, unlike other files"):
        load_dataset(tmp_path / "x")
    write_tar(tmp_path / "x" / "a.tar", samples())
    with pytest.raises(DataError, match=r"got files of the kinds \.parquet, \.tar; expected one"):
        load_dataset(tmp_path / "x")


def test_labels_in_only_some_files_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "x" / "0.tar", samples(0, 30))
    write_tar(tmp_path / "x" / "1.tar", samples(30, 60, lambda i: {}))
    with pytest.raises(DataError, match="got labels in only some of its files"):
        load_dataset(tmp_path / "x")


def test_a_folder_with_image_files_is_one_of_images(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    write_tar(folder / "archive.tar", samples())
    write_parquet(folder / "metadata.parquet", table())
    assert len(load_dataset(folder).train) == 49


@pytest.mark.skipif(os.name == "nt", reason="needs links: run it on Linux or macOS")
def test_links_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    for write in (a_tar, a_struct):
        file = write(tmp_path)
        (tmp_path / file.suffix).mkdir()
        (tmp_path / file.suffix / file.name).symlink_to(file)
        with pytest.raises(DataError, match=r"got a link to .*`follow_links=True`"):
            load_dataset(tmp_path / file.suffix)
        assert len(load_dataset(tmp_path / file.suffix, follow_links=True).train) == 49
    saved = a_saved_folder(tmp_path)
    state = saved / "state.json"
    state.write_text(state.read_text("utf-8").replace("data-00000-", "../outside/data-00000-"), "utf-8")
    with pytest.raises(DataError, match="outside of"):
        load_dataset(saved)


@pytest.mark.skipif(os.name == "nt", reason="needs links: run it on Linux or macOS")
def test_loops_of_links_and_pipes_are_passed_over(tmp_path: Path) -> None:
    source = a_folder_of_tars(tmp_path)
    for i in range(50):
        (source / f"again-{i}").symlink_to(source)
    (source / "loop").symlink_to(source / "loop")
    os.mkfifo(source / "train-9.tar")
    assert len(load_dataset(source).train) == 49


@pytest.mark.parametrize("names", [["image", "label", "label"], ["image", "image", "label"]])
def test_columns_of_the_same_name_are_refused_or_the_first_is_read(tmp_path: Path, names: list[str]) -> None:
    kinds = {"image": IMAGES, "label": LABELS}
    content = pyarrow.table([kinds[name] for name in names], names)
    path = write_parquet(tmp_path / "a.parquet", content)
    if names.count("label") == 1:
        assert sorted(numbers(load_dataset(path))) == list(range(COUNT))
        return
    with pytest.raises(DataError, match=r"a\.parquet: "):
        load_dataset(path)


def test_parquet_that_expands_enormously_is_refused(tmp_path: Path) -> None:
    zeros = write_parquet(tmp_path / "a.parquet", table([bytes(100_000_000)], [0]), compression="zstd")
    with pytest.raises(DataError, match=r"a row group: got 100,000,\d+ bytes when decoded, from .*`max_bytes="):
        load_dataset(zeros)
    million = pyarrow.DictionaryArray.from_arrays(np.zeros(2_000_000, np.int32), pyarrow.array([IMAGES[0]]))
    with pytest.raises(DataError, match="got 128,000,000 bytes when decoded"):
        load_dataset(write_parquet(tmp_path / "b.parquet", pyarrow.table({"image": million}), row_group_size=2_000_000))


def test_an_image_of_more_bytes_than_one_may_have_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaelab.data.formats.FILE_BYTES", 10)
    for write in KINDS.values():
        with pytest.raises(DataError, match=r"cannot be read .more than 90 bytes; `max_pixels` raises that limit"):
            load_dataset(write(tmp_path / write.__name__), max_pixels=10)


def test_a_compressed_arrow_file_is_refused(tmp_path: Path) -> None:
    folder = write_saved(tmp_path / "saved", table())
    schema = table().schema
    for compression in ("lz4", "zstd"):
        options = pyarrow.ipc.IpcWriteOptions(compression=compression)
        with pyarrow.ipc.new_stream(folder / "data-00001-of-00003.arrow", schema, options=options) as writer:
            writer.write_table(table())
        with pytest.raises(DataError, match=r"data-00001-of-00003\.arrow: got a compressed Arrow file"):
            load_dataset(folder)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("state.json", "{", "expected JSON"),
        ("state.json", "[]", "got no list '_data_files'"),
        ("state.json", '{"_data_files": [{"filename": "gone.arrow"}]}', r"gone\.arrow: cannot be read"),
        ("state.json", '{"_data_files": []}', "got no images"),
        ("data-00000-of-00003.arrow", "no Arrow", "expected a valid Arrow file"),
        ("dataset_dict.json", '{"splits": ["extra"]}', "got the split 'extra'; expected train, validation, test"),
        ("dataset_dict.json", '{"splits": ["train"]}', r"state\.json: cannot be read"),
    ],
)
def test_a_broken_saved_folder_is_refused(tmp_path: Path, file: str, text: str, message: str) -> None:
    folder = write_saved(tmp_path / "saved", table())
    (folder / file).write_text(text)
    with pytest.raises(DataError, match=message):
        load_dataset(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Sources of three images, of which the content of one file is edited."""
    at = tmp_path_factory.mktemp("small")
    part = table(IMAGES[:3], LABELS[:3])
    return {
        "parquet": write_parquet(at / "a.parquet", part),
        "tar": write_tar(at / "a.tar", samples(0, 3)),
        "arrow": write_saved(at / "saved", part, 1) / "data-00000-of-00001.arrow",
    }


@pytest.mark.parametrize("kind", ["parquet", "tar", "arrow"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_are_read_or_refused(small: dict[str, Path], kind: str, data: st.DataObject, tmp_path: Path) -> None:
    content = bytearray(small[kind].read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    source = tmp_path / "s"
    if kind == "arrow":
        path = write_saved(source, table([], []), 1) / small[kind].name
    else:
        source = path = tmp_path / small[kind].name
    path.write_bytes(content)
    with suppress(VaelabError):
        load_dataset(source)


def test_sources_are_known_by_their_names(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expect_source(source)
    assert is_of_image_files(str(source))
    assert found_again(load_dataset(source).name) == source.name


def test_without_pyarrow_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_saved(tmp_path / "saved", table())
    tar = a_tar(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(
        DataError, match=r"got Arrow, which needs pyarrow; install it with pip install 'vaelab\[parquet\]'"
    ):
        load_dataset(folder)
    assert len(load_dataset(tar).train) == 49  # needs none


@pytest.mark.parametrize("kind", ["a_struct", "a_folder_of_tars"])
def test_from_the_command_line(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = KINDS[kind](tmp_path)
    for command in (
        ["train", source.name, "--epochs", "1", "--batch-size", "16", "--network", "pca", "--out", "run"],
        ["encode", "run", source.name, "--out", "z.npz"],
        ["reconstruct", "run", f"{source.name}:test:1", "--out", "pair.png"],
    ):
        with pytest.raises(SystemExit) as end:
            main(command)
        assert end.value.code == 0
    assert str(np.load("z.npz")["paths"][0]).startswith(f"{source.name}:")
