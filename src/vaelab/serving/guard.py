"""Which requests a server answers: those for an expected `Host` that no other website has sent."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import final

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vaelab.errors import printable

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}
"""Headers of every response."""


@final
class Guarded:
    """Middleware that refuses foreign requests and adds headers to every response.

    A request for another `Host` is refused with 421: another site cannot access the server under its own name (DNS rebinding).
    One with another `Origin` is refused with 403: a page of another site cannot make the browser send requests that have effects.

    Parameters
    ----------
    hosts
        Accepted values of `Host`; None accepts any, and then `Origin` must name the same host.
    headers
        Headers of every response, besides `HEADERS`.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] | None, headers: Mapping[str, str] | None = None) -> None:
        self.app, self.hosts = app, hosts
        self.headers = [(name.encode(), value.encode()) for name, value in (HEADERS | dict(headers or {})).items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *self.headers]
            await send(message)

        answers = (self._refusal(scope) if scope["type"] == "http" else None) or self.app
        await answers(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        host, *more = _values(scope, b"host") or [""]
        allowed = [host] if self.hosts is None else self.hosts
        if more or host not in allowed:
            return PlainTextResponse(f"got a request for {_quoted(host)}; expected http://{min(allowed)}/\n", 421)
        for origin in _values(scope, b"origin"):
            if origin.removeprefix("http://").removeprefix("https://") not in allowed or "://" not in origin:
                return PlainTextResponse(
                    f"got a request from the website {_quoted(origin)}; expected none from other websites than this server's\n",
                    403,
                )
        return None


def _values(scope: Scope, name: bytes) -> list[str]:
    """Return the values of a header in lower case."""
    return [value.decode("latin-1").lower() for key, value in scope.get("headers", ()) if key == name]


def _quoted(text: str) -> str:
    return repr(printable(text[:200]))
