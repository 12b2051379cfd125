"""Images given to `encode`, `reconstruct` and `restyle`: files and sources without labels, and results with their paths."""

import csv
from pathlib import Path

import numpy as np
import pytest
from conftest import read_npz
from PIL import Image

import vaelab
from vaelab.cli import main
from vaelab.config import Config
from vaelab.data import Dataset
from vaelab.errors import LabelError
from vaelab.inference.latents import place
from vaelab.inference.trained import TrainedModel
from vaelab.training.fit import fit


@pytest.fixture(scope="module")
def run(tiny: Dataset, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("given") / "run"
    for _ in fit(tiny_config, tiny, out=out):
        pass
    return out


@pytest.fixture(scope="module")
def model(run: Path) -> TrainedModel:
    return vaelab.load(run)


@pytest.fixture
def here(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four images without labels in the folder new, and as many in class folders of the folder sorted."""
    monkeypatch.chdir(tmp_path)
    assert tiny.test.labels is not None
    for index, (image, label) in enumerate(zip(tiny.test.images[:4, 0], tiny.test.labels[:4], strict=True)):
        for folder in ("new", f"sorted/{tiny.classes[label]}"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(f"{folder}/{index}.png")
    return tmp_path


def call(*words: object) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    assert end.value.code == 0


def rows(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_model_infers_the_labels_of_images_without(model: TrainedModel, tiny: Dataset) -> None:
    images = tiny.test.images
    labels = place(model, images).labels
    assert labels is not None
    assert np.array_equal(model.inferred_labels(images), labels)
    assert np.array_equal(model.encode(images).mean, model.encode(images, labels).mean)
    assert np.array_equal(model.reconstruct(images).nats, model.reconstruct(images, labels).nats)
    with pytest.raises(LabelError, match="no labels"):
        model.encode(images, [])


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("given", [("new",), ("new/0.png", "new/1.png", "new/2.png", "new/3.png")])
def test_images_without_labels_are_encoded(
    run: Path, model: TrainedModel, tiny: Dataset, given: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    call("encode", run, *given, "--out", "z.npz")
    encoded, labels = read_npz("z.npz"), model.inferred_labels(tiny.test.images[:4])
    assert encoded["paths"].tolist() == [f"new/{index}.png" for index in range(4)]
    assert encoded["labels"].tolist() == labels.tolist()
    assert encoded["classes"].tolist() == list(tiny.classes)
    assert encoded["inferred"].all()
    assert np.array_equal(encoded["mean"], model.encode(tiny.test.images[:4], labels).mean)
    said = capsys.readouterr().err
    assert "read the labels of 4 images with the model" in said
    assert "4 posteriors" in said
    assert "Held out" not in said


@pytest.mark.usefixtures("here")
def test_labels_can_be_given(run: Path, tiny: Dataset) -> None:
    call("encode", run, "new", "--label", "frame", "--out", "z.csv")
    assert [row["label"] for row in rows("z.csv")] == ["frame"] * 4
    assert "inferred" not in rows("z.csv")[0]
    call("reconstruct", run, "new/0.png", "new/1.png", "--label", "down", "--label", "across", "--out", "x.csv")
    assert [row["label"] for row in rows("x.csv")] == ["down", "across"]
    call("encode", run, "sorted", "--label", "down", "--out", "z.npz")  # instead of the labels of the source
    assert read_npz("z.npz")["labels"].tolist() == [tiny.classes.index("down")] * 4


@pytest.mark.usefixtures("here")
def test_a_wrong_number_of_labels_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["encode", str(run), "new", "--label", "down", "--label", "frame", "--out", "z.csv"])
    assert end.value.code == 2
    assert "--label: got 2 labels for 4 images" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_results_name_the_file_of_each_image(run: Path, model: TrainedModel) -> None:
    dataset = vaelab.load_dataset("sorted")
    assert dataset.train.paths is not None
    assert dataset.train.labels is not None
    assert [Path(path).parent.name for path in dataset.train.paths] == [
        dataset.classes[label] for label in dataset.train.labels
    ]
    second = dataset.train[np.array([1])].paths
    assert second is not None
    assert second.tolist() == [dataset.train.paths[1]]
    call("encode", run, "sorted", "--out", "z.csv")
    for row in rows("z.csv"):
        image = np.asarray(Image.open(row["path"]))
        assert row["label"] == Path(row["path"]).parent.name
        assert row["split"] == "train"
        assert list(row)[3:] == ["mean_0", "mean_1", "log_variance_0", "log_variance_1"]
        assert float(row["mean_0"]) == pytest.approx(
            model.encode(image[None], [row["label"]], binarised=True).mean[0, 0], abs=0.2
        )
    call("reconstruct", run, "sorted", "--out", "x.csv")
    assert [list(row) for row in rows("x.csv")] == [["path", "split", "label", "distortion", "rate"]] * 4


@pytest.mark.usefixtures("here")
def test_an_image_of_a_source_without_files_is_named_as_commands_take_it(run: Path, tiny: Dataset) -> None:
    np.savez("tiny.npz", images=tiny.train.images, labels=np.array(tiny.classes)[tiny.train.labels])
    call("posterior", run, "tiny.npz", "--split", "all", "--count", "3", "--out", "p.csv")
    assert [row["path"] for row in rows("p.csv")] == ["tiny.npz:train:0", "tiny.npz:train:60", "tiny.npz:test:11"]
    call("restyle", run, rows("p.csv")[2]["path"], "--out", "x.png")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("folder", ["new", "sorted"])
def test_a_source_without_test_images_is_used_as_a_whole(run: Path, folder: str) -> None:
    assert len(vaelab.load_dataset(folder).test) == 0
    for words in (("restyle", folder), ("reconstruct", folder), ("posterior", folder), ("restyle", f"{folder}:3")):
        call(words[0], run, words[1], "--out", "x.png")
    for split in ("all", "train"):
        call("restyle", run, folder, "--split", split, "--out", "x.png")


@pytest.mark.usefixtures("here")
def test_a_split_without_images_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("restyle", "reconstruct", "posterior"):
        with pytest.raises(SystemExit) as end:
            main([command, str(run), "new", "--split", "test", "--out", "x.png"])
        assert end.value.code == 2
        assert "new: got no test images; expected some: give --split all" in capsys.readouterr().err
