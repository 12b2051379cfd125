"""Two models compared image by image."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from building import build_model

import vaelab
from vaelab.config import ModelConfig
from vaelab.data import Dataset
from vaelab.errors import VaelabError
from vaelab.inference.trained import TrainedModel


@pytest.fixture(scope="module")
def models(studio_run: Path) -> dict[str, TrainedModel]:
    return {kind: vaelab.load(studio_run / place) for kind, place in (("cvae", "."), ("vae", "vae"), ("ae", "ae"))}


def test_two_arrays_have_the_difference_and_its_paired_standard_error() -> None:
    first = np.array([100.0, 50.0, 75.0])
    found = vaelab.compare_scores(first, first + np.array([1, 2, 3]))
    assert (found.first, found.second, found.difference, found.count) == (75, 77, 2, 3)
    assert found.standard_error == pytest.approx(1 / 3**0.5)
    expected = "second − first: +2.00 ± 0.58 nats per image (first 75.00, second 77.00, n = 3)"
    assert str(found) == expected


def test_two_models_are_compared_by_the_nats_that_they_report(models: dict[str, TrainedModel], tiny: Dataset) -> None:
    second, images = models["cvae"], tiny.test.images
    config = ModelConfig(model="cvae", network="mlp", likelihood="bernoulli", latent_dim=2, width=8, depth=1)
    first = replace(second, model=build_model(config, second.model.shape, len(second.classes)).eval())
    found = vaelab.compare_scores(first, second, images, tiny.test.labels)
    nats = [model.reconstruct(images, tiny.test.labels).nats.astype(np.float64) for model in (first, second)]
    each = nats[1] - nats[0]
    assert found.difference == pytest.approx(each.mean())
    assert found.standard_error == pytest.approx(each.std(ddof=1) / len(each) ** 0.5)
    assert vaelab.compare_scores(first, first, images).difference == 0
    first = models["vae"]  # the bound of a conditional model without labels is on log p(x), too
    bound = vaelab.compare_scores(first, second, images, samples=5)
    assert bound.first == pytest.approx(-first.score_samples(images, samples=5).mean())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (lambda m, x: (m["vae"], m["vae"]), "`images`: got none"),
        (lambda m, x: (m["vae"], m["ae"], x), "`first`, `second`: got an autoencoder"),
        (lambda m, x: (m["vae"], m["cvae"], x), "got a conditional model, .* or `samples` and no `labels`"),
        (lambda m, x: (m["vae"], np.zeros(3)), "expected two models and `images`, or two arrays"),
        (lambda m, x: (np.zeros(3), np.zeros(3), x), "expected two models and `images`, or two arrays"),
        (lambda m, x: (np.zeros(3), np.zeros(4)), r"got nats of shapes \(3,\) and \(4,\)"),
        (lambda m, x: (np.zeros(1), np.zeros(1)), "at least 2"),
        (lambda m, x: (np.zeros(3), np.array([0, np.nan, np.inf])), "NaN or infinity as nats of 2 images"),
    ],
)
def test_what_cannot_be_compared(given: Any, words: str, models: dict[str, TrainedModel], tiny: Dataset) -> None:
    with pytest.raises(VaelabError, match=words):
        vaelab.compare_scores(*given(models, tiny.test.images))
