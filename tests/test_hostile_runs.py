"""Run folders of strangers: refused at once, with little memory, in one line; any JSON is a run or a RunError."""

import json
import shutil
import string
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import hostile_runs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vaelab import runs, seal
from vaelab.checked_files import parse_json, read_regular
from vaelab.config import Config
from vaelab.data import Dataset
from vaelab.errors import RunError
from vaelab.evaluation.comparison import read_report
from vaelab.inference.trained import load
from vaelab.run_folder import recorded_data
from vaelab.runs import header
from vaelab.studio import bundle as bundles
from vaelab.training.fit import fit

MOST_SECONDS, MOST_BYTES = 1.0, 64_000_000

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc: run it on Linux")


@pytest.fixture(scope="module")
def good(tiny: Dataset, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "good"
    for _ in fit(tiny_config, tiny, out=folder):
        pass
    return folder


@pytest.fixture
def run(good: Path, tmp_path: Path) -> Path:
    shutil.copytree(good, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def measured(good: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What refusing each case took, in another process."""
    program = [sys.executable, "-W", "error", hostile_runs.__file__, str(good)]
    result = subprocess.run(
        [*program, str(tmp_path_factory.mktemp("cases") / "run")], capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@linux
@pytest.mark.parametrize("case", hostile_runs.CASES)
def test_it_is_refused_at_once(measured: dict[str, dict[str, Any]], case: str) -> None:
    found = measured[case]
    assert found["error"], "it was opened"
    assert not found["error"].startswith("!"), found["error"]
    assert len(found["error"]) < 600
    assert "\n" not in found["error"]
    assert found["seconds"] <= MOST_SECONDS  # of CPU time
    assert found["bytes"] <= MOST_BYTES


def test_more_classes_are_allowed_on_request(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"c{index}" for index in range(10_001)]
    hostile_runs.edit(run, data__classes=names)
    with pytest.raises(RunError, match=r"10,001 classes; expected at most 10000: set VAELAB_MAX_CLASSES"):
        runs.open_run(run)
    assert recorded_data(run) == {}
    monkeypatch.setenv("VAELAB_MAX_CLASSES", "20000")
    assert runs.open_run(run).data.classes == tuple(names)
    assert recorded_data(run)["classes"] == tuple(names)


@pytest.mark.parametrize("value", [True, "2", 2.0, None, 0, -1, [2]])
def test_the_format_is_compared_exactly(run: Path, value: object) -> None:
    hostile_runs.edit(run, format=value)
    with pytest.raises(RunError, match=r"`format` is .*expected 1 or 2"):
        runs.open_run(run)


@pytest.mark.parametrize(
    ("key", "hint"),
    [("model__widht", "'width'"), ("train__betta", "'beta'"), ("data__class", "'classes'"), ("modell", "'model'")],
)
def test_an_unknown_key_is_refused_unless_a_newer_version_wrote_it(run: Path, key: str, hint: str) -> None:
    hostile_runs.edit(run, **{key: 1})
    with pytest.raises(RunError, match=rf"`{key.split('__')[-1]}` is unknown\. Did you mean {hint}"):
        runs.open_run(run)
    versions = json.loads((run / runs.CONFIG).read_text())["versions"]
    hostile_runs.edit(run, versions=versions | {"vaelab": "0.99.0"})
    assert load(run).classes == ("across", "down", "frame")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("source", 3),
        ("source", "x" * 5000),
        ("source", "a\0b"),
        ("shape", [8, 8]),
        ("shape", [1, 8.0, 8]),
        ("shape", "188"),
        ("classes", "abc"),
        ("classes", ["a", "a", "b"]),
        ("classes", ["a", None, "b"]),
        ("classes", []),
        ("train_count", 0),
        ("train_count", True),
        ("fingerprint", None),
        ("fit", "stretch"),
    ],
)
def test_the_data_card_is_validated(run: Path, key: str, value: object) -> None:
    hostile_runs.edit(run, **{f"data__{key}": value})
    with pytest.raises(RunError, match=r"config\.json: changed or damaged"):
        runs.open_run(run)


def test_the_shapes_are_compared_before_a_model_is_built(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hostile_runs.edit(run, model__width=33)
    monkeypatch.setattr("vaelab.runs.weights.build_model", lambda *_: pytest.fail("built"))
    with pytest.raises(RunError, match=r"its weights do not fit config\.json"):
        load(run)


@pytest.mark.parametrize(
    ("network", "levels", "mixing"),
    [("mlp", "", "free"), ("conv", "", "free"), ("ladder", "3,2@8,1", "free"), ("ladder", "3,1", "relative")],
)
def test_the_expected_shapes_are_those_of_the_model(network: Any, levels: str, mixing: Any) -> None:
    from building import build_model, resolve_model

    from vaelab.config import ModelConfig

    ladder: dict[str, Any] = (
        {"levels": levels, "patch": 4, "spatial_mixing": mixing} if network == "ladder" else {"latent_dim": 3}
    )
    config = ModelConfig("cvae", network, likelihood="logistic", width=8, depth=2, **ladder)
    resolved = resolve_model(config, (1, 28, 28))
    weights = build_model(config, (1, 28, 28), 5).state_dict()
    found = header.expected_kinds(resolved, (1, 28, 28), 5, 1000)
    assert {name: kind.shape for name, kind in found.items()} == {
        name: tuple(value.shape) for name, value in weights.items()
    }
    assert {kind.dtype for kind in found.values()} == {"F32"}


def test_a_pipe_is_not_waited_for(run: Path) -> None:
    if not hasattr(hostile_runs.os, "mkfifo"):
        pytest.skip("needs the pipes of POSIX: run it on Linux or macOS")
    for name in (runs.CONFIG, runs.WEIGHTS):
        (run / name).rename(run / "kept")
        hostile_runs.os.mkfifo(run / name)
        with pytest.raises(RunError, match=f"expected .*{'run folder' if name == runs.CONFIG else name}"):
            load(run)
        (run / name).unlink()
        (run / "kept").rename(run / name)
    hostile_runs.os.mkfifo(run / "pipe")
    with pytest.raises(OSError, match="Not a regular file"):
        read_regular(run / "pipe", 10)


def test_json_is_counted_before_it_is_parsed() -> None:
    assert parse_json(b'{"a": [1, 2]}') == {"a": [1, 2]}
    for text, what in ((b"[0,0,0]", "about 3 values"), (b"[NaN]", "NaN"), (b"[" * 9000, "nested|values")):
        with pytest.raises(ValueError, match=what):
            parse_json(text, 2 if text.startswith(b"[0") else 10_000)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable, max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
keys = st.sampled_from(["model", "train", "data", "versions", "format", "record", "seal", "schema", "sections"])
fuzz = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def opened(folder: Path) -> None:
    """Open a run: it is one, or a RunError. Its model can be described, or not."""
    recorded_data(folder)
    with suppress(RunError, ValueError):  # anything else is a fault
        run = runs.open_run(folder)
        header.expected_kinds(run.config.model, run.data.shape, len(run.data.classes), 100)


@fuzz
@given(st.dictionaries(keys, json_values) | json_values)
def test_any_json_is_a_run_or_a_run_error(tmp_path: Path, values: Any) -> None:
    (tmp_path / runs.CONFIG).write_text(json.dumps(values))
    opened(tmp_path)


@fuzz
@given(st.data())
def test_a_configuration_with_any_value_changed_is_a_run_or_a_run_error(good: Path, tmp_path: Path, data: Any) -> None:
    values = json.loads((good / runs.CONFIG).read_text())
    for _ in range(data.draw(st.integers(1, 3))):
        part = data.draw(st.sampled_from(["model", "train", "data", "versions"]))
        names = [*values[part], "new"] if isinstance(values[part], dict) else []
        if name := data.draw(st.sampled_from([*names, ""])):
            near = st.integers(-2, 70_000) | st.sampled_from(["mlp", "conv", "ladder", "1,1", "", "gaussian", "epochs"])
            values[part][name] = data.draw(json_values | near | st.lists(st.integers(1, 40), max_size=3))
        else:
            values[part] = data.draw(json_values)
    (tmp_path / runs.CONFIG).write_text(json.dumps(values))
    opened(tmp_path)


@fuzz
@given(json_values | st.fixed_dictionaries({"step": json_values}, optional={"axes": json_values, "rate": json_values}))
def test_any_facts_are_facts_or_a_run_error(good: Path, tmp_path: Path, values: Any) -> None:
    shutil.copy(good / runs.WEIGHTS, tmp_path / runs.WEIGHTS)
    shutil.copy(good / runs.CONFIG, tmp_path / runs.CONFIG)
    hostile_runs.facts(tmp_path, json.dumps(values))
    try:
        facts = runs.weight_facts(runs.open_run(tmp_path))
    except RunError:
        return
    assert isinstance(facts["step"], int)
    runs.LatentStats.from_json(facts.get("axes"))


@fuzz
@given(st.dictionaries(st.text(max_size=6), json_values, max_size=4), st.binary(max_size=40))
def test_any_header_is_one_or_a_run_error(good: Path, tmp_path: Path, entries: dict[str, Any], rest: bytes) -> None:
    shutil.copy(good / runs.CONFIG, tmp_path / runs.CONFIG)
    text = json.dumps({"__metadata__": {"facts": "{}"}} | entries).encode()
    (tmp_path / runs.WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + rest)
    with pytest.raises(RunError):
        load(tmp_path)


@fuzz
@given(st.dictionaries(keys, json_values) | json_values, st.binary(max_size=80))
def test_any_record_or_report_is_refused(tmp_path: Path, values: Any, content: bytes) -> None:
    (tmp_path / "report.json").write_text(json.dumps(values))
    with pytest.raises(RunError):
        read_report(tmp_path)
    for text in (json.dumps(values).encode(), content, seal.sealed(b"x") + content):
        (tmp_path / bundles.KEY).write_bytes(text)
        if text != seal.sealed(b"x"):
            assert bundles._cached(tmp_path, "key") is None
