"""Drawings depend on (seed, i) only, are placed like the digits of MNIST, and show their factors of variation."""

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from vaelab.data import strokes
from vaelab.data.dataset import NEAR_BINARY_SHARE, Dataset, Split, between_share
from vaelab.data.glyphs import DASHES, PATHS, skeletons
from vaelab.data.strokes import BLOCK, SIDE, draw_strokes, load_strokes
from vaelab.errors import DataError

RANGES = {
    "slant": (-0.5, 0.7),
    "rotation": (-0.2, 0.2),
    "width": (1.4, 4.6),
    "aspect": (0.6, 1.7),
    "size": (18.8, 20),
    "curvature": (0.015, 0.055),
    "roundness": (0.1, 1.1),
    "pressure": (0, 0.35),
    "wobble": (0, 0.017),
}
NAMES = [(digit, name) for digit, ways in PATHS.items() for name in ways]
PIXELS = np.arange(SIDE)


@pytest.fixture(scope="module")
def drawn() -> Split:
    return draw_strokes(6000, seed=1)


def variant(digit: int, name: str) -> int:
    return NAMES.index((digit, name))


def assert_equal(one: Split, other: Split) -> None:
    np.testing.assert_array_equal(one.images, other.images)
    assert one.labels is not None
    assert other.labels is not None
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.factors.keys() == other.factors.keys()
    for name in one.factors:
        np.testing.assert_array_equal(one.factors[name], other.factors[name])


def shear(images: np.ndarray) -> np.ndarray:
    """Widths to the right per height upwards, from the second moments of the ink (N, SIDE, SIDE)."""
    ink = images / images.sum(axis=(1, 2), keepdims=True)
    x = PIXELS - (ink.sum(axis=1) @ PIXELS)[:, None]
    y = PIXELS - (ink.sum(axis=2) @ PIXELS)[:, None]
    return -np.einsum("nyx,nx,ny->n", ink, x, y) / np.einsum("nyx,ny,ny->n", ink, y, y)


def sides(images: np.ndarray) -> np.ndarray:
    """Height and width in pixels, (N, 2), of the box round all ink (N, SIDE, SIDE)."""
    spans: list[np.ndarray] = []
    for axis in (2, 1):
        any_ink = np.any(images > 0, axis=axis)
        spans.append(SIDE - any_ink.argmax(axis=1) - any_ink[:, ::-1].argmax(axis=1))
    return np.stack(spans, axis=1)


def test_types_and_shapes(drawn: Split) -> None:
    assert drawn.images.shape == (6000, 1, 28, 28)
    assert drawn.images.dtype == np.uint8
    assert drawn.images.flags.c_contiguous
    assert drawn.labels is not None
    assert drawn.labels.dtype == np.int64
    assert set(drawn.factors) == {*RANGES, "variant"}
    assert all(values.dtype == np.float32 and values.shape == (6000,) for values in drawn.factors.values())


def test_the_same_numbers_draw_the_same(drawn: Split) -> None:
    assert_equal(draw_strokes(6000, seed=1), drawn)


@pytest.mark.parametrize(("start", "count"), [(0, 1), (7, 1), (BLOCK - 1, 2), (3 * BLOCK, BLOCK), (260, 700), (12, 0)])
def test_a_drawing_knows_nothing_of_its_neighbours(drawn: Split, start: int, count: int) -> None:
    assert_equal(draw_strokes(count, seed=1, start=start), drawn[start : start + count])


def test_threads_change_nothing(drawn: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert_equal(draw_strokes(1000, seed=1), drawn[:1000])
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert_equal(draw_strokes(1000, seed=1), drawn[:1000])


def test_what_is_far_away_leaves_no_ink(drawn: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the last bit: leaving products of far pixels out is for speed alone."""
    monkeypatch.setattr(strokes, "FARTHEST", np.float32(-np.inf))
    assert np.array_equal(draw_strokes(500, seed=1).images, drawn.images[:500])


def test_no_two_drawings_are_alike(drawn: Split) -> None:
    other = draw_strokes(6000, seed=2)
    both = np.concatenate([drawn.images, other.images]).reshape(12000, -1)
    assert len(np.unique(both, axis=0)) == 12000


def test_numbers_below_zero_are_refused() -> None:
    with pytest.raises(DataError, match=r"`seed`.*got 1, -1, 0; expected .*at least 0"):
        draw_strokes(1, seed=-1)
    with pytest.raises(DataError, match=r"`count`.*got -1, 0, 0"):
        draw_strokes(-1, seed=0)
    with pytest.raises(DataError, match=r"`start`.*got 1, 0, -5"):
        draw_strokes(1, seed=0, start=-5)


def test_progress_adds_up() -> None:
    steps: list[int] = []
    draw_strokes(600, seed=0, start=100, progress=steps.append)
    assert steps == [BLOCK - 100, BLOCK, 200]


def test_digits_are_balanced(drawn: Split) -> None:
    assert drawn.labels is not None
    assert np.bincount(drawn.labels).tolist() == [600] * 10
    # The order is random: a digit does not depend on the previous one.
    assert np.count_nonzero(np.diff(drawn.labels) == 1) < 1000


def test_skeletons_are_as_common_as_their_weights(drawn: Split) -> None:
    shapes = skeletons()
    chosen = drawn.factors["variant"].astype(int)
    np.testing.assert_array_equal(shapes.digit[chosen], drawn.labels)
    expected = 600 * shapes.weight
    counts = np.bincount(chosen, minlength=len(NAMES))
    assert (np.abs(counts - expected) < 4.5 * np.sqrt(expected)).all()
    assert counts.min() > 0


def test_the_ink_fills_a_box_about_its_centre_of_mass(drawn: Split) -> None:
    images = drawn.images[:, 0].astype(float)
    longer = sides(images).max(axis=1)
    assert longer.max() == 20
    assert longer.min() >= 18
    assert longer.mean() > 19
    mass = images.sum(axis=(1, 2))
    centres = np.stack([images.sum(axis=1) @ PIXELS, images.sum(axis=2) @ PIXELS]) / mass
    # Only very asymmetric drawings reach the edge of the image before they are centred.
    off = np.abs(centres - 14).max(axis=0)
    assert (off <= 0.5).mean() > 0.995
    assert off.max() < 2


def test_most_pixels_are_ink_or_paper(drawn: Split) -> None:
    assert 0.06 < between_share(drawn.images) < 0.11 < NEAR_BINARY_SHARE
    assert (drawn.images == 255).reshape(6000, -1).any(axis=1).mean() > 0.99


@pytest.mark.parametrize("name", RANGES)
def test_factors_fill_their_ranges(drawn: Split, name: str) -> None:
    low, high = RANGES[name]
    values = drawn.factors[name]
    assert values.min() >= np.float32(low)
    assert values.max() <= np.float32(high)
    assert np.ptp(values) > 0.8 * (high - low)


def test_width_and_slant_are_in_every_digit(drawn: Split) -> None:
    images = drawn.images[:, 0].astype(float)
    ink, shears = images.sum(axis=(1, 2)), shear(images)
    for digit in range(10):
        here = drawn.labels == digit
        assert np.corrcoef(drawn.factors["width"][here], ink[here])[0, 1] > 0.75
        assert np.corrcoef(drawn.factors["slant"][here], shears[here])[0, 1] > 0.75


def test_a_plain_line_is_as_wide_as_its_factor_says(drawn: Split) -> None:
    here = drawn.factors["variant"] == variant(1, "line")
    images, width = drawn.images[here, 0], drawn.factors["width"][here]
    # Ink per row, taken square to the line.
    across = images[:, 12:16].sum(axis=(1, 2)) / 4 / 255 * np.cos(np.arctan(shear(images.astype(float))))
    assert abs(np.median(across / width) - 1) < 0.05


def outline(images: np.ndarray) -> np.ndarray:
    """How far from straight, in pixels, lines are that run from top to bottom; (N,)."""
    bends = []
    for image in images / 255:
        rows = np.flatnonzero(image.sum(axis=1) > 0.5)[2:-2]
        middles = image[rows] @ PIXELS / image[rows].sum(axis=1)
        bends.append((middles - np.polyval(np.polyfit(rows, middles, 3), rows)).std())
    return np.array(bends)


def swell(images: np.ndarray) -> np.ndarray:
    """How unevenly lines that run from top to bottom are inked; (N,)."""
    rows = images[:, 7:21].sum(axis=2, dtype=float)
    return rows.std(axis=1) / rows.mean(axis=1)


def draw_with(monkeypatch: pytest.MonkeyPatch, factor: str, value: float) -> Split:
    """3,000 drawings whose `factor` is `value`, all else as it would be."""
    sample = strokes._sample_factors
    with monkeypatch.context() as patch:
        patch.setattr(strokes, "_sample_factors", lambda rng: sample(rng) | {factor: np.full(BLOCK, value)})
        return draw_strokes(3000, seed=3)


# factor, low, high, skeleton that shows it, what is measured: it must be greater when the factor is.
SHOWN: list[tuple[str, float, float, tuple[int, str], Callable[[np.ndarray], np.ndarray]]] = [
    ("rotation", -0.2, 0.2, (1, "line"), shear),
    ("aspect", 0.7, 1.5, (0, "oval"), lambda images: sides(images) @ [-1, 1]),
    ("size", 18.8, 20, (3, "round"), lambda images: sides(images).max(axis=1)),
    # A curve is longer than the polygon through its points, so it leaves more ink.
    ("roundness", 0, 1, (6, "round"), lambda images: images.sum(axis=(1, 2))),
    ("pressure", 0, 0.35, (1, "line"), swell),
    ("wobble", 0, 0.017, (1, "line"), outline),
]


@pytest.mark.parametrize(("factor", "low", "high", "skeleton", "measure"), SHOWN, ids=[row[0] for row in SHOWN])
def test_each_factor_alone_changes_the_picture(
    monkeypatch: pytest.MonkeyPatch,
    factor: str,
    low: float,
    high: float,
    skeleton: tuple[int, str],
    measure: Callable[[np.ndarray], np.ndarray],
) -> None:
    splits = [draw_with(monkeypatch, factor, value) for value in (low, high)]
    here = splits[0].factors["variant"] == variant(*skeleton)
    less, more = (measure(split.images[here, 0].astype(float)) for split in splits)
    print(factor, (more > less).mean())
    assert (more > less).mean() > 0.9


def test_curvature_moves_the_path_in_proportion(monkeypatch: pytest.MonkeyPatch) -> None:
    still, little, much = (draw_with(monkeypatch, "curvature", v).images.astype(float) for v in (0, 0.015, 0.055))
    moved = [np.abs(images - still).sum(axis=(1, 2, 3)) for images in (little, much)]
    assert (moved[1] > moved[0]).mean() > 0.9
    assert moved[0].min() > 0


def test_skeletons_pass_through_their_points() -> None:
    shapes = skeletons()
    assert len(NAMES) == len(shapes.digit)
    assert sorted(set(shapes.digit.tolist())) == list(range(10))
    for v, (digit, name) in enumerate(NAMES):
        assert shapes.digit[v] == digit
        points = (
            np.array([word.rstrip("!").split(",") for word in PATHS[digit][name][1].split() if word != "/"], float)
            / 100
        )
        for way in (0, 1):
            middles, extents = (a[v, :, way] @ shapes.points[v] for a in (shapes.middles, shapes.extents))
            ends = np.concatenate([middles - extents / 2, middles + extents / 2])
            nearest = np.linalg.norm(points[:, None] - ends, axis=2).min(axis=1)
            assert nearest.max() < 2.5 / DASHES
            # The dashes are connected except where the pen is lifted.
            gaps = np.linalg.norm((middles + extents / 2)[:-1] - (middles - extents / 2)[1:], axis=1)
            assert np.count_nonzero(gaps > 1e-5) == PATHS[digit][name][1].count("/")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A data set of 750 drawings, and the folder where they are kept, which is not there yet."""
    for name, count in (("TRAIN", 500), ("VALIDATION", 100), ("TEST", 150)):
        monkeypatch.setattr(strokes, name, count)
    monkeypatch.setenv("VAELAB_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "decoded"


@pytest.mark.usefixtures("few")
def test_the_dataset_is_parted_as_mnist_is() -> None:
    steps: list[int] = []
    data = load_strokes(seed=4, progress=steps.append)
    assert (data.name, data.classes, sum(steps)) == ("strokes", tuple("0123456789"), 750)
    assert_equal(data.train, draw_strokes(500, seed=4))
    assert_equal(data.validation, draw_strokes(100, seed=4, start=500))
    assert_equal(data.test, draw_strokes(150, seed=4, start=600))


def assert_same(one: Dataset, other: Dataset) -> None:
    for name in ("train", "validation", "test"):
        assert_equal(getattr(one, name), getattr(other, name))


def test_the_dataset_is_drawn_once(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load_strokes(seed=4)
    with monkeypatch.context() as patch:
        patch.setattr(strokes, "draw_strokes", None)
        again = load_strokes(seed=4)
    assert_same(again, first)
    assert (again.fingerprint, again.classes, again.notes) == (first.fingerprint, first.classes, ())
    assert again.test.labels is not None
    arrays = [again.train.images, again.test.labels, *again.test.factors.values()]
    assert all(array.flags.writeable and array.flags.aligned for array in arrays)
    assert len(list(few.iterdir())) == 1


def test_another_seed_number_or_code_is_drawn_anew(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[set[Path]] = []
    for change in ("none", "seed", "number", "code"):
        if change == "number":
            monkeypatch.setattr(strokes, "TEST", 50)
        if change == "code":
            monkeypatch.setattr(strokes, "_code", lambda: b"another")
        seed = 5 if change == "seed" else 4
        data = load_strokes(seed=seed)
        assert_equal(data.test, draw_strokes(strokes.TEST, seed=seed, start=600))
        kept.append(set(few.iterdir()))
    first, both, three, after = kept
    assert [len(each) for each in kept] == [1, 2, 3, 3]
    assert first < both < three
    assert len(after - three) == 1  # replaces the drawings of the other code


@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_damaged_drawings_are_drawn_anew(few: Path, damage: str) -> None:
    first = load_strokes(seed=4)
    (path,) = few.iterdir()
    content = bytearray(path.read_bytes())
    if damage == "cut":
        del content[5000:]
    else:
        content[5000] ^= 1
    path.write_bytes(content)
    assert_same(load_strokes(seed=4), first)
    assert path.read_bytes() != content


def test_drawings_that_cannot_be_kept_are_no_error(few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("VAELAB_CACHE_DIR", str(tmp_path / "file"))
    assert_same(load_strokes(seed=4), load_strokes(seed=4))
    assert not few.exists()


def test_the_cache_key_is_the_code_and_numpy() -> None:
    assert b"def _ink" in strokes._code()
    assert b"PATHS: dict" in strokes._code()
    assert strokes._code().endswith(np.__version__.encode())


def test_the_sizes_are_those_of_mnist() -> None:
    assert (strokes.TRAIN, strokes.VALIDATION, strokes.TEST) == (50_000, 10_000, 10_000)


@pytest.mark.mnist
def test_drawings_and_mnist_read_each_other() -> None:
    def read(name: str, header: int) -> np.ndarray:
        folder = Path(os.environ["VAELAB_DATA_DIR"]) / "mnist"
        return np.frombuffer(gzip.decompress((folder / f"{name}-ubyte.gz").read_bytes()), np.uint8, offset=header)

    mnist, labels = read("t10k-images-idx3", 16).reshape(-1, SIDE * SIDE) / 255, read("t10k-labels-idx1", 8)
    split = draw_strokes(10_000, seed=0)
    digits = split.labels
    assert digits is not None
    drawings = split.images.reshape(-1, SIDE * SIDE) / 255
    # By the one nearest picture; 7,500 MNIST digits read the other 2,500 at 92 %.
    by_drawings = KNeighborsClassifier(1).fit(drawings, digits).score(mnist[:2500], labels[:2500])
    by_mnist = KNeighborsClassifier(1).fit(mnist, labels).score(drawings[:2500], digits[:2500])
    assert by_drawings > 0.84
    assert by_mnist > 0.86
