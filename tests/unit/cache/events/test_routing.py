"""Events between processes over a channel: what is sent and heard, and what is said of losses."""

import asyncio
import json
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import pytest
from tests.redis.load import until
from tests.unit.cache.events.hub import Hub, HubChannel

from clusterdb.cache.events import EntrySet, Event, EventGap, Invalidated, TagInvalidated
from clusterdb.cache.events import routing as module
from clusterdb.cache.events.routing import Router
from clusterdb.cache.events.wire import MAX_BYTES, pack
from clusterdb.cache.testing import ManualClock


class End:
    """A router, and what it heard."""

    def __init__(self, hub: Hub, kinds: Sequence[type[Event]] = (Event,), cache: str = "c") -> None:
        self.heard: list[Any] = []
        self.channel: HubChannel = hub.channel()
        self.router = Router(
            self.channel, kinds, self.heard.extend, cache=cache, origin="o", clock=ManualClock()
        )

    async def __aenter__(self) -> Self:
        self.router.start()
        self.router.listen(True)
        await self.router.settled()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.router.aclose()

    @property
    def keys(self) -> list[str]:
        return [getattr(event, "key", f"gap {getattr(event, 'count', '')}") for event in self.heard]


def gone(key: Any) -> Invalidated:
    return Invalidated(region="r", key=str(key))


def refused_more_than(end: End, number: int) -> bool:
    return end.router.traffic.failures > number


def forged(*events: Event, sender: str = "other", sent: int = 0, cache: str = "c") -> bytes:
    [data] = pack(cache, sender, "forger", sent, events)
    return data


async def test_events_come_in_order_and_with_their_origin():
    hub = Hub()
    async with End(hub) as one, End(hub) as other:
        for number in range(100):
            one.router.offer(gone(number))
        await until(lambda: len(other.heard) == 100)

        assert other.keys == [str(number) for number in range(100)]
        assert {event.origin for event in other.heard} == {"o"}
        assert one.heard == [], "its own echo"
        assert (one.router.traffic.sent, other.router.traffic.received) == (100, 100)
        assert one.router.traffic.echoes > 0
        assert len(hub.messages) < 5, "what is offered together travels together"


async def test_only_chosen_kinds_are_sent():
    hub = Hub()
    async with End(hub, kinds=(Invalidated,)) as one, End(hub) as other:
        one.router.offer(EntrySet(region="r", key="set"))
        one.router.offer(gone("k"))
        await until(lambda: other.heard)
        assert other.keys == ["k"]


async def test_lost_messages_are_told_by_the_next_with_their_number():
    hub = Hub()
    async with End(hub) as one, End(hub) as other:
        one.router.offer(gone("a"))
        await until(lambda: other.heard)
        hub.lose = 1
        one.router.offer(gone("lost"))
        one.router.offer(gone("lost too"))
        await until(lambda: not hub.lose)
        one.router.offer(gone("b"))
        await until(lambda: len(other.heard) == 3)

        assert other.keys == ["a", "gap 2", "b"]
        assert other.heard[1].reason == "lost"
        assert other.heard[1].origin == "o"
        assert other.router.traffic.gaps == 1


async def test_the_loss_of_the_last_message_is_told_once_it_is_quiet(monkeypatch):
    monkeypatch.setattr(module, "_QUIET", 0.02)
    hub = Hub()
    async with End(hub) as one, End(hub) as other:
        one.router.offer(gone("a"))
        await until(lambda: len(hub.messages) == 2)
        hub.lose = 1
        one.router.offer(gone("lost"))
        await until(lambda: len(other.heard) == 2)
        assert other.keys == ["a", "gap 1"]
        sent = len(hub.messages)
        await asyncio.sleep(0.1)
        assert len(hub.messages) == sent, "quiet is said once"


async def test_while_the_channel_is_away_events_wait_and_are_sent_when_it_is_back():
    hub = Hub()
    async with End(hub) as one, End(hub) as other:
        hub.away = True
        for number in range(5):
            one.router.offer(gone(number))
        await until(lambda: hub.attempts > 1)
        assert "away" in one.router.problem
        hub.away = False
        await until(lambda: len(other.heard) == 5)
        assert other.keys == ["0", "1", "2", "3", "4"]
        assert one.router.problem == ""
        assert one.router.traffic.failures > 0


async def test_what_does_not_fit_into_the_queue_is_told_as_lost(monkeypatch):
    monkeypatch.setattr(module, "_QUEUE", 3)
    monkeypatch.setattr(module, "_QUIET", 0.02)
    hub = Hub()
    async with End(hub) as one, End(hub) as other:
        for number in range(10):
            one.router.offer(gone(number))
        await until(lambda: len(other.heard) == 4)
        assert other.keys == ["0", "1", "2", "gap 7"]
        assert one.router.traffic.dropped == 7


async def test_a_refused_message_is_not_sent_for_ever(caplog: pytest.LogCaptureFixture):
    hub = Hub()
    async with End(hub) as one, End(hub) as other:
        one.router.offer(gone("a"))
        await until(lambda: other.heard)
        hub.refuses = True
        with caplog.at_level(logging.WARNING, "clusterdb.cache"):
            for number in range(3):
                one.router.offer(gone(number))
                await until(partial(refused_more_than, one, number))
        assert "NOPERM" in one.router.problem
        assert len(caplog.records) == 1, "it is logged once"
        hub.refuses = False
        one.router.offer(gone("b"))
        await until(lambda: len(other.heard) == 3)
        assert other.keys == ["a", "gap 3", "b"]


async def test_a_reconnect_is_told_as_a_gap_of_unknown_size():
    hub = Hub()
    async with End(hub) as one, End(hub) as other:
        one.router.offer(gone("a"))
        await until(lambda: other.heard)
        other.channel.cut.set()
        await until(lambda: len(other.heard) == 2)
        one.router.offer(gone("b"))
        await until(lambda: len(other.heard) == 3)
        assert other.keys == ["a", "gap 0", "b"]
        assert other.heard[1].reason == "reconnect"


async def test_a_reconnect_is_told_once_not_once_more_as_lost_messages():
    hub = Hub()
    async with End(hub) as one, End(hub) as other:
        one.router.offer(gone("a"))
        await until(lambda: other.heard)
        hub.lose = 1
        one.router.offer(gone("lost"))
        await until(lambda: not hub.lose)
        other.channel.cut.set()
        await until(lambda: len(other.heard) == 2)
        one.router.offer(gone("b"))
        await until(lambda: len(other.heard) == 3)
        assert other.keys == ["a", "gap 0", "b"]


async def test_a_channel_that_is_away_at_first_holds_nobody_up():
    hub = Hub()
    hub.away = True
    async with asyncio.timeout(5), End(hub) as one:
        assert "away" in one.router.problem
        hub.away = False
        await until(lambda: one.heard)
        assert one.keys == ["gap 0"], "something may have been sent before it was heard"


async def test_nobody_is_listened_to_while_nobody_wants_to_hear():
    hub = Hub()
    async with End(hub) as one, End(hub) as other:
        one.router.offer(gone("first"))
        await until(lambda: other.heard)
        other.router.listen(False)
        await until(lambda: not other.channel.listening)
        one.router.offer(gone("a"))
        await until(lambda: one.router.traffic.sent == 2)
        other.router.listen(True)
        await other.router.settled()
        one.router.offer(gone("b"))
        await until(lambda: len(other.heard) > 1)
        assert other.keys == ["first", "b"], "what came while nobody wanted to hear is no gap"


async def test_the_close_sends_what_waits():
    hub = Hub()
    async with End(hub) as other:
        async with End(hub) as one:
            for number in range(2000):
                one.router.offer(gone(number))
        assert len(other.heard) == 2000


async def test_the_close_does_not_wait_for_a_channel_that_is_away():
    hub = Hub()
    async with asyncio.timeout(5), End(hub) as one:
        hub.away = True
        one.router.offer(gone("a"))
        await until(lambda: hub.attempts)


async def test_what_can_not_be_used_is_counted_and_tells_nothing():
    hub = Hub()
    async with End(hub) as one:
        hostile = {
            "oversized": b"x" * (MAX_BYTES + 1),
            "unknown": json.dumps({"v": 99, "sent": 1}).encode(),
            "garbage": b"\xc1\xc1\xc1",
            "foreign": forged(gone("k"), cache="another"),
        }
        for number, data in enumerate(hostile.values(), 1):
            hub.send([data] * number)
        assert one.heard == []
        traffic = one.router.traffic
        found = [getattr(traffic, name) for name in hostile]
        assert found == [1, 2, 3, 4]
        assert traffic.received == 0


async def test_a_message_that_comes_twice_is_no_gap():
    hub = Hub()
    async with End(hub) as one:
        hub.send([forged(gone("a")), forged(gone("a")), forged(gone("b"), sent=1)])
        assert one.keys == ["a", "a", "b"]


async def test_only_so_many_senders_are_remembered():
    hub = Hub()
    async with End(hub) as one:
        for number in range(3000):
            hub.send([forged(sender=f"s{number}", sent=number)])
        assert len(one.router._senders) == 1024
        assert one.heard == []


async def test_after_a_fork_the_child_is_a_sender_of_its_own():
    hub = Hub()
    async with End(hub) as parent:
        child = End(hub)
        child.router._sender = parent.router._sender
        child.router.forked("child")
        async with child:
            child.router.offer(TagInvalidated(tag="t"))
            await until(lambda: parent.heard)
        assert parent.heard[0].origin == "child"


async def test_an_event_gap_of_this_process_is_sent_as_any_event():
    hub = Hub()
    async with End(hub) as one, End(hub) as other:
        one.router.offer(EventGap(count=3, reason="log"))
        await until(lambda: other.heard)
        assert (other.heard[0].count, other.heard[0].reason) == (3, "log")
