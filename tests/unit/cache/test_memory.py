"""The embedded backend beside its contract: weights, sweeps, forks, its validator."""

import asyncio
import os
import threading
from typing import Any

import pytest

from clusterdb.cache.backends.memory import MemoryBackend
from clusterdb.cache.claims import Claim
from clusterdb.cache.errors import InvalidArgument
from clusterdb.cache.protocols import Add, Backend, Drop, Put, Written
from clusterdb.cache.testing import BrokenStructure, ManualClock, validate_backend
from clusterdb.cache.testing.conformance import MAIN, OTHER, region_settings


def make(clock: ManualClock | None = None, **settings: Any) -> MemoryBackend:
    backend = MemoryBackend(clock or ManualClock())
    names = (MAIN, OTHER)
    backend.configure({name: region_settings(name, **settings) for name in names})
    return backend


async def write(backend: Backend, *changes) -> list:
    return await backend.write(MAIN, changes)


async def weight(backend: Backend) -> int:
    found = (await backend.describe()).regions[MAIN].weight
    assert found is not None
    return found


def test_it_fulfils_the_protocol():
    backend: Backend = make()

    assert backend.kind == "memory"


async def test_nothing_is_weighed_without_a_limit():
    def weigher(key: str, value: object) -> int:
        raise AssertionError("weighed")

    backend = make(weigher=weigher)
    await write(backend, Put("k", "v"), Add("n", 1, 0, None))

    assert await weight(backend) == 0


async def test_the_estimate_weighs_where_no_weigher_is_given():
    backend = make(max_weight=10_000)
    await write(backend, Put("k", "x" * 1000))

    assert 1000 < await weight(backend) < 2000


@pytest.mark.parametrize("bad", [0, -1, 2**62 + 1, 2**63, True, 1.0, "1", None])
async def test_a_bad_weight_is_refused_and_named(bad):
    backend = make(max_weight=2**62, weigher=lambda _, value: value)
    await write(backend, Put("k", 5))
    [refused] = await write(backend, Put("k", bad))

    assert isinstance(refused, InvalidArgument)
    assert repr(bad) in str(refused)
    assert await weight(backend) == 5
    validate_backend(backend)


@pytest.mark.parametrize("bad", [0, 2**63])
async def test_a_new_weigher_that_gives_a_bad_weight_changes_nothing(bad):
    backend = make()
    await write(backend, Put("a", 1), Put("b", bad))
    settings = region_settings(MAIN, max_weight=10, weigher=lambda _, value: value)
    for _ in range(2):
        with pytest.raises(InvalidArgument):
            backend.configure({OTHER: region_settings(OTHER, max_items=1), MAIN: settings})
    await write(backend, Drop("b"))
    backend.configure({MAIN: settings})

    assert await weight(backend) == 1
    await backend.write(OTHER, [Put("a", 1), Put("b", 1)])
    assert (await backend.describe()).regions[OTHER].items == 2
    validate_backend(backend)


async def test_an_increment_weighs_the_sum():
    backend = make(max_weight=100, weigher=lambda _, value: int(value) + 1)
    await write(backend, Add("n", 5, 0, None))
    assert await weight(backend) == 6
    await write(backend, Add("n", 10, 0, None))

    assert await weight(backend) == 16


async def test_the_sweeper_gives_back_memory_without_a_call(monkeypatch):
    monkeypatch.setattr("clusterdb.cache.backends.memory._SWEEP_EVERY", 0.001)
    clock = ManualClock()
    backend = make(clock)
    await backend.open()
    try:
        await write(backend, *[Put(str(number), 1, 5) for number in range(2500)])
        clock.advance(7)
        async with asyncio.timeout(30):
            while (await backend.describe()).regions[MAIN].items:  # noqa: ASYNC110 - it is swept
                await asyncio.sleep(0)
    finally:
        await backend.aclose()

    assert (await backend.describe()).regions[MAIN].counters.expirations == 2500


async def test_a_sweep_is_bounded():
    clock = ManualClock()
    backend = make(clock)
    await write(backend, *[Put(str(number), 1, 5) for number in range(2500)])
    clock.advance(7)

    assert [backend.sweep() for _ in range(4)] == [1000, 1000, 500, 0]


async def test_opening_ends_the_claims_of_those_who_are_gone():
    backend = make()
    [claim] = await backend.claim(MAIN, ["k"], ("t",), 30)
    assert isinstance(claim, Claim)
    await backend.open()
    await backend.aclose()
    [outcome] = await backend.fill(MAIN, [(claim, Put("k", 1))])

    assert isinstance(outcome, Written)
    assert not outcome.applied
    assert (await backend.describe()).tags == 0


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_child_process_goes_on_with_what_was_there():
    backend = make()
    asyncio.run(write(backend, Put("k", "v", None, ("t",))))
    backend.fork("before")
    child = os.fork()
    if not child:
        status = 1
        try:
            backend.fork("child")
            [record] = asyncio.run(backend.read(MAIN, ["k"]))
            asyncio.run(write(backend, Put("k", "w")))
            validate_backend(backend)
            status = 0 if record is not None and record.value == "v" else 2
        finally:
            os._exit(status)
    backend.fork("parent")
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    [record] = asyncio.run(backend.read(MAIN, ["k"]))
    assert record is not None
    assert record.value == "v"


async def test_threads_may_write_beside_the_loop():
    backend = make(max_items=50)

    def work(name: str) -> None:
        for number in range(300):
            asyncio.run(write(backend, Put(f"{name}{number % 30}", number, None, ("t",))))

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (await backend.describe()).regions[MAIN].counters.sets == 1200
    validate_backend(backend)


async def test_the_validator_finds_lost_and_stray_tag_uses():
    for damage in ("lost", "stray", "unused", "dead"):
        backend = make()
        await write(backend, Put("k", 1, None, ("t",)))
        validate_backend(backend)
        [state] = backend._tags._states.values()
        if damage == "lost":
            state.uses -= 1
        elif damage == "stray":
            state.uses += 1
        elif damage == "unused":
            backend._tags.acquire(("nobody",))
        else:
            state.live = False
        with pytest.raises(BrokenStructure):
            validate_backend(backend)


async def test_the_validator_names_the_region():
    backend = make()
    await write(backend, Put("k", 1))
    backend._tables[MAIN]._residents.weight = 7

    with pytest.raises(BrokenStructure, match="region 'main': the weight is 7"):
        validate_backend(backend)
