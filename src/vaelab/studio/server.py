"""The studio on this machine: the page, the files of a run, and what its training does, on 127.0.0.1 and for nobody else.

A request must name the host that it was meant for, so that no other site can lead a browser here under a name of its own (DNS
rebinding). Nothing can be written through it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vaelab.errors import ConfigError
from vaelab.evaluation.report import REPORT
from vaelab.studio.bundle import CURVE, MANIFEST, Bundle, open_bundle
from vaelab.studio.following import Following, as_text, is_training
from vaelab.studio.held_out import Work
from vaelab.studio.page import KINDS, page_files
from vaelab.training import runs
from vaelab.training.runs import Run

HOST = "127.0.0.1"

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""What the page may do: nothing but what lies here."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}

CHECK_EVERY, SPEAK_EVERY = 0.2, 15.0
"""Seconds between two looks for events, and between two signs of life to a page that waits for them."""


@dataclass
class Site:
    """What is served: the bundle of a run, which a training makes anew when it ends, and the training."""

    run: Run
    bundle: Bundle
    following: Following


@final
class _Guarded:
    """Answers to `hosts` alone, and with every answer says what the page may do."""

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *more]
            await send(message)

        host = dict(scope.get("headers", ())).get(b"host", b"").decode("latin-1").lower()
        if scope["type"] == "http" and host not in self.hosts:
            told = PlainTextResponse(f"got a request to {host!r}; expected one to http://{min(self.hosts)}/\n", 421)
            await told(scope, receive, guarded)
            return
        await self.app(scope, receive, guarded)


def studio_app(site: Site, hosts: Collection[str], *, ended: Callable[[], bool] = lambda: False) -> FastAPI:
    """The application that serves a site.

    Parameters
    ----------
    site
        What is served.
    hosts
        The values of the header `Host` that are answered to.
    ended
        Whether those that wait for events should be let go.

    Raises
    ------
    StudioError
        If the page is not built.
    """
    files = page_files()
    app = FastAPI(title="vaelab studio", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(_Guarded, hosts=hosts)

    def nothing(name: str) -> Response:
        return PlainTextResponse(f"no {name} here\n", 404)

    @app.get("/")
    def index() -> Response:
        return FileResponse(files["index.html"], media_type=KINDS["index.html"])

    @app.get("/bundle/{name}")
    def of_bundle(name: str) -> Response:
        run, bundle = site.run.folder, site.bundle
        if name == MANIFEST:
            live = {"training": site.following.training, "curve": CURVE}
            report = REPORT if (run / REPORT).is_file() else None
            return JSONResponse(bundle.manifest | live | {"report": report})
        if name == CURVE:
            return JSONResponse(runs.read_metrics(site.run))
        path = run / REPORT if name == REPORT else bundle.folder / name
        known = name == REPORT or name in bundle.files
        return FileResponse(path) if known and path.is_file() else nothing(name)

    @app.get("/status.json")
    def status() -> Response:
        return JSONResponse({"training": site.following.training, "version": site.bundle.key})

    @app.get("/live/{number}.png")
    def live(number: int) -> Response:
        picture = site.following.pictures.get(number)
        return nothing(f"picture {number}") if picture is None else Response(picture, media_type="image/png")

    @app.get("/events")
    async def events(request: Request) -> Response:
        stream = _stream(site.following, request.headers.get("last-event-id"), ended)
        return StreamingResponse(stream, media_type="text/event-stream")

    @app.get("/{name}")
    def of_page(name: str) -> Response:
        return FileResponse(files[name], media_type=KINDS[name]) if name in files else nothing(name)

    return app


async def _stream(following: Following, last: str | None, ended: Callable[[], bool]) -> AsyncIterator[str]:
    """Events from the one after `last`, the number that a page had got to; else the newest, and those to come."""
    events = following.events
    at, silence = len(events), 0.0
    if last is not None and last.isdecimal() and int(last) < at:
        waiting = list(range(int(last) + 1, at))
    else:
        waiting = following.first_to_send()
    yield ": here\n\n"
    while not ended():
        waiting += range(at, at := len(events))
        for number in waiting:
            yield as_text(number, events[number])
        silence = 0.0 if waiting else silence + CHECK_EVERY
        waiting = []
        if silence > SPEAK_EVERY:
            silence = 0.0
            yield ": here\n\n"
        await asyncio.sleep(CHECK_EVERY)


def open_site(folder: Path, *, source: str | None, work: Work) -> Site:
    """Make ready what is served of a run folder.

    Raises
    ------
    StudioError
        If the page is not built.
    VaelabError
        As `open_bundle` raises.
    """
    run = runs.open_run(folder)
    page_files()
    site: Site

    def renew() -> None:
        site.bundle = open_bundle(folder, source=source)

    bundle = open_bundle(folder, source=source, training=is_training(run), work=work)
    site = Site(run, bundle, Following(run, renew))
    return site


def serve(site: Site, *, port: int | None, browser: bool, told: Callable[[str], None]) -> None:
    """Serve until Ctrl-C.

    Parameters
    ----------
    site
        What.
    port
        Default: a free one.
    browser
        Whether to open the page in the person's browser.
    told
        Given the address, when it can be opened.

    Raises
    ------
    ConfigError
        If the port cannot be had.
    """
    with _listening(port) as listening:
        number = listening.getsockname()[1]
        hosts = [f"{HOST}:{number}", f"localhost:{number}"]
        server: Any = None
        app = studio_app(site, hosts, ended=lambda: server.should_exit)
        settings = uvicorn.Config(
            app, lifespan="off", ws="none", log_level="critical", server_header=False, timeout_graceful_shutdown=2
        )
        server = uvicorn.Server(settings)
        address = f"http://{hosts[0]}/"
        told(address)
        if browser:
            threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
        site.following.begin()
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listening])
        site.following.end()


@contextmanager
def _listening(port: int | None) -> Iterator[socket.socket]:
    """A socket at this port of 127.0.0.1, or at a free one.

    Raises
    ------
    ConfigError
        If it cannot be had.
    """
    if port is not None and not 1 <= port <= 65535:
        raise ConfigError(f"--port: got {port}; expected 1 to 65535, or none for a free one")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        if os.name == "posix":  # else a port that was just left could not be taken; elsewhere it would take one in use
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port or 0))
            listening.listen()
        except OSError as error:
            raise ConfigError(
                f"--port: got {port}, which cannot be had ({error.strerror or error}); expected a free one: leave --port out"
            ) from error
        yield listening
