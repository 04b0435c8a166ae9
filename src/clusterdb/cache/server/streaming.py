"""Events of the cache as server-sent events.

Each stream has a bounded queue; what does not fit is lost, and an event ``gap`` says how many it
were. While nothing happens a comment is sent now and then, so that a connection that is dead is
noticed, and that proxies keep it.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from clusterdb.cache import Event, Subscription

from ..events.types import event_kinds
from .asking import Asked
from .gate import DEADLINE
from .problems import Refused

__all__ = ["Streams", "events"]

_HEARTBEAT: Final = b": still here\n\n"


class Streams:
    """How many streams there are, of how many there may be."""

    def __init__(self, most: int) -> None:
        self.most, self.open = most, 0


async def events(asked: Asked) -> Response:
    """What happens in the cache from now on: of one region, kind, or keys that match a glob."""
    kinds, kind = event_kinds(), asked.text("kind", "")
    if kind and kind not in kinds:
        raise Refused("invalid-request", f"kind is one of {', '.join(kinds)}, not {kind[:60]!r}")
    subscription = asked.cache.subscribe(
        *([kinds[kind]] if kind else []),
        region=asked.text("region", "") or None,
        pattern=asked.text("key", "") or None,
        capacity=asked.settings.stream_queue,
        overflow="drop_oldest",
    )
    streams: Streams = asked.request.app.state.streams
    if streams.open >= streams.most:
        detail = f"{streams.most} are open, as many as there may be: close one"
        raise Refused("too-many-streams", detail, retry_after=5)
    return _EventStream(subscription, streams, asked.settings.heartbeat)


class _EventStream(Response):
    """An answer that lasts until the client goes, or the cache is closed."""

    media_type = "text/event-stream"

    def __init__(
        self, subscription: Subscription[Event], streams: Streams, heartbeat: float
    ) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._subscription, self._streams, self._heartbeat = subscription, streams, heartbeat

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope[DEADLINE].reschedule(None)
        self._streams.open += 1
        gone = asyncio.create_task(_gone(receive))
        try:
            async with self._subscription as happening:
                await self._start(send)
                await self._tell(happening, gone, send)
        finally:
            self._streams.open -= 1
            gone.cancel()
        if not gone.done() or gone.cancelled():
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await _part(send, b"retry: 2000\n\n")

    async def _tell(
        self, happening: Subscription[Event], gone: asyncio.Task[None], send: Send
    ) -> None:
        upcoming: asyncio.Task[Any] | None = None
        try:
            while not gone.done():
                upcoming = upcoming or asyncio.ensure_future(_next(happening))
                await asyncio.wait(
                    {upcoming, gone},
                    timeout=self._heartbeat,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not upcoming.done():
                    if not gone.done():
                        await _part(send, _HEARTBEAT)
                    continue
                event, upcoming = upcoming.result(), None
                if event is None:
                    return
                await _part(send, _framed(event))
        finally:
            if upcoming is not None:
                upcoming.cancel()


async def _next(happening: Subscription[Event]) -> Event | None:
    return await anext(happening, None)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


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
