"""What is wrong with names of files is said before PyTorch, which takes seconds, is imported."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from vaelab.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    print(end.code, "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    "words",
    [
        ["compare", "none", "nor-this"],
        ["data", "none"],
        ["sample", "none", "--out", "x.png"],
        ["reconstruct", "none", "digits", "--out", "x.png"],
        ["encode", "none", "digits", "--out", "x.npz"],
        ["evaluate", "none"],
        ["augment", "none", "digits", "--out", "x"],
        ["traverse", "none", "--out", "x.png"],
        ["interpolate", "none", "--out", "x.png"],
        ["manifold", "none", "--out", "x.png"],
        ["restyle", "none", "x.png", "--out", "x.png"],
        ["posterior", "none", "digits", "--out", "x.png"],
        ["studio", "none"],
        ["serve", "none"],
        ["serve", "none.onnx"],
        ["export", "none", "--out", "x.onnx"],
        ["train", "none", "--device", "cpu"],
        ["train", "digits", "--resume", "--out", "none"],
        ["encode", "run", "none", "--out", "x.npz"],
        ["restyle", "run", "none.png", "--out", "x.png"],
        ["restyle", "run", "none:test:3", "--out", "x.png"],
    ],
)
def test_a_missing_file_is_said_without_torch(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    ended = subprocess.run([sys.executable, "-c", PROGRAM, *words], cwd=tmp_path, capture_output=True, text=True)
    assert ended.stdout == "2 False\n", ended.stderr
    (line,) = ended.stderr.splitlines()
    assert "none" in line


def test_describing_data_needs_no_torch(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, "data", "digits"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.stdout.endswith("contact sheet: digits-sheet.png\n0 False\n"), ended.stderr


def test_comparing_needs_no_torch() -> None:
    program = "import sys, vaelab.evaluation.comparison, vaelab.evaluation.formatting; print('torch' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "False\n"
