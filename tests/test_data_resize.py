"""Any image can be resized to any size, and a note states how."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vaelab.data.dataset import Dataset, Split
from vaelab.data.resize import Fit, fit_image, fit_note, parse_size, resize_dataset, to_image, to_pixels
from vaelab.errors import ConfigError

sides = st.integers(1, 40)


@pytest.mark.parametrize(
    ("size", "parsed"),
    [
        (None, None),
        (8, (8, 8)),
        ("8", (8, 8)),
        ((8, 9), (8, 9)),
        ("8x9", (8, 9)),
        (np.int64(4096), (4096, 4096)),
    ],
)
def test_sizes_are_understood(size: int, parsed: tuple[int, int]) -> None:
    assert parse_size(size) == parsed


@pytest.mark.parametrize("size", [0, -1, 4097, "0", "8x", "8x9x10", "big", "", (8,), (8, 0), (8.5, 8), True, 8.0])
def test_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(ConfigError, match=r"^`size`: got .*1…4096 pixels; .*`size='32x48'`"):
        parse_size(size)


@given(sides, sides, sides, sides, st.sampled_from(["crop", "pad"]), st.sampled_from(["L", "RGB"]))
def test_every_image_fits(h: int, w: int, height: int, width: int, fit: Fit, mode: str) -> None:
    image = fit_image(Image.new(mode, (w, h), "grey"), (height, width), fit)
    assert (image.height, image.width, image.mode) == (height, width, mode)
    assert (to_pixels(image) == 128).all()


def test_extreme_shapes_fit() -> None:
    for fit in ("crop", "pad"):
        assert fit_image(Image.new("RGB", (3000, 1)), (8, 8), fit).size == (8, 8)


def test_cropping_keeps_the_middle() -> None:
    pixels = np.zeros((1, 4, 12), np.uint8)
    pixels[:, :, 4:8] = 200
    assert (to_pixels(fit_image(to_image(pixels), (4, 4), "crop")) == 200).all()


def test_padding_keeps_all_and_fills_with_the_border() -> None:
    pixels = np.full((3, 4, 12), 90, np.uint8)
    pixels[:, 1:3, 4:8] = 200
    padded = to_pixels(fit_image(to_image(pixels), (12, 12), "pad"))
    assert np.array_equal(padded[:, 4:8], pixels)
    assert (np.delete(padded, np.s_[4:8], axis=1) == 90).all()


def test_notes_state_what_was_done() -> None:
    sizes = [(8, 8), (16, 16), (4, 4), (16, 20)]
    assert fit_note(sizes, (8, 8), "crop") == (
        "Scaled 3 of 4 images to 8×8, centre-cropped 1 of them, enlarged 1 of them."
    )
    assert fit_note(sizes[:2], (8, 8), "pad") == "Scaled 1 of 2 images to 8×8."
    assert fit_note([(4, 6)], (8, 8), "pad") == (
        "Scaled 1 of 1 images to 8×8, padded 1 of them with the median colour of their border, enlarged 1 of them."
    )
    assert fit_note([(8, 8)], (8, 8), "crop") is None


def test_a_dataset_is_resized_with_its_labels() -> None:
    split = Split(np.full((3, 3, 4, 6), 7, np.uint8), np.array([0, 1, 0]))
    dataset = Dataset("d", split, split[:1], split[:0], ("a", "b"), ("first",))
    calls: list[tuple[str, int, int]] = []
    resized = resize_dataset(dataset, (8, 9), "crop", lambda *call: calls.append(call))
    assert resized.shape == (3, 8, 9)
    assert resized.train.labels is not None
    assert resized.train.labels.tolist() == [0, 1, 0]
    assert (resized.train.images == 7).all()
    assert (len(resized.validation), len(resized.test)) == (1, 0)
    assert resized.notes[0] == "first"
    assert resized.notes[1].startswith("Scaled 4 of 4 images to 8×9")
    assert calls[-1] == ("resizing images", 4, 4)
    assert resize_dataset(dataset, (4, 6), "crop") is dataset
