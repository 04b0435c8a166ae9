"""Export and restore on real servers: slots that move, servers that are lost, other kinds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.redis.backends import config_of, flush, make_backend, opened
from tests.redis.conftest import now
from tests.redis.load import until
from tests.redis.servers import Deployment, Server, start
from tests.redis.test_near import backend_of, caches, tier
from tests.redis.test_sharing import owns

from clusterdb.cache import CacheRegion, Consistent, Disk, PartitioningConfig, SerializationConfig
from clusterdb.cache.backends.disk import DiskBackend
from clusterdb.cache.backends.memory import MemoryBackend
from clusterdb.cache.backends.redis.link import BULK_BYTES
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.codec import RegionCodec, region_codec
from clusterdb.cache.errors import BackendUnavailable, Degraded, InvalidArgument, Undecodable
from clusterdb.cache.protocols import Add, Backend, Exported, NotExported, Put, Written
from clusterdb.cache.settings import resolve_region
from clusterdb.cache.testing import EncodingBackend
from clusterdb.cache.transport import Command, Node, slot_of
from clusterdb.cache.versions import Versions

CODEC: RegionCodec = region_codec("main", SerializationConfig(), None)


async def exported(backend: Backend, **options: Any) -> list[Exported | NotExported]:
    return [each async for batch in backend.export("main", **options) for each in batch]


async def fill(backend: Backend, keys: list[str], **fields: Any) -> None:
    for written in await backend.write("main", [Put(key, key, **fields) for key in keys]):
        assert isinstance(written, Written)


def keys_of(found: list[Exported | NotExported]) -> list[str]:
    assert all(isinstance(each, Exported) for each in found)
    return sorted(each.key for each in found)


# -- slots that move


class Slot:
    """A slot of the cluster, moved in steps: as `redis-cli --cluster reshard` does it."""

    def __init__(self, cluster: Deployment, key: str) -> None:
        self.number = slot_of(f"test:main:{key}".encode())
        self._primaries = {
            each.cli("CLUSTER", "MYID"): each
            for each in cluster.servers
            if each.info("replication")["role"] == "master"
        }
        [self.here] = [each for each in self._primaries.values() if owns(each, self.number)]
        self.there = next(each for each in self._primaries.values() if each is not self.here)

    def begin(self) -> None:
        names = {each.port: name for name, each in self._primaries.items()}
        slot = ("CLUSTER", "SETSLOT", str(self.number))
        self.there.cli(*slot, "IMPORTING", names[self.here.port])
        self.here.cli(*slot, "MIGRATING", names[self.there.port])

    def move(self, count: int) -> bool:
        """Some keys; whether there were any."""
        asked = ("CLUSTER", "GETKEYSINSLOT", str(self.number), str(count))
        keys = self.here.cli(*asked).split("\n")
        if keys == [""]:
            return False
        target = ("127.0.0.1", str(self.there.port), "", "0", "5000", "KEYS")
        self.here.cli("MIGRATE", *target, *keys)
        return True

    def end(self) -> None:
        while self.move(100):
            pass
        names = {each.port: name for name, each in self._primaries.items()}
        for each in (self.there, self.here, *self._primaries.values()):
            each.cli("CLUSTER", "SETSLOT", str(self.number), "NODE", names[self.there.port])


def half(slot: Slot) -> None:
    slot.begin()
    slot.move(60)


def all_of_it(slot: Slot) -> None:
    slot.begin()
    slot.end()


@pytest.mark.parametrize("move", [half, all_of_it], ids=["half of a slot", "a whole slot"])
@pytest.mark.parametrize("when", ["before the first batch", "after the first batch"])
async def test_slots_that_move_lose_no_key_that_stays(
    cluster: Deployment, move: Callable[[Slot], None], when: str
):
    """The shares are asked for before the slot moves; who owns it is exported last, and first."""
    keys = sorted([*[f"{{moving}}{n}" for n in range(120)], *[f"k{n}" for n in range(60)]])
    for reverse in (False, True):
        flush(cluster)
        slot = Slot(cluster, "{moving}")
        async with opened(cluster) as backend:
            await fill(backend, keys)
            found: list[Exported | NotExported] = []
            parts = sorted(
                backend.parts("main"), key=lambda part: _holds(part, slot.number), reverse=reverse
            )
            assert len(parts) == 3
            moved = when == "before the first batch"
            if moved:
                await asyncio.to_thread(move, slot)
            for part in parts:
                async for batch in backend.export("main", part=part, batch_size=10):
                    found += batch
                    if not moved and _holds(part, slot.number):
                        moved = True
                        await asyncio.to_thread(move, slot)
            await asyncio.to_thread(slot.end)
            assert moved
            assert sorted(set(keys_of(found))) == keys


def _holds(part: str, slot: int) -> bool:
    ranges = part.removeprefix("slots ").split(",")
    bounds = [(each.partition("-")[0], each.partition("-")[2]) for each in ranges]
    return any(int(first) <= slot <= int(last or first) for first, last in bounds)


async def test_a_part_that_is_none_is_refused(cluster: Deployment, standalone: Deployment):
    for servers in (cluster, standalone):
        async with opened(servers) as backend:
            for part in ("", "slots", "slots 16384", "slots 5-1", "slots 1,", "127.0.0.1:1"):
                with pytest.raises(InvalidArgument, match="part"):
                    await exported(backend, part=part)


# -- servers that are lost


@pytest.fixture
def servers(tmp_path: Path):
    deployment = start("ring", tmp_path)
    yield deployment
    deployment.stop()


async def test_a_ring_gives_each_copy_once_and_stands_in_for_a_lost_owner(servers: Deployment):
    placed = PartitioningConfig(strategy=Consistent(replicas=2))
    keys = sorted([f"k{number}" for number in range(200)])
    async with opened(servers, partitioning=placed) as backend:
        await fill(backend, keys, ttl=60.0)
        parts = backend.parts("main")
        assert len(parts) == 3
        shares = [keys_of(await exported(backend, part=part)) for part in parts]
        assert sorted([key for share in shares for key in share]) == keys
        assert min(map(len, shares)) > 20, "a server has no share of its own"
        servers.servers[0].kill()
        lost = next(part for part in parts if part.endswith(f":{servers.servers[0].port}"))
        again = await exported(backend, part=lost)
        assert set(keys_of(again)) == set(shares[parts.index(lost)])
        entry = next(each for each in again if isinstance(each, Exported))
        with pytest.raises(Degraded, match="1 of 2 copies"):
            await backend.restore("main", [entry], overwrite="always")


async def test_a_server_that_is_lost_on_the_way_is_an_error_and_no_short_export(server: Server):
    alone = Deployment("standalone", [f"redis://127.0.0.1:{server.port}"], [server])
    async with opened(alone, timeout=1.0) as backend:
        await fill(backend, [f"k{number}" for number in range(100)])
        export = backend.export("main", batch_size=10)
        await anext(export)
        server.kill()
        with pytest.raises(BackendUnavailable):
            await _rest(export)


async def test_what_was_read_from_a_primary_of_before_is_read_again(sentinel: Deployment):
    """A server that was replaced meanwhile answers on, with what it had."""
    flush(sentinel)
    async with opened(sentinel) as backend:
        await fill(backend, ["a", "b"])
        inner: Any = backend._backend
        topology = inner._link.topology
        [place] = topology.places("all")
        assert await topology.followed(place, now() + 5) == []
        before = place._replace(node=Interrupted(place.node, ("PING",)))
        assert await topology.followed(before, now() + 5) == [place]


async def _rest(export: AsyncIterator[object]) -> list[object]:
    return [batch async for batch in export]


# -- what is on a server


async def test_what_is_large_comes_whole(standalone: Deployment):
    flush(standalone)
    values = {f"k{size}": "x" * size for size in (1, BULK_BYTES - 200, BULK_BYTES, 3 * BULK_BYTES)}
    async with opened(standalone) as backend:
        await backend.write("main", [Put(key, value) for key, value in values.items()])
        await backend.write("main", [Put("tagged", "y" * BULK_BYTES, tags=("t",))])
        found = {each.key: each for each in await exported(backend) if isinstance(each, Exported)}
        for key, value in values.items():
            assert CODEC.decode(CODEC.unseal(key, found[key].value).encoded) == value
        assert found["tagged"].tags == ("t",)
        heads = await exported(backend, values=False)
        assert keys_of(heads) == sorted([*values, "tagged"])
        assert all(isinstance(each, Exported) and not each.value for each in heads)


class Interrupted:
    """A server on which ``write`` is carried out behind the first of the commands that read."""

    def __init__(self, node: Node, write: Command) -> None:
        self._node = node
        self._write = write
        self.name = node.name

    @asynccontextmanager
    async def exclusive(self, deadline: float) -> AsyncIterator[Any]:
        async with self._node.exclusive(deadline) as connection:
            self._connection = connection
            yield self

    async def calls(self, commands: Sequence[Command], deadline: float) -> list[Any]:
        switch, first, *rest = commands
        assert first[0] == "GETRANGE"
        replies = await self._connection.calls([switch, first, self._write, *rest], deadline)
        assert replies[2] == b"OK"
        return [*replies[:2], *replies[3:]]


@pytest.mark.parametrize("values", [True, False])
async def test_an_entry_that_is_replaced_while_it_is_read_is_whole(
    standalone: Deployment, values: bool
):
    """Its value was read, and not yet how long it lives, when another took its place."""
    flush(standalone)
    async with opened(standalone) as backend:
        await fill(backend, ["k"])
        newer = _sealed("k", "newer", (await _entry(backend, "k")).version + 1)
        inner: Any = backend._backend
        [node] = inner._link.topology.nodes()
        name = b"test:main:k"
        interrupted: Any = Interrupted(node, ("SET", name, newer.value, "PX", 50_000))
        [found] = await inner._exporting._entries("main", interrupted, {"k": name}, values)
        assert found.version == newer.version
        assert found.value == (newer.value if values else b"")
        assert 40 < found.expires_in <= 50


async def test_what_can_not_be_read_is_told_and_stops_nothing(standalone: Deployment):
    flush(standalone)
    server = standalone.servers[0]
    async with opened(standalone) as backend:
        await fill(backend, ["good", "other"])
        server.cli("SET", "test:main:garbage", "hello")
        server.cli("SET", "test:main:empty", "")
        server.cli("LPUSH", "test:main:list", "1")
        server.cli("COPY", "test:main:good", "test:main:swapped")
        for values in (True, False):
            found = await exported(backend, values=values)
            wrong = {each.key: each.error for each in found if isinstance(each, NotExported)}
            swapped = {"swapped"} if values else set()
            assert wrong.keys() == {"garbage", "empty", "list"} | swapped
            assert all(isinstance(error, Undecodable) for error in wrong.values())
            good = {each.key for each in found if isinstance(each, Exported)}
            assert good - {"swapped"} == {"good", "other"}
        entry = await _entry(backend, "good")
        server.cli("LPUSH", "test:main:list2", "1")
        [outcome] = await backend.restore("main", [_sealed("list2", "mine", entry.version)])
        assert outcome == Written(applied=True, version=entry.version)


async def _entry(backend: Backend, key: str) -> Exported:
    [entry] = await exported(backend, glob=key)
    assert isinstance(entry, Exported)
    return entry


def _sealed(key: str, value: object, version: int) -> Exported:
    data = CODEC.seal(key, version, CODEC.encode(value), expires_at=None, tags=())
    return Exported(key, data, version)


async def test_an_export_is_no_use_to_a_server(valkey: Deployment):
    """By LFU, of which a new key has 5: a read of it adds one, which is sure at that number."""
    flush(valkey)
    server = valkey.servers[0]
    server.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
    try:
        async with opened(valkey) as backend:
            await fill(backend, ["k", "read"])
            await exported(backend)
            assert server.cli("OBJECT", "FREQ", "test:main:k") == "5"
            await backend.read("main", ["read"])
            assert server.cli("OBJECT", "FREQ", "test:main:read") == "6"
    finally:
        server.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_versions_of_the_future_are_refused(standalone: Deployment):
    flush(standalone)
    present = Versions(SystemClock()).draw()
    day = 86_400_000_000 << 12
    async with opened(standalone) as backend:
        entries = [_sealed("past", 1, present - day), _sealed("future", 1, present + day)]
        past, future = await backend.restore("main", entries)
        assert past == Written(applied=True, version=present - day)
        assert isinstance(future, InvalidArgument)
        assert keys_of(await exported(backend)) == ["past"]


async def test_versions_are_compared_as_numbers(standalone: Deployment):
    """Whatever their bytes are as characters, or as signed ones."""
    flush(standalone)
    low = Versions(SystemClock()).draw() & ~0xFFFF
    async with opened(standalone) as backend:
        for lower, higher in ((0x41, 0x61), (0x5A, 0x61), (0x7F, 0x80), (0x00FF, 0x0100)):
            entries = [_sealed("k", each, low + each) for each in (higher, lower)]
            await backend.restore("main", entries[:1], overwrite="always")
            assert await backend.restore("main", entries[1:]) == [Written(applied=False)]
            await backend.restore("main", entries[1:], overwrite="always")
            [again] = await backend.restore("main", entries[:1])
            assert again == Written(applied=True, version=low + higher)


async def test_a_region_that_is_cleared_at_once_exports_what_lives(standalone: Deployment):
    flush(standalone)
    region = CacheRegion("main", instant_clear=True)
    backend = EncodingBackend(make_backend(standalone))
    backend.configure({"main": resolve_region(config_of(standalone), region, None)})
    await backend.open()
    try:
        await fill(backend, ["a", "b"], tags=("t",))
        before = await exported(backend)
        await backend.clear(["main"])
        assert await exported(backend) == []
        entries = [each for each in before if isinstance(each, Exported)]
        assert [each.tags for each in entries] == [("t",)] * 2
        await backend.restore("main", entries)
        assert keys_of(await exported(backend)) == ["a", "b"]
        await backend.clear(["main"])
        assert await backend.read("main", ["a", "b"]) == [None, None]
    finally:
        await backend.aclose()


# -- other processes, other kinds


async def test_a_near_tier_elsewhere_hears_of_what_is_restored(standalone: Deployment):
    """Another cache is another process: it shares nothing with this one but the server."""
    flush(standalone)
    async with caches(standalone) as [one, two]:
        await one.set("k", "old")
        backend = one.access.runtime.backend
        [[old]] = [batch async for batch in backend.export("default")]
        await one.set("k", "new")
        assert await two.get("k") == "new"
        assert await tier(two, "k") == "near"
        assert isinstance(old, Exported)
        [written] = await backend.restore("default", [old], overwrite="always")
        assert written == Written(applied=True, version=old.version)
        assert await one.get("k") == "old"
        kept = backend_of(two)._nearby.tier.table("default")
        await until(lambda: kept.peek("k", now()) is None)
        assert await two.get("k") == "old"


@asynccontextmanager
async def other_kind(kind: str, place: Path) -> AsyncIterator[EncodingBackend | MemoryBackend]:
    clock = SystemClock()
    memory = MemoryBackend(clock)
    backend = memory if kind == "memory" else EncodingBackend(DiskBackend(Disk(path=place), clock))
    backend.configure({"main": resolve_region(config_of(_NOWHERE), CacheRegion("main"), None)})
    await backend.open()
    try:
        yield backend
    finally:
        await backend.aclose()


_NOWHERE = Deployment("standalone", ["redis://127.0.0.1:1"], [])


async def test_entries_go_round_all_kinds_of_backends(
    cluster: Deployment, ring: Deployment, sentinel: Deployment, tls: Deployment, tmp_path: Path
):
    """What was exported last, after all of them, is what the first one had."""
    for deployment in (cluster, ring, sentinel, tls):
        if deployment is not tls:
            flush(deployment)
    async with (
        opened(cluster, grace=5.0) as first,
        opened(ring) as second,
        opened(sentinel, grace=1.0) as third,
        opened(tls) as fourth,
        other_kind("memory", tmp_path) as memory,
        other_kind("disk", tmp_path / "cache.db") as disk,
    ):
        await fill(first, [f"k{number}" for number in range(50)])
        await first.write("main", [Put("tagged", {"a": [1, None]}, 500.0, ("t", "u"))])
        await first.write("main", [Add("sum", 5, 1, None)])
        await first.write("main", [Put("large", "z" * BULK_BYTES * 2, tags=("t",))])
        start_with = {each.key: each for each in await exported(first)}
        assert all(isinstance(each, Exported) for each in start_with.values())
        entries: list[Any] = list(start_with.values())
        for backend in (memory, disk, second, third, fourth):
            outcomes = await backend.restore("main", entries)
            assert [each.version for each in outcomes if isinstance(each, Written)] == [
                entry.version for entry in entries
            ]
            entries = await exported(backend)
            assert keys_of(entries) == sorted(start_with)
        for each in entries:
            known: Any = start_with[each.key]
            assert (each.value, each.version, each.tags) == (known.value, known.version, known.tags)
            assert (each.expires_in is None) == (known.expires_in is None)
        [record] = await fourth.read("main", ["tagged"])
        assert record is not None
        assert record.value == {"a": [1, None]}
        assert record.expires_in is not None
        assert 400 < record.expires_in <= 500
        await fourth.invalidate_tags(["t"])
        assert await fourth.read("main", ["tagged", "large"]) == [None, None]
        await fourth.clear(["main"])
