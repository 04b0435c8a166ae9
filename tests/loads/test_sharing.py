"""One load for all who wait, and what happens when some of them leave or the load fails."""

import asyncio
import gc
import traceback

import pytest
from tests.loads.backends import Twin
from tests.loads.callers import Gate, configured, settle

from clusterdb.cache import MISSING, LoadCancelled, LoadConfig, LoadContext
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.protocols import Drop, Put


async def start(cache, gate, callers, key="a"):
    tasks = [asyncio.create_task(cache.get_or_load(key, gate)) for _ in range(callers)]
    await gate.began.wait()
    await settle()
    return tasks


async def test_a_thousand_callers_share_one_call(cache):
    gate = Gate()
    callers = await start(cache, gate, 1000)
    gate.open()
    assert set(await asyncio.gather(*callers)) == {"value"}
    assert gate.calls == 1
    stats = (await cache.get_statistics()).regions["default"]
    assert (stats.loads, stats.joined_loads) == (1, 999)


async def test_the_first_caller_may_leave(cache):
    gate = Gate()
    first, *others = await start(cache, gate, 5)
    first.cancel()
    await settle()
    gate.open()
    assert await asyncio.gather(*others) == ["value"] * 4
    assert (gate.calls, gate.cancelled, first.cancelled()) == (1, 0, True)
    assert await cache.get("a") == "value"


async def test_the_last_caller_to_leave_ends_the_load(cache):
    gate = Gate()
    callers = await start(cache, gate, 3)
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)
    await settle()
    assert (gate.calls, gate.cancelled) == (1, 1)
    gate.open()
    assert await cache.get("a", MISSING) is MISSING
    assert await cache.get_or_load("a", gate) == "value"
    assert gate.calls == 2


async def test_a_caller_that_comes_when_the_last_has_left_loads_anew(cache):
    left, fresh = Gate("left"), Gate("fresh")
    [caller] = await start(cache, left, 1)
    caller.cancel()
    await asyncio.wait({caller})
    fresh.open()
    assert await cache.get_or_load("a", fresh) == "fresh"


async def test_a_failure_reaches_all_who_wait_and_nobody_else(cache):
    gate = Gate(error=LookupError("no such user"))
    callers = await start(cache, gate, 10)
    gate.open()
    errors = await asyncio.gather(*callers, return_exceptions=True)
    assert all(type(error) is LookupError for error in errors)
    assert gate.calls == 1
    assert await cache.get_or_load("a", lambda: 5) == 5


async def test_the_traceback_does_not_grow_with_the_waiters(cache):
    gate = Gate(error=LookupError())
    callers = await start(cache, gate, 1000)
    gate.open()
    [error, *_] = await asyncio.gather(*callers, return_exceptions=True)
    assert len(traceback.extract_tb(error.__traceback__)) < 30


async def test_a_failure_nobody_waits_for_is_quiet(cache, caplog):
    gate = Gate(error=LookupError())
    [caller] = await start(cache, gate, 1)
    gate.open()
    caller.cancel()
    await asyncio.wait({caller})
    await settle()
    gc.collect()
    assert not caplog.records


class Stop(BaseException):
    """A kind that ``except Exception`` does not catch."""


@pytest.mark.parametrize("error", [Stop("stop"), GeneratorExit()])
async def test_other_kinds_of_exceptions_reach_the_waiters_too(cache, error):
    gate = Gate(error=error)
    callers = await start(cache, gate, 3)
    gate.open()
    found = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(one) for one in found] == [type(error)] * 3
    assert await cache.get_or_load("a", lambda: 5) == 5


async def test_a_loader_that_cancels_itself_is_told_apart(cache):
    gate = Gate(error=asyncio.CancelledError())
    callers = await start(cache, gate, 3)
    gate.open()
    found = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(one) for one in found] == [LoadCancelled] * 3


async def test_nothing_is_a_value(cache):
    gate = Gate(None)
    gate.open()
    assert await cache.get_or_load("a", gate) is None
    assert await cache.get_or_load("a", gate) is None
    assert gate.calls == 1
    assert await cache.get("a", MISSING) is None


async def test_many_keys_are_loaded_by_one_call_and_shared(cache):
    seen = []
    gate = asyncio.Event()

    async def load(keys):
        seen.append(keys)
        await gate.wait()
        return dict.fromkeys(keys, len(seen))

    await cache.set("c", 0)
    both = asyncio.create_task(cache.get_or_load_many(["a", "b", "c", "a"], load))
    await settle()
    one = asyncio.create_task(cache.get_or_load("a", lambda: "own"))
    more = asyncio.create_task(cache.get_or_load_many(["b", "d"], load))
    await settle()
    gate.set()
    assert await both == {"a": 2, "b": 2, "c": 0}
    assert await one == 2
    assert await more == {"b": 2, "d": 2}
    assert seen == [["a", "b"], ["d"]]


async def test_no_keys_need_no_loader(cache):
    assert await cache.get_or_load_many([], lambda keys: 1 / 0) == {}


async def test_a_key_that_a_shared_load_left_out_is_loaded_by_its_own_loader(cache):
    gate = asyncio.Event()

    async def load(keys):
        await gate.wait()
        return {"a": 1}

    both = asyncio.create_task(cache.get_or_load_many(["a", "b"], load))
    await settle()
    one = asyncio.create_task(cache.get_or_load("b", lambda: 2))
    await settle()
    gate.set()
    assert await both == {"a": 1}
    assert await one == 2


async def test_a_failure_is_remembered_for_the_negative_window():
    async with configured(loads={"negative_ttl": "1h"}) as cache:
        with pytest.raises(ZeroDivisionError):
            await cache.get_or_load("a", lambda: 1 / 0)
        for _ in range(50):
            with pytest.raises(ZeroDivisionError) as caught:
                await cache.get_or_load("a", lambda: 5)
            assert len(traceback.extract_tb(caught.value.__traceback__)) < 30
        await cache.invalidate("a")
        assert await cache.get_or_load("a", lambda: 5) == 5


async def test_a_failure_from_before_an_invalidation_is_not_remembered():
    gate = Gate(error=LookupError())
    async with configured(loads={"negative_ttl": "1h"}) as cache:
        [caller] = await start(cache, gate, 1)
        await cache.invalidate("a")
        gate.open()
        with pytest.raises(LookupError):
            await caller
        assert await cache.get_or_load("a", lambda: 5) == 5


async def test_a_found_key_of_a_running_load_is_not_joined_after_its_invalidation(cache):
    gate = asyncio.Event()

    async def load(keys):
        await gate.wait()
        return dict.fromkeys(keys, "loaded")

    await cache.start()
    both = asyncio.create_task(cache.get_or_load_many(["a", "b"], load))
    await asyncio.sleep(0)  # both were missed; the load has not claimed them yet
    await cache.set("a", "old")
    await settle()
    await cache.invalidate("a")
    late = asyncio.create_task(cache.get_or_load("a", lambda: "new"))
    await settle()
    gate.set()
    await both
    assert await late == "new"


async def test_a_skipping_load_is_not_joined_after_the_end_of_a_tag_it_learnt(cache):
    origin, gate = ["old"], asyncio.Event()

    async def load(context: LoadContext) -> str:
        [value] = origin
        context.add_tags("t")
        context.skip()
        await gate.wait()
        return value

    early = asyncio.create_task(cache.get_or_load("a", load))
    await settle()
    origin[:] = ["new"]
    await cache.invalidate_tag("t")
    late = asyncio.create_task(cache.get_or_load("a", load))
    await settle()
    gate.set()
    assert await early == "new", "a loader that learnt a tag was not run again"
    assert await late == "new"


async def test_a_second_run_is_not_joined_after_the_end_of_a_tag_it_learnt(cache):
    origin, gate, runs = ["old"], asyncio.Event(), []

    async def load(context: LoadContext) -> str:
        [value] = origin
        runs.append(value)
        context.add_tags(f"run{len(runs)}")
        if len(runs) > 1:
            await gate.wait()
        return value

    early = asyncio.create_task(cache.get_or_load("a", load))
    await settle()
    assert len(runs) == 2
    origin[:] = ["new"]
    await cache.invalidate_tag("run2")
    late = asyncio.create_task(cache.get_or_load("a", load))
    await settle()
    gate.set()
    assert await early == "old"
    assert await late == "new"


async def test_an_unlimited_load_needs_no_deadline():
    gate = Gate()
    gate.open()
    assert LoadConfig(hard_deadline=None).hard_deadline is None
    async with configured(loads={"hard_deadline": None}) as cache:
        assert await cache.get_or_load("a", gate) == "value"


async def test_a_load_that_asks_for_its_claim_is_not_joined_before_the_answer():
    """While the answer is on its way another process invalidates the value it carries: who comes
    after that must not have it."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def hook(point: str) -> None:
        if asked.is_set():
            return
        if point == "before-claim":
            await twin.inner.write("default", [Put("a", "old")])
        if point == "after-claim":
            asked.set()
            await answer.wait()

    twin = Twin(SystemClock(), hook)
    async with configured(twin) as cache:
        early = asyncio.create_task(cache.get_or_load("a", lambda: "loaded"))
        await asked.wait()
        await twin.inner.write("default", [Drop("a")])
        late = asyncio.create_task(cache.get_or_load("a", lambda: "new"))
        await settle()
        answer.set()
        assert (await early, await late) == ("old", "new")
