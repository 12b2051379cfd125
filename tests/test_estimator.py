"""The estimators: scikit-learn's checks, pipelines, searches, labels, saving, and errors."""

import dataclasses
import inspect
import pickle
import re
import subprocess
import sys
import unicodedata
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import draw_tiny
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_wine
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import vaelab
from vaelab import VAE, Autoencoder, ConditionalVAE
from vaelab.cli import main
from vaelab.config import Budget, Config, ModelConfig, ResolvedModelConfig, TrainConfig
from vaelab.data import Dataset, Split
from vaelab.errors import ConfigError, DataError, LabelError, RunError, VaelabError
from vaelab.estimators.estimator import _Estimator
from vaelab.training import fit as training
from vaelab.training.fit import Progress
from vaelab.training.resolve import resolve

SMALL: dict[str, Any] = {"latent_dim": 2, "width": 16, "depth": 1, "device": "cpu"}
THREE = (Autoencoder, VAE, ConditionalVAE)
NAMES = np.array(["across", "down", "frame"])


@parametrize_with_checks([kind(**SMALL, epochs=2) for kind in THREE])
def test_scikit_learn_finds_nothing_amiss(estimator: _Estimator, check: Any) -> None:
    """All of its checks, with no exemption."""
    check(estimator)


def drawn(count: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images, uint8 (count, 8, 8), and the name of each."""
    split = draw_tiny(count, seed)
    assert split.labels is not None
    return split.images[:, 0], NAMES[split.labels]


@pytest.fixture(scope="module")
def fitted() -> ConditionalVAE:
    """A conditional VAE of the tiny images that knows its labels."""
    return ConditionalVAE(latent_dim=2, width=64, depth=2, epochs=60, device="cpu").fit(*drawn(300))


def test_the_parameters_are_the_fields_of_the_configuration() -> None:
    fields = [*dataclasses.fields(ModelConfig), *dataclasses.fields(TrainConfig)]
    expected = {field.name: field.default for field in fields if field.name != "model"}
    expected |= {"beta": 1.0, "learning_rate": 3e-3, "seed": 0, "ema": 0.998, "weight_decay": 1e-4, "warmup": 0.02}
    expected |= {
        "gradient_clip": 3.0,
        "kl_warmup": 0.1,
        "free_bits": 0.0,
        "flip": "no",
        "iwae_samples": 1,
        "iwae_fraction": 0.1,
    }
    expected |= {"device": "auto", "precision": "auto", "compile": "no", "verbose": False, "checkpoint_every": 20.0}
    for kind in THREE:
        signature = inspect.signature(kind).parameters.values()
        assert {parameter.name: parameter.default for parameter in signature} == expected
        assert kind().get_params() == expected
    with pytest.raises(TypeError, match="VAE takes no 'latent'"):
        VAE(latent=3)  # pyright: ignore[reportCallIssue]


def test_importing_the_package_imports_no_heavy_library() -> None:
    code = "import sys, vaelab; from vaelab import load_dataset; assert not {'torch', 'sklearn', 'rich'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_session_as_the_documentation_has_it(tmp_path: Path, tiny: Dataset) -> None:
    images, labels = tiny.test.images, tiny.test.labels
    assert labels is not None
    assert tiny.train.labels is not None
    model = ConditionalVAE(latent_dim=3, seconds=1).fit(tiny.train.images, tiny.train.labels)
    assert model.sample(labels=[2] * 10, seed=0).shape == (10, 8, 8)
    z = model.transform(images, labels)
    x = model.inverse_transform(z, labels)
    assert (z.shape, z.dtype, x.shape, x.dtype) == ((30, 3), np.float32, (30, 8, 8), np.uint8)
    np.testing.assert_array_equal(x, model.trained_.decode(z, labels))
    assert np.asarray(model.restyle(images[0], labels[0])).shape == (1, 3, 8, 8)
    model.save(tmp_path / "mine")
    loaded = vaelab.load(tmp_path / "mine")
    np.testing.assert_array_equal(loaded.sample(labels=[2] * 10, seed=0), model.sample(labels=[2] * 10, seed=0))


def test_a_score_is_minus_rate_and_distortion(fitted: ConditionalVAE) -> None:
    images, names = drawn(40, seed=1)
    result = fitted.trained_.reconstruct(images, [str(name) for name in names])
    assert fitted.score(images, names) == pytest.approx(-(result.distortion + result.rate).mean())
    wrong = np.roll(NAMES, 1)[np.searchsorted(NAMES, names)]
    assert fitted.score(images, names) > fitted.score(images, wrong) + 10


def test_an_autoencoder_scores_by_its_distortion_alone() -> None:
    images, _ = drawn()
    model = Autoencoder(**SMALL, epochs=3).fit(images)
    result = model.trained_.reconstruct(images)
    assert not result.rate.any()
    assert model.score(images) == pytest.approx(-result.distortion.mean())


def test_training_raises_the_score() -> None:
    images, _ = drawn()
    short, long = (VAE(**SMALL, epochs=epochs).fit(images).score(images) for epochs in (1, 90))
    assert long > short + 5


def test_floats_from_0_to_1_are_levels() -> None:
    images, _ = drawn()
    models = [VAE(**SMALL, epochs=1).fit(each) for each in (images, images / 255)]
    np.testing.assert_array_equal(models[0].transform(images), models[1].transform((images / 255).astype(np.float32)))


def test_one_colour_image_is_not_rows_of_grey_ones() -> None:
    with pytest.raises(DataError, match=r"X: got one image of shape \(28, 28, 3\).*images\[None\]"):
        VAE(**SMALL, epochs=1).fit(np.zeros((28, 28, 3), np.uint8))


def test_every_layout_of_images_is_the_same() -> None:
    images, _ = drawn()
    colour = np.stack([images, images // 2, 255 - images], axis=-1)
    grey = [VAE(**SMALL, epochs=1).fit(layout) for layout in (images, images[:, None], images[..., None])]
    rgb = [VAE(**SMALL, epochs=1).fit(layout) for layout in (colour, np.moveaxis(colour, -1, 1))]
    for models, layouts in ((grey, (images, images[:, None])), (rgb, (colour, np.moveaxis(colour, -1, 1)))):
        for model in models:
            for layout in layouts:
                np.testing.assert_array_equal(model.transform(layout[:5]), models[0].transform(layouts[0][:5]))
    assert rgb[0].sample(count=2).shape == (2, 8, 8, 3)
    assert (grey[0].n_features_in_, rgb[0].n_features_in_) == (64, 192)


def test_a_latent_depends_on_its_own_image_alone(fitted: ConditionalVAE) -> None:
    images, names = drawn(40, seed=1)
    backwards = fitted.transform(images[::-1], names[::-1])[::-1]
    np.testing.assert_allclose(fitted.transform(images, names), backwards, atol=1e-5)


def test_it_fits_as_the_loop_does_and_is_a_function_of_the_seed() -> None:
    images, _ = drawn()
    one, same, other = (VAE(**SMALL, epochs=2, seed=seed).fit(images) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.transform(images), same.transform(images))
    assert np.abs(one.transform(images) - other.transform(images)).max() > 1e-3
    assert one.config_.model == ResolvedModelConfig("vae", "mlp", 2, "bernoulli", 16, 1)
    assert one.data_.train_count == 108  # a tenth is held out
    last = list(one.fit_steps(images))[-1]
    assert last.finished
    assert (one.n_steps_, one.validation_) == (last.step, last.validation)


def test_leaving_the_loop_keeps_what_was_reached() -> None:
    images, _ = drawn()
    model = VAE(**SMALL, seconds=60)
    for progress in model.fit_steps(images):
        if progress.step >= 20:
            break
    assert 20 <= model.n_steps_ < 20000
    assert model.transform(images).std() > 0


def interrupted(monkeypatch: pytest.MonkeyPatch, *, at: int) -> None:
    """Make the training raise KeyboardInterrupt at the first report of `at` steps or more."""
    train = training.fit

    def fit(config: Config, dataset: Dataset) -> Generator[Progress]:
        for progress in train(config, dataset):
            if at == 0:
                raise KeyboardInterrupt
            yield progress
            if progress.step >= at:
                raise KeyboardInterrupt

    monkeypatch.setattr(training, "fit", fit)


@pytest.mark.parametrize("verbose", [False, True])
def test_an_interrupted_fit_keeps_what_was_learnt(monkeypatch: pytest.MonkeyPatch, verbose: bool) -> None:
    images, _ = drawn()
    interrupted(monkeypatch, at=20)
    model = VAE(**SMALL, seconds=60, verbose=verbose)
    with pytest.warns(ConvergenceWarning, match=r"interrupted at step [\d,]+, after \d+ % of the training") as caught:
        assert model.fit(images) is model
    assert caught[0].filename == __file__
    assert model.n_steps_ >= 20
    assert model.sample(count=3).shape == (3, 8, 8)
    assert model.transform(images).std() > 0


def test_an_interrupt_before_the_first_step_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(monkeypatch, at=0)
    model = VAE(**SMALL, seconds=60)
    with pytest.raises(KeyboardInterrupt):
        model.fit(drawn()[0])
    with pytest.raises(NotFittedError):
        model.sample(count=1)


def test_an_interrupt_of_the_loop_over_the_steps_is_raised_and_keeps_what_was_learnt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images, _ = drawn()
    interrupted(monkeypatch, at=20)
    model = VAE(**SMALL, seconds=60)
    with pytest.raises(KeyboardInterrupt):
        for _ in model.fit_steps(images):
            pass
    assert model.n_steps_ >= 20
    assert model.transform(images).std() > 0


def test_fit_compiles_only_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scikit-learn `fit` starts no C++ compiler by default."""
    configs: list[Config] = []

    def fit(config: Config, dataset: Dataset) -> Generator[Progress]:
        configs.append(config)
        yield from train(config, dataset)

    train = training.fit
    monkeypatch.setattr(training, "fit", fit)
    images, names = drawn()
    for kind in THREE:
        kind(**SMALL, epochs=1).fit(images, names)
        assert configs[-1].train.compile == "no"
    VAE(**SMALL, epochs=1, compile="auto").fit(images)
    assert configs[-1].train.compile == "auto"


def test_verbose_shows_progress(capsys: pytest.CaptureFixture[str]) -> None:
    images, _ = drawn()
    VAE(**SMALL, epochs=1).fit(images)
    assert capsys.readouterr().err == ""
    VAE(**SMALL, epochs=1, verbose=True).fit(images)
    assert re.search(r"100%  epoch 1\.\d  \d+\.\d nats", capsys.readouterr().err)


def test_in_a_pipeline_before_a_classifier() -> None:
    table, kinds = load_wine(return_X_y=True)
    unseen = np.arange(len(table)) % 4 == 0
    pipeline: Any = make_pipeline(VAE(latent_dim=4, epochs=60), LogisticRegression())
    pipeline.fit(table[~unseen], kinds[~unseen])
    assert pipeline.score(table[unseen], kinds[unseen]) > 0.85  # 0.4 by chance
    assert list(pipeline[:-1].get_feature_names_out()) == ["vae0", "vae1", "vae2", "vae3"]
    again: Any = clone(pipeline)
    again.set_params(vae__latent_dim=2).fit(table[~unseen], kinds[~unseen])
    assert again[:-1].transform(table).shape == (178, 2)


@pytest.mark.slow
def test_a_search_over_the_latent_dimensions_finds_those_there_are() -> None:
    """Rows of two strong factors in six columns: one latent dimension cannot hold them."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(240, 2)) @ rng.normal(size=(2, 6)) + 0.1 * rng.normal(size=(240, 6))
    search = GridSearchCV(VAE(epochs=60, width=32, depth=1), {"latent_dim": [1, 2]}, cv=3).fit(table)
    assert search.best_params_ == {"latent_dim": 2}
    one, two = search.cv_results_["mean_test_score"]
    assert two > one + 0.4
    assert search.best_estimator_.transform(table).shape == (240, 2)


def test_a_conditional_model_in_a_pipeline_reads_the_labels_itself(fitted: ConditionalVAE) -> None:
    """What comes after it sees the same latents when it is fitted, with labels, as later, without."""
    images, names = drawn(60, seed=1)
    read = fitted.transform(images)
    told = fitted.transform(images, names)
    assert np.isclose(read, told, atol=1e-5).all(axis=1).mean() > 0.9  # it reads nearly all of them rightly
    model: Any = clone(fitted)
    model.set_params(epochs=2)
    np.testing.assert_allclose(model.fit_transform(images, names), model.transform(images), atol=1e-5)
    pipeline = make_pipeline(clone(model), LogisticRegression()).fit(images, names)
    assert pipeline.predict(images[:7]).shape == (7,)


@pytest.mark.parametrize("values", [NAMES, np.array([10, 20, 35]), np.array([0.0, 1.0, 2.0])])
def test_labels_are_kept_as_they_were_given(values: np.ndarray) -> None:
    images, names = drawn()
    labels = values[np.searchsorted(NAMES, names)]
    model = ConditionalVAE(**SMALL, epochs=1).fit(images, labels)
    np.testing.assert_array_equal(model.classes_, values)
    expected = model.trained_.sample([2, 0], seed=1)
    for asked in (values[[2, 0]], values[[2, 0]].tolist(), [str(values[2]), str(values[0])]):
        np.testing.assert_array_equal(model.sample(asked, seed=1), expected)


def test_labels_are_compared_in_nfc() -> None:
    images, names = drawn(30)
    labels = np.where(names == "down", unicodedata.normalize("NFD", "café"), names)
    model = ConditionalVAE(**SMALL, epochs=1).fit(images, labels)
    index = list(model.classes_).index(labels[names == "down"][0])
    expected = model.trained_.sample([index])
    for form in ("NFC", "NFD"):
        np.testing.assert_array_equal(model.sample([unicodedata.normalize(form, "café")]), expected)


def test_a_label_that_there_is_not_is_named(fitted: ConditionalVAE) -> None:
    with pytest.raises(LabelError, match=r"'fram'.*across, down, frame.*'frame'"):
        fitted.sample(["fram"])
    with pytest.raises(LabelError, match=r"label 2\b.*across, down, frame"):
        fitted.sample([2])  # an index would be a label of another kind
    with pytest.raises(LabelError, match=r"no labels.*across, down, frame"):
        fitted.score(drawn()[0])
    with pytest.raises(
        LabelError, match=r"^ConditionalVAE requires y to be passed, but the target y is None.*`y`.*VAE"
    ):
        ConditionalVAE().fit(drawn()[0])
    with pytest.raises(LabelError, match=r"3 labels for 5 images"):
        fitted.transform(drawn()[0][:5], NAMES)


def test_the_others_take_no_labels() -> None:
    images, names = drawn()
    model = VAE(**SMALL, epochs=1).fit(images, names)  # as a pipeline gives them
    assert not hasattr(model, "classes_")
    assert model.score(images, names) == model.score(images)
    for use in (lambda: model.sample(["down"]), lambda: model.transform(images[:1], ["down"])):
        with pytest.raises(LabelError, match=r"'down'.*\(vae\)"):
            use()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"latent_dim": 0}, r"`latent_dim`.*0.*at least 1"),
        ({"network": "cnn"}, r"`network`.*'cnn'.*mlp, pca, two-colour, conv, ladder"),
        ({"epochs": 1, "seconds": 1}, r"`epochs`.*`seconds`"),
        ({"seed": -1}, r"`seed`.*-1.*at least 0"),
        ({"likelihood": "gaussian", "epochs": 1}, r"`likelihood\b.*gaussian.*images.*bernoulli"),
        ({"device": "tpu", "epochs": 1}, r"`device\b.*tpu|device 'tpu'"),
        ({"encoder": "nowhere", "epochs": 1}, r"`encoder`.*'nowhere'.*import path"),
    ],
)
def test_a_parameter_that_cannot_be_is_refused_by_fit_as_everywhere(parameters: dict[str, Any], message: str) -> None:
    model = VAE(**parameters)  # by scikit-learn's convention the constructor checks nothing
    with pytest.raises(ConfigError, match=message):
        model.fit(drawn()[0])


def test_data_that_cannot_be_are_refused(fitted: ConditionalVAE) -> None:
    images, names = drawn()
    for given, message in (
        (images / 25, r"^X: .*from 0 to 10\.2.*\[0, 1\]"),
        (images.reshape(-1, 8, 2, 4), r"^X: .*\(120, 8, 2, 4\).*\(N, H, W\)"),
        (images[:0], r"^X: .*\(0, 8, 8\).*at least one image"),
    ):
        with pytest.raises(DataError, match=message):
            VAE(epochs=1).fit(given)
    with pytest.raises(DataError, match=r"^X: .*4×8.*8×8"):
        fitted.transform(images[:, :4], names)
    with pytest.raises(DataError, match=r"^X: .*64.*8×8"):
        fitted.transform(images.reshape(-1, 64), names)
    with pytest.raises(DataError, match=r"\(3, 9\).*\(N, 2\)"):
        fitted.inverse_transform(np.zeros((3, 9)), NAMES)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        VAE(epochs=1).fit([[1.0, np.nan], [2.0, 3.0]])
    assert all(issubclass(error, VaelabError | ValueError) for error in (DataError, LabelError, ConfigError))


def test_what_is_not_fitted_says_so(tmp_path: Path) -> None:
    model = ConditionalVAE()
    for use in (
        lambda: model.sample(["a"]),
        lambda: model.transform([[1.0]]),
        lambda: model.inverse_transform([[1.0]]),
        lambda: model.score([[1.0]]),
        lambda: model.restyle(np.zeros((8, 8), np.uint8)),
        lambda: model.save(tmp_path / "run"),
    ):
        with pytest.raises(NotFittedError):
            use()


def test_one_row_is_enough() -> None:
    model = VAE(**SMALL, epochs=1).fit([[1.0, 2.0, 3.0]])
    assert model.validation_ is None
    # every column is constant, so its scale is 1: after one step the mean is within what the initial decoder adds
    np.testing.assert_allclose(model.sample(count=1, temperature=0), [[1, 2, 3]], atol=0.3)


def test_a_fitted_model_can_be_pickled_and_cloned(fitted: ConditionalVAE) -> None:
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.sample(["down"], seed=2), fitted.sample(["down"], seed=2))
    assert not hasattr(clone(fitted), "trained_")
    assert not any(weight.requires_grad for weight in fitted.trained_.model.parameters())
    assert not fitted.trained_.model.training


def test_a_saved_model_is_a_run_of_the_command_line(
    fitted: ConditionalVAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fitted.save("mine")
    with pytest.raises(SystemExit) as ended:
        main(["sample", "mine", "--label", "frame", "--count", "3", "--out", "frames.npz"])
    assert ended.value.code in (0, None)
    with np.load("frames.npz") as made:
        z, images = made["z"], made["images"]
    np.testing.assert_array_equal(images, fitted.inverse_transform(z, ["frame"] * 3))
    with pytest.raises(RunError, match=r"mine.*new folder"):
        fitted.save("mine")


def test_a_run_is_an_estimator_again(fitted: ConditionalVAE, tmp_path: Path) -> None:
    fitted.save(tmp_path / "mine")
    loaded = ConditionalVAE.load(tmp_path / "mine")
    images, names = drawn(20, seed=1)
    assert loaded.score(images, names) == fitted.score(images, names)
    assert loaded.classes_.tolist() == NAMES.tolist()
    assert loaded.validation_ == fitted.validation_
    assert (loaded.n_steps_, loaded.data_, loaded.n_features_in_) == (fitted.n_steps_, fitted.data_, 64)
    assert loaded.trained_.axes == fitted.trained_.axes
    assert loaded.get_params()["epochs"] == 60
    assert loaded.get_params()["compile"] == "no"
    with pytest.raises(RunError, match=r"mine: .*cvae.*ConditionalVAE\.load"):
        VAE.load(tmp_path / "mine")


def test_a_run_of_the_command_line_is_an_estimator(tiny: Dataset, tiny_config: Config, tmp_path: Path) -> None:
    numbered = dataclasses.replace(tiny, classes=("2", "10", "30"))
    for _ in vaelab.fit(tiny_config, numbered, out=tmp_path / "run"):
        pass
    model = ConditionalVAE.load(tmp_path / "run")
    assert model.get_params()["compile"] == "no"  # `auto`, the default of the command line, was no choice
    assert model.classes_.tolist() == [2, 10, 30]
    np.testing.assert_array_equal(model.sample([30], seed=1), model.trained_.sample(["30"], seed=1))
    mixed = dataclasses.replace(tiny, classes=("01", "10", "x"))
    for _ in vaelab.fit(tiny_config, mixed, out=tmp_path / "text"):
        pass
    assert ConditionalVAE.load(tmp_path / "text").classes_.tolist() == ["01", "10", "x"]


def test_a_saved_table_makes_rows_on_the_command_line(tmp_path: Path) -> None:
    table, _ = load_wine(return_X_y=True)
    model = VAE(latent_dim=2, epochs=2).fit(table)
    model.save(tmp_path / "wine")
    with pytest.raises(SystemExit) as ended:
        main(["sample", str(tmp_path / "wine"), "--count", "4", "--out", str(tmp_path / "rows.npz")])
    assert ended.value.code in (0, None)
    with np.load(tmp_path / "rows.npz") as made:
        assert made["images"].shape == (4, 13)
        np.testing.assert_array_equal(made["images"], model.inverse_transform(made["z"]))


@pytest.mark.parametrize(("rows", "epochs"), [(100, 320), (1600, 20), (3000, 20)])
def test_a_table_is_trained_for_so_many_steps_where_no_budget_is_given(rows: int, epochs: int) -> None:
    part = Split(np.zeros((rows, 3), np.float32))
    config = resolve(Config(), Dataset("table", part, part[:0], part[:0]))
    assert config.train.budget == Budget(epochs, "epochs")
    assert config.model.latent_dim == 3  # no more than there are columns
    timed = resolve(Config(train=TrainConfig(seconds=7)), Dataset("table", part, part[:0], part[:0]))
    assert timed.train.budget == Budget(7, "seconds")


def test_the_global_random_state_is_left_alone() -> None:
    before, state = torch.get_rng_state(), np.random.get_state(legacy=False)["state"]["key"]
    VAE(**SMALL, epochs=1).fit(drawn()[0]).sample(count=2)
    assert torch.equal(torch.get_rng_state(), before)
    np.testing.assert_array_equal(np.random.get_state(legacy=False)["state"]["key"], state)


def test_scores_of_samples_are_those_of_the_trained_model() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 4))
    model = VAE(latent_dim=2, epochs=3, width=16).fit(rows)
    scores = model.score_samples(rows[:7], samples=5)
    np.testing.assert_array_equal(scores, model.trained_.score_samples(rows[:7].astype(np.float32), samples=5))
    assert scores.shape == (7,)
    assert np.isfinite(scores).all()


def test_images_of_several_sizes_and_data_sets_are_refused_with_what_to_do(tiny: Dataset) -> None:
    mixed = [Image.new("L", (8, 8)), Image.new("L", (9, 7)), Image.new("L", (8, 8))]
    with pytest.raises(
        DataError, match=r"X: got items of the shapes '\(8, 8\)', '\(7, 9\)'; expected one shape: resize"
    ):
        VAE(**SMALL).fit(mixed)
    with pytest.raises(DataError, match=r"X: got a Dataset; .*pass X\.train\.images, .*as `y`"):
        VAE(**SMALL).fit(tiny)
    with pytest.raises(DataError, match=r"X: got a Split; .*pass X\.images"):
        VAE(**SMALL).fit(tiny.train)


def test_one_image_of_another_size_is_no_batch(fitted: ConditionalVAE) -> None:
    for image in (Image.new("RGB", (301, 200)), Image.new("L", (301, 200))):
        with pytest.raises(DataError, match=r"got (RGB|grey) images of 200×301; expected grey images of 8×8"):
            fitted.restyle(image, "frame")
