"""Writing behind by clocks that are wrong: set back between two runs, or ahead on one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.write_modes.world import World

from clusterdb.cache import Cache, Hit, StorageUnavailable
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.config import Memory, SQLite
from clusterdb.cache.factory import make_storage
from clusterdb.cache.testing import FaultyStorage

HOUR = 3600.0


class WrongClock(SystemClock):
    """The machine's clocks, of which the one that can be set is so many seconds ahead."""

    def __init__(self, ahead: float) -> None:
        super().__init__()
        self._ahead = ahead

    def wall(self) -> float:
        return super().wall() + self._ahead


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(Memory(), SQLite(path=str(tmp_path / "rows.db")), str(tmp_path / "journal"))


def cache_at(world: World, ahead: float, **options: Any) -> Cache:
    return Cache(world.config("behind", **options), clock=WrongClock(ahead))


@pytest.mark.parametrize("durability", ["journal", "memory"])
@pytest.mark.parametrize("ahead", [20.0, HOUR])
async def test_a_write_counts_though_the_clock_was_set_back(
    world: World, ahead: float, durability: str
):
    """The row has a version that the clock comes to in an hour: what is accepted now is newer."""
    async with cache_at(world, ahead, durability=durability) as before:
        await before.set("k", "old")
    async with cache_at(world, 0.0, durability=durability) as cache:
        await cache.set("k", "new")
        assert await cache.get("k") == "new"
        await cache.set("k", "newest")
        await cache.set("other", 1)
    async with cache_at(world, 0.0, durability=durability) as after:
        assert await after.get_many(["k", "other"]) == {"k": "newest", "other": 1}


async def test_what_is_written_after_a_read_is_newer_than_what_was_read(world: World):
    """Before it comes to storage, and whichever clock is ahead: readers go by it until then."""
    async with cache_at(world, HOUR) as ahead:
        await ahead.set("k", "old")
    async with cache_at(world, 0.0, flush_interval=HOUR) as cache:
        read = await cache.lookup("k")
        await cache.set("k", "new")
        written = await cache.lookup("k")
        assert isinstance(read, Hit)
        assert isinstance(written, Hit)
        assert written.version > read.version


async def left_pending(world: World, ahead: float, value: str) -> None:
    """Accept a write that never came to its row, as the process ended before."""
    rows = make_storage(world.storage_config, SystemClock(), "us")
    storage = FaultyStorage(rows)
    storage.fail("write", error=StorageUnavailable("away"))
    async with Cache(world.config("behind"), clock=WrongClock(ahead), storage=storage) as cache:
        await cache.set("k", value)


async def test_a_write_is_newer_than_what_an_earlier_process_left(world: World):
    """And it is read as such at once, though the clock was set back in between."""
    await left_pending(world, HOUR, "left")
    async with cache_at(world, 0.0) as cache:
        await cache.set("k", "new")
        assert await cache.get("k") == "new"
    async with cache_at(world, 0.0) as after:
        assert await after.get("k") == "new"


async def test_what_an_earlier_process_left_does_not_replace_a_later_row(
    world: World, tmp_path: Path
):
    """It may have come to its row before that row was written, by whatever clock."""
    await left_pending(world, 0.0, "left")
    async with cache_at(world, HOUR, journal=tmp_path / "another") as elsewhere:
        await elsewhere.set("k", "later")
    async with cache_at(world, 0.0):
        pass  # takes it up, and writes what it can before it ends
    async with cache_at(world, 0.0) as after:
        assert await after.get("k") == "later"
