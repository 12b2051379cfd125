"""A served model for tests: of images by kind and of a table, and a client that needs no network."""

import asyncio
import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data import Dataset, Split
from vaelab.inference.onnx import export_onnx
from vaelab.serving import api
from vaelab.serving.api import serving_app
from vaelab.serving.files import onnx_files
from vaelab.serving.limits import Limits
from vaelab.serving.model import OnnxModel
from vaelab.training.fit import fit

HOST = "127.0.0.1:8000"
ANSWERS = {
    "sample": api.Sampled,
    "encode": api.Encoded,
    "reconstruct": api.Reconstructed,
    "restyle": api.Restyled,
    "score": api.Scored,
}


class Client:
    """Sends requests to a served model without a network; `log` has the entries of its log."""

    def __init__(self, model: OnnxModel, limits: Limits | None = None, **options: Any) -> None:
        self.log: list[dict[str, Any]] = []
        options = {"hosts": [HOST], "log": self.log.append} | options
        self.app = serving_app(model, Limits() if limits is None else limits, **options)

    def run(self, work: Callable[[httpx.AsyncClient], Any]) -> Any:
        """The result of a coroutine function of a session."""

        async def asked() -> Any:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOST}") as session:
                return await work(session)

        return asyncio.run(asked())

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.run(lambda session: session.get(path, **more))

    def post(self, name: str, **asked: Any) -> httpx.Response:
        return self.run(lambda session: session.post(f"/v1/{name}", json=asked))

    def ask(self, name: str, **asked: Any) -> Any:
        """The answer to a request that must succeed."""
        answer = self.post(name, **asked)
        assert answer.status_code == 200, answer.text
        return answer.json()


def exported(run: Path, folder: Path) -> OnnxModel:
    export_onnx(run, folder / "model.onnx", parts=True)
    return OnnxModel(onnx_files(folder / "model.onnx"), threads=1)


@pytest.fixture(scope="session")
def served_models(studio_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, OnnxModel]:
    """The served models by kind: of images, and `table`, of a table."""
    found = {
        kind: exported(studio_run if kind == "cvae" else studio_run / kind, tmp_path_factory.mktemp(kind))
        for kind in ("cvae", "vae", "ae")
    }
    folder = tmp_path_factory.mktemp("table")
    rows = np.random.default_rng(0).normal(size=(90, 4)).astype(np.float32)
    data = Dataset("rows", Split(rows[:60]), Split(rows[60:75]), Split(rows[75:]), classes=())
    config = Config(
        ModelConfig(model="vae", network="mlp", latent_dim=2, width=8, depth=1),
        TrainConfig(epochs=1, batch_size=30, device="cpu", compile="no"),
    )
    for _ in fit(config, data, out=folder / "run"):
        pass
    return found | {"table": exported(folder / "run", folder)}


def png(levels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(levels).save(file, format="PNG")
    return base64.b64encode(file.getvalue()).decode()


def levels_of(text: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(text))) as image:
        return np.asarray(image)


@pytest.fixture
def pictures(tiny: Dataset) -> list[str]:
    return [png(image[0]) for image in tiny.test.images[:6]]


@pytest.fixture
def names(tiny: Dataset, served_models: dict[str, OnnxModel]) -> list[str]:
    return [served_models["cvae"].facts.classes[label] for label in tiny.test.labels[:6]]  # pyright: ignore[reportOptionalSubscript]
