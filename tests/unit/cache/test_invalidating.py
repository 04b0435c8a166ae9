"""Invalidations of many keys: by list, by pattern; what they remove, end, and tell."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from clusterdb.cache import (
    BackendUnavailable,
    BatchError,
    Cache,
    CacheConfig,
    CacheRegion,
    Disk,
    InvalidPattern,
    MatchingInvalidated,
    Memory,
    Pattern,
    ScanTimeout,
)
from clusterdb.cache.backends.memory import MemoryBackend
from clusterdb.cache.errors import CacheError
from clusterdb.cache.protocols import Change, Written
from clusterdb.cache.testing import FaultyBackend, ManualClock


@pytest.fixture(params=["memory", "disk"])
async def cache(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Cache]:
    backend = Memory() if request.param == "memory" else Disk(path=tmp_path / "cache.db")
    config = CacheConfig(backend=backend, regions=[CacheRegion("other", grace="1h")])
    async with Cache(config) as opened:
        yield opened


async def test_many_keys_at_once(cache):
    await cache.set_many({"a": 1, "b": 2, "c": 3})
    async with cache.subscribe_invalidation() as events:
        assert await cache.invalidate_many(["a", "b", "absent"]) == 2
        told = [await anext(events) for _ in range(3)]

    assert [event.key for event in told] == ["a", "b", "absent"]
    assert await cache.get_many(["a", "b", "c"]) == {"c": 3}
    assert (await cache.get_statistics()).total.invalidations == 2


async def test_a_pattern_removes_what_it_matches_and_says_so_once(cache):
    await cache.set_many({f"user:{n}": n for n in range(25)} | {"order:1": 1})
    await cache.region("other").set("user:1", "elsewhere")
    async with cache.subscribe_invalidation() as events:
        assert await cache.invalidate_matching("user:*", batch_size=10) == 25
        told = await anext(events)
        await cache.delete("order:1")
        assert (await anext(events)).key == "order:1"

    assert isinstance(told, MatchingInvalidated)
    assert (told.region, told.pattern, told.entries) == ("default", "user:*", 25)
    assert await cache.get("user:3") is None
    assert await cache.region("other").get("user:1") == "elsewhere"
    assert await cache.invalidate_matching(Pattern(glob="none*")) == 0


@pytest.mark.parametrize("pattern", ["k*", "*"])
async def test_a_load_of_a_matching_key_stores_nothing(cache, pattern):
    """It read its origin before: what it brings may be of before the change."""
    has_read, may_store = asyncio.Event(), asyncio.Event()

    async def load() -> str:
        has_read.set()
        await may_store.wait()
        return "old"

    loading = asyncio.create_task(cache.get_or_load("k", load))
    await has_read.wait()
    await cache.invalidate_matching(pattern)
    assert await cache.get_or_load("k", lambda: "new") == "new", "it joined the old load"
    may_store.set()

    assert await loading == "old"
    assert await cache.get("k") == "new"


async def test_what_is_in_its_grace_goes_too():
    clock = ManualClock()
    config = CacheConfig(regions=[CacheRegion("r", grace="1h", ttl=1)])
    async with Cache(config, clock=clock) as cache:
        region = cache.region("r")
        await region.set("k", 1)
        clock.advance(2)
        await region.invalidate_matching("*")
        found = await cache.access.runtime.backend.read("r", ["k"], stale=True)
        assert found == [None], "a stale value outlived its invalidation"


async def test_a_pattern_ends_a_load_that_the_backend_was_away_for():
    """It has no claim that could be ended, and must not be joined all the same."""
    backend = FaultyBackend(MemoryBackend(ManualClock()))
    started, go_on = asyncio.Event(), asyncio.Event()

    async def load() -> str:
        started.set()
        await go_on.wait()
        return "old"

    async with Cache(backend=backend) as cache:
        backend.fail("claim")
        loading = asyncio.create_task(cache.get_or_load("k", load))
        await started.wait()
        backend.heal()
        await cache.invalidate_matching("k*")
        assert await cache.get_or_load("k", lambda: "new") == "new"
        go_on.set()
        assert await loading == "old"


async def test_it_stops_at_its_time_limit_and_tells_of_what_it_removed():
    clock = ManualClock()

    class Slow(MemoryBackend):
        async def write(self, region: str, changes: Sequence[Change]) -> list[Written | CacheError]:
            clock.advance(2)
            return await super().write(region, changes)

    async with Cache(backend=Slow(clock), clock=clock) as cache:
        await cache.set_many({f"k{n}": n for n in range(10)})
        async with cache.subscribe_invalidation() as events:
            with pytest.raises(ScanTimeout):
                await cache.invalidate_matching("*", batch_size=4, timeout=1)
            told: Any = await anext(events)
        assert told.entries == 4
        assert len(await cache.get_many([f"k{n}" for n in range(10)])) == 6


async def test_what_can_not_be_removed_is_raised():
    backend = FaultyBackend(MemoryBackend(ManualClock()))
    async with Cache(backend=backend) as cache:
        await cache.set_many({"a": 1, "b": 2})
        backend.fail("write")
        with pytest.raises(BackendUnavailable):
            await cache.invalidate_matching("*")
        with pytest.raises((BatchError, BackendUnavailable)):
            await cache.invalidate_many(["a", "b"])
        backend.heal()
        with pytest.raises(InvalidPattern):
            await cache.invalidate_matching("user:[")


def test_the_same_without_await():
    with Cache().sync as cache:
        cache.set_many({"a:1": 1, "a:2": 2, "b": 3})
        assert cache.invalidate_matching("a:*") == 2
        assert cache.invalidate_many(["b", "c"]) == 1
