"""Middleware of the served model: token, size, number and time of requests; their log and their metrics."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import sys
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, final

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vaelab.errors import printable
from vaelab.serving.limits import Limits

OPEN = ("/healthz", "/readyz")
"""Paths that need no token."""

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
"""Upper bounds of the histogram of times, in seconds."""

MOST_HELD = 16
"""Bodies of the maximum size that are held in memory at the same time while they are received."""


def write_log(entry: dict[str, Any]) -> None:
    """Write a line of JSON to standard error."""
    with suppress(OSError, ValueError):  # closed
        sys.stderr.write(json.dumps(entry) + "\n")
        sys.stderr.flush()


@final
class Admission:
    """Answers requests within the limits, and logs each: its id, path, status and time, but nothing of its content.

    Parameters
    ----------
    limits
        Limits.
    token
        Token that requests must bear, except those of `OPEN`; None: none.
    paths
        The paths that have metrics of their own.
    log
        Called with the entry of each request.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        token: str | None,
        paths: set[str],
        log: Callable[[dict[str, Any]], None],
    ) -> None:
        self.app, self.limits, self.token, self.paths, self.log = app, limits, token, paths, log
        self.waiting = self.held = 0
        self.counts: Counter[tuple[str, int]] = Counter()
        self.times: Counter[float] = Counter()
        self.seconds = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, headers = time.perf_counter(), 0, Headers(scope=scope)
        given = headers.get("x-request-id", "")
        number = given if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", given) else uuid.uuid4().hex
        more = {}

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", number.encode())]
            await send(message)

        try:
            await self._answer(scope, receive, answer, headers)
        except ClientDisconnect:
            pass
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            more = {"error": type(error).__name__, "at": f"{place.filename}:{place.lineno}"}
            if not status:
                await _problem(500, "the server has a mistake, which its log names")(scope, receive, answer)
        seconds = time.perf_counter() - started
        path = scope["path"] if scope["path"] in self.paths else "other"
        self.counts[path, status] += 1
        self.times[next((bound for bound in BUCKETS if seconds <= bound), float("inf"))] += 1
        self.seconds += seconds
        entry = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "id": number, "method": scope["method"]}
        entry |= {"path": printable(scope["path"])[:200], "status": status, "ms": round(1000 * seconds, 1)}
        self.log(entry | more)

    async def _answer(self, scope: Scope, receive: Receive, send: Send, headers: Headers) -> None:
        if not self._is_allowed(scope, headers):
            refusal = _problem(401, "no valid token; send the header Authorization: Bearer TOKEN")
            refusal.headers["www-authenticate"] = "Bearer"
            await refusal(scope, receive, send)
            return
        if scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        body = await self._body(receive, headers.get("content-length", ""))
        if isinstance(body, JSONResponse):
            await body(scope, receive, send)
            return
        if self.waiting >= self.limits.queue:
            await _busy(f"{self.limits.queue} requests are being answered already")(scope, receive, send)
            return
        whole: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def received() -> Message:
            return whole.pop() if whole else await receive()

        self.waiting += 1
        try:
            async with asyncio.timeout(self.limits.timeout):
                await self.app(scope, received, send)
        except TimeoutError:
            await _busy(f"no answer within {self.limits.timeout:g} seconds")(scope, receive, send)
        finally:
            self.waiting -= 1

    def _is_allowed(self, scope: Scope, headers: Headers) -> bool:
        if self.token is None or scope["path"] in OPEN:
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self.token.encode())

    async def _body(self, receive: Receive, stated: str) -> bytes | JSONResponse:
        """Return the body of a request, or the answer to one that is too large."""
        parts, size, most = [], 0, self.limits.max_body
        too_large = _problem(413, f"the body is larger than {most:,} bytes; send fewer images per request")
        if stated.isdecimal() and (len(stated) > 15 or int(stated) > most):
            return too_large
        try:
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise ClientDisconnect
                parts.append(part := message.get("body", b""))
                size, self.held = size + len(part), self.held + len(part)
                if size > most:
                    return too_large
                if self.held > MOST_HELD * most:
                    return _busy("too many large requests are being received")
                if not message.get("more_body", False):
                    return b"".join(parts)
        finally:
            self.held -= size

    def text(self, more: dict[str, int]) -> str:
        """Return the metrics in Prometheus' text format; `more` are further counters."""
        lines = ["# TYPE vaelab_requests_total counter"]
        for (path, status), count in sorted(self.counts.items()):
            lines.append(f'vaelab_requests_total{{path="{path}",status="{status}"}} {count}')
        lines.append("# TYPE vaelab_request_seconds histogram")
        total = 0
        for bound in (*BUCKETS, float("inf")):
            total += self.times[bound]
            name = "+Inf" if bound == float("inf") else f"{bound:g}"
            lines.append(f'vaelab_request_seconds_bucket{{le="{name}"}} {total}')
        lines += [f"vaelab_request_seconds_sum {self.seconds:.6f}", f"vaelab_request_seconds_count {total}"]
        lines += ["# TYPE vaelab_requests_waiting gauge", f"vaelab_requests_waiting {self.waiting}"]
        for name, count in more.items():
            lines += [f"# TYPE vaelab_{name}_total counter", f"vaelab_{name}_total {count}"]
        return "\n".join(lines) + "\n"


def _problem(status: int, detail: str) -> JSONResponse:
    """Return an answer to a request that is not answered; it ends the connection, whose body may not have been read."""
    return JSONResponse({"detail": detail}, status, {"connection": "close"} if status == 413 else None)


def _busy(detail: str) -> JSONResponse:
    answer = _problem(503, f"{detail}; try again later")
    answer.headers["retry-after"] = "1"
    return answer
