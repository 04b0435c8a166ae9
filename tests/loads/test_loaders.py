"""Every shape of loader, and what a context lets it do."""

import asyncio
import functools
import gc
import threading
from contextvars import ContextVar
from typing import Any

import pytest
from tests.loads.callers import configured, settle

from clusterdb.cache import MISSING, InvalidArgument, LoadContext, Stale

REQUEST: ContextVar[str] = ContextVar("request")


async def answer() -> int:
    await asyncio.sleep(0)
    return 42


async def wait_for(given):
    return await given


class Callable:
    def __init__(self, value):
        self.value = value

    def __call__(self):
        return self.value


class AsyncCallable(Callable):
    async def __call__(self):
        return self.value

    async def method(self):
        return self.value


async def with_default(context: LoadContext, limit: int = 1) -> int:
    return 42


LOADERS = {
    "coroutine function": answer,
    "lambda that gives a coroutine": lambda: wait_for(answer()),
    "plain lambda": lambda: 42,
    "partial of a coroutine function": functools.partial(AsyncCallable.__call__, AsyncCallable(42)),
    "partial of a function": functools.partial(int, "42"),
    "partial of a partial": functools.partial(functools.partial(int), "42"),
    "object": Callable(42),
    "object with an async call": AsyncCallable(42),
    "bound method": AsyncCallable(42).method,
    "context and a default": with_default,
    "lambda with a context": lambda context: 42,
    "built-in": functools.partial(max, 41, 42),
}


@pytest.mark.parametrize("loader", LOADERS.values(), ids=LOADERS)
async def test_a_loader_may_be_a(cache, loader):
    assert await cache.get_or_load("a", loader) == 42
    assert await cache.get("a") == 42


async def test_a_plain_loader_runs_in_a_thread_with_the_callers_context(cache):
    seen = []

    def load():
        seen.append((REQUEST.get(), threading.current_thread(), threading.current_thread().daemon))

    REQUEST.set("r1")
    await cache.get_or_load("a", load)
    [(request, thread, daemon)] = seen
    assert (request, daemon) == ("r1", True)
    assert thread is not threading.current_thread()


async def test_an_async_loader_has_the_callers_context(cache):
    async def load():
        return REQUEST.get()

    REQUEST.set("r2")
    assert await cache.get_or_load("a", load) == "r2"


async def test_a_context_shapes_what_is_stored(cache):
    async def load(context: LoadContext) -> str:
        assert (context.key, context.keys, context.stale) == ("a", ("a",), None)
        context.ttl = "1h"
        context.add_tags("learnt")
        return "value"

    assert await cache.get_or_load("a", load, tags=("given",)) == "value"
    hit = await cache.lookup("a")
    assert hit.tags == ("given", "learnt")
    assert 3590 < hit.expires_in <= 3600
    assert await cache.invalidate_tag("learnt") == 1
    assert await cache.get("a", MISSING) is MISSING


async def test_a_skipped_value_is_given_and_not_stored(cache):
    async def load(context: LoadContext) -> str:
        context.skip()
        return "value"

    assert await cache.get_or_load("a", load) == "value"
    assert await cache.get("a", MISSING) is MISSING


async def test_a_context_has_the_stale_entry():
    seen: list[Stale[Any] | None] = []

    async def load(context: LoadContext) -> str:
        seen.append(context.stale)
        return "new"

    async with configured(grace="1h") as cache:
        await cache.set("a", "old", ttl=1e-6)
        assert await cache.get_or_load("a", load) == "new"
        assert seen[0] is not None
        assert seen[0].value == "old"
        await cache.set("a", "old", ttl=1e-6)
        await cache.invalidate("a")
        assert await cache.get_or_load("a", load) == "new"
        assert seen[1] is None


def numbers():
    yield 1


async def async_numbers():
    yield 1


def give(function):
    return function()


@pytest.mark.parametrize(
    "loader", [numbers, async_numbers, lambda: give(numbers), lambda: give(async_numbers), 5, None]
)
async def test_it_can_not_be(cache, loader):
    with pytest.raises(InvalidArgument):
        await cache.get_or_load("a", loader)
    assert await cache.get("a", MISSING) is MISSING


@pytest.mark.parametrize("answers", [5, ["a"], {"other": 1}])
async def test_a_loader_of_many_gives_a_mapping_of_what_was_asked(cache, answers):
    with pytest.raises(InvalidArgument):
        await cache.get_or_load_many(["a"], lambda keys: answers)
    assert await cache.get_or_load_many(["a"], lambda keys, context: {"a": context.key}) == {
        "a": "a"
    }


@pytest.mark.parametrize("ttl", [0, -1, "never"])
async def test_a_bad_ttl_from_a_loader_is_refused(cache, ttl):
    def load(context: LoadContext) -> int:
        context.ttl = ttl
        return 5

    with pytest.raises(InvalidArgument):
        await cache.get_or_load("a", load)
    assert await cache.get_or_load("a", lambda: 6) == 6


async def test_stop_iteration_does_not_get_lost(cache):
    def load():
        raise StopIteration(5)

    with pytest.raises(RuntimeError, match="StopIteration"):
        await cache.get_or_load("a", load)


async def test_a_cancelled_call_leaves_no_coroutine_behind(cache):
    """A lambda in a thread gives its coroutine when nobody waits for it any more."""
    entered, leave = threading.Event(), threading.Event()

    def load():
        entered.set()
        leave.wait()
        return answer()

    caller = asyncio.create_task(cache.get_or_load("a", load))
    await asyncio.to_thread(entered.wait)
    caller.cancel()
    await asyncio.wait({caller})
    leave.set()
    for thread in threading.enumerate():
        if thread.name == "clusterdb-cache-loader":
            await asyncio.to_thread(thread.join)
    await settle()
    gc.collect()


async def test_threads_are_bounded():
    running, most, lock = 0, 0, threading.Lock()
    full, release = threading.Event(), threading.Event()

    def load():
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            if running == 3:
                full.set()
        release.wait()
        with lock:
            running -= 1

    async with configured(loads={"max_concurrent_loads": 3}) as cache:
        callers = [asyncio.create_task(cache.get_or_load(str(n), load)) for n in range(20)]
        await asyncio.to_thread(full.wait)
        await settle()
        release.set()
        await asyncio.gather(*callers)
    assert most == 3
