"""Invalidations on a shared server: by pattern, and those that wait, between two caches."""

import asyncio
from typing import Any

import pytest
from tests.redis.backends import config_of, flush
from tests.redis.load import until
from tests.redis.servers import Deployment

from clusterdb.cache import (
    BackendUnavailable,
    Cache,
    CacheCoherence,
    InvalidationConfig,
)


def cache_of(deployment, strategy: Any = "immediate", **settings: Any) -> Cache:
    return Cache(
        config_of(
            deployment,
            timeout=1,
            coherence=CacheCoherence(invalidation=strategy),
            invalidation=InvalidationConfig(**settings),
        )
    )


@pytest.mark.parametrize("topology", ["standalone", "cluster", "ring"])
async def test_a_pattern_ends_the_loads_of_other_processes_too(request, topology):
    deployment = request.getfixturevalue(topology)
    flush(deployment)
    has_read, may_store = asyncio.Event(), asyncio.Event()

    async def load() -> str:
        has_read.set()
        await may_store.wait()
        return "old"

    async with cache_of(deployment) as one, cache_of(deployment) as other:
        await one.set_many({f"user:{n}": n for n in range(100)} | {"order:1": 1})
        loading = asyncio.create_task(other.get_or_load("user:loading", load))
        await has_read.wait()
        assert await one.invalidate_matching("user:*", batch_size=20) == 100
        may_store.set()
        assert await loading == "old"
        assert await one.get("user:loading") is None
        assert [key async for key in one.scan("*")] == ["order:1"]


@pytest.mark.parametrize("strategy", ["deferred", "lazy"])
async def test_what_waits_is_a_miss_here_and_removed_in_time(standalone, strategy):
    flush(standalone)
    async with (
        cache_of(standalone, strategy, delay=0.2, linger=0.2) as one,
        cache_of(standalone) as other,
    ):
        await one.set_many({"k": 1, "l": 1})
        assert await one.get("k") == 1
        assert await one.invalidate_many(["k", "l"]) == 2
        assert await other.get("l") == 1
        assert await one.get_many(["k"]) == {}
        await until(lambda: not len(one.access.runtime.waiting))
        assert await other.get_many(["k", "l"]) == {}
        await one.set("k", 2)
        assert await one.get("k") == 2


async def test_what_waits_while_the_server_is_away_stays_a_miss(server):
    deployment = Deployment("standalone", [f"redis://127.0.0.1:{server.port}"], [server])
    async with cache_of(deployment, "deferred", delay=0.05) as cache:
        await cache.set("k", 1)
        await cache.invalidate("k")
        server.freeze()
        await asyncio.sleep(0.1)  # it is under way
        assert await cache.get("k") is None
        with pytest.raises(BackendUnavailable):
            await cache.set("k", 2)
        server.thaw()
        await until(lambda: not len(cache.access.runtime.waiting))
        assert await cache.get("k") is None
