"""The system's Chromium, for the tests marked `browser`."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

BROWSERS = (
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium per module; while it exists, no other event loop can run in this thread."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    assert found is not None, f"got no browser; expected one of {', '.join(BROWSERS)}: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found)
        yield browser
        browser.close()
