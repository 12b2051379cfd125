"""Filling classes with generated images: how many, which, and the folder, whose split is that of the source."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from building import build_model, with_output_weights
from conftest import draw_tiny
from evaluation_contexts import table, unlabelled
from PIL import Image

from vaelab import augment, load, load_data_of_run, load_dataset
from vaelab.cli import main
from vaelab.config import Config, ModelConfig
from vaelab.data import Dataset, Split
from vaelab.errors import ConfigError, DataError, LabelError
from vaelab.inference import augmentation
from vaelab.inference.trained import TrainedModel
from vaelab.training.fit import fit

CLASSES = ("a/b", ".A_b", "lost+found")
"""Names that are not names of folders, or would not be read as classes."""

FOLDERS = ("a_b", "_A_b", "lost+found_")
COUNTS = (40, 12, 25)


@pytest.fixture(scope="module")
def uneven() -> Dataset:
    """Training images of three classes, `COUNTS`; 15 validation and 45 test images."""
    pool = draw_tiny(120, seed=4)
    assert pool.labels is not None
    kept = np.concatenate([np.flatnonzero(pool.labels == k)[:count] for k, count in enumerate(COUNTS)])
    return Dataset("uneven", pool[kept], draw_tiny(15, seed=5), draw_tiny(45, seed=6), CLASSES)


def save(dataset: Dataset, path: Path) -> Path:
    splits = {"": dataset.train, "validation_": dataset.validation, "test_": dataset.test}
    arrays = {f"{key}images": split.images for key, split in splits.items() if len(split)}
    if dataset.labelled:
        names = np.array(dataset.classes)
        arrays |= {f"{key}labels": names[split.labels] for key, split in splits.items() if len(split)}
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    return path


@pytest.fixture(scope="module")
def place(uneven: Dataset, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with uneven.npz, and the conditional run `run` and the unconditional one `vae` of it."""
    folder = tmp_path_factory.mktemp("augment")
    dataset = load_dataset(save(uneven, folder / "uneven.npz"))
    for kind, name in (("cvae", "run"), ("vae", "vae")):
        config = replace(tiny_config, model=replace(tiny_config.model, model=kind))
        for _ in fit(config, dataset, out=folder / name):
            pass
    return folder


@pytest.fixture(scope="module")
def model(place: Path) -> TrainedModel:
    return load(place / "run")


def run_command(*words: object) -> int:
    with pytest.raises(SystemExit) as end:
        main(["augment", *map(str, words)])
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.fixture(scope="module")
def written(place: Path) -> Path:
    """The folder that the command writes, with classes of 50 images."""
    out = place / "filled"
    assert run_command(place / "run", place / "uneven.npz", "--to", 50, "--seed", 3, "--out", out) == 0
    return out


def of_class(split: Split, k: int) -> np.ndarray:
    assert split.labels is not None
    return split.images[split.labels == k]


def test_every_class_is_filled_up_and_only_with_its_own_label(
    model: TrainedModel, uneven: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    generated = augment(model, uneven)
    assert generated.labels is not None
    assert np.bincount(generated.labels).tolist() == [0, 28, 15]
    assert np.bincount(augment(model, uneven, to=41).labels).tolist() == [1, 29, 16]  # type: ignore[arg-type]
    assert generated.images.shape == (43, 1, 8, 8)
    more = augment(model, uneven, to=50)
    assert np.array_equal(of_class(more, 1)[:28], of_class(generated, 1))  # a larger number begins alike
    monkeypatch.setattr(augmentation, "ROWS", 10)
    asked: list[int] = []
    decode = TrainedModel.decode

    def watched(self: TrainedModel, z: np.ndarray, labels: np.ndarray, **options: object) -> np.ndarray:
        asked.extend(labels)
        return decode(self, z, labels, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(TrainedModel, "decode", watched)
    other = replace(uneven, classes=("lost+found", "a/b", ".A_b"))  # the classes in another order than the model's
    assert np.bincount(augment(model, other).labels).tolist() == [0, 28, 15]  # type: ignore[arg-type]
    names = [model.classes[k] for k in asked]
    assert names == ["a/b"] * 28 + [".A_b"] * 15


def test_the_images_follow_the_options(model: TrainedModel, uneven: Dataset) -> None:
    first = augment(model, uneven, seed=1).images
    assert np.array_equal(augment(model, uneven, seed=1).images, first)
    assert not np.array_equal(augment(model, uneven, seed=2).images, first)
    cold = augment(model, uneven, temperature=0).images
    assert np.array_equal(cold[0], cold[27])
    drawn = [augment(model, uneven, decode="sample", seed=seed).images for seed in (1, 1, 2)]
    assert set(np.unique(drawn[0])) == {0, 255}
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def untrained(kind: str = "cvae", shape: tuple[int, ...] = (1, 8, 8)) -> TrainedModel:
    likelihood = "gaussian" if len(shape) == 1 else "bernoulli"
    config = ModelConfig(model=kind, network="mlp", likelihood=likelihood, latent_dim=2, width=8, depth=1)  # type: ignore[arg-type]
    built = with_output_weights(build_model(config, shape, 3), 0).eval()
    return TrainedModel(built, kind, likelihood, CLASSES if kind == "cvae" else ())  # type: ignore[arg-type]


def test_what_cannot_be_filled_is_refused(model: TrainedModel, uneven: Dataset, tiny: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"kind vae, which takes no labels.*`model='cvae'`"):
        augment(untrained("vae"), uneven)
    with pytest.raises(DataError, match=r"uneven: got grey images of 8×8 for a model of grey images of 9×9"):
        augment(untrained(shape=(1, 9, 9)), uneven)
    with pytest.raises(DataError, match="got a table; expected images"):
        augment(untrained(shape=table().shape), table())
    with pytest.raises(LabelError, match="without labels"):
        augment(model, unlabelled(uneven))
    with pytest.raises(LabelError, match="unknown label 'across'"):
        augment(model, tiny)
    with pytest.raises(ConfigError, match=r"`to`: got 39; expected balance, or at least 40, .*'a/b'"):
        augment(model, uneven, to=39)
    with pytest.raises(ConfigError, match="`to`: got False"):
        augment(model, uneven, to=False)
    with pytest.raises(ConfigError, match="`temperature`"):
        augment(model, uneven, temperature=-1)
    with pytest.raises(ConfigError, match="`decode`"):
        augment(model, uneven, decode="median")  # type: ignore[arg-type]
    even = replace(uneven, train=draw_tiny(120, seed=0))
    with pytest.raises(ConfigError, match="all 3 classes have 40 training images; expected a larger number"):
        augment(model, even)
    none = replace(uneven, train=uneven.train[:52])
    with pytest.raises(DataError, match=r"no training images of the class 'lost\+found'.*`classes`"):
        augment(model, none)


def test_the_folder_has_the_split_of_the_source_and_marks_generated_images(written: Path, uneven: Dataset) -> None:
    found = load_dataset(written)
    assert found.classes == ("a_b", "_A_b", "lost+found_") or set(found.classes) == set(FOLDERS)
    order = [found.classes.index(name) for name in FOLDERS]
    for split in ("validation", "test"):
        for k in range(3):
            assert np.array_equal(of_class(found.part(split), order[k]), of_class(uneven.part(split), k))
    for k in range(3):
        images = of_class(found.train, order[k])
        assert len(images) == 50
        assert np.array_equal(images[: COUNTS[k]], of_class(uneven.train, k))  # real ones come first
    names = sorted(path.name for path in (written / "train" / "_A_b").iterdir())
    assert sum(re.fullmatch(r"generated-\d{5}\.png", name) is not None for name in names) == 38
    assert not list((written / "test").rglob("generated*"))
    assert not list((written / "validation").rglob("generated*"))
    assert {path.name for path in written.iterdir()} == {"train", "validation", "test", "images.csv"}


def test_the_table_lists_every_image_and_is_a_source_too(written: Path, uneven: Dataset) -> None:
    with (written / "images.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 150 + 15 + 45
    assert list(rows[0]) == ["path", "label", "split", "generated", "original"]
    assert all((written / row["path"]).is_file() for row in rows)
    marked = {row["path"] for row in rows if row["generated"] == "1"}
    assert marked == {str(path.relative_to(written)) for path in written.rglob("generated-*.png")}
    assert {row["split"] for row in rows if row["generated"] == "1"} == {"train"}
    found = load_dataset(written / "images.csv")
    assert set(found.classes) == set(CLASSES)
    assert len(found.train) == 150
    k, label = found.classes.index("a/b"), uneven.classes.index("a/b")
    assert np.array_equal(of_class(found.test, k), of_class(uneven.test, label))


def test_the_images_of_the_folder_are_those_of_python_and_of_the_same_command_again(
    written: Path, place: Path, model: TrainedModel, tmp_path: Path
) -> None:
    dataset = load_data_of_run(place / "run", place / "uneven.npz")
    generated = augment(model, dataset, to=50, seed=3)
    expected = of_class(generated, dataset.classes.index(".A_b"))
    for number in (0, 37):
        with Image.open(written / "train" / "_A_b" / f"generated-{number:05d}.png") as image:
            assert np.array_equal(np.asarray(image), expected[number, 0])
    (tmp_path / "again").mkdir()  # an empty folder will do
    words = (place / "run", place / "uneven.npz", "--to", "50", "--seed", "3", "--out", tmp_path / "again")
    assert run_command(*words) == 0
    for path in written.rglob("*"):
        if path.is_file():
            assert (tmp_path / "again" / path.relative_to(written)).read_bytes() == path.read_bytes()


def test_original_paths_of_a_folder_are_kept_and_a_limit_of_the_training_is_found_again(
    tiny: Dataset,
    tiny_config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for k, name in enumerate(tiny.classes):
        Path("photos", name).mkdir(parents=True)
        for number, image in enumerate(of_class(tiny.train, k)[: 40 - 6 * k]):
            Image.fromarray(np.stack([image[0]] * 3, -1)).save(Path("photos", name, f"{number}.png"))
    colour = replace(tiny_config, model=replace(tiny_config.model, likelihood="colour-logistic"))
    for _ in fit(colour, load_dataset("photos", limit=60), out="run"):
        pass
    assert run_command("run", "photos", "--out", "filled") == 0
    assert "note:" not in capsys.readouterr().err
    found = load_dataset("filled")
    assert found.shape == (3, 8, 8)
    counts = np.bincount(found.train.labels).tolist()  # type: ignore[arg-type]
    assert counts[0] in (23, 24)  # of 60 images of 40, 34 and 28
    assert counts == [counts[0]] * 3
    with Path("filled/images.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    real = [row for row in rows if row["generated"] == "0"]
    assert len({row["original"] for row in real}) == len(real)
    for row in real[::20]:
        with Image.open(row["path"] and Path("filled", row["path"])) as copy, Image.open(row["original"]) as original:
            assert np.array_equal(np.asarray(copy), np.asarray(original))
    assert {row["original"] for row in rows if row["generated"] == "1"} == {""}


BAD = {
    "a number below the largest class": (["run", "uneven.npz", "--to", "39"], "^--to: got 39; .*at least 40"),
    "more than the disk holds": (["run", "uneven.npz", "--to", "10000000000"], "^new: .*GiB free on this disk.*--out"),
    "no number": (["run", "uneven.npz", "--to", "full"], "--to.*full"),
    "a fraction": (["run", "uneven.npz", "--to", "50.5"], "^--to: .*whole number"),
    "an unconditional run": (["vae", "uneven.npz"], "kind vae.*--model cvae"),
    "unlabelled data": (["run", "bare.npz"], "^bare: .*without labels"),
    "unknown classes": (["run", "other.npz"], "unknown label 'across'"),
    "an unknown class that is asked for": (["run", "more.npz", "--classes", "a/b,across"], "unknown label 'across'"),
    "other images": (["run", "uneven.npz", "--size", "9"], "grey images of 9×9 for a model of grey images of 8×8"),
    "colour images": (["run", "colour.npz"], "RGB images of 8×8 for a model of grey images"),
    "no held-out images": (["run", "few.npz"], "^few: got no (validation|test) images"),
    "a folder in use": (["run", "uneven.npz", "--out", "used"], "^--out: used exists.*new"),
    "a folder in a file": (["run", "uneven.npz", "--out", "uneven.npz/x"], "^cannot write uneven.npz/x: "),
    "a negative temperature": (["run", "uneven.npz", "--temperature", "-1"], "^--temperature: got -1"),
    "no run": (["none", "uneven.npz"], "^none: .*run folder"),
    "no source": (["run", "none.npz"], r"no data source 'none\.npz'"),
    "few test images to judge": (
        ["run", "sparse.npz", "--judge"],
        "^sparse: got 1 test image .*--judge needs at least 10",
    ),
    "to judge with other training images": (["run", "more.npz", "--judge"], "^run was not trained on .*--judge"),
}


@pytest.fixture
def sources(place: Path, uneven: Dataset, tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder `place` as the current one, with the other sources of `BAD`, and a folder that is in use."""
    monkeypatch.chdir(place)
    if not Path("used").exists():
        Path("used").mkdir()
        Path("used/old").write_text("old")
        save(unlabelled(uneven), place / "bare.npz")
        save(tiny, place / "other.npz")
        assert uneven.train.labels is not None
        extended = replace(uneven.train, labels=np.where(np.arange(len(uneven.train)) < 20, 3, uneven.train.labels))
        save(replace(uneven, train=extended, classes=(*CLASSES, "across")), place / "more.npz")
        train, validation, test = (
            Split(np.repeat(split.images, 3, 1), split.labels)
            for split in (uneven.train, uneven.validation, uneven.test)
        )
        save(Dataset("colour", train, validation, test, CLASSES), place / "colour.npz")
        few = uneven.train[np.array([0, 1, 45, 60])]
        save(Dataset("few", few, few[:0], few[:0], CLASSES), place / "few.npz")
        save(replace(uneven, test=uneven.test[:6]), place / "sparse.npz")
    return place


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line_and_leaves_nothing(what: str, sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words, message = BAD[what]
    before = sorted(sources.rglob("*"))
    assert run_command(*words, *([] if "--out" in words else ["--out", "new"])) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("vaelab: ")
    assert re.search(message, line.removeprefix("vaelab: ")), line
    assert sorted(sources.rglob("*")) == before


def test_an_interruption_leaves_nothing(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> np.ndarray:
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainedModel, "decode", interrupt)
    assert run_command(place / "run", place / "uneven.npz", "--out", tmp_path / "filled") == 130
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_other_training_images_is_noted(sources: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("run", "more.npz", "--out", "noted") == 0
    assert "note: run was not trained on the training images of more" in capsys.readouterr().err
