"""Progress of a training on standard error."""

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.console import Console

import vaelab.progress as module
from vaelab.config import Config
from vaelab.data import Dataset
from vaelab.errors import counted
from vaelab.progress import TrainingDisplay, describe, work_bar
from vaelab.runs import Averages
from vaelab.training.fit import Progress, fit


@pytest.fixture
def progress(tiny: Dataset, tiny_config: Config) -> Progress:
    *_, last = fit(tiny_config, tiny)
    return replace(
        last,
        epoch=12.34,
        train=Averages(75.06, 14.93),
        validation=Averages(77.8, 14.7),
        images_per_second=23047.3,
        seconds_left=61.2,
        finished=False,
        fraction=0.31,
    )


def test_a_line_tells_epoch_nats_speed_and_fits_a_terminal(progress: Progress) -> None:
    assert describe(progress, progress.validation) == "epoch 12.3  90.0 nats (75.1 + 14.9)  val. 92.5  23,047/s"
    assert (
        len(describe(progress, progress.validation)) + len("  61 s left") + 13 <= 80
    )  # beside a bar of 6 and the percentage


def test_what_is_not_known_is_not_shown(progress: Progress) -> None:
    bare = replace(progress, train=Averages(math.nan, math.nan), validation=None, skipped=3)
    assert describe(bare, None) == "epoch 12.3  23,047/s  3 steps skipped (NaN)"
    bare.model.stochastic = False
    code = replace(progress, train=Averages(43.2, 0.0))
    assert describe(code, code.validation) == "epoch 12.3  43.2 nats  val. 92.5  23,047/s"


def test_without_a_terminal_a_line_now_and_then(
    progress: Progress, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with TrainingDisplay() as display:
        display.show(progress)
        assert capsys.readouterr().err == ""  # too soon
        monkeypatch.setattr(module, "PLAIN_EVERY", 0.0)
        display.show(progress)
        assert capsys.readouterr().err == f" 31%  {describe(progress, progress.validation)}  61 s left\n"
        monkeypatch.setattr(module, "PLAIN_EVERY", 1e9)
        display.show(replace(progress, finished=True, fraction=1.0, seconds_left=0))
        assert capsys.readouterr().err.startswith("100%  epoch")


def test_the_work_at_hand_has_a_bar_and_the_whole_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(module, "console", Console(file=shown, force_terminal=True, width=80))
    with work_bar(over="sections") as report:
        report("sections", 1, 3)
        report("encoding", 1, 1)
        report("decoding", 0, 4)
    *_, last = shown.getvalue().split("sections")
    assert "decoding" in last
    assert "encoding" not in last


class Timer:
    """A timer that is over at once if its work is slow, and never otherwise."""

    slow: set[str] = {"loading x", "resizing"}  # noqa: RUF012 - read only

    def __init__(self, _: float, say: Callable[[str], None], words: Sequence[str] = ()) -> None:
        self.say, self.words = say, words

    def start(self) -> None:
        if self.words[0] in self.slow:
            self.say(*self.words)

    def cancel(self) -> None:
        pass


def test_without_a_terminal_work_that_takes_long_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(module, "console", Console(file=shown, width=100))
    monkeypatch.setattr(module.threading, "Timer", Timer)
    with work_bar(over="sections", waiting="loading x") as report:
        report("sections", 0, 3)
        for done in range(4):
            report("resizing", done, 4)
        report("quick", 1, 1)
    with work_bar(waiting="quick"):
        pass
    assert shown.getvalue().splitlines() == ["loading x", "resizing"]


def test_short_parts_after_each_other_are_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is the time since the last line, whatever was done in it."""
    delays, now = [], [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(module.threading, "Timer", lambda delay, *words: delays.append(delay) or Timer(delay, *words))
    monkeypatch.setattr(module, "console", Console(file=io.StringIO(), width=100))
    module.say("a line")
    for now[0] in (0.0, 0.4, 0.9):
        with work_bar(waiting="quick"):
            pass
    assert [delay for delay in delays if delay] == pytest.approx([1.0, 0.6, 0.3])


def test_without_a_terminal_long_work_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: now))
    for every, lines in ((1e9, []), (0.0, ["resizing: 0 of 4,000", "resizing: 1,000 of 4,000, about 9 s left"])):
        monkeypatch.setattr(module, "PLAIN_EVERY", every)
        with work_bar(over="sections") as report:
            report("sections", 1, 3)
            report("resizing", 0, 4000)
            now += 3
            report("resizing", 1000, 4000)
        assert capsys.readouterr().err.splitlines() == lines


def test_on_a_terminal_work_is_shown_before_its_first_report(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(module, "console", Console(file=shown, force_terminal=True, width=80))
    with work_bar(waiting="loading [x]"):
        pass
    assert "loading [x]" in shown.getvalue()


def test_a_remark_is_a_line_and_what_is_waited_for_is_told(progress: Progress, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(module, "console", Console(file=shown, width=100))
    monkeypatch.setattr(module, "PLAIN_EVERY", 0.0)
    with TrainingDisplay() as display:
        display.show(replace(progress, remark="memory is short", seconds_left=math.inf))
        display.show(progress)
    lines = shown.getvalue().splitlines()
    assert lines[0] == "note: memory is short"
    assert lines[1].endswith("23,047/s  compiling the step")
    assert lines[2].endswith("61 s left")
    assert len(lines) == 3


def test_a_validation_is_in_one_plain_line_and_the_best_in_the_last(
    progress: Progress, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PLAIN_EVERY", 0.0)
    with TrainingDisplay() as display:
        for state in (progress, progress, replace(progress, validation=Averages(70.0, 14.0)), progress):
            display.show(replace(state, validation=state.validation and replace(state.validation)))
        display.show(replace(progress, finished=True))
    lines = capsys.readouterr().err.splitlines()
    assert ["val." in line for line in lines] == [True, False, True, True, True]
    assert ["best val." in line for line in lines] == [False, False, False, False, True]


@pytest.mark.parametrize("terminal", [True, False])
def test_a_name_between_colons_is_no_emoji(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    shown = io.StringIO()
    monkeypatch.setattr(module, "console", Console(file=shown, force_terminal=terminal, width=80))
    module.say("new/horse:train:0")
    with work_bar(waiting="reading new/horse:train:0") as report:
        report("encoding new/cat:dog:1", 1, 3)
        report("encoding new/cat:dog:1", 3, 3)
    assert "new/horse:train:0" in shown.getvalue()
    if terminal:
        assert "reading new/horse:train:0" in shown.getvalue()
        assert "encoding new/cat:dog:1" in shown.getvalue()


@pytest.mark.parametrize(
    ("count", "noun", "text"),
    [(1, "class", "1 class"), (2, "class", "2 classes"), (1, "image", "1 image"), (1000, "image", "1,000 images")],
)
def test_a_count_agrees_with_its_noun(count: int, noun: str, text: str) -> None:
    assert counted(count, noun) == text
