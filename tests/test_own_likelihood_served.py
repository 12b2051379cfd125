"""A custom likelihood without its code: the nats of its ONNX file and of the server are those of PyTorch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from own_likelihoods import Laplace
from served_model import Client, png

import vaelab
from vaelab.config import Config
from vaelab.data import Dataset
from vaelab.errors import RunError
from vaelab.inference.trained import TrainedModel
from vaelab.serving.files import onnx_files
from vaelab.serving.model import OnnxModel


@pytest.fixture(scope="module")
def run(tiny: Dataset, tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("laplace") / "run"
    config = replace(tiny_config, model=replace(tiny_config.model, likelihood=Laplace))
    for _ in vaelab.fit(config, tiny, out=folder):
        pass
    return folder


@pytest.fixture(scope="module")
def trained(run: Path) -> TrainedModel:
    return vaelab.load(run, trust_code=True)


@pytest.fixture(scope="module")
def file(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    vaelab.export_onnx(run, path, trust_code=True)
    return path


def nats(trained: TrainedModel, z: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """−log p(x|z, y) by PyTorch, (n,)."""
    with torch.inference_mode():
        return -trained.model.decode(torch.from_numpy(z), torch.from_numpy(y)).log_prob(torch.from_numpy(x)).numpy()


def test_the_file_computes_its_nats(file: Path, trained: TrainedModel, tiny: Dataset) -> None:
    served = OnnxModel(onnx_files(file), threads=1)
    x, y = tiny.test.images.astype(np.float32) / 255, np.asarray(tiny.test.labels)
    z = np.random.default_rng(0).standard_normal((len(x), 2), dtype=np.float32)
    (found,) = served.nats(np.concatenate([z, x.reshape(len(x), -1)], 1), y)
    np.testing.assert_allclose(found, nats(trained, z, y, x), rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(served.decode(z, y)[0], trained.decode(z, y)[:, None] / 255, atol=0.51 / 255)


def test_the_server_scores_images(file: Path, trained: TrainedModel, tiny: Dataset) -> None:
    client = Client(OnnxModel(onnx_files(file), threads=1))
    images, y = tiny.test.images[:5], np.asarray(tiny.test.labels)[:5]
    pictures, names = [png(image[0]) for image in images], [tiny.classes[label] for label in y]
    answer = client.ask("score", images=pictures, labels=names, draws=1, seed=3)
    one = trained.encode(images, y)
    noise = np.random.default_rng(3).standard_normal((1, 2), np.float32)
    z = one.mean + np.exp(one.log_variance / 2) * noise
    np.testing.assert_allclose(
        answer["distortion"], nats(trained, z, y, images.astype(np.float32) / 255), rtol=1e-4, atol=1e-3
    )
    assert client.ask("score", images=pictures, draws=2)["labels"] is not None  # inferred


def test_a_file_without_its_nats_is_refused(file: Path, tmp_path: Path) -> None:
    import onnx

    proto = onnx.load(file)
    del proto.graph.output[-1]
    onnx.save(proto, tmp_path / "model.onnx")
    with pytest.raises(RunError, match="no decoder in it"):
        OnnxModel(onnx_files(tmp_path / "model.onnx"), threads=1)
