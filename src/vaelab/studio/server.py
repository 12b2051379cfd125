"""Serve the studio on 127.0.0.1: the page, the files of a run, and the events of its training. All requests are read-only.

Only requests with an expected `Host` header are answered, which prevents DNS rebinding: another site cannot access the server
under its own name.
"""

from __future__ import annotations

import asyncio
import json
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
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vaelab import runs
from vaelab.errors import ConfigError
from vaelab.evaluation.results import REPORT
from vaelab.runs import Run
from vaelab.studio.bundle import CONTENT_TYPES as BUNDLE_TYPES
from vaelab.studio.bundle import CURVE, MANIFEST, Bundle, open_bundle, report_of
from vaelab.studio.following import Following, as_text, is_training
from vaelab.studio.held_out import Work
from vaelab.studio.page import CONTENT_TYPES, page_files

HOST = "127.0.0.1"

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Content security policy: the page may only use resources of this server."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}

CHECK_EVERY, SPEAK_EVERY = 0.2, 15.0
"""Seconds between two checks for events, and between keep-alive comments in the event stream."""


@dataclass
class Site:
    """The served run, its bundle (renewed when a training ends), and the state of its training."""

    run: Run
    bundle: Bundle
    following: Following


@final
class _Guarded:
    """Middleware that answers only requests for `hosts` and adds the security headers to every response."""

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
            refusal = PlainTextResponse(
                f"got a request for {host!r}; expected one for http://{min(self.hosts)}/\n", 421
            )
            await refusal(scope, receive, guarded)
            return
        await self.app(scope, receive, guarded)


def studio_app(site: Site, hosts: Collection[str], *, ended: Callable[[], bool] = lambda: False) -> FastAPI:
    """Return the application that serves a site.

    Parameters
    ----------
    site
        The site.
    hosts
        Accepted values of the header `Host`.
    ended
        Returns whether event streams should end.

    Raises
    ------
    StudioError
        If the page is not built.
    """
    files = page_files()
    app = FastAPI(title="vaelab studio", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(_Guarded, hosts=hosts)

    def not_found(name: str) -> Response:
        return PlainTextResponse(f"no {name} here\n", 404)

    @app.get("/")
    def index() -> Response:
        return FileResponse(files["index.html"], media_type=CONTENT_TYPES["index.html"])

    @app.get("/bundle/{name}")
    def of_bundle(name: str) -> Response:
        if name == MANIFEST:
            report = None if report_of(site.run) is None else REPORT
            live = {"training": site.following.training, "curve": CURVE, "report": report}
            return _json(site.bundle.manifest | live)
        if name == CURVE:
            return _json(runs.read_metrics(site.run))
        content = report_of(site.run) if name == REPORT else site.bundle.read(name)
        if content is None:
            return not_found(name)
        return Response(content, media_type=BUNDLE_TYPES[Path(name).suffix])

    @app.get("/status.json")
    def status() -> Response:
        return _json({"training": site.following.training, "version": site.bundle.key})

    @app.get("/live/{number}.png")
    def live(number: int) -> Response:
        picture = site.following.pictures.get(number)
        return not_found(f"picture {number}") if picture is None else Response(picture, media_type="image/png")

    @app.get("/events")
    async def events(request: Request) -> Response:
        stream = _stream(site.following, request.headers.get("last-event-id"), ended)
        return StreamingResponse(stream, media_type="text/event-stream")

    @app.get("/{name}")
    def of_page(name: str) -> Response:
        return FileResponse(files[name], media_type=CONTENT_TYPES[name]) if name in files else not_found(name)

    return app


def _json(values: object) -> Response:
    """Return values as JSON in ASCII: UTF-8 cannot encode names that stand for undecodable bytes."""
    return Response(json.dumps(values), media_type="application/json")


async def _stream(following: Following, last: str | None, ended: Callable[[], bool]) -> AsyncIterator[str]:
    """Yield the events after number `last`, or, if it is None or unknown, the most recent ones; then all new events."""
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


def open_site(folder: Path, *, source: str | None, trust_code: bool = False, work: Work) -> Site:
    """Prepare a run folder for serving.

    Parameters
    ----------
    folder
        A run folder.
    source
        Source of its data. Default: the source with the recorded name, if it is built in or in the current folder.
    trust_code
        Import the custom networks that the run names.
    work
        Progress callback.

    Raises
    ------
    StudioError
        If the page is not built.
    VaelabError
        As `open_bundle` raises.
    """
    run = runs.open_run(folder, trust_code=trust_code)
    page_files()
    site: Site

    def renew() -> None:
        site.bundle = open_bundle(folder, source=source, trust_code=trust_code)

    bundle = open_bundle(folder, source=source, training=is_training(run), trust_code=trust_code, work=work)
    site = Site(run, bundle, Following(run, renew))
    return site


def serve(site: Site, *, port: int | None, browser: bool, on_ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C.

    Parameters
    ----------
    site
        The site.
    port
        Port, 1 to 65535; None: a free one.
    browser
        Whether to open the page in the default browser.
    on_ready
        Called with the URL when the port is open.

    Raises
    ------
    ConfigError
        If the port is invalid or not available.
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
        on_ready(address)
        if browser:
            threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
        site.following.begin()
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listening])
        site.following.end()


@contextmanager
def _listening(port: int | None) -> Iterator[socket.socket]:
    """Open a listening socket on a port of 127.0.0.1; None: a free port.

    Raises
    ------
    ConfigError
        If the port is invalid or not available.
    """
    if port is not None and not 1 <= port <= 65535:
        raise ConfigError(f"`port`: got {port}; expected 1 to 65535; leave it out to use a free port")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listening:
        if os.name == "posix":  # reuse a port closed recently; on Windows this would also take a port in use
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port or 0))
            listening.listen()
        except OSError as error:
            raise ConfigError(
                f"`port`: {port} is not available ({error.strerror or error}); choose another, or leave it out to use a free port"
            ) from error
        yield listening
