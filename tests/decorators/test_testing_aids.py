"""``clusterdb.cache.testing``: the fixtures, ``disabled`` and ``recorded``."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

import clusterdb.cache
from clusterdb.cache import Cache, CacheConfig, CacheRegion
from clusterdb.cache.backends.memory import MemoryBackend
from clusterdb.cache.testing import FaultyBackend, ManualClock, Reads, disabled, recorded

pytest_plugins = ["pytester"]

SOURCES = Path(clusterdb.cache.__file__).parents[2]
PATH = f"import sys; sys.path.insert(0, {str(SOURCES)!r}); "


# -- fixtures


def test_the_fixtures_serve_tests_of_every_kind(pytester, monkeypatch):
    pytester.makeconftest('pytest_plugins = ["clusterdb.cache.testing.fixtures"]')
    scope = "asyncio_default_fixture_loop_scope = function"
    pytester.makeini(f"[pytest]\nasyncio_mode = auto\n{scope}\nfilterwarnings = error")
    pytester.makepyfile("""
        import asyncio, pytest
        from clusterdb.cache import CacheClosed, CacheConfig, CacheRegion

        seen = []

        def test_plain(cache, manual_clock):
            assert not cache.sync.exists("a")
            cache.sync.set("a", 1, ttl=60)
            manual_clock.advance(59)
            assert cache.sync.get("a") == 1
            manual_clock.advance(1)
            assert cache.sync.get("a") is None
            seen.append(cache)

        async def test_async(cache, manual_clock):
            assert not await cache.exists("a")
            await cache.set("a", 1, ttl=60)
            manual_clock.advance(61)
            assert await cache.get("a") is None
            seen.append(cache)

        def test_own_loop(cache):
            asyncio.run(cache.set("a", 1))
            seen.append(cache)

        def test_unused(cache):
            seen.append(cache)

        def test_closed_by_the_test(cache):
            cache.sync.set("a", 1)
            cache.sync.close()

        def test_each_was_another_and_is_closed():
            assert len(set(map(id, seen))) == 4
            for cache in seen:
                with pytest.raises(CacheClosed):
                    cache.sync.get("a")

        class TestOwnConfiguration:
            @pytest.fixture
            def cache_config(self):
                return CacheConfig(regions=(CacheRegion("session"),))

            def test_it(self, cache):
                assert cache.regions == ("default", "session")
    """)
    monkeypatch.setenv("PYTHONPATH", str(SOURCES))
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=7)


def test_the_testing_package_needs_no_pytest():
    script = f"{PATH}import clusterdb.cache.testing; print('pytest' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", PATH + script],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "False\n"


# -- disabled


def test_disabled_keeps_nothing(cache):
    sync, calls = cache.sync, []
    sync.set("a", 1)
    with disabled(cache):
        assert sync.get("a") is None
        assert sync.set("b", 2)
        assert sync.set("b", 2, nx=True)
        assert not sync.set("b", 2, xx=True)
        assert sync.get_many(["a", "b"]) == {}
        assert not sync.exists("b")
        assert [sync.increment("n", 5), sync.increment("n", 5)] == [5, 5]
        assert not sync.delete("c")
        assert list(sync.scan()) == []
        assert sync.atomic().check_absent("x").set("x", 1).execute()
        assert not sync.atomic().check("x", 1).set("x", 2).execute()
        for _ in range(2):
            assert sync.get_or_load("a", lambda: calls.append(1)) is None
    assert len(calls) == 2
    assert list(sync.scan()) == []  # "a" was loaded anew, so the old value is gone


def test_what_was_not_touched_is_there_again(cache):
    cache.sync.set_many({"a": 1, "b": 2, "c": 3, "d": 4, "n": 5})
    cache.sync.set("e", 5, tags=("t",))
    with disabled(cache.sync):
        cache.sync.set("b", 7)
        cache.sync.invalidate("c")
        cache.sync.atomic().delete("d").execute()
        cache.sync.increment("n")
        cache.sync.invalidate_tag("t")
    assert cache.sync.get_many(["a", "b", "c", "d", "e", "n"]) == {"a": 1}
    assert cache.sync.get("a") == 1


def test_disabled_and_cleared(cache):
    cache.sync.set("a", 1)
    with disabled(cache):
        cache.sync.clear()
    assert not cache.sync.exists("a")


def test_hits_are_as_fast_as_before_afterwards(cache):
    cache.sync.set("a", 1)
    table = cache.access.state.hits.table
    assert table is not None
    with disabled(cache):
        assert cache.access.state.hits.table is None
    assert cache.access.state.hits.table is table


async def test_disabled_in_a_loop_with_decorated_functions(cache):
    calls = []

    @cache.cached
    async def load(x):
        calls.append(x)
        return x

    await load(1)
    with disabled(cache):
        assert [await load(1), await load(1)] == [1, 1]
    assert [await load(1), await load(1)] == [1, 1]
    assert calls == [1, 1, 1, 1]
    assert load.cache_info().misses == 4


async def test_disabled_before_the_cache_was_used_and_regions_made_meanwhile():
    async with Cache() as cache:
        with disabled(cache):
            region = await cache.create_region(CacheRegion("r"))
            await region.set("a", 1)
            assert await region.get("a") is None
        await region.set("a", 1)
        assert await region.get("a") == 1


def test_disabled_ends_when_the_block_fails_or_the_cache_is_closed(cache):
    cache.sync.set("a", 1)
    with pytest.raises(ZeroDivisionError), disabled(cache):
        raise ZeroDivisionError
    assert cache.sync.get("a") == 1
    with disabled(cache):
        cache.sync.close()
    assert cache.access.state.hits.table is None


# -- recorded


def test_recorded_counts_by_region_and_tier(cache):
    sync = cache.sync
    session = sync.create_region(CacheRegion("session"))
    sync.set("a", 1)
    sync.get("a")
    with recorded(cache) as record:
        sync.get("a")
        sync.get("a")
        sync.get("b")
        session.get_or_load("x", lambda: 1)
        session.get("x")
    sync.get("a")

    assert record.regions == {
        "default": Reads(hits={"memory": 2}, stale_hits={"memory": 0}, misses=1, loads=0),
        "session": Reads(hits={"memory": 1}, stale_hits={"memory": 0}, misses=1, loads=1),
    }
    assert record.total == Reads(hits={"memory": 3}, stale_hits={"memory": 0}, misses=2, loads=1)


async def test_recorded_in_a_loop_with_a_region_made_meanwhile(cache):
    async with recorded(cache) as record:
        region = await cache.create_region(CacheRegion("late"))
        await region.set("a", 1)
        await asyncio.gather(region.get("a"), region.get("b"))
    assert record.regions["late"].hits == {"memory": 1}
    assert record.regions["late"].misses == 1


def test_recorded_without_a_table():
    backend = FaultyBackend(MemoryBackend(ManualClock()))
    with Cache(CacheConfig(), backend=backend).sync as cache, recorded(cache) as record:
        cache.set("a", 1)
        cache.get("a")
    assert record.total.hits == {"memory": 1}


def test_a_record_is_read_when_its_block_has_ended(cache):
    with recorded(cache) as record, pytest.raises(RuntimeError, match="block has ended"):
        _ = record.total
