"""What leaves one backend in process and comes into another: objects, signatures, files."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from msgspec.structs import replace
from tests.layers import innermost

from clusterdb.cache import (
    Cache,
    CacheCoherence,
    CacheConfig,
    CacheRegion,
    Disk,
    Memory,
    SQLite,
    WriteThrough,
)
from clusterdb.cache.codec import region_codec
from clusterdb.cache.config import SerializationConfig
from clusterdb.cache.errors import (
    EncodeError,
    EntryTooLarge,
    NotSupported,
    TypeRequired,
    Undecodable,
)
from clusterdb.cache.protocols import Backend, Exported, NotExported, Put, Written

CODEC = region_codec("default", SerializationConfig(), None)


@dataclass
class User:
    name: str
    age: int


class Opaque:
    pass


async def exported(cache: Cache, region: str = "default") -> dict[str, Exported | NotExported]:
    await cache.access.runtime.ready()
    batches = backend_of(cache).export(region)
    return {each.key: each async for batch in batches for each in batch}


def backend_of(cache: Cache) -> Backend:
    return cache.access.runtime.backend


async def restored(cache: Cache, *entries: Any, region: str = "default", **options: Any) -> Any:
    await cache.access.runtime.ready()
    outcomes = await backend_of(cache).restore(region, entries, **options)
    return outcomes[0] if len(outcomes) == 1 else outcomes


async def test_objects_come_back_as_what_they_were():
    user, inside = User("Ada", 36), {"users": [User("Bob", 7)], "at": (1, 2)}
    async with Cache() as one, Cache() as two:
        await one.set_many({"user": user, "plain": [1, {"a": b"x"}]})
        await one.set("inside", inside)
        found = await exported(one)
        assert isinstance(found["inside"], NotExported), "it would come back as dicts, silently"
        entries = [found[key] for key in ("user", "plain")]
        assert all(isinstance(each, Written) for each in await restored(two, *entries))
        assert await two.get("user") == user
        assert type(await two.get("user")) is User
        assert await two.get("plain") == [1, {"a": b"x"}]


async def test_entries_are_whole_while_threads_write():
    """The memory backend may be written from any thread: all of an entry is of one write."""
    async with Cache() as cache:
        backend, stop = backend_of(cache), threading.Event()

        def write(first: int) -> None:
            for number in count(first, 2):
                if stop.is_set():
                    return
                ttl = None if number % 2 else 60.0
                moving = Put("moving", number, ttl, (f"t{number}",))
                at_once(backend.write("default", [moving, Put(f"new{number % 50}", number)]))

        await cache.set_many({f"stable{number}": number for number in range(300)})
        await cache.set("moving", 1, tags=("t1",))
        writers = [threading.Thread(target=write, args=(first,)) for first in (3, 4)]
        for writer in writers:
            writer.start()
        try:
            versions: set[int] = set()
            looks, latest = 0, monotonic() + 60
            while looks < 20 or (len(versions) < 2 and monotonic() < latest):
                looks += 1
                await asyncio.sleep(0)  # lets the writers run
                found: Any = await exported(cache)
                assert sum(key.startswith("stable") for key in found) == 300
                moving = found["moving"]
                sealed = CODEC.unseal("moving", moving.value)
                number: Any = CODEC.decode(sealed.encoded)
                assert moving.tags == (f"t{number}",)
                assert (moving.expires_in is None) == (number % 2 == 1)
                assert moving.version == sealed.version
                versions.add(moving.version)
        finally:
            stop.set()
            for writer in writers:
                writer.join()
        assert len(versions) > 1, "nothing was written meanwhile"


def at_once(call: Any) -> None:
    """A call that never waits."""
    with pytest.raises(StopIteration):
        call.send(None)


async def test_what_has_no_bytes_is_told_and_stops_nothing():
    async with Cache() as cache:
        await cache.set_many({"opaque": Opaque(), "lock": threading.Lock(), "good": 1})
        found = await exported(cache)
        for key in ("opaque", "lock"):
            wrong = found[key]
            assert isinstance(wrong, NotExported)
            assert isinstance(wrong.error, EncodeError)
        assert isinstance(found["good"], Exported)


async def test_a_class_that_nobody_imported_is_asked_for():
    """Nothing is imported because a file says so."""
    async with Cache() as one, Cache() as two:
        await one.set("user", User("Ada", 36))
        entry = (await exported(one))["user"]
        assert isinstance(entry, Exported)
        assert entry.kind == f"{__name__}:User"
        gone = replace(entry, kind="not_imported:User")
        outcome = await restored(two, gone)
        assert isinstance(outcome, TypeRequired)
        assert "'not_imported:User', which is not imported" in str(outcome)
        outcome = await restored(two, replace(entry, kind=""))
        assert isinstance(outcome, TypeRequired)
        assert await two.get("user") is None


async def test_between_kinds_and_over_a_restart(tmp_path: Path):
    """A file keeps the versions it was given, across a close, and draws higher ones after it."""
    file = CacheConfig(backend=Disk(path=tmp_path / "cache.db"))
    async with Cache() as memory:
        await memory.set("user", User("Ada", 36), tags=("t",), ttl=60)
        entry = (await exported(memory))["user"]
        assert isinstance(entry, Exported)
        far = 7 * 10**18
        codec = region_codec("default", SerializationConfig(), None)
        sealed = codec.seal("far", far, codec.encode(1), expires_at=None, tags=())
        async with Cache(file) as disk:
            await disk.set("before", 1)
            await restored(disk, entry, Exported("far", sealed, far))
            found: Any = await disk.lookup("user", type=User)
            assert (found.value, found.version) == (User("Ada", 36), entry.version)
        async with Cache(file) as disk:
            await disk.set("after", 1)
            away = await exported(disk)
            versions = {
                key: each.version for key, each in away.items() if isinstance(each, Exported)
            }
            assert versions["user"] == entry.version
            assert versions["far"] == far < versions["after"]
            await disk.invalidate_tag("t")
            assert await disk.get("user", type=User) is None
        outcome = await restored(memory, away["far"])
        assert outcome == Written(applied=True, version=far)
        await memory.set("later", 1)
        later: Any = await memory.lookup("later")
        assert later.version > far


async def test_a_near_tier_over_the_same_file_hears_of_it(tmp_path: Path):
    config = CacheConfig(backend=Disk(path=tmp_path / "cache.db"))
    async with Cache(config) as one, Cache(config) as two:
        await one.set("k", "old")
        old = (await exported(one))["k"]
        await one.set("k", "new")
        for _ in range(2):
            assert await two.get("k") == "new"
        found: Any = await two.lookup("k")
        assert found.tier == "near"
        await restored(one, old, overwrite="always")
        innermost(two)._attachment.attached.poll()
        assert await two.get("k") == "old"


async def test_a_region_that_signs_takes_what_is_signed():
    """A backup is trusted no more than the backend it is for."""
    plain = region_codec("default", SerializationConfig(), None)
    signed = SerializationConfig(keys=["1" * 32, "2" * 32])
    config = CacheConfig(backend=Memory(persist="unused"), serialization=signed)
    cache = Cache(config)
    backend: Any = innermost(cache)
    value = plain.encode(1)
    forged = Exported("k", plain.seal("k", 5, value, expires_at=None, tags=()), 5)
    [outcome] = await backend.restore("default", [forged])
    assert isinstance(outcome, Undecodable)
    assert "signing keys" in str(outcome)
    older = region_codec("default", SerializationConfig(keys=["2" * 32]), None)
    right = Exported("k", older.seal("k", 5, value, expires_at=None, tags=()), 5)
    assert await backend.restore("default", [right]) == [Written(applied=True, version=5)]


async def test_limits_hold_for_what_is_restored(tmp_path: Path):
    small = CacheRegion("small", size="20kB")
    memory = CacheConfig(regions=[small])
    disk = CacheConfig(backend=Disk(path=tmp_path / "cache.db"), regions=[small])
    async with Cache(CacheConfig(regions=[CacheRegion("small")])) as large:
        await large.region("small").set("k", "x" * 30_000)
        entry = (await exported(large, "small"))["k"]
        for config in (memory, disk):
            async with Cache(config) as cache:
                outcome = await restored(cache, entry, region="small")
                assert isinstance(outcome, EntryTooLarge)
                assert await cache.region("small").get("k") is None


async def test_a_region_with_a_storage_is_not_restored(tmp_path: Path):
    """Its rows may have gone on since the copies were made."""
    mode = WriteThrough(backend=SQLite(path=tmp_path / "rows.db"))
    config = CacheConfig(
        coherence=CacheCoherence(mode=mode), regions=[CacheRegion("stored"), CacheRegion("other")]
    )
    async with Cache(config) as cache:
        stored = cache.region("stored")
        await stored.set("k", "old")
        old = (await exported(cache, "stored"))["k"]
        await stored.set("k", "new")
        outcome = await restored(cache, old, region="stored", overwrite="always")
        assert isinstance(outcome, NotSupported)
        assert "cache.warm" in str(outcome)
        assert await stored.get("k") == "new"
