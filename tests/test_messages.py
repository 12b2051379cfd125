"""Messages for users: one line that says what was given, what is wrong, and what to do."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vaelab
from vaelab import runs
from vaelab.cli import app, main
from vaelab.config import Config
from vaelab.data import Dataset, Split, load_dataset
from vaelab.data.describe import doubts
from vaelab.errors import ConfigError, DataError, LabelError, RunError, counted
from vaelab.import_paths import import_path
from vaelab.inference.trained import TrainedModel
from vaelab.models.custom import CustomNetwork
from vaelab.training.fit import fit

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


REFUSED = {
    "a fraction of an option": (["train", "tiny.npz", "--epochs", "1.2"], "--epochs: got 1.2; .*whole number"),
    "a fraction that is whole": (["train", "tiny.npz", "--latent-dim", "2.0"], "--latent-dim: got 2.0; .*whole number"),
    "a fraction of a count": (
        ["sample", "RUN", "--count", "2.9", "--out", "x.png"],
        "--count: got 2.9; .*whole number",
    ),
    "one word too many": (["train", "tiny.npz", "extra"], "got 'extra', .*vaelab train --help"),
    "a needed option misspelt": (
        ["sample", "RUN", "--outt", "x.png"],
        "got '--outt', .*vaelab sample.* Did you mean '--out'",
    ),
    "an option with nothing behind it": (["sample", "RUN", "--out"], "--out: got nothing; .*vaelab sample --help"),
    "no run": (["sample", "--out", "x.png"], "RUN: got nothing; .*vaelab sample --help"),
    "two labels in one": (
        ["sample", "RUN", "--label", "across,frame", "--out", "x.png"],
        "unknown label 'across,frame'; .*across, down, frame, or an index 0 to 2.*--label across --label frame",
    ),
    "a text file for an image": (
        ["restyle", "RUN", "notes.txt", "--out", "x.png"],
        r"notes\.txt: got a file of kind \.txt; .*\.png.*mnist:test:12",
    ),
    "nothing for an image": (
        ["restyle", "RUN", "gone.txt", "--out", "x.png"],
        r"gone\.txt: got no such file or source; .*\.png.*mnist:test:12",
    ),
    "a misspelt split": (
        ["restyle", "RUN", "tiny.npz:tset:1", "--out", "x.png"],
        r"tiny\.npz:tset:1: got the split 'tset'; expected train, validation, test or all\. Did you mean 'test'",
    ),
    "a misspelt split of a built-in source": (
        ["traverse", "RUN", "--image", "strokes:tset:1", "--out", "x.png"],
        r"strokes:tset:1: got the split 'tset'; expected train, validation, test or all\. Did you mean 'test'",
    ),
    "one image to go between": (["interpolate", "RUN", "image.png", "--out", "x.png"], "got 1 image .*two.*--seed"),
    "two labels for an image": (
        ["restyle", "RUN", "image.png", "--label", "down", "--label", "frame", "--out", "x.png"],
        "--label: got 2 labels for 1 image; ",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.usefixtures("here")
def test_what_is_refused(what: str, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, message = REFUSED[what]
    lines = told(capsys, *(run if word == "RUN" else word for word in arguments), status=2)
    assert len(lines) == 1
    assert re.match(f"vaelab: {message}", lines[0]), lines[0]


def test_no_option_of_any_command_takes_a_fraction_for_a_whole_number() -> None:
    """Of all commands, because cyclopts rounds fractions."""
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
    assert re.search(r"image\.png: read as (across|down|frame); .*--label", first)
    assert second == "1 × 3 images: x.png"


def test_one_of_a_thing_is_singular(here: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [counted(n, "image") for n in (0, 1, 2, 3000)] == ["0 images", "1 image", "2 images", "3,000 images"]
    assert told(capsys, "sample", run, "--label", "down", "--count", "1", "--out", "x.png") == ["1 image: x.png"]
    line = told(capsys, "reconstruct", run, "tiny.npz", "--count", "1", "--out", "x.png")[-1]
    assert line.startswith("1 image, −ELBO ")
    (here / "alone").mkdir()
    (here / "image.png").rename(here / "alone" / "image.png")
    assert re.search("no test.*1 image is too few", load_dataset(here / "alone").notes[0])
    (here / "alone" / "image.png").write_text("")
    with pytest.raises(DataError, match="1 file, which cannot be read"):
        load_dataset(here / "alone", size=8, skip_broken=True)


@pytest.mark.parametrize(("model", "labels"), [("trained", "across"), ("estimator", "down")])
def test_a_number_of_images_goes_by_another_name(tiny: Dataset, run: Path, model: str, labels: str) -> None:
    conditional = vaelab.load(run) if model == "trained" else vaelab.ConditionalVAE.load(run)
    grid = "grid" if model == "trained" else "trained_.grid"
    example = re.escape("sample(labels=[5])")
    for number in (5, np.int64(5)):
        with pytest.raises(LabelError, match=rf"^`labels`: got 5; .*list.*{example}.* {grid}\(count=5\)$"):
            conditional.sample(number)  # type: ignore[arg-type]
    example = re.escape(f"sample(labels=['{labels}'])")
    with pytest.raises(LabelError, match=f"^`labels`: got '{labels}'; .*list.*{example}"):
        conditional.sample(labels)
    plain = vaelab.VAE(epochs=1, width=8, latent_dim=2).fit(tiny.train.images)
    sample = plain.sample if model == "estimator" else plain.trained_.sample
    with pytest.raises(LabelError, match=r"^`labels`: got 4 .*sample\(count=4\)"):
        sample(4)  # type: ignore[arg-type]


def test_a_misspelt_parameter_names_the_class_and_the_right_one() -> None:
    with pytest.raises(TypeError, match=r"^VAE\b.*'epoch'.*Did you mean 'epochs'\?$"):
        vaelab.VAE(epoch=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"^ConditionalVAE\b.*'zzz'.*\bnetwork, latent_dim, .*verbose\.$"):
        vaelab.ConditionalVAE(zzz=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="positional argument"):
        vaelab.VAE(3)  # type: ignore[misc]


def test_floats_from_0_to_1_are_taken_and_others_refused(run: Path, tiny: Dataset) -> None:
    levels = tiny.test.images
    model, labels = vaelab.load(run), [0] * len(levels)
    assert np.array_equal(model.encode(levels / 255, labels).mean, model.encode(levels, labels).mean)
    with pytest.raises(DataError, match=r"got floats from 0 to 255; expected uint8 .*\[0, 1\]"):
        model.encode(levels.astype(np.float32), labels)
    for other, hint in ((levels.astype(np.float32), r"\[0, 1\]"), (levels.astype(np.int64), r"astype\(np\.uint8\)")):
        with pytest.raises(DataError, match=f"^X: .*uint8 in 0…255.*{hint}"):
            vaelab.VAE().fit(other)


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
        CustomNetwork("encoder", f"{module}:Encoder").imported()
    for missing in ("nowhere", "nowhere.inside", f"{module}_2.inside"):
        with pytest.raises(ConfigError, match=r"cannot import .*add its folder to the path"):
            CustomNetwork("encoder", f"{missing}:Encoder").imported()


def test_a_file_is_no_module() -> None:
    with pytest.raises(ConfigError, match=r"encoder`?: got 'my_networks\.py:Encoder'; .*: my_networks:Encoder$"):
        import_path("encoder", "my_networks.py:Encoder")


def test_a_class_in_a_function_of_a_script_is_one_in_a_function() -> None:
    inner = type("Inner", (), {"__module__": "__main__", "__qualname__": "main.<locals>.Inner"})
    with pytest.raises(ConfigError, match=r"encoder`?: got main\.<locals>\.Inner, .*defined in a function"):
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
    with pytest.raises(RunError, match=r"weights do not fit.*changing:Encoder.*changed"):
        vaelab.load(tmp_path / "run", trust_code=True)
    monkeypatch.delitem(sys.modules, "changing")


def test_an_empty_config_says_what_is_not_there(run: Path, tmp_path: Path) -> None:
    (tmp_path / runs.CONFIG).write_text("{}")
    with pytest.raises(RunError, match=r"damaged \(.*'format'.*\)"):
        vaelab.load(tmp_path)


def test_data_that_teach_nothing_are_trained_on_with_a_note(
    here: Path, capsys: pytest.CaptureFixture[str], tiny: Dataset
) -> None:
    images = np.repeat(tiny.train.images[:1], 60, axis=0)
    np.savez("alike.npz", images=images, labels=["a"] * 60)
    lines = told(
        capsys, "train", "alike.npz", "--model", "cvae", "--epochs", "1", "--width", "8", "--out", here / "alike"
    )
    assert any(re.match("note: All 49 .*images", line) for line in lines), lines
    assert any(re.match("note: All .*images.* label 'a'.*--model vae", line) for line in lines), lines
    one = Split(images[:1], np.zeros(1, dtype=np.int64))
    alone = Dataset("alone", one, one, one, ("a",))
    (doubt,) = doubts(alone, conditional=False)
    assert re.search(r"\b1 .*image\b", doubt)
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
    assert any(re.match("note: .*--learning-rate than 0.3", line) for line in lines), lines


def test_the_counts_of_a_folder_with_a_broken_file_add_up(tmp_path: Path, tiny: Dataset) -> None:
    for index, (image, label) in enumerate(zip(tiny.train.images, tiny.train.labels, strict=True)):  # type: ignore[arg-type]
        (tmp_path / str(label)).mkdir(exist_ok=True)
        Image.fromarray(image[0]).save(tmp_path / str(label) / f"{index}.png")
    whole = load_dataset(tmp_path)
    (tmp_path / "1" / "broken.png").write_text("no image")
    dataset = load_dataset(tmp_path, skip_broken=True)
    assert re.fullmatch(r"Skipped 1 broken file: .*broken\.png\.", dataset.notes[0])
    counts = [int(count) for note in dataset.notes[1:3] for count in re.findall(r"\d+", note)[:2]]
    test, files, _, rest = counts
    assert files == len(tiny.train)
    assert rest == files - test
    assert (len(dataset.test), sum(map(len, (dataset.train, dataset.validation)))) == (test, rest)
    assert dataset.fingerprint == whole.fingerprint
    assert not any("broken" in note for note in whole.notes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["table.py", "--epochs", "0", "--repeats", "1"], "epochs`?: got 0; .*at least 1"),
        (["faces.py", "--source", "/nope"], "'/nope'.*built-in name"),
        (["sequence.py", "--epochs", "0", "--count", "50"], "epochs`?: got 0; .*at least 1"),
    ],
)
def test_a_mistake_in_an_example_is_one_line(arguments: list[str], message: str, tmp_path: Path) -> None:
    name, *rest = arguments
    result = subprocess.run([sys.executable, str(EXAMPLES / name), *rest], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 1
    (line,) = result.stderr.splitlines()
    assert re.match(f"{re.escape(name)}: .*{message}", line), line


def test_a_saved_estimator_and_the_model_in_it_reconstruct_alike(run: Path, tiny: Dataset) -> None:
    """Both take labels by name, as in `docs/use.md`."""
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
