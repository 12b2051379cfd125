"""What a newcomer is told: each line says what was got, what was expected, and what to type."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vaelab
from vaelab.cli import app, main
from vaelab.config import Config, import_path
from vaelab.data import Dataset, Split, load_dataset
from vaelab.data.describe import doubts
from vaelab.errors import ConfigError, DataError, LabelError, RunError, counted
from vaelab.inference.trained import TrainedModel
from vaelab.models.custom import import_network
from vaelab.training import runs
from vaelab.training.fit import fit
from vaelab.training.runs import Run

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def run(tiny: Dataset, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("messages") / "run"
    for _ in fit(tiny_config, tiny, out=folder):
        pass
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Dataset) -> Path:
    """A folder with an image, a text file, and a source of images."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(tiny.test.images[0, 0]).save("image.png")
    Path("notes.txt").write_text("no image")
    np.savez("tiny.npz", images=tiny.train.images, labels=np.array(tiny.classes)[tiny.train.labels])
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> list[str]:
    """The lines of standard error."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == status
    return capsys.readouterr().err.strip().splitlines()


IMAGE_KINDS = (
    "expected an image file (.bmp, .gif, .jpeg, .jpg, .png, .tif, .tiff, .webp), a place such as mnist:test:12, or a"
)

REFUSED = {
    "a fraction of an option": (
        ["train", "tiny.npz", "--epochs", "1.2"],
        "--epochs: got 1.2; expected a whole number",
    ),
    "a fraction that is whole": (
        ["train", "tiny.npz", "--latent-dim", "2.0"],
        "--latent-dim: got 2.0; expected a whole number",
    ),
    "a fraction of a count": (
        ["sample", "RUN", "--count", "2.9", "--out", "x.png"],
        "--count: got 2.9; expected a whole number",
    ),
    "one word too many": (
        ["train", "tiny.npz", "extra"],
        "got 'extra' beyond what vaelab train takes; expected it left out: see vaelab train --help",
    ),
    "a needed option misspelt": (
        ["sample", "RUN", "--outt", "x.png"],
        "got '--outt', which vaelab sample does not take; expected an option of its own. Did you mean '--out'?",
    ),
    "an option with nothing behind it": (
        ["sample", "RUN", "--out"],
        "--out: got nothing; expected a value: see vaelab sample --help",
    ),
    "no run": (["sample", "--out", "x.png"], "RUN: got nothing; expected a value: see vaelab sample --help"),
    "two labels in one": (
        ["sample", "RUN", "--label", "across,frame", "--out", "x.png"],
        "unknown label 'across,frame'; expected one of across, down, frame, or an index 0 to 2. For several, repeat it: "
        "--label across --label frame",
    ),
    "a text file for an image": (
        ["restyle", "RUN", "notes.txt", "--out", "x.png"],
        f"notes.txt: got a file of kind .txt; {IMAGE_KINDS} source: a built-in name, a folder, an .npz file or a table of paths",
    ),
    "nothing for an image": (
        ["restyle", "RUN", "gone.txt", "--out", "x.png"],
        f"gone.txt: got no such file or source; {IMAGE_KINDS} source: a built-in name, a folder, an .npz file or a table of "
        "paths",
    ),
    "a misspelt split": (
        ["restyle", "RUN", "tiny.npz:tset:1", "--out", "x.png"],
        "tiny.npz:tset:1: got the split 'tset'; expected train, validation or test. Did you mean 'test'?",
    ),
    "a misspelt split of a built-in source": (
        ["traverse", "RUN", "--image", "strokes:tset:1", "--out", "x.png"],
        "strokes:tset:1: got the split 'tset'; expected train, validation or test. Did you mean 'test'?",
    ),
    "one image to go between": (
        ["interpolate", "RUN", "image.png", "--out", "x.png"],
        "got 1 image to interpolate between; expected two, or none to take two of --seed",
    ),
    "two labels for an image": (
        ["restyle", "RUN", "image.png", "--label", "down", "--label", "frame", "--out", "x.png"],
        "--label: got 2 labels for 1 image; expected one for all, or one for each",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.usefixtures("here")
def test_what_is_refused(what: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = REFUSED[what]
    lines = told(capsys, *(run if word == "RUN" else word for word in arguments), status=2)
    assert lines == [f"vaelab: {message}"]


def test_no_option_of_any_command_takes_a_fraction_for_a_whole_number() -> None:
    """Whatever command and options are added, since the reader of the command line rounds."""
    checked = 0
    for name in ("train", "sample", "reconstruct", "traverse", "interpolate", "manifold", "restyle", "posterior"):
        for argument in app[name].assemble_argument_collection():
            if argument.hint not in (int, int | None):
                continue
            required = {"train": ["x"], "sample": ["x"]}.get(name, ["x", "y"])
            with pytest.raises(ConfigError, match=f"^{argument.name}: got 1.5; expected a whole number$"):
                app([name, *required, "--out", "z", argument.name, "1.5"], exit_on_error=False, print_error=False)
            checked += 1
    assert checked > 15


def test_an_image_that_the_model_read_is_no_contradiction(
    here: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = told(capsys, "restyle", run, here / "image.png", "--out", "x.png")
    assert re.search(r"image\.png: read as (across|down|frame) \(.*%\); type --label to say otherwise$", first)
    assert second == "1 × 3 images: x.png"


def test_one_of_a_thing_is_singular(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [counted(n, "image") for n in (0, 1, 2, 3000)] == ["0 images", "1 image", "2 images", "3,000 images"]
    assert told(capsys, "sample", run, "--label", "down", "--count", "1", "--out", "x.png") == ["1 image: x.png"]
    line = told(capsys, "reconstruct", run, "tiny.npz", "--count", "1", "--out", "x.png")[-1]
    assert line.startswith("1 image, −ELBO ")
    (here / "alone").mkdir()
    (here / "image.png").rename(here / "alone" / "image.png")
    assert load_dataset(here / "alone").notes[0] == "Held out no test set: 1 image is too few to part."
    (here / "alone" / "image.png").write_text("")
    with pytest.raises(DataError, match="got 1 file, which cannot be read; expected images: look at"):
        load_dataset(here / "alone", size=8, skip_broken=True)


@pytest.mark.parametrize(("model", "labels"), [("trained", "across"), ("estimator", "down")])
def test_a_number_of_images_goes_by_another_name(tiny: Dataset, run: Path, model: str, labels: str) -> None:
    conditional = vaelab.load(run) if model == "trained" else vaelab.ConditionalVAE.load(run)
    grid = "grid" if model == "trained" else "trained_.grid"
    expected = "expected a list, a label for each image: sample(labels=[{}])"
    message = f"got 5 for labels; {expected.format(5)}, or for 5 images of every label {grid}(count=5)"
    for number in (5, np.int64(5)):
        with pytest.raises(LabelError, match="^" + re.escape(message) + "$"):
            conditional.sample(number)  # type: ignore[arg-type]
    with pytest.raises(
        LabelError, match="^" + re.escape(f"got '{labels}' for labels; {expected.format(repr(labels))}")
    ):
        conditional.sample(labels)
    plain = vaelab.VAE(epochs=1, width=8, latent_dim=2).fit(tiny.train.images)
    sample = plain.sample if model == "estimator" else plain.trained_.sample
    with pytest.raises(
        LabelError, match=re.escape("got 4 for labels, but this model takes none; expected a number of")
    ):
        sample(4)  # type: ignore[arg-type]


def test_a_misspelt_parameter_names_the_class_and_the_right_one() -> None:
    with pytest.raises(
        TypeError, match=r"^VAE takes no 'epoch'; expected one of its parameters. Did you mean 'epochs'\?$"
    ):
        vaelab.VAE(epoch=1)  # type: ignore[call-arg]
    with pytest.raises(
        TypeError, match=r"^ConditionalVAE takes no 'zzz'; .* It takes network, latent_dim, .*verbose\.$"
    ):
        vaelab.ConditionalVAE(zzz=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="positional argument"):
        vaelab.VAE(3)  # type: ignore[misc]


def test_floats_from_0_to_1_are_told_how_to_become_levels(run: Path, tiny: Dataset) -> None:
    levels = tiny.test.images
    way = '; expected uint8 levels 0…255: type (255 * X).round().astype("uint8")'
    with pytest.raises(DataError, match="^" + re.escape(f"X: got images of type float64{way}") + "$"):
        vaelab.VAE().fit(levels / 255)
    with pytest.raises(DataError, match="^" + re.escape(f"got images of type float64{way}") + "$"):
        vaelab.load(run).encode(levels / 255, [0] * len(levels))
    for other in (levels.astype(np.float32), levels.astype(np.int64)):
        with pytest.raises(DataError, match=r"expected uint8 levels 0…255$"):
            vaelab.VAE().fit(other)
    assert np.array_equal((255 * (levels / 255)).round().astype("uint8"), levels)


@pytest.mark.parametrize(
    ("module", "text", "what"),
    [
        ("lacking_torchvision", "import torchvision_x", "ModuleNotFoundError: No module named 'torchvision_x'"),
        ("failing", "1 / 0", "ZeroDivisionError: division by zero"),
        ("misspelt", "class Encoder(", "SyntaxError: '(' was never closed (misspelt.py, line 1)"),
    ],
)
def test_a_module_that_fails_is_told_from_one_that_is_not_there(
    module: str, text: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{module}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    message = f"`encoder='{module}:Encoder'`: .*import fails.*{re.escape(what)}.*python -c 'import {module}'"
    with pytest.raises(ConfigError, match=message):
        import_network("encoder", f"{module}:Encoder")
    for missing in ("nowhere", "nowhere.inside", f"{module}_2.inside"):
        with pytest.raises(ConfigError, match=r"cannot import .*add its folder to the path"):
            import_network("encoder", f"{missing}:Encoder")


def test_a_file_is_no_module() -> None:
    message = "--encoder: got 'my_networks.py:Encoder'; expected an import path, without .py: my_networks:Encoder"
    with pytest.raises(ConfigError, match="^" + re.escape(message) + "$"):
        import_path("encoder", "my_networks.py:Encoder")


def test_a_class_in_a_function_of_a_script_is_one_in_a_function() -> None:
    inner = type("Inner", (), {"__module__": "__main__", "__qualname__": "main.<locals>.Inner"})
    with pytest.raises(
        ConfigError, match=r"got main\.<locals>\.Inner, which is defined in a function, where no one can"
    ):
        import_path("encoder", inner)


NETWORK = """
import torch
from torch import nn

class Encoder(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.layer = nn.Linear(64, {units})

    def forward(self, images, labels):
        return self.layer(images.flatten(1))
"""


def test_a_network_that_was_changed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny: Dataset) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "changing.py").write_text(NETWORK.format(units=5))
    vaelab.VAE(encoder="changing:Encoder", epochs=1, latent_dim=2).fit(tiny.train.images).save(tmp_path / "run")
    monkeypatch.delitem(sys.modules, "changing")
    (tmp_path / "changing.py").write_text(NETWORK.format(units=16))
    message = (
        "its weights do not fit the networks of changing:Encoder, which may have changed; expected them as they were when "
        "the run was trained: bring them back, or train anew"
    )
    with pytest.raises(RunError, match=re.escape(message) + "$"):
        vaelab.load(tmp_path / "run")
    monkeypatch.delitem(sys.modules, "changing")


def test_an_empty_config_says_what_is_not_there(run: Path, tmp_path: Path) -> None:
    (tmp_path / runs.CONFIG).write_text("{}")
    with pytest.raises(RunError, match=r"it was altered or is damaged \(there is no 'format' in it\); expected it as"):
        vaelab.load(tmp_path)


def test_data_that_teach_nothing_are_trained_on_with_a_note(
    here: Path, capsys: pytest.CaptureFixture[str], tiny: Dataset
) -> None:
    images = np.repeat(tiny.train.images[:1], 60, axis=0)
    np.savez("alike.npz", images=images, labels=["a"] * 60)
    lines = told(capsys, "train", "alike.npz", "--epochs", "1", "--width", "8", "--out", here / "alike")
    assert "note: All 49 images to learn from are alike: the model can only learn that one." in lines
    label = (
        "note: All images to learn from have the label 'a': there is no other to tell it from; --model vae would learn as "
        "much."
    )
    assert label in lines
    one = Split(images[:1], np.zeros(1, dtype=np.int64))
    alone = Dataset("alone", one, one, one, ("a",))
    assert list(doubts(alone, conditional=False)) == [
        "There is 1 image to learn from: the model can only learn that one."
    ]
    assert not list(doubts(tiny, conditional=True))


def test_a_training_that_only_made_it_worse_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = (
        "--learning-rate",
        "0.3",
        "--warmup",
        "0",
        "--ema",
        "0",
        "--epochs",
        "2",
        "--width",
        "32",
        "--depth",
        "1",
    )
    lines = told(capsys, "train", "tiny.npz", *options, "--out", here / "worse")
    note = "note: no later weights were better than those before the first step: try a smaller --learning-rate than 0.3"
    assert note in lines


@pytest.mark.parametrize(("loading", "said"), [(2.0, True), (0.1, False)])
@pytest.mark.usefixtures("here")
def test_loading_that_takes_much_of_the_budget_is_said(
    loading: float, said: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    from vaelab.cli import train

    introduction, measured = train._introduction, []

    def introduced(run: Run, dataset: Dataset, seconds: float | None) -> Iterator[str]:
        measured.append(seconds)
        return introduction(run, dataset, loading)  # what it takes here is this machine's business

    monkeypatch.setattr(train, "_introduction", introduced)
    monkeypatch.setattr(train, "STARTED", time.perf_counter() - 0.5)
    lines = told(capsys, "train", "tiny.npz", "--seconds", "3", "--width", "8", "--out", "run")
    assert len(measured) == 1
    assert measured[0] >= 0.5
    found = [line for line in lines if line.startswith("loading took")]
    assert found == (["loading took 2 s of --seconds 3: 1 s are left to train in"] if said else [])


def test_the_counts_of_a_folder_with_a_broken_file_add_up(tmp_path: Path, tiny: Dataset) -> None:
    for index, (image, label) in enumerate(zip(tiny.train.images, tiny.train.labels, strict=True)):  # type: ignore[arg-type]
        (tmp_path / str(label)).mkdir(exist_ok=True)
        Image.fromarray(image[0]).save(tmp_path / str(label) / f"{index}.png")
    whole = load_dataset(tmp_path)
    (tmp_path / "1" / "broken.png").write_text("no image")
    dataset = load_dataset(tmp_path, skip_broken=True)
    counts = [int(count) for note in dataset.notes[:2] for count in re.findall(r"\d+", note)[:2]]
    test, files, _, rest = counts
    assert files == len(tiny.train) + 1  # of which one is broken
    assert rest == files - test
    left = re.fullmatch(
        r"Left out 1 broken file of these: 1.broken\.png; (\d+) training, (\d+) validation and (\d+) test images are left\.",
        dataset.notes[2],
    )
    assert left is not None
    kept = [len(dataset.train), len(dataset.validation), len(dataset.test)]
    assert [int(count) for count in left.groups()] == kept
    assert sum(kept) == files - 1
    assert not any("Left out" in note for note in whole.notes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table.py", "--epochs", "0", "--repeats", "1"], "--epochs: got 0; expected a whole number of at least 1"),
        (["faces.py", "--source", "/nope"], "no data source '/nope': expected a built-in name"),
        (["sequence.py", "--epochs", "0", "--count", "50"], "--epochs: got 0; expected a whole number of at least 1"),
    ],
)
def test_a_mistake_in_an_example_is_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    name, *rest = arguments
    result = subprocess.run([sys.executable, str(EXAMPLES / name), *rest], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{name}: {message}")


def test_a_saved_estimator_and_the_model_in_it_reconstruct_alike(run: Path, tiny: Dataset) -> None:
    """As `docs/use.md` has it: labels by name do for both."""
    assert tiny.test.labels is not None
    names = [tiny.classes[label] for label in tiny.test.labels]
    estimator, model = vaelab.ConditionalVAE.load(run), vaelab.load(run)
    assert isinstance(model, TrainedModel)
    ours, theirs = estimator.reconstruct(tiny.test.images, names), model.reconstruct(tiny.test.images, names)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)
    assert estimator.score(tiny.test.images, names) == pytest.approx(-ours.nats.mean())
    plain = vaelab.VAE(epochs=1, width=8, latent_dim=2).fit(tiny.train.images)
    assert plain.reconstruct(tiny.test.images, names).images.shape == (30, 8, 8)
