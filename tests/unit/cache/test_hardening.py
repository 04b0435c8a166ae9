"""What an attacker of the in-process cache found, one test a finding."""

from __future__ import annotations

import asyncio
import enum
import gc
import os
import subprocess
import sys
import threading
from collections import deque
from typing import Annotated, Any, Protocol

import pytest

from clusterdb.cache import (
    Cache,
    CacheConfig,
    CacheRegion,
    ConfigError,
    InactiveSetting,
    InvalidArgument,
    ReentrantCall,
    SerializationConfig,
)
from clusterdb.cache.guard import Guard, TableLock
from clusterdb.cache.weigh import weigh


class Number(enum.IntEnum):
    ONE = 1


async def test_an_int_of_another_class_is_added_like_its_value():
    async with Cache() as cache:
        assert await cache.increment("n", Number.ONE, initial=Number.ONE) == 2
        assert await cache.increment("n", Number.ONE) == 3
        with pytest.raises(InvalidArgument, match="an int of 3322 bits"):
            await cache.increment("n", 10**1000)


async def test_a_cache_may_stand_in_front_of_another_with_the_same_keys():
    async with Cache() as first, Cache() as second:
        value = await first.get_or_load("k", lambda: second.get_or_load("k", lambda: 1))
        assert (value, await first.get("k"), await second.get("k")) == (1, 1, 1)


async def test_isolation_may_change_between_collecting_and_executing():
    async with Cache(CacheConfig(regions=(CacheRegion("r", isolation="check"),))) as cache:
        region = cache.region("r")
        change = region.atomic().set("k", [1, 2])
        await cache.configure_regions([CacheRegion("r", isolation="share")])
        assert await change.execute()
        assert await region.get("k") == [1, 2]


def test_a_change_by_a_finalizer_in_the_middle_of_a_change_is_refused():
    guard = Guard(TableLock())
    with guard, pytest.raises(ReentrantCall, match="finalizer or signal handler"), guard:
        pass
    with guard:
        assert guard.lock.locked()
    assert not guard.lock.locked()


@pytest.mark.process
def test_cyclic_garbage_with_a_finalizer_does_not_deadlock():
    code = """
import asyncio, gc
from clusterdb.cache import Cache
cache = Cache()
class Cyclic:
    def __init__(self): self.me = self
    def __del__(self):
        try: cache.delete("x").send(None)
        except (StopIteration, RuntimeError): pass
async def main():
    async with cache:
        for number in range(20_000):
            await cache.set(str(number), Cyclic(), tags=("t",))
            await cache.delete(str(number))
    print("done")
gc.set_threshold(10)
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


async def test_few_dead_entries_are_given_back_in_time():
    async with Cache() as cache:
        await cache.set_many({f"live{n}": n for n in range(5000)})
        await cache.set_many({f"dead{n}": n for n in range(10)}, tags=("t",))
        await cache.invalidate_tag("t")
        backend: Any = cache._runtime.backend
        backend.sweep()
        assert (await cache.get_statistics()).total.items == 5010
        backend.sweep(thorough=True)
        while backend.sweeping:
            backend.sweep()
        assert (await cache.get_statistics()).total.items == 5000
        await cache.clear()
        assert not backend.sweeping


class Slotted:
    __slots__ = ("__data",)

    def __init__(self, data: str) -> None:
        self.__data = data


class Lying(list[int]):
    def __len__(self) -> int:
        return 5


class Unsized:
    def __sizeof__(self) -> int:
        raise OSError("no size")


def test_weights_see_private_slots_and_deques_and_survive_liars():
    assert weigh("k", Slotted("x" * 1_000_000)) > 1_000_000
    assert weigh("k", deque(["x" * 1000] * 1000)) > 1_000_000
    assert weigh("k", Lying()) > 0


async def test_what_cannot_be_weighed_is_refused_and_harms_no_load():
    async with Cache(CacheConfig(regions=(CacheRegion("r", size="1MB"),))) as cache:
        region = cache.region("r")
        with pytest.raises(InvalidArgument, match="can't be weighed: no size"):
            await region.set("k", Unsized())
        assert isinstance(await region.get_or_load("k", Unsized), Unsized)
        assert (await cache.get_statistics()).total.lost_fills == 1


async def test_a_warning_that_is_an_error_changes_nothing():
    async with Cache() as cache:
        before = cache.config
        json = CacheConfig(serialization=SerializationConfig(format="json"))
        with pytest.raises(InactiveSetting):  # warnings are errors in these tests
            await cache.configure(json)
        assert cache.config == before


class Shape(Protocol):
    sides: int


@pytest.mark.parametrize("kind", [Any, Annotated[int, "x"], Shape, int | str, float])
async def test_types_that_need_a_closer_look_are_taken(kind):
    async with Cache() as cache:
        await cache.set("k", 1)
        assert await cache.get("k", type=kind) == 1


@pytest.mark.parametrize("kind", [Annotated[int, []], []])
async def test_what_is_no_type_is_refused_or_looked_through(kind):
    async with Cache() as cache:
        await cache.set("k", 1)
        with pytest.raises(InvalidArgument, match="is no type"):
            await cache.get("k", type=kind)


class Mute:
    def __repr__(self) -> str:
        raise RuntimeError("mute")


@pytest.mark.parametrize("key", [10**5000, Mute()], ids=["huge", "mute"])
async def test_messages_survive_what_they_are_about(key):
    async with Cache() as cache:
        with pytest.raises(InvalidArgument, match="a key is a str"):
            await cache.get(key)


async def test_a_str_is_no_collection_of_keys():
    async with Cache() as cache:
        for call in (
            cache.get_many("abc"),
            cache.delete_many("abc"),
            cache.get_or_load_many("abc", lambda keys: {}),
        ):
            with pytest.raises(InvalidArgument, match=r"write \['abc'\]"):
                await call


async def test_wrong_settings_say_what_is_meant():
    wrong: Any
    for wrong in ("cache.yaml", {"ttl": "1h"}):
        with pytest.raises(ConfigError, match="config is a CacheConfig"):
            Cache(wrong)
    async with Cache() as cache:
        wrong = "users"
        with pytest.raises(ConfigError, match="region is a CacheRegion"):
            await cache.create_region(wrong)
        wrong = [("a", 1)]
        with pytest.raises(InvalidArgument, match="takes a mapping"):
            await cache.set_many(wrong)
        wrong = {"ttl": 5}
        with pytest.raises(InvalidArgument, match="options is a SetOptions"):
            await cache.set("a", 1, options=wrong)
        wrong = "false"
        with pytest.raises(InvalidArgument, match="nx is True or False"):
            await cache.set("a", 1, nx=wrong)


async def test_an_event_from_another_thread_wakes_its_consumer():
    async with Cache() as cache, cache.subscribe() as events:
        await cache.set("warm", 1)
        await anext(events)
        waiting = asyncio.create_task(anext(events))
        await asyncio.sleep(0)

        def change() -> None:
            try:
                cache.set("k", 1).send(None)
            except StopIteration:
                return

        threading.Thread(target=change).start()
        async with asyncio.timeout(20):
            event: Any = await waiting
        assert event.key == "k"


async def test_a_dropped_cache_leaves_nothing_behind(monkeypatch):
    monkeypatch.setattr("clusterdb.cache.backends.memory._SWEEP_EVERY", 0.001)
    before = len(asyncio.all_tasks())
    cache = Cache()
    await cache.set("k", 1)
    with pytest.warns(ResourceWarning, match="never closed"):
        del cache
    gc.collect()
    async with asyncio.timeout(20):
        while len(asyncio.all_tasks()) > before:  # noqa: ASYNC110 - until its sweeper noticed
            await asyncio.sleep(0)


@pytest.mark.process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_threads_that_fork_leave_no_lock_held():
    code = """
import os, threading, time, warnings
from clusterdb.cache import Cache
warnings.filterwarnings("ignore")
caches = [Cache() for _ in range(3)]
end = time.monotonic() + 2
def forks():
    while time.monotonic() < end:
        pid = os.fork()
        if pid == 0: os._exit(0)
        os.waitpid(pid, 0)
def works(cache):
    while time.monotonic() < end:
        cache._state.table.put("k", 1, deadline=9e9, weight=1, now=0.0)
threads = [threading.Thread(target=forks) for _ in range(3)]
threads += [threading.Thread(target=works, args=(cache,)) for cache in caches]
for thread in threads: thread.start()
for thread in threads: thread.join(30)
assert not any(thread.is_alive() for thread in threads)
assert not any(cache._runtime.backend._lock.locked() for cache in caches)
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=90, check=False
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
