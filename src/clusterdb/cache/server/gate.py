"""Who may ask, how much and how long: what stands before every operation.

Three kinds of attacker are meant. A page in the user's browser: it can send requests to this
machine, under a name of its own that resolves to it (DNS rebinding), but it can't choose ``Host``
and ``Origin``. Somebody who guesses tokens: compared in constant time, and each wrong one costs as
much as many requests. Whoever sends too much, too slowly, or takes nothing: everything has a bound.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import Refused, problem_response
from .settings import LOOPBACK, ServerSettings

__all__ = ["DEADLINE", "Buckets", "Gate"]

DEADLINE: Final = "clusterdb.deadline"
"""Where a request's scope keeps its ``asyncio.Timeout``, for operations that last."""

_WRONG_TOKEN: Final = 20.0
_CLIENTS: Final = 1024
_SAFE: Final = frozenset({"GET", "HEAD"})

_POLICY: Final = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS: Final = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Buckets:
    """Requests by address: each may make ``rate`` a second, and twice as many at once.

    The addresses heard of last are known; one that was forgotten starts anew.
    """

    def __init__(self, rate: float, now: Callable[[], float]) -> None:
        self._rate, self._now = rate, now
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str, cost: float = 1.0) -> float:
        """Pay for a request; 0 if it may be made, else in how many seconds."""
        now, most = self._now(), max(1.0, 2 * self._rate)
        left, at = self._left.pop(client, (most, now))
        left = min(most, left + (now - at) * self._rate)
        if left < 1:
            self._left[client] = (left, now)
            return (1 - left) / self._rate
        self._left[client] = (left - cost, now)
        if len(self._left) > _CLIENTS:
            self._left.popitem(last=False)
        return 0.0


class Gate:
    """Lets a request through to the application, or refuses it."""

    def __init__(self, app: ASGIApp, settings: ServerSettings, now: Callable[[], float]) -> None:
        self._app, self._settings = app, settings
        self._token = None if settings.token is None else _digest(settings.token.encode())
        self._names = _names(settings)
        self._buckets = None if settings.rate is None else Buckets(settings.rate, now)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a WebSocket is closed at once."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        else:
            outlet = _Outlet(send, self._settings.write_timeout)
            try:
                await self._pass(scope, receive, outlet)
            except (Refused, TimeoutError) as error:
                if not outlet.begun:
                    await problem_response(error)(scope, receive, outlet)

    async def _pass(self, scope: Scope, receive: Receive, outlet: _Outlet) -> None:
        headers = Headers(scope=scope)
        self._check_host(headers)
        self._check_origin(scope, headers)
        if "content-length" in headers and "transfer-encoding" in headers:
            detail = "a body has a Content-Length or a Transfer-Encoding: a proxy may read both"
            raise Refused("invalid-request", detail, closes=True)
        client = (scope.get("client") or ("", 0))[0]
        wait = self._buckets.take(client) if self._buckets is not None else 0.0
        if wait:
            detail = (
                f"this address has made all the requests that it may, {self._settings.rate:g} a "
                f"second: ask less often, or give the server a higher rate"
            )
            raise Refused("too-many-requests", detail, retry_after=wait)
        if self._token is not None and not _is_open(_path(scope)):
            self._check_token(client, headers)
        body = _Body(receive, self._settings.max_body, self._settings.body_timeout)
        body.announced(headers.get("content-length"))
        async with asyncio.timeout(self._settings.timeout) as deadline:
            scope[DEADLINE] = deadline
            await self._app(scope, body, outlet)

    def _check_host(self, headers: Headers) -> None:
        names = headers.getlist("host")
        if len(names) != 1:
            raise Refused("wrong-host", "a request names one host")
        if self._names is not None and _host(names[0]) not in self._names:
            raise Refused(
                "wrong-host",
                f"{names[0][:200]!r} is not among the names of this server: "
                f"{', '.join(sorted(self._names))}; allow it by --allow-host",
            )

    def _check_origin(self, scope: Scope, headers: Headers) -> None:
        """Pages of this server may use it, and those of origins that were allowed. What a browser
        asks for because a person went there may be read.
        """
        origin = headers.get("origin")
        if origin is None:
            foreign = headers.get("sec-fetch-site") in {"cross-site", "same-site"}
            goes_there = headers.get("sec-fetch-mode") == "navigate" and scope["method"] in _SAFE
            if not foreign or goes_there:
                return
        elif origin in self._settings.origins or _netloc(origin) == headers["host"].lower():
            return
        raise Refused("wrong-origin", f"the request comes from {origin or 'another site'!r:.200}")

    def _check_token(self, client: str, headers: Headers) -> None:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        matches = hmac.compare_digest(_digest(given.strip().encode()), self._token or b"")
        if scheme.lower() == "bearer" and matches:
            return
        if given and self._buckets is not None:
            self._buckets.take(client, _WRONG_TOKEN)
        raise Refused("token-required", "send 'Authorization: Bearer' with the server's token")


class _Body:
    """What a client sends, within bounds of size and time."""

    def __init__(self, receive: Receive, most: int, seconds: float) -> None:
        self._receive, self._most, self._size = receive, most, 0
        self._until = asyncio.get_running_loop().time() + seconds
        self._whole = False

    def announced(self, length: str | None) -> None:
        """Refuse what is too large before it is read."""
        if length is not None and length.isdecimal() and int(length[:20]) > self._most:
            raise self._too_large()

    async def __call__(self) -> Message:
        """The next part."""
        if self._whole:  # what still comes is that the client has gone
            return await self._receive()
        try:
            async with asyncio.timeout_at(self._until):
                message = await self._receive()
        except TimeoutError:
            detail = "the body did not arrive in time"
            raise Refused("request-timeout", detail, closes=True) from None
        self._whole = not message.get("more_body", False)
        self._size += len(message.get("body", b""))
        if self._size > self._most:
            raise self._too_large()
        return message

    def _too_large(self) -> Refused:
        return Refused("too-large", f"a body has at most {self._most} bytes", closes=True)


class _Outlet:
    """What is sent: with the headers of every answer, and to clients that take it."""

    def __init__(self, send: Send, seconds: float) -> None:
        self._send, self._seconds, self.begun = send, seconds, False

    async def __call__(self, message: Message) -> None:
        """Send one part."""
        if message["type"] == "http.response.start":
            self.begun = True
            own = {name for name, _ in message["headers"]}
            added = [header for header in _HEADERS if header[0] not in own]
            message = {**message, "headers": [*message["headers"], *added]}
        async with asyncio.timeout(self._seconds):
            await self._send(message)


def _names(settings: ServerSettings) -> frozenset[str] | None:
    """The host names that are taken, ``None`` for all: a page can't know the token."""
    if settings.hosts:
        return frozenset(name.lower() for name in settings.hosts) | LOOPBACK
    return None if settings.token is not None else LOOPBACK | {settings.host.lower()}


def _is_open(path: str) -> bool:
    """The page itself, which holds nothing, and what probes ask for."""
    return path in {"", "/", "/healthz", "/readyz"} or path.startswith("/assets/")


def _path(scope: Scope) -> str:
    """The path below the place where the application is mounted."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _digest(text: bytes) -> bytes:
    """So that even the length of the token is not compared."""
    return hashlib.sha256(text).digest()


def _host(header: str) -> str:
    """The name without its port; empty for what is none."""
    try:
        return (urlsplit(f"//{header}").hostname or "").lower()
    except ValueError:
        return ""


def _netloc(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
