"""A custom likelihood by import path: trained, evaluated, exported, and loaded with consent only."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own_likelihoods import Laplace
from studio_model import serving
from studio_page import SEEN, Opener, png_of, state, until

import vaelab
from vaelab.cli import main
from vaelab.config import Config, ModelConfig
from vaelab.data import Dataset
from vaelab.errors import ConfigError, RunError
from vaelab.inference.labels import label_nats
from vaelab.onnx_runtime import open_session

PATH = "own_likelihoods:Laplace"


def with_likelihood(config: Config, likelihood: Any) -> Config:
    return replace(config, model=replace(config.model, likelihood=likelihood))


@pytest.fixture(scope="module")
def run(tiny: Dataset, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("laplace") / "run"
    for _ in vaelab.fit(with_likelihood(tiny_config, Laplace), tiny, out=folder):
        pass
    return folder


def test_the_run_names_it_and_its_nats_are_those_of_its_formula(run: Path, tiny: Dataset) -> None:
    assert json.loads((run / "config.json").read_text())["model"]["likelihood"] == PATH
    trained = vaelab.load(run, trust_code=True)
    found = trained.reconstruct(tiny.test.images, tiny.test.labels)
    with torch.inference_mode():
        one = trained.encode(tiny.test.images, tiny.test.labels)
        centre = trained.model.decode(torch.from_numpy(one.mean), torch.from_numpy(np.asarray(tiny.test.labels))).plane(
            0
        )
    x = tiny.test.images / 255
    at_mean = (np.abs(x - centre.numpy()) / 0.1 + np.log(0.2)).sum((1, 2, 3))
    assert found.distortion.mean() == pytest.approx(at_mean.mean(), rel=0.05)
    assert trained.sample(["down"], decode="sample").dtype == np.uint8
    report = vaelab.evaluate(trained, tiny, quick=True, sections=["likelihood"])
    assert PATH in json.dumps(report.facts)


def test_it_is_imported_with_consent_only(run: Path, tiny: Dataset) -> None:
    with pytest.raises(RunError, match=f"loading it imports {PATH}"):
        vaelab.load(run)
    with pytest.raises(RunError, match="trust_code"):
        next(vaelab.fit(Config(), tiny, out=run, resume=True))


def test_it_is_exported(run: Path, tiny: Dataset, tmp_path: Path) -> None:
    vaelab.export_onnx(run, tmp_path / "model.onnx", parts=True, trust_code=True)
    z = np.array([[0.5, -0.5]], dtype=np.float32)
    session = open_session(tmp_path / "model-decoder.onnx", 1)
    x = (tiny.test.images[:1] / 255).astype(np.float32)
    given = {"z": z, "scored": x, "labels": np.eye(3, dtype=np.float32)[:1]}
    decoded, nats = session.run(["decoded", "nats"], given)
    trained = vaelab.load(run, trust_code=True)
    assert np.abs(np.asarray(decoded)[:, 0] * 255 - trained.decode(z, [tiny.classes[0]])).max() <= 1
    with torch.inference_mode():
        expected = -trained.model.decode(torch.from_numpy(z), torch.tensor([0])).log_prob(torch.from_numpy(x))
    np.testing.assert_allclose(np.asarray(nats), expected, rtol=1e-4)


@pytest.mark.browser
def test_the_page_computes_it(opened: Opener, run: Path, tiny: Dataset, tmp_path: Path) -> None:
    arrays = {}
    for prefix, split in (("", tiny.train), ("validation_", tiny.validation), ("test_", tiny.test)):
        arrays |= {f"{prefix}images": split.images, f"{prefix}labels": np.array(tiny.classes)[split.labels]}
    np.savez(tmp_path / "tiny.npz", **arrays)  # pyright: ignore[reportArgumentType]
    trained, z = vaelab.load(run, trust_code=True), np.array([0.5, -0.5])
    one = tmp_path / "page.html"
    main_status(["export", str(run), str(tmp_path / "tiny.npz"), "--out", str(one), "--trust-code"])
    with serving(run, str(tmp_path / "tiny.npz"), trust_code=True) as (address, _):
        for where in (address, one.as_uri()):
            page = opened(where, state(z, label=1)).ready()
            expected = trained.decode(z[None], [1])
            shown = until(page.images, lambda got, right=expected: worst(got[..., 0], right) <= 1)
            assert worst(shown[..., 0], expected) <= 1
            page.page.get_by_label("Open an image file").set_input_files(
                {"name": "a.png", "mimeType": "image/png", "buffer": png_of(tiny.test.images[0, 0])}
            )
            page.page.get_by_label("The reconstruction of the drawing").wait_for()
            assert page.page.get_by_role("button", name="Sample", exact=True).count() == 0
            page.page.get_by_text("cannot sample the run's own likelihood").wait_for()
            seen = page.grey(SEEN)[0]
            nats = label_nats(trained.model, trained.levels(seen[None])).min().item()
            assert float(page.text(".surprise b").replace("−", "-").replace(",", "").split()[0]) == pytest.approx(
                nats, abs=1
            )
            page.close()


def worst(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got.astype(int) - expected).max()) if got.shape == expected.shape else np.inf


def main_status(words: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(words)
    assert end.value.code == 0


def test_the_command_line_takes_its_path(tiny: Dataset, tmp_path: Path) -> None:
    np.savez(tmp_path / "tiny.npz", images=tiny.train.images)
    out = str(tmp_path / "run")
    command = [
        sys.executable,
        "-m",
        "vaelab",
        "train",
        str(tmp_path / "tiny.npz"),
        "--likelihood",
        PATH,
        "--epochs",
        "1",
    ]
    command += ["--latent-dim", "2", "--width", "8", "--compile", "no", "--out", out]
    paths = [str(Path(__file__).parent), *sys.path]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": ":".join(paths), "PATH": ""})
    assert done.returncode == 0, done.stderr
    assert "validation: " in done.stderr + done.stdout
    with pytest.raises(SystemExit):
        main(["sample", out, "--count", "2", "--out", str(tmp_path / "x.png")])
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize(
    ("likelihood", "words"),
    [
        ("own_likelihoods:WrongShape", r"log_prob returned shape \(2, 1, 8, 8\)"),
        ("own_likelihoods:NotNumbers", "log_prob returned NaN or infinity"),
        ("own_likelihoods:Unfinished", "it has no initial and no log_prob"),
        ("own_likelihoods:NoLikelihood", "expected a subclass of vaelab.models"),
        ("own_likelihoods:Laplac", "module own_likelihoods has no Laplac"),
        ("no_such_module:Laplace", "cannot import no_such_module"),
        ("laplace", "`likelihood`: got 'laplace'; expected one of bernoulli"),
        (3, "`likelihood`: got an object of type int"),
    ],
)
def test_what_is_no_likelihood_is_refused_in_one_line(
    likelihood: Any, words: str, tiny: Dataset, tiny_config: Config, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        next(vaelab.fit(with_likelihood(tiny_config, likelihood), tiny, out=tmp_path / "run"))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_table_has_no_custom_likelihood(tmp_path: Path) -> None:
    table = vaelab.dataset_from(np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32))
    with pytest.raises(ConfigError, match="`likelihood`: got own_likelihoods:Laplace for a table"):
        next(vaelab.fit(Config(ModelConfig(likelihood=PATH)), table, out=tmp_path / "run"))
