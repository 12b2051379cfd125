"""The style section on a planted decoder that draws a bar whose slant and width are latent dimensions."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import flat
from evaluation_contexts import one_class
from torch import Tensor, nn

import vaelab.evaluation.style_section as module
from vaelab.config import ModelName
from vaelab.data import Dataset, Split
from vaelab.data.strokes import draw_strokes
from vaelab.evaluation.context import EvaluationContext, Settings
from vaelab.evaluation.results import Bars, Matrix, Section, Sheet
from vaelab.evaluation.style_section import correlation_across, growing_direction, style_section
from vaelab.inference.trained import TrainedModel
from vaelab.models.vae import SingleLatentVAE

SIDE, WIDTH = 28, 3
CLASSES = tuple("0123456789")


class Pixels(nn.Module):
    """An encoder body that returns the pixels."""

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        return images.flatten(1)


class Bar(nn.Module):
    """A bar whose slant is 0.2 · z₂ and whose width is 3 + 0.5 · z₀; with `turned`, it leans the other way under odd labels."""

    def __init__(self, turned: bool) -> None:
        super().__init__()
        self.turned = turned

    def forward(self, latent: Tensor, labels: Tensor | None) -> Tensor:
        lean = 0.2 * latent[:, 2]
        if self.turned and labels is not None:
            lean = lean * (1 - 2.0 * (labels.argmax(1) % 2))
        y, x = torch.meshgrid(torch.arange(SIDE) - 13.5, torch.arange(SIDE) - 13.5, indexing="ij")
        half = (3 + 0.5 * latent[:, 0, None, None]) / 2
        inside = half - (x + lean[:, None, None] * y).abs()
        return 8 * torch.minimum(inside, 9 - y.abs())[:, None, None]


def hand(kind: ModelName = "cvae", *, turned: bool = False, classes: tuple[str, ...] = CLASSES) -> TrainedModel:
    torch.manual_seed(0)
    model = SingleLatentVAE(
        Pixels(),
        Bar(turned),
        head=nn.Linear(SIDE * SIDE, (1 if kind == "ae" else 2) * WIDTH),
        latent_dim=WIDTH,
        likelihood="bernoulli",
        shape=(1, SIDE, SIDE),
        classes=len(classes) if kind == "cvae" else 0,
        stochastic=kind != "ae",
    )
    return TrainedModel(model.eval(), kind, "bernoulli", classes if kind == "cvae" else ())


@pytest.fixture(scope="module")
def drawn() -> Dataset:
    split = draw_strokes(500, seed=1)
    return Dataset("drawn", split[:100], split[:0], split[100:], classes=CLASSES)


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Fewer latents and resamples than in a report; enough for a bar."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "QUICK_LATENTS", 60)
        patch.setattr(module, "RESAMPLED", 20)
        yield


def of(dataset: Dataset, model: TrainedModel, **settings: Any) -> Section:
    return style_section(EvaluationContext(model, dataset, Settings(quick=True, **settings)))


def keys(section: Section) -> set[str]:
    return {quantity.key for quantity in section.quantities}


def plot(section: Section, key: str) -> Any:
    return next(one for one in section.plots if one.key == key)


def test_correlation_is_the_mean_over_pairs() -> None:
    values = np.random.default_rng(0).standard_normal((50, 3)).cumsum(1)
    pairs = [np.corrcoef(values[:, a], values[:, b])[0, 1] for a, b in ((0, 1), (0, 2), (1, 2))]
    assert correlation_across(values) == pytest.approx(np.mean(pairs))
    assert correlation_across(values[:, :1].repeat(4, 1) * [1, 2, 3, 4] + [5, 6, 7, 8]) == pytest.approx(1)
    still = np.concatenate([values[:, :2], np.ones((50, 1))], axis=1)
    assert correlation_across(still) == pytest.approx(pairs[0])
    assert np.isnan(correlation_across(still[:, 1:]))


def test_direction_of_growth_is_the_gradient() -> None:
    z = np.random.default_rng(0).standard_normal((400, 3))
    np.testing.assert_allclose(growing_direction(z, z @ [3.0, 0, -4] + 7), [0.6, 0, -0.8], atol=1e-9)
    np.testing.assert_allclose(growing_direction(z, np.ones(400)), 0, atol=1e-9)


def test_one_hand_under_all_labels(drawn: Dataset) -> None:
    section = of(drawn, hand())
    for key in ("slant", "width"):
        assert section[f"{key}_correlation"].value > 0.999
        assert section[f"{key}_correlation"].count == 60
    assert section.words[0].startswith("For the same z decoded under 10 labels")
    slant, width = plot(section, "slant_direction"), plot(section, "width_direction")
    assert isinstance(slant, Bars)
    np.testing.assert_allclose(slant.values, [0, 0, 1], atol=0.1)
    np.testing.assert_allclose(width.values, [1, 0, 0], atol=0.1)
    assert "slant along z₂ (1.00) and stroke width along z₀ (1.00)" in section.words[1]


def test_labels_that_lean_the_other_way_are_found(drawn: Dataset) -> None:
    section = of(drawn, hand(turned=True))
    # Of 45 pairs of labels 20 agree and 25 are opposed.
    assert section["slant_correlation"].value == pytest.approx((20 - 25) / 45, abs=0.01)
    assert section["width_correlation"].value > 0.97


def test_a_walk_shows_what_grows(drawn: Dataset) -> None:
    sheet = plot(of(drawn, hand()), "width_walk")
    assert isinstance(sheet, Sheet)
    assert sheet.names == ("0", "2", "4", "6", "9")
    assert [row.shape for row in sheet.rows] == [(9, SIDE, SIDE)] * 5
    assert sheet.captions[0][0] == "−2.4"
    assert sheet.captions[0][4] == "0"
    ink = sheet.rows[0].astype(float).sum((1, 2))
    assert (np.diff(ink) > 0).all()


def test_true_factors_are_read_out_where_they_are_known(drawn: Dataset) -> None:
    section = of(drawn, hand())
    assert {"factor_slant", "factor_wobble", "mutual_information_gap", "disentanglement", "completeness"} <= keys(
        section
    )
    assert "factor_variant" not in keys(section)
    assert "the 9 true factors" in section.words[3]
    importance = plot(section, "factor_importance")
    assert isinstance(importance, Matrix)
    assert importance.values.shape == (9, WIDTH)
    assert importance.column_names == ("z₀", "z₁", "z₂")
    bare = replace(drawn, test=Split(drawn.test.images, drawn.test.labels))
    assert not {key for key in keys(of(bare, hand())) if key.startswith(("factor", "mutual", "dis"))}


def test_a_code_that_is_the_factors_is_perfect(drawn: Dataset) -> None:
    """Drawings whose true factors are the model's latents: all scores are 1."""
    model = hand("vae")
    codes = model.encode(drawn.test.images).mean
    factors = {f"f{axis}": codes[:, axis] * (axis + 1) for axis in range(WIDTH)}
    planted = replace(drawn, test=Split(drawn.test.images, drawn.test.labels, factors))
    section = of(planted, model)
    for axis in range(WIDTH):
        assert section[f"factor_f{axis}"].value == pytest.approx(1, abs=1e-6)
    assert section["disentanglement"].value > 0.8
    assert section["completeness"].value > 0.8
    assert section["informativeness"].value > 0.85


def test_an_unconditional_model_has_style_but_not_across_labels(drawn: Dataset) -> None:
    section = of(drawn, hand("vae"))
    assert not keys(section) & {"slant_correlation", "width_correlation"}
    assert {"slant_readout", "width_readout"} <= keys(section)
    assert plot(section, "slant_walk").names == ("",)


def test_one_label_has_no_correlation_across_labels(drawn: Dataset) -> None:
    section = of(one_class(drawn, "digit"), hand(classes=("digit",)))
    assert keys(section) == {"slant_readout", "width_readout"}
    assert "nan" not in " ".join(section.words)
    assert plot(section, "slant_walk").names == ("digit",)


def test_the_label_explains_slant_that_z_does_not_hold(drawn: Dataset) -> None:
    """Slant differs between digits, so label and z together explain more than an uninformative z alone."""
    model = hand()
    with torch.no_grad():
        flat(model.model).head.weight.zero_()
    readout = of(drawn, model)["slant_readout"]
    assert readout.value < 0.02
    assert dict(readout.beside)["from z and the label"] > readout.value + 0.02


def test_too_few_images_for_a_readout_are_said(drawn: Dataset) -> None:
    few = replace(drawn, test=drawn.test[:20])
    section = of(few, hand())
    assert "20 test images are fewer than 50" in section.words[-1]
    assert keys(section) == {"slant_correlation", "width_correlation"}


def test_a_class_that_is_missing_is_no_error(drawn: Dataset) -> None:
    assert drawn.test.labels is not None
    missing = replace(drawn, test=drawn.test[np.flatnonzero(drawn.test.labels != 4)])
    assert np.isfinite([quantity.value for quantity in of(missing, hand()).quantities]).all()


def test_dark_drawings_on_white_are_turned(drawn: Dataset) -> None:
    dark = replace(drawn, test=replace(drawn.test, images=255 - drawn.test.images))
    model = hand()
    with torch.no_grad():
        flat(model.model).head.weight.zero_()
    for key in ("slant", "width"):
        before, after = (
            dict(of(data, model)[f"{key}_readout"].beside)["from z and the label"] for data in (drawn, dark)
        )
        assert before == pytest.approx(after, abs=1e-6)
        if key == "slant":
            assert before > 0.02  # digits differ in it


def test_grey_and_colour_images_are_left_out(drawn: Dataset) -> None:
    rng = np.random.default_rng(0)
    grey = Split(rng.integers(0, 256, (60, 1, SIDE, SIDE), dtype=np.uint8), np.arange(60) % 10)
    section = of(Dataset("fog", grey, grey[:0], grey, classes=CLASSES), hand())
    assert "measured on drawings" in section.left_out
    assert "fog" in section.left_out
    assert section.quantities == ()


def test_the_seed_decides(drawn: Dataset) -> None:
    model = hand()
    first, again, other = of(drawn, model), of(drawn, model), of(drawn, model, seed=1)
    assert first.quantities == again.quantities
    assert first["slant_readout"].value != other["slant_readout"].value
