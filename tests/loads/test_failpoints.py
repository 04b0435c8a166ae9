"""A hook at a failpoint holds a load up exactly there; without one nothing happens."""

import asyncio

import pytest
from tests.loads.callers import configured

from clusterdb.cache import MISSING
from clusterdb.cache.failpoints import FAILPOINTS


async def test_an_invalidation_between_load_and_fill_wins(monkeypatch):
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        await go_on.wait()

    monkeypatch.setitem(FAILPOINTS, "after-load-before-fill", hold)
    async with configured() as cache:
        caller = asyncio.create_task(cache.get_or_load("a", lambda: "old"))
        await reached.wait()
        await cache.invalidate("a")
        go_on.set()
        assert await caller == "old"
        assert await cache.get("a", MISSING) is MISSING


async def test_a_hook_may_break_a_load(monkeypatch):
    async def fail() -> None:
        raise OSError("cut here")

    async with configured() as cache:
        with monkeypatch.context() as patch:
            patch.setitem(FAILPOINTS, "after-load-before-fill", fail)
            with pytest.raises(OSError, match="cut here"):
                await cache.get_or_load("a", lambda: 1)
        assert await cache.get_or_load("a", lambda: 2) == 2
