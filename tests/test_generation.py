"""Sampling, decoding, reconstructing and encoding: what is asked for comes out, and what cannot be is said."""

from pathlib import Path

import numpy as np
import pytest
import torch
from building import held_out_input, negative_importance_bound

from vaelab import load
from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data import Dataset
from vaelab.errors import ConfigError, DataError, LabelError
from vaelab.inference.trained import TrainedModel
from vaelab.objectives.batch import held_out_levels
from vaelab.random import latent_noise
from vaelab.training.fit import fit


def trained(dataset: Dataset, folder: Path, **model: object) -> TrainedModel:
    config = Config(ModelConfig(width=64, depth=1, **model), TrainConfig(epochs=150, batch_size=32))  # type: ignore[arg-type]
    for _ in fit(config, dataset, out=folder):
        pass
    return load(folder)


@pytest.fixture(scope="module")
def cvae(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return trained(tiny, tmp_path_factory.mktemp("cvae") / "run", latent_dim=2)


@pytest.fixture(scope="module")
def vae(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return trained(tiny, tmp_path_factory.mktemp("vae") / "run", model="vae", latent_dim=8)


@pytest.fixture(scope="module")
def ae(tiny: Dataset, tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return trained(tiny, tmp_path_factory.mktemp("ae") / "run", model="ae", latent_dim=8)


def nearest_label(images: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Label of the nearest training image, by squared distance."""
    known = dataset.train.images.reshape(len(dataset.train), -1).astype(float)
    flat = images.reshape(len(images), -1).astype(float)
    assert dataset.train.labels is not None
    return dataset.train.labels[((flat[:, None] - known[None]) ** 2).sum(-1).argmin(1)]


def test_the_label_asked_for_comes_out(cvae: TrainedModel, tiny: Dataset) -> None:
    samples = cvae.grid(count=50, seed=3)
    assert samples.labels is not None
    assert samples.images.shape == (150, 8, 8)
    assert samples.images.dtype == np.uint8
    assert (nearest_label(samples.images, tiny) == samples.labels).mean() > 0.9


def test_the_same_latents_stand_under_every_label(cvae: TrainedModel) -> None:
    samples = cvae.grid(count=4)
    assert samples.labels is not None
    assert samples.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert np.array_equal(samples.z[:4], samples.z[4:8])
    assert samples.z.dtype == np.float32
    some = cvae.grid(["frame", 0], count=4)
    assert np.array_equal(some.images[:4], samples.images[8:])
    assert np.array_equal(some.images[4:], samples.images[:4])
    assert np.array_equal(cvae.grid(count=2).z[:2], samples.z[:2])  # more images do not change the first ones


def test_labels_go_by_name_or_index(cvae: TrainedModel) -> None:
    by_name = cvae.sample(labels=["frame", "across"], seed=5)
    assert np.array_equal(by_name, cvae.sample(labels=[2, 0], seed=5))
    assert np.array_equal(by_name, cvae.sample(labels=["2", "0"], seed=5))
    assert np.array_equal(by_name, cvae.sample(labels=np.array([2, 0]), seed=5))
    images = cvae.sample(labels=[1] * 10, seed=0)
    assert images.shape == (10, 8, 8)
    assert len(np.unique(images.reshape(10, -1), axis=0)) == 10  # each from a latent of its own


def test_seed_and_temperature(vae: TrainedModel) -> None:
    assert np.array_equal(vae.sample(count=3, seed=1), vae.sample(count=3, seed=1))
    assert not np.array_equal(vae.sample(count=3, seed=1), vae.sample(count=3, seed=2))
    cold = vae.sample(count=3, temperature=0)
    assert np.array_equal(cold[0], cold[2])
    assert vae.latents(5000, temperature=0.5).std() == pytest.approx(0.5, rel=0.02)


def test_a_draw_of_pixels_differs_from_the_mean_but_follows_it(vae: TrainedModel) -> None:
    z = np.tile(vae.latents(1), (4000, 1))
    draws = vae.decode(z, decode="sample", seed=2)
    assert set(np.unique(draws)) <= {0, 255}  # Bernoulli pixels
    mean = vae.decode(z[:1])[0]
    assert np.abs(draws.mean(0) - mean).max() < 255 * 0.05


def test_reconstructions_are_near_and_their_nats_those_of_the_objective(cvae: TrainedModel, tiny: Dataset) -> None:
    assert tiny.test.labels is not None
    result = cvae.reconstruct(tiny.test.images, tiny.test.labels)
    assert result.images.shape == result.originals.shape == (30, 8, 8)
    near = np.abs(result.images.astype(float) - result.originals).mean()
    far = np.abs(np.roll(result.images, 1, 0).astype(float) - result.originals).mean()
    assert near < 0.6 * far
    assert np.array_equal(result.originals, 255 * held_out_input(tiny.test.images[:, 0], "bernoulli").numpy())
    # Bernoulli distortion, by hand in float64 from the decoded means of one draw each.
    z = cvae.encode(tiny.test.images, tiny.test.labels)
    assert z.mean.shape == z.log_variance.shape == (30, 2)
    rate = 0.5 * (z.mean**2 + np.exp(z.log_variance) - z.log_variance - 1).sum(1)
    np.testing.assert_allclose(result.rate, rate, rtol=1e-4)
    drawn = z.mean + np.exp(z.log_variance / 2) * latent_noise(30, 2, 0).numpy()
    with torch.no_grad():
        decoded = (
            cvae.model.decode(torch.from_numpy(drawn), torch.from_numpy(tiny.test.labels)).mean().double().numpy()[:, 0]
        )
    assert np.abs(255 * decoded - result.images).max() <= 0.51  # they are rounded to 8 bits
    p = np.clip(decoded, 1e-6, 1 - 1e-6)
    x = result.originals / 255.0
    by_hand = -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum((1, 2))
    np.testing.assert_allclose(result.distortion, by_hand, rtol=1e-4)


def test_every_layout_of_images_is_taken(vae: TrainedModel, tiny: Dataset) -> None:
    images = tiny.test.images
    means = [vae.encode(layout).mean for layout in (images, images[:, 0], np.moveaxis(images, 1, -1))]
    assert np.array_equal(means[0], means[1])
    assert np.array_equal(means[0], means[2])


def test_an_autoencoder_reconstructs_but_random_points_are_rubbish(
    ae: TrainedModel, vae: TrainedModel, tiny: Dataset
) -> None:
    def distance(images: np.ndarray) -> float:
        known = tiny.train.images.reshape(1, len(tiny.train), -1).astype(float)
        return float(((images.reshape(len(images), 1, -1) - known) ** 2).mean(-1).min(1).mean())

    assert ae.reconstruct(tiny.test.images).distortion.mean() < vae.reconstruct(tiny.test.images).distortion.mean()
    assert np.all(ae.reconstruct(tiny.test.images).rate == 0)
    assert np.all(np.isneginf(ae.encode(tiny.test.images).log_variance))
    assert distance(ae.sample(count=200)) > 1.25 * distance(vae.sample(count=200))


def test_matched_labels_go_by_name(cvae: TrainedModel, vae: TrainedModel) -> None:
    matched = cvae.matched_labels(np.array([0, 1, 1]), ["frame", "down", "unused"])
    assert matched is not None
    assert matched.tolist() == [2, 1, 1]
    assert vae.matched_labels(np.array([0]), ["x"]) is None
    with pytest.raises(LabelError, match="label 'sideways'"):
        cvae.matched_labels(np.array([0]), ["sideways"])
    with pytest.raises(LabelError, match=r"without labels.*cvae"):
        cvae.matched_labels(None, [])


def test_labels_that_cannot_be_are_refused(cvae: TrainedModel, vae: TrainedModel) -> None:
    with pytest.raises(LabelError, match=r"label 'acros'.*across, down, frame.*0 to 2.*'across'"):
        cvae.sample(labels=["acros"])
    for label in (3, -1, "7"):
        with pytest.raises(LabelError, match=f"label '?{label}'?.*across, down, frame"):
            cvae.grid([label])
    with pytest.raises(LabelError, match=r"label 'across'.*\(vae\)"):
        vae.sample(labels=["across"])
    with pytest.raises(LabelError, match=r"label 0,.*\(vae\)"):
        vae.grid([0])
    with pytest.raises(LabelError, match=r"no labels.*across, down, frame.*labels="):
        cvae.sample(count=3)
    with pytest.raises(LabelError, match=r"no labels.*across, down, frame"):
        cvae.decode(cvae.latents(2))
    with pytest.raises(LabelError, match="1 label for 2 images"):
        cvae.decode(cvae.latents(2), [0])


def test_numbers_and_arrays_that_cannot_be_are_refused(cvae: TrainedModel, vae: TrainedModel) -> None:
    with pytest.raises(ConfigError, match=r"`count`.*0.*at least 1"):
        vae.sample(count=0)
    with pytest.raises(ConfigError, match=r"`temperature`.*-1\.0.*at least 0"):
        vae.sample(count=1, temperature=-1.0)
    with pytest.raises(ConfigError, match=r"`temperature`.*nan"):
        vae.sample(count=1, temperature=float("nan"))
    with pytest.raises(ConfigError, match=r"`decode`.*'median'.*mean or sample"):
        vae.sample(count=1, decode="median")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"2 labels.*`count=3`"):
        cvae.sample(labels=[0, 1], count=3)
    with pytest.raises(DataError, match=r"latents.*\(2, 5\).*\(N, 8\)"):
        vae.decode(np.zeros((2, 5)))
    with pytest.raises(DataError, match=r"9×9.*8×8"):
        vae.encode(np.zeros((2, 9, 9), dtype=np.uint8))
    with pytest.raises(DataError, match=r"int64.*uint8"):
        vae.encode(np.zeros((2, 8, 8), dtype=np.int64))


def test_scores_are_the_importance_weighted_bound(tiny: Dataset, cvae: TrainedModel) -> None:
    images, labels = tiny.test.images, tiny.test.labels
    assert labels is not None
    scores = cvae.score_samples(images, labels, samples=7, seed=3)
    levels = held_out_levels(images, cvae.likelihood)
    expected = negative_importance_bound(cvae.model, levels, torch.from_numpy(labels), samples=7, seed=3, shared=True)
    np.testing.assert_array_equal(scores, -expected.numpy())
    np.testing.assert_allclose(cvae.score_samples(images[:1], labels[:1], samples=7, seed=3), scores[:1], rtol=1e-5)
    assert scores.shape == (len(images),)
    assert scores.max() < 0
    with pytest.raises(ConfigError, match=r"samples`.*0"):
        cvae.score_samples(images, labels, samples=0)


def test_without_labels_all_are_equally_likely(tiny: Dataset, cvae: TrainedModel) -> None:
    """p(x) = 1/3 Σ p(x|y), so it lies within ln 3 below the best of the three."""
    images = tiny.test.images[:5]
    each = np.stack([cvae.score_samples(images, [label] * 5, samples=20) for label in range(3)])
    scores = cvae.score_samples(images, samples=20)
    np.testing.assert_allclose(np.exp(scores - each.max(0)), np.exp(each - each.max(0)).mean(0))
    assert (scores <= each.max(0)).all()
    assert (scores >= each.max(0) - np.log(3) - 1e-9).all()


def test_an_autoencoder_scores_nothing(tiny: Dataset, ae: TrainedModel) -> None:
    with pytest.raises(ConfigError, match="autoencoder"):
        ae.score_samples(tiny.test.images)
