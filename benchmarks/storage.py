"""A database behind the cache: writes through it beside plain INSERTs, writes behind it at each
durability, reads of a thousand cold keys, and how soon a change in SQL reaches the cache. Under
four minutes.

PostgreSQL commits as it is made to by default (fsync and synchronous_commit on), for both sides;
ours also writes its outbox. Both have as many connections, and as many tasks.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable, Sequence
from importlib import import_module
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import asyncpg
import msgspec
from _report import RESULTS, ROOT, Report, Row, Section, judge, version
from _rounds import Times, alternate, spread, summary, versus
from _workload import SEED

from clusterdb.cache import Cache, CacheCoherence, CacheConfig
from clusterdb.cache.clock import SystemClock
from clusterdb.cache.codec import Encoded
from clusterdb.cache.config import (
    Memory,
    PoolConfig,
    PostgreSQL,
    ReadThrough,
    Redis,
    WriteBehind,
    WriteThrough,
)
from clusterdb.cache.factory import make_storage
from clusterdb.cache.rows import RowChange

sys.path.insert(0, str(ROOT))
start_redis = import_module("tests.redis.servers").start
start_postgres = import_module("tests.storage.postgres").start

TASKS = 256
CONNECTIONS = 20
INSERTS, OURS, AGAIN, WITH_REDIS = "asyncpg INSERT", "clusterdb", "clusterdb again", "over Redis"
PLAIN = "set, no storage"
OTHER = "other program"
ONE_BY_ONE, TOGETHER = "asyncpg, a query a key", "clusterdb"


def arguments() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and rough, writes no result")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    return parser.parse_args()


def value_of(number: int) -> dict[str, Any]:
    """About 100 bytes as MessagePack."""
    return {"id": number, "name": f"user {number}", "mail": "x" * 60, "active": True}


async def shared_out(work: Callable[[int], Awaitable[object]], count: int) -> float:
    """Seconds for ``count`` pieces of work by all tasks together."""
    numbers = iter(range(count))

    async def task() -> None:
        for number in numbers:
            await work(number)

    start = time.perf_counter()
    await asyncio.gather(*[task() for _ in range(TASKS)])
    return time.perf_counter() - start


# --- servers and caches --------------------------------------------------------------------------


class Servers:
    """One PostgreSQL and one Redis."""

    def __init__(self, folder: Path) -> None:
        self.postgres = start_postgres()
        self.redis = start_redis("standalone", folder)
        self.folder = folder

    def stop(self) -> None:
        self.postgres.remove()
        self.redis.stop()

    def rows(self, *, redis: bool = False) -> PostgreSQL:
        """A table for each backend: a cache that outlives its processes is told, when the next one
        starts, of all that others wrote meanwhile, which is not what is measured.
        """
        pool = PoolConfig(min_connections=CONNECTIONS, max_connections=CONNECTIONS)
        table = "redis_storage" if redis else "cache_storage"
        return PostgreSQL(url=self.postgres.url, pool=pool, table=table)

    def cache(
        self, mode: Any, *, redis: bool = False, storage: Any = None, name: str = "bench"
    ) -> Cache:
        backend = Redis(urls=self.redis.urls) if redis else Memory()
        coherence = None if mode is None else CacheCoherence(mode=mode)
        config = CacheConfig(name=name, backend=backend, coherence=coherence)
        return Cache(config, storage=storage)

    async def pool(self) -> asyncpg.Pool[Any]:
        pool = await asyncpg.create_pool(
            self.postgres.url, min_size=CONNECTIONS, max_size=CONNECTIONS
        )
        await pool.execute(
            "CREATE TABLE IF NOT EXISTS plain (key text PRIMARY KEY, value bytea NOT NULL)"
        )
        return pool


async def insert_all(servers: Servers, keys: int, count: int) -> float:
    """A row an INSERT, over a pool."""
    pool = await servers.pool()
    encode = msgspec.msgpack.encode

    async def put(number: int) -> None:
        await pool.execute(
            "INSERT INTO plain VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = $2",
            f"user:{number % keys}",
            encode(value_of(number)),
        )

    try:
        return await shared_out(put, count)
    finally:
        await pool.close()


async def set_all(servers: Servers, mode: Any, keys: int, count: int, *, redis: bool) -> float:
    """The same by ``set``."""
    async with servers.cache(mode, redis=redis) as cache:
        await cache.set("warm", 1)

        async def put(number: int) -> None:
            await cache.set(f"user:{number % keys}", value_of(number))

        return await shared_out(put, count)


def write_through(servers: Servers, settings: dict[str, int]) -> Times:
    keys, count = settings["keys"], settings["writes"]

    def ours(redis: bool) -> Callable[[], float]:
        mode = WriteThrough(backend=servers.rows(redis=redis))
        return lambda: asyncio.run(set_all(servers, mode, keys, count, redis=redis))

    subjects = {
        INSERTS: lambda: asyncio.run(insert_all(servers, keys, count)),
        OURS: ours(False),
        AGAIN: ours(False),
        WITH_REDIS: ours(True),
    }
    return alternate(subjects, settings["rounds"])


def write_behind(servers: Servers, settings: dict[str, int], *, redis: bool) -> Times:
    """Until all are accepted; the flush goes on meanwhile, and after it."""
    keys, count = settings["keys"], settings["writes"]

    def level(durability: str) -> WriteBehind:
        journal = servers.folder / "journals"
        return WriteBehind(
            backend=servers.rows(redis=redis),
            durability=durability,  # type: ignore[arg-type]
            journal=journal,
        )

    levels = ["memory", "journal", *(["replicated"] if redis else [])]
    modes: dict[str, Any] = {PLAIN: None} | {each: level(each) for each in levels}

    def run(mode: Any) -> Callable[[], float]:
        return lambda: asyncio.run(set_all(servers, mode, keys, count, redis=redis))

    return alternate({name: run(mode) for name, mode in modes.items()}, settings["rounds"])


# --- reading -------------------------------------------------------------------------------------


async def read_apart(servers: Servers, keys: Sequence[str]) -> float:
    pool = await servers.pool()
    query = "SELECT value FROM cache_storage WHERE region = 'default' AND key = $1"

    async def get(key: str) -> object:
        return msgspec.msgpack.decode(await pool.fetchval(query, key))

    try:
        start = time.perf_counter()
        await asyncio.gather(*[get(key) for key in keys])
        return time.perf_counter() - start
    finally:
        await pool.close()


async def read_together(servers: Servers, keys: Sequence[str]) -> tuple[float, int]:
    """Seconds, and queries."""
    async with servers.cache(ReadThrough(backend=servers.rows())) as cache:
        await cache.get("warm")
        start = time.perf_counter()
        found = await asyncio.gather(*[cache.get(key) for key in keys])
        took = time.perf_counter() - start
        assert None not in found
        [figures] = (await cache.get_statistics()).storages.values()
        return took, figures.queries - 1


def cold_reads(servers: Servers, settings: dict[str, int]) -> tuple[Times, int]:
    keys = [f"user:{number}" for number in range(settings["cold"])]
    asyncio.run(
        set_all(
            servers,
            WriteThrough(backend=servers.rows()),
            len(keys),
            max(len(keys), TASKS),
            redis=False,
        )
    )
    queries: list[int] = []

    def together() -> float:
        took, count = asyncio.run(read_together(servers, keys))
        queries.append(count)
        return took

    subjects = {ONE_BY_ONE: lambda: asyncio.run(read_apart(servers, keys)), TOGETHER: together}
    return alternate(subjects, settings["rounds"]), round(median(queries))


# --- the relay -----------------------------------------------------------------------------------


class Heard:
    """A storage that notes how old each change is when who asked for it has carried it out."""

    def __init__(self, storage: Any, wanted: int) -> None:
        self._storage = storage
        self.wanted = wanted
        self.done = asyncio.Event()
        self._before: list[float] = []
        self.lags: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    async def changes(self, after: str, limit: int) -> Any:
        now = time.time()
        self.lags += [now - made for made in self._before]
        changes, position = await self._storage.changes(after, limit)
        self._before = [change.time for change in changes if change.origin == OTHER]
        if len(self.lags) >= self.wanted:
            self.done.set()
        return changes, position


async def follow(servers: Servers, seconds: float, rate: int) -> list[float]:
    """Lags of changes made by another program, so many a second, each a transaction."""
    rows, clock = servers.rows(), SystemClock()
    heard = Heard(make_storage(rows, clock, "reader"), int(seconds * rate))
    other = make_storage(rows, clock, OTHER)
    mode = WriteThrough(backend=rows)
    async with servers.cache(mode, redis=True, storage=heard, name="relay") as cache:
        await cache.get("warm")
        await other.open()
        writes: set[asyncio.Task[Any]] = set()
        start = time.perf_counter()
        for number in range(heard.wanted):
            payload = msgspec.msgpack.encode(number)
            change = RowChange("default", f"user:{number % 1000}", Encoded(payload, 2))
            writes.add(asyncio.create_task(other.write([change])))
            due = start + number / rate - time.perf_counter()
            if due > 0:
                await asyncio.sleep(due)
        await asyncio.wait(writes)
        await heard.done.wait()
        await other.aclose()
    return sorted(heard.lags)


# --- the report ----------------------------------------------------------------------------------


def a_second(times: Times, against: str, count: int) -> list[Row]:
    """Rows in pieces of work a second."""
    made = []
    for name, samples in times.items():
        cost = summary(samples)
        ratio = versus(times, against, name).median
        figures = (count / cost.median, count / cost.high, count / cost.low)
        made.append(Row(name, *figures, "", "", ratio))
    return made


def measure(quick: bool) -> Report:
    settings = {"keys": 5_000, "writes": 10_000, "cold": 1_000, "rounds": 7, "rate": 1_000}
    seconds = 10.0
    if quick:
        settings |= {"keys": 100, "writes": 600, "cold": 100, "rounds": 2, "rate": 200}
        seconds = 0.5
    report = Report("storage", {**settings, "tasks": TASKS, "seed": SEED})
    with tempfile.TemporaryDirectory(prefix="clusterdb-bench-") as folder:
        servers = Servers(Path(folder))
        try:
            through = write_through(servers, settings)
            behind = {
                redis: write_behind(servers, settings, redis=redis) for redis in (False, True)
            }
            cold, queries = cold_reads(servers, settings)
            lags = asyncio.run(follow(servers, seconds, settings["rate"]))
        finally:
            servers.stop()
    writes = settings["writes"]
    report.versions["asyncpg"] = version("asyncpg")
    report.sections += [
        Section(f"Writes to PostgreSQL by {TASKS} tasks", "/s", "x INSERT",
                a_second(through, INSERTS, writes)),
        *[Section(f"Writes behind, accepted, {where}", "/s", "x plain set",
                  a_second(behind[redis], PLAIN, writes))
          for redis, where in ((False, "memory backend"), (True, "Redis backend"))],
        Section(f"Reads of {settings['cold']} cold keys at once: {queries} queries", "/s",
                "x a query a key", a_second(cold, ONE_BY_ONE, settings["cold"])),
        Section(f"From a commit in SQL until the copy is gone, {settings['rate']} a second", "ms",
                "", [_lag(lags)], "", 1),
    ]  # fmt: skip
    noise = spread(through, OURS, AGAIN)
    ratio = versus(through, INSERTS, OURS).median
    report.verdicts.append(judge("P6", "write-through / INSERTs", ratio, ">=", 6, noise))
    ratio = versus(through, INSERTS, WITH_REDIS).median
    report.verdicts.append(judge("P6", "the same over Redis", ratio, ">=", 2.5, noise))
    return report


def _lag(lags: Sequence[float]) -> Row:
    low, middle, high = [each * 1000 for each in quantiles(lags, n=4)]
    worst = f"99%: {lags[int(len(lags) * 0.99)] * 1000:,.1f} ms"
    return Row("relay", middle, low, high, "", worst)


def main() -> None:
    options = arguments()
    report = measure(options.quick)
    print(report.text())
    path = options.output or (None if options.quick else RESULTS / "storage.json")
    if path is not None:
        report.write(path)


if __name__ == "__main__":
    main()
