"""A file that is gone: with ``stale_if_error`` this process gives what it last read there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from clusterdb.cache import (
    BackendUnavailable,
    Cache,
    CacheConfig,
    CacheRegion,
    Disk,
    GetOptions,
    LoadConfig,
    Stale,
)
from clusterdb.cache.testing import ManualClock

ALLOWED = GetOptions(allow_stale=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "disk").mkdir()
    return tmp_path / "disk" / "cache.db"


@asynccontextmanager
async def cached(path: Path, clock: ManualClock, *, window: float = 10.0) -> AsyncIterator[Cache]:
    """A cache that has read ``k``, which lives 60 seconds, and is about to lose its file."""
    loads = LoadConfig(stale_if_error=window)
    config = CacheConfig(
        backend=Disk(path=path, max_staleness="1s"),
        regions=(CacheRegion("default", on_unavailable="raise", loads=loads),),
    )
    async with Cache(config, clock=clock) as cache:
        await cache.set("k", "known", ttl=60, tags=("t",))
        assert await cache.get("k") == "known"
        yield cache


async def lose(path: Path, cache: Cache, clock: ManualClock, seconds: float = 3.0) -> None:
    """Let its folder be away, and none be made in its place. The first look, which may still be
    answered, finds out.
    """
    path.parent.rename(path.parent.with_name("away"))
    path.parent.write_text("no folder")
    clock.advance(seconds)
    await cache.get("other")


def find(path: Path) -> None:
    path.parent.unlink()
    path.parent.with_name("away").rename(path.parent)


async def test_what_was_read_last_is_given_and_counted(path: Path):
    clock = ManualClock()
    async with cached(path, clock) as cache:
        await lose(path, cache, clock)
        with pytest.raises(BackendUnavailable):
            await cache.get("k")
        assert await cache.get_or_load("k", lambda: pytest.fail("loaded")) == "known"
        found = await cache.lookup("k", options=ALLOWED)
        assert isinstance(found, Stale)
        assert (found.value, found.age_bound, found.expired_for) == ("known", 3.0, 0.0)
        assert cache._runtime.states["default"].loads.stale_on_outage == 2
        with pytest.raises(BackendUnavailable):
            await cache.get("k", options=GetOptions(allow_stale=True, consistent=True))
        with pytest.raises(BackendUnavailable):
            await cache.get_or_load_many(["k", "other"], dict.fromkeys)


@pytest.mark.parametrize("window", [0.0, 10.0])
async def test_past_the_window_nothing_is_given(path: Path, window: float):
    clock = ManualClock()
    async with cached(path, clock, window=window) as cache:
        await lose(path, cache, clock, window + 1.5)
        with pytest.raises(BackendUnavailable):
            await cache.get_or_load("k", lambda: 1)
        with pytest.raises(BackendUnavailable):
            await cache.get("k", options=ALLOWED)


@pytest.mark.parametrize("how", ["invalidate", "invalidate_tag", "clear"])
async def test_what_was_removed_before_is_not_given(path: Path, how: str):
    clock = ManualClock()
    async with cached(path, clock) as cache:
        await {
            "invalidate": lambda: cache.invalidate("k"),
            "invalidate_tag": lambda: cache.invalidate_tag("t"),
            "clear": cache.clear,
        }[how]()
        await lose(path, cache, clock)
        with pytest.raises(BackendUnavailable):
            await cache.get_or_load("k", lambda: 1)


async def test_what_others_changed_meanwhile_is_seen_when_the_file_is_back(path: Path):
    clock = ManualClock()
    async with cached(path, clock) as cache:
        await lose(path, cache, clock)
        assert await cache.get_or_load("k", lambda: "loaded") == "known"
        find(path)
        async with Cache(CacheConfig(backend=Disk(path=path)), clock=clock) as other:
            await other.set("k", "changed")
        assert await cache.get("k") == "changed"
        await lose(path, cache, clock)
        assert await cache.get_or_load("k", lambda: "loaded") == "changed"
