"""Space that holds nothing: given back, or told with what a person can do."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.maintenance.conftest import on_redis

from clusterdb.cache import (
    Cache,
    CacheCoherence,
    CacheConfig,
    Compact,
    Disk,
    MaintenanceConfig,
    PostgreSQL,
    SQLite,
    WriteThrough,
)
from clusterdb.cache.maintenance import Progress
from clusterdb.cache.upkeep import Compactable

COMPACT = MaintenanceConfig(
    schedule="0 * * * *", tasks=[Compact(threshold=0.3)], rate_limit=100_000
)


async def compacted(cache: Cache) -> Progress:
    [job] = (await cache.run_maintenance("compact")).jobs
    assert (job.outcome, job.error) == ("done", "")
    return job


async def test_a_cache_file_becomes_smaller_and_keeps_its_entries(tmp_path: Path):
    config = CacheConfig(backend=Disk(path=tmp_path / "cache.db"), maintenance=COMPACT)
    async with Cache(config) as cache:
        await cache.set_many({f"k{n}": b"x" * 1_000 for n in range(1_500)})
        assert (await compacted(cache)).freed == 0, "there is nothing to give back"
        await cache.delete_many([f"k{n}" for n in range(1_400)])

        job = await compacted(cache)

        assert job.freed > 1_000_000
        assert "is dead space" in job.notes[0]
        left = await cache.get_many([f"k{n}" for n in range(1_500)])
        assert sorted(left) == [f"k{n}" for n in range(1_400, 1_500)]
        upkeep = getattr(cache.access.runtime.backend, "upkeep", None)
        assert isinstance(upkeep, Compactable)
        [space] = await upkeep.space()
        assert space.share < 0.3
    assert (tmp_path / "cache.db").stat().st_size < 600_000


async def test_a_file_that_can_not_shrink_says_what_to_do(tmp_path: Path):
    path = tmp_path / "cache.db"
    config = CacheConfig(backend=Disk(path=path), maintenance=COMPACT)
    async with Cache(config) as cache:
        await cache.set_many({f"k{n}": b"x" * 1_000 for n in range(500)})
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")
        connection.execute("PRAGMA journal_mode = WAL")
    async with Cache(config) as cache:
        await cache.delete_many([f"k{n}" for n in range(499)])

        job = await compacted(cache)

        assert job.freed == 0
        assert "made without incremental vacuum" in job.notes[0]


@pytest.mark.server
async def test_a_server_gives_back_what_it_has_no_use_for(redis_server):
    shared = on_redis(redis_server)
    [server] = redis_server.servers
    async with shared.cache("all", tasks=[{"type": "compact", "threshold": 0.3}]) as cache:
        server.cli("DEBUG", "POPULATE", "150000", "filler", "400")
        server.cli(
            "EVAL",
            "for n = 0, 149999 do if n % 20 ~= 0 then redis.call('DEL', 'filler:' .. n) end end",
            "0",
        )

        job = await compacted(cache)

        assert job.freed > 0 or "activedefrag is off" in " ".join(job.notes), job
        assert f"{server.port}: " in job.notes[0]
        server.cli("FLUSHALL")


async def test_dead_rows_of_a_database_are_told_with_the_statement_for_it(tmp_path: Path):
    storage = SQLite(path=tmp_path / "rows.db")
    config = CacheConfig(
        coherence=CacheCoherence(mode=WriteThrough(backend=storage)), maintenance=COMPACT
    )
    async with Cache(config) as cache:
        await cache.set_many({f"k{n}": "x" * 1_000 for n in range(500)})
        with closing(sqlite3.connect(tmp_path / "rows.db")) as connection, connection:
            connection.execute("DELETE FROM cache_storage")

        job = await compacted(cache)

        assert "run VACUUM on" in job.notes[-1]


@pytest.mark.server
async def test_postgresql_says_how_many_rows_are_dead(postgres):
    storage = PostgreSQL(url=postgres.url, table="compact")
    config = CacheConfig(
        coherence=CacheCoherence(mode=WriteThrough(backend=storage)), maintenance=COMPACT
    )
    async with Cache(config) as cache:
        for _ in range(3):
            await cache.set_many({f"k{n}": n for n in range(200)})
        async with asyncio.timeout(15):  # the server counts them when its session rests
            while True:
                job = await compacted(cache)
                if any("VACUUM (ANALYZE)" in note for note in job.notes):
                    break
                await asyncio.sleep(0.2)
        assert 'table "compact"' in " ".join(job.notes)
