"""The caches that can be put under test: ours, and controls that must be found wanting.

Each is an asynchronous context manager that gives something with the calls of a
`clusterdb.cache.Cache`, as far as its ``calls`` say. A name is entered in `SUBJECTS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from time import monotonic
from typing import Any, cast

import hiredis
import msgspec
from tests.coherence.orders import Orders

from clusterdb.cache import Cache, CacheConfig, GetOptions
from clusterdb.cache.errors import BackendUnavailable

__all__ = ["SUBJECTS", "backend_settings", "opened"]

_CHANNEL = b"toy:changed"


def backend_settings(kind: str, urls: list[str], bound: float, **pool: Any) -> dict[str, Any]:
    """The configuration of a cache on servers of a kind, or on a file."""
    if kind == "disk":
        return {"backend": {"type": "disk", "path": urls[0], "max_staleness": bound}}
    redis: dict[str, Any] = {"type": "redis", "urls": urls, "near": True}
    redis["pool"] = {"timeout": 0.5, "connect_timeout": 0.5} | pool
    if kind == "cluster":
        redis["cluster"] = True
    if kind == "sentinel":
        redis["sentinel"] = {"master": "main"}
    return {"backend": redis}


@asynccontextmanager
async def _ours(orders: Orders) -> AsyncIterator[Cache]:
    region = {
        "loads": {"lease": "2s", "hard_deadline": "3s"},
        "near": {"max_staleness": orders.bound},
    }
    cache = {"name": "coherence"} | orders.settings
    settings = {"cache": cache, "regions": {"default": region}}
    async with Cache(CacheConfig.from_dict(settings)) as made:
        yield made


class _Line:
    """A connection to a Redis server, one command at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = asyncio.Lock()
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._parser = hiredis.Reader()

    async def ask(self, *words: str | bytes | int) -> Any:
        async with self._lock:
            try:
                return await self._ask(words)
            except OSError as error:
                self.close()
                raise BackendUnavailable(f"the server is away: {error}") from error

    async def _ask(self, words: tuple[str | bytes | int, ...]) -> Any:
        if self._writer is None:
            self._parser = hiredis.Reader()
            opened = await asyncio.open_connection("127.0.0.1", self._port)
            self._reader, self._writer = opened
        self._writer.write(hiredis.pack_command(cast("Any", words)))
        return await self.reply()

    async def reply(self) -> Any:
        assert self._reader is not None
        while (reply := self._parser.gets()) is False:
            data = await self._reader.read(1 << 16)
            if not data:
                raise ConnectionResetError("the connection ended")
            self._parser.feed(data)
        return reply

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class _Toy:
    """A near cache as one writes it on an afternoon: a dict, and messages that say what changed.

    ``late`` holds messages back by so many seconds; ``ttl`` is how long it keeps what it has read.
    """

    calls = frozenset({"get", "set", "delete", "invalidate"})

    def __init__(self, port: int, *, late: float = 0.0, ttl: float = 10.0) -> None:
        self._line, self._news = _Line(port), _Line(port)
        self._late, self._ttl = late, ttl
        self._near: dict[str, tuple[Any, float]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        await self._news.ask("SUBSCRIBE", _CHANNEL)
        self._tasks.add(asyncio.create_task(self._listen()))

    async def aclose(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._line.close()
        self._news.close()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            while True:
                _, _, key = await self._news.reply()
                loop.call_later(self._late, self._near.pop, key.decode(), None)

    async def get(self, key: str, *, options: GetOptions | None = None) -> Any:
        near = None if options is not None else self._near.get(key)
        if near is not None and monotonic() < near[1]:
            return near[0]
        data = await self._line.ask("GET", key)
        value = None if data is None else msgspec.msgpack.decode(data)
        if value is not None and options is None:
            self._near[key] = (value, monotonic() + self._ttl)
        return value

    async def set(self, key: str, value: Any, *, ttl: float | None = None) -> bool:
        expiry = () if ttl is None else ("PX", round(ttl * 1000))
        await self._line.ask("SET", key, msgspec.msgpack.encode(value), *expiry)
        await self._changed(key)
        return True

    async def delete(self, key: str) -> bool:
        removed = await self._line.ask("DEL", key)
        await self._changed(key)
        return bool(removed)

    invalidate = delete

    async def _changed(self, key: str) -> None:
        self._near.pop(key, None)
        await self._line.ask("PUBLISH", _CHANNEL, key)


class _Replica(_Toy):
    """No near cache; writes go to one server, reads to its replica."""

    def __init__(self, port: int, replica: int) -> None:
        super().__init__(port, ttl=0.0)
        self._other = _Line(replica)

    async def get(self, key: str, *, options: GetOptions | None = None) -> Any:
        data = await self._other.ask("GET", key)
        return None if data is None else msgspec.msgpack.decode(data)

    async def aclose(self) -> None:
        await super().aclose()
        self._other.close()


@asynccontextmanager
async def _control(kind: Callable[..., _Toy], orders: Orders) -> AsyncIterator[_Toy]:
    toy = kind(**orders.settings)
    await toy.open()
    try:
        yield toy
    finally:
        await toy.aclose()


SUBJECTS: dict[str, Callable[[Orders], AbstractAsyncContextManager[Any]]] = {
    "ours": _ours,
    "toy": lambda orders: _control(_Toy, orders),
    "replica": lambda orders: _control(_Replica, orders),
}


def opened(orders: Orders) -> AbstractAsyncContextManager[Any]:
    """The cache that the orders name."""
    return SUBJECTS[orders.subject](orders)
