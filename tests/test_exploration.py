"""Traversals, interpolations, manifolds, restyling, posteriors: the right latents under the right labels."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import vaelab
from vaelab import load, runs
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data import Dataset, Split
from vaelab.data.strokes import draw_strokes
from vaelab.errors import ConfigError, DataError, LabelError, OutputError, RunError
from vaelab.evaluation.style import slant, stroke_width
from vaelab.figures.pictures import Pictures, beside
from vaelab.inference.explore import interpolate, manifold, posterior, restyle, slerp, styles, traverse
from vaelab.inference.latents import label_probabilities, latent_name, measured, place
from vaelab.inference.trained import TrainedModel
from vaelab.training.fit import fit


def trained(dataset: Dataset, folder: Path, **model: object) -> TrainedModel:
    config = Config(ModelConfig(width=64, depth=1, **model), TrainConfig(epochs=120, batch_size=32))  # type: ignore[arg-type]
    for _ in fit(config, dataset, out=folder):
        pass
    return load(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def cvae(tiny: Dataset, folder: Path) -> TrainedModel:
    return trained(tiny, folder / "cvae", latent_dim=3)


@pytest.fixture(scope="module")
def vae(tiny: Dataset, folder: Path) -> TrainedModel:
    return trained(tiny, folder / "vae", model="vae", latent_dim=4)


@pytest.fixture(scope="module")
def ae(tiny: Dataset, folder: Path) -> TrainedModel:
    return trained(tiny, folder / "ae", model="ae", latent_dim=4)


@pytest.fixture(scope="module")
def table(folder: Path) -> TrainedModel:
    rows = Split(np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32), np.arange(60) % 2)
    return trained(Dataset("table", rows, rows, rows, ("a", "b")), folder / "table", latent_dim=2)


@pytest.fixture(scope="module")
def images(tiny: Dataset) -> np.ndarray:
    return tiny.test.images[:, 0]


@pytest.fixture(scope="module")
def labels(tiny: Dataset) -> np.ndarray:
    assert tiny.test.labels is not None
    return tiny.test.labels


# What a run knows of its axes.


def test_a_run_knows_its_axes(vae: TrainedModel, tiny: Dataset) -> None:
    """They are those of the validation images, and their rates sum to the rate that was reported."""
    assert vae.axes is not None
    encoded = vae.encode(tiny.validation.images)
    variance = np.exp(encoded.log_variance)
    rate = 0.5 * (encoded.mean**2 + variance - encoded.log_variance - 1).mean(0)
    assert vae.axes.rate == pytest.approx(rate, rel=1e-4)
    assert vae.axes.mean == pytest.approx(encoded.mean.mean(0), abs=1e-4)
    assert vae.axes.deviation == pytest.approx(encoded.mean.std(0), rel=1e-4)
    assert vae.axes.order == tuple(np.argsort(-rate))
    again = measured(vae, tiny.validation.images).axes
    assert again is not None
    assert again.rate == pytest.approx(vae.axes.rate, rel=1e-4)


def test_rates_sum_to_the_reported_rate(vae: TrainedModel, folder: Path) -> None:
    facts = runs.weight_facts(runs.open_run(folder / "vae"))
    assert vae.axes is not None
    assert sum(vae.axes.rate) == pytest.approx(facts["rate"], rel=1e-5)


def test_an_autoencoders_axes_go_by_the_deviation_of_its_codes(ae: TrainedModel, tiny: Dataset) -> None:
    assert ae.axes is not None
    assert set(ae.axes.rate) == {0}
    deviation = ae.encode(tiny.validation.images).mean.std(0)
    assert ae.axes.order == tuple(np.argsort(-deviation))
    shown = traverse(ae, steps=3)
    assert shown.names[0] == f"{latent_name(ae.axes.order[0])}: codes ±{max(deviation):.2g}"
    axis = ae.axes.order[0]
    z = np.array(ae.axes.mean, dtype=np.float32)
    assert np.array_equal(shown.images[0, 1], ae.decode(z[None])[0])
    z[axis] += 3 * ae.axes.deviation[axis]
    assert np.array_equal(shown.images[0, 2], ae.decode(z[None])[0])


def test_a_training_goes_on_with_its_axes(tiny: Dataset, tmp_path: Path) -> None:
    """What is resumed knows the axes of the best weights before it."""
    config = Config(ModelConfig(width=8, depth=1), TrainConfig(epochs=4, batch_size=32))
    for _ in fit(config, tiny, out=tmp_path / "whole"):
        pass
    for progress in fit(config, tiny, out=tmp_path / "parts"):
        if progress.step >= 4:
            break
    for _ in fit(Config(), tiny, out=tmp_path / "parts", resume=True):
        pass
    assert load(tmp_path / "parts").axes == load(tmp_path / "whole").axes


def test_facts_that_were_altered_are_refused(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    for _ in fit(tiny_config, tiny, out=tmp_path):
        pass
    path = tmp_path / runs.WEIGHTS
    content = path.read_bytes()
    at = content.index(b"deviation")
    path.write_bytes(content[:at] + b"deviatiom" + content[at + 9 :])
    with pytest.raises(RunError, match="changed or damaged"):
        load(tmp_path)


def test_axes_that_were_not_measured(tiny: Dataset, tmp_path: Path) -> None:
    bare = Dataset("bare", tiny.train, tiny.validation[:0], tiny.test[:0], tiny.classes)
    for _ in fit(Config(ModelConfig(width=8), TrainConfig(epochs=1)), bare, out=tmp_path):
        pass
    model = load(tmp_path)
    assert model.axes is None
    for explore in (traverse, manifold):
        with pytest.raises(ConfigError, match=r"axes were not measured.*images.*measured\(model, images, labels\)"):
            explore(model)
    assert traverse(model, axes=[2, 0], steps=2).names == ("z₂", "z₀")
    assert manifold(model, axes=[0, 1], steps=2).images.shape == (2, 2, 8, 8)
    assert measured(model, tiny.train.images, tiny.train.labels).axes is not None


# Where images lie.


def test_an_image_lies_where_it_lies_whatever_is_beside_it(cvae: TrainedModel, images: np.ndarray) -> None:
    placed = place(cvae, images)
    assert placed.labels is not None
    assert placed.probabilities is not None
    for index in (3, 7):
        alone = place(cvae, images[index])
        assert alone.labels is not None
        assert alone.labels[0] == placed.labels[index]
        np.testing.assert_allclose(alone.z[0], placed.z[index], atol=1e-5)


def test_the_model_reads_the_labels_of_real_images(cvae: TrainedModel, images: np.ndarray, labels: np.ndarray) -> None:
    probabilities = label_probabilities(cvae, images)
    assert probabilities.shape == (len(images), 3)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (probabilities.argmax(1) == labels).mean() > 0.9
    placed = place(cvae, images[:3], [labels[0], None, "frame"])
    assert placed.labels is not None
    assert placed.probabilities is not None
    assert placed.labels[[0, 2]].tolist() == [labels[0], 2]
    assert np.isnan(placed.probabilities).tolist() == [True, False, True]
    assert placed.probabilities[1] == pytest.approx(probabilities[1].max(), rel=1e-4)
    np.testing.assert_allclose(placed.z[0], cvae.encode(images[:1], labels[:1], binarised=False).mean[0], atol=1e-5)


def test_an_unconditional_model_needs_no_label(vae: TrainedModel, images: np.ndarray) -> None:
    placed = place(vae, images[:2])
    assert placed.labels is None
    assert placed.probabilities is None
    with pytest.raises(LabelError, match=r"label 1\b.*\(vae\)"):
        place(vae, images[:2], [None, 1])
    with pytest.raises(LabelError, match=r"\(vae\).*conditional.*`model='cvae'`"):
        label_probabilities(vae, images)


# Traversals.


def test_traverse_follows_each_axis_by_rate(cvae: TrainedModel) -> None:
    shown = traverse(cvae, "down", steps=5)
    assert cvae.axes is not None
    assert shown.images.shape == (3, 5, 8, 8)
    assert shown.captions == ("−3.0σ", "−1.5σ", "0σ", "+1.5σ", "+3.0σ")
    assert shown.subject == "down"
    for row, axis in enumerate(cvae.axes.order):
        assert shown.names[row] == f"{latent_name(axis)}: {cvae.axes.rate[axis]:.2f} nats"
        z = np.zeros((5, 3))
        z[:, axis] = [-3, -1.5, 0, 1.5, 3]
        assert np.array_equal(shown.images[row], cvae.decode(z, ["down"] * 5))
    rates = [cvae.axes.rate[axis] for axis in cvae.axes.order]
    assert rates == sorted(rates, reverse=True)
    assert traverse(cvae, steps=2).subject == "across"  # the first, where none is named


def test_traverse_from_an_image_or_a_latent(cvae: TrainedModel, images: np.ndarray, labels: np.ndarray) -> None:
    placed = place(cvae, images[0], [labels[0]])
    by_image = traverse(cvae, labels[0], image=images[0], axes=[1], steps=7)
    assert np.array_equal(by_image.images, traverse(cvae, labels[0], z=placed.z[0], axes=[1], steps=7).images)
    z = np.repeat(placed.z, 7, 0)
    z[:, 1] = np.linspace(-3, 3, 7)
    assert np.array_equal(by_image.images[0], cvae.decode(z, np.repeat(labels[:1], 7)))
    read = traverse(cvae, image=images[0], axes=[1], steps=7)
    assert read.subject == cvae.classes[label_probabilities(cvae, images[0]).argmax()]


# Interpolations.


def test_slerp_keeps_the_length_and_the_speed() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(size=6)
    b = rng.normal(size=6)
    b *= np.linalg.norm(a) / np.linalg.norm(b)
    way = slerp(a, b, np.linspace(0, 1, 9)).astype(np.float64)
    np.testing.assert_allclose(np.linalg.norm(way, axis=1), np.linalg.norm(a), rtol=1e-6)
    steps = np.linalg.norm(np.diff(way, axis=0), axis=1)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-4)
    np.testing.assert_allclose(way[[0, -1]], [a, b], rtol=1e-6)
    middle = slerp(np.array([1.0, 0]), np.array([0, 1.0]), np.array([0.5]))
    np.testing.assert_allclose(middle, [[0.5**0.5, 0.5**0.5]], rtol=1e-6)


def test_slerp_is_straight_where_there_is_no_arc() -> None:
    half = np.array([0.5])
    a = np.array([1.0, 2.0])
    np.testing.assert_allclose(slerp(a, a, half), [a])
    np.testing.assert_allclose(slerp(a, 3 * a, half), [2 * a])
    np.testing.assert_allclose(slerp(a, -a, half), [[0, 0]], atol=1e-6)
    np.testing.assert_allclose(slerp(0 * a, a, half), [a / 2])


def test_interpolate_from_one_image_to_another(cvae: TrainedModel, images: np.ndarray, labels: np.ndarray) -> None:
    second = int(np.flatnonzero(labels != labels[0])[0])
    pair = [0, second]
    shown = interpolate(cvae, images[pair], labels[pair], steps=5)
    assert shown.images.shape == (1, 5, 8, 8)
    assert shown.names == (f"{cvae.classes[labels[0]]} → {cvae.classes[labels[second]]}",)
    assert shown.captions == ("0 %", "25 %", "50 %", "75 %", "100 %")
    z = place(cvae, images[pair], labels[pair]).z
    assert np.array_equal(shown.images[0, [0, -1]], cvae.decode(z, labels[pair]))
    weights = np.zeros((1, 3))
    weights[0, labels[pair]] = 0.5
    assert np.array_equal(shown.images[0, 2:3], cvae.decode(slerp(z[0], z[1], np.array([0.5])), weights))
    assert shown.originals is not None
    assert shown.ends is not None
    assert np.array_equal(shown.originals, images[:1])
    assert np.array_equal(shown.ends, images[second : second + 1])
    under = interpolate(cvae, images[pair], labels[pair], under=["frame"], steps=5)
    assert under.names == ("frame",)
    assert np.array_equal(under.images[0, [0, -1]], cvae.decode(z, ["frame", "frame"]))


def test_interpolate_between_latents(vae: TrainedModel, cvae: TrainedModel) -> None:
    z = vae.latents(2)
    shown = interpolate(vae, z=z, steps=2)
    assert shown.names == ()
    assert np.array_equal(shown.images[0], vae.decode(z))
    z = cvae.latents(2)
    assert np.array_equal(interpolate(cvae, z=z, under=[0, 2], steps=2).images[0], cvae.decode(z, [0, 2]))
    with pytest.raises(LabelError, match=r"0 labels.*one, or two"):
        interpolate(cvae, z=z)
    with pytest.raises(LabelError, match=r"3 labels.*one, or two"):
        interpolate(cvae, z=z, under=[0, 1, 2])
    with pytest.raises(LabelError, match=r"label '?0'?.*\(vae\)"):
        interpolate(vae, z=vae.latents(2), under=[0])


def test_labels_may_be_weighted(cvae: TrainedModel) -> None:
    z = cvae.latents(3)
    assert np.array_equal(cvae.decode(z, np.eye(3)), cvae.decode(z, [0, 1, 2]))
    assert not np.array_equal(cvae.decode(z, np.full((3, 3), 1 / 3)), cvae.decode(z, [0, 1, 2]))
    with pytest.raises(LabelError, match=r"weights.*\(3, 2\).*\(3, 3\)"):
        cvae.decode(z, np.ones((3, 2)))
    samples = torch.zeros(2, 3, 3)
    weights = torch.eye(3)
    with torch.no_grad():
        one, both = (cvae.model.decode(z, weights).mean() for z in (samples[1], samples))
    torch.testing.assert_close(both, one.expand_as(both))


# Sheets.


def test_manifold_goes_by_quantiles(cvae: TrainedModel) -> None:
    sheet = manifold(cvae, "frame", steps=4)
    assert cvae.axes is not None
    across, up = cvae.axes.order[:2]
    quantile = np.array([-1.1503494, -0.3186394, 0.3186394, 1.1503494])  # of 1/8, 3/8, 5/8, 7/8
    for row in range(4):
        z = np.zeros((4, 3))
        z[:, across] = quantile
        z[:, up] = quantile[3 - row]
        assert np.array_equal(sheet.images[row], cvae.decode(z, ["frame"] * 4))
    assert sheet.captions == ("−1.2", "−0.3", "+0.3", "+1.2")
    assert sheet.names == sheet.captions[::-1]
    turned = manifold(cvae, "frame", axes=[up, across], steps=4)
    assert np.array_equal(turned.images, sheet.images[::-1, ::-1].swapaxes(0, 1))
    held = manifold(cvae, "frame", steps=2, z=np.ones(3))
    assert not np.array_equal(held.images, manifold(cvae, "frame", steps=2).images)


# Restyling.


def test_restyle_draws_every_label(cvae: TrainedModel, images: np.ndarray, labels: np.ndarray) -> None:
    shown = restyle(cvae, images[:4], labels[:4])
    assert shown.images.shape == (4, 3, 8, 8)
    assert shown.captions == cvae.classes
    assert shown.originals is not None
    assert np.array_equal(shown.originals, images[:4])
    assert shown.names == tuple(cvae.classes[label] for label in labels[:4])
    z = place(cvae, images[:4], labels[:4]).z
    for label in range(3):
        assert np.array_equal(shown.images[:, label], cvae.decode(z, [label] * 4))
    assert np.array_equal(styles(cvae, images[:4], labels[:4]), shown.images)
    own = shown.images[np.arange(4), labels[:4]].astype(float)
    assert np.abs(own - images[:4]).mean() < 0.6 * np.abs(shown.images.astype(float) - images[:4, None]).mean()


def test_restyle_says_what_it_read(cvae: TrainedModel, images: np.ndarray) -> None:
    shown = restyle(cvae, images[0])
    assert shown.images.shape == (1, 3, 8, 8)
    assert shown.names[0] == f"read as {cvae.classes[label_probabilities(cvae, images[:1]).argmax()]}"


def test_restyle_takes_rows_of_a_table_as_arrays(table: TrainedModel) -> None:
    rows = np.zeros((2, 3), dtype=np.float32)
    assert styles(table, rows, [0, 1]).shape == (2, 2, 3)
    assert styles(table, rows[0], ["a"]).shape == (1, 2, 3)


def test_only_a_conditional_model_restyles(vae: TrainedModel, images: np.ndarray) -> None:
    for function in (restyle, styles):
        with pytest.raises(LabelError, match=r"\(vae\).*conditional.*`model='cvae'`"):
            function(vae, images[:1])


# Posteriors.


def test_posterior_holds_means_and_deviations(cvae: TrainedModel, images: np.ndarray, labels: np.ndarray) -> None:
    shown = posterior(cvae, images, labels)
    encoded = cvae.encode(images, labels, binarised=False)
    assert np.array_equal(np.asarray(shown), encoded.mean)
    assert np.array_equal(shown.log_variance, encoded.log_variance)
    assert cvae.axes is not None
    assert shown.axes == cvae.axes.order[:2]
    renamed = posterior(cvae, images, 2 - labels, classes=cvae.classes[::-1], axes=(2, 0))
    np.testing.assert_allclose(renamed.mean, encoded.mean, atol=1e-5)
    assert renamed.axes == (2, 0)
    assert np.array_equal(np.asarray(posterior(cvae, images)), place(cvae, images).z)


@pytest.mark.parametrize("named", ["0", "a name"])
def test_posteriors_are_drawn_with_and_without_labels(vae: TrainedModel, images: np.ndarray, named: str) -> None:
    plain = np.asarray(posterior(vae, images).picture())
    labels = np.arange(len(images)) % 3
    marked = np.asarray(posterior(vae, images, labels, classes=[named, "1", "2"]).picture())
    assert plain.shape[:2] == (792, 792)
    assert marked.shape[0] == 792
    assert marked.shape[1] == (792 if named == "0" else 984)  # names as marks need no legend
    assert len(np.unique(marked.reshape(-1, 3), axis=0)) > len(np.unique(plain.reshape(-1, 3), axis=0))


def test_a_tables_posteriors_are_drawn(table: TrainedModel) -> None:
    rows = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    assert posterior(table, rows, np.zeros(5, dtype=np.int64)).picture().size[0] > 500


# What they are as objects and files.


def test_pictures_are_arrays_that_show_themselves(cvae: TrainedModel, images: np.ndarray, labels: np.ndarray) -> None:
    shown = restyle(cvae, images[:2], labels[:2])
    assert np.array_equal(np.asarray(shown), shown.images)
    assert np.asarray(shown, dtype=np.float32).dtype == np.float32
    assert repr(shown) == "Pictures('the style of an image under every label', 2 × 3 images of 8×8)"
    with Image.open(io.BytesIO(shown._repr_png_())) as picture:
        assert picture.size == shown.sheet().size
    with Image.open(io.BytesIO(posterior(cvae, images, labels)._repr_png_())) as picture:
        assert picture.size == (984, 792)


def test_a_sheet_shows_every_image_enlarged() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 8), dtype=np.uint8)
    page = np.asarray(Pictures(images, seamless=True).sheet())[:, :, 0]
    assert page.shape == (2 + 2 * 32, 2 + 3 * 32)
    tiled = images.transpose(0, 2, 1, 3).reshape(16, 24).repeat(4, 0).repeat(4, 1)
    assert np.array_equal(page[2:, 2:], tiled)
    whole = Pictures(images, originals=images[:, 0], ends=images[:, 1], captions=("a", "b", "c"))
    assert whole.sheet().size[0] - Pictures(images).sheet().size[0] == 2 * (56 + 2) + 12


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".GIF"])
def test_animations_run_there_and_back(tmp_path: Path, suffix: str) -> None:
    images = np.arange(4, dtype=np.uint8)[None, :, None, None] * np.full((1, 1, 8, 8), 60, dtype=np.uint8)
    path = tmp_path / f"moving{suffix}"
    Pictures(images, captions=tuple("abcd")).save(path, fps=20)
    with Image.open(path) as animation:
        levels, durations = [], []
        for frame in range(getattr(animation, "n_frames", 1)):
            animation.seek(frame)
            levels.append(int(np.asarray(animation.convert("L"))[60, 60]))
            durations.append(animation.info["duration"])
        assert animation.info["loop"] == 0
        assert min(animation.size) >= 224
    assert levels == pytest.approx([0, 60, 120, 180, 120, 60], abs=2)
    assert durations == [50] * 6


def test_frames_hold_every_row_with_its_name() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 2, 8, 8), dtype=np.uint8)
    first, second = Pictures(images, names=tuple("abcde"), captions=("x", "y")).frames()
    assert first.size == second.size == (2 + 3 * 114, 26 + 2 * (112 + 16 + 2))
    page = np.asarray(second)[:, :, 0]
    assert np.array_equal(page[26 : 26 + 112 : 14, 2 : 2 + 112 : 14], images[0, 1])
    assert np.array_equal(page[26 + 130 : 26 + 242 : 14, 2 + 114 : 2 + 226 : 14], images[4, 1])


def test_sheets_beside_one_another(cvae: TrainedModel) -> None:
    sheets = [manifold(cvae, label, steps=3) for label in cvae.classes]
    page = beside(sheets, columns=2)
    one = sheets[0].sheet().size
    assert page.size[1] > 2 * 3 * 32
    assert page.size[0] < 2 * one[0] + 400


def test_what_cannot_be_written(tmp_path: Path, cvae: TrainedModel, images: np.ndarray, labels: np.ndarray) -> None:
    pictures = Pictures(np.zeros((1, 2, 8, 8), dtype=np.uint8))
    with pytest.raises(OutputError, match=r"x\.jpg.*\.png, \.gif or \.webp"):
        pictures.save(tmp_path / "x.jpg")
    with pytest.raises(ConfigError, match=r"`fps`.*0.*1 to 50"):
        pictures.save(tmp_path / "x.gif", fps=0)
    with pytest.raises(OutputError, match=r"x\.gif.*\.png$"):
        posterior(cvae, images, labels).save(tmp_path / "x.gif")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        pictures.save(tmp_path / "file" / "x.gif")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_public_names() -> None:
    assert vaelab.restyle is restyle
    assert {"traverse", "interpolate", "manifold", "restyle", "posterior", "prepare"} <= set(vaelab.__all__)


# What cannot be.


def test_axes_and_steps_out_of_range(cvae: TrainedModel, vae: TrainedModel) -> None:
    for axes, got in (([3], "3"), ([-1], "-1"), ([0, 0], "0,0"), ([], "none")):
        with pytest.raises(ConfigError, match=f"`axes`.*{got}.*0 to 2"):
            traverse(cvae, axes=axes)
    with pytest.raises(ConfigError, match=r"`axes`.*3.*two"):
        manifold(cvae, axes=[0, 1, 2])
    for steps in (1, 201):
        for explore in (traverse, manifold):
            with pytest.raises(ConfigError, match=f"`steps`.*{steps}.*2 to 200"):
                explore(vae, steps=steps)
    with pytest.raises(DataError, match=r"latent.*\(3,\).*\(4,\)"):
        traverse(vae, z=np.zeros(3))


def test_labels_and_images_that_cannot_be(cvae: TrainedModel, vae: TrainedModel, images: np.ndarray) -> None:
    with pytest.raises(LabelError, match=r"label 'dawn'.*'down'"):
        traverse(cvae, "dawn")
    with pytest.raises(LabelError, match=r"label 'down'.*\(vae\)"):
        manifold(vae, "down")
    with pytest.raises(LabelError, match="2 labels for 3 images"):
        restyle(cvae, images[:3], [0, 1])
    with pytest.raises(DataError, match=r"9×9.*8×8"):
        restyle(cvae, np.zeros((9, 9), dtype=np.uint8), [0])
    with pytest.raises(ConfigError, match=r"nothing.*two images"):
        interpolate(vae)
    with pytest.raises(ConfigError, match=r"3 images.*two images"):
        interpolate(vae, images[:3])
    with pytest.raises(ConfigError, match=r"2 images.*one"):
        traverse(vae, image=images[:2])


def test_a_model_of_a_table_has_nothing_to_see(table: TrainedModel) -> None:
    rows = np.zeros((2, 3), dtype=np.float32)
    for explore in (
        lambda: traverse(table),
        lambda: manifold(table),
        lambda: restyle(table, rows, [0, 0]),
        lambda: interpolate(table, rows, [0, 0]),
    ):
        with pytest.raises(DataError, match=r"3 reals.*model of images"):
            explore()


def test_one_dimension_makes_no_sheet(tiny: Dataset, tmp_path: Path) -> None:
    for _ in fit(Config(ModelConfig(width=8, latent_dim=1), TrainConfig(epochs=1)), tiny, out=tmp_path):
        pass
    with pytest.raises(ConfigError, match=r"1 latent dimension.*at least 2.*traverse"):
        manifold(load(tmp_path))
    assert traverse(load(tmp_path), steps=2).images.shape == (1, 2, 8, 8)


# Slant and width.


def test_slant_of_a_sheared_bar_is_its_shear() -> None:
    y, x = np.mgrid[0:40, 0:40] - 19.5
    for shear in (-0.6, 0.0, 0.3):
        bar = np.clip(3 - np.abs(x + shear * y), 0, 1)[None] * 200 * (np.abs(y) < 15)
        assert slant(bar)[0] == pytest.approx(shear, abs=0.01)
    assert slant(np.zeros((1, 5, 5), dtype=np.uint8)).tolist() == [0]
    row = np.zeros((1, 5, 5), dtype=np.uint8)
    row[0, 2] = 255
    assert slant(row).tolist() == [0]


def test_width_of_a_bar_is_its_width() -> None:
    for width in (1, 2, 3, 5):
        for turned in (False, True):
            bar = np.zeros((1, 28, 28), dtype=np.uint8)
            bar[0, 4:24, 10 : 10 + width] = 200
            assert stroke_width(bar.swapaxes(1, 2) if turned else bar)[0] == pytest.approx(width, abs=0.15)
    assert stroke_width(np.zeros((1, 5, 5), dtype=np.uint8)).tolist() == [0]


def test_slant_and_width_follow_the_factors_of_strokes() -> None:
    drawn = draw_strokes(500, seed=3)
    assert drawn.labels is not None
    images = drawn.images[:, 0]
    widths = stroke_width(images)
    assert np.corrcoef(widths, drawn.factors["width"])[0, 1] > 0.9
    assert widths.mean() == pytest.approx(drawn.factors["width"].mean(), abs=0.3)
    leaning = slant(images)
    for digit in (1, 3, 5, 7, 8):
        chosen = drawn.labels == digit
        assert np.corrcoef(leaning[chosen], drawn.factors["slant"][chosen])[0, 1] > 0.8
