"""Caches over a storage, as many as a test wants, each as if it were a process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Self

import msgspec
import pytest
from msgspec.structs import replace

from clusterdb.cache import Cache, CacheCoherence, CacheConfig, CacheRegion
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.codec import Encoded
from clusterdb.cache.config import (
    Memory,
    PoolConfig,
    ReadThrough,
    ReplicationConfig,
    SQLite,
    WriteAround,
    WriteBehind,
    WriteThrough,
)
from clusterdb.cache.factory import make_storage
from clusterdb.cache.rows import Row, RowChange, Storage
from clusterdb.cache.types import MISSING

__all__ = ["MODES", "World", "everywhere", "until"]

MODES: dict[str, Any] = {
    "through": WriteThrough,
    "around": WriteAround,
    "behind": WriteBehind,
    "reads": ReadThrough,
}


async def until(true: Callable[[], Any], what: str, within: float = 10.0) -> None:
    """Wait until something is so, for what comes when it comes."""
    async with asyncio.timeout(within):
        while True:
            found = true()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.005)


class World:
    """One shared cache's place and one database."""

    def __init__(self, backend: Any, storage: Any, journal: str) -> None:
        self.backend = backend
        self.storage_config = storage
        self.journal = journal
        self._stack = AsyncExitStack()
        self._storage: Storage | None = None

    @property
    def backend_is_private(self) -> bool:
        """Whether each cache has entries of its own."""
        return isinstance(self.backend, Memory)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all caches, and the database. Idempotent."""
        await self._stack.aclose()

    async def cache(self, mode: str = "through", **settings: Any) -> Cache:
        """A cache, open until the world ends."""
        return await self._stack.enter_async_context(self.make(mode, **settings))

    def config(
        self,
        mode: str = "through",
        *,
        consistency: str = "bounded",
        regions: tuple[CacheRegion, ...] = (),
        ttl: Any = None,
        replication: ReplicationConfig | None = None,
        **options: Any,
    ) -> CacheConfig:
        if mode == "behind":
            options.setdefault("journal", self.journal)
            options.setdefault("flush_interval", 0.05)
        coherence = CacheCoherence(
            mode=MODES[mode](backend=self.storage_config, **options),
            consistency=consistency,  # type: ignore[arg-type]
            replication=replication,
        )
        return CacheConfig(
            name="world", backend=self.backend, coherence=coherence, regions=regions, ttl=ttl
        )

    def make(self, mode: str = "through", storage: Storage | None = None, **settings: Any) -> Cache:
        return Cache(self.config(mode, **settings), storage=storage)

    def be_impatient(self) -> float:
        """From now on let storage wait a second only, for locks and for a commit; the seconds."""
        if isinstance(self.storage_config, SQLite):
            self.storage_config = replace(self.storage_config, timeout=1.0)
        else:
            self.storage_config = replace(self.storage_config, pool=PoolConfig(timeout=1.0))
        return 1.0

    async def lose(self, cache: Cache) -> None:
        """Lose every cached copy, as a flush of the server does."""
        await cache.clear()

    async def relayed(self, *caches: Cache) -> None:
        """Wait until the relays of caches have carried out what was committed by now."""
        database = await self.database()
        start = await database.position()
        await self.change("mark", 1)

        async def told() -> bool:  # what is before the mark may be told only later than it came
            changes, _ = await database.changes(start, 10_000)
            return any(change.key == "mark" for change in changes)

        await until(told, "the mark")
        for cache in caches:
            stored = cache.access.runtime.stored
            assert stored is not None
            [store] = stored.stores

            async def reached(store: Any = store) -> bool:
                left, _ = await database.changes(store.relay.position, 1)
                return not left

            await until(reached, "the relay")

    # -- the database, past the cache

    async def database(self) -> Storage:
        if self._storage is None:
            self._storage = make_storage(self.storage_config, SystemClock(), "psql")
            await self._storage.open()
            self._stack.push_async_callback(self._storage.aclose)
        return self._storage

    async def row(self, key: str, region: str = "default") -> Row | None:
        [row] = await (await self.database()).read(region, [key])
        return row

    async def value(self, key: str, region: str = "default") -> Any:
        """What the database holds, decoded."""
        row = await self.row(key, region)
        if row is None:
            return MISSING
        assert isinstance(row.value, Encoded)
        if row.value.codec == 1:
            return int(row.value.payload)
        return msgspec.msgpack.decode(row.value.payload)

    async def change(self, key: str, value: Any, region: str = "default") -> None:
        """Change a row past every cache."""
        stored = value if value is MISSING else Encoded(msgspec.msgpack.encode(value), 2)
        await (await self.database()).write([RowChange(region, key, stored)])


everywhere = pytest.mark.parametrize(
    ("backend", "storage"),
    [(kind, rows) for kind in ("memory", "disk", "redis") for rows in ("sqlite", "postgres")],
    indirect=True,
)
"""Run a test on every backend over every storage."""
