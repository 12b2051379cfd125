"""Take screenshots of the studio for the README and the documentation, with a model of `strokes`, so that they show no MNIST.

vaelab train strokes --model all --seconds 270 --out runs/all
python docs/screenshots.py runs/all [folder]

Without a folder, write play.png and story.png to docs/pictures/studio. With a folder, write every view at two sizes in the light
and dark schemes, for inspection. Requires the same tools as `make test-browser`.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

PICTURES = Path(__file__).parent / "pictures" / "studio"

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")

WIDE, PHONE = (1280, 800), (390, 844)

DIGIT = (
    (0.28, 0.25),
    (0.42, 0.15),
    (0.66, 0.22),
    (0.66, 0.38),
    (0.46, 0.48),
    (0.68, 0.56),
    (0.72, 0.74),
    (0.5, 0.86),
    (0.27, 0.78),
)
"""The corners of a 3, relative to the size of the sheet."""

VIEWS = {"play": "view=play", "report": "view=report"} | {
    f"story-{step}": f"view=story&step={step}" for step in range(1, 8)
}


def main(run: str, folder: str | None = None) -> None:
    """Take the two screenshots of the documentation, or all views into `folder`."""
    with _served(run) as address, sync_playwright() as playwright:
        path = next(found for name in CHROMIUM if (found := shutil.which(name)))
        browser = playwright.chromium.launch(executable_path=path)
        if folder is None:
            _shoot(browser, address, VIEWS["play"], WIDE, "light", PICTURES / "play.png", drawn=True)
            _shoot(browser, address, VIEWS["story-5"], WIDE, "light", PICTURES / "story.png")
            for picture in PICTURES.glob("*.png"):  # a third of the size without visible loss
                Image.open(picture).convert("RGB").quantize(256, dither=Image.Dither.NONE).save(picture, optimize=True)
            return
        for name, fragment in VIEWS.items():
            for size in (WIDE, PHONE):
                for scheme in ("light", "dark"):
                    place = Path(folder) / f"{name}-{size[0]}-{scheme}.png"
                    _shoot(browser, address, fragment, size, scheme, place, drawn=name == "play")


@contextmanager
def _served(run: str) -> Iterator[str]:
    """Serve the studio of a run; yields its URL."""
    command = [str(Path(sys.executable).parent / "vaelab"), "studio", run, "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield next(line.strip() for line in process.stdout if line.startswith("http"))
        finally:
            process.terminate()


def _shoot(
    browser: Browser,
    address: str,
    fragment: str,
    size: tuple[int, int],
    scheme: str,
    path: Path,
    *,
    drawn: bool = False,
) -> None:
    """Take one screenshot; `drawn`: after drawing a 3."""
    width, height = size
    page = browser.new_page(
        viewport={"width": width, "height": height},
        color_scheme=scheme,  # pyright: ignore[reportArgumentType] - light or dark
        reduced_motion="reduce",
    )
    page.goto(f"{address}#{fragment}")
    page.wait_for_selector(".starting", state="detached")
    if drawn:
        _draw(page)
    page.wait_for_timeout(2500)  # for the tiles and animations
    path.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=path, full_page=size == PHONE)
    page.close()


def _draw(page: Page) -> None:
    """Draw a 3 on the sheet."""
    sheet = page.locator(".sheet canvas")
    sheet.scroll_into_view_if_needed()
    box = sheet.bounding_box()
    assert box is not None
    first, *others = ((box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in DIGIT)
    page.mouse.move(*first)
    page.mouse.down()
    for x, y in others:
        page.mouse.move(x, y, steps=4)
    page.mouse.up()


if __name__ == "__main__":
    main(*sys.argv[1:3])
