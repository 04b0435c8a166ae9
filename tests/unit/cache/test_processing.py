"""Handlers of events: called one at a time, and no harm to anybody when they fail."""

import asyncio
import logging
import threading
from typing import Any

import pytest
from tests.redis.load import until

from clusterdb.cache import (
    Cache,
    EntryDeleted,
    EntrySet,
    Event,
    EventGap,
    Handling,
    InvalidArgument,
)


def keys(events: list[Any]) -> list[str]:
    return [event.key for event in events]


async def test_a_handler_is_called_in_order_with_what_it_asked_for():
    heard: list[Event] = []

    async def handler(event: Event) -> None:
        await asyncio.sleep(0)
        heard.append(event)

    async with Cache() as cache:
        handling = cache.on(EntrySet, handler=handler, pattern="user:*")
        await cache.set_many({"user:1": 1, "order:1": 1, "user:2": 1})
        await cache.delete("user:1")
        await until(lambda: handling.handled == 2)

    assert keys(heard) == ["user:1", "user:2"]


async def test_a_plain_handler_runs_in_a_thread():
    """A function that blocks must not stop the loop, which answers others."""
    gate, heard = threading.Event(), []

    def handler(event: Event) -> None:
        gate.wait(5)
        heard.append(threading.current_thread() is threading.main_thread())

    async with Cache() as cache:
        handling = cache.on(EntrySet, handler=handler)
        await cache.set("k", 1)
        await asyncio.wait_for(cache.get("k"), 1)
        gate.set()
        await until(lambda: handling.handled == 1)

    assert heard == [False]


async def test_a_plain_handler_may_return_a_coroutine():
    heard: list[Event] = []

    async def note(event: Event) -> None:
        heard.append(event)

    def handler(event: Event) -> Any:
        return note(event)

    async with Cache() as cache:
        handling = cache.on(EntrySet, handler=handler)
        await cache.set("k", 1)
        await until(lambda: handling.handled == 1)
    assert len(heard) == 1


async def test_a_handler_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture):
    heard: list[Event] = []

    async def bad(event: Event) -> None:
        raise RuntimeError("no")

    async def good(event: Event) -> None:
        heard.append(event)

    with caplog.at_level(logging.WARNING, "clusterdb.cache"):
        async with Cache() as cache:
            failing, working = cache.on(handler=bad), cache.on(handler=good)
            for number in range(3):
                await cache.set(str(number), number)
            await until(lambda: failing.failed == 3 and working.handled == 3)

    assert keys(heard) == ["0", "1", "2"]
    [line] = [record for record in caplog.records if "event handler" in record.message]
    assert "raised RuntimeError" in line.message
    assert line.exc_info is not None


async def test_a_handler_whose_inner_task_is_cancelled_goes_on():
    async def handler(event: Event) -> None:
        inner = asyncio.ensure_future(asyncio.sleep(60))
        inner.cancel()
        await inner

    async with Cache() as cache:
        handling = cache.on(handler=handler)
        await cache.set("a", 1)
        await cache.set("b", 1)
        await until(lambda: handling.failed == 2)


async def test_a_handler_that_hangs_is_cut_off_and_the_next_event_comes(
    caplog: pytest.LogCaptureFixture,
):
    heard: list[str] = []

    async def handler(event: Any) -> None:
        heard.append(event.key)
        if event.key == "hangs":
            await asyncio.sleep(60)

    async with Cache() as cache:
        handling = cache.on(EntrySet, handler=handler, timeout=0.05)
        await cache.set("hangs", 1)
        await cache.set("next", 1)
        await until(lambda: handling.handled == 1)
        assert handling.timed_out == 1
    assert heard == ["hangs", "next"]
    assert "ran past its timeout of 0.05 s" in caplog.text


async def test_a_plain_handler_that_hangs_keeps_one_thread():
    gate, started = threading.Event(), []

    def handler(event: Event) -> None:
        started.append(event)
        gate.wait(10)

    try:
        async with Cache() as cache:
            handling = cache.on(EntrySet, handler=handler, timeout=0.02)
            await cache.set_many({"a": 1, "b": 2, "c": 3})
            await until(lambda: handling.timed_out == 3)
            assert len(started) == 1
    finally:
        gate.set()


async def test_a_slow_handler_is_told_what_it_lost():
    heard: list[Event] = []
    go_on = asyncio.Event()

    async def handler(event: Event) -> None:
        await go_on.wait()
        heard.append(event)

    async with Cache() as cache:
        handling = cache.on(EntrySet, handler=handler, capacity=2)
        await cache.set("first", 1)
        await asyncio.sleep(0.01)  # it is taken, and held
        for number in range(5):
            await cache.set(str(number), number)
        go_on.set()
        await until(lambda: handling.handled == 4)

    assert keys(heard[:3]) == ["first", "0", "1"]
    assert isinstance(heard[3], EventGap)
    assert heard[3].count == 3


async def test_one_that_is_stopped_hears_no_more():
    heard: list[Event] = []

    async def handler(event: Event) -> None:
        heard.append(event)

    async with Cache() as cache:
        handling = cache.on(handler=handler)
        await cache.set("a", 1)
        handling.stop()
        await cache.set("b", 1)
        await until(lambda: heard)
        assert not cache.access.runtime.events.active
    assert keys(heard) == ["a"]


async def test_the_close_waits_for_what_is_queued():
    heard: list[Event] = []

    async def handler(event: Event) -> None:
        await asyncio.sleep(0.001)
        heard.append(event)

    async with Cache() as cache:
        cache.on(handler=handler)
        for number in range(5):
            await cache.set(str(number), number)

    assert keys(heard) == ["0", "1", "2", "3", "4"]


async def test_the_close_does_not_wait_for_one_that_hangs():
    async def handler(event: Event) -> None:
        await asyncio.sleep(60)

    cache = Cache()
    cache.on(handler=handler, timeout=60)
    await cache.set("k", 1)
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await cache.aclose()


def test_a_handler_made_before_the_cache_lives_works_in_each_loop():
    heard: list[Event] = []

    async def handler(event: Event) -> None:
        heard.append(event)

    cache = Cache()
    handling = cache.on(EntrySet, EntryDeleted, handler=handler)

    async def use(key: str) -> None:
        await cache.set(key, 1)
        await until(lambda: handling.handled == len(heard) and key in keys(heard))

    asyncio.run(use("a"))
    asyncio.run(use("b"))
    asyncio.run(cache.aclose())
    assert keys(heard) == ["a", "b"]


def test_a_handler_of_the_sync_face():
    heard: list[Event] = []
    come = threading.Event()

    def handler(event: Event) -> None:
        heard.append(event)
        come.set()

    with Cache().sync as cache:
        handling = cache.on(EntrySet, handler=handler)
        cache.set("k", 1)
        assert come.wait(5)
    assert isinstance(handling, Handling)
    assert keys(heard) == ["k"]


@pytest.mark.parametrize(
    "arguments", [{"handler": "no function"}, {"handler": print, "timeout": 0}]
)
async def test_nonsense_is_refused(arguments):
    async with Cache() as cache:
        with pytest.raises(InvalidArgument):
            cache.on(**arguments)
        assert not cache.access.runtime.events.active
