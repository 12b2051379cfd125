"""AUROC, its error, the PNG correction, and the section on identical and on separated sets."""

import io
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from building import build_model
from conftest import LinearGaussian
from PIL import Image
from sklearn.metrics import roc_auc_score

import vaelab.evaluation.ood as module
from vaelab.config import Config
from vaelab.data import Dataset, Split, dataset_from
from vaelab.data.of_run import not_trained_on
from vaelab.errors import DataError
from vaelab.evaluation.context import EvaluationContext, Settings
from vaelab.evaluation.ood import auroc, ood_section, roc_curve
from vaelab.evaluation.results import Lines, Section, Sheet
from vaelab.inference import outlier_scores
from vaelab.inference.outlier_scores import png_bits
from vaelab.inference.trained import TrainedModel


def test_auroc_is_the_share_of_pairs_with_ties_counting_half() -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.integers(0, 6, 40).astype(float), rng.integers(2, 9, 25).astype(float)
    naive = np.mean([(o > i) + 0.5 * (o == i) for i in inside for o in outside])
    found = auroc(inside, outside)
    assert found.value == pytest.approx(naive)
    truth = np.repeat([0, 1], [40, 25])
    assert found.value == pytest.approx(roc_auc_score(truth, np.concatenate([inside, outside])))
    assert auroc(outside, inside).value == pytest.approx(1 - naive)
    assert found.count == 65


def test_auroc_is_one_half_for_the_same_and_1_for_separated_scores() -> None:
    scores = np.random.default_rng(0).standard_normal(200)
    assert auroc(scores, scores).value == pytest.approx(0.5)
    assert auroc(scores, scores + 100).value == 1
    assert auroc(scores, scores - 100).value == 0
    assert math.isnan(auroc(scores[:1], scores).error)


def test_error_is_the_spread_over_repetitions() -> None:
    rng = np.random.default_rng(0)
    repeated = [auroc(rng.standard_normal(60), rng.standard_normal(40) + 0.8) for _ in range(400)]
    spread = np.std([one.value for one in repeated], ddof=1)
    assert np.mean([one.error for one in repeated]) == pytest.approx(spread, rel=0.12)
    truth = 0.5 * (1 + math.erf(0.8 / 2))
    assert np.mean([one.value for one in repeated]) == pytest.approx(truth, abs=float(spread) / 5)


def test_roc_curve_encloses_its_auroc() -> None:
    rng = np.random.default_rng(1)
    inside, outside = rng.standard_normal(500), rng.standard_normal(400) + 1
    curve = roc_curve(inside, outside, points=501)
    assert curve[-1].tolist() == [1, 1]
    assert (np.diff(curve, axis=0) >= 0).all()
    assert np.trapezoid(curve[:, 1], curve[:, 0]) == pytest.approx(auroc(inside, outside).value, abs=0.005)
    assert roc_curve(inside, inside + 100)[:, 1].min() == 1


def test_png_bits_are_those_of_the_file() -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (2, 1, 12, 9), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey[0, 0]).save(file, "PNG", optimize=True)
    assert png_bits(grey, binary=False)[0] == 8 * len(file.getvalue())
    flat = np.full_like(grey, 7)
    assert (png_bits(flat, binary=False) < png_bits(grey, binary=False)).all()
    binary = np.where(grey > 127, 255, 0).astype(np.uint8)
    # A bit a pixel, not a byte: about 2 bytes and a filter's a row.
    assert (png_bits(binary, binary=True) < png_bits(grey, binary=False) - 8 * 50).all()
    colour = rng.integers(0, 256, (2, 3, 12, 9), dtype=np.uint8)
    assert (png_bits(colour, binary=False) > png_bits(grey, binary=False) + 8 * 150).all()


def untrained(tiny: Dataset, config: Config, kind: Any = "cvae") -> TrainedModel:
    model = build_model(replace(config.model, model=kind), tiny.shape, 3, seed=0).eval()
    return TrainedModel(model, kind, "bernoulli", tiny.classes if kind == "cvae" else ())


def noise(count: int, name: str = "noise") -> Dataset:
    images = np.random.default_rng(7).integers(0, 2, (count, 1, 8, 8), dtype=np.uint8) * 255
    split = Split(images)
    return Dataset(name, split[:0], split[:0], split)


def table(name: str, rows: np.ndarray) -> Dataset:
    split = Split(rows)
    return Dataset(name, split, split, split)


def of(dataset: Dataset, model: TrainedModel, versus: Dataset | None, **settings: Any) -> Section:
    return ood_section(EvaluationContext(model, dataset, Settings(importance_samples=5, **settings), versus=versus))


@pytest.mark.parametrize("kind", ["vae", "cvae"])
def test_three_scores_stand_side_by_side(tiny: Dataset, tiny_config: Config, kind: str) -> None:
    section = of(tiny, untrained(tiny, tiny_config, kind), noise(40))
    assert [one.key for one in section.quantities] == ["auroc_likelihood", "auroc_corrected", "auroc_reconstruction"]
    for one in section.quantities:
        assert one.count == 70
        assert one.error is not None
        assert 0 <= one.value <= 1
        assert dict(one.beside)["chance"] == 0.5
    assert section.words[0].startswith(
        "AUROC for detecting noise (40 images) against tiny (30 images): raw likelihood "
    )
    assert ("most probable" in section.words[-1]) == (kind == "cvae")
    curves, sheet = section.plots
    assert isinstance(curves, Lines)
    assert [series.name for series in curves.series][-1] == "chance"
    assert isinstance(sheet, Sheet)
    assert [row.shape for row in sheet.rows] == [(10, 8, 8)] * 2


def test_the_same_images_are_told_from_themselves_by_no_score(tiny: Dataset, tiny_config: Config) -> None:
    section = of(tiny, untrained(tiny, tiny_config, "vae"), replace(tiny, name="again"))
    # The PNG is the same; of the other two each image has noise of its own.
    for one in section.quantities:
        assert one.value == pytest.approx(0.5, abs=0.06)
    assert any("does not separate" in sentence for sentence in section.words)


def test_rows_far_away_are_told_and_have_no_png(linear_gaussian: LinearGaussian) -> None:
    model = TrainedModel(linear_gaussian.model.float().eval(), "vae", "gaussian", ())
    rows = linear_gaussian.draw(60)[0].float().numpy()
    own, far = table("own", rows), table("far", rows + np.float32(50))
    section = of(own, model, far)
    assert [one.key for one in section.quantities] == ["auroc_likelihood", "auroc_reconstruction"]
    assert section["auroc_likelihood"].value == 1
    assert dict(section["auroc_likelihood"].beside)["false alarm rate when 95 % of the outliers are detected"] == 0
    assert [one.key for one in section.plots] == ["roc"]


def test_a_likelihood_that_fails_is_said_to_fail(linear_gaussian: LinearGaussian) -> None:
    """Rows at the model's mean are more likely than its own data, like simple images."""
    model = TrainedModel(linear_gaussian.model.float().eval(), "vae", "gaussian", ())
    rows = linear_gaussian.draw(60)[0].float().numpy()
    middle = linear_gaussian.bias.float().numpy() + 0 * rows
    own, simple = table("own", rows), table("simple", middle)
    section = of(own, model, simple)
    assert section["auroc_likelihood"].value < 0.1
    assert section.words[1].startswith("The raw likelihood fails: images of simple ")


def test_the_label_of_both_sides_is_what_the_model_reads(
    tiny: Dataset, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def likeliest(model: Any, images: torch.Tensor) -> torch.Tensor:
        read.append(len(images))
        return torch.full((len(images),), 2)

    monkeypatch.setattr(outlier_scores, "likeliest_labels", likeliest)
    model = untrained(tiny, tiny_config)
    first = of(tiny, model, noise(40))
    assert read == [70]
    assert tiny.test.labels is not None
    relabelled = replace(tiny, test=Split(tiny.test.images, (tiny.test.labels + 1) % 3))
    assert of(relabelled, model, noise(40)).quantities == first.quantities


def test_an_autoencoder_is_asked_by_its_reconstruction(tiny: Dataset, tiny_config: Config) -> None:
    section = of(tiny, untrained(tiny, tiny_config, "ae"), noise(40))
    assert [one.key for one in section.quantities] == ["auroc_reconstruction"]
    assert "no likelihood" in section.words[1]


def test_a_source_without_test_images_brings_what_it_has(tiny: Dataset, tiny_config: Config) -> None:
    split = noise(20).test
    training = Dataset("training", split, split[:0], split[:0])
    assert of(tiny, untrained(tiny, tiny_config, "vae"), training)["auroc_likelihood"].count == 50
    one = of(tiny, untrained(tiny, tiny_config, "vae"), noise(1))["auroc_likelihood"]
    assert one.count == 31
    assert math.isnan(one.error or 0)


def test_all_images_of_a_source_without_its_own_test_set_are_outliers(tiny: Dataset) -> None:
    few = dataset_from(noise(30).test.images)
    assert 0 < len(few.test) < 30
    assert sum(map(len, not_trained_on(few, tiny.fingerprint))) == 30
    own = dataset_from({"train": noise(30).test.images, "test": noise(7).test.images})
    assert sum(map(len, not_trained_on(own, tiny.fingerprint))) == 7
    of_the_same_data = not_trained_on(few, few.fingerprint)  # the training images are no outliers to a model of them
    assert sum(map(len, of_the_same_data)) == len(few.test)


def test_no_other_source_leaves_it_out(tiny: Dataset, tiny_config: Config) -> None:
    section = of(tiny, untrained(tiny, tiny_config), None)
    assert "versus" in section.left_out


def test_another_size_is_an_error_that_names_the_parameter(tiny: Dataset, tiny_config: Config) -> None:
    split = Split(np.zeros((3, 1, 9, 7), dtype=np.uint8))
    with pytest.raises(DataError, match=r"small: got grey images of 9×7; expected grey images of 8×8, .*`size='8x8'`"):
        of(tiny, untrained(tiny, tiny_config), Dataset("small", split, split[:0], split))


def test_many_images_are_thinned_by_the_seed(
    tiny: Dataset, tiny_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUICK_IMAGES", 10)
    model = untrained(tiny, tiny_config, "vae")
    first, again, other = (of(tiny, model, noise(40), quick=True, seed=seed) for seed in (0, 0, 1))
    assert first["auroc_likelihood"].count == 20
    assert first.quantities == again.quantities
    assert first.quantities != other.quantities
