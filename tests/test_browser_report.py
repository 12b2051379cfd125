"""The report in a browser: nothing is fetched, everything is visible, on phone and desktop widths."""

from pathlib import Path
from typing import Any

import pytest
from report_maker import made_up

from vaelab.evaluation.page import save_page

pytestmark = pytest.mark.browser

PHONE, DESK = (360, 740), (1280, 900)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path: Path = tmp_path_factory.mktemp("page") / "report.html"
    save_page(made_up(), path)
    return path.as_uri()


def opened(
    browser: Any, address: str, size: tuple[int, int], scheme: str = "light"
) -> tuple[Any, list[str], list[str]]:
    """The page, its requests, and its console messages."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    requests: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address, wait_until="load")
    return page, requests, said


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_nothing_is_fetched_and_all_is_seen(browser: Any, address: str, size: tuple[int, int], scheme: str) -> None:
    page, requests, said = opened(browser, address, size, scheme)
    for details in page.query_selector_all("details"):
        details.evaluate("one => { one.open = true }")
    assert [url for url in requests if url != address and not url.startswith("data:")] == []
    assert requests[0] == address
    assert said == []
    assert page.evaluate("[...document.images].map(one => one.complete && one.naturalWidth)").count(0) == 0
    assert len(page.query_selector_all("img")) == 2
    boxes = page.evaluate(
        "[...document.querySelectorAll('svg.plot, img')].map(one => { const box = one.getBoundingClientRect();"
        " return [box.width, box.height] })"
    )
    assert len(boxes) == 15
    assert all(width >= 200 and height >= 60 for width, height in boxes), boxes
    drawn = page.evaluate(
        "[...document.querySelectorAll('svg.plot')].map(one => { const box = one.getBBox(); return box.width * box.height })"
    )
    assert min(drawn) > 10_000
    page.close()


@pytest.mark.parametrize("size", [PHONE, DESK, (320, 600), (768, 1000)], ids=lambda size: str(size[0]))
def test_it_is_never_moved_sideways(browser: Any, address: str, size: tuple[int, int]) -> None:
    page, _, _ = opened(browser, address, size)
    for is_open in (False, True):
        page.evaluate("to => document.querySelectorAll('details').forEach(one => { one.open = to })", is_open)
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    columns = page.evaluate(
        "getComputedStyle(document.querySelector('.plots')).gridTemplateColumns.split(' ').length",
    )
    assert columns == (2 if size == DESK else 1)
    page.close()


def test_a_definition_opens_when_it_is_asked_for(browser: Any, address: str) -> None:
    page, _, _ = opened(browser, address, PHONE)
    definition = page.get_by_text("What bound is. Lower is better.").first
    assert not definition.is_visible()
    page.get_by_text("bound", exact=True).nth(1).click()
    assert definition.is_visible()
    page.keyboard.press("Enter")  # the focus is on it: it closes by key as well
    assert not definition.is_visible()
    page.close()


def test_paper_has_all_definitions_and_no_dark(browser: Any, address: str) -> None:
    page, _, _ = opened(browser, address, DESK, "dark")
    appendix = page.locator(".definitions")
    assert not appendix.is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 28)"
    page.emulate_media(media="print")
    assert appendix.is_visible()
    for section in made_up().sections:
        for one in section.quantities:
            assert appendix.get_by_text(one.definition).is_visible(), one.key
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(29, 34, 39)"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgba(0, 0, 0, 0)"
    assert len(page.pdf(format="A4")) > 50_000
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_told_from_its_ground(browser: Any, address: str, scheme: str) -> None:
    """A contrast of at least 4.5 to 1 (WCAG 2.2, 1.4.3) for all text of the page and its plots."""
    page, _, _ = opened(browser, address, DESK, scheme)
    least = page.evaluate(CONTRAST)
    assert least["ratio"] >= 4.5, least
    page.close()


CONTRAST = """() => {
  const levels = colour => colour.match(/[\\d.]+/g).map(Number);
  const luminance = colour => {
    const [r, g, b] = levels(colour).map(level => level / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = one => {
    for (; one; one = one.parentElement) {
      const colour = getComputedStyle(one).backgroundColor;
      if (!(levels(colour)[3] === 0)) return colour;
    }
  };
  let least = {ratio: 99};
  for (const one of document.querySelectorAll('body *')) {
    const own = [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
    if (!own || one.closest('title') || one.classList.contains('over')) continue;
    const style = getComputedStyle(one), inside = one.closest('svg');
    const [a, b] = [luminance(inside ? style.fill : style.color), luminance(ground(inside ? inside.parentElement : one))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < least.ratio) least = {ratio, text: one.textContent.slice(0, 40), kind: one.className.baseVal ?? one.className};
  }
  return least;
}"""
