"""Many tags, entries with many tags, and clocks that jump: the bound holds, and so does memory.

Two caches on one place, a server or a file, are two processes to each other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.layers import innermost
from tests.redis.backends import config_of, flush
from tests.redis.servers import Deployment

from clusterdb.cache import Cache, CacheConfig, CacheRegion, Disk, Hit, InvalidArgument, NearConfig
from clusterdb.cache.backends.redis import known
from clusterdb.cache.clock import SystemClock

BOUND = 1.0
AT_ONCE = 500
DAY = 86_400.0


class JumpingClock(SystemClock):
    """A wall clock that somebody sets; the steady one can't be."""

    def __init__(self) -> None:
        super().__init__()
        self.off = 0.0

    def wall(self) -> float:
        return time.time() + self.off


class Place:
    """Where two caches share their entries."""

    def __init__(self, config: CacheConfig) -> None:
        self._config = config

    @asynccontextmanager
    async def opened(self, clock: SystemClock | None = None) -> AsyncIterator[tuple[Cache, Cache]]:
        async with AsyncExitStack() as stack:
            one = Cache(self._config, clock=clock or SystemClock())
            await stack.enter_async_context(one)
            yield one, await stack.enter_async_context(Cache(self._config))


@pytest.fixture(params=["redis", "disk"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "disk":
        return Place(CacheConfig(name="test", backend=Disk(path=str(tmp_path / "cache.db"))))
    standalone: Deployment = request.getfixturevalue("standalone")
    flush(standalone)
    return Place(config_of(standalone))


async def tier(cache: Cache, key: str) -> str:
    found = await cache.lookup(key)
    return found.tier if isinstance(found, Hit) else "nothing"


async def near(cache: Cache, key: str) -> None:
    """Read it until it is kept near."""
    async with asyncio.timeout(10):
        while await tier(cache, key) != "near":  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def gone(cache: Cache, key: str) -> float:
    """How many seconds it takes until it is not answered any more."""
    began = time.monotonic()
    async with asyncio.timeout(10):
        while await tier(cache, key) != "nothing":  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    return time.monotonic() - began


async def test_ten_thousand_tags(place):
    """An entry each: the end of one tag ends its entry, and no other."""
    async with place.opened() as (writer, reader):
        keys = [f"k{number}" for number in range(10_000)]
        for at in range(0, len(keys), AT_ONCE):
            some = keys[at : at + AT_ONCE]
            await asyncio.gather(*[writer.set(key, 1, tags=(f"tag of {key}",)) for key in some])
        for at in range(0, len(keys), AT_ONCE):
            assert len(await reader.get_many(keys[at : at + AT_ONCE])) == AT_ONCE
        for key in ("k0", "k4999", "k9999"):
            await near(reader, key)
            await writer.invalidate_tag(f"tag of {key}")
            assert await gone(reader, key) < BOUND
        assert len(await reader.get_many(keys)) == len(keys) - 3


async def test_an_entry_with_a_thousand_tags(place):
    async with place.opened() as (writer, reader):
        tags = [f"t{number}" for number in range(1_000)]
        for ended in ("t0", "t500", "t999"):
            await writer.set("k", 1, tags=tags)
            await near(reader, "k")
            await writer.invalidate_tag(ended)
            assert await gone(reader, "k") < BOUND
        with pytest.raises(InvalidArgument, match=r"1,?024"):
            await writer.set("k", 1, tags=[f"t{number}" for number in range(1_025)])


async def test_what_is_known_of_tags_is_bounded(standalone, monkeypatch):
    """Tags come and go for ever: the nonces that are remembered do not grow with them."""
    monkeypatch.setattr(known, "_MOST", 200)
    flush(standalone)
    region = CacheRegion("few", near=NearConfig(max_items=100))
    async with Cache(config_of(standalone, regions=[region])) as whole:
        cache = whole.region("few")
        for number in range(1_000):
            await cache.set(f"k{number}", 1, tags=(f"t{number}",))
            assert await cache.get(f"k{number}") == 1
        nearby = innermost(whole)._nearby
        assert len(nearby._known._known) <= 200
        assert len(nearby.tier.table("few")) <= 100
        assert len(nearby.tier._tags._states) <= 300


@pytest.mark.parametrize("jump", [DAY, -DAY])
async def test_a_wall_clock_that_jumps(place, jump):
    """Leases, expiries and the order of changes are not told by it."""
    clock = JumpingClock()
    async with place.opened(clock) as (jumping, other):
        await jumping.set("k", 1, ttl=600)
        await near(jumping, "k")
        await near(other, "k")
        clock.off = jump
        found = await jumping.lookup("k")
        assert isinstance(found, Hit)
        assert (found.tier, found.value) == ("near", 1)
        assert found.age_bound <= BOUND
        assert found.expires_in is not None
        assert 500 < found.expires_in <= 600
        for number, cache in enumerate((jumping, other, jumping, other), 2):
            await cache.set("k", number, ttl=600)
            written = await cache.lookup("k")
            assert isinstance(written, Hit)
            assert written.value == number
            other_one = other if cache is jumping else jumping
            async with asyncio.timeout(BOUND):
                while await other_one.get("k") != number:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
        await jumping.set("short", 1, ttl=0.3)
        assert await gone(other, "short") < 0.3 + BOUND
