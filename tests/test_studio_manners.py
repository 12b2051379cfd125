"""Layout, touch, keyboard, accessibility and reduced motion of the page."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from studio_page import (
    CURRENT,
    DESK,
    MAP,
    NARROW,
    PHONE,
    REBUILT,
    SEEN,
    SHEET,
    STRIP,
    Models,
    Opener,
    Page,
    decoded,
    manifest_of,
    state,
    until,
)

pytestmark = pytest.mark.browser

VIEWS = ("view=play", *(f"view=story&step={step}" for step in range(1, 8)), "view=report", "view=play&kind=vae")
POINT = np.array([0.7, -0.4, 0.2, -1.1, 0.5, 0.0, 0.9])
AXE = Path(__file__).parents[1] / "studio" / "node_modules" / "axe-core" / "axe.min.js"


def there(page: Page, view: str) -> Page:
    """Wait until a view is complete."""
    if "play" in view:
        page.ready()
        page.page.locator("[data-testid=grid] canvas:not(.empty)").first.wait_for()
    elif "story" in view:
        page.page.locator("[aria-current=step]", has_text=view[-1]).wait_for()
        page.page.locator(".stage canvas, .stage svg").first.wait_for()
    else:
        page.page.locator(".cards").wait_for()
    page.page.wait_for_timeout(100)
    return page


# Layout.

SMALL_TEXT = """() => {
  const small = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let count = 0;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const one = node.parentElement;
    if (!node.textContent.trim() || !one.checkVisibility() || one.closest('.unseen, script, option')) continue;
    count++;
    const size = parseFloat(getComputedStyle(one).fontSize);
    if (size < 12) small.push([size, one.tagName, node.textContent.trim()]);
  }
  return [count, small];
}"""

SMALL_TARGETS = """() => {
  const small = [];
  let count = 0;
  const targets = "button, select, textarea, summary, a[href], input, [role=slider], [tabindex='0']";
  for (const one of document.querySelectorAll(targets)) {
    if (!one.checkVisibility() || one.closest('.unseen, p, .skip') && one.tagName === 'A' || one.matches('.unseen')) continue;
    const box = one.getBoundingClientRect();
    count++;
    if (box.width < 43.5 || box.height < 43.5)
      small.push([one.tagName, one.getAttribute('aria-label') || one.textContent.trim().slice(0, 30), box.width, box.height]);
  }
  return [count, small];
}"""


COMPLAINTS = """axe.run(document, {resultTypes: ['violations'], rules: {'target-size': {enabled: true}}}).then(found => [
  found.passes.length,
  found.violations.map(one => [one.id, one.help, one.nodes.slice(0, 3).map(
    node => node.html.slice(0, 160) + ' | ' + node.failureSummary)]),
])"""


@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_layout_and_accessibility_of_each_view(opened: Opener, served: str, size: tuple[int, int]) -> None:
    """Nothing overflows, no text or target is too small, and axe-core finds no violation in the light and dark schemes."""
    page = there(opened(served, size=size, has_touch=size == PHONE), VIEWS[0])
    if AXE.is_file():
        page.page.evaluate(f"{AXE.read_text(encoding='utf-8')};0")
    for view in VIEWS:
        page.page.evaluate("view => { location.hash = view }", view)
        there(page, view)
        assert page.page.evaluate(NARROW) == [0, []], view
        count, small = page.page.evaluate(SMALL_TEXT)
        assert (count > 10, small) == (True, []), view
        count, small = page.page.evaluate(SMALL_TARGETS)
        assert (count > 5, small) == (True, []), view
        for scheme in ("light", "dark") if AXE.is_file() else ():
            page.page.emulate_media(color_scheme=scheme)
            page.page.wait_for_timeout(100)
            passed, complaints = page.page.evaluate(COMPLAINTS)
            assert (passed > 10, complaints) == (True, []), (view, scheme)
    if not AXE.is_file():
        pytest.skip("axe-core is not installed: make studio")


def test_a_desk_shows_everything_at_once(opened: Opener, served: str) -> None:
    """At 1280×800, the sheet, the labels, the map and the ten results are all within the window."""
    page = opened(served).ready()
    lowest = [
        (name, max(box["y"] + box["height"] for box in [page.box(selector)]))
        for name, selector in {
            "sheet": SHEET,
            "labels": "[aria-label='Label to generate']",
            "map": MAP,
            "results": "[aria-label='The same point with every label']",
            "current": CURRENT,
        }.items()
    ]
    assert max(bottom for _, bottom in lowest) <= DESK[1], lowest
    assert page.box(MAP)["width"] >= 420
    assert page.page.locator(STRIP).count() == 10


# A phone.


def touch(page: Page, points: list[tuple[float, float]]) -> Callable[[], None]:
    """Put a finger down and move it through the points; returns a function that lifts it."""
    session = page.context.new_cdp_session(page.page)

    def send(kind: str, *points: tuple[float, float]) -> None:
        fingers = [{"x": x, "y": y} for x, y in points]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})

    send("touchStart", points[0])
    for point in points[1:]:
        send("touchMove", point)
    return lambda: send("touchEnd")


ON_TOP = """([query, x, y]) => document.elementFromPoint(x, y)?.closest(query) !== null"""


def test_a_phone_by_touch(opened: Opener, served: str, models: Models) -> None:
    page = opened(served, state(np.zeros(7), label=2), size=PHONE, has_touch=True, is_mobile=True).ready()
    page.page.locator(STRIP).nth(5).tap()
    page.shows(decoded(models["cvae"], np.zeros(7), 5))
    page.page.locator(MAP).evaluate("map => map.scrollIntoView({block: 'end'})")
    page.page.wait_for_timeout(100)
    middle = page.at((0.0, 0.0))
    scale = page.box(MAP)["width"] / 6.8
    path = [(middle[0] + step * scale / 4, middle[1] + step * scale / 8) for step in range(5)]
    before = page.page.evaluate("scrollY")
    assert page.page.evaluate(ON_TOP, [MAP, *path[0]])
    lift = touch(page, path)
    z = page.z()
    page.shows(decoded(models["cvae"], z, 5))  # while the finger is down
    shown = page.box(CURRENT)
    assert shown["y"] >= 0
    assert shown["y"] + shown["height"] <= PHONE[1]
    for x, y in ((0.1, 0.1), (0.9, 0.1), (0.5, 0.5), (0.1, 0.9), (0.9, 0.9)):
        place = [shown["x"] + x * shown["width"], shown["y"] + y * shown["height"]]
        assert page.page.evaluate(ON_TOP, [CURRENT, *place]), place
    lift()
    order = manifest_of(served)["models"]["cvae"]["order"]
    assert z[order[:2]] == pytest.approx([1.0, -0.5], abs=0.05)
    assert page.page.evaluate("scrollY") == before  # a finger on the map does not scroll the page
    page.page.locator(SHEET).evaluate("sheet => sheet.scrollIntoView({block: 'center'})")
    box = page.box(SHEET)
    x, y = box["x"] + 0.5 * box["width"], box["y"]
    assert page.page.evaluate(ON_TOP, [SHEET, x, y + 0.5 * box["height"]])
    touch(page, [(x, y + share * box["height"]) for share in (0.2, 0.4, 0.6, 0.8)])()
    page.page.locator(REBUILT).wait_for()
    assert (page.grey(SEEN) > 128).sum() > 20


TEXTS = """() => [...document.querySelectorAll('#app *')].flatMap(one => [
  ...[...one.childNodes].filter(node => node.nodeType === Node.TEXT_NODE).map(node => node.textContent.trim()),
  ...['title', 'aria-label', 'aria-valuetext', 'placeholder'].map(name => one.getAttribute(name)),
]).filter(text => text)"""

KEYS = re.compile(r"\b(keys?|keyboard|press|esc|arrows?|drop|dropped|click)\b", re.IGNORECASE)


@pytest.mark.parametrize("size", [PHONE, (390, 844)])
def test_a_phone_mentions_neither_keys_nor_dropping_files(opened: Opener, served: str, size: tuple[int, int]) -> None:
    page = opened(served, size=size, has_touch=True, is_mobile=True)
    for view in VIEWS:
        page.page.evaluate("view => { location.hash = view }", view)
        there(page, view)
        texts = page.page.evaluate(TEXTS)
        assert len(texts) > 20
        assert [text for text in texts if KEYS.search(text)] == [], view
        assert page.page.locator("kbd").count() == 0, view
    page.page.get_by_role("button", name="Help").tap()
    assert [text for text in page.page.evaluate(TEXTS) if KEYS.search(text)] == []


@pytest.mark.parametrize("size", [PHONE, (390, 844), DESK], ids=["phone", "large phone", "desk"])
def test_a_dialog_explains_the_terms(opened: Opener, served: str, size: tuple[int, int]) -> None:
    """It is as wide as the window at most, its text is large enough, and its last term can be scrolled to."""
    page = opened(served, size=size, has_touch=size != DESK).ready()
    page.page.get_by_role("button", name="Help").click()
    dialog = page.page.get_by_role("dialog")
    for term in ("nats", "σ", "tiles", "principal plane", "drifting"):
        name = dialog.get_by_text(term, exact=True)
        name.scroll_into_view_if_needed()
        box = name.bounding_box()
        assert box is not None
        assert 0 <= box["x"] < box["x"] + box["width"] <= size[0]
        assert 0 <= box["y"] < box["y"] + box["height"] <= size[1]
    assert page.page.evaluate(NARROW) == [0, []]
    assert page.page.evaluate(SMALL_TEXT)[1] == []
    assert dialog.evaluate("one => one.scrollWidth - one.clientWidth") == 0
    if AXE.is_file():
        page.page.evaluate(f"{AXE.read_text(encoding='utf-8')};0")
        for scheme in ("light", "dark"):
            page.page.emulate_media(color_scheme=scheme)
            page.page.wait_for_timeout(100)
            assert page.page.evaluate(COMPLAINTS)[1] == [], scheme
    page.click("Close")
    dialog.wait_for(state="hidden")


def test_two_fingers_zoom_the_map(opened: Opener, served: str) -> None:
    page = opened(served, state(np.zeros(7)), size=PHONE, has_touch=True, is_mobile=True).ready()
    page.page.locator(MAP).evaluate("map => map.scrollIntoView({block: 'end'})")
    x, y = page.at((0.0, 0.0))
    session = page.context.new_cdp_session(page.page)
    for kind, away in (("touchStart", 30), ("touchMove", 60), ("touchMove", 90)):
        fingers = [{"x": x - away, "y": y, "id": 0}, {"x": x + away, "y": y, "id": 1}]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    until(lambda: page.page.get_by_label("Show the whole map").is_enabled(), bool)
    touch(page, [(x, y), page.at((1.5, 0.0))])()
    across = manifest_of(served)["models"]["cvae"]["order"][0]
    assert page.z()[across] == pytest.approx(0.5, abs=0.1)  # a third: it is three times nearer


# Keyboard only.


def test_the_page_works_by_keyboard_only(opened: Opener, served: str, models: Models) -> None:
    page = opened(served, state(POINT)).ready()
    press, model = page.page.keyboard.press, models["cvae"]
    order = manifest_of(served)["models"]["cvae"]["order"]
    focused = lambda: page.page.evaluate("document.activeElement.getAttribute('aria-label')")  # noqa: E731

    press("Tab")
    assert page.page.evaluate("document.activeElement.textContent") == "Skip to the content"
    press("Enter")
    assert page.page.evaluate("document.activeElement.id") == "main"
    press("3")
    page.shows(decoded(model, POINT, 3))
    press("m")
    assert focused() == "Map of the latent space"
    for _ in range(3):
        press("ArrowRight")
    z = POINT.copy()
    z[order[0]] += 0.3
    assert page.z() == pytest.approx(z, abs=2e-4)
    page.shows(decoded(model, z, 3))
    press("Enter")
    assert until(page.state, lambda found: found.get("pin") == "1")
    press("Escape")
    until(page.state, lambda found: "pin" not in found)
    press("+")
    assert page.page.get_by_label("Show the whole map").is_enabled()
    press("Home")
    assert page.page.get_by_label("Show the whole map").is_disabled()
    for name, key in (("]", "Home"), ("[", "End")):  # the first slider, then the last
        press(name)
        press(key)
    z = page.z()
    assert (z[order[0]], z[order[6]]) == (-3.0, 3.0)
    with page.page.expect_download():
        press("s")

    press("d")
    assert focused() == "Draw a digit here"
    press("Space")
    for _ in range(12):
        press("ArrowDown")
    press("Space")
    page.page.locator(REBUILT).wait_for()
    assert (page.grey(SHEET) < 128).sum() > 2000
    press("u")
    page.page.locator(REBUILT).wait_for(state="detached")

    press("t")
    page.page.locator("#story-title").wait_for()
    press("ArrowRight")
    press("ArrowRight")
    page.page.get_by_role("button", name="Draw z").wait_for()
    tabbed(page, "Draw z")
    wall = "canvas[aria-label='Images decoded from draws of the posterior']"
    # room for six images, of which the automatic first draw fills one
    before = until(
        lambda: page.images(wall), lambda images: images.shape[1:3] == (28, 173) and images[..., :28, 0].any()
    )
    assert not before[..., 29:, :].any()
    press("Enter")
    until(lambda: page.images(wall), lambda images: images[..., 29:57, 0].any())
    press("r")
    page.page.locator(".cards").wait_for()
    press("p")
    page.ready()
    press("?")
    dialog = page.page.get_by_role("dialog")
    dialog.get_by_text("random point", exact=True).wait_for()
    press("Escape")
    dialog.wait_for(state="hidden")
    page.page.get_by_role("button", name="Help").focus()
    press("Enter")
    dialog.get_by_text("principal plane", exact=True).wait_for()
    press("Escape")
    assert focused() == "Help: terms of this page"


def tabbed(page: Page, name: str) -> None:
    """Press Tab until the element with this text has the focus."""
    for _ in range(200):
        page.page.keyboard.press("Tab")
        if page.page.evaluate("document.activeElement.textContent.trim()") == name:
            return
    pytest.fail(f"Tab never reaches {name}")


REACHED = """() => {
  const one = document.activeElement;
  one.dataset.reached = '1';
  const ringed = element => element && ((style => style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0 ||
    style.boxShadow !== 'none')(getComputedStyle(element)));
  return [one.tagName, one.textContent.trim().slice(0, 30) || one.getAttribute('aria-label'),
    ringed(one) || ringed(one.parentElement) || getComputedStyle(one, '::after').boxShadow !== 'none'];
}"""
MISSED = """() => [...document.querySelectorAll('button, select, input, textarea, summary, a[href], [tabindex="0"]')]
  .filter(one => one.checkVisibility() && !one.disabled && one.tabIndex >= 0 && !one.dataset.reached)
  .map(one => one.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("view", [VIEWS[0], VIEWS[1], VIEWS[8], VIEWS[9]])
def test_tab_reaches_everything_with_a_visible_focus(opened: Opener, served: str, view: str) -> None:
    page = there(opened(served, view), view)
    hidden = []
    for _ in range(250):
        page.page.keyboard.press("Tab")
        tag, name, ringed = page.page.evaluate(REACHED)
        if tag == "BODY":
            break
        if not ringed:
            hidden.append((tag, name))
    assert page.page.evaluate(MISSED) == []
    assert hidden == []


def test_animation_until_the_first_interaction_unless_reduced(opened: Opener, served: str) -> None:
    still = opened(served).ready()
    moving = opened(served, reduced_motion="no-preference").ready()
    before = moving.grey()
    until(moving.grey, lambda now: np.abs(now.astype(int) - before).max() > 20)
    moving.page.keyboard.press("Shift")
    moving.page.wait_for_timeout(200)
    before = moving.grey()
    first = still.grey()
    moving.page.wait_for_timeout(600)
    assert np.array_equal(moving.grey(), before)
    assert np.array_equal(still.grey(), first)
