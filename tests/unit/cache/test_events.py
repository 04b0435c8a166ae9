"""Events: who gets which, in what order, and what is said of those that were lost."""

import asyncio
from typing import Any

import msgspec
import pytest

from clusterdb.cache import access, departures, runtime
from clusterdb.cache.config import FIFO, LRU, CacheConfig, CachePolicy, CacheRegion
from clusterdb.cache.errors import InvalidArgument
from clusterdb.cache.events import (
    INVALIDATIONS,
    AlertTurned,
    Cleared,
    EntryDeleted,
    EntryEvicted,
    EntryExpired,
    EntrySet,
    Event,
    EventGap,
    Events,
    Invalidated,
    Loaded,
    TagInvalidated,
)
from clusterdb.cache.events import types as event_types
from clusterdb.cache.manager import Cache
from clusterdb.cache.testing import ManualClock

KINDS = [
    kind
    for kind in vars(event_types).values()
    if isinstance(kind, type) and issubclass(kind, Event)
]


def make_events() -> Events:
    return Events(lambda: None)


def stored(key: str, region: str = "r") -> EntrySet:
    return EntrySet(region=region, key=key)


async def received(subscription: Any) -> list[Event]:
    """What is queued, without waiting for more."""
    subscription.end()
    return [event async for event in subscription]


# -- subscriptions


async def test_events_come_in_order_to_every_subscriber():
    events = make_events()
    async with events.subscribe() as first, events.subscribe() as second:
        for number in range(10):
            events.publish(stored(str(number)))

        for subscription in (first, second):
            keys = [event.key for event in await received(subscription)]  # type: ignore[attr-defined]
            assert keys == [str(number) for number in range(10)]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["a", "b", "user:1", "gone", "", ""]),
        ({"region": "r"}, ["a", "user:1", "gone", "", ""]),
        ({"region": "other"}, ["b", ""]),
        ({"pattern": "user:*"}, ["user:1", "", ""]),
        ({"kinds": (EntryDeleted,)}, ["gone"]),
        ({"kinds": (EntryDeleted, EntrySet), "region": "r"}, ["a", "user:1", "gone"]),
        ({"kinds": INVALIDATIONS}, ["gone", "", ""]),
    ],
)
async def test_filters_choose(filters, expected):
    events = make_events()
    async with events.subscribe(**filters) as subscription:
        events.publish(stored("a"))
        events.publish(stored("b", "other"))
        events.publish(stored("user:1"))
        events.publish(EntryDeleted(region="r", key="gone"))
        events.publish(TagInvalidated(tag="t"))
        events.publish(Cleared(region="r"))

        found = [getattr(event, "key", "") for event in await received(subscription)]
        assert found == expected


async def test_a_full_queue_says_exactly_what_it_lost():
    events = make_events()
    async with events.subscribe(capacity=3) as subscription:
        for number in range(10):
            events.publish(stored(str(number)))
        got = [await anext(subscription) for _ in range(2)]
        events.publish(stored("lost too, before the gap was told"))
        got += [await anext(subscription) for _ in range(2)]
        events.publish(stored("after"))
        got.append(await anext(subscription))

    assert got[:3] == [stored("0"), stored("1"), stored("2")]
    assert isinstance(got[3], EventGap)
    assert got[3].count == 8
    assert got[4] == stored("after")


async def test_what_is_not_wanted_is_not_lost():
    events = make_events()
    async with events.subscribe((EntryDeleted,), capacity=1) as subscription:
        for number in range(10):
            events.publish(stored(str(number)))
        events.publish(EntryDeleted(region="r", key="k"))

        assert await received(subscription) == [EntryDeleted(region="r", key="k")]


async def test_a_subscriber_that_never_reads_costs_only_its_queue():
    events = make_events()
    async with events.subscribe(capacity=5) as lazy, events.subscribe() as eager:
        for number in range(1000):
            events.publish(stored(str(number)))

        assert len(lazy._backlog) == 5
        assert len(await received(eager)) == 1000
        *_, gap = await received(lazy)
        assert isinstance(gap, EventGap)
        assert gap.count == 995


async def test_a_waiting_subscriber_is_woken():
    events = make_events()
    async with events.subscribe() as subscription:
        waiting = asyncio.create_task(anext(subscription))
        await asyncio.sleep(0)
        events.publish(stored("k"))

        assert await waiting == stored("k")


async def test_the_end_comes_after_what_is_queued():
    events = make_events()
    async with events.subscribe() as subscription:
        events.publish(stored("k"))
        waiting = asyncio.create_task(received(subscription))
        events.end()

        assert await waiting == [stored("k")]
        assert [event async for event in subscription] == []


async def test_events_count_from_the_entry_to_the_exit():
    events = make_events()
    subscription = events.subscribe()
    events.publish(stored("before"))
    async with subscription:
        events.publish(stored("within"))
    events.publish(stored("after"))

    assert [event async for event in subscription] == [stored("within")]


async def test_it_is_active_while_somebody_listens():
    changes: list[bool] = []
    events = Events(lambda: changes.append(events.active))
    assert not events.active
    async with events.subscribe():
        async with events.subscribe():
            assert events.active
        assert events.active
    assert not events.active
    assert changes == [True, False]


@pytest.mark.parametrize("capacity", [0, -1, True, 1_000_001, float("nan"), 1.5, "10"])
def test_a_bad_capacity_is_refused(capacity):
    with pytest.raises(InvalidArgument):
        make_events().subscribe(capacity=capacity)


def test_a_bad_pattern_is_refused():
    with pytest.raises(InvalidArgument):
        make_events().subscribe(pattern="[a")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_is_ready_for_the_wire(kind):
    fields: dict[str, Any] = {"region": "r", "key": "k", "tag": "t", "count": 1, "seconds": 1.0}
    fields |= {"outcome": "ok", "pattern": "p*", "node": "n"}
    fields |= {"outcome": "ok", "circuit": "backend", "state": "open"}
    if kind is AlertTurned:
        fields |= {"alert": "max_eviction_rate", "state": "firing", "value": 2.0}
    event = kind(**{name: fields[name] for name in kind.__struct_fields__ if name in fields})

    assert msgspec.json.decode(msgspec.json.encode(event), type=kind) == event


def test_the_wire_tells_the_kinds_apart():
    tags = [kind.__struct_config__.tag for kind in KINDS]

    assert len(set(tags)) == len(tags)


# -- of a cache


def make_cache(clock: ManualClock) -> Cache:
    small = CacheRegion("small", policy=FIFO(max_items=1))
    return Cache(CacheConfig(regions=(small,)), clock=clock)


async def test_each_operation_says_what_happened():
    clock = ManualClock()
    async with make_cache(clock) as cache, cache.subscribe() as events:
        await cache.set("k", 1, tags=("t",))
        await cache.set("k", 2, nx=True)
        await cache.touch("k", 5)
        await cache.increment("k")
        await cache.get_or_load("loaded", lambda: 1)
        await cache.delete("k")
        await cache.delete("k")
        await cache.invalidate("loaded")
        await cache.invalidate("nothing there")
        await cache.invalidate_tag("t")
        await cache.atomic().set("a", 1).execute()
        await cache.atomic().check_absent("a").set("b", 1).execute()
        await cache.region("small").set("x", 1)
        await cache.region("small").set("y", 1, ttl=2)
        clock.advance(4)
        await cache.region("small").get("y")
        await cache.region("small").clear()
        found = await received(events)

    shape = [(type(event), getattr(event, "key", getattr(event, "tag", ""))) for event in found]
    assert shape == [
        (EntrySet, "k"),
        (EntrySet, "k"),
        (Loaded, "loaded"),
        (EntrySet, "loaded"),
        (EntryDeleted, "k"),
        (Invalidated, "loaded"),
        (Invalidated, "nothing there"),
        (TagInvalidated, "t"),
        (EntrySet, "a"),
        (EntrySet, "x"),
        (EntrySet, "y"),
        (EntryEvicted, "x"),
        (EntryExpired, "y"),
        (Cleared, ""),
    ]
    assert all(event.time == clock.wall() or event.time == clock.wall() - 4 for event in found)
    assert all(event.origin for event in found)


async def test_a_set_event_carries_version_and_tags():
    async with Cache() as cache, cache.subscribe(EntrySet) as events:
        await cache.set("k", 1, tags=("t",))
        found: Any = await received(events)
        version = (await cache.lookup("k")).version  # type: ignore[union-attr]

    assert [(event.tags, event.version) for event in found] == [(("t",), version)]


async def test_the_event_of_an_atomic_set_carries_version_and_tags():
    async with Cache() as cache, cache.subscribe(EntrySet) as events:
        await cache.atomic().set("k", 2, tags=("t",)).execute()
        found: Any = await received(events)
        version = (await cache.lookup("k")).version  # type: ignore[union-attr]

    assert [(event.tags, event.version) for event in found] == [(("t",), version)]


async def test_an_atomic_delete_of_nothing_is_no_event():
    async with Cache() as cache, cache.subscribe() as events:
        await cache.delete("none")
        await cache.atomic().delete("none").execute()

        assert await received(events) == []


async def test_nothing_is_built_while_nobody_listens(monkeypatch):
    def build(**_: object) -> Event:
        raise AssertionError("an event was built")

    for name in ("Cleared", "EntryDeleted", "EntrySet", "Invalidated", "TagInvalidated"):
        monkeypatch.setattr(access, name, build)
    for name in ("EntryEvicted", "EntryExpired"):
        monkeypatch.setattr(departures, name, build)
    monkeypatch.setattr(runtime, "Loaded", build)
    clock = ManualClock()
    async with make_cache(clock) as cache:
        for _ in range(2):
            await cache.set("k", 1, tags=("t",))
            await cache.get_or_load("loaded", lambda: 1)
            await cache.delete("k")
            await cache.invalidate("loaded")
            await cache.invalidate_tag("t")
            await cache.region("small").set("x", 1, ttl=1)
            await cache.region("small").set("y", 1, ttl=1)
            clock.advance(3)
            await cache.region("small").set("z", 1)
            await cache.clear()
        assert cache._runtime.backend._tables["small"]._residents.removals is None  # type: ignore[attr-defined]


async def test_the_end_of_the_cache_ends_its_subscriptions():
    cache = Cache()
    await cache.start()
    async with cache.subscribe() as events:
        await cache.set("k", 1)
        waiting = asyncio.create_task(received_until_the_end(events))
        await asyncio.sleep(0)
        await cache.aclose()

        assert [type(event) for event in await waiting] == [EntrySet]


async def received_until_the_end(events: Any) -> list[Event]:
    return [event async for event in events]


async def test_a_closed_cache_keeps_no_subscriber_waiting():
    cache = Cache()
    await cache.start()
    subscription = cache.subscribe()
    await cache.aclose()

    async def listen() -> list[Event]:
        async with subscription:
            return await received_until_the_end(subscription)

    listening = asyncio.create_task(listen())
    done, _ = await asyncio.wait({listening}, timeout=1)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)

    assert done, "a subscriber of a closed cache waits for ever"


async def test_loads_say_how_they_ended():
    async with Cache() as cache, cache.subscribe(Loaded) as events:
        await cache.get_or_load("good", lambda: 1)
        with pytest.raises(ZeroDivisionError):
            await cache.get_or_load("bad", lambda: 1 / 0)
        found: Any = await received(events)

    assert [(event.key, event.outcome) for event in found] == [("good", "ok"), ("bad", "failed")]


async def test_a_gap_says_when_and_where_the_last_lost_event_was():
    async with Cache() as cache, cache.subscribe(capacity=1) as events:
        await cache.set_many({"a": 1, "b": 2})
        await anext(events)
        gap = await anext(events)
        assert isinstance(gap, EventGap)
        assert gap.time > 0
        assert gap.origin


async def test_a_subscription_that_was_not_entered_says_so():
    async with Cache() as cache:
        with pytest.raises(InvalidArgument, match="async with"):
            await anext(cache.subscribe())


async def test_what_a_call_evicts_is_told_after_what_it_stores():
    config = CacheConfig(policy=CachePolicy(eviction=LRU(max_items=2)))
    async with Cache(config) as cache, cache.subscribe() as events:
        await cache.set_many({"a": 1, "b": 2, "c": 3})
        found: Any = await received(events)
        told = [(type(event), event.key) for event in found]
    assert told == [(EntrySet, "a"), (EntrySet, "b"), (EntrySet, "c"), (EntryEvicted, "a")]


@pytest.mark.parametrize("kind", ["EntrySet", int, None])
async def test_a_subscription_to_what_is_no_event_is_refused(kind):
    async with Cache() as cache:
        with pytest.raises(InvalidArgument, match="a class of events"):
            cache.subscribe(kind)


# -- what a full queue does


@pytest.mark.parametrize(
    ("overflow", "expected"),
    [
        ("drop_newest", ["0", "1", "2", "gap 2"]),
        ("drop_oldest", ["gap 2", "2", "3", "4"]),
        ("close", ["0", "1", "2", "gap 1", "end"]),
    ],
)
async def test_the_rule_says_what_is_lost(overflow, expected):
    events = make_events()
    async with events.subscribe(capacity=3, overflow=overflow) as subscription:
        for number in range(5):
            events.publish(stored(str(number)))
        told = []
        for _ in expected:
            event: Any = await asyncio.wait_for(anext(subscription, None), 5)
            told.append(
                "end"
                if event is None
                else f"gap {event.count}"
                if isinstance(event, EventGap)
                else event.key
            )
        assert told == expected
        assert events.active == (overflow != "close"), "who is out makes no more events"
        events.publish(stored("later"))
        later: Any = await asyncio.wait_for(anext(subscription, None), 5)
        assert later is None if overflow == "close" else later.key == "later"


def test_an_unknown_rule_is_refused():
    with pytest.raises(InvalidArgument, match="drop_newest"):
        make_events().subscribe(overflow="wait")  # type: ignore[arg-type]


@pytest.mark.parametrize("filters", [{"kinds": (Loaded,)}, {"region": "r"}, {"pattern": "a*"}])
async def test_a_gap_passes_every_filter(filters):
    """Nobody knows what was lost: it may have been what this subscriber wants."""
    events = make_events()
    async with events.subscribe(**filters) as subscription:
        events.publish(EventGap(count=3, reason="log"))
        assert await received(subscription) == [EventGap(count=3, reason="log")]


@pytest.mark.parametrize(("lost", "expected"), [((2, 3), 5 + 1), ((2, 0), 0)])
async def test_a_gap_that_is_lost_counts_for_what_it_stands_for(lost, expected):
    events = make_events()
    async with events.subscribe(capacity=1) as subscription:
        events.publish(stored("k"))
        for count in lost:
            events.publish(EventGap(count=count, reason="log"))
        events.publish(stored("l"))
        _, gap = await received(subscription)
        assert isinstance(gap, EventGap)
        assert gap.count == expected
