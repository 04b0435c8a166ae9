"""Latencies of the database behind a cache: by operation, region and outcome."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from clusterdb.cache import (
    Cache,
    CacheCoherence,
    CacheConfig,
    CacheRegion,
    MonitoringConfig,
    SQLite,
    StorageUnavailable,
    WriteBehind,
    WriteThrough,
)
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.factory import make_storage
from clusterdb.cache.testing import FaultyStorage

Counted = dict[tuple[str, str, str], int]


@pytest.fixture
def database(tmp_path: Path) -> SQLite:
    return SQLite(path=tmp_path / "rows.db")


def through(database: SQLite, **settings: Any) -> CacheConfig:
    coherence = CacheCoherence(mode=WriteThrough(backend=database))
    return CacheConfig(coherence=coherence, regions=(CacheRegion("users"),), **settings)


async def counted(cache: Cache) -> Counted:
    """How many were observed, by operation, region and outcome."""
    storages = (await cache.get_statistics()).storages
    found: Counted = {}
    for each in await cache.get_metrics():
        if each.name == "cache_storage_operation_seconds":
            assert each.labels["storage"] in storages
            assert 0 < each.sum < 60
            of = each.labels["operation"], each.labels["region"], each.labels["outcome"]
            found[of] = int(each.value)
    return found


async def test_reads_and_commits_are_timed(database):
    async with Cache(through(database)) as cache:
        await cache.set("k", 1)
        await cache.region("users").set("k", 1)
        await cache.invalidate("k")
        assert await cache.get_or_load("k", lambda: 2) == 1
        found = await counted(cache)

    assert found["commit", "default", "ok"] == 1
    assert found["commit", "users", "ok"] == 1
    assert found["read", "default", "ok"] >= 1
    assert {operation for operation, _, _ in found} == {"read", "commit"}


async def test_what_is_flushed_is_a_write(database, tmp_path):
    mode = WriteBehind(backend=database, journal=tmp_path / "journal", flush_interval=0.01)
    async with Cache(CacheConfig(coherence=CacheCoherence(mode=mode))) as cache:
        await cache.set("k", 1)
        async with asyncio.timeout(20):
            while ("write", "default", "ok") not in await counted(cache):  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0.01)


async def test_a_database_that_is_away_has_its_outcome(database):
    storage = FaultyStorage(make_storage(database, SystemClock()))
    async with Cache(through(database), storage=storage) as cache:
        await cache.set("k", 1)
        storage.fail("write")
        with pytest.raises(StorageUnavailable):
            await cache.set("k", 2)
        storage.heal()
        assert (await counted(cache))["commit", "default", "unavailable"] == 1


async def test_without_metrics_nothing_is_timed(database):
    config = through(database, monitoring=MonitoringConfig(metrics=False))
    async with Cache(config) as cache:
        await cache.set("k", 1)
        await cache.configure_monitoring(MonitoringConfig(metrics=True))
        assert await counted(cache) == {}
        await cache.set("k", 2)
        assert await counted(cache) == {("commit", "default", "ok"): 1}
