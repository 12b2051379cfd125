"""A served model against the same model in PyTorch: posteriors, decoded images, nats; and the files that are accepted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from building import build_model, with_output_weights

from vaelab.config import BuiltInLikelihood, LikelihoodName, ModelConfig
from vaelab.data import Dataset
from vaelab.errors import ExportError, RunError
from vaelab.inference.onnx import export_onnx
from vaelab.inference.trained import TrainedModel, load
from vaelab.models.distributions import Gaussian, GaussianLikelihood
from vaelab.models.likelihoods import LIKELIHOODS
from vaelab.serving import files
from vaelab.serving.files import onnx_files
from vaelab.serving.model import OnnxModel, one_hot, rate

CLASSES = ("a", "b", "c")


def exported(folder: Path, trained: TrainedModel, *, parts: bool = True) -> OnnxModel:
    """The model as it is served."""
    export_onnx(trained, folder / "model.onnx", parts=parts)
    return OnnxModel(onnx_files(folder / "model.onnx"), threads=1)


def of_kind(
    kind: str, likelihood: LikelihoodName = "bernoulli", shape: tuple[int, ...] = (1, 8, 8), **more: Any
) -> TrainedModel:
    values: dict[str, Any] = {"network": "mlp", "latent_dim": 3} | more
    config = ModelConfig(model=kind, likelihood=likelihood, width=16, depth=1, **values)  # type: ignore[arg-type]
    classes = CLASSES if kind == "cvae" else ()
    model = with_output_weights(build_model(config, shape, len(classes))).eval()
    return TrainedModel(model, kind, likelihood, classes)  # type: ignore[arg-type]


@pytest.mark.parametrize("likelihood", get_args(BuiltInLikelihood))
def test_the_distortion_is_that_of_the_likelihood(likelihood: LikelihoodName, tmp_path: Path) -> None:
    shape = (6,) if likelihood == "gaussian" else (3, 4, 4)
    served = exported(tmp_path, of_kind("vae", likelihood, shape))
    rng = np.random.default_rng(0)
    planes = rng.normal(0, 3, (50, LIKELIHOODS[likelihood].n_parameters, *shape)).astype(np.float32)
    planes[0] = 0  # the middle of the continuous Bernoulli
    x = rng.normal(0, 2, (50, *shape)) if likelihood == "gaussian" else rng.integers(0, 256, (50, *shape)) / 255
    if likelihood == "bernoulli":
        x = x.round()
    elif len(shape) == 3:
        x[1], x[2] = 0, 1  # the tails
    kind = LIKELIHOODS[likelihood]
    built = kind(torch.from_numpy(planes).double(), len(shape))
    if isinstance(built, GaussianLikelihood):
        built = GaussianLikelihood(torch.from_numpy(planes).double(), 1, torch.ones(6), 1.5 * torch.ones(6))
    expected = -built.log_prob(torch.from_numpy(x)).numpy()
    got = served.distortion(built.distribution_parameters().numpy(), x)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4)


def test_the_rate_is_the_kl_divergence() -> None:
    mean, log_variance = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    expected = Gaussian(torch.from_numpy(mean), torch.from_numpy(log_variance)).rate().sum(1)
    np.testing.assert_allclose(rate(mean, log_variance), expected, rtol=1e-5)


@pytest.mark.parametrize("parts", [True, False])
@pytest.mark.parametrize("kind", ["ae", "vae", "cvae"])
def test_encoder_and_decoder_are_those_of_the_model(kind: str, parts: bool, tmp_path: Path) -> None:
    trained = of_kind(kind)
    served = exported(tmp_path, trained, parts=parts)
    assert (served.facts.kind, served.facts.shape, served.facts.classes) == (kind, (1, 8, 8), trained.classes)
    levels = np.random.default_rng(0).integers(0, 256, (9, 1, 8, 8), np.uint8)
    y = np.arange(9) % 3 if kind == "cvae" else None
    expected = trained.encode(levels, y, binarised=False)
    mean, log_variance = served.encode(levels.astype(np.float32) / 255, y)
    np.testing.assert_allclose(mean, expected.mean, atol=1e-4)
    np.testing.assert_allclose(log_variance, expected.log_variance, atol=1e-4)
    decoded, _ = served.decode(mean, y)
    pixels = np.rint(255 * decoded[:, 0])
    assert np.abs(pixels - trained.decode(mean, y)).max() <= 1


@pytest.mark.parametrize(
    ("kind", "likelihood", "shape", "more"),
    [
        ("cvae", "bernoulli", (1, 8, 8), {}),
        ("vae", "logistic", (3, 8, 8), {"network": "conv"}),
        ("vae", "colour-logistic", (3, 8, 8), {"network": "pca", "latent_dim": 10}),
        ("cvae", "two-colour", (3, 8, 8), {"network": "two-colour", "latent_dim": 9}),
        ("vae", "gaussian", (5,), {}),
        ("vae", "bernoulli", (1, 8, 8), {"network": "ladder", "latent_dim": None, "levels": (3, 1), "patch": 4}),
    ],
)
def test_a_row_does_not_depend_on_its_batch(
    kind: str, likelihood: LikelihoodName, shape: tuple[int, ...], more: dict[str, Any], tmp_path: Path
) -> None:
    served = exported(tmp_path, of_kind(kind, likelihood, shape, **more))
    z = np.random.default_rng(1).normal(size=(40, served.facts.latent_dim)).astype(np.float32)
    y = np.arange(40) % 3 if kind == "cvae" else None

    def decoded(part: slice) -> np.ndarray:
        return served.decode(z[part], None if y is None else y[part])[1]

    assert served.at_once in (1, 64)
    whole = [decoded(slice(first, first + served.at_once)) for first in range(0, 40, served.at_once)]
    alone = [decoded(slice(row, row + 1)) for row in range(40)]
    assert np.array_equal(np.concatenate(whole), np.concatenate(alone))


def test_a_model_whose_rows_depend_on_their_batch_computes_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = OnnxModel.decode
    monkeypatch.setattr(OnnxModel, "decode", lambda self, z, y: tuple(len(z) * part for part in decode(self, z, y)))
    assert exported(tmp_path, of_kind("vae")).at_once == 1


def test_one_hot() -> None:
    assert np.array_equal(one_hot(np.array([2, 0]), 3), np.eye(3, dtype=np.float32)[[2, 0]])


def test_one_of_two_files_is_enough_to_name_both(tmp_path: Path) -> None:
    export_onnx(of_kind("vae"), tmp_path / "m.onnx", parts=True)
    both = {part: tmp_path / f"m-{part}.onnx" for part in ("encoder", "decoder")}
    assert onnx_files(tmp_path / "m-encoder.onnx") == onnx_files(tmp_path / "m-decoder.onnx") == both
    assert onnx_files(tmp_path / "m.onnx") == both
    both["decoder"].unlink()
    with pytest.raises(RunError, match=r"m-encoder\.onnx: no decoder in it.*--parts"):
        OnnxModel(onnx_files(tmp_path / "m-encoder.onnx"), threads=1)


def test_other_files_are_refused(tmp_path: Path) -> None:
    def opened(encoder: Path, decoder: Path) -> None:
        OnnxModel({"encoder": encoder, "decoder": decoder}, threads=1)

    export_onnx(of_kind("vae"), tmp_path / "a.onnx", parts=True)
    export_onnx(of_kind("cvae"), tmp_path / "b.onnx", parts=True)
    encoder, decoder, other = (tmp_path / f"{name}.onnx" for name in ("a-encoder", "a-decoder", "b-decoder"))
    with pytest.raises(RunError, match="parts of different models"):
        opened(encoder, other)
    with pytest.raises(RunError, match="no decoder in it"):
        opened(encoder, encoder)
    (tmp_path / "bad.onnx").write_bytes(b"nothing")
    with pytest.raises(RunError, match=r"bad\.onnx: onnxruntime cannot read it"):
        opened(tmp_path / "bad.onnx", decoder)
    with pytest.raises(RunError, match=r"none\.onnx: no such file"):
        onnx_files(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", "7", "format '7'"),
        ("classes", "[1]", "not written by"),
        ("shape", "{", "not written by"),
        ("likelihood", "x", "not written by"),
    ],
)
def test_other_metadata_are_refused(key: str, value: str, message: str, tmp_path: Path) -> None:
    import onnx

    export_onnx(of_kind("vae"), tmp_path / "m.onnx")
    proto = onnx.load(tmp_path / "m.onnx")
    for entry in proto.metadata_props:
        entry.value = value if entry.key == key else entry.value
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(RunError, match=message):
        OnnxModel(onnx_files(tmp_path / "m.onnx"), threads=1)


@pytest.fixture
def run(studio_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(studio_run, tmp_path / "run"))


@pytest.fixture
def exports(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Commands that would have exported a run; two small files are written instead."""
    calls: list[Any] = []

    def stand_in(words: list[str], **_: Any) -> Any:
        calls.append(words)
        out = Path(words[words.index("--out") + 1])
        for part in files.PARTS:
            out.with_name(f"model-{part}.onnx").write_text(part)
        return type("Done", (), {"returncode": 0, "stderr": ""})

    monkeypatch.setattr(files.subprocess, "run", stand_in)
    return calls


def test_a_run_is_exported_once(run: Path, exports: list[Any]) -> None:
    found = onnx_files(run)
    assert found == {part: run / "serve" / f"{part}.onnx" for part in files.PARTS} == onnx_files(run)
    assert len(exports) == 1
    assert not [path for path in run.iterdir() if path.name.startswith(".")]


def damage(path: Path) -> None:
    path.write_text("decodeR")


def link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize("change", [damage, link, Path.unlink])
@pytest.mark.parametrize("name", ["decoder.onnx", "key.json"])
def test_changed_files_are_made_again(change: Callable[[Path], None], name: str, run: Path, exports: list[Any]) -> None:
    onnx_files(run)
    change(run / "serve" / name)
    if name == "key.json" and change is link:
        (run / "serve" / "key.json").write_text(json.dumps({"key": 3}))
    assert (onnx_files(run)["decoder"]).read_text() == "decoder"
    assert len(exports) == 2


def test_a_linked_folder_or_other_weights_are_made_again(run: Path, exports: list[Any]) -> None:
    onnx_files(run)
    link(run / "serve")
    onnx_files(run)
    assert not (run / "serve").is_symlink()
    shutil.copy(run / "vae" / "model.safetensors", run / "model.safetensors")
    onnx_files(run)
    assert len(exports) == 3


def test_a_run_that_cannot_be_exported_says_why(run: Path) -> None:
    (run / "model.safetensors").write_bytes(b"changed")
    with pytest.raises(ExportError, match=r"model\.safetensors"):
        onnx_files(run)
    assert {path.name for path in run.iterdir()} >= {"config.json"}
    assert not list(run.glob("*serve*"))
    (run / "model.safetensors").unlink()
    with pytest.raises(RunError, match="no weights yet"):
        onnx_files(run)
    with pytest.raises(RunError, match="no such folder"):
        onnx_files(run / "none")


def test_an_exported_run_is_its_model(run: Path, tiny: Dataset) -> None:
    served, trained = OnnxModel(onnx_files(run), threads=1), load(run)
    images = tiny.test.images
    mean, _ = served.encode(images.astype(np.float32) / 255, tiny.test.labels)
    np.testing.assert_allclose(mean, trained.encode(images, tiny.test.labels, binarised=False).mean, atol=1e-3)
    assert served.facts.data is not None
    assert served.facts.data["fingerprint"]
