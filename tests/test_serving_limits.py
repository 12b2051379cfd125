"""What a served model refuses: mistakes, and requests over its limits; its log and its metrics."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from served_model import ANSWERS, HOST, Client, png

from vaelab.errors import ConfigError
from vaelab.serving import api
from vaelab.serving.admission import Admission
from vaelab.serving.limits import Limits
from vaelab.serving.model import OnnxModel


@pytest.fixture
def client(served_models: dict[str, OnnxModel]) -> Client:
    return Client(served_models["cvae"])


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
def test_a_mistake_is_named(served_models: dict[str, OnnxModel], name: str, asked: dict[str, Any], hint: str) -> None:
    client = Client(served_models["cvae"], Limits(max_pixels=2**20))
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
    served_models: dict[str, OnnxModel], pictures: list[str], kind: str, name: str, asked: dict[str, Any], hint: str
) -> None:
    answer = Client(served_models[kind]).post(name, **asked, **({} if name == "sample" else {"images": pictures}))
    assert answer.status_code == 422
    assert hint in answer.json()["detail"]


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[" * 100_000, b"\xff\xfe", b"1" * 5000, b"3", b"null", b'{"images": NaN}']
)
def test_what_is_not_json_is_refused(client: Client, content: bytes) -> None:
    for kind in ("application/json", "text/plain"):
        answer = client.run(lambda s, k=kind: s.post("/v1/encode", content=content, headers={"content-type": k}))
        assert answer.status_code in (400, 422)
        TypeAdapter(api.Problem).validate_python(answer.json(), strict=True)


def test_a_body_is_limited_whether_its_size_is_stated_or_not(served_models: dict[str, OnnxModel]) -> None:
    client = Client(served_models["cvae"], Limits(max_body=1000))

    async def parts(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b" " * 100

    contents: list[Any] = [b" " * 1001, parts(100)]
    for content in contents:
        answer = client.run(lambda s, c=content: s.post("/v1/sample", content=c))
        assert answer.status_code == 413
        assert "1,000 bytes" in answer.json()["detail"]
    for length in ("9" * 5000, "1001"):
        answer = client.run(lambda s, n=length: s.post("/v1/sample", content=b"{}", headers={"content-length": n}))
        assert answer.status_code == 413
    assert client.ask("sample", labels=["frame"])["images"]


def test_too_many_requests_are_refused_and_later_ones_answered(
    served_models: dict[str, OnnxModel], pictures: list[str]
) -> None:
    client = Client(served_models["cvae"], Limits(queue=4))

    async def many(session: httpx.AsyncClient) -> list[httpx.Response]:
        return await asyncio.gather(
            *(session.post("/v1/score", json={"images": pictures, "draws": 50}) for _ in range(16))
        )

    answers = client.run(many)
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [503] * 12
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers if answer.status_code == 503)
    assert client.ask("sample", labels=["frame"])["images"]


def test_an_answer_that_takes_too_long_is_given_up(served_models: dict[str, OnnxModel], pictures: list[str]) -> None:
    client = Client(served_models["cvae"], Limits(timeout=1))
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
    served_models: dict[str, OnnxModel], monkeypatch: pytest.MonkeyPatch, pictures: list[str]
) -> None:
    client = Client(served_models["cvae"])
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


def test_readiness_ends_when_the_server_stops(served_models: dict[str, OnnxModel]) -> None:
    state = [False]
    client = Client(served_models["vae"], stopping=lambda: state[0])
    assert [client.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
    state[0] = True
    assert [client.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 503]


def test_a_token_is_required(served_models: dict[str, OnnxModel]) -> None:
    client = Client(served_models["vae"], token="secret")
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
    served_models: dict[str, OnnxModel], hosts: list[str] | None, headers: dict[str, str], status: int
) -> None:
    assert Client(served_models["vae"], hosts=hosts).get("/v1/model", headers=headers).status_code == status


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
    served_models: dict[str, OnnxModel], name: str, asked: dict[str, Any]
) -> None:
    client = Client(served_models["cvae"])
    body = json.dumps(asked).encode()
    got = client.run(lambda s: s.post(f"/v1/{name}", content=body, headers={"content-type": "application/json"}))
    assert got.status_code in (200, 400, 422), (got.text, client.log)
    TypeAdapter(ANSWERS[name] if got.status_code == 200 else api.Problem).validate_python(got.json())


def test_limits_are_at_least_one() -> None:
    for name in ("max_images", "max_pixels", "max_body", "queue", "timeout"):
        with pytest.raises(ConfigError, match=f"^`{name}`: got 0"):
            Limits(**{name: 0})
