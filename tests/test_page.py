"""The HTML page of a report: its contents, escaping, and independence of other files."""

import itertools
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_maker import LONG, facts, made_up, quantity

from vaelab.errors import OutputError
from vaelab.evaluation.formatting import rounded
from vaelab.evaluation.page import page_html, save_page
from vaelab.evaluation.page.axes import Scale, shortened, span
from vaelab.evaluation.page.figure import figure
from vaelab.evaluation.page.markup import Html, joined, tag
from vaelab.evaluation.report import SCHEMA, SECTIONS, Report
from vaelab.evaluation.results import Bars, Lines, Matrix, Plot, Points, Section, Series, Sheet


class Outline(HTMLParser):
    """Elements and texts of a page; fails on unclosed or wrongly nested elements."""

    EMPTY = ("meta", "link", "img")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and data.strip():
            self.texts.setdefault(self.open[-1], []).append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.elements if tag == name]


@pytest.fixture(scope="module")
def page() -> str:
    return page_html(made_up())


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    return Outline(page)


def test_it_needs_no_script_and_nothing_from_elsewhere(page: str, outline: Outline) -> None:
    assert not outline.all("script")
    assert not [name for _, attributes in outline.elements for name in attributes if name.startswith("on")]
    for name, attributes in outline.elements:
        for key in ("src", "href", "srcset", "data", "action"):
            value = attributes.get(key)
            assert value is None or value.startswith(("#", "data:")), (name, value)
    assert not re.search(r"url\(|@import", page)
    policy = [attributes["content"] for attributes in outline.all("meta") if "http-equiv" in attributes]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_every_link_leads_to_a_place_on_the_page(outline: Outline) -> None:
    places = [attributes["id"] for _, attributes in outline.elements if "id" in attributes]
    assert len(places) == len(set(places))
    targets = {attributes["href"] for attributes in outline.all("a")}
    assert targets == {f"#{key}" for key in ("likelihood", "agreement", "samples", "style")}
    assert targets <= {f"#{place}" for place in places}


def test_what_it_shows_cannot_break_it(page: str, outline: Outline) -> None:
    assert "A second sentence says what that is beside: &lt;script&gt;alert('nothing')&lt;/script&gt;." in page
    assert outline.texts["h1"] == ["cvae on strokes & <others>"]
    assert "3 &lt; 4 &amp; &lt;b&gt;5&lt;/b&gt;" in page
    quoted = figure(Bars("k", 'A "quoted" title', "x", "y", ("a",), [1.0]), "k", says="It's <so>.")
    assert 'aria-label="A &quot;quoted&quot; title. y of 1 x; the largest, a: 1. It&#x27;s &lt;so&gt;."' in quoted


def test_headings_are_in_order(outline: Outline) -> None:
    levels = [int(name[1]) for name, _ in outline.elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_every_picture_is_told_in_words(outline: Outline) -> None:
    drawn = [attributes for attributes in outline.all("svg") if attributes.get("role") == "img"]
    assert len(drawn) == 4 + 6 + 3
    sheets = outline.all("img")
    assert len(sheets) == 2
    told = [str(one["aria-label"]) for one in drawn] + [str(one["alt"]) for one in sheets]
    assert told[0] == (
        "The bound over K. nats per image over K, draws of z per image; bound: 102 to 98.01. "
        "On average, −log p(x) of an image is at most 98.23 ± 0.08 nats (K = 500, 10,000 images)."
    )
    assert f"36 images in 3 rows. Rows: asked for 3, nearest, {LONG}. FID is 3.2." in told[-2]
    assert all(len(text) > 20 for text in told)
    others = [attributes for attributes in outline.all("svg") if attributes.get("role") != "img"]
    assert all(attributes["aria-hidden"] == "true" for attributes in others)


def test_a_table_has_headers_and_a_caption(outline: Outline) -> None:
    assert len(outline.all("table")) == len(outline.all("caption")) > 6
    assert {attributes["scope"] for attributes in outline.all("th")} == {"col", "row"}


def test_every_figure_has_its_error_unit_count_yardstick_and_definition(page: str) -> None:
    row = re.search(r"<summary>bound</summary>.*?</tr>", page)
    assert row is not None
    for part in ("<b>98.234</b>", " ± 0.083", " nats per image", "lower is better", ">10,000<", "one draw", ">102.2<"):
        assert part in row[0], part
    assert "<p>What bound is. Lower is better.</p>" in row[0]
    report = made_up()
    definitions = page[page.index('class="definitions"') :]
    for section in report.sections:
        for one in section.quantities:
            assert joined(one.definition) in definitions
    assert re.search(r"<summary>not had</summary>.*?<b>–</b>(?!.{0,20}±)", page)


def test_the_top_says_what_was_measured(page: str) -> None:
    top = re.sub("<[^>]*>", "|", page[page.index("<header") : page.index("</header>")])
    for text in (
        "Conditional variational autoencoder, 7 latent dimensions, 1,234,567 weights",
        "grey images of 28×28, 3 classes",
        "10,000 test images of strokes &amp; &lt;others&gt;",
        "Likelihood bernoulli, binarised once.",
        "K = 500, seed 0",
        "3 May 2026, 14:05 UTC with vaelab 0.1.0",
        "98.234",
        "± 0.083 nats per image",
    ):
        assert f"|{text}|" in top, text
    assert "quick" not in top
    assert "Run|" not in top


def test_a_quick_look_and_the_run_are_told() -> None:
    settings = {"importance_samples": 50, "quick": True, "seed": 3}
    run = {"name": "mine", "source": "mnist", "same_data": False, "trained_for": "90 s", "network": "conv"}
    versus = {"name": "kmnist", "fingerprint": "c" * 64}
    page = page_html(Report(facts(settings=settings, run=run, versus=versus), ()))
    assert "Quick evaluation: fewer images" in page
    assert "K = 50, seed 3, quick" in page
    assert "mnist, with a budget of 90 s: not the data measured on" in page
    assert ", conv, 7 latent" in page
    assert "<dt>Outliers</dt><dd>kmnist</dd>" in page
    same = page_html(Report(facts(run=run | {"same_data": True}), ()))
    assert "mnist, with a budget of 90 s: the same data" in same


def test_a_section_left_out_says_why(page: str) -> None:
    assert "<strong>Left out: </strong>it needs grey images of at least 16×16, and got 8×8</p>" in page


def test_the_same_report_is_the_same_page(page: str) -> None:
    assert page_html(made_up()) == page
    assert len(page) < 600_000


def test_a_page_is_written_whole(tmp_path: Path, page: str) -> None:
    save_page(made_up(), tmp_path / "new" / "report.html")
    assert (tmp_path / "new" / "report.html").read_text(encoding="utf-8") == page
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot write .*report\.html"):
        save_page(made_up(), tmp_path / "file" / "report.html")


EMPTY = np.zeros((0, 2))
SQUARE = np.array([[math.nan, math.nan], [math.nan, math.nan]])


@pytest.mark.parametrize(
    ("plot", "says"),
    [
        (Lines("k", "No line", "x", "y", ()), "no finite values"),
        (Lines("k", "Log of nothing", "x", "y", (Series("a", [0.0, -1.0], [1.0, 2.0]),), log_x=True), "no finite"),
        (Lines("k", "Flat", "x", "y", (Series("a", [1.0, 2.0], [5.0, 5.0], [math.nan, 0.1]),)), "Flat"),
        (Lines("k", "Infinite", "x", "y", (Series("a", [1.0, 2.0], [math.inf, 5.0]),)), "∞"),
        (Bars("k", "No bar", "x", "y", (), []), "No bar"),
        (Bars("k", "All below", "x", "y", ("a", "b"), [-1.0, -2.0]), "−2"),
        (Bars("k", "All NaN, long", "x", "y", ("a long name", "b"), [math.nan, math.nan]), "–"),
        (Matrix("k", "NaN", "a", "b", ("x", "y"), SQUARE), "The darkest cells are –."),
        (Matrix("k", "Zeros", "a", "b", ("x", "y"), np.zeros((2, 2))), "The darkest cells are 0."),
        (Points("k", "None", "x", "y", ()), "no finite values"),
        (Points("k", "Empty", "x", "y", (("a", EMPTY),), rings=True), "no finite values"),
        (Points("k", "One", "x", "y", (("a", np.array([[1.0, 1.0]])),), diagonal=True), "1 points"),
        (Sheet("k", "No rows", ()), "No images."),
        (Sheet("k", "An empty row", (np.zeros((0, 4, 4), np.uint8), np.zeros((1, 4, 4), np.uint8)), ("a", "b")), "img"),
    ],
    ids=lambda value: value.title if not isinstance(value, str) else "",
)
def test_a_plot_of_nothing_is_drawn_all_the_same(plot: Plot, says: str) -> None:
    drawn = figure(plot, "k")
    Outline(drawn)
    assert says in drawn
    assert "nan" not in drawn.lower().replace(plot.title.lower(), "")


def test_a_large_matrix_is_one_picture_and_a_small_one_its_cells() -> None:
    names = tuple(str(index) for index in range(21))
    large = figure(Matrix("k", "t", "a", "b", names, np.eye(21)), "k")
    assert large.count("<image ") == 1
    assert 'class="cell"' not in large
    small = figure(Matrix("k", "t", "a", "b", names[:2], np.array([[0.25, 1.0], [0.0, 0.5]])), "k")
    assert re.findall(r'class="cell" fill-opacity="([\d.]+)"', small) == ["0.50", "1.00", "0.00", "0.71"]
    signed = figure(Matrix("k", "t", "a", "b", names[:2], np.array([[0.25, 1.0], [0.0, -0.5]])), "k")
    assert re.findall(r'class="(cell[ a-z]*)" fill-opacity="([\d.]+)"', signed) == [
        ("cell", "0.25"),
        ("cell", "1.00"),
        ("cell", "0.00"),
        ("cell minus", "0.50"),
    ]


def test_a_line_is_drawn_where_it_lies() -> None:
    drawn = figure(Lines("k", "t", "x", "y", (Series("a", [0.0, 1.0, 2.0], [0.0, 10.0, 5.0]),)), "k")
    path = re.search(r'd="([^"]*)" class="line c0"', drawn)
    assert path is not None
    (x0, y0), (x1, y1), (x2, y2) = ([float(part) for part in pair.split()] for pair in re.split("[ML]", path[1])[1:])
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.11)
    assert y0 - y1 == pytest.approx(2 * (y0 - y2), abs=0.2)
    assert y1 < y2 < y0


def test_a_cloud_is_thinned_and_says_so() -> None:
    drawn = figure(Points("k", "t", "x", "y", (("a", np.random.default_rng(0).normal(size=(10_000, 2))),)), "k")
    assert "One in 4 of 10,000 points is shown." in drawn
    assert drawn.count("h0") == 2500


def test_crossed_out_bars_are_named() -> None:
    drawn = figure(Bars("k", "t", "x", "y", ("a", "b", "c"), [1.0, 0.1, 2.0], frozenset({1})), "k")
    assert "Crossed out: b." in drawn
    assert drawn.count('class="cross"') == drawn.count('class="bar hollow"') == 1


def test_the_main_figures_are_at_the_top() -> None:
    nats = (quantity("distortion", 60.0, better="lower"), quantity("bound", 90.0, error=1.0, better="lower"))
    sections = [Section("likelihood", "A", (), nats), Section("leakage", "B", (), (quantity("dense_probe", 21.5),))]
    cards = r'<span class="of">(.*?)</span><span class="large">(.*?)</span>'
    both = re.findall(cards, page_html(Report(facts(), tuple(sections))))
    assert both == [("bound", "90.0"), ("dense probe", "21.50")]
    sections[0] = Section("likelihood", "A", (), nats[:1])
    assert re.findall(cards, page_html(Report(facts(), tuple(sections))))[0] == ("distortion", "60")


def test_long_captions_stand_below_their_own_images() -> None:
    images = np.zeros((3, 8, 6), np.uint8)
    captions = (("asked 9, read 7: 93 %", "", "b"), ("c",))
    one = figure(Sheet("k", "Worst", (images,), (), captions[:1]), "k")
    Outline(one)
    assert re.findall('alt="([^"]*)"', one) == ["asked 9, read 7: 93 %", "Worst", "b"]
    assert one.count("<li>") == 3
    assert 'width="64" height="85"' in one
    two = figure(Sheet("k", "Pairs", (images, images[:1]), ("drawn", "near"), captions), "k")
    Outline(two)
    assert re.findall('<th scope="row">(.*?)</th>', two) == ["drawn", "near"]
    assert re.findall('alt="([^"]*)"', two) == ["asked 9, read 7: 93 %", "drawn", "b", "c"]


def test_a_line_is_ticked_where_it_was_measured() -> None:
    drawn = figure(Lines("k", "t", "x", "y", (Series("a", [250.0, 500.0, 1000.0], [3.0, 2.0, 1.0]),), log_x=True), "k")
    assert re.findall(r'text-anchor="middle"[^>]*>([^<]*)<', drawn) == ["250", "500", "1,000", "x"]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1.0, 200.0], ["1", "200"]),
        ([98.5, 100.0], ["98.5", "100.0"]),
        ([0.5, -0.001], ["0.50", "0.00"]),
        ([0.0081, 0.0062], ["0.0081", "0.0062"]),
        ([1234.5, 0.5], ["1,234", "0"]),
    ],
)
def test_bars_have_digits_enough_to_differ(values: list[float], texts: list[str]) -> None:
    drawn = figure(Bars("k", "t", "x", "y", ("a", "b"), values), "k")
    assert re.findall(r'class="small"[^>]*>([^<]*)<', drawn) == texts


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (98.2344, 0.0234, "98.234 ± 0.023"),
        (98.2, 0.0996, "98.20 ± 0.10"),
        (1234.5, 123, "1,230 ± 120"),
        (1234.5, 12.3, "1,234 ± 12"),
        (-3.14159, 0.2, "−3.14 ± 0.20"),
        (-0.001, 0.2, "0.00 ± 0.20"),
        (0.1, 2e-9, "1.000·10⁻¹ ± 2.0·10⁻⁹"),
        (7, 0, "7 ± 0"),
        (7, None, "7"),
        (0.123456, None, "0.123"),
        (12.3456, None, "12.35"),
        (12345.678, None, "12,346"),
        (0.00001234, None, "1.23·10⁻⁵"),
        (-123456789.1, None, "−1.235·10⁸"),
        (math.nan, 0.1, "–"),
        (2.5, math.nan, "2.500"),
        (math.inf, None, "∞"),
        (-math.inf, None, "−∞"),
    ],
)
def test_a_figure_has_the_digits_that_its_error_bears(value: float, error: float | None, text: str) -> None:
    assert rounded(value, error) == text


reals = st.floats(-1e9, 1e9, allow_nan=False)


@given(reals, reals)
def test_ticks_are_within_the_scale_and_differ(one: float, other: float) -> None:
    low, high = span([one, other])
    assert low < high
    ticks = Scale(low, high, 0, 100).ticks()
    assert 2 <= len(ticks) <= 7
    assert all(low - 1e-6 * (high - low) <= value <= high + 1e-6 * (high - low) for value, _ in ticks)
    if high - low > 1e-3 * max(abs(low), abs(high)):
        assert len({text for _, text in ticks}) == len(ticks)


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6))
def test_ticks_of_a_logarithm_are_within_the_scale(one: float, other: float) -> None:
    low, high = span([one, other, 0.0, math.nan], log=True)
    scale = Scale(low, high, 0, 100, log=True)
    ticks = [value for value, _ in scale.ticks()]
    assert ticks == sorted(ticks)
    assert all(-0.01 <= scale(value) <= 100.01 for value in ticks)


def test_long_names_keep_their_ends() -> None:
    assert shortened("class number 12", 14) == "class num…r 12"
    assert shortened("class number 1", 14) == "class number 1"
    assert len(shortened(LONG, 22)) <= 22


def test_markup_is_escaped_unless_it_is_markup() -> None:
    assert tag("p", "a < b", Html("<b>c</b>"), class_="x", aria_label='"', hidden=True, title=None, x=1.0) == (
        '<p class="x" aria-label="&quot;" hidden x="1">a &lt; b<b>c</b></p>'
    )


def test_every_key_of_the_report_is_documented() -> None:
    text = (Path(__file__).parent.parent / "docs" / "report.md").read_text(encoding="utf-8")
    assert f"`report.json`, schema {SCHEMA}" in text
    documented = set(re.findall(r"`([^`\n]+)`", text))
    by_name = ("sections", "quantities", "plots")

    def keys(value: object) -> set[str]:
        if isinstance(value, list):
            return set().union(*map(keys, value))
        if not isinstance(value, dict):
            return set()
        inner = [keys(part) if key not in by_name else keys(list(part.values())) for key, part in value.items()]
        return set(value).union(*inner)

    report = made_up().to_json()
    found = keys(report) | {one["kind"] for part in report["sections"].values() for one in part["plots"].values()}
    assert len(found) > 50
    assert found - documented == set()
    assert set(SECTIONS) - documented == set()


def test_a_main_figure_says_what_it_is() -> None:
    section = Section("leakage", "B", (), (quantity("dense_probe", 55.1, unit="%", better="lower"),))
    page = page_html(Report(facts(), (section,)))
    card = re.search(r'<a href="#leakage" class="card">.*?</a>', page)
    assert card is not None
    assert "labels predicted from z alone" in card[0]
    assert "lower is better" in card[0]
    assert ">55.10\u00a0%<" in card[0]
    assert "report is of one model" in page


def test_a_parameter_is_an_option_in_the_reason_of_a_section_left_out() -> None:
    section = Section("outliers", "Outliers", left_out="No outliers were given: pass another data source as `versus`.")
    assert "pass another data source as --versus." in page_html(Report(facts(), (section,)))
