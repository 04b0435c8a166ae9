"""Old values, and early loads, over a real server, whose clock it is that tells."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.loads.callers import Gate
from tests.loads.earliness import AHEAD
from tests.loads.earliness import CHECKS as AHEAD_CHECKS
from tests.loads.staleness import CHECKS, Check, Scene, loads
from tests.redis.backends import config_of, flush

from clusterdb.cache import Cache, CacheRegion, LoadConfig

UNIT = 0.1


@pytest.mark.parametrize(
    ("check", "windows", "others"), CHECKS, ids=[check.__name__ for check, *_ in CHECKS]
)
async def test_it_holds_that(
    check: Check, windows: dict[str, float], others: dict[str, Any], standalone: Any
):
    flush(standalone)
    region = CacheRegion("default", loads=loads(windows, others, UNIT))
    async with Cache(config_of(standalone, regions=(region,))) as cache:
        await check(Scene(cache, UNIT, asyncio.sleep))


@pytest.mark.parametrize("check", AHEAD_CHECKS, ids=[check.__name__ for check in AHEAD_CHECKS])
async def test_it_holds_ahead_that(check: Check, standalone: Any):
    flush(standalone)
    region = CacheRegion("default", loads=LoadConfig(**AHEAD))
    async with Cache(config_of(standalone, regions=(region,))) as cache:
        await check(Scene(cache, UNIT, asyncio.sleep))


@pytest.fixture
async def pair(standalone: Any):
    """Two caches that know nothing of each other but the server."""
    flush(standalone)
    loads = LoadConfig(**AHEAD, stale_while_revalidate="10s")
    config = config_of(standalone, regions=(CacheRegion("default", loads=loads),))
    async with Cache(config) as one, Cache(config) as other:
        for cache, key in ((one, "1"), (other, "2")):  # now each knows how long a load takes
            await cache.get_or_load(key, lambda: asyncio.sleep(0.05))
        yield one, other


async def test_of_two_processes_one_refreshes_ahead(pair: tuple[Cache, Cache]):
    gate = Gate("new")
    await pair[0].set("a", "old", ttl=5)
    for _ in range(100):
        found = await asyncio.gather(*[cache.get_or_load("a", gate) for cache in pair])
        assert found == ["old", "old"]
    await gate.began.wait()
    gate.open()
    await asyncio.gather(*[Scene(cache, UNIT, asyncio.sleep).becomes("a", "new") for cache in pair])
    assert gate.calls == 1


async def test_of_two_processes_one_renews_what_expired(pair: tuple[Cache, Cache]):
    gate = Gate("new")
    await pair[0].set("a", "old", ttl=0.05)
    await asyncio.sleep(0.1)
    for _ in range(10):
        found = await asyncio.gather(*[cache.get_or_load("a", gate) for cache in pair])
        assert found == ["old", "old"]
    await gate.began.wait()
    await asyncio.sleep(0.3)
    waiting = [len(cache._runtime.loads._flights) for cache in pair]
    assert sorted(waiting) == [0, 1], "who was not given the claim waits for the other"
    assert gate.calls == 1
    gate.open()
    await asyncio.gather(*[Scene(cache, UNIT, asyncio.sleep).becomes("a", "new") for cache in pair])
    assert gate.calls == 1
