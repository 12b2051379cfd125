"""The commands that look at a trained model: each makes its picture, and a mistake is one line and leaves nothing."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import read_npz
from PIL import Image

from vaelab import load
from vaelab.cli import main
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data import Dataset, Split
from vaelab.inference import explore
from vaelab.inference.latents import place
from vaelab.training.fit import fit


def run_of(dataset: Dataset, folder: Path, **model: object) -> Path:
    config = Config(ModelConfig(width=32, depth=1, **model), TrainConfig(epochs=40, batch_size=32))  # type: ignore[arg-type]
    for _ in fit(config, dataset, out=folder):
        pass
    return folder


@pytest.fixture(scope="module")
def place_of_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("explore")


@pytest.fixture(scope="module")
def run(tiny: Dataset, place_of_runs: Path) -> Path:
    return run_of(tiny, place_of_runs / "cvae", latent_dim=3)


@pytest.fixture(scope="module")
def vae(tiny: Dataset, place_of_runs: Path) -> Path:
    return run_of(tiny, place_of_runs / "vae", model="vae", latent_dim=3)


@pytest.fixture(scope="module")
def unmeasured(tiny: Dataset, place_of_runs: Path) -> Path:
    return run_of(Dataset("bare", tiny.train, tiny.validation[:0], tiny.test[:0], tiny.classes), place_of_runs / "bare")


@pytest.fixture(scope="module")
def table(place_of_runs: Path) -> Path:
    rows = Split(np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32), np.arange(60) % 2)
    return run_of(Dataset("table", rows, rows, rows, ("a", "b")), place_of_runs / "table")


@pytest.fixture(scope="module")
def colour(tiny: Dataset, place_of_runs: Path) -> Path:
    train, validation, test = (
        Split(part.images.repeat(3, 1), part.labels) for part in (tiny.train, tiny.validation, tiny.test)
    )
    data = Dataset("colour", train, validation, test, tiny.classes)
    return run_of(data, place_of_runs / "colour", network="mlp", latent_dim=2)


@pytest.fixture
def here(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the source tiny.npz, an image of it, a large drawing on paper, and what is no image."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    arrays = {"images": tiny.train.images, "labels": np.array(tiny.classes)[tiny.train.labels]}
    arrays |= {"test_images": tiny.test.images, "test_labels": np.array(tiny.classes)[tiny.test.labels]}
    np.savez("tiny.npz", allow_pickle=False, **arrays)
    Image.fromarray(tiny.test.images[1, 0]).save("one.png")
    paper = np.full((90, 120), 230, dtype=np.uint8)
    paper[35:55, 30:90] = 20
    Image.fromarray(paper).save("drawing.png")
    Path("text.png").write_text("no image")
    Image.fromarray(np.zeros((9, 9), dtype=np.uint8)).save("nine.png")
    return tmp_path


def call(*arguments: object) -> None:
    """Run the command line in this process; a clean end only."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == 0


def pixels(path: str) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def frames(path: str) -> int:
    with Image.open(path) as image:
        return getattr(image, "n_frames", 1)


def test_traverse(run: Path, here: Path, tiny: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    model = load(run)
    call("traverse", run, "--label", "down", "--out", "a.png")
    assert np.array_equal(pixels("a.png"), np.asarray(explore.traverse(model, "down").sheet()))
    assert capsys.readouterr().err.endswith("3 × 11 images: a.png\n")
    call("traverse", run, "--seed", "3", "--axes", "2,0", "--steps", "4", "--out", "b.png")
    z = model.latents(1, seed=3)[0]
    assert np.array_equal(pixels("b.png"), np.asarray(explore.traverse(model, 0, z=z, axes=[2, 0], steps=4).sheet()))
    call("traverse", run, "--count", "1", "--out", "c.gif")
    assert frames("c.gif") == 31 + 29
    assert tiny.test.labels is not None
    call("traverse", run, "--image", "tiny.npz:test:4", "--out", "d.png")
    of_image = explore.traverse(model, tiny.test.labels[4], image=tiny.test.images[4])
    assert np.array_equal(pixels("d.png"), np.asarray(of_image.sheet()))


def test_traverse_measures_axes_on_a_source(unmeasured: Path, here: Path) -> None:
    call("traverse", unmeasured, "tiny.npz", "--count", "2", "--out", "a.png")
    call("manifold", unmeasured, "tiny.npz", "--label", "frame", "--steps", "2", "--out", "b.png")
    call("posterior", unmeasured, "tiny.npz", "--out", "c.png")
    assert pixels("c.png").shape[0] == 792


def test_interpolate(run: Path, here: Path, tiny: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    model = load(run)
    assert tiny.test.labels is not None
    pair, own = tiny.test.images[[1, 4]], tiny.test.labels[[1, 4]]
    call("interpolate", run, "tiny.npz:1", "tiny.npz:test:4", "--out", "a.png")
    assert np.array_equal(pixels("a.png"), np.asarray(explore.interpolate(model, pair, own).sheet()))
    call("interpolate", run, "tiny.npz:1", "tiny.npz:4", "--label", "frame", "--label", "0", "--out", "b.png")
    between = explore.interpolate(model, pair, own, under=["frame", 0])
    assert np.array_equal(pixels("b.png"), np.asarray(between.sheet()))
    capsys.readouterr()
    call("interpolate", run, "one.png", "tiny.npz:4", "--steps", "3", "--fps", "5", "--out", "c.webp")
    assert frames("c.webp") == 4
    read = place(model, pair[0])
    assert read.labels is not None
    assert f"one.png: read as {model.classes[read.labels[0]]}\n" in capsys.readouterr().err


def test_interpolate_between_seeds(run: Path, vae: Path, here: Path) -> None:
    call("interpolate", run, "--label", "down", "--seed", "7", "--out", "a.png")
    model = load(run)
    between = explore.interpolate(model, z=model.latents(2, seed=7), under=["down"])
    assert np.array_equal(pixels("a.png"), np.asarray(between.sheet()))
    call("interpolate", run, "--out", "b.png")
    call("interpolate", vae, "--out", "c.png")


def test_manifold(run: Path, vae: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = load(run)
    call("manifold", run, "--label", "frame", "--axes", "0,2", "--steps", "5", "--out", "a.png")
    sheet = explore.manifold(model, "frame", axes=[0, 2], steps=5).sheet()
    assert np.array_equal(pixels("a.png"), np.asarray(sheet))
    capsys.readouterr()
    call("manifold", run, "--out", "all.png")
    assert capsys.readouterr().err == "3 sheets of 10×10 images: all.png\n"
    assert pixels("all.png").shape[1] > 3 * 10 * 32
    call("manifold", vae, "--out", "one.png")
    assert capsys.readouterr().err == "20 × 20 images: one.png\n"


def test_restyle(run: Path, here: Path, tiny: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    model = load(run)
    assert tiny.test.labels is not None
    call("restyle", run, "tiny.npz", "--count", "4", "--out", "a.png")
    chosen = np.linspace(0, len(tiny.test) - 1, 4).round().astype(int)
    whole = explore.restyle(model, tiny.test.images[chosen], tiny.test.labels[chosen])
    assert np.array_equal(pixels("a.png"), np.asarray(whole.sheet()))
    assert "read as" not in capsys.readouterr().err
    call("restyle", run, "one.png", "--out", "b.png")
    read = explore.restyle(model, tiny.test.images[1])
    assert np.array_equal(pixels("b.png"), np.asarray(read.sheet()))
    assert f"one.png: {read.names[0]}; use --label" in capsys.readouterr().err
    call("restyle", run, "one.png", "tiny.npz:0", "--label", "frame", "--out", "c.png")
    told = explore.restyle(model, tiny.test.images[[1, 0]], ["frame", "frame"])
    assert np.array_equal(pixels("c.png"), np.asarray(told.sheet()))
    assert "read as" not in capsys.readouterr().err


def test_restyle_takes_the_label_that_is_given(run: Path, here: Path, tiny: Dataset) -> None:
    """The classes of the data are not those of the model; with --label they need not be."""
    names = np.array(["across", "lynx", "owl"])[tiny.test.labels]
    np.savez("other.npz", test_images=tiny.test.images, test_labels=names)
    lynx = int(np.flatnonzero(names == "lynx")[0])
    with pytest.raises(SystemExit) as end:
        main(["restyle", str(run), f"other.npz:{lynx}", "--out", "a.png"])
    assert end.value.code == 2
    for source, chosen in {"other.npz": [0, 29], f"other.npz:{lynx}": [lynx]}.items():
        call("restyle", run, source, "--count", "2", "--label", "frame", "--out", "a.png")
        told = explore.restyle(load(run), tiny.test.images[chosen], ["frame"] * len(chosen))
        assert np.array_equal(pixels("a.png"), np.asarray(told.sheet()))


def test_restyle_reads_a_drawing(run: Path, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("restyle", run, "drawing.png", "--prepare", "--out", "a.png")
    told = capsys.readouterr().err
    assert "drawing.png: grey, inverted (dark on light), thresholded by Otsu, fitted and centred in 8×8\n" in told
    assert "drawing.png: read as across;" in told
    call("restyle", run, "drawing.png", "--size", "8", "--label", "0", "--out", "b.png")
    assert not np.array_equal(pixels("a.png"), pixels("b.png"))


def test_colour(colour: Path, here: Path, tiny: Dataset) -> None:
    wide = np.moveaxis(tiny.test.images[2].repeat(3, 0), 0, -1)
    Image.fromarray(wide).save("wide.png")
    call("restyle", colour, "wide.png", "--out", "a.png")
    shown = explore.restyle(load(colour), wide)
    assert shown.images.shape == (1, 3, 8, 8, 3)
    assert np.array_equal(pixels("a.png"), np.asarray(shown.sheet()))
    call("traverse", colour, "--out", "b.webp")
    call("interpolate", colour, "wide.png", "one.png", "--out", "c.png")


def test_posterior(run: Path, vae: Path, here: Path, tiny: Dataset) -> None:
    call("posterior", run, "tiny.npz", "--count", "9", "--axes", "2,0", "--out", "a.png")
    assert pixels("a.png").shape == (792, 984, 3)
    call("posterior", run, "tiny.npz", "--count", "9", "--out", "a.npz")
    saved = read_npz("a.npz")
    chosen = np.linspace(0, len(tiny.test) - 1, 9).round().astype(int)
    assert tiny.test.labels is not None
    encoded = load(run).encode(tiny.test.images[chosen], tiny.test.labels[chosen], binarised=False)
    np.testing.assert_allclose(saved["mean"], encoded.mean, atol=1e-5)
    np.testing.assert_allclose(saved["log_variance"], encoded.log_variance, atol=1e-5)
    assert np.array_equal(saved["labels"], tiny.test.labels[chosen])
    call("posterior", vae, "tiny.npz", "--split", "train", "--out", "b.png")


BAD = {
    "a traversal of no kind": (["traverse", "run", "--out", "x.jpg"], r"--out\b.*x\.jpg.*\.png"),
    "a sheet that moves": (["manifold", "run", "--out", "x.gif"], r"--out\b.*x\.gif.*\.png"),
    "a restyling that moves": (["restyle", "run", "one.png", "--out", "x.gif"], r"--out\b.*x\.gif.*\.png"),
    "a posterior of no kind": (
        ["posterior", "run", "tiny.npz", "--out", "x.gif"],
        r"--out\b.*x\.gif.*\.png, \.npz or \.csv",
    ),
    "a missing run": (["traverse", "none", "--out", "x.png"], r"none: .*run folder"),
    "axes that are no numbers": (
        ["traverse", "run", "--axes", "0;1", "--out", "x.png"],
        r"--axes\b.*'0;1'.*commas.*0,3",
    ),
    "an axis out of range": (["traverse", "run", "--axes", "0,3", "--out", "x.png"], r"--axes\b.*0,3.*0 to 2"),
    "one axis of a sheet": (["manifold", "run", "--axes", "1", "--out", "x.png"], r"--axes\b.*1.*two"),
    "no axes": (["traverse", "run", "--count", "0", "--out", "x.png"], r"--count\b.*0.*at least 1"),
    "no axes beside axes": (
        ["traverse", "run", "--axes", "0", "--count", "0", "--out", "x.png"],
        r"--count\b.*0.*at least 1",
    ),
    "a sheet without steps": (["manifold", "run", "--steps", "0", "--out", "x.png"], r"--steps\b.*0.*2 to 200"),
    "one step": (["traverse", "run", "--steps", "1", "--out", "x.png"], r"--steps\b.*1.*2 to 200"),
    "no frames": (["traverse", "run", "--fps", "0", "--out", "x.gif"], r"--fps\b.*0.*1 to 50"),
    "an unknown label": (["traverse", "run", "--label", "dawn", "--out", "x.png"], r"'dawn'.*across, down, frame"),
    "three labels between": (
        ["interpolate", "run", *["--label", "down"] * 3, "--out", "x.png"],
        r"3 labels.*one, or two",
    ),
    "one image to go between": (["interpolate", "run", "one.png", "--out", "x.png"], r"1 image\b.*two.*--seed"),
    "an image and a seed": (
        ["traverse", "run", "--image", "one.png", "--seed", "1", "--out", "x.png"],
        r"--image\b.*--seed\b",
    ),
    "no image": (["restyle", "run", "--out", "x.png"], r"no image.*vaelab restyle"),
    "too many labels": (
        ["restyle", "run", "one.png", "--label", "0", "--label", "1", "--out", "x.png"],
        r"--label\b.*2 labels for 1 image",
    ),
    "a model without labels": (["restyle", "vae", "one.png", "--out", "x.png"], r"\(vae\).*conditional.*--model cvae"),
    "a label for a model without": (["traverse", "vae", "--label", "0", "--out", "x.png"], r"label '0'.*\(vae\)"),
    "a size other than the model's": (
        ["restyle", "run", "nine.png", "--size", "9", "--out", "x.png"],
        r"--size: got 9 .*8×8.*nine\.png is scaled",
    ),
    "images of another size than the model's": (
        ["interpolate", "run", "tiny.npz:0", "nines.npz:0", "--size", "9", "--out", "x.png"],
        r"tiny\.npz:0: .*9×9.*8×8.*--size 8x8",
    ),
    "an unreadable image": (["restyle", "run", "text.png", "--out", "x.png"], r"text\.png: .*PNG"),
    "a missing image": (["restyle", "run", "none.png", "--prepare", "--out", "x.png"], r"none\.png: .*No such file"),
    "a missing source": (["restyle", "run", "tniy", "--out", "x.png"], r"'tniy'.*built-in name"),
    "a place beyond the end": (
        ["restyle", "run", "tiny.npz:test:99", "--out", "x.png"],
        r"tiny\.npz:test:99: .*99.*30 test images",
    ),
    "nothing drawn": (["restyle", "run", "black.png", "--prepare", "--out", "x.png"], r"black\.png: .*drawing"),
    "a drawing for a model in colour": (
        ["restyle", "colour", "drawing.png", "--prepare", "--out", "x.png"],
        r"--prepare\b.*RGB.*grey",
    ),
    "too large a picture": (["manifold", "run", "--steps", "200", "--out", "x.png"], r"120,000 images.*20,000"),
    "a traversal of a table": (["traverse", "table", "--out", "x.png"], r"3 reals.*model of images"),
    "a restyled table": (["restyle", "table", "one.png", "--out", "x.png"], r"3 reals.*model of images"),
    "axes that were not measured": (["manifold", "unmeasured", "--out", "x.png"], r"axes were not measured.*SOURCE"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_mistake_is_one_line(
    what: str, here: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(np.zeros((20, 20), dtype=np.uint8)).save("black.png")
    np.savez("nines.npz", images=np.zeros((20, 9, 9), dtype=np.uint8), labels=["across"] * 20)
    before = sorted(path.name for path in here.iterdir())
    (command, name, *rest), message = BAD[what]
    folder = name if name == "none" else request.getfixturevalue(name)
    with pytest.raises(SystemExit) as end:
        main([command, str(folder), *rest])
    assert end.value.code == 2
    *_, line = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("vaelab: ")
    assert re.search(message, line), line
    assert sorted(path.name for path in here.iterdir()) == before
