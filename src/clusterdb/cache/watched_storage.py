"""A span and a latency for each call of a storage, the database behind a cache, that somebody waits
for.

A relay's looks at the outbox are told by nobody: they are there all the time, and part of no
request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, TypeVar

from .clock import Clock
from .config import StorageBackend, WriteBehind
from .errors import CacheError, StorageUnavailable
from .intents import Intents
from .protocols import Backend
from .rows import Row, RowChange, RowChanged, RowWritten, Storage, StorageCapability, StorageInfo
from .traced import TracedBackend, Tracing
from .upkeep import Space
from .write_modes import StoredBackend, Stores, storage_name

__all__ = ["WatchedStorage", "WatchedStores", "with_storages"]

R = TypeVar("R")

Timed = Callable[[str, str, str, str, float], None]
"""Told of a call: the storage, the operation, the region, what it came to, and its seconds."""


def with_storages(
    backend: Backend, clock: Clock, stores: Stores | None, tracing: Tracing, timed: Timed
) -> StoredBackend | None:
    """``backend`` with its storages, the calls of both traced while ``tracing`` is on, and those of
    the storages told to ``timed``; ``None`` without any.
    """
    if stores is None:
        return None
    if "immediate" not in backend.capabilities:
        backend = TracedBackend(backend, tracing)
    return StoredBackend(backend, clock, WatchedStores(stores, tracing, timed))


class WatchedStores:
    """``stores``, whose storages are watched."""

    def __init__(self, stores: Stores, tracing: Tracing, timed: Timed) -> None:
        self._stores, self._tracing, self._timed = stores, tracing, timed

    def storage(self, config: StorageBackend, origin: str) -> Storage:
        storage = self._stores.storage(config, origin)
        name = storage_name(storage, config)
        return WatchedStorage(storage, self._tracing, partial(self._timed, name))

    def intents(self, mode: WriteBehind) -> Intents:
        return self._stores.intents(mode)


class WatchedStorage:
    """``storage``, each read and write of which is told when it has ended."""

    def __init__(
        self, storage: Storage, tracing: Tracing, timed: Callable[[str, str, str, float], None]
    ) -> None:
        self._storage = storage
        self._tracing = tracing
        self._timed = timed
        self._database = {"db.system.name": storage.kind}

    async def _call(
        self,
        operation: str,
        region: str | None,
        count: int,
        call: Coroutine[Any, Any, R],
        *,
        commits: bool = False,
    ) -> R:
        began, from_then = time.time_ns(), time.perf_counter()

        def ended(outcome: dict[str, int], error: str | None, came: str) -> None:
            self._tracing.called(operation, region, count, began, outcome, error, self._database)
            seconds = time.perf_counter() - from_then
            self._timed("commit" if commits else operation, region or "", came, seconds)

        try:
            answer = await call
        except BaseException as error:
            ended({}, type(error).__qualname__, _failure(error))
            raise
        found = answer if isinstance(answer, list) else []
        errors = [item for item in found if isinstance(item, CacheError)]
        outcome = {"cache.failed": len(errors)} if errors else {}
        if operation == "read":
            outcome["db.response.returned_rows"] = len(found) - found.count(None)
        if errors:
            ended(outcome, type(errors[0]).__qualname__, "refused")
        else:
            ended(outcome, None, "ok")
        return answer

    @property
    def kind(self) -> str:
        return self._storage.kind

    @property
    def capabilities(self) -> frozenset[StorageCapability]:
        return self._storage.capabilities

    @property
    def deadline(self) -> float:
        return self._storage.deadline

    async def open(self) -> None:
        await self._storage.open()

    async def aclose(self) -> None:
        await self._storage.aclose()

    async def read(self, region: str, keys: Sequence[str]) -> list[Row | None]:
        return await self._call("read", region, len(keys), self._storage.read(region, keys))

    async def write(
        self,
        changes: Sequence[RowChange],
        *,
        atomic: bool = False,
        before_commit: Callable[[Sequence[RowWritten | CacheError]], Awaitable[None]] | None = None,
    ) -> list[RowWritten | CacheError]:
        regions = {change.region for change in changes}
        region = regions.pop() if len(regions) == 1 else None
        call = self._storage.write(changes, atomic=atomic, before_commit=before_commit)
        commits = before_commit is not None
        return await self._call("write", region, len(changes), call, commits=commits)

    async def scan(self, region: str, batch_size: int) -> AsyncGenerator[list[Row], None]:
        async with aclosing(self._storage.scan(region, batch_size)) as batches:
            while True:
                batch = await self._call("scan", region, 0, _next(batches))
                if batch is None:
                    return
                yield batch

    async def clear(self, regions: Sequence[str]) -> int:
        region = regions[0] if len(regions) == 1 else None
        return await self._call("clear", region, 0, self._storage.clear(regions))

    async def position(self) -> str:
        return await self._storage.position()

    async def changes(self, after: str, limit: int) -> tuple[list[RowChanged], str]:
        return await self._storage.changes(after, limit)

    async def wait(self, timeout: float) -> None:
        await self._storage.wait(timeout)

    async def prune(self, older_than: float) -> int:
        return await self._storage.prune(older_than)

    async def space(self) -> list[Space]:
        return await self._storage.space()

    async def describe(self) -> StorageInfo:
        return await self._storage.describe()


async def _next(batches: AsyncGenerator[list[Row], None]) -> list[Row] | None:
    """The next batch; the end is no error of a call."""
    return await anext(batches, None)


def _failure(error: BaseException) -> str:
    if isinstance(error, StorageUnavailable):
        return "unavailable"
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "error"
