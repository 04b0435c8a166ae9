"""Backups by their schedule: the same leader, the same taken times."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from msgspec.structs import replace
from tests.maintenance.test_clock import Calendar, at, looked

from clusterdb.cache import BackupConfig, Cache, CacheConfig, ConfigError, Directory


async def backed_up(cache: Cache, times: int) -> list[float | None]:
    """The due times of the runs, once there were so many."""
    async with asyncio.timeout(20):
        while True:
            history = (await looked(cache)).history
            if len(history) >= times:
                assert [run.outcome for run in history] == ["done"] * times, history
                return [run.due for run in history]


async def test_a_backup_is_made_when_it_is_due_and_old_ones_go(tmp_path: Path):
    clock = Calendar(at(23, 50))
    daily = BackupConfig(
        schedule="0 0 * * *", retention="1d", full_every=1, storage=Directory(path=tmp_path)
    )
    async with Cache(CacheConfig(backup=daily), clock=clock) as cache:
        await cache.set("k", "first")
        assert await backed_up(cache, 0) == []
        assert await cache.backups.list() == []

        clock.today = at(0, 1, day=11)
        assert await backed_up(cache, 1) == [at(0, 0, day=11)]
        [made] = await cache.backups.list()
        assert made.entries == 1
        await cache.set("k", "second")
        clock.today = at(0, 1, day=15)
        await backed_up(cache, 2)

        [kept] = await cache.backups.list()
        assert kept.id != made.id
        await cache.delete("k")
        await cache.backups.restore()
        assert await cache.get("k") == "second"


async def test_a_schedule_is_of_its_time_zone(tmp_path: Path):
    clock = Calendar(at(21, 50))
    nightly = BackupConfig(
        schedule="0 0 * * *",
        timezone="Europe/Berlin",
        retention="7d",
        storage=Directory(path=tmp_path),
    )
    async with Cache(CacheConfig(backup=nightly), clock=clock) as cache:
        assert await backed_up(cache, 0) == []
        clock.today = at(22, 1)
        assert await backed_up(cache, 1) == [at(22, 0)]


async def test_a_backup_starts_later_by_at_most_its_jitter(tmp_path: Path):
    clock = Calendar(at(23, 50))
    config = BackupConfig(
        schedule="0 0 * * *", jitter="1h", retention="7d", storage=Directory(path=tmp_path)
    )
    with pytest.raises(ConfigError, match="jitter"):
        replace(config, jitter=-1.0)
    async with Cache(CacheConfig(backup=config), clock=clock) as cache:
        assert await backed_up(cache, 0) == []
        clock.today = at(0, 0, day=11)
        assert await backed_up(cache, 0) == [], "its name puts it off by more than nothing"
        clock.today = at(1, 0, day=11)
        assert await backed_up(cache, 1) == [at(0, 0, day=11)]
