"""Calendars that jump: what is due runs once, and goes on coming due."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest

from clusterdb.cache import Cache, CacheConfig, Cleanup, MaintenanceConfig, NotSupported
from clusterdb.cache.maintenance import MaintenanceState

HOURLY = MaintenanceConfig(schedule="0 * * * *", tasks=[Cleanup(older_than="7d")], lease=1)


def at(hour: int, minute: int, day: int = 10) -> float:
    return datetime(2026, 5, day, hour, minute, tzinfo=UTC).timestamp()


class Calendar:
    """A clock whose time of day is set by hand."""

    def __init__(self, wall: float) -> None:
        self.now = time.monotonic
        self.today = wall

    def wall(self) -> float:
        return self.today


async def looked(cache: Cache, times: int = 4) -> MaintenanceState:
    """The state after the scheduler has looked at it some more times."""
    maintenance = cache.access.runtime.maintenance
    state = await cache.get_maintenance()
    seen = 0 if state.leader is None else state.leader.beat
    async with asyncio.timeout(10):
        while True:
            maintenance.wake()
            await asyncio.sleep(0.005)
            state = await cache.get_maintenance()
            if state.leader is not None and state.leader.beat >= seen + times and not state.runs:
                return state


async def dues(cache: Cache) -> list[str]:
    history = (await looked(cache)).history
    return [f"{datetime.fromtimestamp(run.due or 0, UTC):%d %H:%M}" for run in history]


async def test_a_clock_that_is_set_back_runs_nothing_twice():
    clock = Calendar(at(11, 30))
    async with Cache(CacheConfig(maintenance=HOURLY), clock=clock) as cache:
        assert await dues(cache) == []
        clock.today = at(12, 1)
        assert await dues(cache) == ["10 12:00"]

        clock.today = at(11, 50)
        assert await dues(cache) == ["10 12:00"]
        clock.today = at(12, 30)
        assert await dues(cache) == ["10 12:00"]
        clock.today = at(13, 0)

        assert await dues(cache) == ["10 12:00", "10 13:00"]


async def test_a_clock_that_was_days_ahead_and_is_put_right_goes_on():
    clock = Calendar(at(11, 30, day=20))
    async with Cache(CacheConfig(maintenance=HOURLY), clock=clock) as cache:
        await looked(cache)
        clock.today = at(11, 30, day=10)
        assert await dues(cache) == []

        clock.today = at(12, 1, day=10)

        assert await dues(cache) == ["10 12:00"]


async def test_times_that_passed_meanwhile_are_one_run():
    clock = Calendar(at(3, 30))
    async with Cache(CacheConfig(maintenance=HOURLY), clock=clock) as cache:
        await looked(cache)
        clock.today = at(9, 15)
        assert await dues(cache) == ["10 04:00"]

        clock.today = at(10, 0)

        assert await dues(cache) == ["10 04:00", "10 10:00"]


async def test_a_schedule_that_is_changed_counts_from_now_on():
    clock = Calendar(at(3, 30))
    async with Cache(clock=clock) as cache:
        await cache.configure_maintenance(HOURLY)
        await looked(cache)
        await cache.configure_maintenance(
            MaintenanceConfig(schedule="45 * * * *", tasks=HOURLY.tasks, lease=1)
        )

        clock.today = at(4, 10)

        assert await dues(cache) == ["10 03:45"]


async def test_maintenance_that_is_taken_away_is_given_up():
    async with Cache(CacheConfig(maintenance=HOURLY)) as cache:
        await looked(cache)
        maintenance = cache.access.runtime.maintenance
        assert maintenance.leads

        await cache.configure(CacheConfig())

        async with asyncio.timeout(10):
            while True:
                if not maintenance.leads:
                    break
                maintenance.wake()
                await asyncio.sleep(0.01)
        with pytest.raises(NotSupported, match="no maintenance is configured"):
            await cache.get_maintenance()
