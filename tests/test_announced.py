"""Every command that imports PyTorch says so before it does, and what it does after that."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from rich.console import Console

import vaelab.progress as module
from vaelab.cli import main
from vaelab.studio.bundle import FOLDER, KEY

SLOW = [
    (["sample", "RUN", "--count", "1", "--out", "x.png"], "generating images"),
    (["reconstruct", "RUN", "SOURCE", "--out", "x.png"], "reconstructing"),
    (["encode", "RUN", "SOURCE", "--out", "x.npz"], "encoding"),
    (["augment", "RUN", "SOURCE", "--to", "99", "--out", "x"], "writing images"),
    (["traverse", "RUN", "--out", "x.png"], "drawing"),
    (["traverse", "RUN", "SOURCE", "--out", "x.png"], "measuring the axes"),
    (["interpolate", "RUN", "--out", "x.png"], "drawing"),
    (["interpolate", "RUN", "SOURCE:0", "SOURCE:1", "--out", "x.png"], "drawing"),
    (["manifold", "RUN", "--steps", "2", "--out", "x.png"], "drawing"),
    (["restyle", "RUN", "SOURCE:0", "--out", "x.png"], "drawing"),
    (["posterior", "RUN", "SOURCE", "--out", "x.png"], "drawing"),
    (["export", "RUN", "--out", "x.onnx"], "exporting and checking the model"),
    (["export", "RUN", "SOURCE", "--out", "x.html"], "packing the page"),
    (["train", "SOURCE", "--epochs", "1", "--width", "8", "--compile", "no", "--out", "run"], "drawing pictures"),
]


class AtOnce:
    """A timer that is over as soon as it is started."""

    daemon = False

    def __init__(self, _: float, call: Callable[..., None], words: Sequence[str] = ()) -> None:
        self.call, self.words = call, words

    def start(self) -> None:
        self.call(*self.words)

    def cancel(self) -> None:
        pass


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> io.StringIO:
    """What is said without a terminal if all work is slow; the current folder is an empty one."""
    shown = io.StringIO()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "console", Console(file=shown, width=200))
    monkeypatch.setattr(module.threading, "Timer", AtOnce)
    return shown


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(("words", "stage"), SLOW, ids=[f"{words[0]} {stage}" for words, stage in SLOW])
def test_commands_say_what_they_wait_for(words: list[str], stage: str, studio_run: Path, said: io.StringIO) -> None:
    source = str(studio_run.parent / "tiny.npz")
    with pytest.raises(SystemExit) as end:
        main([word.replace("RUN", str(studio_run)).replace("SOURCE", source) for word in words])
    assert end.value.code == 0
    lines = said.getvalue().splitlines()
    first = lines.index("importing PyTorch")
    assert first == 0 or words[0] == "train"  # which loads the data before
    assert stage in lines[first:]


@pytest.mark.usefixtures("stand_in")
def test_the_studio_says_what_its_first_start_does(
    studio_run: Path, said: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vaelab.studio.server.serve", lambda *_, **__: None)
    (studio_run / FOLDER / KEY).unlink(missing_ok=True)
    with pytest.raises(SystemExit):
        main(["studio", str(studio_run), str(studio_run.parent / "tiny.npz")])
    lines = said.getvalue().splitlines()
    assert lines[:2] == ["importing PyTorch", "preparing the page"]
    stages = [f"{what} ({kind})" for kind in ("cvae", "ae", "vae") for what in ("exporting the model", "encoding")]
    assert [line for line in lines if line in stages] == stages


def test_a_data_source_is_drawn_with_a_line(studio_run: Path, said: io.StringIO) -> None:
    with pytest.raises(SystemExit):
        main(["data", str(studio_run.parent / "tiny.npz")])
    assert "drawing the contact sheet" in said.getvalue().splitlines()
