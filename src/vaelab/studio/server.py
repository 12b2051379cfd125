"""Serve the studio on 127.0.0.1: the page, the files of a run, and the events of its training. All requests are read-only."""

from __future__ import annotations

import asyncio
import json
import threading
import webbrowser
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from fastapi import FastAPI, Request
from starlette.responses import FileResponse, PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from vaelab import runs
from vaelab.evaluation.results import REPORT
from vaelab.runs import Run
from vaelab.serving.guard import Guarded
from vaelab.serving.listening import listen, local_hosts, run, server_of
from vaelab.studio.bundle import CONTENT_TYPES as BUNDLE_TYPES
from vaelab.studio.bundle import CURVE, MANIFEST, Bundle, open_bundle
from vaelab.studio.following import Following, as_text, is_training
from vaelab.studio.held_out import Work
from vaelab.studio.page import CONTENT_TYPES, page_files
from vaelab.studio.records import curve_of, report_of

POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Content security policy: the page may only use resources of this server."""

CHECK_EVERY, SPEAK_EVERY = 0.2, 15.0
"""Seconds between two checks for events, and between keep-alive comments in the event stream."""

MOST_STREAMS = 64
"""Maximum number of event streams; a page has one, and two during training."""

DRAIN = 2.0
"""Seconds that open requests have when the server is stopped."""


@dataclass
class Site:
    """The served run, its bundle (renewed when a training ends), and the state of its training."""

    run: Run
    bundle: Bundle
    following: Following


@final
class _Events(StreamingResponse):
    """An event stream, or 503 if there are `MOST_STREAMS` already."""

    def __init__(self, stream: AsyncIterator[str], streams: asyncio.Semaphore) -> None:
        super().__init__(stream, media_type="text/event-stream")
        self.streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.streams.locked():
            refusal = PlainTextResponse(
                f"got more than {MOST_STREAMS} event streams; close some pages\n", 503, {"retry-after": "10"}
            )
            await refusal(scope, receive, send)
            return
        async with self.streams:
            await super().__call__(scope, receive, send)


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
    app.add_middleware(Guarded, hosts=hosts, headers={"content-security-policy": POLICY})
    streams = asyncio.Semaphore(MOST_STREAMS)

    def not_found(name: str) -> Response:
        return PlainTextResponse(f"{site.following.problem or f'no {name} here'}\n", 404)

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
            return _json(curve_of(site.run))
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
        return _Events(_stream(site.following, request.headers.get("last-event-id"), ended), streams)

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
    if last is not None and last.isdecimal() and len(last) <= len(str(at)) and int(last) < at:
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


def open_site(
    folder: Path,
    *,
    source: str | None,
    options: Mapping[str, Any] | None = None,
    trust_code: bool = False,
    work: Work,
) -> Site:
    """Prepare a run folder for serving.

    Parameters
    ----------
    folder
        A run folder.
    source
        Source of its data. Default: the source with the recorded name, if it is built in or in the current folder.
    options
        Options of `load_dataset` that differ from those of the training.
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
        site.bundle = open_bundle(folder, source=source, options=options, trust_code=trust_code)

    training = is_training(run)
    bundle = open_bundle(folder, source=source, options=options, training=training, trust_code=trust_code, work=work)
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
    with listen(port) as listening:
        number = listening.getsockname()[1]
        hosts = local_hosts(number)
        server: Any = None
        app = studio_app(site, hosts, ended=lambda: server.should_exit)
        server = server_of(app, drain=DRAIN)
        address = f"http://{hosts[0]}/"
        on_ready(address)
        if browser:
            threading.Thread(target=webbrowser.open, args=[address], daemon=True).start()
        site.following.begin()
        run(server, listening)
        site.following.end()
