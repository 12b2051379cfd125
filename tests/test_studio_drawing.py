"""Drawing on the page: label, reconstruction and restyled digits are those of Python."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage
from studio_model import strokes
from studio_page import REBUILT, SEEN, SHEET, STRIP, Models, Opener, Page, decoded, png_of, settled, until

from vaelab import restyle
from vaelab.data.photo import prepare
from vaelab.evaluation.reference_classifier import ReferenceClassifier

pytestmark = pytest.mark.browser

FOUR = [[(120.0, 40.0), (75.0, 150.0), (205.0, 145.0)], [(165.0, 85.0), (160.0, 245.0)]]
"""A 4 in two strokes, on a sheet of 280×280."""

SHIFTED, SCALED = 0.05, 0.2
"""Largest change of μ on any axis in σ for a shift by 4 pixels and a scaling by 20 %; two styles are about 3.7 σ apart."""


def test_a_drawing_is_read_and_restyled_as_in_python(opened: Opener, served: str, models: Models) -> None:
    page = opened(served).ready()
    page.page.get_by_text("Draw a digit", exact=True).wait_for()  # an empty sheet shows a hint, never a digit
    assert page.page.locator(SEEN).count() == 0
    page.draw(FOUR)
    page.page.locator(REBUILT).wait_for()
    sheet = page.grey(SHEET)[0]
    model, image = models["cvae"], prepare(sheet)
    page.shows(image[None], SEEN)
    place = model.encode(image[None], [4], binarised=False).mean
    page.shows(model.decode(place, [4]), REBUILT)
    assert page.z() == pytest.approx(place[0], abs=2e-3)
    restyled = restyle(model, image[None])
    assert "read as 4" in restyled.names[0]
    page.shows(restyled.images[0], STRIP)
    assert page.state()["label"] == "4"
    guesses = page.page.get_by_role("group", name="Predicted label").get_by_role("button")
    assert guesses.count() == 3
    assert guesses.first.inner_text().startswith("4")
    assert "nats" in page.text(".surprise")

    page.page.get_by_label("Choose another label").select_option("9")
    other = restyle(model, image[None], [9])
    page.shows(other.images[0], STRIP)
    page.shows(model.decode(model.encode(image[None], [9], binarised=False).mean, [9]), REBUILT)
    page.page.keyboard.press("c")
    page.page.locator(SEEN).wait_for(state="detached")
    assert page.page.get_by_text("Draw a digit", exact=True).is_visible()


def test_a_drawing_in_one_file(opened: Opener, one_file: Path, models: Models) -> None:
    """The encoder may use float16: its point is close to that of Python, and decodes to the same image as in Python."""
    page = opened(one_file.as_uri()).ready()
    page.draw(FOUR)
    page.page.locator(REBUILT).wait_for()
    model, image = models["cvae"], prepare(page.grey(SHEET)[0])
    page.shows(image[None], SEEN)
    z = page.z()
    assert z == pytest.approx(model.encode(image[None], [4], binarised=False).mean[0], abs=0.05)
    page.shows(decoded(model, z, *range(10)), STRIP)


def test_the_posterior_of_a_drawing_is_an_ellipse_on_the_map(opened: Opener, served: str) -> None:
    page = opened(served).ready()
    page.draw(FOUR)
    page.page.locator(REBUILT).wait_for()
    page.drag((3.0, 3.0), (3.1, 3.1))  # the point moves, the ellipse stays
    drawn = settled(page)
    page.page.keyboard.press("c")
    page.page.locator(SEEN).wait_for(state="detached")
    changed = (settled(page) != drawn).any(-1)
    assert changed.sum() > 50
    rows, columns = np.nonzero(changed)
    assert (np.ptp(rows), np.ptp(columns)) < (drawn.shape[0] / 2, drawn.shape[1] / 2)


def test_a_shift_or_a_scale_hardly_moves_the_point(opened: Opener, served: str, note: Callable[[str], None]) -> None:
    page = opened(served).ready()
    places = []
    for shift in ((0.0, 0.0), (4.0, 4.0), (-4.0, 4.0)):
        page.draw(FOUR, shift)
        page.page.locator(REBUILT).wait_for()
        places.append(page.z())
        sheet = Image.fromarray(page.grey(SHEET)[0])
        page.page.keyboard.press("c")
        page.page.locator(SEEN).wait_for(state="detached")
    for times in (0.8, 1.2):
        side, paper = round(280 * times), Image.new("L", (400, 400), 255)
        paper.paste(sheet.resize((side, side), Image.Resampling.BICUBIC), (20, 30))
        opened_file(page, np.asarray(paper))
        places.append(page.z())
        page.page.keyboard.press("c")
        page.page.locator(SEEN).wait_for(state="detached")
    moved = [float(np.abs(place - places[0]).max()) for place in places[1:]]
    note(
        f"μ moves by {max(moved[:2]):.3f} σ when a drawing is shifted by 4 pixels, by {max(moved[2:]):.3f} σ when scaled by 20 %"
    )
    assert max(moved[:2]) <= SHIFTED
    assert max(moved[2:]) <= SCALED


def opened_file(page: Page, pixels: np.ndarray) -> None:
    """Open an image file on the sheet and wait for the result."""
    file = {"name": "a.png", "mimeType": "image/png", "buffer": png_of(pixels)}
    page.page.get_by_label("Open an image file").set_input_files(file)
    page.page.locator(REBUILT).wait_for()


def test_ink_follows_the_pen(opened: Opener, served: str) -> None:
    """Three fast points make one line, a tap makes a dot, a stroke may end outside, and undo removes the last stroke."""
    page = opened(served).ready()
    page.draw([[(40.0, 40.0), (140.0, 60.0), (240.0, 240.0)]])
    flick = inked(page, 1)
    assert flick[235:245, 235:245].any()
    assert flick[40, 40]
    page.draw([[(60.0, 220.0)]])
    dot = inked(page, 2) & ~flick
    assert 150 < dot.sum() < 700
    page.draw([[(240.0, 40.0), (320.0, 40.0)]])
    page.page.mouse.move(*[value + 20 for value in list(page.box(SHEET).values())[:2]])  # no button: no ink
    inked(page, 3)
    page.click("Undo")
    inked(page, 2)
    page.page.keyboard.press("u")
    assert (inked(page, 1) == flick).all()
    page.click("Clear")
    inked(page, 0)


def inked(page: Page, pieces: int) -> np.ndarray:
    """The mask of the ink, once it has `pieces` connected pieces."""

    def found() -> tuple[int, np.ndarray]:
        ink = page.grey(SHEET)[0] < 128
        return cast("tuple[np.ndarray, int]", ndimage.label(ink, np.ones((3, 3))))[1], ink

    return until(found, lambda both: both[0] == pieces)[1]


def test_an_image_file_is_read(opened: Opener, where: str, tmp_path: Path) -> None:
    ink = np.full((120, 90), 235, np.uint8)
    ink[20:100, 40:50] = 30
    page = opened(where).ready()
    opened_file(page, ink)
    page.shows(prepare(ink)[None], SEEN)
    (tmp_path / "no.png").write_text("no image")
    page.page.get_by_label("Open an image file").set_input_files(tmp_path / "no.png")
    notice = page.page.get_by_text("This browser cannot read that file as an image.")
    notice.wait_for()


DROP = """async ([text, seen, rebuilt]) => {
  const bytes = Uint8Array.from(atob(text), one => one.charCodeAt(0));
  const sheet = document.querySelector("[aria-label='Draw, or drop an image file']");
  const copy = new OffscreenCanvas(28, 28).getContext('2d', {willReadFrequently: true});
  const pixels = canvas => {
    copy.drawImage(canvas, 0, 0);
    return copy.getImageData(0, 0, 28, 28).data.toString();
  };
  const of = query => { const found = document.querySelector(query); return found ? pixels(found) : ''; };
  const before = of(seen);
  const data = new DataTransfer();
  data.items.add(new File([bytes], 'drawing.png', {type: 'image/png'}));
  sheet.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}));
  const end = performance.now() + 20000;
  let quiet = 0, last = '';
  for (;;) {  // until the reconstruction equals the strip's image for its label, and is stable
    await new Promise(done => requestAnimationFrame(done));
    const chosen = document.querySelector("[aria-label='The same point with every label'] [aria-pressed=true] canvas");
    const now = of(rebuilt);
    quiet = of(seen) !== before && now === pixels(chosen) && now === last ? quiet + 1 : 0;
    last = now;
    if (quiet >= 3) return;
    if (performance.now() > end) throw new Error('no answer to a drawing');
  }
}"""


def test_every_digit_in_the_style_of_a_hundred_drawings(
    opened: Opener, served: str, reader: ReferenceClassifier, note: Callable[[str], None]
) -> None:
    drawings = strokes().test[:100]
    page = opened(served).ready()
    shown, labels = [], []
    for image in drawings.images[:, 0]:
        large = Image.fromarray(255 - image).resize((224, 224), Image.Resampling.BICUBIC)
        page.page.evaluate(DROP, [base64.b64encode(png_of(np.asarray(large))).decode(), SEEN, REBUILT])
        shown.append(page.grey(STRIP))
        labels.append(int(page.text("[aria-label='Predicted label'] [aria-pressed=true] .name")))
    assert len({one.tobytes() for one in shown}) == 100
    read = reader.read(np.concatenate(shown)[:, None])
    as_asked = float((read.reshape(100, 10) == np.arange(10)).mean())
    guessed = float((np.array(labels) == drawings.labels).mean())
    note(f"100 drawings: {as_asked:.1%} of 1,000 digits read as asked; {guessed:.0%} of the drawings guessed right")
    assert as_asked >= 0.95
    assert guessed >= 0.9
