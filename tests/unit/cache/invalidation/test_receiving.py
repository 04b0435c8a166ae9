"""What other processes changed, applied to a cache in the memory of this one."""

import asyncio
from typing import Any

import pytest
from tests.unit.cache.events.hub import Hub

from clusterdb.cache import (
    Cache,
    CacheConfig,
    CacheRegion,
    Cleared,
    EntryDeleted,
    EntrySet,
    Event,
    EventGap,
    Invalidated,
    LoadConfig,
    MatchingInvalidated,
    TagInvalidated,
)
from clusterdb.cache.events.wire import pack
from clusterdb.cache.invalidation import receiving as module
from clusterdb.cache.protocols import Put
from clusterdb.cache.testing import ManualClock
from clusterdb.cache.versions import RANDOM_BITS

FAR = 2**62


class World:
    """A hub, and caches in memory with a channel on it."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.clock = ManualClock()
        self.sent = 0

    def cache(self, *, versioned: bool = True, **settings: Any) -> Cache:
        config = CacheConfig(regions=[CacheRegion("other", grace="1h")])
        cache = Cache(config, clock=self.clock, **settings)
        kinds = (EntrySet, EntryDeleted, Invalidated, MatchingInvalidated, TagInvalidated, Cleared)
        cache.access.runtime.connect(self.hub.channel(), kinds, versioned)
        return cache

    def say(self, *events: Event) -> None:
        self.hub.send(list(pack("main", "other", "o", self.sent, events)))
        self.sent += len(events)


@pytest.fixture
def world() -> World:
    return World()


async def left(cache: Cache, *keys: str) -> set[str]:
    return set(await cache.get_many(keys))


@pytest.mark.parametrize(
    "change",
    [
        lambda cache: cache.set("k", "new"),
        lambda cache: cache.delete("k"),
        lambda cache: cache.invalidate("k"),
        lambda cache: cache.invalidate_matching("k*"),
        lambda cache: cache.invalidate_tag("t"),
        lambda cache: cache.clear(),
        lambda cache: cache.increment("n"),
    ],
    ids=["set", "delete", "invalidate", "matching", "tag", "clear", "increment"],
)
@pytest.mark.parametrize("versioned", [True, False])
async def test_what_one_changes_the_other_has_no_more(world, change, versioned):
    async with world.cache(versioned=versioned) as one, world.cache(versioned=versioned) as other:
        old = [Put("k", "old", None, ("t",)), Put("n", 1)]
        for cache in (one, other):
            await cache.access.runtime.backend.write("default", old)
        world.clock.advance(1)
        async with other.subscribe() as events:
            await change(one)
            await asyncio.wait_for(anext(events), 5)
        assert len(await left(other, "k", "n")) < 2


async def test_the_event_is_told_after_it_was_applied(world):
    async with world.cache() as cache:
        await cache.set("k", 1)
        async with cache.subscribe(Invalidated) as events:
            world.say(Invalidated(region="default", key="k"))
            await asyncio.wait_for(anext(events), 5)
            assert await cache.get("k") is None


async def test_versioned_drops_only_what_is_older(world):
    async with world.cache() as cache, cache.subscribe(Invalidated) as events:
        await cache.set_many({"older": 1, "newer": 1})
        world.clock.advance(1)
        moment = cache.access.runtime.exchange.version()
        world.clock.advance(1)
        await cache.set("newer", 2)
        gone = [
            Invalidated(region="default", key=key, version=moment) for key in ("older", "newer")
        ]
        world.say(*gone)
        for _ in range(2):
            await asyncio.wait_for(anext(events), 5)
        assert await left(cache, "older", "newer") == {"newer"}


@pytest.mark.parametrize("off", [-86_400, 86_400])
async def test_a_sender_whose_clock_is_wrong_by_far_is_not_compared(world, off):
    """Its invalidation would be older than anything here, for a day."""
    async with world.cache() as cache, cache.subscribe(Invalidated) as events:
        await cache.set("k", 1)
        moment = cache.access.runtime.exchange.version() + (off * 1_000_000 << RANDOM_BITS)
        world.say(Invalidated(region="default", key="k", version=moment))
        await asyncio.wait_for(anext(events), 5)
        assert await cache.get("k") is None


async def test_plain_drops_what_there_is(world):
    async with world.cache(versioned=False) as cache, cache.subscribe(Invalidated) as events:
        moment = cache.access.runtime.exchange.version()
        world.clock.advance(1)
        await cache.set("newer", 2)
        world.say(Invalidated(region="default", key="newer", version=moment))
        await asyncio.wait_for(anext(events), 5)
        assert await cache.get("newer") is None


async def test_an_event_without_a_version_drops_what_there_is(world):
    async with world.cache() as cache, cache.subscribe(Invalidated) as events:
        await cache.set("k", 1)
        world.say(Invalidated(region="default", key="k"))
        await asyncio.wait_for(anext(events), 5)
        assert await cache.get("k") is None


async def test_a_load_is_as_old_as_its_beginning(world):
    """It read its origin before the invalidation, and stored after it, before the event came."""
    async with world.cache() as cache, cache.subscribe(Invalidated) as events:
        world.clock.advance(1)

        async def load() -> str:
            world.clock.advance(1)
            load.moment = cache.access.runtime.exchange.version()  # type: ignore[attr-defined]
            world.clock.advance(1)
            return "old"

        assert await cache.get_or_load("k", load) == "old"
        moment = load.moment  # type: ignore[attr-defined]
        world.say(Invalidated(region="default", key="k", version=moment))
        await asyncio.wait_for(anext(events), 5)
        assert await cache.get("k") is None, "a value of before the invalidation stayed"


@pytest.mark.parametrize(
    "event",
    [
        Invalidated(region="default", key="k", version=1),
        MatchingInvalidated(region="default", pattern="*"),
        TagInvalidated(tag="t"),
        Cleared(region="default"),
        EventGap(count=1, reason="lost"),
        EntrySet(region="default", key="k", version=1),
        EntryDeleted(region="default", key="k", version=1),
    ],
)
async def test_a_load_that_runs_is_ended(world, event):
    go_on, started = asyncio.Event(), asyncio.Event()

    async def load() -> str:
        started.set()
        await go_on.wait()
        return "old"

    async with world.cache() as cache, cache.get_events() as events:
        loading = asyncio.create_task(cache.get_or_load("k", load, tags=("t",)))
        await started.wait()
        world.say(event)
        await asyncio.wait_for(anext(events), 5)
        assert await cache.get_or_load("k", lambda: "new") == "new", "it joined the old load"
        go_on.set()
        assert await loading == "old"
        assert await cache.get("k") == "new"


async def test_a_load_makes_nobody_else_load(world):
    """Or two processes would take the same key from each other for ever."""
    async with (
        world.cache() as one,
        world.cache() as other,
        one.subscribe(Invalidated) as at_one,
        other.subscribe(EntrySet, Invalidated) as events,
    ):
        await other.get_or_load("k", lambda: "theirs")
        await other.invalidate("first")
        await asyncio.wait_for(anext(at_one), 5)  # it has heard whatever was sent
        world.clock.advance(1)
        assert await one.get_or_load("k", lambda: "mine") == "mine"
        await one.invalidate("second")
        seen: list[Any] = [await asyncio.wait_for(anext(events), 5) for _ in range(3)]
        assert [event.key for event in seen] == ["k", "first", "second"]
        assert await other.get("k") == "theirs"


@pytest.mark.parametrize("reason", ["lost", "reconnect", "large"])
async def test_a_gap_drops_everything(world, reason):
    async with world.cache() as cache, cache.subscribe_invalidation() as events:
        await cache.set("k", 1)
        await cache.region("other").set("k", 1)
        world.say(EventGap(count=1, reason=reason))
        assert isinstance(await asyncio.wait_for(anext(events), 5), EventGap)
        assert (await cache.get_statistics()).total.items == 0


def counting(calls: list[str], name: str, original: Any) -> Any:
    def counted(*args: Any, **more: Any) -> Any:
        calls.append(name)
        return original(*args, **more)

    return counted


async def test_a_flood_costs_one_flush(world, monkeypatch):
    monkeypatch.setattr(module, "_MOST", 100)
    async with world.cache() as cache, cache.subscribe(Cleared, EventGap) as events:
        backend: Any = cache.access.runtime.backend
        calls: list[str] = []
        for name in ("write", "peek", "clear"):
            original = getattr(backend, name)

            def counted(
                *args: Any, _name: str = name, _original: Any = original, **more: Any
            ) -> Any:
                calls.append(_name)
                return _original(*args, **more)

            monkeypatch.setattr(backend, name, counted)
        await cache.set("k", 1)
        calls.clear()
        world.say(*[Invalidated(region="default", key=f"x{number}") for number in range(5000)])
        gap = await asyncio.wait_for(anext(events), 5)
        assert isinstance(gap, EventGap), "subscribers are told too that it was too much"
        assert calls == ["clear"]
        assert await cache.get("k") is None


async def test_the_same_key_over_and_over_is_dropped_once(world, monkeypatch):
    async with world.cache() as cache, cache.subscribe(Invalidated) as events:
        backend: Any = cache.access.runtime.backend
        drops: list[str] = []
        write = backend.write

        async def counted(region: str, changes: Any) -> Any:
            drops.extend(change.key for change in changes)
            return await write(region, changes)

        monkeypatch.setattr(backend, "write", counted)
        world.say(*[Invalidated(region="default", key="k")] * 500)
        await asyncio.wait_for(anext(events), 5)
        assert drops == ["k"]


async def test_many_patterns_become_a_clear_of_their_region(world):
    async with world.cache() as cache, cache.subscribe(MatchingInvalidated) as events:
        await cache.set("k", 1)
        await cache.region("other").set("k", 1)
        world.say(
            *[MatchingInvalidated(region="default", pattern=f"no{number}*") for number in range(50)]
        )
        await asyncio.wait_for(anext(events), 5)
        assert await cache.get("k") is None
        assert await cache.region("other").get("k") == 1


async def test_a_pattern_that_is_none_drops_its_region(world):
    async with world.cache() as cache, cache.subscribe(MatchingInvalidated) as events:
        await cache.set("k", 1)
        world.say(MatchingInvalidated(region="default", pattern="[a"))
        await asyncio.wait_for(anext(events), 5)
        assert await cache.get("k") is None


async def test_what_is_said_of_unknown_regions_harms_nobody(world):
    async with world.cache() as cache, cache.get_events() as events:
        await cache.set("k", 1)
        await anext(events)
        world.say(
            Invalidated(region="nowhere", key="k"),
            MatchingInvalidated(region="nowhere", pattern="*"),
            Cleared(region="nowhere"),
        )
        for _ in range(3):
            await asyncio.wait_for(anext(events), 5)
        assert await cache.get("k") == 1


async def test_a_forged_version_of_the_far_future_does_not_end_the_order(world):
    async with world.cache() as cache, cache.subscribe(Invalidated) as events:
        world.say(Invalidated(region="default", key="forged", version=FAR * 2))
        await asyncio.wait_for(anext(events), 5)
        assert cache.access.runtime.exchange.version() < FAR * 2


async def test_a_clock_that_is_ahead_is_followed(world):
    """What is stored after something was heard is newer than it, whatever the clocks say."""
    async with world.cache() as cache, cache.subscribe(Invalidated) as events:
        ahead = cache.access.runtime.exchange.version() + (5_000_000 << 12)
        world.say(Invalidated(region="default", key="k", version=ahead))
        await asyncio.wait_for(anext(events), 5)
        await cache.set("k", "later")
        world.say(Invalidated(region="default", key="k", version=ahead))
        await asyncio.wait_for(anext(events), 5)
        assert await cache.get("k") == "later"


async def test_a_negative_window_ends_too(world):
    async def fails() -> None:
        raise RuntimeError("no")

    async with world.cache() as cache, cache.subscribe(Invalidated) as events:
        await cache.configure_regions([CacheRegion("r", loads=LoadConfig(negative_ttl="1h"))])
        region = cache.region("r")
        with pytest.raises(RuntimeError):
            await region.get_or_load("k", fails)
        world.say(Invalidated(region="r", key="k"))
        await asyncio.wait_for(anext(events), 5)
        assert await region.get_or_load("k", lambda: 1) == 1
