"""A page of the studio for tests: open it, operate it, read its canvases, and record its requests and messages."""

import base64
import io
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import pytest
from PIL import Image

from vaelab.inference.trained import TrainedModel

DESK, PHONE = (1280, 800), (360, 740)
PATIENCE = 20.0
"""Timeout in seconds; CI machines may be slow."""

CURRENT, STRIP = "[data-testid=current] canvas", "[aria-label='The same point with every label'] canvas"
MAP, SHEET = "[data-testid=map]", "canvas[aria-roledescription='drawing sheet']"
SEEN, REBUILT = "[aria-label='The drawing as the model sees it']", "[aria-label='The reconstruction of the drawing']"
EXTENT = 3.4
"""Distance in σ from the centre to the edge of the map before zooming."""

RED = """elements => elements.map(canvas => {
  const {width, height} = canvas;
  const copy = new OffscreenCanvas(width, height).getContext('2d', {willReadFrequently: true});
  copy.drawImage(canvas, 0, 0);  // a copy, since reading the page's canvas would slow down drawing on it
  const data = copy.getImageData(0, 0, width, height).data;
  let text = '';
  for (let at = 0; at < data.length; at += 8192) text += String.fromCharCode(...data.subarray(at, at + 8192));
  return [height, width, btoa(text)];
})"""

NARROW = """() => {
  const wide = document.documentElement.clientWidth, out = [];
  for (const one of document.querySelectorAll('body *')) {
    const box = one.getBoundingClientRect();
    if (box.right > wide + 1 && box.width && getComputedStyle(one).visibility !== 'hidden' && !one.closest('.unseen')) {
      let scrolls = false;
      for (let up = one.parentElement; up; up = up.parentElement) scrolls ||= getComputedStyle(up).overflowX !== 'visible';
      if (!scrolls) out.push(one.tagName + '.' + one.className);
    }
  }
  return [document.documentElement.scrollWidth - wide, out];
}"""

Point = tuple[float, float]
Models = dict[str, TrainedModel]


class Page:
    """A page of the studio in a separate browser context; records its requests and messages.

    Attributes
    ----------
    page
        The Playwright page.
    requests
        The URLs that it requested.
    messages
        Console messages, uncaught errors and dialogs.
    """

    def __init__(self, browser: Any, address: str, state: str = "", **changed: Any) -> None:
        options: dict[str, Any] = {"size": DESK, "color_scheme": "light", "reduced_motion": "reduce", **changed}
        width, height = options.pop("size")
        self.address, self.local = address, address.startswith("file:")
        self.context = browser.new_context(viewport={"width": width, "height": height}, **options)
        self.requests: list[str] = []
        self.messages: list[str] = []
        if self.local:
            self.context.set_offline(True)
            self.context.route(lambda url: not url.startswith(("file:", "blob:", "data:")), lambda route: route.abort())
        self.page = self.context.new_page()
        self.page.set_default_timeout(1000 * PATIENCE)
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.messages.append(dialog.message), dialog.dismiss()))
        self.open(state)

    def open(self, state: str = "") -> Any:
        """Open the page with a state in its URL; return the response."""
        return self.page.goto(f"{self.address}#{state}" if state else self.address, wait_until="load")

    def ready(self) -> "Page":
        """Wait until the model is loaded in the view Play."""
        self.page.locator(f"{CURRENT}:not(.empty)").wait_for()
        self.page.locator(".starting").wait_for(state="detached")
        return self

    def close(self) -> None:
        """Close the page and check that it made no external requests and reported no errors."""
        self.context.close()
        allowed = ("file:", "blob:", "data:") if self.local else (self.address, "blob:", "data:")
        assert [url for url in self.requests if not url.startswith(allowed)] == []
        assert self.requests
        assert self.messages == []

    # Reading the page.

    def images(self, selector: str = CURRENT) -> np.ndarray:
        """The contents of the canvases that match the selector, which must have one size: uint8 (n, H, W, 4)."""
        found = self.page.eval_on_selector_all(selector, RED)
        images = [np.frombuffer(base64.b64decode(text), np.uint8).reshape(h, w, 4) for h, w, text in found]
        return np.stack(images) if images else np.zeros((0, 1, 1, 4), np.uint8)

    def grey(self, selector: str = CURRENT) -> np.ndarray:
        """The contents of the canvases as grey levels, (n, H, W)."""
        images = self.images(selector)
        assert (images[..., 0] == images[..., 2]).all(), "not grey"
        return images[..., 0]

    def shows(self, expected: np.ndarray, selector: str = CURRENT, within: int = 1) -> None:
        """Wait until the canvases show these images, uint8 (n, H, W), to within `within` levels."""

        def worst() -> float:
            got = self.grey(selector)
            return np.abs(got.astype(int) - expected).max() if got.shape == expected.shape else np.inf

        until(worst, lambda difference: difference <= within)

    def state(self) -> dict[str, str]:
        """The state in the URL."""
        return dict(parse_qsl(self.page.evaluate("location.hash").removeprefix("#")))

    def z(self) -> np.ndarray:
        """The point in the URL, once the URL no longer changes."""
        before: dict[str, str] | None = None

        def rested() -> dict[str, str]:
            nonlocal before
            last, before = before, self.state()
            time.sleep(0.3)  # the URL is updated after 0.25 s
            return before if last == before else {}

        return np.array([float(number) for number in until(rested, lambda state: "z" in state)["z"].split(",")])

    def text(self, selector: str) -> str:
        """The text of an element."""
        return str(self.page.locator(selector).first.inner_text())

    def box(self, selector: str) -> dict[str, float]:
        """The bounding box of an element in the window."""
        box = self.page.locator(selector).first.bounding_box()
        assert box is not None
        return box

    def click(self, name: str, role: str = "button", **found: Any) -> None:
        """Click the element with this role and name."""
        self.page.get_by_role(role, name=name, **{"exact": True, **found}).first.click()

    # Operating the page.

    def at(self, place: Point) -> Point:
        """Convert a position on the map in σ to the window, for a map that is not zoomed."""
        box = self.box(MAP)
        scale = min(box["width"], box["height"]) / (2 * EXTENT)
        return (box["x"] + box["width"] / 2 + place[0] * scale, box["y"] + box["height"] / 2 - place[1] * scale)

    def drag(self, *places: Point) -> None:
        """Drag across the map along positions in σ."""
        self.page.locator(MAP).scroll_into_view_if_needed()
        self._trace([self.at(place) for place in places])

    def draw(self, strokes: list[list[Point]], shift: Point = (0.0, 0.0)) -> None:
        """Draw with the mouse, in units of the sheet, which is 280 wide."""
        self.page.locator(SHEET).scroll_into_view_if_needed()
        box = self.box(SHEET)
        unit = box["width"] / 280
        for stroke in strokes:
            self._trace([(box["x"] + (x + shift[0]) * unit, box["y"] + (y + shift[1]) * unit) for x, y in stroke])

    def _trace(self, points: list[Point]) -> None:
        mouse = self.page.mouse
        mouse.move(*points[0])
        mouse.down()
        for point in points[1:]:
            mouse.move(*point, steps=4)
        mouse.up()


def until(read: Callable[[], Any], wanted: Callable[[Any], bool], seconds: float = PATIENCE) -> Any:
    """Call `read` until its result satisfies `wanted`, and return the result.

    Raises
    ------
    AssertionError
        After `seconds`, with the last result.
    """
    end = time.monotonic() + seconds
    while not wanted(found := read()):
        assert time.monotonic() < end, f"still {found!r} after {seconds:g} s"
        time.sleep(0.03)
    return found


def decoded(model: TrainedModel, z: np.ndarray, *labels: int) -> np.ndarray:
    """Decode a point in Python with each of these labels, or without a label, (n, H, W)."""
    if not labels:
        return model.decode(z[None])
    return model.decode(np.tile(z, (len(labels), 1)), np.array(labels))


def state(z: np.ndarray, **more: object) -> str:
    """A state of the page for its URL: a point and other parameters."""
    return "&".join(
        [f"z={','.join(f'{value:g}' for value in z)}", *(f"{name}={value}" for name, value in more.items())]
    )


def get(address: str, name: str) -> bytes:
    """Load a file of the bundle from the server."""
    with urllib.request.urlopen(f"{address}bundle/{name}") as answer:
        return answer.read()


def manifest_of(address: str) -> dict[str, Any]:
    """Load the manifest from the server."""
    return json.loads(get(address, "manifest.json"))


def png_of(pixels: np.ndarray) -> bytes:
    """Encode an image as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def settled(page: Page) -> np.ndarray:
    """The pixels of the map, once they no longer change."""
    seen = [page.images(MAP)[0]]

    def same() -> int:
        page.page.wait_for_timeout(150)
        now = page.images(MAP)[0]
        seen[:] = [*seen, now] if (now == seen[-1]).all() else [now]
        return len(seen)

    until(same, lambda count: count >= 4)
    return seen[-1]


Opener = Callable[..., Page]


@pytest.fixture
def opened(browser: Any) -> Iterator[Opener]:
    """Return a function that opens pages; they are closed and checked at the end of the test."""
    pages: list[Page] = []

    def opener(address: str, state: str = "", **options: Any) -> Page:
        pages.append(Page(browser, address, state, **options))
        return pages[-1]

    yield opener
    for page in pages:
        page.close()


@pytest.fixture
def alone(one_file: Path) -> str:
    """The URL of the page exported as one file, used without a network."""
    return one_file.as_uri()


@pytest.fixture(params=["served", "alone"])
def where(request: pytest.FixtureRequest) -> str:
    """The URL of the page: served, and exported as one file without a network."""
    return str(request.getfixturevalue(request.param))


@pytest.fixture
def note(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Return a function that prints a measurement to the terminal."""

    def noted(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {text}", end="")

    return noted
