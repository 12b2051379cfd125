"""The paths of a served model: what they answer, what they refuse, and that an answer depends on its request alone."""

import asyncio
import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter

from vaelab.config import Config, ModelConfig, TrainConfig
from vaelab.data import Dataset, Split
from vaelab.errors import ConfigError
from vaelab.inference.latents import place
from vaelab.inference.onnx import export_onnx
from vaelab.inference.trained import TrainedModel, load
from vaelab.objectives.batch import held_out_levels
from vaelab.objectives.bounds import held_out_terms
from vaelab.serving import api
from vaelab.serving.admission import Admission
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
def models(studio_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, OnnxModel]:
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


@pytest.fixture
def client(models: dict[str, OnnxModel]) -> Client:
    return Client(models["cvae"])


@pytest.fixture(scope="session")
def trained(studio_run: Path) -> TrainedModel:
    return load(studio_run)


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
def names(tiny: Dataset, models: dict[str, OnnxModel]) -> list[str]:
    return [models["cvae"].facts.classes[label] for label in tiny.test.labels[:6]]  # pyright: ignore[reportOptionalSubscript]


def test_the_model_is_described(client: Client, models: dict[str, OnnxModel]) -> None:
    answer = client.get("/v1/model").json()
    TypeAdapter(api.Described).validate_python(answer, strict=True)
    assert (answer["model"], answer["shape"], answer["latent_dim"]) == ("cvae", [1, 8, 8], 2)
    assert answer["limits"]["max_images"] == 64
    assert answer["classes"] == list(models["cvae"].facts.classes)


def test_images_are_generated_by_label_and_seed(client: Client, models: dict[str, OnnxModel]) -> None:
    labels = ["down", "frame", "down"]
    first = client.ask("sample", labels=labels, seed=5)
    z = np.random.default_rng(5).standard_normal((3, 2), np.float32)
    index = np.array([models["cvae"].indices[label] for label in labels])
    expected = np.rint(255 * models["cvae"].decode(z, index)[0].clip(0, 1)).astype(np.uint8)
    assert np.array_equal([levels_of(image) for image in first["images"]], expected[:, 0])
    assert client.ask("sample", labels=labels, seed=5) == first
    assert client.ask("sample", labels=labels[:1], seed=5)["images"] == first["images"][:1]
    other = client.ask("sample", labels=labels)
    assert client.ask("sample", labels=labels, seed=other["seed"]) == other
    still = client.ask("sample", labels=["down"] * 2, temperature=0, seed=1)["images"]
    assert still[0] == still[1]


def test_without_labels_a_number_of_images_is_generated(models: dict[str, OnnxModel]) -> None:
    for kind in ("vae", "ae"):
        assert len(Client(models[kind]).ask("sample", count=3)["images"]) == 3
        assert len(Client(models[kind]).ask("sample")["images"]) == 1


def test_posteriors_are_those_of_vaelab(
    client: Client, trained: TrainedModel, tiny: Dataset, pictures: list[str], names: list[str]
) -> None:
    got = client.ask("encode", images=pictures, labels=names)
    assert tiny.test.labels is not None
    expected = trained.encode(tiny.test.images[:6], tiny.test.labels[:6], binarised=False)
    np.testing.assert_allclose(got["mean"], expected.mean, atol=1e-3)
    np.testing.assert_allclose(got["log_variance"], expected.log_variance, atol=1e-3)
    assert got["labels"] == names


def test_missing_labels_are_inferred_as_by_vaelab(
    client: Client, trained: TrainedModel, tiny: Dataset, pictures: list[str], names: list[str]
) -> None:
    some: list[str | None] = [None, names[1], None, *names[3:]]
    placed = place(trained, tiny.test.images[:6], some)
    got = client.ask("encode", images=pictures, labels=some)
    assert placed.labels is not None
    assert got["labels"] == [trained.classes[label] for label in placed.labels]
    np.testing.assert_allclose(got["mean"], placed.z, atol=1e-3)


def test_reconstructions_are_those_of_vaelab(
    client: Client, trained: TrainedModel, tiny: Dataset, pictures: list[str], names: list[str]
) -> None:
    got = client.ask("reconstruct", images=pictures, labels=names)
    assert tiny.test.labels is not None
    labels = tiny.test.labels[:6]
    expected = trained.decode(trained.encode(tiny.test.images[:6], labels, binarised=False).mean, labels)
    shown = np.array([levels_of(image) for image in got["images"]], np.int64)
    assert np.abs(shown - expected).max() <= 1
    drawn = [client.ask("reconstruct", images=pictures, labels=names, draw=True, seed=seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] != got


def test_images_are_restyled(client: Client, trained: TrainedModel, pictures: list[str], names: list[str]) -> None:
    every = client.ask("restyle", images=pictures, labels=names)
    assert every["targets"] == list(trained.classes)
    assert [len(row) for row in every["images"]] == [3] * 6
    some = client.ask("restyle", images=pictures, labels=names, targets=["frame"])
    assert [row[2] for row in every["images"]] == [row[0] for row in some["images"]]
    again = client.ask("reconstruct", images=pictures, labels=names)["images"]
    assert again == [row[trained.classes.index(name)] for row, name in zip(every["images"], names, strict=True)]


def test_the_elbo_is_that_of_vaelab_at_the_same_noise(
    client: Client, trained: TrainedModel, tiny: Dataset, pictures: list[str], names: list[str]
) -> None:
    draws = 5
    got = client.ask("score", images=pictures, labels=names, draws=draws, seed=3)
    noise = torch.from_numpy(np.random.default_rng(3).standard_normal((draws, 2), np.float32))
    for at in range(6):
        x = held_out_levels(tiny.test.images[at : at + 1], "bernoulli").repeat(draws, 1, 1, 1)
        y = torch.full((draws,), trained.classes.index(names[at]))
        terms = held_out_terms(trained.model, x, y, noise)
        assert got["distortion"][at] == pytest.approx(terms.distortion.mean().item(), abs=1e-3)
        assert got["rate"][at] == pytest.approx(terms.rate[0].sum().item(), abs=1e-3)
        assert got["elbo"][at] == pytest.approx(-terms.negative_elbo().mean().item(), abs=1e-3)
        error = terms.distortion.std().item() / draws**0.5
        assert got["standard_error"][at] == pytest.approx(error, abs=1e-3)
    assert (got["draws"], got["seed"]) == (draws, 3)
    assert client.ask("score", images=pictures[:1], labels=names[:1], draws=1)["standard_error"] is None


def test_rows_of_a_table_are_lists_of_numbers(models: dict[str, OnnxModel]) -> None:
    client = Client(models["table"])
    rows = [[0.1, -1, 0.5, 2.0], [1, 1, 1, 1]]
    assert np.shape(client.ask("reconstruct", images=rows)["images"]) == (2, 4)
    assert np.shape(client.ask("sample", count=2)["images"]) == (2, 4)
    assert len(client.ask("score", images=rows)["elbo"]) == 2
    for wrong in ([[1, 2, 3]], [[1, 2, 3, 1e39]], ["x"]):
        assert client.post("encode", images=wrong).status_code == 422


def test_an_answer_does_not_depend_on_other_requests(client: Client, pictures: list[str], names: list[str]) -> None:
    """Sent alone, and sent with 40 others whose rows are in the same batches."""
    asked = [
        ("score", {"images": pictures, "labels": names, "draws": 7}),
        ("encode", {"images": pictures[2:5]}),
        ("sample", {"labels": ["frame", "down"], "seed": 9}),
        ("restyle", {"images": pictures[:2], "labels": names[:2]}),
        ("reconstruct", {"images": pictures[1:3], "draw": True}),
    ] * 8
    alone = [client.run(lambda s, n=n, a=a: s.post(f"/v1/{n}", json=a)).content for n, a in asked[:5]]

    async def together(session: httpx.AsyncClient) -> list[bytes]:
        answers = await asyncio.gather(*(session.post(f"/v1/{name}", json=given) for name, given in asked))
        return [answer.content for answer in answers]

    assert client.run(together) == alone * 8
    batches, rows = (
        int(re.search(rf"decoder_{what}_total (\d+)", client.get("/metrics").text)[1])  # type: ignore[index]
        for what in ("batches", "rows")
    )
    assert rows > 10 * batches  # they were joined


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("sample", {"labels": ["Frame"]}, "frame"),
    ("sample", {}, "`labels`"),
    ("sample", {"labels": ["frame"], "count": 2}, "`labels`"),
    ("sample", {"labels": ["frame"], "temprature": 1}, "temperature"),
    ("sample", {"labels": ["frame"], "temperature": -1}, "temperature"),
    ("sample", {"labels": ["frame"], "seed": 2**63}, "seed"),
    ("sample", {"labels": ["frame"], "seed": "1"}, "seed"),
    ("sample", {"labels": ["frame"] * 65}, "64"),
    ("encode", {"images": []}, "images"),
    ("encode", {"images": ["AAAA"]}, "PNG"),
    ("encode", {"images": ["no base64 at all"]}, "PNG"),
    ("encode", {"images": [[1, 2]]}, "PNG"),
    ("encode", {"images": [png(np.zeros((8, 9), np.uint8))]}, "8×9"),
    ("encode", {"images": [png(np.zeros((8, 8), np.uint16))]}, "mode"),
    ("encode", {"images": [png(np.zeros((8, 8, 4), np.uint8))]}, "transparent"),
    ("encode", {"images": [png(np.zeros((8, 8), np.uint8))], "labels": []}, "`labels`"),
    ("restyle", {"images": [png(np.zeros((8, 8), np.uint8))], "targets": ["x" * 900]}, "unknown label"),
    ("score", {"images": [png(np.zeros((8, 8), np.uint8))], "draws": 0}, "draws"),
    ("score", {"images": [png(np.zeros((8, 8), np.uint8))] * 64, "draws": 1000, "labels": ["frame"] * 64}, "fewer"),
    ("encode", {"images": ["\ud800"]}, "images"),
    ("sample", {"labels": ["\x1b[31m\ud800"]}, "labels"),
    ("sample", {"\ud800": 1}, "not valid"),
]


@pytest.mark.parametrize(("name", "asked", "hint"), MISTAKES)
def test_a_mistake_is_named(models: dict[str, OnnxModel], name: str, asked: dict[str, Any], hint: str) -> None:
    client = Client(models["cvae"], Limits(max_pixels=2**20))
    body = json.dumps(asked).encode()
    answer = client.run(lambda s: s.post(f"/v1/{name}", content=body, headers={"content-type": "application/json"}))
    assert answer.status_code == 422, answer.text
    assert hint in answer.json()["detail"]
    assert len(answer.json()["detail"]) <= 500
    assert "\x1b" not in answer.json()["detail"]


@pytest.mark.parametrize(
    ("kind", "name", "asked", "hint"),
    [
        ("vae", "sample", {"labels": ["a"]}, "takes none"),
        ("vae", "restyle", {}, "conditional"),
        ("ae", "score", {}, "autoencoder"),
    ],
)
def test_what_a_model_cannot_do_is_said(
    models: dict[str, OnnxModel], pictures: list[str], kind: str, name: str, asked: dict[str, Any], hint: str
) -> None:
    answer = Client(models[kind]).post(name, **asked, **({} if name == "sample" else {"images": pictures}))
    assert answer.status_code == 422
    assert hint in answer.json()["detail"]


def test_an_autoencoder_has_no_variance(models: dict[str, OnnxModel], pictures: list[str]) -> None:
    assert Client(models["ae"]).ask("encode", images=pictures)["log_variance"] is None


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"1" * 5000, b"3", b"null", b'{"images": NaN}']
)
def test_what_is_not_json_is_refused(client: Client, content: bytes) -> None:
    for kind in ("application/json", "text/plain"):
        answer = client.run(lambda s, k=kind: s.post("/v1/encode", content=content, headers={"content-type": k}))
        assert answer.status_code in (400, 422)
        TypeAdapter(api.Problem).validate_python(answer.json(), strict=True)


def test_a_body_is_limited_whether_its_size_is_stated_or_not(models: dict[str, OnnxModel]) -> None:
    client = Client(models["cvae"], Limits(max_body=1000))

    async def parts(count: int) -> Any:
        for _ in range(count):
            yield b" " * 100

    for content in (b" " * 1001, parts(100)):
        answer = client.run(lambda s, c=content: s.post("/v1/sample", content=c))
        assert answer.status_code == 413
        assert "1,000 bytes" in answer.json()["detail"]
    for length in ("9" * 5000, "1001"):
        answer = client.run(lambda s, n=length: s.post("/v1/sample", content=b"{}", headers={"content-length": n}))
        assert answer.status_code == 413
    assert client.ask("sample", labels=["frame"])["images"]


def test_too_many_requests_are_refused_and_later_ones_answered(
    models: dict[str, OnnxModel], pictures: list[str]
) -> None:
    client = Client(models["cvae"], Limits(queue=4))

    async def many(session: httpx.AsyncClient) -> list[httpx.Response]:
        return await asyncio.gather(
            *(session.post("/v1/score", json={"images": pictures, "draws": 50}) for _ in range(16))
        )

    answers = client.run(many)
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [503] * 12
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers if answer.status_code == 503)
    assert client.ask("sample", labels=["frame"])["images"]


def test_an_answer_that_takes_too_long_is_given_up(models: dict[str, OnnxModel], pictures: list[str]) -> None:
    client = Client(models["cvae"], Limits(timeout=1))
    admission = next(each for each in admissions(client))
    admission.limits = Limits(timeout=1)
    object.__setattr__(admission.limits, "timeout", 0.001)
    answer = client.post("score", images=pictures, draws=500)
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert admission.waiting == 0
    object.__setattr__(admission.limits, "timeout", 30)
    assert client.ask("score", images=pictures)["elbo"]


def admissions(client: Client) -> list[Admission]:
    """The middleware of an application, which is built at its first request."""
    client.get("/healthz")
    found, inner = [], client.app.middleware_stack
    while inner is not None:
        if isinstance(inner, Admission):
            found.append(inner)
        inner = getattr(inner, "app", None)
    return found


def test_a_mistake_of_the_server_is_logged_without_content(
    models: dict[str, OnnxModel], monkeypatch: pytest.MonkeyPatch, pictures: list[str]
) -> None:
    client = Client(models["cvae"])
    monkeypatch.setattr("vaelab.serving.service.rate", lambda *_: 1 / 0)
    answer = client.post("score", images=pictures[:1])
    assert answer.status_code == 500
    assert answer.json()["detail"]
    assert client.log[-1]["error"] == "ZeroDivisionError"
    assert pictures[0] not in json.dumps(client.log)


def test_requests_are_logged_by_id_without_content(client: Client, pictures: list[str]) -> None:
    ids = ["mine-1", "x" * 65, "a b", None]
    for given_id in ids:
        headers = {} if given_id is None else {"x-request-id": given_id}
        answer = client.run(lambda s, h=headers: s.post("/v1/encode?secret=1", json={"images": pictures}, headers=h))
        assert client.log[-1]["id"] == answer.headers["x-request-id"]
    assert client.log[0]["id"] == "mine-1"
    assert len({entry["id"] for entry in client.log}) == 4
    assert all(re.fullmatch(r"[a-f0-9]{32}", entry["id"]) for entry in client.log[1:])
    assert set(client.log[0]) == {"time", "id", "method", "path", "status", "ms"}
    assert client.log[0]["path"] == "/v1/encode"


def test_metrics_count_requests(client: Client) -> None:
    client.ask("sample", labels=["frame"])
    client.post("sample")
    client.get("/nothing/here")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
    assert lines['vaelab_requests_total{path="/v1/sample",status="200"}'] == "1"
    assert lines['vaelab_requests_total{path="/v1/sample",status="422"}'] == "1"
    assert lines['vaelab_requests_total{path="other",status="404"}'] == "1"
    assert lines['vaelab_request_seconds_bucket{le="+Inf"}'] == lines["vaelab_request_seconds_count"] == "3"
    assert lines["vaelab_requests_waiting"] == "0"
    assert int(lines["vaelab_decoder_rows_total"]) >= 1


def test_readiness_ends_when_the_server_stops(models: dict[str, OnnxModel]) -> None:
    state = [False]
    client = Client(models["vae"], stopping=lambda: state[0])
    assert [client.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
    state[0] = True
    assert [client.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 503]


def test_a_token_is_required(models: dict[str, OnnxModel]) -> None:
    client = Client(models["vae"], token="secret")
    for header in (None, "Bearer other", "Basic secret", "secret", "Bearer", "Bearer sécret"):
        headers: Any = {} if header is None else {"authorization": header.encode()}
        answer = client.get("/v1/model", headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert client.get("/metrics", headers=headers).status_code == 401
        assert client.run(lambda s, h=headers: s.post("/v1/sample", json={}, headers=h)).status_code == 401
    assert client.get("/v1/model", headers={"authorization": "bearer secret"}).status_code == 200
    assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    ("hosts", "headers", "status"),
    [
        ([HOST], {"host": "evil.example"}, 421),
        ([HOST], {"origin": "https://evil.example"}, 403),
        ([HOST], {"origin": f"http://{HOST}"}, 200),
        (None, {"host": "models.example"}, 200),
        (None, {"host": "models.example", "origin": "https://models.example"}, 200),
        (None, {"host": "models.example", "origin": "https://evil.example"}, 403),
    ],
)
def test_other_websites_are_refused(
    models: dict[str, OnnxModel], hosts: list[str] | None, headers: dict[str, str], status: int
) -> None:
    assert Client(models["vae"], hosts=hosts).get("/v1/model", headers=headers).status_code == status


@pytest.mark.parametrize("kind", ["cvae", "vae", "ae", "table"])
def test_the_examples_of_openapi_are_answered(models: dict[str, OnnxModel], kind: str) -> None:
    client = Client(models[kind])
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {*(f"/v1/{name}" for name in ANSWERS), "/v1/model", "/healthz", "/readyz", "/metrics"}
    for name, answer in ANSWERS.items():
        about = paths[f"/v1/{name}"]["post"]
        assert {"200", "400", "413", "422", "503"} == set(about["responses"])
        example = about["requestBody"]["content"]["application/json"]["examples"]["one"]["value"]
        got = client.post(name, **example)
        possible = not ((name == "restyle" and kind != "cvae") or (name == "score" and kind == "ae"))
        assert got.status_code == (200 if possible else 422), got.text
        if possible:
            TypeAdapter(answer).validate_python(got.json())


def anything() -> st.SearchStrategy[Any]:
    words = st.text(max_size=10) | st.sampled_from(
        ["frame", "down", png(np.zeros((8, 8), np.uint8)), png(np.zeros((4, 4), np.uint8))]
    )
    leaf = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | words
    return st.recursive(leaf, lambda inner: st.lists(inner, max_size=3), max_leaves=6)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    name=st.sampled_from(sorted(ANSWERS)),
    asked=st.dictionaries(
        st.sampled_from(["images", "labels", "seed", "draws", "count", "temperature", "targets", "draw"])
        | st.text(max_size=5),
        anything(),
        max_size=5,
    ),
)
def test_any_json_is_answered_in_the_described_form(
    models: dict[str, OnnxModel], name: str, asked: dict[str, Any]
) -> None:
    client = Client(models["cvae"])
    body = json.dumps(asked).encode()
    got = client.run(lambda s: s.post(f"/v1/{name}", content=body, headers={"content-type": "application/json"}))
    assert got.status_code in (200, 400, 422), (got.text, client.log)
    TypeAdapter(ANSWERS[name] if got.status_code == 200 else api.Problem).validate_python(got.json())


def test_limits_are_at_least_one() -> None:
    for name in ("max_images", "max_pixels", "max_body", "queue", "timeout"):
        with pytest.raises(ConfigError, match=f"^`{name}`: got 0"):
            Limits(**{name: 0})
