"""Connections over a real socket: incomplete and stalled ones are dropped, others are answered meanwhile."""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.responses import PlainTextResponse, Response

from vaelab.errors import ConfigError
from vaelab.serving import listening
from vaelab.serving.guard import Guarded
from vaelab.serving.listening import listen, run, server_of

LIMIT = 0.3
"""Time limit of a request in these tests, in seconds."""


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server that answers `/` with the length of the body, and `/large` with more than the socket buffers hold."""
    monkeypatch.setattr(listening, "REQUEST_SECONDS", LIMIT)
    monkeypatch.setattr(listening, "STALLED_SECONDS", LIMIT)
    app = FastAPI()

    @app.api_route("/", methods=["GET", "POST"])
    async def length(request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    @app.get("/large")
    def large() -> Response:
        return Response(b"x" * 50_000_000)

    app.add_middleware(Guarded, hosts=None)
    with listen(None) as listened:
        server = server_of(app, drain=1)
        thread = threading.Thread(target=run, args=(server, listened))
        thread.start()
        while not server.started:
            time.sleep(0.005)
        yield listened.getsockname()[1]
        server.should_exit = True
        thread.join()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def is_closed(client: socket.socket) -> bool:
    """Whether the server has ended a connection without an answer; waits for it."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def answer(client: socket.socket) -> bytes:
    """The body of an answer with status 200."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += client.recv(1)
    assert head.startswith(b"HTTP/1.1 200 OK"), head
    (length,) = (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    return client.recv(int(length.split(b":")[1]), socket.MSG_WAITALL)


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345"


@pytest.mark.parametrize("start", [b"", b"GET / HT", GET[:-2], POST])
def test_an_incomplete_request_is_dropped(port: int, start: bytes) -> None:
    with connect(port) as client, connect(port) as other:
        client.sendall(start)
        other.sendall(GET)
        assert answer(other) == b"0"
        assert is_closed(client)


def test_a_byte_now_and_then_gives_no_more_time(port: int) -> None:
    with connect(port) as client:
        client.sendall(GET[:-2])
        try:
            for _ in range(1000):
                client.sendall(b"a: b\r\n")
                time.sleep(LIMIT / 10)
        except OSError:
            return
    pytest.fail("the request went on")


def test_a_second_request_on_a_connection_has_a_limit_too(port: int) -> None:
    with connect(port) as client:
        client.sendall(GET)
        assert answer(client) == b"0"
        client.sendall(POST)
        assert is_closed(client)
    with connect(port) as client:  # sent at once, so that the second is read before the first is answered
        client.sendall(GET + POST)
        assert answer(client) == b"0"
        assert is_closed(client)


def test_complete_requests_are_answered_on_one_connection(port: int) -> None:
    with connect(port) as client:
        for _ in range(3):
            client.sendall(POST + b"67890")
            assert answer(client) == b"10"
            time.sleep(LIMIT)  # between requests, the limit does not apply


def test_a_client_that_does_not_read_is_dropped(port: int) -> None:
    with connect(port) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        time.sleep(3 * LIMIT)
        received = 0
        try:
            while part := client.recv(1 << 20):
                received += len(part)
        except ConnectionResetError:
            pass
        assert received < 50_000_000


def test_connections_are_limited(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "MOST_CONNECTIONS", 3)
    monkeypatch.setattr(listening, "REQUEST_SECONDS", 60.0)
    with connect(port) as a, connect(port) as b, connect(port) as c:
        for client in (a, b, c):
            client.sendall(GET)
            assert answer(client) == b"0"
        with connect(port) as fourth:
            assert is_closed(fourth)
        a.sendall(GET)
        assert answer(a) == b"0"


def test_sigterm_ends_a_server_like_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[Any] = []

    class Stand:
        def run(self, sockets: list[socket.socket]) -> None:
            raised.append(sockets)
            signal.raise_signal(signal.SIGTERM)
            time.sleep(1)
            raised.append("went on")

    before = signal.getsignal(signal.SIGTERM)
    with listen(None) as listened:
        run(Stand(), listened)  # type: ignore[arg-type]
        assert raised == [[listened]]
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_host_that_is_not_here_is_reported() -> None:
    with pytest.raises(ConfigError, match=r"^`host`: got 'a\.\.b'"), listen(None, "a..b"):
        pass
