"""Write-through: what is written is in the database, and comes back when the cache is lost."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest
from tests.write_modes.world import World, everywhere, until

from clusterdb.cache import CacheRegion, GetOptions, NoStorage
from clusterdb.cache.errors import TypeMismatch
from clusterdb.cache.types import MISSING, Hit

pytestmark = everywhere


@dataclasses.dataclass
class User:
    name: str
    age: int


async def test_a_write_is_in_the_database_and_in_the_cache(world: World):
    cache = await world.cache()
    assert await cache.set("k", {"n": 1})
    assert await world.value("k") == {"n": 1}
    assert await cache.get("k") == {"n": 1}
    found = await cache.lookup("k")
    assert isinstance(found, Hit)
    row = await world.row("k")
    assert row is not None
    assert found.version == row.version
    assert found.tier != "storage", "the copy was not cached"


async def test_what_was_lost_in_the_cache_comes_back(world: World):
    cache = await world.cache()
    await cache.set("k", "v", ttl=60, tags=("t",))
    await cache.set("gone", 1)
    await cache.delete("gone")
    await world.lose(cache)
    assert await cache.get("k") == "v"
    found = await cache.lookup("k")
    assert isinstance(found, Hit)
    assert found.tags == ("t",)
    assert found.expires_in is not None
    assert 50 < found.expires_in <= 60
    assert found.tier != "storage"
    assert await cache.get("gone") is None
    assert not await cache.exists("gone")
    assert await cache.exists("k")
    assert await cache.invalidate_tag("t") >= 0
    await world.change("k", "newer")
    assert await cache.get("k") == "newer", "the tag did not remove the copy"


async def test_the_regions_ttl_is_the_copys_alone(world: World):
    cache = await world.cache(ttl=60)
    await cache.set("k", 1)
    row = await world.row("k")
    assert row is not None
    assert row.ttl is None
    found = await cache.lookup("k")
    assert isinstance(found, Hit)
    assert found.expires_in is not None
    assert 50 < found.expires_in <= 60


async def test_a_delete_is_in_the_database(world: World):
    cache = await world.cache()
    await cache.set("k", 1)
    assert await cache.delete("k")
    assert await world.row("k") is None
    assert not await cache.delete("k")
    assert await cache.get("k") is None


async def test_an_invalidation_is_of_copies_only(world: World):
    cache = await world.cache()
    await cache.set("k", 1)
    assert await cache.invalidate("k")
    assert await world.value("k") == 1
    assert await cache.get("k") == 1
    await cache.clear()
    assert await world.value("k") == 1


async def test_conditions_are_judged_in_the_database(world: World):
    cache = await world.cache()
    await world.change("k", 1)
    assert not await cache.set("k", 2, nx=True)
    assert await cache.set("k", 3, xx=True)
    assert not await cache.set("absent", 1, xx=True)
    assert await cache.set("new", 1, nx=True)
    assert await world.value("k") == 3
    assert await world.value("new") == 1
    assert await world.row("absent") is None


async def test_keep_ttl_keeps_the_rows_expiry(world: World):
    cache = await world.cache()
    await cache.set("k", 1, ttl=60)
    await cache.set("k", 2, keep_ttl=True)
    row = await world.row("k")
    assert row is not None
    assert row.ttl is not None
    assert 50 < row.ttl <= 60
    found = await cache.lookup("k")
    assert isinstance(found, Hit)
    assert found.value == 2
    assert found.expires_in is not None
    assert found.expires_in <= 60


async def test_touch_gives_the_row_a_new_expiry(world: World):
    cache = await world.cache()
    await cache.set("k", "v", tags=("t",))
    assert await cache.touch("k", 60)
    assert not await cache.touch("absent", 60)
    row = await world.row("k")
    assert row is not None
    assert row.ttl is not None
    assert 50 < row.ttl <= 60
    assert row.tags == ("t",)
    await world.lose(cache)
    assert await cache.get("k") == "v"


async def test_increments_add_up(world: World):
    first, second = await world.cache(), await world.cache()
    sums = await asyncio.gather(
        *[first.increment("n", initial=100) for _ in range(8)],
        *[second.increment("n", 2, initial=100) for _ in range(8)],
    )
    assert max(sums) == 124
    assert len(set(sums)) == 16
    assert await world.value("n") == 124
    await first.set("text", "x")
    with pytest.raises(TypeMismatch):
        await first.increment("text")


async def test_increment_keeps_ttl_and_tags(world: World):
    cache = await world.cache()
    await cache.set("n", 1, ttl=60, tags=("t",))
    assert await cache.increment("n") == 2
    row = await world.row("n")
    assert row is not None
    assert row.tags == ("t",)
    assert row.ttl is not None


async def test_atomic_is_all_or_nothing(world: World):
    cache = await world.cache()
    await cache.set_many({"a": 1, "b": 1})
    assert await cache.atomic().check("a", 1).set("a", 2).set("b", 2).execute()
    assert not await cache.atomic().check("a", 1).set("a", 3).set("b", 3).execute()
    assert [await world.value(key) for key in "ab"] == [2, 2]
    assert await cache.atomic().check_absent("c").set("c", 1).delete("b").delete("none").execute()
    assert not await cache.atomic().check_absent("c").set("d", 1).execute()
    assert not await cache.atomic().check_absent("c").delete("c").execute()
    assert await cache.atomic().check("a", 2).set("d", 1).execute()
    assert [await world.value(key) for key in "abcd"] == [2, MISSING, 1, 1]
    assert [await cache.get(key) for key in "abcd"] == [2, None, 1, 1]


async def test_of_many_atomics_one_wins(world: World):
    first, second = await world.cache(), await world.cache()
    await first.set("k", 0)
    row = await world.row("k")
    assert row is not None
    done = await asyncio.gather(
        *[
            cache.atomic().check_version("k", row.version).set("k", at).execute()
            for at, cache in enumerate([first, second] * 4)
        ]
    )
    assert sum(done) == 1
    assert await first.get("k") == done.index(True)


async def test_a_batch_is_made_in_order(world: World):
    cache = await world.cache()
    batch = cache.batch()
    batch.set("k", 1).set("k", 2).delete("k").set("k", 3).set("other", 1).delete("other")
    assert await batch.execute()
    assert await world.value("k") == 3
    assert await world.row("other") is None
    assert await cache.get_many(["k", "other"]) == {"k": 3}


async def test_a_change_in_sql_reaches_the_cache(world: World):
    cache = await world.cache()
    await cache.set("k", 1)
    await cache.get("k")
    await world.change("k", 2)

    async def arrived() -> bool:
        return await cache.get("k") == 2

    await until(arrived, "the change")
    await world.change("k", MISSING)

    async def gone() -> bool:
        return await cache.get("k") is None

    await until(gone, "the deletion")


async def test_a_loader_is_called_for_what_no_row_is_there(world: World):
    cache = await world.cache()
    await world.change("row", "stored")
    calls = []

    async def load() -> str:
        calls.append(1)
        return "loaded"

    assert await cache.get_or_load("row", load) == "stored"
    assert calls == []
    assert await cache.get_or_load("none", load) == "loaded"
    assert await cache.get_or_load("none", load) == "loaded"
    assert calls == [1]
    assert await world.row("none") is None
    await world.change("none", "stored since")

    async def replaced() -> bool:
        return await cache.get("none") == "stored since"

    await until(replaced, "the row instead of what was loaded")


async def test_values_have_types(world: World):
    cache = await world.cache()
    await cache.set("u", User("Ann", 30))
    assert await cache.get("u", type=User) == User("Ann", 30)
    await world.lose(cache)
    assert await cache.get("u", type=User) == User("Ann", 30)
    assert await cache.get("u", type=User) == User("Ann", 30)


async def test_a_scan_gives_what_storage_has(world: World):
    cache = await world.cache()
    await cache.set_many({"user:1": 1, "user:2": 2, "other": 3})
    await world.lose(cache)
    await cache.get("user:1")
    assert sorted([key async for key in cache.scan("user:*")]) == ["user:1", "user:2"]


async def test_write_through_says_how(world: World):
    plain = CacheRegion("plain", mode=None)
    cache = await world.cache(regions=(plain,))
    await cache.write_through("k", 1, consistency="strong")
    assert await world.value("k") == 1
    await cache.write_through("k", 2, sync=False, ttl=60)

    async def written() -> bool:
        return await world.value("k") == 2

    await until(written, "the queued write")
    with pytest.raises(NoStorage, match="region 'plain' has no storage"):
        await cache.region("plain").write_through("k", 1)
    await cache.region("plain").set("k", {"an": "object"})
    assert await world.row("k", "plain") is None
    assert await cache.region("plain").get("k") == {"an": "object"}


async def test_two_caches_agree(world: World):
    first, second = await world.cache(consistency="strong"), await world.cache()
    for at in range(10):
        await (first if at % 2 else second).set("k", at)
        assert await first.get("k", options=GetOptions(consistent=True)) == at or (
            world.backend_is_private
        )
        assert await world.value("k") == at

    async def agree() -> bool:
        return await first.get("k") == await second.get("k") == 9

    await until(agree, "both to have the last value")
