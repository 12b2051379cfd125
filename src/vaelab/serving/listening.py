"""Listen on a port and answer until Ctrl-C or SIGTERM; drop connections that send or read nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import final

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from vaelab.errors import ConfigError

HOST = "127.0.0.1"

REQUEST_SECONDS = 10.0
"""Time for a complete request, header and body, from its first byte; a connection without a request has as much."""

STALLED_SECONDS = 30.0
"""Time for a client to read some of an answer before its connection is dropped."""

MOST_CONNECTIONS = 1024
"""Maximum number of open connections; further ones are closed at once."""


@final
class Connection(H11Protocol):
    """A connection of uvicorn with limits on time and number; uvicorn itself limits idle time between requests only."""

    _incomplete: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > MOST_CONNECTIONS:
            transport.abort()
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:  # a pipelined request, or a body that was not waited for
            self._watch()

    def _watch(self) -> None:
        """Start the time limit when a request begins, and end it when the request is complete."""
        incomplete = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        if not incomplete and self._incomplete is not None:
            self._incomplete.cancel()
            self._incomplete = None
        elif incomplete and self._incomplete is None:
            self._incomplete = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._incomplete, self._stalled):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)


def server_of(app: ASGIApp, *, drain: float) -> uvicorn.Server:
    """Return a server; when it is stopped, requests that are being answered have `drain` seconds."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=int(drain),
        )
    )


def run(server: uvicorn.Server, listening: socket.socket) -> None:
    """Serve on a socket until Ctrl-C or SIGTERM."""
    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, signal.default_int_handler) if main else None
    try:
        with suppress(KeyboardInterrupt):  # uvicorn raises the signal again when it has stopped
            server.run(sockets=[listening])
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)


def local_hosts(port: int) -> list[str]:
    """Return the values of the header `Host` of requests to this machine."""
    names = [HOST, "localhost", "[::1]"]
    return [f"{name}:{port}" for name in names] + (names if port == 80 else [])  # 80 is left out


@contextmanager
def listen(port: int | None, host: str = HOST) -> Iterator[socket.socket]:
    """Open a listening socket on a port of an address; None: a free port.

    Raises
    ------
    ConfigError
        If the port is invalid or not available, or the address is not one of this machine.
    """
    if port is not None and not 1 <= port <= 65535:
        raise ConfigError(f"`port`: got {port}; expected 1 to 65535; leave it out to use a free port")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"`host`: got {host!r}; expected an address of this machine, such as {HOST}") from error
    with socket.socket(family, kind) as listening:
        if os.name == "posix":  # reuse a port closed recently; on Windows this would also take a port in use
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(address)
            listening.listen(MOST_CONNECTIONS)
        except OSError as error:
            raise ConfigError(
                f"`port`: {port} is not available on {host} ({error.strerror or error}); choose another, or leave it out to use "
                "a free port"
            ) from error
        yield listening
