"""Loads and the life of a cache: closing it, several loops, forks, the end of the interpreter."""

import asyncio
import gc
import os
import subprocess
import sys
import threading
from contextlib import suppress

import pytest
from tests.loads.backends import Twin
from tests.loads.callers import Gate, configured, settle

from clusterdb.cache import Cache, CacheClosed, CacheConfig, CacheRegion, WrongLoop
from clusterdb.cache.backends.memory import MemoryBackend
from clusterdb.cache.batch import BatchOperation
from clusterdb.cache.claims import Claim
from clusterdb.cache.clock import SystemClock

# -- closing


async def test_who_waits_at_the_close_is_told():
    gate = Gate()
    cache = Cache()
    callers = [asyncio.create_task(cache.get_or_load("a", gate)) for _ in range(3)]
    await gate.began.wait()
    await settle()
    await cache.aclose()
    errors = await asyncio.gather(*callers, return_exceptions=True)
    assert [type(error) for error in errors] == [CacheClosed] * 3
    assert gate.cancelled == 1


async def test_a_close_does_not_wait_for_a_thread():
    entered, leave = threading.Event(), threading.Event()

    def load():
        entered.set()
        leave.wait()

    cache = Cache()
    caller = asyncio.create_task(cache.get_or_load("a", load))
    await asyncio.to_thread(entered.wait)
    await cache.aclose()
    with pytest.raises(CacheClosed):
        await caller
    leave.set()


async def scan_all(cache):
    return [key async for key in cache.scan("*")]


OPERATIONS = {
    "get of a hit": lambda cache: cache.get("a"),
    "get of a miss": lambda cache: cache.get("b"),
    "get_many": lambda cache: cache.get_many(["a"]),
    "lookup": lambda cache: cache.lookup("a"),
    "exists": lambda cache: cache.exists("a"),
    "set": lambda cache: cache.set("a", 1),
    "set_many": lambda cache: cache.set_many({"a": 1}),
    "delete": lambda cache: cache.delete("a"),
    "delete_many": lambda cache: cache.delete_many(["a"]),
    "touch": lambda cache: cache.touch("a", 5),
    "increment": lambda cache: cache.increment("n"),
    "clear": lambda cache: cache.clear(),
    "batch": lambda cache: cache.batch().set("a", 1).execute(),
    "execute_batch": lambda cache: cache.execute_batch(BatchOperation().set("a", 1)),
    "atomic": lambda cache: cache.atomic().set("a", 1).execute(),
    "invalidate": lambda cache: cache.invalidate("a"),
    "invalidate_tag": lambda cache: cache.invalidate_tag("t"),
    "get_or_load of a hit": lambda cache: cache.get_or_load("a", lambda: 1),
    "get_or_load of a miss": lambda cache: cache.get_or_load("b", lambda: 1),
    "get_or_load_many": lambda cache: cache.get_or_load_many(["a"], lambda keys: {}),
    "scan": scan_all,
    "statistics": lambda cache: cache.get_statistics(),
    "start": lambda cache: cache.start(),
    "create_region": lambda cache: cache.create_region(CacheRegion("new")),
    "configure": lambda cache: cache.configure(CacheConfig()),
    "a region": lambda cache: cache.region("default").get("a"),
}


@pytest.mark.parametrize("name", list(OPERATIONS))
async def test_a_closed_cache_says_so_to(name):
    cache = Cache()
    await cache.set("a", 1)
    assert await cache.get("a") == 1
    await cache.aclose()
    await cache.aclose()
    with pytest.raises(CacheClosed):
        await OPERATIONS[name](cache)


async def test_a_hit_after_a_close_and_a_change_of_settings_says_so():
    cache = Cache()
    await cache.set("a", 1)
    await cache.aclose()
    with suppress(CacheClosed):
        await cache.configure(CacheConfig())
    with pytest.raises(CacheClosed):
        await cache.get("a")


async def test_a_close_while_opening_leaves_nothing_running():
    cache = Cache()
    caller = asyncio.create_task(cache.get_or_load("a", lambda: 5))
    await asyncio.sleep(0)
    await cache.aclose()
    [error] = await asyncio.gather(caller, return_exceptions=True)
    assert isinstance(error, CacheClosed)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_caller_whose_read_is_under_way_at_the_close_does_not_load():
    reading, read_on = asyncio.Event(), asyncio.Event()

    async def hook(point: str) -> None:
        if point == "before-read":
            reading.set()
            await read_on.wait()

    gate = Gate()
    gate.open()
    cache = configured(Twin(SystemClock(), hook))
    caller = asyncio.create_task(cache.get_or_load("a", gate))
    await reading.wait()
    await cache.aclose()
    read_on.set()
    with pytest.raises(CacheClosed):
        await caller
    assert not gate.calls


class Stubborn:
    """A loader that ends only when it is told to."""

    def __init__(self):
        self.leave = asyncio.Event()

    async def __call__(self):
        while not self.leave.is_set():
            with suppress(asyncio.CancelledError):
                await self.leave.wait()


async def test_a_second_close_returns_when_all_is_closed():
    stubborn, backend = Stubborn(), MemoryBackend(SystemClock())
    cache = Cache(backend=backend)
    caller = asyncio.create_task(cache.get_or_load("a", stubborn))
    await settle()
    first = asyncio.create_task(cache.aclose())
    await settle()
    second = asyncio.create_task(cache.aclose())
    await settle()
    early = second.done() and backend._sweeper is not None
    stubborn.leave.set()
    await asyncio.gather(first, second, caller, return_exceptions=True)
    assert not early


async def test_a_cancelled_close_can_be_repeated():
    stubborn, backend = Stubborn(), MemoryBackend(SystemClock())
    cache = Cache(backend=backend)
    caller = asyncio.create_task(cache.get_or_load("a", stubborn))
    await settle()
    first = asyncio.create_task(cache.aclose())
    await settle()
    first.cancel()
    await asyncio.wait({first})
    stubborn.leave.set()
    await asyncio.gather(caller, return_exceptions=True)
    await cache.aclose()
    left = backend._sweeper
    await backend.aclose()
    assert left is None


async def test_an_unclosed_cache_is_a_warning():
    backend = MemoryBackend(SystemClock())
    cache = Cache(backend=backend)
    await cache.set("a", 1)
    sweeper = backend._sweeper
    assert sweeper is not None
    with pytest.warns(ResourceWarning, match="never closed"):
        cache.__del__()
    await cache.aclose()
    assert sweeper.done()


async def test_a_cache_never_used_is_no_warning():
    Cache()
    gc.collect()


# -- loops


def test_one_loop_after_another_keeps_the_contents():
    cache = Cache()

    async def first():
        await cache.set("a", 1)
        load = asyncio.create_task(cache.get_or_load("b", Gate()))
        await settle()
        assert not load.done()  # it dies with its loop, and its claim with it

    async def second():
        assert await cache.get("a") == 1
        assert await cache.get_or_load("b", lambda: 2) == 2
        await cache.aclose()

    asyncio.run(first())
    asyncio.run(second())


def test_a_claim_of_a_loop_that_was_stopped_dead_is_no_claim():
    cache = Cache()
    asyncio.run(cache.start())
    table = cache._runtime.backend.table("default")
    assert table is not None
    assert isinstance(table.claim("b", (), 0.0), Claim)

    async def second():
        assert await cache.get_or_load("b", lambda: 2) == 2
        await cache.aclose()

    asyncio.run(second())


@pytest.mark.parametrize("call", ["get", "set", "get_or_load", "aclose"])
async def test_a_second_running_loop_is_refused(call):
    calls = {
        "get": lambda cache: cache.get("b"),
        "set": lambda cache: cache.set("a", 2),
        "get_or_load": lambda cache: cache.get_or_load("b", lambda: 5),
        "aclose": Cache.aclose,
    }
    errors = []
    cache = Cache()

    def other():
        try:
            asyncio.run(calls[call](cache))
        except Exception as error:  # noqa: BLE001 - handed to the test
            errors.append(error)

    async with cache:
        await cache.set("a", 1)
        await cache.get_or_load("c", lambda: 5)
        thread = threading.Thread(target=other, daemon=True)
        thread.start()
        thread.join(0.3)  # our loop need not turn for a refusal
        assert [type(error) for error in errors] == [WrongLoop]
        assert await cache.get("a") == 1


# -- forks

FORK = """
import asyncio, os, sys, threading, warnings
from clusterdb.cache import Cache

warnings.filterwarnings("ignore", ".*fork.*")  # newer Pythons warn of threads

cache = Cache()
parent = os.getpid()

async def before():
    await cache.set("a", 1, tags=("t",))
    claimed = asyncio.create_task(cache.get_or_load("b", asyncio.Event().wait))
    for _ in range(10):
        await asyncio.sleep(0)
    return fork()

def fork():
    lock = cache._runtime.backend._guard
    if sys.argv[1] == "held":
        entered = threading.Event()
        leave = threading.Event()
        def hold():
            with lock:
                entered.set()
                leave.wait(0.1)
        threading.Thread(target=hold).start()
        entered.wait()
    return os.fork()

async def child():
    assert await cache.get("a") == 1
    assert await cache.get_or_load("b", lambda: 2) == 2
    assert await cache.invalidate_tag("t") == 1
    assert await cache.get("a") is None
    await cache.aclose()

async def after():
    assert await cache.get("a") == 1
    assert await cache.get("b") is None
    assert await cache.get_or_load("b", lambda: 3) == 3
    await cache.aclose()

pid = asyncio.run(before()) if sys.argv[2] == "inside" else None
if pid is None:
    asyncio.run(cache.set("a", 1, tags=("t",)))
    pid = fork()
if pid == 0:
    asyncio.run(child())
    os._exit(0)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
assert status == 0, status
asyncio.run(after())
print("done")
"""


def run(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.parametrize("lock", ["free", "held"])
@pytest.mark.parametrize("where", ["inside", "outside"])
def test_a_child_has_a_cache_of_its_own(lock, where):
    run(FORK, lock, where)


# -- the end of the interpreter

LOADING = """
import asyncio, threading
from clusterdb.cache import Cache, CacheConfig, CacheRegion, LoadConfig

started = threading.Event()
cache = Cache(CacheConfig(regions=(
    CacheRegion("default", loads=LoadConfig(hard_deadline=DEADLINE)),
)))

def hang():
    started.set()
    threading.Event().wait()

async def main():
    load = asyncio.create_task(cache.get_or_load("a", hang))
    await asyncio.to_thread(started.wait)
    END
    print("done")

asyncio.run(main())
"""

ENDS = {
    "with the load running": ("None", "pass"),
    "past the deadline": (
        "'10ms'",
        "await asyncio.wait({load}); assert isinstance(load.exception(), TimeoutError)",
    ),
    "closed": ("None", "await cache.aclose(); await asyncio.wait({load}); load.exception()"),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_thread_that_hangs_does_not_hold_up_the_interpreter(end):
    deadline, last = ENDS[end]
    script = LOADING.replace("DEADLINE", deadline).replace("END", last)
    quiet = "import warnings; warnings.simplefilter('ignore', ResourceWarning)\n"
    run(quiet + script)


def test_an_open_cache_is_named_at_the_end_and_holds_up_nothing():
    script = """
import asyncio
from clusterdb.cache import Cache

async def main():
    cache = Cache()
    await cache.set("a", 1)

asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "ResourceWarning: cache 'main' was never closed" in done.stderr
    assert "Traceback" not in done.stderr
