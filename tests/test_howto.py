"""Run the code of the how-to pages as printed, page by page, with shorter budgets and smaller data.

The commands and the Python code of a page share a folder, and the Python code one namespace, as they do for a reader. The
reader's own files (photographs, a table, a photographed digit) are drawn here.
"""

import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hub_stub import Hub
from PIL import Image, ImageDraw

from vaelab.data.strokes import draw_strokes

ROOT = Path(__file__).parent.parent
PAGES = ("learn", "use", "faq", "outliers", "augmentation", "research", "scaling")
CUTS = (
    (r"\bseconds([= ])60\b", r"epochs\g<1>1"),
    (r"--epochs 40\b", "--epochs 1"),
    (r"\bepochs=(20|40)\b", "epochs=1"),
    (r"\bsteps=600\b", "steps=2"),
    (r" --judge\b", ""),
    (r"--preset quick\b", "--preset quick --epochs 1"),
    (r"--preset gpu\b", "--preset gpu --epochs 1 --width 16"),
    (r"\bsamples=(500|5000)\b", "samples=4"),
    (r"--count 1000000\b", "--count 3"),
    (r"--processes 8\b", "--processes 2"),
    (r"--nproc-per-node 8\b", "--nproc-per-node 2"),
    (r'load_dataset\("(?:strokes|mnist)"\)', 'load_dataset("few.npz")'),
    (r"(?m)^(vaelab .*?) (?:strokes|mnist)(?= )", r"\g<1> few.npz"),
)
"""Replacements: one epoch on few images, and no MNIST, which is not available everywhere."""


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Yield language and text of each code block that is meant to be run."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    for language, code in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        assert language in ("python", "sh", "text"), (page, language)
        if language != "text":
            yield language, code


def shortened(text: str) -> str:
    for pattern, replacement in CUTS:
        text = re.sub(pattern, replacement, text)
    return text


def draw_reader_files(folder: Path) -> None:
    """Write `photos/` (colour images of three classes), `labels.csv`, `my-seven.jpg` (dark on light) and `few.npz` (strokes)."""
    rng = np.random.default_rng(0)
    lines = ["path,label"]
    for kind in ("bird", "cat", "dog"):
        (folder / "photos" / kind).mkdir(parents=True)
        for number in range(40):
            image = Image.new("RGB", (48, 40), tuple(rng.integers(0, 90, 3).tolist()))
            x, y = rng.integers(8, 20, 2).tolist()
            draw = ImageDraw.Draw(image)
            {"bird": draw.ellipse, "cat": draw.rectangle, "dog": draw.line}[kind]((x, y, x + 20, y + 14), fill="white")
            path = f"photos/{kind}/{number:04d}.png"
            image.save(folder / path)
            lines.append(f"{path},{kind}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    paper = Image.new("L", (300, 400), 225)
    ImageDraw.Draw(paper).line([(70, 80), (230, 80), (120, 330)], fill=30, width=26, joint="curve")
    paper.save(folder / "my-seven.jpg")
    few = draw_strokes(2500, seed=0)
    train, test = few[:2000], few[2000:]
    arrays = {"images": train.images, "labels": train.labels, "test_images": test.images, "test_labels": test.labels}
    np.savez(folder / "few.npz", **arrays)  # pyright: ignore[reportArgumentType]


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs_as_printed(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VAELAB_CACHE_DIR", str(tmp_path / "cache"))
    hub = Hub()
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    for name, value in {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_good", "HF_HOME": str(tmp_path / "hub")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(tmp_path)
    draw_reader_files(tmp_path)
    namespace: dict[str, object] = {}
    for language, code in blocks(page):
        if file := re.match(r"# (\w+\.py)\n", code):
            (tmp_path / file[1]).write_text(code, encoding="utf-8")
        elif language == "python":
            exec(compile(shortened(code), f"docs/{page}.md", "exec"), namespace)
        for line in shortened(code).splitlines() if language == "sh" else ():
            command, *arguments = shlex.split(line, comments=True)
            assert command in ("vaelab", "torchrun"), line
            executable = str(Path(sys.executable).parent / command)
            result = subprocess.run([executable, *arguments], cwd=tmp_path, capture_output=True, text=True)
            assert result.returncode == 0, (line, result.stderr)
            if "--out" in arguments:
                assert (tmp_path / arguments[arguments.index("--out") + 1]).exists(), line


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_code_and_every_budget_is_cut(page: str) -> None:
    code = [text for _, text in blocks(page)]
    assert len(code) >= 4
    for text in code:
        cut = shortened(text)
        assert not re.search(r"\bseconds[= ]\d|\bepochs[= ]([2-9]|\d\d)|\bsamples=\d\d", cut), cut
        assert not re.search(r"(train|load_dataset\(.)\W?(mnist|strokes)", cut), cut
