"""The studio of a run whose data and classes have names that are no valid UTF-8."""

import base64
import gzip
import json
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_studio_server import HOSTS, Client

from vaelab.config import Config
from vaelab.data import Dataset
from vaelab.studio.bundle import silent
from vaelab.studio.server import open_site, studio_app
from vaelab.studio.single import export_page
from vaelab.training.fit import fit

NAME = os.fsdecode(b"caf\xe9")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names: run it on Linux")


@pytest.fixture
def odd_run(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> Path:
    """A run of data of this name, with a class of this name."""
    folder = tmp_path / "run"
    for _ in fit(tiny_config, replace(tiny, name=NAME, classes=(NAME, "down", "frame")), out=folder):
        pass
    shutil.copy(folder / "config.json", folder / "report.json")  # any JSON
    return folder


@pytest.mark.usefixtures("stand_in")
def test_the_page_and_its_files_are_served(odd_run: Path) -> None:
    client = Client(studio_app(open_site(odd_run, source=None, work=silent), HOSTS))
    for name in ("manifest.json", "curve.json", "report.json", "cvae-decoder.onnx"):
        answer = client.get(f"/bundle/{name}")
        assert answer.status_code == 200, name
        assert answer.content
    manifest = client.get("/bundle/manifest.json")
    assert manifest.headers["content-type"] == "application/json"
    assert (manifest.json()["source"], manifest.json()["classes"][0]) == (NAME, NAME)


@pytest.mark.usefixtures("stand_in")
def test_the_exported_page_has_them(odd_run: Path, tmp_path: Path) -> None:
    text = export_page(odd_run, tmp_path / "page.html").path.read_bytes().decode()
    packed = re.search(r'data-name="manifest.json">([^<]*)<', text)
    assert packed is not None
    manifest = json.loads(gzip.decompress(base64.b64decode(packed[1])))
    assert manifest["classes"][0] == NAME
