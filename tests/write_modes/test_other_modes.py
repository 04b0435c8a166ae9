"""Write-around and read-through."""

from __future__ import annotations

import asyncio

from tests.write_modes.world import World, everywhere, until

from clusterdb.cache.types import MISSING, Hit

pytestmark = everywhere


async def test_write_around_caches_nothing(world: World):
    cache = await world.cache("around")
    assert await cache.set("k", 1)
    assert await world.value("k") == 1
    found = await cache.lookup("k")
    assert isinstance(found, Hit)
    assert found.tier == "storage", "the write was cached"
    found = await cache.lookup("k")
    assert isinstance(found, Hit)
    assert found.tier != "storage", "the read was not"
    await cache.set("k", 2)
    assert await cache.get("k") == 2
    assert await cache.delete("k")
    assert await cache.get("k") is None
    assert await world.row("k") is None


async def test_read_through_writes_to_the_cache_only(world: World):
    cache = await world.cache("reads")
    await world.change("k", 1)
    assert await cache.get("k") == 1
    await world.relayed(cache)
    assert await cache.set("k", 2)
    assert await world.value("k") == 1
    assert await cache.get("k") == 2
    await cache.invalidate("k")
    assert await cache.get("k") == 1


async def test_read_through_looks_before_it_judges(world: World):
    cache = await world.cache("reads")
    await world.change("k", 1)
    await world.change("n", 10)
    await world.relayed(cache)
    assert not await cache.set("k", 2, nx=True)
    assert await cache.set("k", 2, xx=True)
    assert await cache.touch("n", 60)
    found = await cache.lookup("n")
    assert isinstance(found, Hit)
    assert found.expires_in is not None
    assert await cache.atomic().check("k", 2).set("k", 3).execute()
    assert not await cache.atomic().check("k", 2).set("k", 4).execute()
    assert await cache.get("k") == 3
    assert await world.value("k") == 1
    await cache.set("count", 5)
    assert await cache.increment("count") == 6
    assert await cache.increment("new", initial=3) == 4


async def test_read_through_adds_to_a_row(world: World):
    writer, reader = await world.cache("through"), await world.cache("reads")
    await writer.set("n", 10)
    await world.lose(reader)
    assert await reader.increment("n", 5) == 15
    assert await world.value("n") == 10


async def test_read_through_hears_of_changes(world: World):
    cache = await world.cache("reads")
    await world.change("k", 1)
    assert await cache.get("k") == 1
    await world.change("k", MISSING)

    async def gone() -> bool:
        return await cache.get("k") is None

    await until(gone, "the deletion")


async def test_many_misses_are_few_queries(world: World):
    writer = await world.cache("through")
    keys = [f"k{at}" for at in range(500)]
    await writer.set_many(dict.fromkeys(keys, 1))
    await world.lose(writer)
    cache = await world.cache("reads")
    values = await asyncio.gather(*[cache.get(key) for key in keys])
    assert values == [1] * 500
    [figures] = (await cache.get_statistics()).storages.values()
    assert figures.queries <= 20
    assert figures.rows_read == 500
