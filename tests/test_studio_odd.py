"""Unusual models and class names, and error messages for broken or missing files."""

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coloured_letters import draw_letters
from studio_model import save_data, serving, train_small
from studio_page import CURRENT, DESK, NARROW, PHONE, STRIP, Models, Opener, Page, decoded, png_of, state, until

from vaelab.inference.trained import load

pytestmark = pytest.mark.browser


def test_html_in_a_class_name_is_text(opened: Opener, studio_run: Path) -> None:
    name = "<img src=x onerror=alert(1)>"
    with serving(studio_run, str(studio_run.parent / "tiny.npz")) as (address, _):
        page = opened(address).ready()
        for view in ("view=play", "view=story&step=3", "view=story&step=7"):
            page.open(view)
            page.page.reload()
            page.page.wait_for_timeout(250)
            assert page.page.evaluate("document.querySelectorAll('img, [onerror]').length") == 0
            if "play" in view:
                assert page.page.locator(".choices .name").first.inner_text() == name
                page.page.locator(STRIP).nth(0).click()
                page.page.wait_for_timeout(200)
                assert name in page.text("[role=status]")
        page.open("view=report")
        page.page.reload()
        page.page.get_by_text("Not evaluated yet").wait_for()
        page.close()


def test_the_report_names_the_run_in_its_command(
    opened: Opener, studio_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(studio_run, tmp_path / "my runs" / "first")
    shutil.copy(studio_run.parent / "tiny.npz", tmp_path)
    monkeypatch.chdir(tmp_path)
    with serving(Path("my runs/first"), "tiny.npz") as (address, _):
        page = opened(address, "view=report")
        page.page.get_by_text("Not evaluated yet").wait_for()
        assert page.text("pre code") == "vaelab evaluate 'my runs/first' tiny.npz"
        faults = page.page.locator("[aria-labelledby=diagnosis] li").all_inner_texts()
        assert [fault[: fault.index(".")] for fault in faults] == ["Near-duplicate data", "Training too short"]
        assert page.page.evaluate(NARROW)[0] == 0


def test_colours_and_long_names(opened: Opener, tmp_path: Path) -> None:
    names = [f"{number:02} a name of a class that is as long as some are, {number}" for number in range(30)]
    images = np.random.default_rng(0).integers(0, 256, (300, 12, 8, 3), dtype=np.uint8)
    source = save_data(tmp_path / "many.npz", images, names)
    train_small(tmp_path / "many", source)
    model = load(tmp_path / "many")
    z = np.array([0.5, -0.5])
    with serving(tmp_path / "many", source) as (address, _):
        for size in (DESK, PHONE):
            page = opened(address, state(z, label=3), size=size).ready()
            until(lambda page=page: worst(page.images()[..., :3], model.decode(z[None], [3])), lambda far: far <= 1)
            page.page.get_by_label("Search the labels").fill("17 a")
            page.page.keyboard.press("Enter")
            until(lambda page=page: worst(page.images()[..., :3], model.decode(z[None], [17])), lambda far: far <= 1)
            page.page.get_by_label(f"Label {names[17]}", exact=True).wait_for()
            cell = page.images(f"[aria-label='Label {names[17]}'] canvas")[..., :3]
            assert worst(cell, model.decode(z[None], [17])) <= 1
            assert page.page.evaluate(NARROW) == [0, []]
        page.page.get_by_label("Open an image file").set_input_files(
            {"name": "a.png", "mimeType": "image/png", "buffer": png_of(images[0])}
        )
        page.page.get_by_label("The reconstruction of the drawing").wait_for()
        page.open("view=story&step=1")
        page.page.reload()
        page.page.get_by_text("To train the missing models on the same images:").wait_for()
        assert "--model all --out" in page.text("pre code")


@pytest.mark.parametrize(("network", "kind", "latent_dim"), [("two-colour", "cvae", 8), ("pca", "vae", 6)])
def test_networks_of_colour_images_draw_and_measure_what_python_does(
    opened: Opener, tmp_path: Path, network: str, kind: str, latent_dim: int
) -> None:
    letters = draw_letters(200, seed=0)
    source = save_data(tmp_path / "letters.npz", letters.images, ["a", "b"])
    train_small(tmp_path / "run", source, kind, network=network, latent_dim=latent_dim)
    model = load(tmp_path / "run")
    z = np.linspace(-1, 1, latent_dim).round(2)
    chosen = None if kind == "vae" else [1]
    with serving(tmp_path / "run", source) as (address, _):
        page = opened(address, state(z) if chosen is None else state(z, label=1)).ready()
        until(lambda: worst(page.images()[..., :3], model.decode(z[None], chosen)), lambda far: far <= 1)
        page.page.get_by_label("Open an image file").set_input_files(
            {"name": "a.png", "mimeType": "image/png", "buffer": png_of(letters.images[0])}
        )
        page.page.get_by_label("The reconstruction of the drawing").wait_for()


def test_a_model_of_one_axis_has_no_choice_of_axes(opened: Opener, tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (100, 8, 8), dtype=np.uint8)
    source = save_data(tmp_path / "two.npz", images, ["a", "b"])
    train_small(tmp_path / "one", source, latent_dim=1)
    with serving(tmp_path / "one", source) as (address, _):
        page = opened(address).ready()
        page.page.get_by_text("The model has one axis").wait_for()
        assert page.page.get_by_label("Horizontal axis").count() == 0
        assert page.page.get_by_role("button", name="Tiles").count() == 1


def worst(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got.astype(int) - expected).max()) if got.shape == expected.shape else np.inf


@pytest.mark.parametrize("kind", ["vae", "ae"])
def test_models_without_labels(opened: Opener, served: str, models: Models, kind: str) -> None:
    page = opened(served).ready()
    page.click("VAE" if kind == "vae" else "Autoencoder")
    page.page.locator(STRIP).first.wait_for(state="detached")
    assert page.page.get_by_role("group", name="Label to generate").count() == 0
    page.drag((0.0, 0.0), (0.8, 0.6))
    page.shows(decoded(models[kind], page.z()), CURRENT)


# Failures.


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    [
        ("bundle/manifest.json", {"status": 404, "body": "no"}, "The studio could not be opened"),
        ("bundle/manifest.json", {"status": 200, "body": "{"}, "The studio could not be opened"),
        ("bundle/manifest.json", {"status": 200, "body": '{"format": 9}'}, "this page reads format 3"),
        ("bundle/cvae-decoder.onnx", {"status": 404, "body": "no"}, "The model could not be run"),
        ("bundle/cvae-decoder.onnx", {"status": 200, "body": "no model"}, "The model could not be run"),
        ("ort.wasm", {"status": 200, "body": "no wasm"}, "The model could not be run"),
        ("worker.js", {"status": 404, "body": "no"}, "The model could not be run"),
        ("bundle/cvae-points.bin", {"status": 200, "body": "few"}, "holds 3 bytes"),
    ],
)
def test_broken_or_missing_files_are_reported(
    browser: Any, served: str, name: str, answer: dict[str, Any], words: str
) -> None:
    page = Page(browser, "about:blank")
    page.context.route(f"{served}{name}", lambda route: route.fulfill(**answer))
    page.address = served
    page.open()
    notice = page.page.get_by_text(words).first
    notice.wait_for()
    assert not notice.inner_text().startswith("Error: ")
    said = page.text("body")
    assert "undefined" not in said
    assert "[object" not in said
    if "manifest" not in name:
        page.page.locator(f"{CURRENT}:not(.empty)").wait_for()  # the precomputed picture remains
    page.context.close()


def test_damage_in_the_exported_file_is_reported(opened: Opener, one_file: Path, tmp_path: Path) -> None:
    text = one_file.read_text(encoding="utf-8")
    found = re.search(r'data-name="cvae-decoder.onnx">', text)
    assert found is not None
    (tmp_path / "page.html").write_text(text[: found.end() + 2000] + text[found.end() + 2400 :], encoding="utf-8")
    page = opened((tmp_path / "page.html").as_uri())
    page.page.get_by_text("the decoder is damaged inside this page").wait_for()


def test_a_run_that_vanishes_is_said_in_the_page(opened: Opener, studio_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(studio_run, tmp_path / "run"))
    with serving(run, str(studio_run.parent / "tiny.npz")) as (address, _):
        page = opened(address).ready()
        run.rename(tmp_path / "elsewhere")
        notice = page.page.get_by_role("alert").filter(has_text="moved or deleted")
        notice.wait_for()
        assert str(run) in notice.inner_text()
        (tmp_path / "elsewhere").rename(run)
        notice.wait_for(state="detached")
        page.close()
