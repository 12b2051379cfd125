"""Run the code of the README as printed, with shorter training budgets so that it takes a minute or two."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str, heading: str) -> str:
    section = README.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.search(rf"```{language}\n(.*?)```", section, re.DOTALL).group(1)  # type: ignore[union-attr]


def shortened(text: str) -> str:
    """Return the same commands with a budget of one epoch, to be independent of the speed of the machine."""
    text, count = re.subn(r"seconds([= ])60\b", r"epochs\g<1>1", text)
    assert count == 1, "the budget in the README has changed; adapt the pattern in this test"
    return text.replace("--epochs 3", "--epochs 1")


@pytest.mark.slow
def test_the_python_runs_as_printed(tmp_path: Path) -> None:
    code = shortened(blocks("python", "Ten lines of Python"))
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout.splitlines()[-1]) < 0
    assert (tmp_path / "runs" / "python" / "model.safetensors").is_file()


@pytest.mark.slow
def test_the_command_lines_run_as_printed(tmp_path: Path) -> None:
    lines = shortened(blocks("sh", "Ten lines of command line")).splitlines()
    assert len(lines) == 10
    for line in lines:
        command, *arguments = shlex.split(line, comments=True)
        assert command == "vaelab"
        executable = str(Path(sys.executable).parent / "vaelab")
        result = subprocess.run([executable, *arguments], cwd=tmp_path, capture_output=True, text=True)
        assert result.returncode == 0, (line, result.stderr)
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*")}
    pictures = {f"{name}.png" for name in ("digits-sheet", "sevens", "pairs", "axes", "sheet", "hands")}
    assert pictures | {"samples.npz", "z.npz"} <= made
    assert {f"runs/{name}/figures/samples.png" for name in ("strokes", "vae")} <= made


def test_every_link_and_picture_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for line in blocks("sh", "Two commands").splitlines():
        assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE), line
