"""A table of the user's own in PostgreSQL, changed by plain SQL beside the cache."""

from __future__ import annotations

import asyncio
import subprocess
from typing import Any

import pytest
from tests.write_modes.conftest import needs_psql
from tests.write_modes.world import World, until

from clusterdb.cache import Cache, CacheCoherence, CacheConfig, StorageUnavailable
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.config import PoolConfig, PostgreSQL, RowMapping, WriteThrough
from clusterdb.cache.factory import make_setup

pytestmark = [pytest.mark.server, needs_psql]

ON_REDIS = pytest.mark.parametrize(
    ("backend", "storage"), [("redis", "postgres")], indirect=["backend", "storage"]
)
PEOPLE = RowMapping(
    table="people",
    key_column="id",
    columns=["name", "age"],
    prefix="person:",
    version_column="version",
)


def psql(url: str, statement: str) -> str:
    """What psql says of a statement."""
    command = ["psql", url, "--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]
    done = subprocess.run(
        [*command, "--command", statement], capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()


async def people(world: World, **pool: Any) -> CacheConfig:
    """A cache over a table that was there before it."""
    url = world.storage_config.url
    psql(
        url,
        "CREATE TABLE people (id int PRIMARY KEY, name text, age int, version bigint); "
        "INSERT INTO people VALUES (7, 'Ada', 36, 1), (8, 'Grace', 45, 1)",
    )
    rows = PostgreSQL(url=url, rows=PEOPLE, pool=PoolConfig(**pool))
    setup = make_setup(rows, SystemClock())
    await setup.init(with_triggers=True)
    coherence = CacheCoherence(mode=WriteThrough(backend=rows))
    return CacheConfig(name="people", backend=world.backend, coherence=coherence)


@ON_REDIS
async def test_an_update_typed_in_psql_reaches_every_near_tier(world):
    config = await people(world)
    async with Cache(config) as one, Cache(config) as other:
        for cache in (one, other):
            assert await cache.get("person:7") == {"name": "Ada", "age": 36}

            async def near(cache: Cache = cache) -> bool:
                found = await cache.lookup("person:7")
                return bool(found) and found.tier == "near"  # type: ignore[union-attr]

            await until(near, "the near tier")
        for age in (37, 38):
            psql(world.storage_config.url, f"UPDATE people SET age = {age} WHERE id = 7")
            for cache in (one, other):

                async def seen(cache: Cache = cache, age: int = age) -> bool:
                    return await cache.get("person:7") == {"name": "Ada", "age": age}

                await until(seen, "the new age")
        psql(world.storage_config.url, "DELETE FROM people WHERE id = 8")
        for cache in (one, other):

            async def gone(cache: Cache = cache) -> bool:
                return await cache.get("person:8") is None

            await until(gone, "the deletion")


@ON_REDIS
async def test_what_the_cache_writes_is_there_for_psql(world):
    config = await people(world)
    async with Cache(config) as cache:
        await cache.set("person:9", {"name": "Alan", "age": 41})
        await cache.delete("person:8")
    found = psql(world.storage_config.url, "SELECT id, name, version > 0 FROM people ORDER BY id")
    assert found == "7|Ada|t\n9|Alan|t"


@ON_REDIS
async def test_a_row_that_another_holds_locked(world):
    """A write waits for the lock, at most as long as the pool says, and then changes nothing."""
    config = await people(world, timeout=1.0)
    async with Cache(config) as cache:
        before = await cache.get("person:7")
        holder = await asyncio.create_subprocess_exec(
            *("psql", world.storage_config.url, "--no-psqlrc", "--quiet"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(
            b"BEGIN;\nSELECT 'held' FROM people WHERE id = 7 FOR UPDATE;\n\\echo locked\n"
        )
        while b"locked" not in await holder.stdout.readline():
            pass
        with pytest.raises(StorageUnavailable, match="lock of a row"):
            await cache.set("person:7", {"name": "Ada", "age": 99})
        assert await cache.get("person:7") == before
        assert await cache.set("person:8", {"name": "Grace", "age": 46})  # another row
        await holder.communicate(b"ROLLBACK;\n")
        await cache.set("person:7", {"name": "Ada", "age": 40})
        assert await cache.get("person:7") == {"name": "Ada", "age": 40}
