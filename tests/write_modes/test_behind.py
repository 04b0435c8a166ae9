"""Write-behind: accepted first, in the database soon, in order, and never twice."""

from __future__ import annotations

import asyncio

import pytest
from tests.write_modes.world import World, everywhere, until

from clusterdb.cache import Cache
from clusterdb.cache.types import MISSING, Hit

pytestmark = everywhere


def pending(cache: Cache) -> int:
    stored = cache.access.runtime.stored
    assert stored is not None
    return sum([each.pending for store in stored.stores for each in set(store.behinds.values())])


@pytest.mark.parametrize("durability", ["journal", "memory"])
async def test_a_write_is_in_the_database_soon(world: World, durability: str):
    cache = await world.cache("behind", durability=durability)
    assert await cache.set("k", {"n": 1}, ttl=60, tags=("t",))
    assert await cache.get("k") == {"n": 1}
    await until(lambda: not pending(cache), "the flush")
    assert await world.value("k") == {"n": 1}
    row = await world.row("k")
    assert row is not None
    assert row.tags == ("t",)
    assert row.ttl is not None
    assert 50 < row.ttl <= 60
    assert await cache.delete("k")
    assert await cache.get("k") is None
    await until(lambda: not pending(cache), "the flush")
    assert await world.row("k") is None


async def test_what_is_pending_is_read_though_the_cache_is_lost(world: World):
    cache = await world.cache("behind", flush_interval=30)
    await world.change("k", "old")
    await world.change("gone", "old")
    assert await cache.get("k") == "old"
    await cache.set("k", "new", ttl=60)
    assert await cache.delete("gone")
    await world.lose(cache)
    assert await cache.get("k") == "new"
    assert await cache.get("gone") is None
    assert not await cache.exists("gone")
    assert await cache.exists("k")
    found = await cache.lookup("k")
    assert isinstance(found, Hit)
    assert found.expires_in is not None
    assert 50 < found.expires_in <= 60
    assert await world.value("k") == "old"
    assert pending(cache) == 2


async def test_closing_flushes(world: World):
    cache = world.make("behind", flush_interval=30)
    async with cache:
        await cache.set_many({f"k{at}": at for at in range(700)})
        assert pending(cache) == 700
    assert await world.value("k0") == 0
    assert await world.value("k699") == 699


async def test_many_writes_of_a_key_are_one_row(world: World):
    cache = await world.cache("behind", flush_interval=30)
    await asyncio.gather(*[cache.set("k", at) for at in range(100)])
    assert pending(cache) == 1
    await cache.write_through("other", 1)
    await cache.write_through("k", "through")
    assert await world.value("k") == "through"
    assert pending(cache) == 0


async def test_a_condition_is_judged_after_what_is_pending(world: World):
    cache = await world.cache("behind", flush_interval=30)
    await cache.set("k", 1)
    assert not await cache.set("k", 2, nx=True)
    assert await cache.increment("k", 5) == 6
    assert await world.value("k") == 6
    await cache.set("k", 7)
    assert await cache.atomic().check("k", 7).set("k", 8).execute()
    assert await world.value("k") == 8
    await cache.set("k", 9)
    assert await cache.get("k") == 9
    assert await cache.touch("k", 60)
    assert await world.value("k") == 9


async def test_what_was_deleted_and_set_again_is_there(world: World):
    cache = await world.cache("behind")
    for at in range(5):
        await cache.set("k", at)
        await cache.delete("k")
    await cache.set("k", "last")
    await until(lambda: not pending(cache), "the flush")
    assert await world.value("k") == "last"
    await cache.delete("k")
    await until(lambda: not pending(cache), "the flush")
    assert await world.value("k") is MISSING
    await cache.set("k", "again")
    await until(lambda: not pending(cache), "the flush")
    assert await world.value("k") == "again"


async def test_two_caches_end_with_what_the_database_has(world: World):
    first, second = await world.cache("behind"), await world.cache("behind")
    for at in range(20):
        await asyncio.gather(first.set("k", f"a{at}"), second.set("k", f"b{at}"))
    await until(lambda: not pending(first) and not pending(second), "both flushes")
    last = await world.value("k")

    async def agree() -> bool:
        return await first.get("k") == await second.get("k") == last

    await until(agree, "both to have the last value")


async def test_a_change_in_sql_reaches_the_cache(world: World):
    cache = await world.cache("behind")
    await cache.set("k", 1)
    await until(lambda: not pending(cache), "the flush")
    await world.change("k", 2)

    async def arrived() -> bool:
        return await cache.get("k") == 2

    await until(arrived, "the change")
