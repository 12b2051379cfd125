"""`vaelab evaluate` and `vaelab compare`: output files, errors, and finished sections that are kept."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vaelab
from vaelab.cli import main
from vaelab.config import Config
from vaelab.data import load_dataset
from vaelab.data.dataset import Dataset, Split
from vaelab.evaluation import report as reports
from vaelab.evaluation.context import EvaluationContext
from vaelab.evaluation.likelihood import likelihood_section
from vaelab.evaluation.results import Section
from vaelab.training.fit import fit


@pytest.fixture(scope="module")
def place(tiny: Dataset, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.npz, other.npz and a run of each kind of model on the first."""
    folder = tmp_path_factory.mktemp("place")
    for name, part in (("tiny", tiny.train), ("other", tiny.train[::-1])):
        write_npz(folder / f"{name}.npz", part, tiny.test)
    dataset = load_dataset(folder / "tiny.npz")
    for kind in ("ae", "vae", "cvae"):
        model = replace(tiny_config.model, model=kind)
        for _ in fit(Config(model, tiny_config.train), dataset, out=folder / kind):
            pass
    return folder


def write_npz(path: Path, train: Split, test: Split) -> None:
    assert train.labels is not None
    assert test.labels is not None
    np.savez(path, images=train.images, labels=train.labels, test_images=test.images, test_labels=test.labels)


@pytest.fixture
def here(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own, with the same in it; only the likelihood is measured, and a section that costs nothing."""
    for path in place.iterdir():
        (tmp_path / path.name).symlink_to(path) if path.is_file() else copy(path, tmp_path / path.name)
    monkeypatch.chdir(tmp_path)
    measure(monkeypatch, likelihood=likelihood_section, other=other)
    return tmp_path


def copy(source: Path, target: Path) -> None:
    target.mkdir()
    for path in source.iterdir():
        if path.is_file():
            (target / path.name).write_bytes(path.read_bytes())


def measure(monkeypatch: pytest.MonkeyPatch, **sections: Callable[[EvaluationContext], Section]) -> None:
    monkeypatch.setattr(reports, "SECTIONS", sections)


def other(subject: EvaluationContext) -> Section:
    return Section("other", "Other", left_out=f"it is made up; versus {subject.versus and subject.versus.name}")


def call(*arguments: object, status: int = 0) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == status


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of a refused command, after the notes of loading."""
    capsys.readouterr()
    call(*arguments, status=2)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("vaelab: ")
    return line.removeprefix("vaelab: ")


def read(path: Path) -> dict[str, Any]:
    def never(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=never)


def test_a_run_is_measured_on_its_own_data(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("evaluate", "cvae", "--importance-samples", "3", "--seed", "5")
    told = capsys.readouterr()
    first, second = told.out.splitlines()
    assert first.startswith("Likelihood: ")
    assert second == "Other: left out: it is made up; versus None"
    *_, first_done, second_done, last = told.err.splitlines()
    assert (first_done, second_done) == ("1 of 2 sections", "2 of 2 sections")
    assert re.fullmatch(r"report: cvae/report\.html.* cvae/report\.json", last)
    report = read(here / "cvae" / "report.json")
    assert report["schema"] == 1
    assert report["data"]["split"] == "test"
    assert report["data"]["images"] == 30
    assert report["settings"] == {"importance_samples": 3, "quick": False, "seed": 5, "most_decoded": 500}
    assert report["run"]["name"] == "cvae"
    assert report["run"]["source"] == "tiny"
    assert report["run"]["same_data"] is True
    assert report["run"]["trained_for"] == "3 epochs"
    assert report["run"]["config"]["model"]["width"] == 32
    bound = report["sections"]["likelihood"]["quantities"]["bound"]
    assert bound["count"] == 30
    assert bound["better"] == "lower"
    assert 0 < bound["error"] < bound["value"]
    page = (here / "cvae" / "report.html").read_text(encoding="utf-8")
    assert "<h1>cvae on tiny</h1>" in page
    assert "tiny, with a budget of 3 epochs: the same data" in page


def test_long_work_is_told_without_a_terminal(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line at most every `PLAIN_EVERY` seconds, so that a training of a minute is not silent."""

    def long(subject: EvaluationContext) -> Section:
        subject.work("training a network", 10, 1000)
        return other(subject)

    measure(monkeypatch, long=long)
    for every, lines in ((10.0, 0), (0.0, 1)):
        monkeypatch.setattr("vaelab.progress.PLAIN_EVERY", every)
        call("evaluate", "vae", "--seed", str(lines))
        told = capsys.readouterr().err
        assert told.count("training a network: 10 of 1,000") == lines


def test_the_same_from_python(here: Path) -> None:
    call("evaluate", "vae", "--importance-samples", "2")
    written = read(here / "vae" / "report.json")
    report = vaelab.evaluate(vaelab.load("vae"), load_dataset("tiny.npz"), importance_samples=2, run="vae")
    report.save("mine.json")
    mine = read(here / "mine.json")
    for one in (written, mine):
        del one["made"]
        for section in one["sections"].values():
            del section["seconds"]
    del written["run"]
    assert mine == written
    assert str(report).startswith("Likelihood: ")
    assert report["likelihood"]["rate"].value == mine["sections"]["likelihood"]["quantities"]["rate"]["value"]
    with pytest.raises(KeyError):
        report["nothing"]
    vaelab.save_page(report, "mine.html")
    assert "<dt>Run</dt>" not in (here / "mine.html").read_text(encoding="utf-8")


def test_another_source_is_named_as_such(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("evaluate", "vae", "other.npz", "--importance-samples", "2", "--out", "elsewhere", "--versus", "tiny.npz")
    told = capsys.readouterr()
    assert re.search(r"other is not the data that vae was trained on \(tiny\)", told.err)
    assert "Other: left out: it is made up; versus tiny" in told.out
    assert sorted(path.name for path in (here / "elsewhere").iterdir()) == ["evaluation", "report.html", "report.json"]
    assert not (here / "vae" / "evaluation").exists()
    assert not (here / "vae" / "report.json").exists()
    assert read(here / "elsewhere" / "report.json")["versus"]["name"] == "tiny"
    page = (here / "elsewhere" / "report.html").read_text(encoding="utf-8")
    assert "tiny, with a budget of 3 epochs: not the data measured on" in page


def test_what_is_finished_is_kept_and_the_next_call_goes_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = []

    def counted(subject: EvaluationContext) -> Section:
        measured.append("likelihood")
        return likelihood_section(subject)

    def interrupted(subject: EvaluationContext) -> Section:
        raise KeyboardInterrupt

    command = ("evaluate", "vae", "--importance-samples", "2", "--quick")
    measure(monkeypatch, likelihood=counted, other=interrupted)
    call(*command, status=130)
    told = " ".join(capsys.readouterr().err.split())
    assert re.search(
        r"stopped; .*\b1\b.* vae/evaluation; to continue: vaelab evaluate vae --importance-samples 2 --quick$", told
    )
    assert not (here / "vae" / "report.json").exists()
    assert [path.name for path in (here / "vae" / "evaluation").iterdir()] == ["likelihood.section"]
    measure(monkeypatch, likelihood=counted, other=other)
    call(*command)
    assert measured == ["likelihood"]
    assert read(here / "vae" / "report.json")["settings"]["quick"] is True
    first = (here / "vae" / "report.html").read_text(encoding="utf-8")
    assert "Quick evaluation" in first
    call(*command, "--versus", "other.npz")  # an outlier's section apart, nothing is measured again for it
    assert measured == ["likelihood"]
    call(*command, "--seed", "1")
    assert measured == ["likelihood"] * 2
    (here / "vae" / "evaluation" / "likelihood.section").write_bytes(b"cut short")
    call(*command)
    assert measured == ["likelihood"] * 3


def test_one_image_has_no_error(here: Path, tiny: Dataset) -> None:
    write_npz(here / "one.npz", tiny.train, tiny.test[:1])
    call("evaluate", "cvae", "one.npz", "--importance-samples", "2")
    bound = read(here / "cvae" / "report.json")["sections"]["likelihood"]["quantities"]["bound"]
    assert bound["error"] is None
    assert bound["count"] == 1
    assert "± nan" not in (here / "cvae" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "nowhere: .*run folder, as vaelab train"),
        (("vae", "--importance-samples", 0), "--importance-samples: got 0; .*at least 1"),
        (("ae", "--importance-samples", 0), "--importance-samples: got 0; .*at least 1"),
        (("vae", "--seed", -1), "--seed: got -1; "),
        (("vae", "digits", "--size", "4"), "digits: .*4×4.*8×8.*--size 8x8"),
        (("cvae", "bare.npz"), "bare: .*without labels.*cvae"),
        (("vae", "trained.npz"), "trained: .*no test and no validation images"),
        (("vae", "nothing"), "no data source 'nothing'.*built-in name"),
        (("vae", "--versus", "nothing"), "no data source 'nothing'.*built-in name"),
        (("vae", "--limit", 50), "vae: .*'tiny' with fingerprint .*vaelab evaluate vae SOURCE"),
        (("vae", "--out", "tiny.npz"), r"cannot write tiny\.npz: "),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_what_does_not_fit_is_refused(
    here: Path, tiny: Dataset, capsys: pytest.CaptureFixture[str], arguments: tuple, message: str
) -> None:
    np.savez(here / "bare.npz", images=tiny.train.images)
    np.savez(here / "trained.npz", images=tiny.train.images[:2])
    np.savez(here / "wide.npz", images=np.zeros((4, 8, 12), dtype=np.uint8))
    line = refused(capsys, "evaluate", *arguments)
    assert re.match(message, line), line
    assert not list(here.rglob("report.*"))


def test_data_that_are_not_found_again_are_asked_for(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "tiny.npz").unlink()
    message = refused(capsys, "evaluate", "vae")
    assert re.fullmatch("vae: .*'tiny'.* vaelab evaluate vae SOURCE", message), message
    (here / "tiny.npz").symlink_to((here / "other.npz").resolve())
    message = refused(capsys, "evaluate", "vae")
    assert re.search(r"'tiny' with fingerprint .*'tiny\.npz'.*vaelab evaluate vae SOURCE", message), message


def test_a_section_that_there_is_not_is_refused(here: Path) -> None:
    model, dataset = vaelab.load("vae"), load_dataset("tiny.npz")
    with pytest.raises(vaelab.VaelabError, match=r"section.*'oter'; .*likelihood, other\. Did you mean"):
        vaelab.evaluate(model, dataset, sections=["oter"])
    assert [one.key for one in vaelab.evaluate(model, dataset, sections=["other"]).sections] == ["other"]


def test_runs_are_compared(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for run in ("ae", "vae", "cvae"):
        call("evaluate", run, "--importance-samples", "2")
    capsys.readouterr()
    call("compare", "ae", "vae", "cvae/report.json")
    told = capsys.readouterr().out
    head, *lines = [line.split() for line in told.splitlines() if line.strip()]
    assert head == ["figure", "ae", "vae", "cvae"]
    bound = next(line for line in lines if line[0] == "bound,")
    assert bound[6:8] == ["image", "–"]
    assert bound[9] == bound[12] == "±"
    assert "*" not in bound
    assert re.search("autoencoder has no likelihood.*distortion", told)
    assert "ln 3 = 1.10 nats" in told
    assert re.search("30 test images of tiny.*bernoulli", told)


def test_reports_of_other_protocols_are_not_compared(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call("evaluate", "vae", "--importance-samples", "2")
    call("evaluate", "cvae", "other.npz", "--importance-samples", "3", "--quick")
    message = refused(capsys, "compare", "vae", "cvae")
    assert re.match(r"got reports that differ in data \(vae: tiny ", message), message
    assert "quick (vae: no, cvae: yes); importance samples (vae: 2, cvae: 3)" in message
    for arguments, message in {
        ("vae",): "got 1 run; .*vaelab compare RUN RUN",
        ("vae", "ae"): r"ae\b.*\breport\.json",
        ("vae", "nowhere"): "nowhere: no such folder or file",
    }.items():
        line = refused(capsys, "compare", *arguments)
        assert re.match(message, line), line
