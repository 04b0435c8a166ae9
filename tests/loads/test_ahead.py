"""Refreshing ahead, over the backends that need no server."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest
from tests.loads.callers import Gate, settle
from tests.loads.earliness import AHEAD, CHECKS
from tests.loads.staleness import Check, Scene

from clusterdb.cache import (
    Cache,
    CacheConfig,
    CacheRegion,
    ConfigError,
    Consistent,
    Disk,
    LoadConfig,
    Memory,
    PartitioningConfig,
    Redis,
)
from clusterdb.cache.backends.disk import DiskBackend
from clusterdb.cache.testing import FaultyBackend, ManualClock


def ahead(backend: Memory | Disk) -> CacheConfig:
    region = CacheRegion("default", loads=LoadConfig(**AHEAD))
    return CacheConfig(backend=backend, regions=(region,))


@pytest.mark.parametrize("kind", ["memory", "disk"])
@pytest.mark.parametrize("check", CHECKS, ids=[check.__name__ for check in CHECKS])
async def test_it_holds_that(check: Check, kind: str, tmp_path: Path):
    clock = ManualClock()
    backend = Memory() if kind == "memory" else Disk(path=tmp_path / "cache.db")

    async def advance(seconds: float) -> None:
        clock.advance(seconds)

    async with Cache(ahead(backend), clock=clock) as cache:
        await check(Scene(cache, 1.0, advance))


async def test_a_refresher_that_comes_late_does_not_load(tmp_path: Path):
    """It was given its right after another had refreshed: it looks again before it loads."""
    clock, config = ManualClock(), Disk(path=tmp_path / "cache.db", near=False)
    slow = FaultyBackend(DiskBackend(config, clock))
    loaded = Gate("late")

    async def first() -> str:
        clock.advance(1)
        return "old"

    async with (
        Cache(ahead(config), clock=clock) as quick,
        Cache(ahead(config), clock=clock, backend=slow) as late,
    ):
        await quick.get_or_load("a", first, ttl=50)
        await late.get_or_load("b", first, ttl=50)  # so that it knows how long loads take
        held = slow.hold("claim")
        while not slow.calls["claim"] > 1:
            assert await late.get_or_load("a", loaded) == "old"
            await asyncio.sleep(0)
        while await quick.get("a") == "old":
            assert await quick.get_or_load("a", lambda: "new") in {"old", "new"}
            await asyncio.sleep(0)
        held.set()
        slow.heal()
        await asyncio.sleep(0.05)
        assert await late.get("a") == "new"
    assert loaded.calls == 0


async def test_what_fails_behind_its_callers_is_said_once_a_minute(
    caplog: pytest.LogCaptureFixture,
):
    clock = ManualClock()
    config = CacheConfig(
        regions=(CacheRegion("default", loads=LoadConfig(stale_while_revalidate="1h")),)
    )

    def broken() -> str:
        raise OSError("the origin is down")

    async with Cache(config, clock=clock) as cache:

        async def fail(key: str, failures: int) -> None:
            assert await cache.get_or_load(key, broken) == "old"

            async def failed() -> bool:
                return (await cache.get_statistics()).total.load_failures == failures

            await Scene(cache, 1.0, asyncio.sleep).until(failed)
            await settle()

        with caplog.at_level(logging.WARNING, "clusterdb.cache"):
            await cache.set_many(dict.fromkeys("abcd", "old"), ttl=1)
            clock.advance(2)
            for number, key in enumerate("abc", 1):
                await fail(key, number)
            clock.advance(61)
            await fail("d", 4)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "the origin is down" in lines[0]
    assert "2 more" in lines[1]


def test_a_sync_caller_gets_its_hit_and_its_thread_back():
    leave = threading.Event()
    threads: list[threading.Thread] = []
    clock = ManualClock()

    def first() -> str:
        clock.advance(1)
        return "old"

    def slow() -> str:
        threads.append(threading.current_thread())
        leave.wait(5)
        return "new"

    with Cache(ahead(Memory()), clock=clock).sync as cache:
        cache.get_or_load("a", first, ttl=50)
        while not threads:
            assert cache.get_or_load("a", slow) == "old"
        leave.set()
        while cache.get_or_load("a", slow) == "old":
            assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


def test_a_ring_of_copies_can_not_do_it():
    with pytest.raises(ConfigError, match="ring of several copies") as raised:
        CacheConfig(
            backend=Redis(urls=("redis://a:1", "redis://b:1")),
            partitioning=PartitioningConfig(strategy=Consistent(replicas=2)),
            regions=(CacheRegion("r", loads=LoadConfig(refresh_ahead=1)),),
        )
    assert raised.value.path == "regions[0].loads.refresh_ahead"
