"""A webhook: one ``POST`` of JSON over a connection of its own.

Written on asyncio's streams, so that a deadline ends it wherever it is: a server that accepts and
never answers, or answers a byte a minute, holds no thread. The reply's status line is all that is
read of it. Redirects are not followed: who can answer must not choose where alerts go.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from .alerts import Alert
from .config import check_webhook

__all__ = ["Webhook"]

_LINE: Final = 1024


class Webhook:
    """Sends each alert to ``url`` as JSON: the fields of :class:`Alert`, and ``text``. ``headers``
    are sent with it. A reply but 2xx counts as a failure.
    """

    def __init__(self, url: str, *, headers: dict[str, str] | None = None) -> None:
        check_webhook(url)
        parts = urlsplit(url)
        self._host, self._tls = str(parts.hostname), parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        netloc = parts.netloc.rpartition("@")[2]
        own = {"Host": netloc, "Content-Type": "application/json", "Connection": "close"}
        lines = [f"POST {path} HTTP/1.1", *_lines(own | (headers or {}))]
        self._head = "\r\n".join(lines).encode("ascii")

    def __repr__(self) -> str:
        return f"<Webhook {self._host}>"

    async def __call__(self, alert: Alert) -> None:
        """Send one. Raises OSError where it was not taken."""
        body = msgspec.json.encode(_payload(alert))
        context = ssl.create_default_context() if self._tls else None
        reader, writer = await asyncio.open_connection(
            self._host, self._port, ssl=context, limit=_LINE
        )
        try:
            writer.write(self._head + f"\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            status = await _status(reader)
        finally:
            writer.transport.abort()
        if not 200 <= status < 300:
            raise OSError(f"webhook {self._host} answered {status}: see what it expects")


def _payload(alert: Alert) -> dict[str, Any]:
    return msgspec.structs.asdict(alert) | {"text": alert.text}


def _lines(headers: dict[str, str]) -> list[str]:
    """Header lines. Raises ValueError for what would end one early, without repeating it."""
    for name, value in headers.items():
        if not (name + value).isascii() or any(char in name + value for char in "\r\n\0"):
            raise ValueError(f"headers: {name!r} has characters that a header can't have")
    return [f"{name}: {value}" for name, value in headers.items()]


async def _status(reader: asyncio.StreamReader) -> int:
    try:
        line = await reader.readuntil(b"\n")
    except (asyncio.LimitOverrunError, asyncio.IncompleteReadError):
        line = b""
    words = line.split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise OSError("the webhook's server gave no HTTP answer: is its URL right?")
    return int(words[1])
