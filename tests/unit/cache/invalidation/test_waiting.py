"""Invalidations that wait: a miss here at once, and carried out together, or when read."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.redis.load import until

from clusterdb.cache import (
    BackendUnavailable,
    Cache,
    CacheCoherence,
    CacheConfig,
    Disk,
    GetOptions,
    Invalidated,
    InvalidationConfig,
    Miss,
)
from clusterdb.cache.backends.disk import DiskBackend
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.testing import FaultyBackend

LONG = "1h"
STRATEGIES = ["deferred", "lazy"]


class World:
    """One file, a cache whose invalidations wait, and another process's view of the file."""

    def __init__(self, path: Path) -> None:
        self.disk = Disk(path=path, near=True)

    def config(self, strategy: Any, **settings: Any) -> CacheConfig:
        return CacheConfig(
            backend=self.disk,
            coherence=CacheCoherence(invalidation=strategy),
            invalidation=InvalidationConfig(**({"delay": LONG, "linger": LONG} | settings)),
        )

    @asynccontextmanager
    async def both(
        self, strategy: Any, **settings: Any
    ) -> AsyncIterator[tuple[Cache, Cache, FaultyBackend]]:
        backend = FaultyBackend(DiskBackend(self.disk, SystemClock()))
        async with (
            Cache(self.config(strategy, **settings), backend=backend) as cache,
            Cache(CacheConfig(backend=self.disk)) as other,
        ):
            yield cache, other, backend


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "cache.db")


async def seen(other: Cache, key: str = "k") -> Any:
    """What another process finds."""
    return await other.get(key, options=GetOptions(consistent=True))


READS: dict[str, Any] = {
    "get": lambda cache: cache.get("k"),
    "get_many": lambda cache: cache.get_many(["k"]),
    "exists": lambda cache: cache.exists("k"),
    "stale": lambda cache: cache.get("k", options=GetOptions(allow_stale=True)),
    "consistent": lambda cache: cache.get("k", options=GetOptions(consistent=True)),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("read", READS)
async def test_it_is_a_miss_here_at_once(world, strategy, read):
    async with world.both(strategy) as (cache, other, _):
        await cache.set("k", 1)
        await cache.get("k")
        assert await cache.invalidate("k")
        assert await seen(other) == 1, "it was carried out already"
        assert not await READS[read](cache)
        assert isinstance(await cache.lookup("k"), Miss)


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_a_near_copy_goes_at_once(world, strategy):
    """A hit in process looks at nothing but the near tier."""
    async with Cache(world.config(strategy)) as cache:
        await cache.set("k", 1)
        assert await cache.get("k") == 1
        assert cache.access.state.hits.get("k") == 1, "it is not kept near: the test shows nothing"
        await cache.invalidate("k")
        assert await cache.get("k") is None


async def test_a_read_that_began_before_keeps_nothing_near(world):
    async with Cache(world.config("deferred")) as cache:
        await cache.set("k", 1)
        backend = cache.access.runtime.backend
        [record] = await backend.read("default", ["k"])
        await cache.invalidate("k")
        assert record is not None
        assert record.near is not None, "it would not be kept: the test shows nothing"
        backend.keep("default", record, "old")
        assert await cache.get("k") is None


async def test_deferred_removes_together_after_the_delay(world):
    async with world.both("deferred", delay=0.05) as (cache, other, backend):
        await cache.set_many({f"k{n}": n for n in range(50)})
        backend.calls.clear()
        for number in range(50):
            await cache.invalidate(f"k{number}")
            await cache.invalidate(f"k{number}")
        assert backend.calls["write"] == 0
        await until(lambda: not len(cache.access.runtime.waiting))
        assert backend.calls["write"] == 1, "keys are coalesced and go together"
        assert await seen(other, "k7") is None


async def test_lazy_removes_at_the_next_read(world):
    async with world.both("lazy") as (cache, other, _):
        await cache.set_many({"k": 1, "unread": 1})
        await cache.invalidate_many(["k", "unread"])
        assert await cache.get("k") is None
        assert await seen(other) is None
        assert await seen(other, "unread") == 1
        assert len(cache.access.runtime.waiting) == 1


async def test_lazy_serves_what_another_process_has_written_since(world):
    async with world.both("lazy") as (cache, other, _):
        await cache.set("k", 1)
        await cache.invalidate("k")
        assert await cache.get("k") is None
        await other.set("k", 2)
        assert await seen(cache) == 2


async def test_lazy_removes_what_nobody_reads_after_a_while(world):
    async with world.both("lazy", linger=0.05) as (cache, other, _):
        await cache.set("k", 1)
        await cache.invalidate("k")
        await until(lambda: not len(cache.access.runtime.waiting))
        assert await seen(other) is None


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_the_close_carries_out_what_waits(world, strategy):
    async with world.both(strategy) as (cache, other, _):
        await cache.set("k", 1)
        await cache.invalidate("k")
        await cache.aclose()
        assert await seen(other) is None


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_it_is_carried_out_on_demand(world, strategy):
    async with world.both(strategy) as (cache, other, _):
        await cache.set_many({"k": 1, "l": 1})
        await cache.invalidate_many(["k", "l"])
        assert await cache.flush_invalidations() == 2
        assert await cache.flush_invalidations() == 0
        assert await seen(other) is None


WRITES: dict[str, tuple[Any, Any]] = {
    "set": (lambda cache: cache.set("k", 2), 2),
    "nx": (lambda cache: cache.set("k", 2, nx=True), 2),
    "xx": (lambda cache: cache.set("k", 2, xx=True), None),
    "increment": (lambda cache: cache.increment("k", 5), 5),
    "touch": (lambda cache: cache.touch("k", "1h"), None),
    "delete": (lambda cache: cache.delete("k"), None),
    "atomic": (lambda cache: cache.atomic().check_absent("k").set("k", 2).execute(), 2),
    "check": (lambda cache: cache.atomic().check("k", 1).set("k", 2).execute(), None),
    "batch": (lambda cache: cache.batch().set("k", 2).execute(), 2),
    "load": (lambda cache: cache.get_or_load("k", lambda: 2), 2),
}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("write", WRITES)
async def test_what_follows_finds_the_key_absent_and_is_not_undone(world, strategy, write):
    call, expected = WRITES[write]
    async with world.both(strategy) as (cache, other, _):
        await cache.set("k", 1)
        await cache.invalidate("k")
        await call(cache)
        assert await cache.get("k") == expected
        await cache.flush_invalidations()
        assert await seen(other) == expected, "the removal came after what followed it"


async def test_a_removal_under_way_is_waited_for(world):
    """Or it would arrive behind the next write, and remove it."""
    async with world.both("deferred") as (cache, other, backend):
        await cache.set("k", 1)
        await cache.invalidate("k")
        gate = backend.hold("write")
        flushing = asyncio.create_task(cache.flush_invalidations())
        await until(lambda: backend.calls["write"] == 2)
        setting = asyncio.create_task(cache.set("k", 2))
        await asyncio.sleep(0.01)
        assert backend.calls["write"] == 2, "the write did not wait"
        assert await cache.get("k") is None
        gate.set()
        await asyncio.gather(flushing, setting)
        assert await seen(other) == 2


async def test_one_that_is_invalidated_again_meanwhile_is_removed_again(world):
    async with world.both("deferred") as (cache, other, backend):
        await cache.set("k", 1)
        await cache.invalidate("k")
        gate = backend.hold("write")
        flushing = asyncio.create_task(cache.flush_invalidations())
        await until(lambda: backend.calls["write"] == 2)
        await cache.invalidate("k")
        gate.set()
        await flushing
        assert backend.calls["write"] == 3, "the second came too late for the first removal"
        assert len(cache.access.runtime.waiting) == 0
        assert await seen(other) is None


async def test_a_load_that_runs_stores_nothing_that_stays(world):
    has_read, may_store = asyncio.Event(), asyncio.Event()

    async def load() -> str:
        has_read.set()
        await may_store.wait()
        return "old"

    async with world.both("deferred") as (cache, other, _):
        loading = asyncio.create_task(cache.get_or_load("k", load))
        await has_read.wait()
        await cache.invalidate("k")
        assert await cache.get_or_load("k", lambda: "new") == "new", "it joined the old load"
        may_store.set()
        assert await loading == "old"
        assert await cache.get("k") == "new"
        assert await seen(other) == "new"


async def test_a_scan_gives_no_key_that_waits(world):
    async with world.both("deferred") as (cache, _, _backend):
        await cache.set_many({"k": 1, "l": 1})
        await cache.invalidate("k")
        assert [key async for key in cache.scan("*")] == ["l"]


async def test_the_event_comes_when_it_is_carried_out(world):
    async with world.both("deferred") as (cache, _, _backend):
        await cache.set("k", 1)
        async with cache.subscribe(Invalidated) as events:
            await cache.invalidate("k")
            await cache.invalidate("k")
            waiting = asyncio.create_task(anext(events))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            await cache.flush_invalidations()
            event: Any = await asyncio.wait_for(waiting, 5)
            assert event.key == "k"


async def test_a_full_queue_makes_room_first(world):
    async with world.both("deferred", queue=10) as (cache, other, _):
        await cache.set_many({f"k{n}": n for n in range(35)})
        await cache.invalidate_many([f"k{n}" for n in range(35)])
        assert len(cache.access.runtime.waiting) <= 10
        assert [await cache.get(f"k{n}") for n in range(35)] == [None] * 35
        assert await seen(other, "k0") is None


async def test_a_full_queue_that_can_not_be_carried_out_is_an_error(world):
    async with world.both("deferred", queue=2) as (cache, _, backend):
        await cache.set_many({f"k{n}": n for n in range(3)})
        backend.fail("write")
        await cache.invalidate_many(["k0", "k1"])
        with pytest.raises(BackendUnavailable):
            await cache.invalidate("k2")
        assert len(cache.access.runtime.waiting) == 2
        backend.heal()


async def test_what_fails_is_tried_again_and_stays_a_miss(world, caplog):
    async with world.both("deferred", delay=0.01) as (cache, other, backend):
        await cache.set("k", 1)
        backend.fail("write")
        await cache.invalidate("k")
        await until(lambda: "wait for the backend" in caplog.text)
        assert await cache.get("k") is None
        backend.heal()
        await until(lambda: not len(cache.access.runtime.waiting))
        assert await seen(other) is None


async def test_what_the_close_can_not_carry_out_is_said(world, caplog):
    async with world.both("deferred") as (cache, _, backend):
        await cache.set("k", 1)
        await cache.invalidate("k")
        backend.fail("write")
        with caplog.at_level(logging.ERROR, "clusterdb.cache"):
            await cache.aclose()
        assert "1 invalidations were lost" in caplog.text


async def test_a_load_of_a_key_whose_removal_fails_does_not_get_the_old_value(world):
    async with world.both("deferred") as (cache, _, backend):
        await cache.set("k", "old")
        await cache.invalidate("k")
        backend.fail("write")
        with pytest.raises(BackendUnavailable):
            await cache.get_or_load("k", lambda: "new")
        backend.heal()


async def test_the_strategy_can_change_while_the_cache_runs(world):
    async with world.both("deferred") as (cache, other, _):
        await cache.set_many({"k": 1, "l": 1})
        await cache.invalidate("k")
        await cache.configure_coherence(CacheCoherence(invalidation="immediate"))
        await until(lambda: not len(cache.access.runtime.waiting))
        assert await seen(other) is None
        await cache.invalidate("l")
        assert await seen(other, "l") is None


async def test_a_memory_has_nothing_to_wait_for():
    async with Cache(CacheConfig(coherence=CacheCoherence(invalidation="deferred"))) as cache:
        await cache.set("k", 1)
        assert await cache.invalidate("k")
        assert not await cache.invalidate("k")
        assert len(cache.access.runtime.waiting) == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
async def test_tags_patterns_and_regions_do_not_wait(world, strategy):
    async with world.both(strategy) as (cache, other, _):
        await cache.set("a", 1, tags=("t",))
        await cache.invalidate_tag("t")
        await cache.set("b", 1)
        await cache.invalidate_matching("b*")
        assert await seen(other, "a") is None
        assert await seen(other, "b") is None


def test_the_sync_face_waits_too(world):
    with Cache(world.config("deferred")).sync as cache:
        cache.set("k", 1)
        assert cache.invalidate("k")
        assert cache.get("k") is None
        assert cache.flush_invalidations() == 1
