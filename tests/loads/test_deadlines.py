"""The hard deadline frees whoever waits; the soft one gives what expired."""

import asyncio
import threading

import pytest
from tests.loads.callers import Gate, configured, settle

from clusterdb.cache import MISSING, LoadTimeout


async def test_a_loader_that_hangs_is_cancelled_at_the_hard_deadline():
    gate = Gate()
    async with configured(loads={"hard_deadline": "10ms"}) as cache:
        callers = [cache.get_or_load("a", gate) for _ in range(3)]
        errors = await asyncio.gather(*callers, return_exceptions=True)
        assert [type(error) for error in errors] == [LoadTimeout] * 3
        assert isinstance(errors[0], LoadTimeout)
        assert isinstance(errors[0], TimeoutError)
        assert errors[0].deadline == pytest.approx(0.01)
        await settle()
        assert (gate.calls, gate.cancelled) == (1, 1)
        assert await cache.get_or_load("a", lambda: 5) == 5
        assert (await cache.get_statistics()).regions["default"].load_timeouts == 1


async def test_a_loader_that_ignores_its_cancellation_holds_nobody_up():
    leave = asyncio.Event()

    async def stubborn():
        while not leave.is_set():
            try:
                await leave.wait()
            except asyncio.CancelledError:
                continue
        return "late"

    async with configured(loads={"hard_deadline": "10ms"}) as cache:
        with pytest.raises(LoadTimeout):
            await cache.get_or_load("a", stubborn)
        assert await cache.get_or_load("a", lambda: "own") == "own"
        leave.set()
        await settle()
        assert await cache.get("a") == "own"


async def test_a_thread_that_hangs_is_left_behind():
    leave = threading.Event()
    async with configured(loads={"hard_deadline": "10ms"}) as cache:
        with pytest.raises(LoadTimeout):
            await cache.get_or_load("a", leave.wait)
        assert await cache.get("a", MISSING) is MISSING
        assert await cache.get_or_load("a", lambda: 5) == 5
    leave.set()


async def test_past_the_soft_deadline_callers_get_the_expired_value():
    gate = Gate("new")
    loads = {"soft_deadline": "5ms", "hard_deadline": None}
    async with configured(grace="1h", loads=loads) as cache:
        await cache.set("a", "old", ttl=1e-6)
        assert await cache.get_or_load("a", gate) == "old"
        assert await cache.get_or_load("a", gate) == "old"
        assert (gate.calls, gate.cancelled) == (1, 0)
        gate.open()
        await settle()
        assert await cache.get("a") == "new"


async def test_an_invalidated_value_is_not_served_past_the_soft_deadline():
    gate = Gate("new")
    loads = {"soft_deadline": "5ms", "hard_deadline": None}
    async with configured(grace="1h", loads=loads) as cache:
        await cache.set("a", "old", ttl=1e-6)
        await cache.invalidate("a")
        caller = asyncio.create_task(cache.get_or_load("a", gate))
        await asyncio.wait({caller}, timeout=0.02)
        assert not caller.done()
        gate.open()
        assert await caller == "new"


async def test_without_an_expired_value_callers_wait_past_the_soft_deadline():
    async with configured(grace="1h", loads={"soft_deadline": "1ms"}) as cache:
        gate = Gate("new")
        caller = asyncio.create_task(cache.get_or_load("a", gate))
        await asyncio.wait({caller}, timeout=0.01)
        gate.open()
        assert await caller == "new"


async def test_several_keys_are_served_stale_only_if_all_can_be():
    entered = asyncio.Event()

    async def load(keys):
        await entered.wait()
        return dict.fromkeys(keys, "new")

    async with configured(grace="1h", loads={"soft_deadline": "2ms"}) as cache:
        await cache.set_many({"a": "old", "b": "old"}, ttl=1e-6)
        assert await cache.get_or_load_many(["a", "b"], load) == {"a": "old", "b": "old"}
        caller = asyncio.create_task(cache.get_or_load_many(["a", "c"], load))
        await asyncio.wait({caller}, timeout=0.01)
        entered.set()
        assert await caller == {"a": "new", "c": "new"}
