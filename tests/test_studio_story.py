"""The story and the report of the studio: each step is operated and must show what Python computes from the same input.

The tests use the page exported as one file, without a network; navigation is also tested on the served page.
"""

import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from report_maker import made_up
from studio_page import CURRENT, DESK, STRIP, Models, Opener, Page, get, manifest_of, until

from vaelab.inference.trained import TrainedModel

pytestmark = pytest.mark.browser

TITLES = (
    "Compress an image and reconstruct it",
    "A latent space without gaps",
    "A distribution instead of a point",
    "All posteriors together",
    "The reparameterisation trick",
    "Generate new images: the VAE",
    "Choose the label: the conditional VAE",
)
HEADING = "#story-title"


def at_step(opened: Opener, where: str, step: int) -> Page:
    """Open the page at a step and wait for its heading."""
    page = opened(where, f"view=story&step={step}")
    page.page.locator(HEADING, has_text=TITLES[step - 1]).wait_for()
    return page


def canvas(label: str) -> str:
    return f"canvas[aria-label='{label}']"


def settled(page: Page, label: str, other: np.ndarray | None = None) -> np.ndarray:
    """Return a canvas's grey levels once they are drawn, stable and, if `other` is given, different from it."""
    before = np.zeros(0)

    def drawn() -> np.ndarray | None:
        nonlocal before
        last, before = before, page.grey(canvas(label))
        again = other is not None and np.array_equal(before, other)
        return before if np.array_equal(last, before) and np.ptp(before) > 100 and not again else None

    return until(drawn, lambda found: found is not None)


def reconstruction(model: TrainedModel, image: np.ndarray) -> np.ndarray:
    return model.decode(model.encode(image, binarised=False).mean)


def tiles(wall: np.ndarray, columns: int) -> np.ndarray:
    """Split a canvas (1, H, W) of 28×28 images that are one pixel apart."""
    rows = (wall.shape[1] + 1) // 29
    return np.stack([wall[0, 29 * r : 29 * r + 28, 29 * c : 29 * c + 28] for r in range(rows) for c in range(columns)])


def numbers(text: str) -> list[float]:
    return [float(one.replace("−", "-")) for one in re.findall(r"[-−]?\d+\.\d+", text)]


@pytest.mark.parametrize("step", [1, 2])
def test_the_first_steps_fit_into_a_window_of_1280_by_800(opened: Opener, served: str, step: int) -> None:
    page = at_step(opened, served, step)
    settled(page, "Image decoded from the point" if step == 1 else "Image decoded from the point, vae")
    assert page.page.evaluate("document.documentElement.scrollHeight") <= DESK[1]
    lowest = page.page.get_by_role("button", name="Next →").bounding_box()
    assert lowest is not None
    assert lowest["y"] + lowest["height"] <= DESK[1]
    assert page.box(".pad")["width"] >= 240


def test_step_1_an_autoencoder_reconstructs(opened: Opener, alone: str, models: Models) -> None:
    page = at_step(opened, alone, 1)
    image = settled(page, "x, a test image")
    page.shows(reconstruction(models["ae"], image), canvas("x̂, the image reconstructed from its code"))
    page.click("Another image")
    other = settled(page, "x, a test image", image)
    page.shows(reconstruction(models["ae"], other), canvas("x̂, the image reconstructed from its code"))
    first = settled(page, "Image decoded from the point")
    page.click("Random point")
    second = settled(page, "Image decoded from the point", first)
    pad = page.box(".pad")
    page.page.mouse.click(pad["x"] + 0.3 * pad["width"], pad["y"] + 0.3 * pad["height"])
    settled(page, "Image decoded from the point", second)


def test_step_2_both_codes_side_by_side(opened: Opener, alone: str, served: str, models: Models) -> None:
    facts = manifest_of(served)["models"]
    page = at_step(opened, alone, 2)
    for kind in ("ae", "vae"):
        plane = facts[kind]["principal"]
        z = np.array(plane["mean"]) + np.array([1.2, 0.8]) @ np.array(plane["components"])
        page.shows(models[kind].decode(z[None]), canvas(f"Image decoded from the point, {kind}"))
    before = [settled(page, f"Image decoded from the point, {kind}") for kind in ("ae", "vae")]
    page.page.get_by_label("Point z: move it with the arrow keys").nth(1).focus()
    for _ in range(4):
        page.page.keyboard.press("Shift+ArrowLeft")
    settled(page, "Image decoded from the point, vae", before[1])
    assert np.array_equal(page.grey(canvas("Image decoded from the point, ae")), before[0])


def test_step_3_every_draw_is_nearly_the_image(opened: Opener, alone: str) -> None:
    page = at_step(opened, alone, 3)
    image = settled(page, "x, a test image")
    walls = [settled(page, "Images decoded from draws of the posterior")]
    for _ in range(5):
        page.click("Draw z")
        walls.append(settled(page, "Images decoded from draws of the posterior", walls[-1]))
    draws = tiles(walls[-1], 6).reshape(6, -1).astype(float)
    assert [np.corrcoef(draw, image.ravel())[0, 1] > 0.7 for draw in draws] == [True] * 6
    assert len(np.unique(draws, axis=0)) == 6
    page.click("Another image")
    settled(page, "x, a test image", image)


def test_step_4_the_divergences_of_the_posteriors(opened: Opener, alone: str, served: str, models: Models) -> None:
    facts = manifest_of(served)["models"]["vae"]
    sheet = np.asarray(Image.open(io.BytesIO(get(served, facts["points"]["thumbs"]))).convert("L"))
    images = np.stack([sheet[:28, 28 * at : 28 * (at + 1)] for at in range(100)])
    mean, log_variance = models["vae"].encode(images, binarised=False)
    page = at_step(opened, alone, 4)

    def measured(count: int) -> float:
        page.page.get_by_text(re.compile(rf"osteriors? of (one|{count}) test images? \(blue\)")).wait_for()
        return numbers(page.text(".figures"))[0]

    for axis, name in enumerate(facts["order"][:2]):
        page.page.get_by_role("button", name=f"z{name}", exact=True).click()
        slider = page.page.get_by_label("Number of images")
        slider.focus()
        for key, count in (("Home", 1), ("ArrowRight", 2), ("ArrowRight", 3), ("ArrowRight", 5)):
            page.page.keyboard.press(key)
            m, v = mean[:count, name], log_variance[:count, name]
            expected = float(np.mean(0.5 * (m**2 + np.exp(v) - v - 1)))
            until(lambda count=count: measured(count), lambda got, e=expected: abs(got - e) <= 0.02)
        assert axis in (0, 1)
    together = numbers(page.text(".figures"))[1]
    page.page.keyboard.press("End")
    until(lambda: numbers(page.text(".figures"))[1], lambda got: got < min(0.2, together))


def test_step_5_z_follows_epsilon(opened: Opener, alone: str, models: Models) -> None:
    page = at_step(opened, alone, 5)
    image = settled(page, "x, a test image")
    before = settled(page, "Image decoded from z")
    z, mu, sigma, epsilon = numbers(page.text(".formula .number"))
    assert epsilon == 1.0
    assert 0 < sigma < 1
    assert z == pytest.approx(mu + sigma * epsilon, abs=0.016)
    page.page.get_by_label("ε", exact=True).focus()
    for _ in range(20):
        page.page.keyboard.press("ArrowLeft")
    z, mu, _, epsilon = numbers(page.text(".formula .number"))
    assert (z, epsilon) == (mu, 0.0)
    page.shows(reconstruction(models["vae"], image), canvas("Image decoded from z"))
    page.page.keyboard.press("End")
    assert np.abs(settled(page, "Image decoded from z", before).astype(int) - before).max() > 20
    page.click("Draw ε")
    until(lambda: numbers(page.text(".formula .number"))[3], lambda got: got != 3.0)


def test_step_6_random_points_of_both_models(opened: Opener, alone: str, served: str) -> None:
    facts = manifest_of(served)["models"]["vae"]["figures"]
    page = at_step(opened, alone, 6)
    names = [f"30 random points decoded by {who}" for who in ("the VAE", "the autoencoder")]
    before = [settled(page, name) for name in names]
    assert len(np.unique(tiles(before[0], 6), axis=0)) == 30
    page.click("Draw again")
    for name, wall in zip(names, before, strict=True):
        settled(page, name, wall)
    assert numbers(page.text(".sum")) == [round(facts[key], 1) for key in ("distortion", "rate", "nats")]


def test_step_7_one_point_with_every_label(opened: Opener, alone: str, models: Models) -> None:
    page = at_step(opened, alone, 7)
    name = f"One point with 10 labels: {', '.join(map(str, range(10)))}"
    before = settled(page, name)
    page.page.get_by_label(re.compile("^z[₀-₉]+$")).first.focus()
    page.page.keyboard.press("End")
    moved = settled(page, name, before)
    page.click("Open this point in Play")
    page.ready()
    z = page.z()
    assert (np.abs(z - 3) < 1e-6).sum() == 1
    page.shows(models["cvae"].decode(np.tile(z, (10, 1)), np.arange(10)), STRIP)
    page.shows(tiles(moved, 5), STRIP)


def test_navigation_through_the_story(opened: Opener, where: str) -> None:
    page = at_step(opened, where, 1)
    for step in range(2, 8):
        page.click("Next →") if step % 2 else page.page.keyboard.press("ArrowRight")
        page.page.locator(HEADING, has_text=TITLES[step - 1]).wait_for()
        page.page.locator(".stage canvas, .stage svg").first.wait_for()
        assert page.text("[aria-current=step]").startswith(str(step))
    page.click("← Back")
    until(page.state, lambda state: state == {"view": "story", "step": "6"})
    page.page.reload()
    page.page.locator(HEADING, has_text=TITLES[5]).wait_for()
    page.click(TITLES[2], exact=False)
    page.page.locator(HEADING, has_text=TITLES[2]).wait_for()
    page.click("Skip the story")
    page.ready()
    page.click("Story")
    page.page.locator(HEADING, has_text=TITLES[2]).wait_for()  # the step is remembered
    assert page.page.locator(CURRENT).count() == 0


def test_the_report_and_the_curve(opened: Opener, alone: str, served: str) -> None:
    page = opened(alone, "view=report")
    for section in made_up().sections:
        page.page.get_by_role("heading", name=section.title, exact=True).wait_for()
        for one in section.quantities:
            assert page.page.locator("summary", has_text=one.name).count() >= 1, one.name
    card = page.page.locator(".cards li").first
    assert numbers(card.inner_text())[0] == 98.234
    card.click()
    until(lambda: page.page.evaluate("document.activeElement.id"), lambda name: name.startswith("report-"))
    lines = [line for line in json.loads(get(served, "curve.json")) if line["validation"]]
    chart = page.page.get_by_role("slider").first
    chart.focus()
    for key, line in (("Home", lines[0]), ("End", lines[-1])):
        page.page.keyboard.press(key)
        said = chart.get_attribute("aria-valuetext")
        assert said is not None
        assert numbers(said.split("validation")[1])[0] == pytest.approx(line["validation"]["nats"], rel=1e-3)
    assert len(page.page.locator("svg path").first.get_attribute("d").split("L")) >= len(lines) - 1
    least = min(line["validation"]["nats"] for line in lines)
    assert f"{least:.2f}" in page.text(".now")
