"""The view Play: after each action, its pixels are those that Python decodes for the point and label."""

import io
import json
import re
import struct
import urllib.request

import numpy as np
import pytest
from PIL import Image
from studio_page import MAP, STRIP, Models, Opener, decoded, manifest_of, settled, state, until

from vaelab.evaluation.style import MEASURES

pytestmark = pytest.mark.browser

POINT = np.array([0.7, -0.4, 0.2, -1.1, 0.5, 0.0, 0.9])
CLIPBOARD = "navigator.clipboard.readText()"


# Labels, points and controls.


def test_labels_show_what_python_decodes(opened: Opener, where: str, models: Models) -> None:
    page = opened(where, state(POINT)).ready()
    pictures = decoded(models["cvae"], POINT, *range(10))
    apart = np.abs(pictures[:, None].astype(int) - pictures[None]).max((2, 3))
    assert (apart + 255 * np.eye(10) > 100).all()  # otherwise labels could be confused
    page.shows(pictures, STRIP)
    page.shows(pictures[:1])
    page.page.keyboard.press("3")
    page.shows(pictures[3:4])
    page.page.get_by_role("group", name="Label to generate").get_by_role("button", name="7").click()
    page.shows(pictures[7:8])
    page.page.locator(STRIP).nth(9).click()
    page.shows(pictures[9:])
    page.shows(pictures, STRIP)
    assert until(page.state, lambda found: found.get("label") == "9")["z"].split(",")[0] == "0.7"


def test_random_points_and_exact_copies_of_them(opened: Opener, served: str, models: Models) -> None:
    page = opened(served, "label=3", permissions=["clipboard-read", "clipboard-write"]).ready()
    first = manifest_of(served)["first"]["z"][0]
    page.shows(decoded(models["cvae"], np.array(first), 3))
    points: list[np.ndarray] = []
    for seed in (1, 2):
        page.page.keyboard.press("Space") if seed == 1 else page.click("Random point")
        until(page.state, lambda found, seed=seed: found.get("seed") == str(seed))
        page.page.get_by_role("button", name=re.compile("^(Copy z|Copied)$")).click()
        page.page.get_by_role("button", name="Copied").wait_for()
        before = points[-1].tolist() if points else []
        copied = until(lambda: json.loads(page.page.evaluate(CLIPBOARD)), lambda one, old=before: one["z"] != old)
        assert (copied["model"], copied["label"], len(copied["z"])) == ("cvae", "3", 7)
        points.append(np.array(copied["z"]))
        page.shows(decoded(models["cvae"], points[-1], 3))
    assert np.linalg.norm(points[1] - points[0]) > 0.5
    page.open("label=3&seed=2")  # a link gives the same point
    page.ready().shows(decoded(models["cvae"], points[1], 3))


def test_sliders_are_ordered_by_rate_and_move_the_point(opened: Opener, served: str, models: Models) -> None:
    page = opened(served, state(POINT, label=5)).ready()
    rates = np.array(manifest_of(served)["models"]["cvae"]["axes"]["rate"])
    order = np.argsort(-rates, kind="stable")
    names = page.page.locator(".sliders label").all_inner_texts()
    subscripts = "₀₁₂₃₄₅₆₇₈₉"
    assert [subscripts.index(name[1]) for name in names] == order.tolist()
    assert [float(name.split()[-2]) for name in names] == pytest.approx(rates[order], abs=0.006)
    page.page.keyboard.press("]")
    page.page.keyboard.press("End")
    page.page.keyboard.press("ArrowLeft")
    moved = POINT.copy()
    moved[order[0]] = 2.95
    assert page.z() == pytest.approx(moved, abs=1e-4)
    page.shows(decoded(models["cvae"], moved, 5))


def test_temperature_and_samples(opened: Opener, served: str, models: Models) -> None:
    page = opened(served, "seed=4&label=8&t=0").ready()
    middle = decoded(models["cvae"], np.zeros(7), 8)
    page.shows(middle)
    page.click("Sample")
    until(
        lambda: set(np.unique(page.grey())), lambda levels: levels == {0, 255}
    )  # samples of a Bernoulli are black or white
    sample = page.grey()
    assert (sample[middle > 250] == 255).mean() > 0.95
    assert (sample[middle < 5] == 0).mean() > 0.95
    page.page.get_by_text("Each pixel is sampled from its distribution given z (seed 4).").wait_for()
    page.click("Mean")
    page.shows(middle)


def test_the_grid_and_a_cell_of_it(opened: Opener, where: str, served: str, models: Models) -> None:
    page = opened(where).ready()
    points = np.array(manifest_of(served)["first"]["z"])
    model = models["cvae"]
    rows = np.concatenate([decoded(model, z, *range(10)) for z in points]).reshape(10, 10, 28, 28)
    page.shows(rows.swapaxes(0, 1).reshape(100, 28, 28), "[data-testid=grid] canvas")
    page.click("7, point 4")
    page.shows(rows[3, 7:8])
    page.shows(rows[3], STRIP)
    assert until(page.state, lambda found: "z" in found)["label"] == "7"
    assert page.z() == pytest.approx(points[3], abs=1e-4)
    page.click("Ten more →")
    page.click("2, point 1")
    until(lambda: (page.grey() == page.grey("[data-cell='20'] canvas")).all(), bool)
    assert not np.array_equal(page.grey(), rows[0, 2:3])
    assert until(page.state, lambda found: found.get("seed") == "1")["label"] == "2"


@pytest.mark.parametrize("times", [1, 8])
def test_a_picture_is_saved(opened: Opener, where: str, models: Models, times: int) -> None:
    page = opened(where, state(POINT, label=6)).ready()
    with page.page.expect_download() as waiting:
        page.click(f"PNG {times}×")
    with Image.open(waiting.value.path()) as saved:
        pixels = np.asarray(saved.convert("L"))
    expected = decoded(models["cvae"], POINT, 6)[0].repeat(times, 0).repeat(times, 1)
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= 1
    assert waiting.value.suggested_filename.endswith(f"-6-{times}x.png")


# The map.


def test_a_drag_on_the_map_decodes_the_point_under_it(opened: Opener, where: str, served: str, models: Models) -> None:
    page = opened(where, state(POINT, label=2)).ready()
    across, up = manifest_of(served)["models"]["cvae"]["order"][:2]
    page.drag((0.0, 0.0), (1.5, 1.0), (1.2, -0.8))
    z = page.z()
    wanted = POINT.copy()
    wanted[[across, up]] = 1.2, -0.8
    assert z == pytest.approx(wanted, abs=0.02)  # a pixel is 0.015 σ
    page.shows(decoded(models["cvae"], z, 2))
    page.shows(decoded(models["cvae"], z, *range(10)), STRIP)
    assert page.text("[data-testid=map-place]").count("σ") == 2
    page.page.keyboard.press("ArrowUp")
    wanted = z.copy()
    wanted[up] += 0.1
    assert page.z() == pytest.approx(wanted, abs=2e-4)


def test_a_click_pins_and_escape_unpins(opened: Opener, served: str) -> None:
    page = opened(served, state(POINT)).ready()
    page.drag((-0.5, 0.5))
    assert until(page.state, lambda found: found.get("pin") == "1")
    page.page.keyboard.press("Escape")
    assert until(page.state, lambda found: "pin" not in found)["z"]


def test_a_dot_shows_its_image(opened: Opener, served: str) -> None:
    """Hovering over an isolated dot shows its image from the sprite sheet."""
    facts = manifest_of(served)["models"]["cvae"]
    points = facts["points"]
    with urllib.request.urlopen(f"{served}bundle/{points['file']}") as answer:
        bytes_ = answer.read()
    count, width = points["count"], len(points["axes"]) + 2
    assert count == 10_000
    columns = points["scale"] * np.array(struct.unpack(f"<{count * width}h", bytes_[: 2 * count * width])).reshape(
        count, width
    )
    labels = np.frombuffer(bytes_[2 * count * width :], "<u2")
    places = columns[:, [points["axes"].index(axis) for axis in facts["order"][:2]]]
    near = np.sort(np.linalg.norm(places[:2000, None] - places[None], axis=2), axis=1)[:, 1]
    dot = int(np.where(np.abs(places[:2000]).max(1) < 2.9, near, 0).argmax())
    with urllib.request.urlopen(f"{served}bundle/{points['thumbs']}") as answer:
        sheet = np.asarray(Image.open(io.BytesIO(answer.read())).convert("L"))
    row, column = divmod(dot, points["thumbs_columns"])
    image = sheet[28 * row : 28 * (row + 1), 28 * column : 28 * (column + 1)]
    page = opened(served, state(POINT)).ready()
    page.page.locator(MAP).scroll_into_view_if_needed()
    card = page.page.get_by_test_id("map-card")
    assert card.count() == 0

    def hovered() -> int:
        page.page.mouse.move(*page.at((0.0, 3.2)))
        page.page.mouse.move(*page.at((places[dot, 0], places[dot, 1])))
        return card.count()

    until(hovered, lambda shown: shown == 1)  # the dots may not be loaded yet
    page.shows(image[None], "[data-testid=map-card] canvas", within=0)
    assert card.inner_text().startswith(str(labels[dot]))


def test_far_from_the_centre_the_page_says_so(opened: Opener, served: str) -> None:
    """On the map by its two axes, under the image by all of them: at 3.1 σ of 7 axes, most random points are as far out."""
    page = opened(served, state(np.zeros(7))).ready()
    assert page.page.get_by_test_id("map-outside").count() == 0
    page.drag((0.0, 0.0), (2.2, 2.2))
    assert page.text("[data-testid=map-outside]").startswith("Outside 2.5 σ: ")
    assert page.page.get_by_test_id("outside").count() == 0
    far = opened(served, state(np.full(7, 1.9))).ready()
    assert "99.7 %" in far.text("[data-testid=outside]")


def test_zoom_pan_and_the_plane(opened: Opener, served: str, models: Models) -> None:
    page = opened(served, state(np.zeros(7))).ready()
    across, up, third = manifest_of(served)["models"]["cvae"]["order"][:3]
    for _ in range(2):
        page.click("Zoom in")
    page.drag((0.0, 0.0), (1.8, -0.9))
    assert page.z()[[across, up]] == pytest.approx([1.8 / 2.25, -0.9 / 2.25], abs=0.02)
    page.page.keyboard.down("Shift")
    page.drag((0.0, 0.0), (0.9, 0.0))
    page.page.keyboard.up("Shift")
    page.drag((0.1, 0.1), (0.9, 0.0))
    assert page.z()[[across, up]] == pytest.approx([0.0, 0.0], abs=0.02)
    page.click("Show the whole map")
    page.page.mouse.move(*page.at((1.0, 1.0)))
    page.page.mouse.wheel(0, -400 * np.log(2))
    page.drag((0.0, 0.0), (1.0, 1.0))
    assert page.z()[[across, up]] == pytest.approx([1.0, 1.0], abs=0.02)  # the point under the pointer stays there
    page.click("Show the whole map")
    page.page.get_by_label("Horizontal axis").select_option(str(third))
    page.drag((0.0, 0.0), (-1.0, 0.0))
    z = page.z()
    assert z[[third, up]] == pytest.approx([-1.0, 0.0], abs=0.02)
    page.shows(decoded(models["cvae"], z, 0))
    page.page.get_by_text("The other 5 axes are held at the current z.").wait_for()


def test_tiles_are_behind_the_dots_and_labels_can_be_hidden(opened: Opener, served: str) -> None:
    page = opened(served, state(np.zeros(7))).ready()
    tiles = page.page.get_by_role("button", name="Tiles")
    assert tiles.get_attribute("aria-pressed") == "false"  # off until asked for
    bare = settled(page)
    page.click("Tiles")
    until(lambda: (settled(page) != bare).any(-1).mean(), lambda share: share > 0.1)
    page.click("Tiles")
    assert (settled(page) != bare).any(-1).mean() < 0.001
    page.page.get_by_role("group", name="Labels shown on the map").get_by_role("button", name="1").click()
    assert (settled(page) != bare).any(-1).mean() > 0.01


def test_the_map_of_a_conditional_model_says_why_its_colours_mix(opened: Opener, served: str) -> None:
    page = opened(served).ready()
    page.page.locator("#map-says", has_text="The colours mix because the decoder is given the label").wait_for()
    page.click("VAE")
    page.page.locator("#map-says", has_text="The colours mix").wait_for(state="detached")


# Axes.


def test_sliders_show_the_style_that_their_axis_carries(opened: Opener, served: str, models: Models) -> None:
    facts = manifest_of(served)["models"]["cvae"]
    styles, model = facts["styles"], models["cvae"]
    page = opened(served).ready()
    shown = page.page.locator(".sliders > div").all_inner_texts()
    marked = 0
    for name, measure in MEASURES.values():
        for text, axis in zip(shown, facts["order"], strict=True):
            r = styles[name][axis]
            expected = f"{name} (r = {'−' if r < 0 else ''}{abs(r):.2f})"
            assert (expected in text) == (abs(r) >= 0.3), (text, r)
            marked += abs(r) >= 0.3
        axis = int(np.abs(styles[name]).argmax())
        ends = [measure(decoded(model, end * np.eye(7)[axis], *range(10))).mean() for end in (-1.5, 1.5)]
        assert (ends[1] - ends[0]) * styles[name][axis] > 0
    assert marked >= 2


def test_every_axis_is_reachable_with_the_keyboard_and_on_the_map(opened: Opener, served: str, models: Models) -> None:
    order = manifest_of(served)["models"]["vae"]["order"]
    page = opened(served, "kind=vae&seed=1").ready()

    def focused() -> int:
        """The axis of the slider that has the focus; -1: none has."""
        name = page.page.evaluate("document.activeElement.labels?.[0]?.firstChild.textContent ?? ''").strip()
        digits = [str("₀₁₂₃₄₅₆₇₈₉".find(digit)) for digit in name[1:]]
        return int("".join(digits)) if name.startswith("z") else -1

    visited = []
    for _ in order:
        page.page.keyboard.press("]")
        page.page.wait_for_timeout(30)
        visited.append(focused())
    assert visited == order
    page.page.keyboard.press("End")
    assert page.z()[order[-1]] == pytest.approx(3)
    page.page.keyboard.press("]")
    until(focused, lambda axis: axis == order[0])
    page.click("More axes")
    page.page.locator(".turn", has_text=f"9–16 of {len(order)}").wait_for()
    page.page.get_by_label("Go to the axis with this number").fill(str(order[-3]))
    page.page.keyboard.press("Enter")
    until(focused, lambda axis: axis == order[-3])
    page.page.get_by_label("Horizontal axis").select_option(str(order[-2]))
    page.drag((0.0, 0.0), (-1.0, 0.5))
    z = page.z()
    assert z[[order[-2], order[1]]] == pytest.approx([-1.0, 0.5], abs=0.02)
    page.shows(decoded(models["vae"], z))
