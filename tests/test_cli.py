"""The command line: results of the commands; a mistake is one line, with status 2, and leaves no files."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import read_npz
from PIL import Image

import vaelab
from vaelab import runs
from vaelab.acceleration import openmp
from vaelab.cli import ORDER, main
from vaelab.data import Dataset
from vaelab.training.fit import Config, fit

VAELAB = Path(sys.executable).parent / "vaelab"


@pytest.fixture(scope="module")
def run(tiny: Dataset, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "run"
    for _ in fit(tiny_config, tiny, out=folder):
        pass
    return folder


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of RGB images of mixed sizes in three classes: a disc, a square and a cross on coloured ground."""
    folder = tmp_path_factory.mktemp("data") / "shapes"
    rng = np.random.default_rng(0)
    for name in ("disc", "square", "red cross"):
        (folder / name).mkdir(parents=True)
        for index in range(30):
            height, width = rng.integers(14, 30, 2)
            y, x = np.mgrid[0:height, 0:width]
            dy, dx = abs(y - height / 2), abs(x - width / 2)
            side = min(height, width) * rng.uniform(0.25, 0.4)
            inside = {
                "disc": dy**2 + dx**2 < side**2,
                "square": np.maximum(dy, dx) < side,
                "red cross": (np.minimum(dy, dx) < side / 3) & (np.maximum(dy, dx) < side),
            }[name]
            ground, ink = (
                rng.integers(160, 256, 3),
                np.array([200, 20, 20]) if name == "red cross" else rng.integers(0, 90, 3),
            )
            image = np.where(inside[..., None], ink, ground).astype(np.uint8)
            Image.fromarray(image).save(folder / name / f"{index}.{'png' if index % 2 else 'jpg'}")
    return folder


def call(*arguments: object) -> None:
    """Run the command line in this process; a clean end only."""
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == 0


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of a refused command."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == 2
    *notes, line = capsys.readouterr().err.strip().splitlines()
    assert not any(note.startswith("vaelab: ") for note in notes), notes  # only notes of loading come before
    assert line.startswith("vaelab: ")
    return line.removeprefix("vaelab: ")


def size_of(path: str) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_colour_images_of_mixed_sizes_from_the_command_line(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Train, sample by class name, reconstruct and encode, all from a folder; then the same from Python."""
    monkeypatch.chdir(tmp_path)
    call("data", shapes, "--size", "16")
    described = capsys.readouterr().out
    assert "size: 16×16 pixels, RGB" in described
    assert "red cross: 30 (" in described
    assert "likelihood: two-colour (RGB, two colours explain" in described
    assert size_of("shapes-sheet.png")[0] > 500

    call("train", shapes, "--size", "16", "--epochs", "60", "--batch-size", "16", "--width", "8", "--latent-dim", "2")
    told = capsys.readouterr().err
    assert "caled " in told  # the note of loading
    assert "cvae (pca, 2 latent dimensions, colour-logistic) on shapes" in told
    run = Path("runs/shapes-cvae")
    assert {path.name for path in (run / "figures").iterdir()} == {
        "training.png",
        "reconstructions.png",
        "grid.png",
        "samples.png",
    }
    call("sample", run, "--label", "red cross", "--label", "0", "--count", "3", "--out", "some.npz")
    some = read_npz("some.npz")
    assert some["images"].shape == (6, 16, 16, 3)
    assert some["images"].dtype == np.uint8
    assert some["labels"].tolist() == [1, 1, 1, 0, 0, 0]  # classes are sorted: disc, red cross, square
    assert some["z"].shape == (6, 2)
    assert some["z"].dtype == np.float32
    assert np.array_equal(some["z"][:3], some["z"][3:])
    call("reconstruct", run, shapes, "--size", "16", "--count", "5", "--out", "pairs.png")
    assert size_of("pairs.png")[1] > 100
    call("encode", run, shapes, "--size", "16", "--out", "z.npz")
    encoded = read_npz("z.npz")
    assert encoded["mean"].shape == encoded["log_variance"].shape == (90, 2)
    assert sorted(np.unique(encoded["labels"])) == [0, 1, 2]
    assert np.unique(encoded["split"], return_counts=True)[1].tolist() == [9, 73, 8]

    model = vaelab.load(run)
    assert model.classes == ("disc", "red cross", "square")
    again = model.grid(["red cross", 0], count=3)
    assert np.array_equal(again.images, some["images"])
    assert model.sample(labels=["square"] * 4, seed=0).shape == (4, 16, 16, 3)
    dataset = vaelab.load_dataset(shapes, size=16)
    result = model.reconstruct(dataset.test.images, dataset.test.labels)
    assert result.images.shape == dataset.test.images.transpose(0, 2, 3, 1).shape


def test_digits_an_npz_and_an_idx_folder(tmp_path: Path, tiny: Dataset) -> None:
    npz = tmp_path / "tiny.npz"
    np.savez(npz, images=tiny.train.images[:, 0], labels=np.array(tiny.classes)[tiny.train.labels])
    idx = tmp_path / "idx"
    idx.mkdir()
    pixels = tiny.train.images[:, 0]
    header = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in pixels.shape)
    (idx / "train-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
    assert tiny.train.labels is not None
    labels = tiny.train.labels.astype(np.uint8)
    (idx / "train-labels-idx1-ubyte").write_bytes(
        bytes([0, 0, 8, 1]) + len(labels).to_bytes(4, "big") + labels.tobytes()
    )
    for source, classes in (
        ("digits", tuple("0123456789")),
        (npz, ("across", "down", "frame")),
        (idx, ("0", "1", "2")),
    ):
        out = tmp_path / "runs" / Path(source).name
        call("train", source, "--epochs", "2", "--width", "32", "--out", out)
        assert vaelab.load(out).classes == classes
        call("sample", out, "--count", "2", "--label", classes[-1], "--out", out / "last.png")
        call("reconstruct", out, source, "--count", "3", "--out", out / "pairs.npz")
        pairs = read_npz(out / "pairs.npz")
        assert pairs["originals"].shape == pairs["images"].shape == (3, 8, 8)
        assert (pairs["distortion"] > 0).all()
        call("encode", out, source, "--out", out / "z.npz", "--split", "test")
        assert len(read_npz(out / "z.npz")["mean"]) == len(vaelab.load_dataset(source).test)


def test_samples_as_a_folder_of_classes(run: Path, tmp_path: Path) -> None:
    call("sample", run, "--count", "2", "--out", tmp_path / "folder")
    files = sorted(str(path.relative_to(tmp_path / "folder")) for path in (tmp_path / "folder").rglob("*.png"))
    assert files == [f"{name}/{index:05d}.png" for name in ("across", "down", "frame") for index in range(2)]
    images = vaelab.load(run).grid(count=2).images
    with Image.open(tmp_path / "folder" / "down" / "00001.png") as image:
        assert np.array_equal(np.asarray(image), images[3])


def test_classes_whose_folders_would_be_one_get_folders_of_their_own(
    tiny: Dataset, tiny_config: Config, tmp_path: Path
) -> None:
    alike = Dataset("alike", tiny.train, tiny.validation, tiny.test, ("a/b", "A_b", "c"))
    for _ in fit(tiny_config, alike, out=tmp_path / "run"):
        pass
    call("sample", tmp_path / "run", "--count", "2", "--out", tmp_path / "all")
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["A_b_2", "a_b", "c"]
    call("sample", tmp_path / "run", "--count", "2", "--label", "c", "--label", "c", "--out", tmp_path / "twice")
    assert len(list((tmp_path / "twice" / "c").iterdir())) == 4


def test_resuming_refuses_another_model(tmp_path: Path, tiny: Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "tiny.npz", images=tiny.train.images)
    train = ("train", tmp_path / "tiny.npz", "--out", tmp_path / "run")
    call(*train, "--width", "16", "--epochs", "1")
    line = refused(capsys, *train, "--resume", "--latent-dim", "99", "--epochs", "2")
    assert re.match(r"--latent-dim: got 99\b.*trained with 32\b.*--resume", line), line
    call(*train, "--resume", "--epochs", "2")


def test_a_model_of_a_table_writes_arrays_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = vaelab.Split(np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32))
    config = Config(vaelab.ModelConfig(width=8), vaelab.TrainConfig(epochs=1))
    for _ in fit(config, Dataset("table", rows, rows, rows), out=tmp_path / "run"):
        pass
    for out in ("x.png", "folder"):
        line = refused(capsys, "sample", tmp_path / "run", "--out", tmp_path / out)
        assert re.match(r"--out: .*table.*FILE\.npz", line), line
    call("sample", tmp_path / "run", "--out", tmp_path / "x.npz")
    assert read_npz(tmp_path / "x.npz")["images"].shape == (10, 3)


def test_a_suffix_in_capitals_is_one(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = np.zeros((20, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "some.npz", images=images, labels=["across"] * 20)
    call("reconstruct", run, tmp_path / "some.npz", "--out", tmp_path / "X.NPZ")
    assert "nats" not in read_npz(tmp_path / "X.NPZ")
    assert "distortion" in read_npz(tmp_path / "X.NPZ")
    assert re.match(r"--out: .*x\.jpg.*\.png$", refused(capsys, "data", "digits", "--out", tmp_path / "x.jpg"))


def test_class_names_cannot_leave_the_folder(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    names = ("../up", "..", "a/b")
    hostile = Dataset("hostile", tiny.train, tiny.validation, tiny.test, names)
    for _ in fit(tiny_config, hostile, out=tmp_path / "run"):
        pass
    call("sample", tmp_path / "run", "--count", "1", "--out", tmp_path / "in" / "folder")
    assert {path.name for path in (tmp_path / "in" / "folder").iterdir()} == {"_._up", "_", "a_b"}
    assert {path.name for path in (tmp_path / "in").iterdir()} == {"folder"}


def test_ctrl_c_saves_and_resume_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [str(VAELAB), "train", "digits", "--seconds", "60", "--width", "32", "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (out / runs.RESUME).is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "and saved; to continue: vaelab train digits --out" in told
    assert "Traceback" not in told
    facts = runs.load_resume(runs.open_run(out))[1]
    step = facts["step"]
    assert step > 0
    assert f"--out {out} --resume" in told
    seconds = str(facts["seconds"] + 8)  # of which loading may take some
    resumed = subprocess.run(
        [*command[:3], "--out", str(out), "--resume", "--seconds", seconds],
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert resumed.returncode == 0, resumed.stderr
    assert "weights saved after" in resumed.stderr
    assert runs.load_resume(runs.open_run(out))[1]["step"] > step


@pytest.mark.parametrize("own", [{}, {"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}])
def test_waiting_threads_give_way_unless_the_user_has_it_otherwise(
    own: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    for name in names:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out
    expected = own or {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "100"}
    assert {name: os.environ[name] for name in names if name in os.environ} == expected


@pytest.mark.parametrize(
    ("trains", "platform", "running", "microseconds", "turns"),
    [
        (True, "linux", 1, 40, openmp.LONG_SPIN),
        (True, "linux", 1, 10, openmp.SHORT_SPIN),  # waking is quick
        (True, "linux", 2, 40, openmp.SHORT_SPIN),  # another program runs
        (False, "linux", 1, 40, openmp.SHORT_SPIN),
        (True, "darwin", 1, 40, openmp.SHORT_SPIN),
    ],
)
def test_threads_spin_for_long_where_waking_is_slow_and_the_cores_are_free(
    trains: bool, platform: str, running: int, microseconds: float, turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cores = os.cpu_count() or 1
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"0.10 0.20 0.30 {running}/93 8645\n")
    monkeypatch.setattr(openmp, "waking_time", lambda: microseconds * 1e-6)
    assert openmp.wait_policy(trains=trains)["GOMP_SPINCOUNT"] == str(turns)


@pytest.mark.parametrize(("command", "trains"), [(["train", "--help"], True), (["sample", "--help"], False)])
def test_only_a_training_looks_how_its_threads_had_best_wait(
    command: list[str], trains: bool, monkeypatch: pytest.MonkeyPatch
) -> None:

    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    asked: list[bool] = []
    monkeypatch.setattr(openmp, "wait_policy", lambda *, trains: asked.append(trains) or {})
    with pytest.raises(SystemExit):
        main(command)
    assert asked == [trains]


def test_what_runs_for_a_moment_only_keeps_no_core(monkeypatch: pytest.MonkeyPatch) -> None:
    cores = os.cpu_count() or 1
    running = iter([cores + 1, cores, 1])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"0.10 0.20 0.30 {next(running)}/93 8645\n")
    assert openmp.cores_are_free()


def test_waking_is_measured_in_a_moment() -> None:
    open_before = len(list(Path("/dev/fd").iterdir()))
    assert 0 < openmp.waking_time() < 0.1
    assert len(list(Path("/dev/fd").iterdir())) == open_before


def test_help_and_imports_are_quick() -> None:
    """Under 0.4 s of processor time, the best of three: nothing in them waits, and a busy machine only ever adds."""
    for command in ([str(VAELAB), "--help"], [sys.executable, "-c", "import vaelab"]):
        times, errors = [], b""
        for _ in range(3):
            before = os.times()
            result = subprocess.run(command, capture_output=True, check=True)
            after = os.times()
            times.append(sum(after[2:4]) - sum(before[2:4]))
            errors += result.stderr
        assert not errors
        assert min(times) < 0.4, (command, times)
    for command in ([str(VAELAB)], [sys.executable, "-m", "vaelab"]):
        assert b"generate images" in subprocess.run([*command, "--help"], capture_output=True, check=True).stdout


def test_the_reference_is_the_code() -> None:
    docs = Path(__file__).parent.parent / "docs"
    command = [sys.executable, str(docs / "generate.py"), "--print"]
    reference = subprocess.run(command, capture_output=True, check=True).stdout.decode()
    assert (docs / "cli.md").read_text(encoding="utf-8") == reference, "docs/cli.md is out of date: make docs"
    for name in ("data", "train", "sample", "reconstruct", "encode"):
        assert f"## vaelab {name}" in reference


def test_data_lists_the_names(capsys: pytest.CaptureFixture[str]) -> None:
    call("data")
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()[:3]] == ["mnist", "digits", "strokes"]


BAD = {
    "an unknown command": (["trian", "digits"], "trian.*Did you mean .train"),
    "an unknown model": (["train", "digits", "--model", "veа"], '"veа" for --model.*"ae", "vae"'),
    "a misspelt model": (["train", "digits", "--model", "cave"], 'Did you mean "cvae"'),
    "a misspelt option": (["train", "digits", "--epoch", "3"], r"--epoch\b.*Did you mean --epochs"),
    "an unknown source": (["train", "digts"], "'digts'.*mnist, digits, strokes, fashion-mnist"),
    "a negative size": (["train", "digits", "--size", "-3"], r"size\b.*-3\b"),
    "a negative latent": (["train", "digits", "--latent-dim", "-2"], "^--latent-dim: got -2; .*at least 1"),
    "zero epochs": (["train", "digits", "--epochs", "0"], "^--epochs: got 0; .*at least 1"),
    "a NaN learning rate": (["train", "digits", "--learning-rate", "nan"], "^--learning-rate: got nan; .*finite"),
    "a word for a number": (["train", "digits", "--epochs", "many"], '--epochs.*"many"'),
    "two budgets": (["train", "digits", "--epochs", "1", "--seconds", "1"], "both --epochs and --seconds"),
    "conv on tiny images": (
        ["train", "digits", "--size", "7", "--network", "conv"],
        "--network conv.*7×7.*(--network mlp|--size 64)",
    ),
    "a likelihood for tables": (["train", "digits", "--likelihood", "gaussian"], "--likelihood.*images.*bernoulli"),
    "resume without a run": (["train", "digits", "--resume"], "^--resume: got no run; .*--out"),
    "resume of no run": (["train", "digits", "--resume", "--out", "none"], "^none: .*run folder"),
    "resume with a preset": (["train", "digits", "--resume", "--preset", "best"], "^--preset: got best .*--resume"),
    "a missing run": (["sample", "none", "--out", "x.png"], "^none: .*run folder, as vaelab train"),
    "an output of no kind": (["sample", "none", "--out", "x.gif"], r"^--out: got x\.gif; .*\.npz, .*\.tar"),
    "no output": (["sample", "none"], "^--out: .*vaelab sample --help"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line(
    what: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments, message = BAD[what]
    line = refused(capsys, *arguments)
    assert re.search(message, line), line
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - nothing half-written


BAD_FOR_A_RUN = {
    "an unknown label": (["sample", "--label", "acros", "--out", "x.png"], "'acros'.*across,.*Did you mean 'across'"),
    "no images": (["sample", "--count", "0", "--out", "x.png"], "^--count: got 0; .*at least 1"),
    "a negative temperature": (
        ["sample", "--temperature", "-1", "--out", "x.png"],
        "^--temperature: got -1.0; .*at least 0",
    ),
    "a file in the way": (["sample", "--out", "file/x.png"], r"^cannot write file/x\.png: "),
    "a run in a file": (["train", "--epochs", "1", "--out", "file/run"], r"^cannot write file/run: "),
    "a run that is a file": (["train", "--out", "file"], "^file exists.*new"),
    "a run among other things": (["train", "--out", "used"], "^used exists.*new"),
    "too large a picture": (
        ["sample", "--count", "10000", "--out", "x.png"],
        r"^--count: .*30,000 images.*20,000.*\.npz",
    ),
    "a folder in use": (["sample", "--out", "used"], "^--out: used exists.*new"),
    "nothing to encode": (["encode", "--out", "x.npz"], "no images.*source.*files"),
    "a run that exists": (["train"], "already holds a run; .*--out.*--resume"),
}


@pytest.mark.parametrize("what", BAD_FOR_A_RUN)
def test_bad_input_for_a_run_is_one_line(
    what: str, run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    Path("used").mkdir()
    Path("used/old").write_text("old")
    np.savez("images.npz", images=np.zeros((20, 9, 9), dtype=np.uint8), labels=["across"] * 20)
    np.savez("bare.npz", images=np.zeros((20, 8, 8), dtype=np.uint8))
    before = sorted(path.name for path in tmp_path.rglob("*"))
    (command, *rest), message = BAD_FOR_A_RUN[what]
    arguments = [command, "digits", *(rest or ["--out", run])] if command == "train" else [command, run, *rest]
    line = refused(capsys, *arguments)
    assert re.search(message, line), line
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
    assert Path("used/old").read_text() == "old"


def test_a_label_of_an_unconditional_model_is_refused(
    tiny: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = Config(vaelab.ModelConfig(model="vae", width=16), vaelab.TrainConfig(epochs=1))
    for _ in fit(config, tiny, out=tmp_path / "run"):
        pass
    line = refused(capsys, "sample", tmp_path / "run", "--label", "7", "--out", tmp_path / "x.png")
    assert re.search(r"label '7'.*\(vae\)", line), line
    call("sample", tmp_path / "run", "--count", "5", "--out", tmp_path / "x.png")
    call("sample", tmp_path / "run", "--count", "2", "--out", tmp_path / "folder")
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["00000.png", "00001.png"]


def test_unlabelled_data_under_cvae_are_refused(
    tiny: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "bare.npz", images=tiny.train.images)
    line = refused(capsys, "train", tmp_path / "bare.npz", "--model", "cvae", "--out", tmp_path / "run")
    assert re.match("--model.*cvae.*bare.*labels", line), line
    assert not (tmp_path / "run").exists()
    call("train", tmp_path / "bare.npz", "--epochs", "1", "--width", "16", "--out", tmp_path / "run")
    assert vaelab.load(tmp_path / "run").kind == "vae"


def test_an_old_output_survives_a_failed_write(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.png").write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(SystemExit) as end:
        main(["sample", str(run), "--out", str(tmp_path / "x.png")])
    assert end.value.code == 2
    assert (tmp_path / "x.png").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x.png"]  # noqa: PTH208


def test_commands_are_listed_in_the_order_of_use(capsys: pytest.CaptureFixture[str]) -> None:
    call("--help")
    listed = re.findall(r"^│ ([a-z]+) ", capsys.readouterr().out, re.MULTILINE)
    assert listed == list(ORDER)


def test_what_needs_no_data_is_checked_before_they_are_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("train", "digits", "--out", tmp_path / "run")
    call(*words, "--epochs", "3", "--width", "8", "--compile", "no")

    def load_source(*_: object) -> Dataset:
        raise AssertionError("loaded")

    monkeypatch.setattr("vaelab.cli.train.load_source", load_source)
    line = refused(capsys, *words, "--resume", "--epochs", "1")
    assert re.match(r"--epochs: got 1, but .*run has trained for 3(\.\d+)? epochs already; expected more", line), line
    line = refused(capsys, "train", "digits", "--device", "cuda:77")
    assert re.match(r"--device: 'cuda:77' is not available", line), line


def test_a_finished_run_that_is_resumed_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("train", "digits", "--out", tmp_path / "run")
    call(*words, "--epochs", "1", "--width", "8", "--compile", "no")
    assert re.search(r"^weights saved after \d+\.\d s of training: ", capsys.readouterr().err, re.MULTILINE)
    call(*words, "--resume")
    told = capsys.readouterr().err
    assert "whole budget already; to go on, give more --epochs or --seconds" in told
    assert "weights saved" not in told
