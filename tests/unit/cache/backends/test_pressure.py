"""The memory budget: its steps, and that they end."""

import pytest

from clusterdb.cache import Cache, CacheConfig, Memory, OutOfMemory
from clusterdb.cache.backends.memory import MemoryBackend
from clusterdb.cache.backends.pressure import Pressure, resident_memory
from clusterdb.cache.testing import ManualClock


class Gauge:
    used: int | None = 0

    def __call__(self) -> int | None:
        return self.used


async def test_the_cache_gives_way_before_it_fails():
    gauge = Gauge()
    backend = MemoryBackend(ManualClock(), 1000)
    backend.pressure = Pressure(1000, gauge)
    async with Cache(backend=backend, clock=ManualClock()) as cache:
        await cache.set_many({str(number): number for number in range(100)})

        gauge.used = 900
        backend.relieve()
        await cache.set("new", 1)
        await cache.set("1", "changed")
        assert await cache.get("new") is None
        assert await cache.get("1") == "changed"
        health = (await backend.describe()).problems
        assert health == (
            "the process holds 90% of max_process_memory 1000 bytes: nothing new is kept",
        )

        gauge.used = 950
        backend.relieve()
        assert (await cache.get_statistics()).total.evictions == 5

        gauge.used = 1000
        backend.relieve()
        with pytest.raises(OutOfMemory) as raised:
            await cache.set("1", "again")
        assert raised.value.solution.startswith("increase max_process_memory, or evict")
        assert await cache.get("1") == "changed"

        gauge.used = 800
        backend.relieve()
        await cache.set("new", 1)
        assert await cache.get("new") == 1
        assert (await cache.get_statistics()).total.refused_by_memory == 1
        assert (await backend.describe()).problems == ()


async def test_a_loaded_value_is_returned_when_memory_is_out():
    gauge = Gauge()
    backend = MemoryBackend(ManualClock(), 1000)
    backend.pressure = Pressure(1000, gauge)
    async with Cache(backend=backend, clock=ManualClock()) as cache:
        gauge.used = 900
        backend.relieve()
        assert await cache.get_or_load("k", lambda: "loaded") == "loaded"


def test_the_resident_memory_is_that_of_this_process():
    used = resident_memory()
    if used is None:
        pytest.skip("this system does not tell a process's memory")
    block = bytearray(64 * 2**20)
    block[::4096] = b"x" * len(block[::4096])

    assert (resident_memory() or 0) > used + 32 * 2**20


def test_the_budget_is_configured():
    config = CacheConfig.from_yaml_text("cache: {backend: {type: memory, max_process_memory: 2GB}}")

    assert config.backend == Memory(max_process_memory="2GB")
    assert isinstance(config.backend, Memory)
    assert config.backend.max_process_memory == 2_000_000_000
