"""`vaelab push` and `pull`, by the real client against a stub of the Hub."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_stub import Hub, Repository
from safetensors.torch import load_file

import vaelab
from vaelab import runs
from vaelab.cli import main
from vaelab.config import Config
from vaelab.data import Dataset
from vaelab.errors import ConfigError, HubError, RunError
from vaelab.inference import hub as hub_module
from vaelab.inference.hub import FILES, pull, push
from vaelab.inference.model_card import model_card
from vaelab.training.fit import fit


@pytest.fixture(scope="module")
def run(tiny: Dataset, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a report, with pictures, and with files that are not to be sent."""
    folder = tmp_path_factory.mktemp("hub") / "run"
    for _ in fit(tiny_config, tiny, out=folder):
        pass
    model = vaelab.load(folder)
    vaelab.evaluate(model, tiny, quick=True, sections=["likelihood"]).save(folder / "report.json")
    (folder / "figures").mkdir()
    for name in ("samples", "reconstructions"):
        (folder / "figures" / f"{name}.png").write_bytes(b"PNG of a kind")
    (folder / "tensorboard").mkdir()
    (folder / "tensorboard" / "events").write_text("private")
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A Hub at HF_ENDPOINT, and a token in HF_TOKEN."""
    from huggingface_hub import constants

    server = Hub()
    threading.Thread(target=server.serve_forever, args=[0.02], daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    monkeypatch.setattr(constants, "ENDPOINT", server.url)  # read when it was imported
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.chdir(tmp_path)
    yield server
    server.shutdown()
    server.server_close()


def test_a_run_that_is_sent_and_fetched_is_the_same(run: Path, hub: Hub) -> None:
    assert push(run, "me/digits", licence="mit") == f"{hub.url}/me/digits"
    files = hub.repositories["me/digits"].files
    sent = {"config.json", "model.safetensors", "metrics.jsonl", "report.json", "figures/samples.png"}
    assert set(files) == sent | {"README.md"}
    assert sum("/commit/" in line for line in hub.asked) == 1
    fetched = pull("me/digits", Path("new/fetched"))
    assert fetched.config == runs.open_run(run).config
    assert {str(path.relative_to("new/fetched")) for path in Path("new/fetched").rglob("*") if path.is_file()} == sent
    assert [path.name for path in Path("new").iterdir()] == ["fetched"]
    before, after = (vaelab.load(folder).sample(["down"] * 3, seed=1) for folder in (run, "new/fetched"))
    np.testing.assert_array_equal(before, after)
    push(run, "me/digits")  # again, into the repository that there is


def test_the_card_has_the_figures_of_the_report_and_how_to_load_it(run: Path, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    text = model_card(runs.open_run(run), "me/digits", FILES, licence="mit")
    card: Any = ModelCard(text)
    assert (card.data.library_name, card.data.license) == ("vaelab", "mit")
    assert card.data.tags == ["vaelab", "conditional-variational-autoencoder"]
    report = json.loads((run / "report.json").read_text())
    bound = report["sections"]["likelihood"]["quantities"]["negative_elbo"]["value"]
    results = {each.metric_type: each.metric_value for each in card.data.eval_results or []}
    assert results["negative_elbo"] == bound
    assert f"| −ELBO | {bound:.4g} ±" in text
    assert "3 classes: across, down, frame." in text
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    space: dict[str, np.ndarray] = {}
    exec(code[1].replace('"model"', repr(str(run))), space)  # the code of the card runs
    assert len(space["generated"]) == 16


def test_a_report_of_other_weights_is_not_on_the_card(run: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    report = json.loads((copy / "report.json").read_text())
    damaged = json.dumps(report | {"sections": {"likelihood": {"quantities": {"x": 3}}}})
    report["model"]["weights_sha256"] = "0" * 64
    for content in (damaged, json.dumps(report), "[", "[1]"):
        (copy / "report.json").write_text(content)
        text = model_card(runs.open_run(copy), "me/digits", FILES)
        assert "Measured on the validation images during training" in text
    facts = runs.weight_facts(runs.open_run(copy))
    assert f"| −ELBO | {facts['distortion'] + facts['rate']:.4g} |" in text
    assert "license" not in text


def test_names_of_a_stranger_are_text_on_the_card(run: Path) -> None:
    opened = runs.open_run(run)
    strange = replace(
        opened, data=replace(opened.data, source="a\n---\nlicense: x", classes=("<img src=x>", "[a](b)", "|"))
    )
    text = model_card(strange, "me/digits", ())
    assert text.count("\n---\n") == 1
    assert "\nlicense:" not in text
    assert r"\<img src=x\>, \[a\](b), \|" in text


def test_private(run: Path, hub: Hub) -> None:
    push(run, "me/secret", private=True)
    assert hub.repositories["me/secret"].private
    hub.repositories["me/open"] = Repository()
    with pytest.raises(ConfigError, match="`private`: me/open is public already"):
        push(run, "me/open", private=True)
    assert hub.repositories["me/open"].files == {}


BAD_NAMES = ["digits", "me/digits/x", "../me", "me/..", "me/a b", "", "me/", "/x", "me/x.git", "a--b/c", "me/x\n"]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_malformed_name_is_refused(run: Path, hub: Hub, name: str) -> None:
    with pytest.raises(ConfigError, match="expected OWNER/NAME"):
        push(run, name)
    with pytest.raises(ConfigError, match="expected OWNER/NAME"):
        pull(name, Path("out"))
    assert hub.asked == []


def test_failures_are_one_line_and_leave_nothing(run: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HubError, match="me/none: no such repository"):
        pull("me/none", Path("out"))
    hub.repositories["me/empty"] = Repository(files={"README.md": b""})
    with pytest.raises(RunError, match=r"me/empty: no config.json and model.safetensors in it"):
        pull("me/empty", Path("out"))
    with pytest.raises(HubError, match=r"others/digits: the Hub refuses with status 403; .*token"):
        push(run, "others/digits")
    push(run, "me/digits")
    weights = bytearray(hub.repositories["me/digits"].files["model.safetensors"])
    weights[-1] ^= 1
    hub.repositories["me/digits"].files["model.safetensors"] = bytes(weights)
    with pytest.raises(RunError, match=r"^me/digits/model\.safetensors: changed or damaged"):
        pull("me/digits", Path("out"))
    with monkeypatch.context() as patch:
        patch.setattr(hub_module, "MAX_BYTES", 1000)
        with pytest.raises(RunError, match=r"me/digits: got files of .* GiB; expected at most"):
            pull("me/digits", Path("out"))
    Path("there").mkdir()
    Path("there/file").touch()
    with pytest.raises(RunError, match="there exists and is not an empty folder"):
        pull("me/digits", Path("there"))
    with pytest.raises(RunError, match="no such folder"):
        push(Path("missing"), "me/digits")
    assert [path.name for path in Path().iterdir()] == ["there"]
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(HubError, match="status 401") as caught:
        push(run, "me/other")
    assert "hf_wrong" not in str(caught.value)
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="no token"):
        push(run, "me/digits")
    monkeypatch.setattr(hub_module, "find_spec", lambda name: None)
    with pytest.raises(HubError, match=r'pip install "vaelab\[hub\]"'):
        pull("me/digits", Path("out"))


def test_commands(run: Path, hub: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    def status(*words: str) -> object:
        with pytest.raises(SystemExit) as end:
            main(words)
        return end.value.code

    assert status("push", str(run), "me/digits", "--private") == 0
    assert capsys.readouterr().out == f"{hub.url}/me/digits\n"
    assert hub.repositories["me/digits"].private
    assert status("pull", "me/digits", "--out", "fetched") == 0
    assert "fetched: fetched, cvae of tiny" in capsys.readouterr().err
    assert status("pull", "digits", "--out", "other") == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("vaelab: digits: not the name of a repository")


def test_without_a_network_one_line_is_printed(tmp_path: Path) -> None:
    environment = os.environ | {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_TOKEN": "hf_good",
        "HF_HOME": str(tmp_path / "home"),
    }
    words = ["pull", "me/digits", "--out", "fetched"]
    done = subprocess.run(
        [sys.executable, "-m", "vaelab", *words], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("vaelab: me/digits: the Hub cannot be reached ("), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "fetched").exists()


def test_one_module_imports_the_client() -> None:
    source = Path(vaelab.__file__).parent
    found = [
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if re.search(r"(import|from) huggingface_hub|import_module\(.huggingface_hub", path.read_text(encoding="utf-8"))
    ]
    assert found == ["inference/hub.py"]


def test_a_run_with_custom_networks_is_fetched_without_importing_them(run: Path, hub: Hub, tmp_path: Path) -> None:
    encoder = "nowhere_to_be_found:Encoder"
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    config["model"]["encoder"] = encoder
    weights, facts = load_file(copy / "model.safetensors"), runs.weight_facts(runs.open_run(copy))
    (copy / "config.json").write_text(json.dumps(config))
    runs.save_weights(runs.open_run(copy), weights, facts)
    push(copy, "me/custom")
    assert pull("me/custom", Path("fetched")).custom == (encoder,)
    assert "trust_code=True" in hub.repositories["me/custom"].files["README.md"].decode()
    with pytest.raises(RunError, match=r"nowhere_to_be_found:Encoder.*`trust_code=True`"):
        vaelab.load("fetched")
