"""Latencies of a backend: by tier, operation, region and outcome, without the near hits."""

import asyncio
from typing import Any

import pytest
from tests.encoding import BytesBackend

from clusterdb.cache import (
    BackendUnavailable,
    Cache,
    CacheConfig,
    CacheRegion,
    GetOptions,
    Memory,
)
from clusterdb.cache.testing import ManualClock

Counted = dict[tuple[str, str, str], int]


async def counted(cache: Cache) -> Counted:
    """How many were observed, by operation, region and outcome."""
    found: Counted = {}
    for each in await cache.get_metrics():
        if each.name == "cache_operation_seconds":
            of = each.labels["operation"], each.labels["region"], each.labels["outcome"]
            found[of] = int(each.value)
            assert each.labels["tier"] == cache.access.runtime.backend.kind
    return found


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_calls_are_told_apart_by_what_they_came_to(clock):
    config = CacheConfig(regions=[CacheRegion("users")])
    async with Cache(config, backend=BytesBackend(clock), clock=clock) as cache:
        await cache.set("k", 1)
        await cache.get("k")
        await cache.get("absent")
        await cache.region("users").get("absent")
        await cache.get_many(["k", "absent"])
        found = await counted(cache)

    assert found["write", "default", "ok"] == 1
    assert found["read", "default", "hit"] == 1
    assert found["read", "default", "miss"] == 2
    assert found["read", "users", "miss"] == 1


async def test_near_hits_are_left_out(clock):
    async with Cache(backend=BytesBackend(clock, near=True), clock=clock) as cache:
        await cache.set("k", 1)
        await cache.get("k")
        before = await counted(cache)
        for _ in range(10):
            assert await cache.get("k") == 1
            assert (await cache.get_many(["k"])) == {"k": 1}
            found: Any = await cache.lookup("k")
            assert found.tier == "near"
        assert await counted(cache) == before
        await cache.get("k", options=GetOptions(consistent=True))
        assert (await counted(cache))["read", "default", "hit"] == 2


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(BackendUnavailable("away"), "unavailable"), (RuntimeError("a bug"), "error")],
)
async def test_failures_have_their_outcome(clock, error, outcome):
    class Away(BytesBackend):
        async def read(self, *keys: Any, **options: Any) -> Any:
            raise error

    async with Cache(backend=Away(clock), clock=clock) as cache:
        with pytest.raises(type(error)):
            await cache.get("k")
        assert (await counted(cache))["read", "default", outcome] == 1


async def test_a_cancelled_call_is_one(clock):
    began = asyncio.Event()

    class Slow(BytesBackend):
        async def read(self, *keys: Any, **options: Any) -> Any:
            began.set()
            await asyncio.Event().wait()

    async with Cache(backend=Slow(clock), clock=clock) as cache:
        task = asyncio.create_task(cache.get("k"))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await counted(cache))["read", "default", "cancelled"] == 1


async def test_memory_has_none_and_nothing_round_it():
    async with Cache(CacheConfig(backend=Memory())) as cache:
        await cache.set("k", 1)
        await cache.get("k")
        assert await counted(cache) == {}
        assert cache.access.runtime.sampling.timed is None
