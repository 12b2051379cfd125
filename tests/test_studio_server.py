"""The studio's server: what it serves to which hosts, and how it follows a training."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from vaelab import runs
from vaelab.cli import main
from vaelab.config import Config
from vaelab.data import load_dataset
from vaelab.errors import ConfigError, StudioError
from vaelab.inference.trained import load
from vaelab.serving.listening import listen
from vaelab.studio import bundle as bundles
from vaelab.studio import following, page
from vaelab.studio import server as servers
from vaelab.studio.following import Event, Following, as_text, is_training, seconds_left
from vaelab.studio.server import POLICY, Site, _stream, open_site, studio_app
from vaelab.training.fit import fit

HOSTS = ("127.0.0.1:8000", "localhost:8000")


class Client:
    """Sends requests to an application without a network."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{HOSTS[0]}") as client:
                return await client.request(method, path, **more)

        return asyncio.run(asked())

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.request("GET", path, **more)


@pytest.fixture
def site(studio_run: Path, stand_in: Path) -> Site:
    assert stand_in.is_dir()
    return open_site(studio_run, source=str(studio_run.parent / "tiny.npz"), work=bundles.silent)


@pytest.fixture
def client(site: Site) -> Client:
    return Client(studio_app(site, HOSTS))


@pytest.fixture
def young(
    tiny_config: Config, studio_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], runs.Run]:
    """A run in training: each call continues it a little, the third to the end."""
    from dataclasses import replace

    config = replace(tiny_config, train=replace(tiny_config.train, epochs=12, checkpoint_every=1e-9))
    training = fit(config, load_dataset(studio_run.parent / "tiny.npz"), out=tmp_path / "young")
    monkeypatch.setattr("vaelab.training.loop.PROGRESS_EVERY", 0.0)
    calls = iter([20, 20, None])

    def go_on() -> runs.Run:
        for _, state in zip(range(next(calls) or 10**6), training, strict=False):
            assert state.step < 1000
        return runs.open_run(tmp_path / "young")

    return go_on


def test_the_page_and_the_bundle_are_served(client: Client, site: Site, stand_in: Path) -> None:
    assert client.get("/").content == (stand_in / "index.html").read_bytes()
    for name, kind in page.CONTENT_TYPES.items():
        answer = client.get(f"/{name}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
        assert answer.content == (stand_in / name).read_bytes()
    assert client.get("/bundle/manifest.json").json() == site.bundle.manifest
    for name in site.bundle.files[1:]:
        answer = client.get(f"/bundle/{name}")
        assert answer.status_code == 200
        if not name.endswith(".json"):
            assert answer.content == site.bundle.read(name)
    assert client.get("/status.json").json() == {"training": False, "version": site.bundle.key}


@pytest.mark.parametrize(
    "path",
    ["/nothing.js", "/bundle/cache.sealed", "/bundle/..%2Fconfig.json", "/%2e%2e/config.json", "/live/0.png", "/docs"],
)
def test_nothing_else_is_served(client: Client, path: str) -> None:
    assert client.get(path).status_code == 404


def test_a_report_written_later_is_served(client: Client, studio_run: Path) -> None:
    assert client.get("/bundle/report.json").status_code == 404
    (studio_run / "report.json").write_text('{"schema": 1}')
    try:
        assert client.get("/bundle/manifest.json").json()["report"] == "report.json"
        assert client.get("/bundle/report.json").json() == {"schema": 1}
    finally:
        (studio_run / "report.json").unlink()


@pytest.mark.parametrize("path", ["/", "/bundle/manifest.json", "/nothing", "/status.json"])
def test_every_response_has_the_security_headers(client: Client, path: str) -> None:
    headers = client.get(path).headers
    assert headers["content-security-policy"] == POLICY
    assert "unsafe-inline" not in POLICY
    assert "unsafe-eval" not in POLICY.replace("'wasm-unsafe-eval'", "")
    assert "http" not in POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("host", "status"),
    [(HOSTS[0], 200), (HOSTS[1], 200), ("evil.example", 421), ("127.0.0.1:9", 421), ("evil.example:8000", 421)],
)
def test_another_host_is_refused(client: Client, host: str, status: int) -> None:
    answer = client.get("/bundle/manifest.json", headers={"host": host})
    assert answer.status_code == status
    if status == 421:
        assert host in answer.text
        assert "http://127.0.0.1:8000/" in answer.text


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (f"http://{HOSTS[0]}", 200),
        (f"HTTP://{HOSTS[1]}", 200),
        ("null", 403),
        ("https://evil.example", 403),
        (HOSTS[0], 403),
    ],
)
@pytest.mark.parametrize("path", ["/", "/events", "/bundle/manifest.json"])
def test_another_website_is_refused(site: Site, path: str, origin: str, status: int) -> None:
    client = Client(studio_app(site, HOSTS, ended=lambda: True))
    assert client.get(path, headers={"origin": origin}).status_code == status


def test_event_streams_are_limited(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "CHECK_EVERY", 0.001)
    ended: list[bool] = []
    client = Client(studio_app(site, HOSTS, ended=lambda: bool(ended)))

    async def opened(count: int) -> list[int]:
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(client.app), base_url=f"http://{HOSTS[0]}"
        ) as session:
            streams = [asyncio.ensure_future(session.get("/events")) for _ in range(count)]
            refused, _ = await asyncio.wait(streams, return_when=asyncio.FIRST_COMPLETED)
            assert len(refused) == count - servers.MOST_STREAMS
            assert all(int(task.result().headers["retry-after"]) > 0 for task in refused)
            ended.append(True)
            return [answer.status_code for answer in await asyncio.gather(*streams)]

    assert sorted(asyncio.run(opened(70))) == [200] * 64 + [503] * 6
    assert client.get("/events").status_code == 200  # the others have been closed


DAMAGED = [
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b"3\n[]\n",
    b'{"step": 1, "seconds": 1e999, "epoch": 1}\n',
    b'{"step": "x"}\n',
    b'{"step": 1}\n',
]


@pytest.mark.filterwarnings("ignore::vaelab.errors.RunWarning")
@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_metrics_are_left_out(
    young: Callable[[], runs.Run], stand_in: Path, monkeypatch: pytest.MonkeyPatch, studio_run: Path, damage: bytes
) -> None:
    monkeypatch.setattr(bundles, "export_onnx", lambda *_, **__: None)
    run = young()
    path = run.folder / runs.METRICS
    whole = runs.read_metrics(run)
    assert whole
    path.write_bytes(path.read_bytes() + damage)
    site = open_site(run.folder, source=str(studio_run.parent / "tiny.npz"), work=bundles.silent)
    client = Client(studio_app(site, HOSTS))
    answer = client.get("/bundle/curve.json")
    assert answer.status_code == 200
    assert all(line in whole for line in answer.json())
    assert client.get("/bundle/manifest.json").status_code == 200
    site.following.look()
    assert site.following.problem is None
    assert all(event.data["step"] >= 0 for event in site.following.events if event.name == "metrics")


def test_a_run_that_vanishes_is_said_and_found_again(
    young: Callable[[], runs.Run], stand_in: Path, monkeypatch: pytest.MonkeyPatch, studio_run: Path
) -> None:
    monkeypatch.setattr(bundles, "export_onnx", lambda *_, **__: None)
    run = young()
    site = open_site(run.folder, source=str(studio_run.parent / "tiny.npz"), work=bundles.silent)
    client, followed = Client(studio_app(site, HOSTS, ended=lambda: True)), site.following
    run.folder.rename(moved := run.folder.with_name("moved"))
    followed.look()
    followed.look()
    (event,) = (event for event in followed.events if event.name == "problem")
    assert str(run.folder) in event.data["message"]
    assert "moved or deleted" in event.data["message"]
    assert followed.first_to_send()[-1] == len(followed.events) - 1  # also for a page that opens now
    for name in [*site.bundle.files, "nothing.bin", "report.json"]:
        answer = client.get(f"/bundle/{name}")
        assert answer.status_code in (200, 404)
        if answer.status_code == 404:
            assert "moved or deleted" in answer.text
    assert client.get("/status.json").status_code == client.get("/events").status_code == 200
    moved.rename(run.folder)
    followed.look()
    assert [event.data["message"] for event in followed.events if event.name == "problem"][1:] == [None]
    assert followed.problem is None


def test_a_damaged_resume_file_ends_nothing(young: Callable[[], runs.Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run = young()
    for facts in ({"fraction": "x"}, {"budget": 3}, [], {}):
        monkeypatch.setattr(runs, "resume_facts", lambda _, facts=facts: facts)
        followed = Following(run, lambda: None)
        followed.look()
        followed.look()
    monkeypatch.setattr(runs, "resume_facts", lambda _: (_ for _ in ()).throw(KeyError("facts")))
    assert Following(run, lambda: None).training


def test_requests_that_write_are_rejected(client: Client) -> None:
    assert {client.request(method, "/status.json").status_code for method in ("POST", "PUT", "DELETE")} == {405}


def test_a_training_is_followed(young: Callable[[], runs.Run], monkeypatch: pytest.MonkeyPatch) -> None:
    run, ended = young(), []
    assert is_training(run)
    followed = Following(run, lambda: ended.append(followed.training))
    followed.look()
    lines = runs.read_metrics(run)
    metrics, samples = followed.events
    assert metrics == Event("metrics", lines[-1] | {"seconds_left": seconds_left(run, lines[-1])})
    left, line = metrics.data["seconds_left"], lines[-1]
    assert left == pytest.approx(line["seconds"] * (12 - line["epoch"]) / line["epoch"])
    assert samples.data == {"url": "live/1.png", "step": runs.weight_facts(run)["step"]}
    followed.look()
    assert len(followed.events) == 2  # nothing is new
    picture = followed.pictures[1]
    young()
    followed.look()
    new = followed.events[2:]
    assert {event.name for event in new} == {"metrics", "samples"}
    assert followed.pictures[len(followed.events) - 1] != picture
    assert followed.first_to_send() == [len(followed.events) - 2, len(followed.events) - 1]
    young()
    followed.look()
    assert ended == [False]
    assert followed.events[-1] == Event("done", {})
    assert followed.first_to_send() == []
    assert not is_training(run)


def test_the_pictures_of_a_training_are_of_fixed_points(young: Callable[[], runs.Run], tmp_path: Path) -> None:
    run = young()
    followed = Following(run, lambda: None)
    followed.look()
    (tmp_path / "live.png").write_bytes(followed.pictures[1])
    with Image.open(tmp_path / "live.png") as image:
        shown = np.asarray(image).reshape(3, 8, 10, 8).swapaxes(1, 2)
    model = load(run.folder)
    z = model.latents(10, temperature=0.8)
    assert np.array_equal(shown, model.decode(np.tile(z, (3, 1)), np.repeat(np.arange(3), 10)).reshape(3, 10, 8, 8))


def test_an_error_after_training_is_reported(young: Callable[[], runs.Run]) -> None:
    followed = Following(young(), lambda: (_ for _ in ()).throw(StudioError("why")))
    young()
    young()
    followed.look()
    assert followed.events[-1] == Event("done", {"error": "why"})


def test_a_run_without_recent_changes_is_not_in_training(
    young: Callable[[], runs.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = young()
    monkeypatch.setattr(following, "STALE", -1.0)
    assert not is_training(run)


def test_a_training_is_followed_over_http(
    young: Callable[[], runs.Run], stand_in: Path, monkeypatch: pytest.MonkeyPatch, studio_run: Path
) -> None:
    """Over HTTP: the training, its events and pictures, and the finished model with a new version."""
    monkeypatch.setattr(bundles, "export_onnx", lambda *_, **__: None)
    run = young()
    site = open_site(run.folder, source=str(studio_run.parent / "tiny.npz"), work=bundles.silent)
    assert stand_in.is_dir()
    client = Client(studio_app(site, HOSTS, ended=lambda: True))
    before = client.get("/status.json").json()
    assert before["training"]
    assert client.get("/bundle/manifest.json").json()["training"]
    site.following.look()
    number = len(site.following.events) - 1
    assert client.get(f"/live/{number}.png").headers["content-type"] == "image/png"
    answer = client.get("/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    young()
    young()
    site.following.look()
    after = client.get("/status.json").json()
    assert not after["training"]
    assert after["version"] != before["version"]
    assert client.get("/bundle/curve.json").json() == runs.read_metrics(run)


def streamed(followed: Following, last: str | None, rounds: int, meanwhile: Callable[[], None]) -> list[str]:
    """The events that a page receives in `rounds` rounds; `meanwhile` is called after the first."""

    async def receive() -> list[str]:
        asked = iter([False] * rounds + [True])
        sent = []
        async for text in _stream(followed, last, lambda: next(asked)):
            sent.append(text)
            if len(sent) == 1:
                meanwhile()
        return sent

    return asyncio.run(receive())


def test_events_are_sent_once_and_in_order(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vaelab.studio.server.CHECK_EVERY", 0.001)
    followed = site.following
    followed.training = True
    events = [Event("metrics", {"step": step}) for step in range(3)] + [Event("samples", {"url": "live/3.png"})]
    followed.events += events
    new = Event("metrics", {"step": 9})
    texts = [as_text(number, event) for number, event in enumerate([*events, new])]
    assert texts[0] == 'id: 0\nevent: metrics\ndata: {"step": 0}\n\n'
    sent = streamed(followed, None, 3, lambda: followed.events.append(new))
    assert sent == [": here\n\n", texts[2], texts[3], texts[4]]
    again = streamed(followed, "1", 2, lambda: None)
    assert again == [": here\n\n", *texts[2:]]
    for unknown in ("9" * 10_000, "²", "-1", "", "7" * 5):
        assert streamed(followed, unknown, 1, lambda: None) == [": here\n\n", texts[3], texts[4]]
    monkeypatch.setattr("vaelab.studio.server.SPEAK_EVERY", 0.0)
    assert streamed(followed, "4", 2, lambda: None) == [": here\n\n"] * 3


def test_an_unavailable_port_is_reported() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"^`port`: {port} is not available .*free port"), listen(port):
            pass
    with pytest.raises(ConfigError, match=r"^`port`: got 70000; expected 1 to 65535"), listen(70000):
        pass


def error_output(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


def test_mistakes_are_one_line(
    studio_run: Path, stand_in: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "nowhere: no such folder" in error_output(capsys, "studio", "nowhere")
    (stand_in / "ort.wasm").unlink()
    line = error_output(capsys, "studio", studio_run)
    assert line.startswith(f"vaelab: {stand_in}: ort.wasm missing; ")
    assert "make studio" in line
    assert line.count("\n") == 1
    monkeypatch.setattr(page, "DIST", stand_in / "none")
    assert "the page is not built" in error_output(capsys, "studio", studio_run)
    monkeypatch.setattr(page, "find_spec", lambda name: None if name in ("fastapi", "uvicorn") else True)
    line = error_output(capsys, "studio", studio_run)
    assert line.startswith("vaelab: fastapi and uvicorn not installed; ")
    assert line.endswith('pip install "vaelab[studio]"\n')


def test_the_command_serves_until_it_is_interrupted(studio_run: Path, stand_in: Path) -> None:
    code = f"import pathlib, vaelab.cli, vaelab.studio.page as p; p.DIST = pathlib.Path({str(stand_in)!r}); vaelab.cli.main()"
    words = [
        sys.executable,
        "-W",
        "error",
        "-c",
        code,
        "studio",
        studio_run,
        studio_run.parent / "tiny.npz",
        "--no-browser",
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address), process.communicate()
        for _ in range(100):
            try:
                with urllib.request.urlopen(f"{address}status.json") as answer:
                    assert json.load(answer)["training"] is False
                break
            except ConnectionError:
                time.sleep(0.05)
        waiting = urllib.request.urlopen(f"{address}events")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        waiting.close()
    assert (process.returncode, out) == (0, "")
    assert set(err.splitlines()) <= {"preparing the page"}  # said if it takes long
