"""Limits, policies, expiry, rights and odd keys, on disk and with several processes."""

from __future__ import annotations

import asyncio
import os
import random
import stat
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from tests.disk.processes import Spawn, check_file
from tests.disk.worker import make
from tests.layers import innermost

from clusterdb.cache import (
    FIFO,
    LFU,
    LRU,
    Cache,
    CacheConfig,
    CachePolicy,
    CacheRegion,
    Disk,
    GetOptions,
)
from clusterdb.cache.backends.disk import DiskBackend
from clusterdb.cache.protocols import Put
from clusterdb.cache.testing import EncodingBackend, ManualClock
from clusterdb.cache.testing.conformance import region_settings

FRESH = GetOptions(consistent=True)


def limited(path: Path, policy: Any) -> Cache:
    region = CacheRegion(name="small", policy=policy)
    return Cache(CacheConfig(backend=Disk(path=path), regions=[region]))


async def keys(region: Any) -> set[str]:
    return {key async for key in region.scan("*")}


async def tidy(cache: Cache) -> None:
    backend: Any = innermost(cache)
    await backend.tidy()


async def test_rights(path: Path):
    before = os.umask(0o022)
    path = path.parent / "made" / "cache.db"
    try:
        async with make(str(path)) as cache:
            await cache.set("k", 1)
            files = list(path.parent.iterdir())
            assert len(files) == 4  # with log, index and socket
            for file in files:
                assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    finally:
        os.umask(before)


async def test_a_size_in_bytes_holds_over_two_processes(path: Path, spawn: Spawn):
    other = spawn()
    other.tell(
        "from clusterdb.cache import *\n"
        "cache = Cache(CacheConfig(backend=Disk(path=path),"
        " regions=[CacheRegion(name='small', size=20_000)]))\n"
        "small = cache.region('small')"
    )
    region = CacheRegion(name="small", size=20_000)
    async with Cache(CacheConfig(backend=Disk(path=path), regions=[region])) as cache:
        small, draw = cache.region("small"), random.Random(1)
        for number in range(60):
            await small.set(f"a{number}", draw.randbytes(draw.randint(1, 900)))
            other.tell(f"await small.set('b{number}', bytes({draw.randint(1, 900)}))")
        info = (await innermost(cache).describe()).regions["small"]
        assert info.weight is not None
        assert 15_000 < info.weight <= 20_000
        assert await small.exists("a59")
        assert await small.exists("b59")
        assert not await small.exists("a0")
    other.tell("await cache.aclose()")
    check_file(path)


async def test_lru_knows_hits_of_the_near_tiers_of_both(path: Path):
    async with limited(path, LRU(max_items=4)) as one, limited(path, LRU(max_items=4)) as two:
        small, same = one.region("small"), two.region("small")
        for key in "abcd":
            await small.set(key, key)
        for key in "ab":
            assert await small.get(key) == key
            assert await small.get(key) == key
        for _ in range(3):
            assert await same.get("c") == "c"  # from the file, then near
        await tidy(one)
        await tidy(two)
        await small.set("e", "e")
        assert await keys(small) == {"a", "b", "c", "e"}
        await tidy(two)
        await same.set("f", "f")
        assert await keys(same) == {"b", "c", "e", "f"}


async def test_lfu_and_fifo(path: Path):
    async with limited(path, LFU(max_items=3)) as one, limited(path, LFU(max_items=3)) as two:
        small, same = one.region("small"), two.region("small")
        for key in "abc":
            await small.set(key, key)
        for _ in range(5):
            assert await small.get("a") == "a"
            assert await same.get("b") == "b"
        await tidy(one)
        await tidy(two)
        await small.set("d", "d")
        assert await keys(small) == {"a", "b", "d"}
    async with limited(path, FIFO(max_items=3)) as one:
        small = one.region("small")
        await small.get("d")
        await small.set("a", "again")
        await small.set("e", "e")
        assert await keys(small) == {"a", "b", "e"}


async def test_a_dead_entry_that_is_evicted_ends_no_load_of_its_key(path: Path):
    async with limited(path, LRU(max_items=1)) as one, limited(path, LRU(max_items=1)) as two:
        mine: Any = innermost(one)
        await two.region("small").set("k", "dead", tags=("t",))
        await one.invalidate_tag("t")
        [claim] = await mine.claim("small", ["k"], (), 30.0)
        await two.region("small").set("other", 1)
        mine._attachment.attached.poll()
        assert claim.live()
        await one.region("small").set("third", 1)
        assert claim.live()
        assert await keys(one.region("small")) == {"third"}


async def test_a_reboot_keeps_the_wall_clock_meaning_of_ttls(path: Path):
    """The clock of ages starts anew with the machine; an hour off counts as an hour."""
    before = ManualClock(start=5000.0, epoch=1_700_000_000.0)
    config = Disk(path=path)
    one = EncodingBackend(DiskBackend(config, before, boot="first"))
    one.configure({"r": region_settings("r")})
    await one.open()
    for ttl in (100.0, 3700.0, None):
        await one.write("r", [Put(f"k{ttl}", ttl, ttl)])
    assert await one.claim("r", ["claimed"], (), 1e6)
    inner: Any = one._backend
    inner._attachment.attached.drop()  # the power goes

    after = ManualClock(start=3.0, epoch=1_700_003_600.0)
    two = EncodingBackend(DiskBackend(config, after, boot="second"))
    two.configure({"r": region_settings("r")})
    await two.open()
    records = await two.read("r", ["k100.0", "k3700.0", "kNone"])
    assert records[0] is None
    assert records[1] is not None
    assert records[1].expires_in == pytest.approx(100.0)
    assert records[2] is not None
    assert [claim.key for claim in await two.claim("r", ["claimed"], (), 1.0) if claim] == [
        "claimed"
    ]
    after.advance(101.0)
    assert (await two.read("r", ["k3700.0"]))[0] is None
    await two.aclose()


async def test_a_ttl_counts_from_the_write_and_not_from_the_keeping(path: Path):
    clock = ManualClock()
    backend = DiskBackend(Disk(path=path), clock)
    encoding = EncodingBackend(backend)
    encoding.configure({"r": region_settings("r")})
    await encoding.open()
    await encoding.write("r", [Put("k", "v", 10.0)])
    [record] = await backend.read("r", ["k"])
    assert record is not None
    clock.advance(4.0)  # decoding takes its time
    backend._attachment.attached.poll()  # type: ignore[union-attr]
    backend.keep("r", record, "v")
    near: Any = backend._near
    assert near.read("r", "k", clock.advance(0.5)) is not None
    backend._attachment.attached.poll()  # type: ignore[union-attr]
    clock.advance(5.5)
    backend._attachment.attached.poll()  # type: ignore[union-attr]
    assert near.read("r", "k", clock.now()) is None
    await encoding.aclose()


ODD = [
    "a\0", "a\0b", "a", "%", "%00", "%25", "%2500", "%s", "'", '"', "';--", "\\", "[", "*", "{x}",
    "\n\r", "😀", "é", "e\u0301", "\u202e", "\uffff", "\x7f", " ", "x" * 65_536, "é" * 32_768,
]  # fmt: skip


async def test_odd_keys_and_tags(path: Path, spawn: Spawn):
    async with make(str(path)) as one, make(str(path)) as two:
        for number, odd in enumerate(ODD):
            await one.set(odd, number, tags=(odd[:200], "all"))
        for number, odd in enumerate(ODD):
            found: Any = await two.lookup(odd)
            assert (found.value, found.tags) == (number, (odd[:200], "all"))
        assert await keys(two) == set(ODD)
        for number, odd in enumerate(ODD[:-2]):
            await one.invalidate_tag(odd)
            assert await two.get(odd, options=FRESH) is None
            assert await keys(two) == set(ODD[number + 1 :])
        assert await keys(two) == set(ODD[-2:])
        await one.invalidate_tag("all")
        assert await keys(two) == set()
        for odd in ODD[:-2]:
            value = await one.get_or_load(odd, lambda odd=odd: odd, tags=(odd,))
            assert value == odd
            assert await two.get(odd, options=FRESH) == odd
            await two.delete(odd)


async def test_many_tags_and_huge_values(path: Path):
    async with make(str(path)) as one, make(str(path)) as two:
        tags = [f"tag{number}%😀" for number in range(1024)]
        await one.set("tagged", 1, tags=tags)
        found: Any = await two.lookup("tagged")
        assert found.tags == tuple(tags)
        await one.invalidate_tag(tags[777])
        assert await two.get("tagged", options=FRESH) is None
        huge = random.Random(0).randbytes(2**20) * 64
        await one.set("huge", huge)
        assert await two.get("huge") == huge


async def test_dead_entries_stay_dead_though_the_round_that_removes_them_fails(path: Path):
    """A step that was rolled back must not count as done: at the end of the round the tags are
    forgotten that made the entries dead.
    """
    async with make(str(path)) as cache:
        backend: Any = innermost(cache)
        await cache.set_many({f"k{number}": number for number in range(1500)}, tags=("t",))
        await tidy(cache)
        await cache.invalidate_tag("t")
        attached = backend._attachment.attached

        def fails(transaction: Any) -> None:
            raise ZeroDivisionError

        step = asyncio.ensure_future(attached.settle())
        failing = asyncio.ensure_future(attached.do(fails))
        await asyncio.wait({step, failing})
        assert step.exception()
        assert failing.exception()
        await tidy(cache)
        assert not await cache.exists("k0")
        assert await keys(cache) == set()
        rows = attached.reader.connection.execute("SELECT count(*) FROM entries").fetchall()
        assert rows == [(0,)]


async def test_two_looks_at_the_figures_at_once(path: Path):
    async with make(str(path)) as cache:
        backend: Any = innermost(cache)
        for _ in range(10):
            await cache.set("k", 1, tags=("t",))
            await cache.invalidate_tag("t")
            both = await asyncio.gather(backend.describe(), backend.describe(), cache.set("a", 1))
            assert both[0].regions["default"].items >= 0


async def test_a_region_that_is_configured_while_the_file_is_locked(path: Path, spawn: Spawn):
    holder = spawn()
    holder.tell("await cache.get('k'); db = backend._attachment.attached._writer.connection")
    async with make(str(path), timeout=0.2) as cache:
        await cache.get("k")
        backend: Any = innermost(cache)
        settings = replace(backend._settings["default"], name="late")
        holder.tell("db.execute('BEGIN IMMEDIATE').fetchall()")
        backend.configure({"late": settings})
        first = asyncio.ensure_future(backend.describe())
        await asyncio.sleep(0.1)
        second = asyncio.ensure_future(backend.describe())
        await asyncio.wait({first})
        assert first.exception()
        holder.tell("db.execute('ROLLBACK').fetchall()")
        await asyncio.wait({second})
        assert "this is a bug" not in str(second.exception())
        assert (await backend.describe()).regions["late"].items == 0


async def test_programs_with_different_limits_are_told(
    path: Path, caplog: pytest.LogCaptureFixture
):
    large = CacheConfig(backend=Disk(path=path), policy=CachePolicy(eviction=LRU(max_items=100)))
    small = CacheConfig(backend=Disk(path=path), policy=CachePolicy(eviction=LRU(max_items=10)))
    async with Cache(large) as cache:
        assert (await cache.get_health()).status == "ok"
        assert caplog.text == ""
        async with Cache(small) as other:
            assert "give all programs of the file the same" in caplog.text
            health = await other.get_health()
            assert health.status == "degraded"
            assert "had policy lru, max_items 100" in " ".join(c.detail for c in health.checks)
            caplog.clear()
            await other.configure(large)
            assert caplog.text == "", "a program may change its own mind"
