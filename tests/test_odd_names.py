"""Names that cannot be printed or drawn: line breaks, `$`, control characters, bytes that are no text."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vaelab.cli import main
from vaelab.errors import printable
from vaelab.figures import fonts
from vaelab.figures.plots import label_rows, posterior_map, training_curve

NAMES = ["two\nlines", r"$\frac", "\x07bell", os.fsdecode(b"caf\xe9")]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("two\nlines\t", r"two\nlines\t"),
        ("a\u2028b\u2029\x85", r"a\u2028b\u2029\x85"),
        (os.fsdecode(b"caf\xe9"), r"caf\udce9"),
        (r"日本 $x$ Größe \d 🙂 e\u0301", r"日本 $x$ Größe \d 🙂 e\u0301"),
        ("", ""),
    ],
)
def test_what_cannot_be_printed_is_escaped(name: str, shown: str) -> None:
    assert printable(name) == shown
    printable(name).encode()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names: run it on Linux")
def test_commands_take_classes_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for name in NAMES:
        (Path("odd") / name).mkdir(parents=True)
        for index in range(12):
            Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(Path("odd") / name / f"{index}.png")

    def call(*words: str) -> str:
        with pytest.raises(SystemExit) as end:
            main(words)
        found = capsys.readouterr()
        assert end.value.code == 0, found.err
        found.out.encode()
        return found.out + found.err

    described = call("data", "odd")
    for name in NAMES:
        assert any(line.startswith(f"  {printable(name)}: ") for line in described.splitlines())
    call("train", "odd", "--epochs", "1", "--width", "8", "--latent-dim", "2", "--compile", "no", "--out", "run")
    call("sample", "run", "--count", "2", "--out", "x.png")
    call("sample", "run", "--count", "2", "--out", "folder")
    call("posterior", "run", "odd", "--out", "p.png")
    call("restyle", "run", "odd", "--out", "r.png")
    call("manifold", "run", "--out", "m.png")
    with pytest.raises(SystemExit):
        main(["sample", "run", "--label", "three\nlines", "--out", "x.png"])
    (line,) = capsys.readouterr().err.splitlines()
    assert r"caf\udce9" in line


def test_pictures_take_any_text() -> None:
    images = np.zeros((len(NAMES), 8, 8), dtype=np.uint8)
    label_rows(images, NAMES, title=NAMES[0])
    line = {"epoch": 1.0, "train": {"nats": 1.0}, "validation": {"nats": 1.0, "distortion": 0.5, "rate": 0.5}}
    training_curve([line], " ".join(NAMES))
    mean, labels = np.zeros((4, 2)), np.arange(4)
    axes = (r"$\frac", "b\nb")
    posterior_map(mean, mean + 1, labels=labels, classes=NAMES, axes=axes, title=NAMES[1])


def test_what_no_font_has_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fonts.undrawable(["plain", "Größe", "Ωμέγα", *NAMES]) == ""
    monkeypatch.setattr(fonts, "_other", lambda lacking: None)
    assert fonts.undrawable(["cat", "日本"]) == "日本"


def test_a_font_that_has_the_characters_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    other = str(Path(fonts._dejavu()).with_name("DejaVuSansMono.ttf"))
    monkeypatch.setattr(fonts, "_characters", lambda path: frozenset("日本" if path == other else "abc"))
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: [fonts._dejavu(), other])
    fonts._other.cache_clear()
    try:
        assert fonts.font_for(["日本"], 12).getname()[0] == "DejaVu Sans Mono"
        assert fonts.families_for(["日本"]) == ["DejaVu Sans", "DejaVu Sans Mono"]
        assert fonts.font_for(["abc"], 12).getname()[0] == "DejaVu Sans"
        assert fonts.undrawable(["日本語"]) == "語"
    finally:
        fonts._other.cache_clear()
