"""Circuit breakers round a backend that is away and round loaders that fail."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from clusterdb.cache import (
    BackendSuspended,
    BackendUnavailable,
    BreakerConfig,
    Cache,
    CacheConfig,
    CacheRegion,
    CircuitTurned,
    Disk,
    LoadConfig,
    LoaderSuspended,
)
from clusterdb.cache.backends.disk import DiskBackend
from clusterdb.cache.errors import ServerError
from clusterdb.cache.testing import FaultyBackend, ManualClock

BREAKER = BreakerConfig(failures=3, pause="5s")


def down() -> str:
    raise OSError("the origin is down")


# -- round the loaders


def guarded(clock: ManualClock, **loads: Any) -> Cache:
    loads = {"breaker": BREAKER} | loads
    region = CacheRegion("default", loads=LoadConfig(**loads))
    return Cache(CacheConfig(regions=(region, CacheRegion("other"))), clock=clock)


async def open_it(cache: Cache) -> None:
    for number in range(3):
        with pytest.raises(OSError, match="the origin"):
            await cache.get_or_load(f"k{number}", down)


async def test_loaders_that_fail_are_no_longer_called():
    clock = ManualClock()
    async with guarded(clock) as cache:
        await open_it(cache)
        clock.advance(1)
        with pytest.raises(LoaderSuspended, match=r"'default'.* 3 calls .* in 4 s") as raised:
            await cache.get_or_load("k", lambda: pytest.fail("called"))
        assert raised.value.retry_in == 4.0
        assert await cache.region("other").get_or_load("k", lambda: 1) == 1
        clock.advance(4)
        assert await cache.get_or_load("k", lambda: 2) == 2
        assert await cache.get_or_load("l", lambda: 3) == 3


async def test_it_is_seen_in_statistics_health_metrics_and_events():
    clock = ManualClock()
    async with guarded(clock) as cache, cache.subscribe(CircuitTurned) as events:
        assert (await cache.get_health()).status == "ok"
        await open_it(cache)
        with pytest.raises(LoaderSuspended):
            await cache.get_or_load("k", down)
        statistics = await cache.get_statistics()
        circuit = statistics.circuits["loads.default"]
        assert (circuit.state, circuit.opened, circuit.refused) == ("open", 1, 1)
        assert (circuit.in_row, circuit.retry_in) == (3, 5.0)
        assert statistics.regions["default"].refused_loads == 1
        assert statistics.regions["default"].loads == 3
        health = await cache.get_health()
        assert health.status == "degraded"
        assert "loads.default: the circuit breaker is open" in str(health)
        samples = {metric.name: metric.value for metric in await cache.get_metrics()}
        assert (samples["cache_circuit_open"], samples["cache_circuit_opened"]) == (1.0, 1.0)
        clock.advance(5)
        await cache.get_or_load("k", lambda: 1)
        assert (await cache.get_health()).status == "ok"
        told = [await anext(events) for _ in range(3)]
    states = [event.state for event in told if isinstance(event, CircuitTurned)]
    assert states == ["open", "half_open", "closed"]
    first = told[0]
    assert isinstance(first, CircuitTurned)
    assert (first.circuit, first.retry_in) == ("loads.default", 5.0)


async def test_old_values_are_given_while_it_is_open():
    clock = ManualClock()
    async with guarded(clock, stale_if_error="1h") as cache:
        await cache.set("a", "old", ttl=1)
        await open_it(cache)
        clock.advance(2)
        assert await cache.get_or_load("a", lambda: pytest.fail("called")) == "old"


async def test_being_refused_is_not_remembered_as_a_failure():
    """A negative window remembers the error of a loader; that of an open circuit it does not."""
    clock = ManualClock()
    async with guarded(clock, negative_ttl="1h") as cache:
        await open_it(cache)
        with pytest.raises(LoaderSuspended):
            await cache.get_or_load("k", down)
        clock.advance(5)
        assert await cache.get_or_load("k", lambda: 1) == 1


async def test_a_cancelled_probe_leaves_room_for_the_next():
    clock = ManualClock()
    async with guarded(clock) as cache:
        await open_it(cache)
        clock.advance(5)
        began = asyncio.Event()

        async def hang() -> None:
            began.set()
            await asyncio.Event().wait()

        caller = asyncio.create_task(cache.get_or_load("k", hang))
        await began.wait()
        with pytest.raises(LoaderSuspended, match="others are trying"):
            await cache.get_or_load("l", down)
        caller.cancel()
        await asyncio.wait({caller})
        await asyncio.sleep(0)
        assert await cache.get_or_load("l", lambda: 1) == 1


async def test_settings_change_at_run_time():
    clock = ManualClock()
    async with guarded(clock) as cache:
        await open_it(cache)
        same = CacheRegion("default", ttl=5, loads=LoadConfig(breaker=BREAKER))
        await cache.configure_regions([same])
        with pytest.raises(LoaderSuspended):  # it is the same breaker
            await cache.get_or_load("k", down)
        await cache.configure_regions([CacheRegion("default")])
        assert await cache.get_or_load("k", lambda: 1) == 1
        assert (await cache.get_statistics()).circuits == {}


# -- round the backend


def away(path: Path, clock: ManualClock, way: str | None = None) -> tuple[Cache, FaultyBackend]:
    """A cache whose backend can be made to fail."""
    disk = Disk(path=path / "cache.db", breaker=BREAKER)
    backend = FaultyBackend(DiskBackend(disk, clock))
    region = CacheRegion("default", on_unavailable=way)  # type: ignore[arg-type]
    return Cache(
        CacheConfig(backend=disk, regions=(region,)), clock=clock, backend=backend
    ), backend


async def lose(cache: Cache, backend: FaultyBackend) -> None:
    backend.fail("read", "claim", "write", "peek")
    for _ in range(3):
        with pytest.raises(BackendUnavailable):
            await cache.get("k")


async def test_a_backend_that_is_away_is_no_longer_asked(tmp_path: Path):
    clock = ManualClock()
    cache, backend = away(tmp_path, clock)
    async with cache:
        await cache.set("k", "kept")
        await lose(cache, backend)
        asked = backend.calls.copy()
        clock.advance(1)
        with pytest.raises(BackendSuspended, match=r"'disk' .* 3 calls .* in 4 s") as raised:
            await cache.get("k")
        assert raised.value.retry_in == 4.0
        with pytest.raises(BackendSuspended):
            await cache.set("k", "new")
        assert await cache.get_or_load("k", lambda: "from the origin") == "from the origin"
        assert backend.calls == asked, "it was asked while the circuit was open"
        health = await cache.get_health()
        assert "backend: the circuit breaker is open" in str(health)
        backend.heal()
        clock.advance(4)
        assert await cache.get("k") == "kept"
        assert (await cache.get_health()).status == "ok"
        assert (await cache.get_statistics()).circuits["backend"].opened == 1


@pytest.mark.parametrize("way", ["raise", "miss"])
async def test_a_region_says_what_is_done_while_it_is_open(way: str, tmp_path: Path):
    clock = ManualClock()
    cache, backend = away(tmp_path, clock, way)
    async with cache:
        await cache.set("k", "kept")
        backend.fail("read", "claim", "write", "peek")
        for _ in range(3):
            with pytest.raises(BackendUnavailable):
                await cache.set("k", "new")
        if way == "miss":
            assert await cache.get("k") is None
            assert await cache.get_or_load("k", lambda: 1) == 1
        else:
            with pytest.raises(BackendSuspended):
                await cache.get_or_load("k", lambda: 1)


async def test_an_error_that_is_an_answer_opens_nothing(tmp_path: Path):
    clock = ManualClock()
    cache, backend = away(tmp_path, clock)
    async with cache:
        await cache.set("k", "text")
        backend.fail("read", error=ServerError("NOPERM no permissions"))
        for _ in range(10):
            with pytest.raises(ServerError):
                await cache.get("other")
        assert [key async for key in cache.scan("*")] == ["k"]
        assert (await cache.get_statistics()).circuits["backend"].state == "closed"


async def test_a_plain_call_works_through_it(tmp_path: Path):
    """The sync door runs calls of such a backend in the caller's thread."""
    clock = ManualClock()
    cache, _ = away(tmp_path, clock)

    def use() -> object:
        with cache.sync as plain:
            plain.set("k", 1)
            return plain.get("k"), plain.increment("n"), list(plain.scan("*"))

    assert await asyncio.to_thread(use) == (1, 1, ["k", "n"])
