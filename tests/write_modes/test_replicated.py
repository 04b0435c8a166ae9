"""Write-behind by intents on the cache's servers: any process reads them, and any writes them."""

from __future__ import annotations

import asyncio

import pytest
from tests.write_modes.test_behind import pending
from tests.write_modes.world import World, until

from clusterdb.cache.config import ReplicationConfig

pytestmark = [
    pytest.mark.parametrize("backend", ["redis"], indirect=True),
    pytest.mark.parametrize("storage", ["sqlite", "postgres"], indirect=True),
]


async def test_another_process_reads_what_is_pending(world: World):
    first = await world.cache("behind", durability="replicated", flush_interval=30)
    second = await world.cache("behind", durability="replicated", flush_interval=30)
    await world.change("k", "old")
    await first.set("k", "new", ttl=60, tags=("t",))
    await first.delete("gone")
    await world.lose(second)
    assert await second.get("k") == "new"
    assert await second.get("gone") is None
    assert await world.value("k") == "old"


async def test_one_copy_is_told(world: World):
    cache = await world.cache("behind", durability="replicated")
    assert "lost with that server" in str(await cache.get_health())
    replication = ReplicationConfig(mode="synchronous", factor=2)
    several = await world.cache("behind", durability="replicated", replication=replication)
    assert "lost with that server" not in str(await several.get_health())


async def test_another_process_writes_what_is_pending(world: World):
    lost = world.make("behind", durability="replicated", flush_interval=30)
    await lost.set_many({f"k{at}": at for at in range(100)})
    stored = lost.access.runtime.stored
    assert stored is not None
    [store] = stored.stores
    store.behinds["default"]._queue = type(store.behinds["default"]._queue)()
    await lost.aclose()
    assert await world.row("k7") is None
    async with world.make("behind", durability="replicated"):
        pass
    assert await world.value("k7") == 7
    assert await world.value("k99") == 99


async def test_processes_agree_on_the_order(world: World):
    caches = [await world.cache("behind", durability="replicated") for _ in range(3)]
    for at in range(20):
        await asyncio.gather(*[cache.set("k", f"{n}-{at}") for n, cache in enumerate(caches)])
    await until(lambda: not any(pending(cache) for cache in caches), "the flushes")
    last = await world.value("k")

    async def agree() -> bool:
        return all([await cache.get("k") == last for cache in caches])

    await until(agree, "all to have the last value")
    assert str(last).endswith("-19")
