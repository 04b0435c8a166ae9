"""A loader that waits for itself is told so, by whatever way, instead of waiting for ever."""

import asyncio

import pytest
from tests.loads.callers import configured, settle

from clusterdb.cache import CacheRegion, ReentrantLoad
from clusterdb.cache.loading.flight import CHAIN


@pytest.fixture
async def cache():
    async with configured(loads={"hard_deadline": None}) as cache:
        yield cache


async def test_on_the_same_key(cache):
    async def load():
        return await cache.get_or_load("a", load)

    with pytest.raises(ReentrantLoad) as caught:
        await cache.get_or_load("a", load)
    assert caught.value.chain == ("a", "a")


async def test_through_two_keys(cache):
    async def outer():
        return await cache.get_or_load("b", inner)

    async def inner():
        return await cache.get_or_load("a", outer)

    with pytest.raises(ReentrantLoad) as caught:
        await cache.get_or_load("a", outer)
    assert caught.value.chain == ("a", "b", "a")


async def test_in_a_call_of_many(cache):
    async def load(keys):
        return await cache.get_or_load_many(["c", "b"], load)

    with pytest.raises(ReentrantLoad):
        await cache.get_or_load_many(["a", "b"], load)


async def test_of_two_that_were_started_apart_and_wait_for_each_other(cache):
    began = asyncio.Barrier(2)

    async def first():
        await began.wait()
        return await cache.get_or_load("b", second)

    async def second():
        await began.wait()
        return await cache.get_or_load("a", first)

    calls = [cache.get_or_load("a", first), cache.get_or_load("b", second)]
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in errors] == [ReentrantLoad] * 2


async def test_from_a_thread(cache):
    loop = asyncio.get_running_loop()

    def load():
        return asyncio.run_coroutine_threadsafe(cache.get_or_load("a", load), loop).result()

    with pytest.raises(ReentrantLoad):
        await cache.get_or_load("a", load)


async def test_when_one_of_two_waits_was_given_up(cache):
    """A loader waits twice for another key; one wait is cancelled, the other still stands."""
    began = asyncio.Barrier(2)

    async def first():
        await began.wait()
        waits = [asyncio.create_task(cache.get_or_load("b", second)) for _ in range(2)]
        await settle()
        waits[0].cancel()
        await asyncio.wait({waits[0]})
        given_up.set()
        return await waits[1]

    async def second():
        await began.wait()
        await given_up.wait()
        return await cache.get_or_load("a", first)

    given_up = asyncio.Event()
    calls = [
        asyncio.create_task(cache.get_or_load("a", first)),
        asyncio.create_task(cache.get_or_load("b", second)),
    ]
    done, pending = await asyncio.wait(calls, timeout=0.5)
    for call in pending:
        call.cancel()
    assert not pending
    assert {type(call.exception()) for call in done} == {ReentrantLoad}


async def test_that_invalidates_its_own_key_first(cache):
    depth = 0

    async def load():
        nonlocal depth
        depth += 1
        if depth > 50:
            raise RecursionError
        await cache.invalidate("a")
        return await cache.get_or_load("a", load)

    with pytest.raises(ReentrantLoad):
        await cache.get_or_load("a", load)


async def test_is_not_a_loader_that_loads_other_keys(cache):
    async def load(*, number=5):
        if not number:
            return 0
        return 1 + await cache.get_or_load(str(number), lambda: load(number=number - 1))

    assert await cache.get_or_load("start", load) == 5


async def test_is_not_a_task_that_outlives_its_loader(cache):
    later = []

    async def refresh():
        await released.wait()
        return await cache.get_or_load("a", lambda: "again")

    async def load():
        later.append(asyncio.create_task(refresh()))
        return "value"

    released = asyncio.Event()
    assert await cache.get_or_load("a", load) == "value"
    await cache.invalidate("a")
    released.set()
    assert await later[0] == "again"


async def test_is_not_the_same_key_of_another_region(cache):
    other = await cache.create_region(CacheRegion("other"))

    async def load():
        return await other.get_or_load("a", lambda: 5)

    assert await cache.get_or_load("a", load) == 5


async def test_is_not_remembered_for_loads_that_ended(cache):
    """Each loader starts a task that loads the next key, and does not wait for it."""
    lengths: list[int] = []
    ended = asyncio.Event()
    tasks = []

    def loader(number):
        async def load():
            lengths.append(len(CHAIN.get()))
            if number:
                tasks.append(asyncio.create_task(prefetch(number - 1)))
            else:
                ended.set()

        return load

    async def prefetch(number):
        await settle()
        return await cache.get_or_load(str(number), loader(number))

    await prefetch(20)
    await ended.wait()
    await asyncio.gather(*tasks)
    assert lengths == [1] * 21
