"""Names of splits, columns and classes in the spellings that occur, and how unprintable ones are printed."""

import os
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from vaelab.data.names import SPLITS, canonical, class_name, split_folders, split_named
from vaelab.errors import DataError, printable


@pytest.mark.parametrize("split", SPLITS)
def test_every_word_for_a_split_is_known_in_any_case(split: str) -> None:
    for word in SPLITS[split]:
        for name in (
            word,
            word.upper(),
            word.title(),
            f" {word}",
            f"{word}_set",
            f"{word}set",
            f"{word}-images",
            f"{word}.data",
        ):
            assert split_named(name) == split, name


@pytest.mark.parametrize("name", ["", "trains", "cat", "contest", "protest", "set", "testament", "train_station"])
def test_other_words_are_no_splits(name: str) -> None:
    assert split_named(name) is None


def test_folders_that_differ_in_the_word_only_are_splits() -> None:
    assert split_folders(["a_train_1", "a_test_1"]) == {"a_train_1": "train", "a_test_1": "test"}
    assert split_folders(["a_train_1", "b_test_1"]) == {}
    assert split_folders(["a_train", "b_train"]) == {}
    assert split_folders(["dev", "ops"]) == {}
    assert split_folders(["dev", "train"]) == {"dev": "validation", "train": "train"}


def test_a_name_that_is_almost_right_is_refused_only_if_the_right_one_is_missing() -> None:
    known = {"label": ("class",), "path": ()}
    assert canonical(["path", "Class "], known, "t", "column") == {"label": "Class ", "path": "path"}
    assert canonical(["path", "label", "lable"], known, "t", "column") == {"label": "label", "path": "path"}
    with pytest.raises(DataError, match=r"^t: got the column 'lable'; did you mean 'label'\?"):
        canonical(["path", "lable"], known, "t", "column")
    assert canonical(["path", "table", "level", "batch", "split_id"], known, "t", "column") == {"path": "path"}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("cat", "cat"),
        (7, "7"),
        (np.int64(7), "7"),
        (7.0, "7"),
        (np.float32(7), "7"),
        (Decimal(7), "7"),
        (np.array(7), "7"),
        (b"cat", "cat"),
        (True, "True"),
        (None, ""),
        (float("nan"), ""),
        (np.float64("nan"), ""),
        ("e\N{COMBINING ACUTE ACCENT}", "é"),
    ],
)
def test_the_name_of_a_label_of_any_type(value: Any, name: str) -> None:
    assert class_name(value, "here") == name


@pytest.mark.parametrize(
    "value", [0.5, float("inf"), b"\xff", ["a"], ("a",), {"a": 1}, {"a"}, np.array([1]), "a" * 256]
)
def test_a_label_without_a_right_name_is_refused(value: Any) -> None:
    with pytest.raises(DataError, match=r"^here: got (?:a|the) label .*; expected"):
        class_name(value, "here")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb\r", r"a\nb\r"),
        ("\x1b[31m\0", r"\x1b[31m\x00"),
        ("a\u2028b\x85", r"a\u2028b\x85"),
        (os.fsdecode(b"\xe9t\xe9"), r"\udce9t\udce9"),
        ("$x$ été 日本 😀 \\ a\u00a0b", "$x$ été 日本 😀 \\ a\u00a0b"),
        ("👨\u200d👩", "👨\u200d👩"),
    ],
)
def test_what_cannot_be_printed_is_escaped(name: str, shown: str) -> None:
    assert printable(name) == shown
