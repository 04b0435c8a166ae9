"""Connections are lent again at once, to whoever waits, and are closed when nobody needs them."""

import asyncio
from typing import Any

import asyncpg

from clusterdb.cache import PoolConfig, PostgreSQL
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.codec import Encoded
from clusterdb.cache.factory import make_storage
from clusterdb.cache.rows import RowChange, Storage

OURS = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


async def opened(url: str, **pool: Any) -> Storage:
    storage = make_storage(PostgreSQL(url=url, pool=PoolConfig(**pool)), SystemClock(), "us")
    await storage.open()
    return storage


async def write(storage: Storage, number: int) -> None:
    await storage.write([RowChange("main", f"key:{number}", Encoded(b"value", 5))])


async def test_one_connection_serves_all_who_wait(database: str):
    storage = await opened(database, min_connections=1, max_connections=1, timeout=20)
    reads = [storage.read("main", ["key:1"]) for _ in range(40)]
    await asyncio.gather(*reads, *[write(storage, number) for number in range(40)])
    rows = await storage.read("main", [f"key:{number}" for number in range(40)])
    await storage.aclose()

    assert None not in rows


async def test_connections_that_are_idle_are_closed(database: str):
    storage = await opened(database, min_connections=1, max_connections=8, idle_timeout=0.1)
    admin = await asyncpg.connect(database)
    await asyncio.gather(*[write(storage, number) for number in range(40)])
    assert await admin.fetchval(OURS) > 2
    async with asyncio.timeout(20):
        while await admin.fetchval(OURS) > 1:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.05)
    await write(storage, 1)  # and opened again
    await storage.aclose()
    await admin.close()
