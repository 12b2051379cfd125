"""Comparison of reports: what is marked as the best, what is not comparable, and which files are refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from report_maker import facts, made_up, quantity

from vaelab.errors import DataError, RunError
from vaelab.evaluation.comparison import compare_reports, read_report
from vaelab.evaluation.report import Report
from vaelab.evaluation.results import Section


def report(*quantities: Any, key: str = "samples", **changed: object) -> dict[str, Any]:
    return Report(facts(**changed), (Section(key, key.title(), (), quantities),)).to_json()


def of_kind(kind: str) -> dict[str, Any]:
    return facts()["model"] | {"kind": kind}


def best(*figures: tuple[float, float | None], better: str = "lower") -> list[bool]:
    reports = {
        str(at): report(quantity("fid", value, error=error, better=better)) for at, (value, error) in enumerate(figures)
    }
    (row,) = compare_reports(reports).rows
    return [cell.best for cell in row.cells]


@pytest.mark.parametrize(
    ("figures", "better", "marked"),
    [
        (((1.0, 0.3), (2.1, 0.4)), "lower", [True, False]),  # 1.1 > 2 · 0.5
        (((1.0, 0.3), (1.9, 0.4)), "lower", [False, False]),  # 0.9 < 2 · 0.5
        (((1.0, 0.3), (2.1, 0.4)), "higher", [False, True]),
        (((1.0, 0.1), (2.0, 0.1), (1.1, 0.1)), "lower", [False] * 3),  # the second best is too near
        (((1.0, 0.1), (2.0, 0.1), (1.1, 0.1)), "higher", [False, True, False]),
        (((3.0, 0.1), (1.0, 0.0), (1.05, 0.02)), "lower", [False, True, False]),
        (((1.0, 0.1), (2.0, 0.1), (1.9, 9.0)), "lower", [False] * 3),  # the third may be anything
        (((1.0, None), (2.0, 0.1)), "lower", [False, False]),
        (((1.0, float("nan")), (2.0, 0.1)), "lower", [False, False]),
        (((1.0, 0.1), (float("nan"), None)), "lower", [False, False]),
        (((1.0, 0.0), (1.0, 0.0)), "lower", [False, False]),
    ],
)
def test_the_best_is_marked_beyond_twice_the_error_of_the_difference(
    figures: tuple, better: str, marked: list[bool]
) -> None:
    assert best(*figures, better=better) == marked


def test_figures_without_better_and_bits_and_those_of_nobody_are_left_out() -> None:
    shown = (
        quantity("fid", 1.0, better="lower"),
        quantity("rate", 1.0),
        quantity("bits", 1.0, better="lower", unit="bits per dimension"),
        quantity("kid", float("nan"), better="lower"),
    )
    (row,) = compare_reports({"a": report(*shown), "b": report()}).rows
    assert (row.section, row.name, row.unit) == ("Samples", "fid", "nats per image")
    assert row.cells[0].value == 1.0
    assert row.cells[1].value != row.cells[1].value


def test_a_section_that_only_one_has_stands_beside_dashes() -> None:
    one, two = (
        report(quantity("fid", 1.0, better="lower")),
        report(quantity("accuracy", 2.0, better="higher"), key="leakage"),
    )
    assert [row.section for row in compare_reports({"a": one, "b": two}).rows] == ["Samples", "Leakage"]


def test_what_is_given_the_label_is_not_compared_with_what_is_not() -> None:
    nats = (quantity("distortion", 60.0, error=0.1, better="lower"), quantity("bound", 90.0, error=0.1, better="lower"))
    more = (quantity("distortion", 70.0, error=0.1, better="lower"), quantity("bound", 99.0, error=0.1, better="lower"))
    with_label, without = report(*nats, key="likelihood"), report(*more, key="likelihood", model=of_kind("vae"))
    compared = compare_reports({"cvae": with_label, "vae": without})
    assert [[cell.best for cell in row.cells] for row in compared.rows] == [[True, False], [False, False]]
    assert "ln 3 = 1.10 nats" in compared.notes[1]
    assert "no rate, −ELBO and bound is marked" in compared.notes[1]
    alike = compare_reports({"a": with_label, "b": report(*more, key="likelihood")})
    assert [[cell.best for cell in row.cells] for row in alike.rows] == [[True, False], [True, False]]
    assert len(alike.notes) == 1


def test_of_an_autoencoder_only_the_distortion_compares() -> None:
    nats = (quantity("distortion", 60.0, error=0.1, better="lower"), quantity("bound", 90.0, error=0.1, better="lower"))
    settings = facts()["settings"]
    alone = report(nats[0], key="likelihood", model=of_kind("ae"), settings=settings | {"importance_samples": 7})
    compared = compare_reports({"vae": report(*nats, key="likelihood", model=of_kind("vae")), "ae": alone})
    assert [row.name for row in compared.rows] == ["distortion", "bound"]
    assert compared.rows[1].cells[1].value != compared.rows[1].cells[1].value
    assert compared.notes[1].startswith("An autoencoder has no likelihood")


@pytest.mark.parametrize(
    ("part", "changed", "said"),
    [
        (
            "data",
            {"name": "mnist", "fingerprint": "0" * 64},
            "data (a: strokes & <others> ffffffff…, b: mnist 00000000…)",
        ),
        (
            "data",
            {"split": "validation", "images": 9, "images_sha256": "0" * 64},
            "split (a: test, b: validation); number",
        ),
        ("data", {"images": 500, "images_sha256": "0" * 64}, "number of images (a: 10000, b: 500)"),
        ("data", {"images_sha256": "0" * 64}, "images (a: eeeeeeee, b: 00000000)"),
        (
            "data",
            {"protocol": "As they are."},
            "binarisation (a: Likelihood bernoulli, binarised once, b: As they are)",
        ),
        ("model", {"likelihood": "logistic"}, "likelihood (a: bernoulli, b: logistic)"),
        ("settings", {"importance_samples": 50}, "importance samples (a: 500, b: 50)"),
        ("settings", {"quick": True}, "quick (a: no, b: yes)"),
        ("versus", {"name": "kmnist"}, "outliers (a: digits, b: kmnist)"),
    ],
)
def test_what_differs_is_named(part: str, changed: dict, said: str) -> None:
    versus = {"name": "digits", "fingerprint": "1" * 64}
    one, other = report(versus=versus), report(versus=versus)
    other[part] = other[part] | changed
    if "likelihood" in changed:
        other["data"]["protocol"] = "Likelihood logistic, as they are."
    with pytest.raises(
        DataError, match=f"^got reports that differ in {re.escape(said)}.*; evaluate all runs with the same"
    ) as caught:
        compare_reports({"a": one, "b": other})
    assert str(caught.value).count("(a: ") == (2 if "split" in changed else 1)


def test_outliers_of_one_report_do_not_stand_in_the_way() -> None:
    versus = {"name": "digits", "fingerprint": "1" * 64}
    assert compare_reports({"a": report(versus=versus), "b": report()}).names == ("a", "b")


def test_a_report_is_read_from_a_run_or_a_file(tmp_path: Path) -> None:
    made_up().save(tmp_path / "report.json")
    assert read_report(tmp_path) == read_report(tmp_path / "report.json") == made_up().to_json()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            json.dumps({**report(), "schema": 99}),
            "got a report of schema 99",
        ),
        ("{", "damaged, or not a report (JSONDecodeError: "),
        ("[]", "damaged, or not a report (TypeError: "),
        ("{}", "damaged, or not a report (KeyError: 'schema')"),
        (json.dumps({**report(), "settings": {}}), "damaged, or not a report (KeyError: 'quick')"),
        (
            json.dumps({**report(), "sections": {"a": {"title": "A", "quantities": {"b": {}}}}}),
            "damaged, or not a report (Key",
        ),
    ],
    ids=["newer", "cut short", "list", "empty", "no settings", "no figures"],
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(RunError) as caught:
        read_report(tmp_path)
    assert str(caught.value).startswith(f"{path}: {message}")
