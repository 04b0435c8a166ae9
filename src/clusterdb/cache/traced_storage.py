"""Spans for the calls of a storage, the database behind a cache, that somebody waits for.

A relay's looks at the outbox are told by nobody: they are there all the time, and part of no
request.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from .clock import Clock
from .config import StorageBackend, WriteBehind
from .errors import CacheError
from .intents import Intents
from .protocols import Backend
from .rows import Row, RowChange, RowChanged, RowWritten, Storage, StorageCapability, StorageInfo
from .traced import TracedBackend, Tracing
from .upkeep import Space
from .write_modes import StoredBackend, Stores

__all__ = ["TracedStorage", "TracedStores", "traced_with_storage"]

R = TypeVar("R")


def traced_with_storage(
    backend: Backend, clock: Clock, stores: Stores | None, tracing: Tracing
) -> StoredBackend | None:
    """``backend`` with its storages, the calls of both traced while ``tracing`` is on; ``None``
    without any.
    """
    if stores is None:
        return None
    if "immediate" not in backend.capabilities:
        backend = TracedBackend(backend, tracing)
    return StoredBackend(backend, clock, TracedStores(stores, tracing))


class TracedStores:
    """``stores``, whose storages are traced."""

    def __init__(self, stores: Stores, tracing: Tracing) -> None:
        self._stores = stores
        self._tracing = tracing

    def storage(self, config: StorageBackend, origin: str) -> Storage:
        return TracedStorage(self._stores.storage(config, origin), self._tracing)

    def intents(self, mode: WriteBehind) -> Intents:
        return self._stores.intents(mode)


class TracedStorage:
    """``storage``, with a span for each read and write while ``tracing`` is on."""

    def __init__(self, storage: Storage, tracing: Tracing) -> None:
        self._storage = storage
        self._tracing = tracing
        self._database = {"db.system.name": storage.kind}

    async def _call(
        self, operation: str, region: str | None, count: int, call: Coroutine[Any, Any, R]
    ) -> R:
        began = time.time_ns()
        try:
            answer = await call
        except BaseException as error:
            kind = type(error).__qualname__
            self._tracing.called(operation, region, count, began, {}, kind, self._database)
            raise
        found = answer if isinstance(answer, list) else []
        errors = [item for item in found if isinstance(item, CacheError)]
        outcome = {"cache.failed": len(errors)} if errors else {}
        if operation == "read":
            outcome["db.response.returned_rows"] = len(found) - found.count(None)
        failed = type(errors[0]).__qualname__ if errors else None
        self._tracing.called(operation, region, count, began, outcome, failed, self._database)
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
        return await self._call("write", region, len(changes), call)

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
