"""Names that cannot be printed or drawn, in texts and pictures; tests/test_hostile_names.py has them in commands."""

import os
from pathlib import Path

import numpy as np
import pytest

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
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("bidi\u202etxt\u2066", r"bidi\u202etxt\u2066"),
        ("zero\u200bwidth\ufeff\u3164\u034f", r"zero\u200bwidth\ufeff\u3164\u034f"),
        ("tag\U000e0041", r"tag\U000e0041"),
        ("a\u200db\u200c", r"a\u200db\u200c"),
        ("👩\u200d🔬 می\u200cخواهم", "👩\u200d🔬 می\u200cخواهم"),
        ("", ""),
    ],
)
def test_what_cannot_be_printed_is_escaped(name: str, shown: str) -> None:
    assert printable(name) == shown
    assert printable(shown) == shown
    printable(name).encode()


def test_pictures_take_any_text() -> None:
    images = np.zeros((len(NAMES), 8, 8), dtype=np.uint8)
    label_rows(images, NAMES, title=NAMES[0])
    line = {
        "epoch": 1.0,
        "step": 1,
        "train": {"nats": 1.0},
        "validation": {"nats": 1.0, "distortion": 0.5, "rate": 0.5},
    }
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
