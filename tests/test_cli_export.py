"""`vaelab export`, and `examples/onnx_only.py`, which uses what it writes without PyTorch and without this package."""

import re
import subprocess
import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

import vaelab
from vaelab.cli import main
from vaelab.config import Config
from vaelab.data import Dataset
from vaelab.training.fit import fit

EXAMPLE = Path(__file__).parents[1] / "examples" / "onnx_only.py"
ALONE = (
    "import runpy, sys; sys.modules['torch'] = sys.modules['vaelab'] = None; "
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


@pytest.fixture(scope="module")
def run(tiny: Dataset, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "run"
    for _ in fit(tiny_config, tiny, out=folder):
        pass
    return folder


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder with all that the command makes of the run, and what it says."""
    out = tmp_path_factory.mktemp("files") / "new" / "model.onnx"
    with redirect_stderr(StringIO()) as told:
        for options in (["--licence", "CC-BY-4.0"], ["--parts"]):
            with pytest.raises(SystemExit) as end:
                main(["export", str(run), "--out", str(out), *options])
            assert end.value.code == 0
    return out.parent, told.getvalue().splitlines()


@pytest.fixture(scope="module")
def files(exported: tuple[Path, list[str]]) -> Path:
    return exported[0]


def told(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> str:
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == status
    out, err = capsys.readouterr()
    assert out == ""
    return err


def example(*arguments: object, status: int = 0) -> str:
    command = [sys.executable, "-W", "error", "-c", ALONE, str(EXAMPLE), *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == status, result.stderr
    return result.stdout if status == 0 else result.stderr.splitlines()[-1]


def cells(path: Path) -> np.ndarray:
    """The images of a grid of three labels, at their own size: (label, column, H, W)."""
    with Image.open(path) as image:
        levels = np.asarray(image)[::2, ::2]
    return levels.reshape(3, 8, -1, 8).transpose(0, 2, 1, 3)


def test_one_file_and_two(exported: tuple[Path, list[str]]) -> None:
    folder, said = exported
    lines = [line for line in said if ": " in line]  # slow work is announced without
    whole, *parts = (folder / f"model{part}.onnx" for part in ("", "-encoder", "-decoder"))
    assert sorted(folder.iterdir()) == sorted([whole, *parts])
    assert [line.partition(": ")[0] for line in lines] == [str(path) for path in (whole, *parts)]
    size = f"{whole.stat().st_size / 1e6:.2f} MB"
    assert lines[0].startswith(f"{whole}: {size}, opset 18; largest difference from PyTorch: mean ")
    assert onnxruntime.InferenceSession(whole).get_modelmeta().custom_metadata_map["licence"] == "CC-BY-4.0"


def test_mistakes_are_one_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for arguments, message in {
        (run, "--out", "model.pb"): r"--out\b.*model\.pb.*\.onnx",
        ("nowhere", "--out", "m.onnx"): r"nowhere: .*run folder",
        (run, "--out", "file/m.onnx"): r"cannot write file/m\.onnx",
        (run,): r"--out\b.*vaelab export --help",
    }.items():
        line = told(capsys, "export", *arguments, status=2)
        assert re.match(f"vaelab: .*{message}", line), line
        assert line.count("\n") == 1
    monkeypatch.setitem(sys.modules, "onnx", None)
    line = told(capsys, "export", run, "--out", "m.onnx", status=2)
    assert line.endswith('pip install "vaelab[export]"\n')
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_example_draws_what_the_model_draws(run: Path, files: Path, tmp_path: Path) -> None:
    told = example(files / "model.onnx", "--columns", "5", "--seed", "3", "--out", tmp_path / "grid.png")
    assert told.splitlines()[0] == "cvae of 1×8×8, bernoulli: ['image_labels', 'images', 'labels', 'z']"
    assert told.splitlines()[1].endswith("grid.png: rows across, down, frame")
    drawn = cells(tmp_path / "grid.png")
    z = 0.8 * np.random.default_rng(3).standard_normal((5, 2))
    model = vaelab.load(run)
    for label in range(3):
        assert np.abs(drawn[label].astype(int) - model.decode(z, np.full(5, label))).max() <= 1
    assert np.abs(drawn[0].astype(int) - drawn[2]).max() > 2
    example(files / "model-decoder.onnx", "--columns", "5", "--seed", "3", "--out", tmp_path / "same.png")
    assert np.array_equal(cells(tmp_path / "same.png"), drawn)


def test_the_example_takes_the_handwriting_of_an_image(run: Path, files: Path, tiny: Dataset, tmp_path: Path) -> None:
    image = tiny.test.images[0]
    Image.fromarray(image[0]).save(tmp_path / "image.png")
    example(
        files / "model.onnx",
        "--image",
        tmp_path / "image.png",
        "--label",
        "down",
        "--columns",
        "2",
        "--out",
        tmp_path / "a.png",
    )
    model = vaelab.load(run)
    z = model.encode(image[None], ["down"], binarised=False).mean
    assert np.abs(cells(tmp_path / "a.png")[1, 0].astype(int) - model.decode(z, ["down"])[0]).max() <= 1


def test_the_example_says_what_a_file_cannot_do(files: Path, tmp_path: Path) -> None:
    whole, encoder, decoder = (files / f"model{part}.onnx" for part in ("", "-encoder", "-decoder"))
    for arguments, message in {
        (
            whole,
            "--image",
            "x.png",
            "--label",
            "7",
        ): "--label: got 7; expected what the image shows: across, down, frame",
        (decoder, "--image", "x.png"): "got a decoder alone; expected a file with an encoder in it, for --image",
        (encoder,): "got an encoder alone; expected a file with a decoder in it",
    }.items():
        assert example(*arguments, "--out", tmp_path / "a.png", status=2).endswith(message)
    assert not list(tmp_path.iterdir())


def test_the_code_of_the_page_runs(run: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "demo.onnx").symlink_to(files / "model.onnx")
    monkeypatch.chdir(tmp_path)
    page = (EXAMPLE.parents[1] / "docs" / "export.md").read_text(encoding="utf-8")
    made, used = re.findall(r"^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert 'vaelab.export_onnx("runs/demo", "demo.onnx")' in made
    names: dict[str, np.ndarray] = {}
    exec(compile(used, "docs/export.md", "exec"), names)
    model = vaelab.load(run)
    assert np.abs(255 * names["images"][:, 0] - model.decode(names["one"].repeat(3, 0), [0, 1, 2])).max() < 0.6
    levels = np.rint(255 * names["images"]).astype(np.uint8)
    assert np.allclose(names["mean"], model.encode(levels, [0, 1, 2], binarised=False).mean, atol=0.05)
