"""Classes, limits, broken files and sparse sources: every option with every kind of source, and its notes."""

import os
import re
import struct
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vaelab.cli import main
from vaelab.cli.app import SourceOptions, source_arguments
from vaelab.data import Dataset, load_dataset
from vaelab.data.describe import describe_dataset
from vaelab.data.split import choose
from vaelab.errors import ConfigError, DataError
from vaelab.figures.plots import contact_sheet
from vaelab.training.fit import fit

NAMES = ("ant", "bee", "cat")
LABELS = np.repeat(np.arange(3), (60, 30, 10))
IMAGES = np.random.default_rng(0).integers(0, 256, (100, 4, 5), dtype=np.uint8)


def as_folder(at: Path) -> Path:
    for i, (pixels, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        path = at / "classes" / NAMES[label] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return at / "classes"


def as_table(at: Path) -> Path:
    rows = [f"classes/{NAMES[label]}/{i}.png,{NAMES[label]}" for i, label in enumerate(LABELS)]
    as_folder(at)
    (at / "table.csv").write_text("\n".join(["path,label", *rows]))
    return at / "table.csv"


def as_idx(at: Path) -> Path:
    (at / "idx").mkdir()
    (at / "idx" / "train-images-idx3-ubyte").write_bytes(
        struct.pack(">4B3I", 0, 0, 8, 3, *IMAGES.shape) + IMAGES.tobytes()
    )
    labels = LABELS.astype(np.uint8)
    (at / "idx" / "train-labels-idx1-ubyte").write_bytes(struct.pack(">4BI", 0, 0, 8, 1, 100) + labels.tobytes())
    return at / "idx"


def as_npz(at: Path) -> Path:
    np.savez(at / "set.npz", images=IMAGES, labels=np.array(NAMES)[LABELS])
    return at / "set.npz"


KINDS: list[Callable[[Path], Path]] = [as_folder, as_table, as_idx, as_npz]


def everything(dataset: Dataset) -> dict[bytes, tuple[str, str]]:
    """Each image's split and class."""
    return {
        image.tobytes(): (name, dataset.classes[label])
        for name in ("train", "validation", "test")
        for image, label in zip(getattr(dataset, name).images, getattr(dataset, name).labels, strict=True)
    }


def renamed(kind: Callable[[Path], Path], *names: str) -> list[str]:
    """The classes as a kind of source calls them."""
    return [str(NAMES.index(name)) for name in names] if kind is as_idx else list(names)


@pytest.mark.parametrize("kind", KINDS)
def test_classes_are_kept_in_the_order_asked_for(tmp_path: Path, kind: Callable[[Path], Path]) -> None:
    source = kind(tmp_path)
    whole, asked = everything(load_dataset(source)), renamed(kind, "cat", "ant")
    for classes in (asked, ", ".join(asked), tuple(asked)):
        dataset = load_dataset(source, classes=classes)
        assert dataset.classes == tuple(asked)
        assert everything(dataset) == {image: at for image, at in whole.items() if at[1] in asked}
        assert any(f"classes {asked[0]!r}, {asked[1]!r}: 70 of 100 images" in note for note in dataset.notes)


@pytest.mark.parametrize("kind", KINDS)
def test_a_limit_thins_the_training_images_alone_and_every_class_alike(
    tmp_path: Path, kind: Callable[[Path], Path]
) -> None:
    source = kind(tmp_path)
    whole, dataset = load_dataset(source), load_dataset(source, limit=20)
    assert dataset.train.labels is not None
    assert np.bincount(dataset.train.labels).tolist() == [12, 6, 2]
    assert set(everything(dataset).items()) <= set(everything(whole).items())
    for split in ("validation", "test"):
        assert np.array_equal(getattr(dataset, split).images, getattr(whole, split).images)
    N = len(whole.train)
    assert f"Selected 20 of {N} training images (stratified by class, seed 0)." in dataset.notes
    assert load_dataset(source, limit=20).fingerprint == dataset.fingerprint
    assert load_dataset(source, limit=20, seed=1).fingerprint != dataset.fingerprint
    assert load_dataset(source, limit=N).fingerprint == whole.fingerprint


@pytest.mark.parametrize("kind", KINDS)
def test_options_go_together(tmp_path: Path, kind: Callable[[Path], Path]) -> None:
    asked = renamed(kind, "bee", "ant")
    dataset = load_dataset(kind(tmp_path), classes=asked, limit=10, size=8, skip_broken=True)
    assert dataset.classes == tuple(asked)
    assert dataset.shape == (1, 8, 8)
    assert dataset.train.labels is not None
    assert np.bincount(dataset.train.labels).tolist() == [3, 7]


def test_builtin_sources_take_the_options_too() -> None:
    dataset = load_dataset("digits", classes=[7, 1], limit=40)
    assert dataset.classes == ("7", "1")
    assert len(dataset.train) == 40
    assert 30 < len(dataset.test) < 40


def test_unlabelled_images_are_limited_at_random(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=IMAGES)
    dataset = load_dataset(tmp_path / "set.npz", limit=7)
    assert len(dataset.train) == 7
    assert "Selected 7 of 81 training images (at random, seed 0)." in dataset.notes


labels_of_any_kind = st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=200).map(np.array)


@given(labels_of_any_kind, st.integers(1, 250), st.integers(0, 1000))
def test_a_choice_has_its_size_and_keeps_the_proportions(labels: np.ndarray, count: int, seed: int) -> None:
    chosen = choose(labels, count, seed=seed)
    assert len(chosen) == min(count, len(labels))
    assert (np.diff(chosen) > 0).all()
    names, counts = np.unique(labels, return_counts=True)
    for name, n in zip(names, counts, strict=True):
        taken = (labels[chosen] == name).sum()
        assert taken >= (1 if count >= len(names) else 0)
        assert abs(taken - n * min(1, count / len(labels))) <= 2
    assert np.array_equal(choose(labels, count, seed=seed), chosen)


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "an unknown class": ({"classes": "ant,bea"}, r"got 'bea'; .*'ant', 'bee', 'cat'\. Did you mean 'bee'\?", ""),
    "a class in another case": ({"classes": "Ant"}, r"got 'Ant'; .*'ant', 'bee', 'cat'\. Did you mean 'ant'\?", ""),
    "a class twice": ({"classes": "ant,ant"}, "got 'ant' more than once; ", ""),
    "no class": ({"classes": " "}, "got ' '; ", "classes='cat,dog'"),
    "no image": ({"limit": 0}, "got 0; .*at least 1", "limit=1000"),
    "a negative limit": ({"limit": -3}, "got -3; .*at least 1", "limit=1000"),
}
"""Wrong options, what the message states about them, and the example that it gives."""


@pytest.mark.parametrize("case", BAD)
def test_bad_options_are_refused_alike_in_python_and_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    options, hint, example = BAD[case]
    ((name, value),) = options.items()
    source = as_npz(tmp_path)
    with pytest.raises(ConfigError, match=f"^`{name}`: {hint}.*{f'`{example}`' if example else ''}$"):
        load_dataset(source, **options)
    with pytest.raises(SystemExit) as stopped:
        main(["data", str(source), f"--{name}", str(value)])
    assert stopped.value.code == 2
    typed = f"--{example}".replace("=", " ").replace("'", "") if example else ""
    assert re.fullmatch(f"vaelab: --{name}: {hint}.*{typed}\n", capsys.readouterr().err)


@pytest.mark.parametrize("limit", [True, 2.5, "7"])
def test_a_limit_is_a_whole_number(tmp_path: Path, limit: Any) -> None:
    with pytest.raises(ConfigError, match=f"^`limit`: got {limit!r}; expected a whole number"):
        load_dataset(as_npz(tmp_path), limit=limit)


def test_classes_of_unlabelled_images_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=IMAGES)
    with pytest.raises(ConfigError, match=r"^`classes`: got 'ant' for images without labels; "):
        load_dataset(tmp_path / "set.npz", classes="ant")


def test_broken_files_are_left_out_counted_and_named(tmp_path: Path) -> None:
    folder = as_folder(tmp_path)
    whole = everything(load_dataset(folder))
    for i in range(7):
        (folder / "ant" / f"x{i}.png").write_bytes(b"no image")
    (folder / "bee" / "gone.png").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"x0\.png: cannot be read .*`skip_broken=True`"):
        load_dataset(folder)
    dataset = load_dataset(folder, skip_broken=True)
    names = [f"ant{os.sep}x{i}.png" for i in range(5)]
    broken = [note for note in dataset.notes if f" 8 broken files: {', '.join(names)} and 3 more." in note]
    assert len(broken) == 1
    assert everything(dataset).keys() == whole.keys()
    assert dataset.fingerprint == load_dataset(as_folder(tmp_path / "whole")).fingerprint
    assert broken[0] in load_dataset(folder, skip_broken=True, size=8).notes


def test_nothing_but_broken_files_is_an_error(tmp_path: Path) -> None:
    for i in range(3):
        (tmp_path / f"{i}.png").touch()
    with pytest.raises(DataError, match=r"3 files, none of which can be read; .*0\.png"):
        load_dataset(tmp_path, skip_broken=True)


def test_the_command_line_says_what_was_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = as_folder(tmp_path)
    (folder / "ant" / "x.png").touch()
    out = str(tmp_path / "sheet.png")
    with pytest.raises(SystemExit) as stopped:
        main(["data", str(folder), "--skip-broken", "--classes", "cat,ant", "--limit", "58", "--out", out])
    assert stopped.value.code == 0
    printed = capsys.readouterr()
    assert f" 1 broken file: ant{os.sep}x.png." in printed.err
    assert printed.out.startswith("classes: 57 train, 6 validation, 7 test images")


def test_what_is_limited_away_is_not_decoded(tmp_path: Path) -> None:
    folder = as_folder(tmp_path)
    for path in (folder / "cat").iterdir():
        path.write_bytes(b"no image")
    assert load_dataset(folder, classes="ant,bee").classes == ("ant", "bee")
    with pytest.raises(DataError, match="cannot be read"):
        load_dataset(folder, classes="ant,cat")


def save(path: Path, level: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (5, 4), level).save(path)


def test_inner_folders_belong_to_their_class(tmp_path: Path) -> None:
    for level, name in enumerate(["ant/2.png", "ant/10.png", "ant/deep/1.png", "ant/deep/er/0.png", "bee/x/y/0.png"]):
        save(tmp_path / "in" / name, level)
    save(tmp_path / "in" / "bee" / ".hidden" / "1.png")
    (tmp_path / "in" / "ant" / "loop").symlink_to(tmp_path / "in" / "ant")
    dataset = load_dataset(tmp_path / "in")
    assert dataset.classes == ("ant", "bee")
    assert len(dataset.train) + len(dataset.test) == 5  # none of them twice
    classes = {image[0]: name for image, (_, name) in everything(dataset).items()}
    assert classes == {0: "ant", 1: "ant", 2: "ant", 3: "ant", 4: "bee"}
    assert any("4 subfolders" in note for note in dataset.notes)


AWKWARD = ["A", "a", "été", "ε δ", "two words", " x", "7", "07", "日本", "😀", "no.dot", "O'Neill"]


def test_class_names_are_kept_as_they_are(tmp_path: Path) -> None:
    rows = []
    for level, name in enumerate(AWKWARD):
        for i in range(2):
            save(tmp_path / "classes" / name / f"{i}.png", level)
            rows.append(f'"classes/{name}/{i}.png","{name}"')
    (tmp_path / "table.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    folder, table = load_dataset(tmp_path / "classes"), load_dataset(tmp_path / "table.csv")
    assert folder.classes == table.classes
    assert sorted(folder.classes) == sorted(AWKWARD)
    assert everything(folder) == everything(table)
    for dataset in (folder, table):
        assert dataset.train.labels is not None
        levels = dataset.train.images[:, 0, 0, 0]
        assert [AWKWARD[level] for level in levels] == [dataset.classes[label] for label in dataset.train.labels]
    decomposed = unicodedata.normalize("NFD", "été")
    assert load_dataset(tmp_path / "table.csv", classes=["a", decomposed, "ε δ"]).classes == ("a", "été", "ε δ")
    if any((tmp_path / "classes").joinpath("a").samefile(tmp_path / "classes" / "A") for _ in "x"):
        pytest.skip("this disk does not tell A from a: run it on one that does, as Linux has")


def test_a_class_with_one_image_is_learnt_from(tmp_path: Path) -> None:
    labels = np.array(["many"] * 99 + ["one"])
    np.savez(tmp_path / "set.npz", images=IMAGES, labels=labels)
    dataset = load_dataset(tmp_path / "set.npz")
    assert dataset.train.labels is not None
    assert (dataset.train.labels == 1).sum() == 1
    assert re.match("The class 'one' has a single image", dataset.notes[-1])


def test_a_thousand_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (3000, 2, 2), dtype=np.uint8), np.arange(3000) % 1000
    np.savez(tmp_path / "set.npz", images=images, labels=labels)
    dataset = load_dataset(tmp_path / "set.npz")
    assert len(dataset.classes) == 1000
    assert dataset.train.labels is not None
    assert len(np.unique(dataset.train.labels)) == 1000
    assert len(dataset.test) == 300
    limited = load_dataset(tmp_path / "set.npz", limit=1000).train.labels
    assert limited is not None
    assert np.array_equal(np.sort(limited), np.arange(1000))
    np.savez(tmp_path / "set.npz", images=images[:1000], labels=labels[:1000])
    dataset = load_dataset(tmp_path / "set.npz")
    assert (len(dataset.train), len(dataset.test)) == (1000, 0)
    assert re.search("no test set: 1,000 images of 1,000 classes .* too few", dataset.notes[0])
    assert re.match(r"1,000 classes \('0', '1', '2', '3', '4' and 995 more\) have a single image", dataset.notes[-1])


def test_a_single_class(tmp_path: Path) -> None:
    for i in range(20):
        save(tmp_path / "only" / f"{i}.png", i)
    dataset = load_dataset(tmp_path)
    assert dataset.classes == ("only",)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (16, 2, 2)


def make_test_only(at: Path, kind: str) -> Path:
    if kind == "folder":
        as_folder(at).rename(at / "test")
        (at / "whole").mkdir()
        (at / "test").rename(at / "whole" / "test")
        return at / "whole"
    if kind == "table":
        table = as_table(at)
        head, *rows = table.read_text().splitlines()
        table.write_text("\n".join([f"{head},split", *(f"{row},test" for row in rows)]))
        return table
    if kind == "idx":
        folder = as_idx(at)
        for path in list(folder.iterdir()):
            path.rename(folder / path.name.replace("train", "t10k"))
        return folder
    np.savez(at / "set.npz", test_images=IMAGES, test_labels=np.array(NAMES)[LABELS])
    return at / "set.npz"


@pytest.mark.parametrize("kind", ["folder", "table", "idx", "npz"])
def test_a_source_of_test_images_alone_can_be_tried_but_not_learnt_from(tmp_path: Path, kind: str) -> None:
    dataset = load_dataset(make_test_only(tmp_path, kind), size=8)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (0, 0, 100)
    assert len(dataset.classes) == 3
    assert dataset.shape == (1, 8, 8)
    assert any("no training images" in note for note in dataset.notes)
    assert next(describe_dataset(dataset)) == f"{dataset.name}: 0 train, 0 validation, 100 test images"
    assert contact_sheet(dataset).width > 8
    from vaelab.config import Config

    with pytest.raises(DataError, match="no training images"):
        next(fit(Config(), dataset))


def test_a_source_of_training_images_alone_is_parted(tmp_path: Path) -> None:
    as_folder(tmp_path)
    (tmp_path / "whole").mkdir()
    (tmp_path / "classes").rename(tmp_path / "whole" / "train")
    dataset = load_dataset(tmp_path / "whole")
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (81, 9, 10)


def test_the_images_of_an_ordinary_folder_are_those_of_earlier_versions(tmp_path: Path) -> None:
    dataset = load_dataset(as_folder(tmp_path))
    assert dataset.fingerprint == "c4973507ad3f11626c36b349d0f24227ef28abaaee98aba1cccf6a43083da074"


def test_options_are_typed_again_as_they_were() -> None:
    options = SourceOptions(size="8", skip_broken=True, limit=5, classes="two words,b")
    typed = ["--size", "8", "--skip-broken", "--limit", "5", "--classes", "two words,b"]
    assert source_arguments(options) == typed
    assert source_arguments(None) == []
