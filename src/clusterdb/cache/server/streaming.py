"""Events of the cache as server-sent events.

Each stream has a bounded queue; what does not fit is lost, and an event ``gap`` says how many it
were. While nothing happens a comment is sent now and then, so that a connection that is dead is
noticed, and that proxies keep it.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from clusterdb.cache import Event, Subscription

from ..events.types import every_kind
from .asking import Asked
from .places import Places
from .problems import Refused

__all__ = ["events"]

_BEGIN: Final = b"retry: 2000\n\n"
_HEARTBEAT: Final = b": still here\n\n"


async def events(asked: Asked) -> Response:
    """What happens in the cache from now on: of one region, of some kinds, or of keys that match a
    glob.
    """
    region = asked.text("region", "") or None
    subscription = asked.cache.subscribe(
        *_kinds(asked.texts("kind")),
        region=None if region is None else asked.cache.region(region).name,
        pattern=asked.text("key", "") or None,
        capacity=asked.settings.stream_queue,
        overflow="drop_oldest",
    )
    streams = asked.lasting.streams
    streams.check()
    asked.may_take(None)
    return _EventStream(subscription, streams, asked.settings.heartbeat)


def _kinds(names: list[str]) -> list[type[Event]]:
    known = every_kind()
    for name in names:
        if name not in known:
            problem = f"kind is one of {', '.join(known)}, not {name[:60]!r}"
            raise Refused("invalid-request", problem)
    return [known[name] for name in dict.fromkeys(names)]


class _EventStream(Response):
    """An answer that lasts until the client goes, or the cache is closed."""

    media_type = "text/event-stream"

    def __init__(
        self, subscription: Subscription[Event], streams: Places, heartbeat: float
    ) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._subscription, self._streams, self._heartbeat = subscription, streams, heartbeat
        self._begun = False

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        await self._streams.take(self._tell(send), receive)
        if self._begun:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tell(self, send: Send) -> None:
        async with self._subscription as happening:
            self._begun = True
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await _part(send, _BEGIN)
            upcoming: asyncio.Task[Event | None] | None = None
            try:
                while True:
                    upcoming = upcoming or asyncio.ensure_future(anext(happening, None))
                    await asyncio.wait({upcoming}, timeout=self._heartbeat)
                    if not upcoming.done():
                        await _part(send, _HEARTBEAT)
                        continue
                    event, upcoming = upcoming.result(), None
                    if event is None:
                        return
                    await _part(send, _framed(event))
            finally:
                if upcoming is not None:
                    upcoming.cancel()


async def _part(send: Send, content: bytes) -> None:
    await send({"type": "http.response.body", "body": content, "more_body": True})


def _framed(event: Event) -> bytes:
    """JSON has no line breaks of its own, so one ``data:`` line holds it."""
    fields = msgspec.json.encode(event)
    return (
        b"event: "
        + str(type(event).__struct_config__.tag).encode()
        + b"\ndata: "
        + fields
        + b"\n\n"
    )
