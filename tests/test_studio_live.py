"""A run in training, followed by the page from before the first weights to the finished model."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from studio_model import built, serving
from studio_page import STRIP, Opener, decoded, manifest_of, until

from vaelab.inference.trained import load

pytestmark = pytest.mark.browser

SECONDS, SAVED = 60.0, 2.0
"""Duration of the training and interval at which the weights are saved, in seconds; the page shows saved weights."""

LONG = 60
"""Timeout in seconds for the next event on a busy machine."""


@pytest.fixture
def training(tmp_path: Path) -> Iterator[Path]:
    """The folder of a run that another process is training, as soon as it exists."""
    built()
    folder = tmp_path / "young"
    words = ["train", "strokes", "--limit", "5000", "--seconds", str(SECONDS), "--compile", "no", "--out", str(folder)]
    words += ["--checkpoint-every", str(SAVED)]
    with subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import vaelab.cli; vaelab.cli.main()",
            *words,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},  # leave a core to the page
    ) as process:
        until(lambda: (folder / "config.json").exists(), bool, LONG)
        yield folder
        process.terminate()


def test_a_run_in_training_is_followed(opened: Opener, training: Path) -> None:
    with serving(training) as (address, _):
        page = opened(address, "view=report")
        page.page.get_by_text("Training now").wait_for()
    page.page.get_by_text("Waiting for the run…").wait_for()  # the server has stopped
    page.context.close()
    page.messages.clear()  # the browser's message about the refused connection
    with serving(training) as (address, site):
        assert site.following.training
        page = opened(address, "view=report")
        page.page.get_by_text("Training now").wait_for()
        rows = page.page.locator("figure table tbody tr")
        first = until(rows.count, lambda count: count >= 1, LONG)
        nats = lambda: [float(one) for one in re.findall(r"\d+\.\d\d", page.text(".now"))]  # noqa: E731
        before = until(nats, bool)
        picture = page.page.locator(".samples img")
        picture.wait_for()
        seen = picture.get_attribute("src")
        assert picture.evaluate("one => one.decode().then(() => [one.naturalWidth, one.naturalHeight])") == [280, 280]
        left = page.page.locator(".now div", has_text="left")
        left.wait_for()
        shown = left.inner_text()
        until(rows.count, lambda count: count > first, LONG)
        until(lambda: picture.get_attribute("src"), lambda now: now != seen, LONG)
        assert nats()[0] < before[0]  # it learns
        assert shown != left.inner_text()
        page.page.get_by_role("button", name="Load the finished model").wait_for(timeout=2000 * LONG)
        assert page.page.get_by_text("Finished.", exact=True).count() == 1
        page.click("Load the finished model")
        page.page.get_by_role("button", name="Play", exact=True).click()
        page.ready()
        point = np.array(manifest_of(address)["first"]["z"][0])
        page.shows(decoded(load(training), point, *range(10)), STRIP)
        assert not manifest_of(address)["training"]
        page.close()
