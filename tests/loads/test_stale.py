"""Values past their time, over the backends that need no server."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.loads.callers import Gate, configured
from tests.loads.staleness import CHECKS, Check, Scene, loads

from clusterdb.cache import (
    Cache,
    CacheConfig,
    CacheRegion,
    Disk,
    LoadConfig,
    Memory,
    ReentrantLoad,
)
from clusterdb.cache.testing import ManualClock


@pytest.mark.parametrize("kind", ["memory", "disk"])
@pytest.mark.parametrize(
    ("check", "windows", "others"), CHECKS, ids=[check.__name__ for check, *_ in CHECKS]
)
async def test_it_holds_that(
    check: Check, windows: dict[str, float], others: dict[str, Any], kind: str, tmp_path: Path
):
    clock = ManualClock()
    config = CacheConfig(
        backend=Memory() if kind == "memory" else Disk(path=tmp_path / "cache.db"),
        regions=(CacheRegion("default", loads=loads(windows, others, 1.0)),),
    )

    async def advance(seconds: float) -> None:
        clock.advance(seconds)

    async with Cache(config, clock=clock) as cache:
        await check(Scene(cache, 1.0, advance))


@pytest.mark.parametrize(
    ("grace", "revalidate", "error", "kept"),
    [(0, 0, 0, 0), (5, 3, 4, 5), (5, 9, 4, 9), (0, 1, 2, 2)],
)
async def test_an_entry_is_kept_for_the_longest_window(grace, revalidate, error, kept):
    loading = LoadConfig(stale_while_revalidate=revalidate, stale_if_error=error)
    assert CacheRegion("r", grace=grace, loads=loading).kept == kept


async def test_a_loader_that_waits_for_itself_hears_of_it():
    clock = ManualClock()
    region = CacheRegion("default", loads=LoadConfig(stale_if_error=100))
    async with Cache(CacheConfig(regions=(region,)), clock=clock) as cache:
        await cache.set("a", "old", ttl=1)
        clock.advance(2)

        async def load():
            return await cache.get_or_load("a", load)

        with pytest.raises(ReentrantLoad):
            await cache.get_or_load("a", load)


async def test_close_ends_a_renewal():
    cache = configured(loads={"stale_while_revalidate": "1h"})
    await cache.set("a", "old", ttl=1e-6)
    gate = Gate("new")
    assert await cache.get_or_load("a", gate) == "old"
    await gate.began.wait()
    await cache.aclose()
    assert gate.cancelled == 1


def test_a_sync_caller_need_not_run_the_renewal_itself():
    """Its thread runs its own loaders, and is let go at once when it was given a value."""
    leave = threading.Event()
    threads: list[threading.Thread] = []

    def slow() -> str:
        threads.append(threading.current_thread())
        leave.wait(5)
        return "new"

    with configured(loads={"stale_while_revalidate": "1h"}).sync as cache:
        cache.set("a", "old", ttl=1e-6)
        assert cache.get_or_load("a", slow) == "old"
        leave.set()
        while cache.get("a") != "new":
            time.sleep(0.001)
    assert threads[0] is not threading.current_thread()
