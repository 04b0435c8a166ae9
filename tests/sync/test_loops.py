"""The sync door of a cache that lives in somebody's event loop."""

import asyncio
import threading

import pytest

from clusterdb.cache import Cache, CacheRegion, WrongLoop


async def test_worker_threads_use_the_loop_the_cache_lives_in():
    async with Cache() as cache:
        here = asyncio.get_running_loop()

        async def load():
            return asyncio.get_running_loop() is here

        def work():
            cache.sync.set("a", 1)
            keys = list(cache.sync.scan())
            return cache.sync.get("a"), keys, cache.sync.get_or_load("b", load)

        assert await asyncio.to_thread(work) == (1, ["a"], True)
        assert await cache.get("a") == 1


async def test_a_worker_threads_loader_runs_in_that_thread_and_a_task_shares_its_load():
    async with Cache() as cache:
        began, gate = threading.Event(), threading.Event()

        def load():
            began.set()
            assert gate.wait(30)
            return threading.get_ident()

        def work():
            return cache.sync.get_or_load("a", load), threading.get_ident()

        working = asyncio.create_task(asyncio.to_thread(work))
        await asyncio.to_thread(began.wait, 30)
        joining: asyncio.Task[int] = asyncio.create_task(
            cache.get_or_load("a", lambda: pytest.fail("it is loading"))
        )
        await asyncio.sleep(0)
        gate.set()
        loaded, thread = await working
        assert loaded == thread == await joining


async def test_inside_a_loop_hits_are_answered():
    async with Cache() as cache:
        await cache.set("a", 1)

        assert cache.sync.get("a") == 1
        assert cache.sync.get("a", type=int) == 1
        assert cache.region("default", type=int).sync.get("a") == 1
        assert cache.sync.get_or_load("a", lambda: pytest.fail("it is there")) == 1
        assert cache.region("default", type=int).sync.get_or_load("a", int) == 1


CALLS = {
    "get": lambda cache: cache.get("x"),
    "get_or_load": lambda cache: cache.get_or_load("x", int),
    "get_or_load_many": lambda cache: cache.get_or_load_many(["x"], dict),
    "set": lambda cache: cache.set("x", 1),
    "scan": lambda cache: list(cache.scan()),
    "create_region": lambda cache: cache.create_region(CacheRegion("r")),
    "batch": lambda cache: cache.batch().set("x", 1).execute(),
    "atomic": lambda cache: cache.atomic().set("x", 1).execute(),
    "subscribe": lambda cache: cache.subscribe().__enter__(),
    "start": lambda cache: cache.start(),
    "close": lambda cache: cache.close(),
    "invalidate_tag": lambda cache: cache.invalidate_tag("t"),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_inside_a_loop_anything_else_is_refused_with_advice(call):
    async with Cache() as cache:
        with pytest.raises(WrongLoop, match=r"without \.sync, with await"):
            call(cache.sync)
        assert not await cache.exists("x")


def test_inside_a_loader_that_runs_in_the_background_loop(cache):
    async def load():
        return cache.get("other")

    with pytest.raises(WrongLoop, match="with await"):
        cache.get_or_load("a", load)
    assert cache.get_or_load("b", lambda: 5) == 5


def test_a_cache_that_was_used_in_loops_that_ended():
    cache = Cache()

    async def use(value):
        await cache.set("a", value)
        return await asyncio.to_thread(cache.sync.get, "a")

    assert [asyncio.run(use(value)) for value in (1, 2)] == [1, 2]
    assert cache.sync.get("a") == 2
    cache.sync.close()


def test_a_loop_that_ends_lets_the_waiting_thread_go():
    cache = Cache()
    outcome = []
    began = threading.Event()

    async def hang():
        began.set()
        await asyncio.Event().wait()

    def work():
        try:
            cache.sync.get_or_load("a", hang)
        except WrongLoop as error:
            outcome.append(str(error))

    thread = threading.Thread(target=work)

    async def main():
        await cache.start()
        thread.start()
        await asyncio.to_thread(began.wait, 30)

    asyncio.run(main())
    thread.join(30)
    assert outcome == ["the event loop this cache lives in is ending, and cancelled this call"]
    cache.sync.close()


def test_a_loop_that_stands_still_is_noticed(monkeypatch):
    monkeypatch.setattr("clusterdb.cache.portal._LOOK_EVERY", 0.01)
    cache = Cache()
    with asyncio.Runner() as runner:
        runner.run(cache.start())
        cache.sync.set("a", 1)  # needs no loop
        with pytest.raises(WrongLoop, match="stopped"):
            cache.sync.get_or_load("b", int)
        assert runner.run(cache.get("a")) == 1
        runner.run(cache.aclose())


def test_two_caches_share_the_background_loop(cache):
    with Cache().sync as other:
        assert other.runtime.loop is cache.runtime.loop
        assert cache.get_or_load("a", lambda: other.get_or_load("a", lambda: 5)) == 5
