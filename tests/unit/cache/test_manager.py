"""The cache users hold: regions, settings at run time, what it says of itself."""

from __future__ import annotations

import asyncio
import gc
import sys
from dataclasses import dataclass

import pytest
from msgspec import structs

from clusterdb.cache import (
    FIFO,
    LRU,
    Cache,
    CacheClosed,
    CacheConfig,
    CacheManager,
    CacheMonitor,
    CachePolicy,
    CacheRegion,
    ConfigError,
    Disk,
    EntryTooLarge,
    GetOptions,
    Hit,
    InactiveSetting,
    InvalidArgument,
    MissingExtra,
    ScanTimeout,
    SerializationConfig,
    SharedValueMutated,
    Stale,
    TypeMismatch,
    UnknownRegion,
)


@dataclass
class User:
    name: str


@pytest.fixture
async def cache():
    async with Cache() as cache:
        yield cache


def test_a_cache_fulfils_both_protocols():
    manager: CacheManager = Cache()
    monitor: CacheMonitor = Cache()
    assert isinstance(manager, CacheManager)
    assert isinstance(monitor, CacheMonitor)


async def test_building_a_cache_starts_nothing_and_first_use_does():
    cache = Cache()
    tasks = len(asyncio.all_tasks())
    assert await cache.get("k") is None
    assert len(asyncio.all_tasks()) == tasks + 1
    await cache.aclose()
    assert len(asyncio.all_tasks()) == tasks
    await cache.aclose()
    with pytest.raises(CacheClosed, match="'main' is closed"):
        await cache.get("k")


# -- regions


async def test_regions_are_disjoint_and_share_tags(cache):
    users = await cache.create_region(CacheRegion("users"))
    await users.set("k", 1, tags=["t"])
    await cache.set("k", 2, tags=["t"])
    assert (await users.get("k"), await cache.get("k")) == (1, 2)
    assert await users.invalidate_tag("t") == 2
    assert (await users.get("k"), await cache.get("k")) == (None, None)


async def test_region_clear_leaves_others_and_cache_clear_takes_all(cache):
    users = await cache.create_region(CacheRegion("users"))
    for region in (users, cache):
        await region.set_many({"a": 1, "b": 2})
    assert await users.clear() == 2
    assert await cache.get_many(["a", "b"]) == {"a": 1, "b": 2}
    await users.set("a", 1)
    assert await cache.clear() == 3


async def test_an_unknown_region_names_the_known_ones(cache):
    with pytest.raises(UnknownRegion, match=r"no region 'user' \(there are: default\)"):
        cache.region("user")


async def test_a_region_is_created_once(cache):
    await cache.create_region(CacheRegion("users"))
    with pytest.raises(ConfigError, match="there is a region 'users' already"):
        await cache.create_region(CacheRegion("users"))


async def test_a_typed_region_gives_its_type_or_refuses(cache):
    users = await cache.create_region(CacheRegion("users"), type=User)
    await users.set("1", User("Ada"))
    assert await users.get("1") == User("Ada")
    await cache.region("users").set("2", {"name": "Bob"})
    with pytest.raises(TypeMismatch, match="'2' holds a dict, and User was asked for"):
        await users.get("2")


async def test_a_region_that_states_no_policy_has_the_caches_limits():
    config = CacheConfig(
        policy=CachePolicy(eviction=LRU(max_items=2)),
        regions=(CacheRegion("own", policy=FIFO(max_items=3)), CacheRegion("inherits")),
    )
    async with Cache(config) as cache:
        sizes = {}
        for name in cache.regions:
            region = cache.region(name)
            await region.set_many({str(n): n for n in range(10)})
            sizes[name] = (await cache.get_statistics()).regions[name].items
    assert sizes == {"default": 2, "own": 3, "inherits": 2}


# -- isolation


async def test_share_gives_the_same_object(cache):
    value = [1]
    await cache.set("k", value)
    assert await cache.get("k") is value


async def test_copy_gives_each_caller_its_own(cache):
    region = await cache.create_region(CacheRegion("r", isolation="copy"))
    value = [1]
    await region.set("k", value)
    value.append(2)
    first = await region.get("k")
    first.append(3)
    assert await region.get("k") == [1]
    loaded = await region.get_or_load("l", lambda: value)
    loaded.append(9)
    assert await region.get("l") == [1, 2]


async def test_check_finds_and_names_who_changed_a_shared_value(cache):
    region = await cache.create_region(CacheRegion("r", isolation="check"))
    await region.set("k", {"a": [1]})
    assert await region.get("k") == {"a": [1]}
    (await region.get("k"))["a"].append(2)
    with pytest.raises(SharedValueMutated, match=r"under 'k' was changed.*test_manager\.py:\d+"):
        await region.get("k")


# -- settings at run time


async def test_configure_keeps_contents_and_applies_limits(cache):
    await cache.set_many({str(n): n for n in range(10)})
    await cache.configure(CacheConfig(policy=CachePolicy(eviction=LRU(max_items=4))))
    assert [key async for key in cache.scan()] == ["6", "7", "8", "9"]


async def test_a_memory_limit_set_later_weighs_what_is_there(cache):
    await cache.set_many({str(n): "x" * 1000 for n in range(100)})
    await cache.configure_regions([CacheRegion("default", size="50kB")])
    stats = (await cache.get_statistics()).regions["default"]
    assert 0 < stats.weight <= 50_000
    assert 30 < stats.items < 50


async def test_a_change_of_policy_keeps_entries_and_order(cache):
    await cache.set_many({"a": 1, "b": 2, "c": 3})
    await cache.get("a")
    for policy in (FIFO(max_items=3), LRU(max_items=2)):
        await cache.configure(CacheConfig(policy=CachePolicy(eviction=policy)))
    assert sorted([key async for key in cache.scan()]) == ["a", "c"]


@pytest.mark.parametrize("change", [{"name": "other"}, {"backend": Disk(path="x.db")}])
async def test_name_and_backend_are_fixed(cache, change):
    with pytest.raises(ConfigError, match=f"cache.{next(iter(change))} can't change"):
        await cache.configure(CacheConfig(**change))


async def test_a_failing_weigher_changes_nothing():
    def weigher(key: str, value: object) -> int:
        raise RuntimeError("no scales")

    async with Cache(weigher=weigher) as cache:
        await cache.set("k", 1)
        with pytest.raises(InvalidArgument, match="can't be weighed: no scales"):
            await cache.configure_regions([CacheRegion("default", size=10), CacheRegion("more")])
        assert cache.regions == ("default",)
        assert cache.config.regions == ()
        assert await cache.get("k") == 1


async def test_settings_whose_part_is_not_there_are_kept_and_said(cache):
    wanted = structs.replace(cache.config, serialization=SerializationConfig(format="json"))
    with pytest.warns(InactiveSetting, match=r"'serialization' was checked and kept"):
        await cache.configure(wanted)
    assert cache.config == wanted
    health = await cache.get_health()
    assert health.status == "degraded"


def test_a_backend_whose_driver_is_not_there_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "clusterdb.cache.backends.redis", None)
    with pytest.raises(MissingExtra, match=r"pip install 'clusterdb-cache\[redis\]'"):
        Cache.from_url("redis://localhost:6379/0")


async def test_from_file_and_from_url(tmp_path):
    path = tmp_path / "cache.yaml"
    path.write_text("cache: {name: shop}\nregions: {session: {ttl: 30m, size: 5MB}}\n")
    async with Cache.from_file(path) as cache:
        await cache.region("session").set("s", 1)
        found = await cache.region("session").lookup("s")
        assert isinstance(found, Hit)
        assert 1799 < (found.expires_in or 0) <= 1800
        assert repr(cache) == "<Cache 'shop' memory>"
    async with Cache.from_url("memory://?name=tiny&max_items=1") as cache:
        assert await cache.set_many({"a": 1, "b": 2}) == 2
        assert await cache.get_many(["a", "b"]) == {"b": 2}


# -- what it says of itself


async def test_statistics_add_up(cache):
    users = await cache.create_region(CacheRegion("users"))
    await users.set("k", 1)
    await users.get("k")
    await cache.get("k")
    stats = await cache.get_statistics()
    assert (stats.regions["users"].hits, stats.regions["users"].misses) == (1, 0)
    assert (stats.regions["default"].hits, stats.regions["default"].misses) == (0, 1)
    assert (stats.total.hits, stats.total.misses, stats.total.items) == (1, 1, 1)
    assert stats.hit_ratio == 0.5
    samples = {(m.name, m.labels.get("region")): m.value for m in await cache.get_metrics()}
    assert samples["cache_hits", "users"] == 1
    assert samples["cache_misses", "default"] == 1
    assert samples["cache_size", "users"] == 1


async def test_health_of_a_closed_cache_is_reported():
    cache = Cache()
    assert (await cache.get_health()).status == "ok"
    await cache.aclose()
    assert (await cache.get_health()).status == "failing"


# -- bad input at the face


@pytest.mark.parametrize("key", ["", 5, None, b"k", ["k"], "x" * 65_537, "\ud800", "é" * 32_769])
async def test_bad_keys_are_refused_everywhere_with_the_rule(cache, key):
    for call in (
        cache.get(key),
        cache.lookup(key),
        cache.set(key, 1),
        cache.delete(key),
        cache.exists(key),
        cache.touch(key, 5),
        cache.increment(key),
        cache.invalidate(key),
        cache.get_or_load(key, lambda: 1),
        cache.get_many([key]),
        cache.delete_many([key]),
        cache.get_or_load_many([key], lambda keys: {}),
    ):
        with pytest.raises(InvalidArgument, match="key"):
            await call
    with pytest.raises(InvalidArgument, match="key"):
        cache.batch().set(key, 1)
    with pytest.raises(InvalidArgument, match="key"):
        cache.atomic().check_absent(key)


@pytest.mark.parametrize("key", ["*", "[a", "a\\", "\x00\n\r", "{x}", "🦊", "x" * 65_536, "a b"])
async def test_odd_keys_are_handled_exactly(cache, key):
    assert await cache.set(key, 1)
    assert await cache.get(key) == 1
    assert [found async for found in cache.scan()] == [key]
    assert await cache.delete(key)


@pytest.mark.parametrize("ttl", [0, -1, float("nan"), float("inf"), "soon", True, "0s", 1e300])
async def test_bad_ttls_change_nothing(cache, ttl):
    await cache.set("k", 1)
    for call in (
        cache.set("k", 2, ttl=ttl),
        cache.touch("k", ttl),
        cache.get_or_load("new", lambda: 1, ttl=ttl),
        cache.increment("k", ttl=ttl),
    ):
        with pytest.raises(InvalidArgument):
            await call
    assert await cache.get("k") == 1
    assert not await cache.exists("new")


async def test_a_value_larger_than_its_region_is_refused_and_the_old_one_stays(cache):
    region = await cache.create_region(CacheRegion("r", size="2kB"))
    await region.set("k", "small")
    with pytest.raises(EntryTooLarge, match=r"out of memory.*raise the region's size"):
        await region.set("k", "x" * 5000)
    assert await region.get("k") == "small"
    assert await region.get_or_load("big", lambda: "x" * 5000) == "x" * 5000
    assert not await region.exists("big")


async def test_a_finalizer_may_use_the_cache_it_is_dropped_from():
    cache = Cache(CacheConfig(policy=CachePolicy(eviction=LRU(max_items=1))))
    seen = []

    class Loud:
        def __del__(self) -> None:
            table = cache._state.table
            seen.append(None if table is None else len(table.removals()) + len(table))
            if table is not None:
                table.drain()

    await cache.set("a", Loud())
    await cache.set("b", Loud())
    await cache.set("b", 1)
    await cache.delete("b")
    assert seen == [1, 1]
    await cache.aclose()


async def test_a_scan_stops_at_its_timeout(cache):
    await cache.set_many({str(n): n for n in range(10)})
    seen = []

    async def scan() -> None:
        async for key in cache.scan("*", batch_size=1, timeout=1e-9):
            seen.append(key)  # noqa: PERF401 - what was seen before the error matters

    with pytest.raises(ScanTimeout) as caught:
        await scan()
    assert caught.value.seen == len(seen) < 10


async def test_stale_reads_need_to_be_allowed():
    class Clock:
        time = 100.0

        def now(self) -> float:
            return self.time

        def wall(self) -> float:
            return 0.0

    clock = Clock()
    config = CacheConfig(regions=(CacheRegion("default", grace=60),))
    async with Cache(config, clock=clock) as cache:
        await cache.set("k", 1, ttl=10)
        clock.time += 11
        assert await cache.get("k") is None
        assert await cache.get("k", options=GetOptions(allow_stale=True)) == 1
        found = await cache.lookup("k", options=GetOptions(allow_stale=True))
        assert isinstance(found, Stale)
        assert found.expired_for == 1.0
        assert not await cache.exists("k")


async def test_dead_entries_make_room_before_live_ones():
    config = CacheConfig(policy=CachePolicy(eviction=LRU(max_items=100)))
    async with Cache(config) as cache:
        await cache.set_many({f"live{n}": n for n in range(50)})
        await cache.set_many({f"dead{n}": n for n in range(50)}, tags=["t"])
        assert await cache.invalidate_tag("t") == 50
        await cache.set_many({f"new{n}": n for n in range(50)})
        live = await cache.get_many([f"live{n}" for n in range(50)])
        stats = (await cache.get_statistics()).total
        assert stats.items is not None
        assert stats.items <= 100
        assert len(live) > 40
        assert stats.evictions < 10


async def test_what_could_not_be_opened_is_closed(tmp_path):
    """An unclosed cache would warn, and warnings are errors here."""
    (tmp_path / "text").write_text(
        "this is no database, and a little longer than a header of one" * 9
    )
    config = CacheConfig(backend=Disk(path=tmp_path / "text"))
    with pytest.raises(ConfigError, match="is not a cache file"):
        async with Cache(config):
            raise AssertionError("it was opened")
    cache = Cache(config)
    with pytest.raises(ConfigError, match="is not a cache file"):
        await asyncio.to_thread(_enter, cache)
    gc.collect()


def _enter(cache):
    with cache.sync:
        raise AssertionError("it was opened")
