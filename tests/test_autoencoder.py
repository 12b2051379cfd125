"""Random points: the Gaussian fitted to the codes, and the difference between an autoencoder and a VAE."""

from pathlib import Path

import numpy as np
import pytest
from conftest import draw_tiny
from evaluation_contexts import context_of, table, tiny_classifier

from vaelab import load
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data import Dataset
from vaelab.evaluation.autoencoder import matched_gaussian, random_points_section
from vaelab.evaluation.context import EvaluationContext, Settings
from vaelab.evaluation.page.axes import shortened
from vaelab.evaluation.results import Section, Sheet
from vaelab.training.fit import fit


def test_matched_gaussian_has_the_codes_moments() -> None:
    rng = np.random.default_rng(0)
    codes = rng.standard_normal((500, 3)) @ np.array([[2.0, 0, 0], [1, 0.5, 0], [0, 3, 0.1]]) + [5, -1, 0]
    normal = rng.standard_normal((200_000, 3))
    found = matched_gaussian(codes, normal)
    assert found.dtype == np.float32
    assert found.mean(0) == pytest.approx(codes.mean(0), abs=0.05)
    assert np.cov(found.T) == pytest.approx(np.cov(codes.T), rel=0.03, abs=0.05)


def test_matched_gaussian_of_codes_in_a_plane_stays_in_it() -> None:
    codes = np.random.default_rng(0).standard_normal((40, 1)) @ np.array([[1.0, 2.0]])
    found = matched_gaussian(codes, np.random.default_rng(1).standard_normal((30, 2)))
    assert found[:, 1] == pytest.approx(2 * found[:, 0], abs=1e-4)


@pytest.mark.parametrize("kind", ["ae", "vae", "cvae"])
def test_every_kind_of_model_is_measured_alike(tiny: Dataset, kind: str) -> None:
    section = random_points_section(context_of(tiny, kind))
    assert [quantity.key for quantity in section.quantities] == [
        "random_fid",
        "random_confidence",
        "random_codes_fid",
        "random_codes_confidence",
    ]
    real = dict(section["random_confidence"].beside)["real held-out images"]
    assert 100 / 3 < section["random_confidence"].value < real
    sheet = section.plots[0]
    assert isinstance(sheet, Sheet)
    assert [row.shape for row in sheet.rows] == [(10, 8, 8)] * 4


def trained(data: Dataset, folder: Path, kind: str) -> Section:
    model = ModelConfig(model=kind, network="mlp", latent_dim=4, likelihood="bernoulli", width=64, depth=1)  # type: ignore[arg-type]
    for _ in fit(Config(model, TrainConfig(epochs=50, batch_size=50, device="cpu")), data, out=folder):
        pass
    context = EvaluationContext(load(folder), data, Settings())
    context.__dict__["classifier"] = tiny_classifier(data)
    return random_points_section(context)


def test_random_points_of_an_autoencoder_are_worse_than_a_vaes(tiny: Dataset, tmp_path: Path) -> None:
    """The autoencoder reconstructs as well as the VAE, but its random points decode to nothing recognisable."""
    data = Dataset("more", draw_tiny(400, seed=1), tiny.validation, draw_tiny(300, seed=2), tiny.classes)
    ae, vae = (trained(data, tmp_path / kind, kind) for kind in ("ae", "vae"))
    assert dict(ae["random_fid"].beside)["reconstructed held-out images"] < 0.2 * ae["random_fid"].value
    assert vae["random_fid"].value < 0.7 * ae["random_fid"].value


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (
            lambda tiny: context_of(Dataset("few", tiny.train, tiny.validation, tiny.test[:1], tiny.classes), "ae"),
            "1 test image cannot be split",
        ),
        (
            lambda tiny: context_of(table(), "ae", classifier=False),
            "No features to compare images in: table: got a table",
        ),
    ],
)
def test_what_cannot_be_classified_is_left_out_with_the_reason(tiny: Dataset, make, reason: str) -> None:
    assert reason in random_points_section(make(tiny)).left_out


def test_names_of_the_rows_are_whole_and_the_fid_says_its_number_of_images(tiny: Dataset) -> None:
    section = random_points_section(context_of(tiny))
    sheet = section.plots[0]
    assert isinstance(sheet, Sheet)
    assert all(shortened(name, 28) == name for name in sheet.names)
    assert any("15 images per set" in sentence and "section on samples" in sentence for sentence in section.words)
