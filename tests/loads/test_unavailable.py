"""A backend that is away: reads and writes say so, loads go on without it."""

import asyncio

import pytest
from tests.loads.backends import Outage, Twin
from tests.loads.callers import Gate, configured, settle

from clusterdb.cache import MISSING, BackendUnavailable, GetOptions, LoadContext
from clusterdb.cache.clock import SystemClock


def away(*points, **settings):
    """A cache whose backend is up; ``outage.down = True`` ends that."""
    outage = Outage(*points)
    return configured(Twin(SystemClock(), outage), **settings), outage


def statistics(cache):
    return cache._runtime.states["default"].loads


async def test_reads_and_writes_say_so():
    cache, outage = away("before-read", "before-peek", "before-write", "before-commit")
    async with cache:
        outage.down = True
        for call in (
            lambda: cache.get("a"),
            lambda: cache.get_many(["a"]),
            lambda: cache.lookup("a"),
            lambda: cache.exists("a"),
            lambda: cache.set("a", 1),
            lambda: cache.delete("a"),
            lambda: cache.atomic().set("a", 1).execute(),
        ):
            with pytest.raises(BackendUnavailable):
                await call()
        outage.down = False
        assert await cache.get("a", MISSING) is MISSING


async def test_loads_go_on_and_store_nothing():
    cache, outage = away()
    async with cache:
        outage.down = True
        assert await cache.get_or_load("a", lambda: 1) == 1
        assert await cache.get_or_load_many(["a", "b"], lambda keys: dict.fromkeys(keys, 2)) == {
            "a": 2,
            "b": 2,
        }
        assert statistics(cache).unavailable_loads == 3
        outage.down = False
        assert await cache.get("a", MISSING) is MISSING
        assert await cache.get_or_load("a", lambda: 3) == 3
        assert await cache.get("a") == 3


@pytest.mark.parametrize(
    ("way", "got"), [("raise", BackendUnavailable), ("load", 5), ("miss", 5), (None, 5)]
)
async def test_a_region_says_what_is_done(way, got):
    cache, outage = away(on_unavailable=way)
    async with cache:
        outage.down = True
        if got is BackendUnavailable:
            with pytest.raises(BackendUnavailable):
                await cache.get_or_load("a", lambda: 5)
        else:
            assert await cache.get_or_load("a", lambda: 5) == got


@pytest.mark.parametrize("way", ["raise", "load", "miss"])
async def test_what_is_known_is_given_in_an_outage(way):
    cache, outage = away(loads={"stale_if_error": "1h"}, on_unavailable=way)
    async with cache:
        await cache.set_many({"a": "known", "b": "known"})
        outage.down = True
        assert await cache.get_or_load("a", lambda: pytest.fail("loaded")) == "known"
        call = cache.get_or_load_many(["a", "b", "c"], lambda keys: dict.fromkeys(keys, "loaded"))
        if way == "raise":
            with pytest.raises(BackendUnavailable):
                await call
        else:
            assert await call == {"a": "known", "b": "known", "c": "loaded"}
        assert await cache.get("a", options=GetOptions(allow_stale=True)) == "known"
        assert await cache.get_many(["a", "b"], options=GetOptions(allow_stale=True)) == {
            "a": "known",
            "b": "known",
        }
    assert statistics(cache).stale_on_outage >= 4


async def test_an_outage_between_the_look_and_the_claim():
    cache, outage = away("claim", loads={"stale_if_error": "1h"})
    async with cache:
        await cache.set("a", "known", ttl=1e-6)
        outage.down = True
        assert await cache.get_or_load("a", lambda: pytest.fail("loaded")) == "known"


async def test_without_a_window_an_outage_loads():
    cache, outage = away()
    async with cache:
        await cache.set("a", "known")
        outage.down = True
        assert await cache.get_or_load("a", lambda: "loaded") == "loaded"
        with pytest.raises(BackendUnavailable):
            await cache.get("a", options=GetOptions(allow_stale=True))


async def test_with_miss_reads_miss():
    cache, outage = away(on_unavailable="miss")
    async with cache:
        outage.down = True
        assert await cache.get("a", MISSING) is MISSING
        assert await cache.get_many(["a"]) == {}
        with pytest.raises(BackendUnavailable):
            await cache.set("a", 1)


async def test_at_most_so_many_load_at_once():
    running = most = 0

    async def load():
        nonlocal running, most
        running += 1
        most = max(most, running)
        await settle()
        running -= 1

    cache, outage = away(loads={"max_concurrent_loads": 3})
    async with cache:
        outage.down = True
        await asyncio.gather(*[cache.get_or_load(str(n), load) for n in range(20)])
    assert most == 3


async def test_callers_still_share_a_load():
    cache, outage = away()
    gate = Gate()
    async with cache:
        outage.down = True
        callers = [asyncio.create_task(cache.get_or_load("a", gate)) for _ in range(10)]
        await gate.began.wait()
        await settle()
        gate.open()
        await asyncio.gather(*callers)
    assert gate.calls == 1


async def test_callers_share_a_load_when_the_backend_never_opened():
    cache, outage = away("before")
    gate = Gate()
    outage.down = True
    callers = [asyncio.create_task(cache.get_or_load("a", gate)) for _ in range(3)]
    await gate.began.wait()
    await settle()
    late = asyncio.create_task(cache.get_or_load("a", gate))
    await settle()
    gate.open()
    await asyncio.gather(*callers, late)
    await cache.aclose()
    assert gate.calls == 1


async def test_with_miss_reads_miss_when_the_backend_never_opened():
    cache, outage = away(on_unavailable="miss")
    outage.down = True
    assert await cache.get("a", MISSING) is MISSING
    await cache.aclose()


async def test_a_backend_that_comes_back_is_opened():
    cache, outage = away("before-open")
    outage.down = True
    with pytest.raises(BackendUnavailable):
        await cache.get("a")
    assert await cache.get_or_load("a", lambda: 5) == 5
    outage.down = False
    assert await cache.set("a", 1)
    assert await cache.get("a") == 1
    await cache.aclose()


async def test_nested_loads_do_not_wait_for_each_others_places():
    """Loads that hold every place call for others; those must not need a place to go on."""
    cache, outage = away(loads={"max_concurrent_loads": 2, "hard_deadline": "200ms"})
    began = asyncio.Barrier(2)

    def page(number):
        async def load():
            await began.wait()
            return await cache.get_or_load(f"user:{number}", lambda: number)

        return load

    async with cache:
        outage.down = True
        pages = [cache.get_or_load(f"page:{n}", page(n)) for n in range(2)]
        assert await asyncio.gather(*pages) == [0, 1]


async def learns(context: LoadContext) -> int:
    context.add_tags("t")
    return 5


@pytest.mark.parametrize(
    "point",
    [
        "claim",
        "fill",
        "release",
        "extend",
        "peek",
    ],
)
async def test_a_load_survives_a_loss_on_its_way(point):
    cache, outage = away(f"before-{point}", grace="1h")
    async with cache:
        outage.down = True
        assert await cache.get_or_load("a", learns) == 5


async def test_a_lost_look_for_a_stale_value_is_only_a_longer_wait():
    cache, outage = away("before-read", grace="1h", loads={"soft_deadline": "2ms"})
    gate = Gate()
    async with cache:
        caller = asyncio.create_task(cache.get_or_load("a", gate))
        await gate.began.wait()
        outage.down = True
        await asyncio.wait({caller}, timeout=0.02)
        gate.open()
        assert await caller == "value"


async def test_a_claim_whose_answer_was_cancelled_is_given_back():
    """The only caller leaves while the claim is under way: the next one need not wait a lease."""
    reached, leave = asyncio.Event(), asyncio.Event()

    async def hook(point: str) -> None:
        if point == "after-claim" and not leave.is_set():
            reached.set()
            await leave.wait()

    backend = Twin(SystemClock(), hook, lease=3600.0)
    async with configured(backend) as cache:
        caller = asyncio.create_task(cache.get_or_load("a", lambda: 1))
        await reached.wait()
        caller.cancel()
        await asyncio.wait({caller})
        leave.set()
        next_caller = asyncio.create_task(cache.get_or_load("a", lambda: 2))
        await asyncio.wait({next_caller}, timeout=0.1)
        done = next_caller.done()
        next_caller.cancel()
        await asyncio.wait({next_caller})
    assert done
