"""Names of classes, files, folders and columns that a terminal would obey or hide: every command shows them escaped."""

import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import vaelab.progress
from vaelab.cli import main
from vaelab.errors import printable
from vaelab.evaluation import report as reports
from vaelab.evaluation.agreement import agreement_section
from vaelab.evaluation.likelihood import likelihood_section

RED = "\x1b[31mred\x07"
NAMES = (
    RED,
    "two\nlines\r",
    "bidi\u202etxt\u2066",
    "zero\u200bwidth\ufeff",
    "[bold]x[",
    ":cat: `count`",
    r"$\frac",
    os.fsdecode(b"caf\xe9"),
)
SOURCE, RUN = f"source{RED}\n[b]", f"run\u202e\n{RED}[b]"

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names: run it on Linux"),
    pytest.mark.usefixtures("stand_in"),
]

Call = Callable[..., str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source of 12 images of each class, a run trained on it, and a table of one image."""
    folder = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)
    for name in NAMES:
        (folder / SOURCE / name).mkdir(parents=True)
        for index in range(12):
            image = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            Image.fromarray(image).save(folder / SOURCE / name / f"{RED}{index}.png")
    options = ("--epochs", "1", "--width", "8", "--latent-dim", "2", "--compile", "no")
    with pytest.raises(SystemExit) as end:
        main(["train", str(folder / SOURCE), *options, "--out", str(folder / RUN)])
    assert end.value.code == 0
    return folder


@pytest.fixture
def call(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Run a command in a folder with the source and the run; returns what it printed, in which every character is harmless."""
    (tmp_path / SOURCE).symlink_to(made / SOURCE)
    shutil.copytree(made / RUN, tmp_path / RUN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reports, "SECTIONS", {"likelihood": likelihood_section, "agreement": agreement_section})

    def called(*words: str, status: int = 0) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main(words)
        found = capsys.readouterr()
        assert end.value.code == status, found.err
        text = found.out + found.err
        for line in text.splitlines():
            assert printable(line) == line
        assert text.count("\n") == len(text.splitlines())
        text.encode()
        return text

    return called


def test_data_and_train_show_every_class(call: Call) -> None:
    described = call("data", SOURCE).splitlines()
    assert any(line.startswith(f"{printable(SOURCE)}: ") for line in described)
    for name in NAMES:
        assert any(line.startswith(f"  {printable(name)}: ") for line in described)
    call("data", SOURCE, "--size", "12", "--out", "sheet.png")
    said = call("train", SOURCE, "--epochs", "1", "--width", "8", "--compile", "no", "--out", f"{RED}[b]")
    assert "weights saved after" in said
    assert printable(f"{RED}[b]") in said


@pytest.mark.parametrize(
    "words",
    [
        ("sample", RUN, "--count", "2", "--label", NAMES[1], "--out", f"{RED}.png"),
        ("sample", RUN, "--count", "2", "--out", f"folder{RED}"),
        ("reconstruct", RUN, SOURCE, "--out", f"{RED}.png"),
        ("encode", RUN, SOURCE, "--out", f"{RED}.npz"),
        ("traverse", RUN, "--label", NAMES[6], "--image", f"{SOURCE}:train:0", "--out", f"{RED}.png"),
        ("traverse", RUN, SOURCE, "--out", f"{RED}.gif", "--count", "1", "--steps", "3"),
        ("interpolate", RUN, "--label", NAMES[0], "--label", NAMES[1], "--out", f"{RED}.png"),
        ("interpolate", RUN, f"{SOURCE}:train:0", f"{SOURCE}:train:1", "--out", f"{RED}.png"),
        ("manifold", RUN, "--steps", "2", "--out", f"{RED}.png"),
        ("restyle", RUN, SOURCE, "--split", "train", "--count", "2", "--out", f"{RED}.png"),
        ("restyle", RUN, f"{SOURCE}/{RED}/{RED}0.png", "--out", f"{RED}.png"),
        ("posterior", RUN, SOURCE, "--split", "train", "--out", f"{RED}.png"),
        ("export", RUN, "--out", f"{RED}.onnx"),
        ("export", RUN, "--out", f"{RED}.html"),
    ],
    ids=lambda words: words[0],
)
def test_commands_show_where_they_wrote(words: tuple[str, ...], call: Call) -> None:
    out = words[words.index("--out") + 1]
    assert printable(out) in call(*words)
    assert Path(out).exists()


def test_reports_and_their_comparison_show_the_names(call: Call) -> None:
    said = call("evaluate", RUN, SOURCE, "--quick")
    assert printable(f"report: {RUN}/report.html") in said
    page = unescape(re.sub("<style>.*?</style>", "", Path(RUN, "report.html").read_text(), flags=re.DOTALL))
    assert all(printable(line) == line for line in page.splitlines())
    assert f"cvae on {printable(SOURCE)}" in page
    other = Path(f"other{RUN}")
    other.mkdir()
    forged = json.loads(Path(RUN, "report.json").read_text())
    likelihood = forged["sections"]["likelihood"]
    likelihood["title"] = f"Likelihood{RED}"
    for one in likelihood["quantities"].values():
        one["name"], one["unit"] = f"[b]name{RED}", f"nats{RED}"
    (other / "report.json").write_text(json.dumps(forged))
    compared = call("compare", RUN, str(other))
    assert printable(f"[b]name{RED}").replace("\n", "") in compared.replace("\n", "")


def test_the_studio_is_started_without_obeying_a_name(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaelab.studio.server.serve", lambda *_, **__: None)
    shutil.rmtree(Path(RUN, "studio"), ignore_errors=True)
    Path(SOURCE).unlink()  # so that there is a note about it
    assert printable(SOURCE) in call("studio", RUN)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("sample", RUN, "--label", f"no{RED}", "--out", "x.png"), NAMES[1]),
        (("sample", RUN, "--out", f"x.{RED}"), RED),
        (("sample", f"gone{RED}\n", "--out", "x.png"), f"gone{RED}\n"),
        (("data", f"gone{RED}\n"), f"gone{RED}\n"),
        (("data", f"broken{RED}\n.csv"), f"broken{RED}\n.csv"),
        (("data", f"columns{RED}.csv"), f"columns{RED}.csv"),
        (("data", f"broken{RED}\n.npz"), f"broken{RED}\n.npz"),
        (("data", f"folder{RED}\n"), f"{RED}.png"),
        (("restyle", RUN, f"gone{RED}.png", "--out", "x.png"), f"gone{RED}.png"),
        (("train", SOURCE, "--classes", f"no{RED}", "--out", "y"), f"no{RED}"),
        (("train", SOURCE, "--out", NAMES[-1]), NAMES[-1]),
        (("evaluate", RUN, f"gone{RED}\n"), f"gone{RED}\n"),
        (("compare", f"gone{RED}\n", RUN), f"gone{RED}\n"),
        (("trainn", f"gone{RED}\n"), ""),
        (("data", "x.npz", f"--{RED}\n"), ""),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_messages_are_one_line_with_the_name(words: tuple[str, ...], name: str, call: Call) -> None:
    Path(f"broken{RED}\n.csv").write_text(f"path,label\n{RED},a,{RED}\n")
    Path(f"columns{RED}.csv").write_text(f"{RED},[b]\na,b\n")
    Path(f"broken{RED}\n.npz").write_bytes(b"no archive")
    Path(f"folder{RED}\n").mkdir()
    Path(f"folder{RED}\n", f"{RED}.png").write_bytes(b"no image")
    (line,) = call(*words, status=2).splitlines()
    assert line.startswith("vaelab: ")
    assert printable(name) in line


def test_progress_shows_names_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal in (True, False):
        shown = io.StringIO()
        monkeypatch.setattr(
            vaelab.progress, "console", Console(file=shown, force_terminal=terminal, width=200, color_system=None)
        )
        for name in NAMES:
            with vaelab.progress.work_bar(waiting=f"loading {name}") as report:
                report(f"reading {name}", 1, 2)
            vaelab.progress.say(name)
            assert printable(name) in shown.getvalue()
        if terminal:
            assert all(printable(f"loading {name}") in shown.getvalue() for name in NAMES)
            assert "\x07" not in shown.getvalue()
            assert "🐱" not in shown.getvalue()
        else:
            assert shown.getvalue().splitlines() == [printable(name) for name in NAMES]
