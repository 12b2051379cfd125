"""The latent section on models with a planted latent: results, sentences, and reasons for leaving it out."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from building import build_model
from conftest import flat
from evaluation_contexts import one_class

from vaelab.config import ModelConfig, ModelName
from vaelab.data import Dataset
from vaelab.evaluation.context import EvaluationContext, Settings
from vaelab.evaluation.formatting import exponential
from vaelab.evaluation.latent_section import latent_section
from vaelab.evaluation.results import Bars, Points, Section
from vaelab.inference.latents import latent_name
from vaelab.inference.trained import TrainedModel

WIDTH = 4


def untrained(dataset: Dataset, kind: ModelName, width: int = WIDTH) -> TrainedModel:
    config = ModelConfig(model=kind, network="mlp", latent_dim=width, likelihood="bernoulli", width=16, depth=1)
    model = build_model(config, dataset.shape, len(dataset.classes), seed=3).eval()
    with torch.no_grad():
        flat(model).head.weight *= 5  # as if it had learnt: the posteriors differ from image to image
    return TrainedModel(model, kind, "bernoulli", dataset.classes if kind == "cvae" else ())


def collapse(trained: TrainedModel, *axes: int) -> TrainedModel:
    """Set the posterior in these dimensions to the prior for every image."""
    with torch.no_grad():
        for axis in axes:
            for row in (axis, trained.model.latent_dim + axis):
                flat(trained.model).head.weight[row] = 0
                flat(trained.model).head.bias[row] = 0
    return trained


def of(dataset: Dataset, model: TrainedModel, **settings: Any) -> Section:
    return latent_section(EvaluationContext(model, dataset, Settings(**settings)))


def plot(section: Section, key: str) -> Any:
    return next(one for one in section.plots if one.key == key)


def keys(section: Section) -> set[str]:
    return {quantity.key for quantity in section.quantities}


def test_a_healthy_latent_is_measured_whole(tiny: Dataset) -> None:
    section = of(tiny, untrained(tiny, "vae"))
    assert keys(section) == {
        "active_units",
        "aggregate_divergence",
        "aggregate_divergence_below",
        "image_information",
        "moment_divergence",
        "mmd_squared",
        "mmd_p_value",
        "neighbour_accuracy",
        "cluster_accuracy",
    }
    assert section["active_units"].value == WIDTH
    assert section.words[0].startswith("All 4 latent dimensions are active")
    above, below = section["aggregate_divergence"], section["aggregate_divergence_below"]
    assert below.value < above.value
    rate = dict(section["image_information"].beside)["rate"]
    assert section["image_information"].value == pytest.approx(rate - above.value)
    bars = plot(section, "rate_of_dimensions")
    assert isinstance(bars, Bars)
    assert sum(bars.values) == pytest.approx(rate, rel=1e-5)
    qq = plot(section, "qq")
    assert isinstance(qq, Points)
    assert [name for name, _ in qq.groups] == [latent_name(axis) for axis in np.argsort(-np.array(bars.values))]
    assert all(quantity.definition for quantity in section.quantities)


def test_a_range_that_says_nothing_is_replaced_by_the_number_of_images_that_would_do(tiny: Dataset) -> None:
    """A rate far above ln 30: the estimates leave everything open, so none of them is shown."""
    model = untrained(tiny, "vae")
    with torch.no_grad():
        flat(model.model).head.bias[WIDTH:] -= 20  # narrow posteriors
    section = of(tiny, model)
    rate = sum(plot(section, "rate_of_dimensions").values)
    assert rate > 20
    assert not keys(section) & {"aggregate_divergence", "aggregate_divergence_below", "image_information"}
    sentence = next(word for word in section.words if "KL(q(z)" in word)
    assert "cannot be measured with 30 images" in sentence
    assert f"exp(rate) = {exponential(rate)}" in sentence
    assert "is between" not in " ".join(section.words)
    assert {"moment_divergence", "mmd_squared"} <= keys(section)


@pytest.mark.parametrize(
    ("exponent", "text"),
    [(0, "1"), (3.5, "30"), (2.28, "10"), (12.0, "200,000"), (25, "7·10¹⁰"), (25.3, "1·10¹¹"), (5000, "3·10²¹⁷¹")],
)
def test_a_number_of_images_has_one_digit_and_may_exceed_floats(exponent: float, text: str) -> None:
    assert exponential(exponent) == text


def test_a_planted_collapse_is_found_and_named(tiny: Dataset) -> None:
    section = of(tiny, collapse(untrained(tiny, "vae"), 1, 3))
    assert section["active_units"].value == 2
    assert section.words[0].startswith("2 of 4 latent dimensions are active; 2 have collapsed onto the prior (z₁, z₃)")
    bars = plot(section, "rate_of_dimensions")
    assert bars.marked == {1, 3}
    assert [bars.values[1], bars.values[3]] == pytest.approx([0, 0], abs=1e-6)
    divergence = plot(section, "divergence_of_dimensions").values
    assert max(divergence[1], divergence[3]) < 1e-6 < min(divergence[0], divergence[2])


def test_a_whole_collapse_is_said_with_what_to_do(tiny: Dataset) -> None:
    section = of(tiny, collapse(untrained(tiny, "vae"), *range(WIDTH)))
    assert section["active_units"].value == 0
    assert section.words[0].startswith("Posterior collapse")
    assert "β" in section.words[0]
    assert section["aggregate_divergence"].value == pytest.approx(0, abs=1e-6)
    assert section["mmd_p_value"].value > 0.01
    assert section["neighbour_accuracy"].value < 80


def test_labels_are_read_of_an_unconditional_model_alone(tiny: Dataset) -> None:
    of_vae = of(tiny, untrained(tiny, "vae"))
    chance = dict(of_vae["neighbour_accuracy"].beside)["always predict the most frequent label"]
    assert chance == pytest.approx(100 / 3, abs=7)
    assert chance < of_vae["neighbour_accuracy"].value <= 100
    assert not keys(of(tiny, untrained(tiny, "cvae"))) & {"neighbour_accuracy", "cluster_accuracy"}
    train, validation, test = (replace(split, labels=None) for split in (tiny.train, tiny.validation, tiny.test))
    unlabelled = Dataset("bare", train, validation, test)
    assert not keys(of(unlabelled, untrained(unlabelled, "vae"))) & {"neighbour_accuracy", "cluster_accuracy"}
    single = one_class(tiny, "bar")
    assert not keys(of(single, untrained(single, "vae"))) & {"neighbour_accuracy", "cluster_accuracy"}


def test_an_autoencoder_has_codes_and_no_rate(tiny: Dataset) -> None:
    section = of(tiny, untrained(tiny, "ae"))
    assert keys(section) == {
        "active_units",
        "moment_divergence",
        "mmd_squared",
        "mmd_p_value",
        "neighbour_accuracy",
        "cluster_accuracy",
    }
    assert "no rate" in section.words[0]
    assert {one.key for one in section.plots} == {"qq"}


def test_codes_on_a_line_have_no_divergence_by_moments(tiny: Dataset) -> None:
    """Their covariance is singular, so the divergence would be infinite."""
    model = untrained(tiny, "ae")
    with torch.no_grad():
        flat(model.model).head.weight[1] = flat(model.model).head.weight[0]
        flat(model.model).head.bias[1] = flat(model.model).head.bias[0]
        flat(model.model).head.weight[2:] = 0
    section = of(tiny, model)
    assert "moment_divergence" not in keys(section)
    assert section["active_units"].value == 2


def test_one_image_and_two(tiny: Dataset) -> None:
    model = untrained(tiny, "vae")
    assert of(replace(tiny, test=tiny.test[:1]), model).left_out.startswith("1 test image is too few")
    two = of(replace(tiny, test=tiny.test[:2]), model)
    assert two.left_out == ""
    assert np.isfinite([quantity.value for quantity in two.quantities]).all()


def test_the_seed_decides_and_progress_is_told(tiny: Dataset) -> None:
    model, told = untrained(tiny, "cvae"), list[tuple[str, int, int]]()
    first = latent_section(EvaluationContext(model, tiny, Settings(quick=True), lambda *done: told.append(done)))
    again, other = of(tiny, model, quick=True), of(tiny, model, quick=True, seed=1)
    assert first.quantities == again.quantities
    assert first["aggregate_divergence"].value != other["aggregate_divergence"].value
    assert ("aggregate posterior", 2 + WIDTH, 2 + WIDTH) in told
    assert all(done <= total for _, done, total in told)
