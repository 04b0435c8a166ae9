"""Loads through the sync door: where a loader runs, what happens when it fails, and re-entry."""

import asyncio
import inspect
import re
import threading
from contextvars import ContextVar, copy_context

import pytest
from tests.sync.running import Work

from clusterdb.cache import (
    Cache,
    CacheConfig,
    CacheError,
    CacheRegion,
    LoadCancelled,
    LoadConfig,
    LoadTimeout,
    ReentrantLoad,
    WrongLoop,
)
from clusterdb.cache.loading import call_for

name: ContextVar[str] = ContextVar("name")
local = threading.local()


def waiters(cache, key="a"):
    """How many callers wait for the load of a key."""
    loads = cache.runtime._loads
    flight = loads._flights.get(("default", key)) if loads is not None else None
    return 0 if flight is None else flight.waiters


def until(condition):
    """Wait for what another thread does; the test's time limit ends it."""
    pause = threading.Event()
    while not condition():
        pause.wait(0.001)


def configured(**loads):
    return Cache(CacheConfig(regions=(CacheRegion("default", loads=LoadConfig(**loads)),))).sync


def test_a_thousand_threads_on_one_cold_key(cache):
    gate = threading.Event()
    calls = []

    def load():
        calls.append(threading.get_ident())
        assert gate.wait(30)
        return "value"

    works = [Work(lambda: cache.get_or_load("a", load)) for _ in range(1000)]
    until(lambda: waiters(cache) == 1000)
    gate.set()

    assert {work.result() for work in works} == {"value"}
    assert len(calls) == 1


def test_a_blocking_loader_runs_in_the_thread_that_asked(cache):
    local.connection = "mine"
    name.set("Ada")

    def load():
        return threading.get_ident(), local.connection, name.get()

    assert cache.get_or_load("a", load) == (threading.get_ident(), "mine", "Ada")
    found = cache.get_or_load_many(["b"], lambda keys: dict.fromkeys(keys, load()))
    assert found == {"b": (threading.get_ident(), "mine", "Ada")}


def test_a_coroutine_function_runs_in_the_loop_with_the_context_of_the_caller(cache):
    name.set("Grace")

    async def load():
        return asyncio.get_running_loop(), threading.get_ident(), name.get()

    loop, thread, caller = cache.get_or_load("a", load)
    assert loop is cache.runtime.loop
    assert thread != threading.get_ident()
    assert caller == "Grace"


def test_a_plain_function_that_gives_a_coroutine(cache):
    async def load(x):
        return x

    assert cache.get_or_load("a", lambda: load(5)) == 5


def test_what_a_loader_raises_reaches_every_waiter(cache):
    gate = threading.Event()

    def load():
        assert gate.wait(30)
        raise KeyError("no such user")

    works = [Work(lambda: cache.get_or_load("a", load)) for _ in range(3)]
    until(lambda: waiters(cache) == 3)
    gate.set()
    for work in works:
        with pytest.raises(KeyError, match="no such user"):
            work.result()
    assert cache.get_or_load("a", lambda: 5) == 5


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_a_loader_that_is_told_to_stop_stops_its_own_thread_only(cache, error):
    gate = threading.Event()

    def load():
        assert gate.wait(30)
        raise error

    first = Work(lambda: cache.get_or_load("a", load))
    until(lambda: waiters(cache) == 1)
    second = Work(lambda: cache.get_or_load("a", load))
    until(lambda: waiters(cache) == 2)
    gate.set()

    with pytest.raises(error):
        first.result()
    with pytest.raises(LoadCancelled, match=error.__name__):
        second.result()
    assert cache.get_or_load("a", lambda: 5) == 5  # the loop is well
    assert cache.runtime.loop.is_running()


def test_a_loader_past_its_deadline_holds_up_its_own_thread_only():
    gate = threading.Event()

    def hang():
        assert gate.wait(30)
        return "late"

    with configured(hard_deadline="50ms") as cache:
        first = Work(lambda: cache.get_or_load("a", hang))
        until(lambda: waiters(cache) == 1)
        second = Work(lambda: cache.get_or_load("a", hang))
        with pytest.raises(LoadTimeout):
            second.result()
        assert first.thread.is_alive()
        assert cache.get_or_load("a", lambda: "fresh") == "fresh"
        gate.set()
        with pytest.raises(LoadTimeout):
            first.result()
        assert cache.get("a") == "fresh"


def test_an_async_loader_past_its_deadline():
    with configured(hard_deadline="20ms") as cache, pytest.raises(LoadTimeout):
        cache.get_or_load("a", lambda: asyncio.sleep(3600))


def test_closing_ends_a_load_that_is_waited_for():
    cache = Cache().sync
    waiting = Work(lambda: cache.get_or_load("a", lambda: asyncio.sleep(3600)))
    until(lambda: waiters(cache) == 1)
    cache.close()
    with pytest.raises(CacheError):
        waiting.result()


def test_a_load_whose_starter_was_interrupted_goes_on_for_the_others(cache):
    """The starter's wait is cancelled before its loader began: another thread runs it."""
    claiming, gate = threading.Event(), threading.Event()
    ran_in: list[str] = []
    loop = cache.runtime.loop
    flying = cache.runtime.loads._flying
    claim = flying._claim

    async def held(*args):
        claiming.set()
        await loop.run_in_executor(None, gate.wait, 30)
        return await claim(*args)

    flying._claim = held

    def load():
        ran_in.append(threading.current_thread().name)
        return "value"

    starter = Work(lambda: cache.get_or_load("a", load))
    assert claiming.wait(30)
    joined = Work(lambda: cache.get_or_load("a", load))
    until(lambda: waiters(cache) == 2)
    waiting = {
        int(task.get_name().rpartition("-")[2]): task
        for task in asyncio.all_tasks(loop)
        if re.search(r"Access\.load|load_Access", repr(task.get_coro()))
    }
    loop.call_soon_threadsafe(waiting[min(waiting)].cancel)
    until(lambda: waiters(cache) == 1)
    with pytest.raises(WrongLoop, match="cancelled this call"):
        starter.result()
    gate.set()
    assert joined.result() == "value"
    assert ran_in == ["clusterdb-cache-loader"]


def test_a_loader_that_loads_its_own_key(cache):
    def load():
        return cache.get_or_load("a", load)

    with pytest.raises(ReentrantLoad) as caught:
        cache.get_or_load("a", load)
    assert caught.value.chain == ("a", "a")


def test_two_threads_whose_loaders_wait_for_each_other(cache):
    both = threading.Barrier(2)

    def load(other):
        both.wait(30)
        return cache.get_or_load(other, lambda: pytest.fail("it is being loaded"))

    works = [
        Work(lambda: cache.get_or_load("a", lambda: load("b"))),
        Work(lambda: cache.get_or_load("b", lambda: load("a"))),
    ]
    for work in works:
        with pytest.raises(ReentrantLoad):
            work.result()


def test_a_loader_may_load_other_keys_through_both_doors(cache):
    def load(depth):
        return (
            depth if not depth else 1 + cache.get_or_load(str(depth - 1), lambda: load(depth - 1))
        )

    async def outer():
        return await cache.face.get_or_load("inner", lambda: 5)

    assert cache.get_or_load("20", lambda: load(20)) == 20
    assert cache.get_or_load("outer", outer) == 5


def test_what_was_invalidated_while_it_was_loaded_is_not_stored(cache):
    def load():
        cache.invalidate("a")
        return "old"

    assert cache.get_or_load("a", load) == "old"
    assert not cache.exists("a")


def test_a_coroutine_that_comes_after_the_loop_was_closed_is_dropped(recwarn):
    """A thread outlives the loop it works for; what it gives is closed, not left unawaited."""
    loop = asyncio.new_event_loop()
    future = loop.create_future()
    loop.close()
    made = []

    def load():
        made.append(asyncio.sleep(3600))
        return made[0]

    call_for(loop, future, copy_context(), load)
    assert inspect.getcoroutinestate(made[0]) == inspect.CORO_CLOSED
