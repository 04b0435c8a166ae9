"""A cache in one file: reads and writes beside diskcache and plain sqlite3, one process and four,
the near tier over it, and how soon another process sees a change. Under four minutes.

Values are dicts of four fields; every subject turns them into bytes and back: ours and sqlite3 by
msgspec, diskcache by pickle, which is how it works. All run without waiting for the disk at each
commit (``synchronous=normal`` in WAL mode), which is the default of each.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import sqlite3
import statistics
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import msgspec
from _peers import ours
from _report import RESULTS, Report, Row, Section, judge, version
from _rounds import Times, alternate, spread, summary, time_calls, versus
from _workload import SEED, TTL, make_keys, zipf

from clusterdb.cache import Cache, CacheConfig
from clusterdb.cache.config import Disk

OURS, AGAIN = "clusterdb", "clusterdb again"
NEAR = "clusterdb near hit"
SQLITE, DISKCACHE = "sqlite3", "diskcache"
TASKS = 256
WORKERS = 4
BOOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def arguments() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and rough, writes no result")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    return parser.parse_args()


def size(quick: bool) -> dict[str, int]:
    if quick:
        return {"keys": 500, "requests": 1_000, "rounds": 2, "seed": SEED}
    return {"keys": 20_000, "requests": 10_000, "rounds": 7, "seed": SEED}


def value_of(number: int) -> dict[str, Any]:
    """About 100 bytes as MessagePack."""
    return {"id": number, "name": f"user {number}", "mail": "x" * 60, "active": True}


# --- one process, one caller ---------------------------------------------------------------------


class Subject:
    """A cache on disk: how one key is read and written by a plain call."""

    def __init__(self, get: Callable[[str], Any], put: Callable[[str, Any], Any]) -> None:
        self.get = get
        self.put = put


def our_subject(folder: Path, stack: ExitStack, *, near: bool) -> Subject:
    config = CacheConfig(backend=Disk(path=folder / "cache.db", near=near))
    cache = stack.enter_context(Cache(config).sync)
    return Subject(cache.get, partial(cache.set, ttl=TTL))


def sqlite_subject(folder: Path, stack: ExitStack) -> Subject:
    """The least that one could write: one table, one statement a call."""
    connection = sqlite3.connect(folder / "plain.db", isolation_level=None)
    stack.callback(connection.close)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = normal")
    connection.execute("CREATE TABLE IF NOT EXISTS cache (key TEXT PRIMARY KEY, value BLOB, until)")
    encode, decode = msgspec.msgpack.encode, msgspec.msgpack.decode
    read = "SELECT value FROM cache WHERE key = ? AND until > ?"
    write = "INSERT OR REPLACE INTO cache VALUES (?, ?, ?)"

    def get(key: str) -> Any:
        row = connection.execute(read, (key, time.time())).fetchone()
        return None if row is None else decode(row[0])

    def put(key: str, value: Any) -> None:
        connection.execute(write, (key, encode(value), time.time() + TTL))

    return Subject(get, put)


def diskcache_subject(folder: Path, stack: ExitStack) -> Subject:
    cache = stack.enter_context(import_module("diskcache").Cache(str(folder / "diskcache")))
    return Subject(cache.get, partial(cache.set, expire=TTL))


def one_process(settings: dict[str, int], folder: Path, stack: ExitStack) -> tuple[Times, Times]:
    keys = make_keys(settings["keys"])
    requests = zipf(keys, settings["requests"], settings["seed"])
    made = {
        OURS: our_subject(folder / "a", stack, near=False),
        AGAIN: our_subject(folder / "b", stack, near=False),
        NEAR: our_subject(folder / "c", stack, near=True),
        SQLITE: sqlite_subject(folder, stack),
    }
    if version("diskcache"):
        made[DISKCACHE] = diskcache_subject(folder, stack)
    values = {key: value_of(number) for number, key in enumerate(keys)}
    for name, subject in made.items():
        for key, value in values.items():
            subject.put(key, value)
        if subject.get(keys[7]) != values[keys[7]]:
            raise SystemExit(f"{name} lost {keys[7]!r}")
    for key in keys:
        made[NEAR].get(key)
    reads = alternate(
        {name: partial(time_calls, subject.get, requests) for name, subject in made.items()},
        settings["rounds"],
    )
    few = requests[: len(requests) // 4]
    del made[NEAR]
    writes = alternate(
        {
            name: partial(time_calls, lambda key, put=subject.put: put(key, values[key]), few)
            for name, subject in made.items()
        },
        settings["rounds"],
    )
    return reads, writes


# --- one process, many tasks ---------------------------------------------------------------------


def many_tasks(settings: dict[str, int], folder: Path) -> Times:
    """A read and a write of ours with 256 tasks at once."""
    keys = make_keys(settings["keys"])
    requests = zipf(keys, settings["requests"], settings["seed"])

    async def spread_out(work: Callable[[str], Any]) -> float:
        queue = iter(requests)

        async def worker() -> None:
            for key in queue:
                await work(key)

        start = perf_counter_ns()
        await asyncio.gather(*[worker() for _ in range(TASKS)])
        return (perf_counter_ns() - start) / len(requests)

    with asyncio.Runner() as runner:
        cache = Cache(CacheConfig(backend=Disk(path=folder / "tasks" / "cache.db", near=False)))
        value = value_of(1)
        runner.run(cache.set_many(dict.fromkeys(keys, value), ttl=TTL))
        times = alternate(
            {
                "get": lambda: runner.run(spread_out(cache.get)),
                "set": lambda: runner.run(spread_out(lambda key: cache.set(key, value, ttl=TTL))),
            },
            settings["rounds"],
        )
        runner.run(cache.aclose())
    return times


# --- the near tier beside the memory backend -----------------------------------------------------


def near_tier(settings: dict[str, int], folder: Path, stack: ExitStack) -> Times:
    """A hit of the near tier, of the memory backend, and of it again, by plain calls."""
    keys = make_keys(settings["keys"])
    requests = zipf(keys, 10 * settings["requests"], settings["seed"])
    values = {key: value_of(number) for number, key in enumerate(keys)}
    near = our_subject(folder / "near", stack, near=True)
    subjects: dict[str, Callable[[str], Any]] = {"near tier": near.get}
    for key, value in values.items():
        near.put(key, value)
        near.get(key)
    for name in ("memory backend", "memory backend again"):
        memory = stack.enter_context(ours(len(keys)).sync)
        memory.set_many(values, ttl=TTL)
        subjects[name] = memory.get
    return alternate(
        {name: partial(time_calls, get, requests) for name, get in subjects.items()},
        settings["rounds"],
    )


# --- several processes ---------------------------------------------------------------------------


def _work(kind: str, folder: str, number: int, settings: dict[str, int], ready: Any, go: Any,
          results: Any) -> None:  # fmt: skip
    keys = make_keys(settings["keys"])
    requests = zipf(keys, settings["requests"], settings["seed"] + number)
    makers: dict[str, Callable[[Path, ExitStack], Subject]] = {
        OURS: partial(our_subject, near=False),
        NEAR: partial(our_subject, near=True),
        SQLITE: sqlite_subject,
        DISKCACHE: diskcache_subject,
    }
    with ExitStack() as stack:
        subject = makers[kind](Path(folder), stack)
        value = value_of(number)
        ready.release()
        go.wait()
        start = perf_counter_ns()
        for at, key in enumerate(requests):
            if at % 10:
                subject.get(key)
            else:
                subject.put(key, value)
        results.put(perf_counter_ns() - start)


def several(kind: str, settings: dict[str, int], folder: Path) -> float:
    """Nanoseconds an operation, all processes together: nine reads to a write, four processes."""
    context = multiprocessing.get_context("spawn")
    ready, go, results = context.Semaphore(0), context.Event(), context.Queue()
    folder.mkdir(parents=True, exist_ok=True)
    workers = [
        context.Process(
            target=_work, args=(kind, str(folder), number, settings, ready, go, results)
        )
        for number in range(WORKERS)
    ]
    for worker in workers:
        worker.start()
    for _ in workers:
        if not ready.acquire(timeout=60):
            raise SystemExit(f"a process of {kind} did not start")
    go.set()
    spent = [results.get(timeout=300) for _ in workers]
    for worker in workers:
        worker.join(30)
    return max(spent) / (WORKERS * settings["requests"])


# --- how soon another process sees a change ------------------------------------------------------


def _watch(path: str, rounds: int, pipe: Any) -> None:
    async def watch() -> None:
        async with Cache(CacheConfig(backend=Disk(path=path))) as cache:
            await cache.get("k")
            pipe.send("ready")
            for number in range(rounds):
                found = await cache.get("k")
                while found["n"] < number:
                    await asyncio.sleep(0)  # it is how soon a reader sees it that counts
                    found = await cache.get("k")
                pipe.send(time.clock_gettime(BOOT) - found["at"])

    asyncio.run(watch())


def seen_by_another(rounds: int, folder: Path) -> list[float]:
    """Milliseconds from before a ``set`` until another process, which reads all the time and has
    the old value near, gets the new one.
    """
    context = multiprocessing.get_context("spawn")
    ours_end, theirs = context.Pipe()
    path = folder / "seen" / "cache.db"
    with Cache(CacheConfig(backend=Disk(path=path))).sync as cache:
        cache.set("k", {"n": -1, "at": 0.0})
        watcher = context.Process(target=_watch, args=(str(path), rounds, theirs))
        watcher.start()
        seen: list[float] = []
        try:
            ours_end.recv()
            for number in range(rounds):
                time.sleep(0.02)
                cache.set("k", {"n": number, "at": time.clock_gettime(BOOT)})
                if not ours_end.poll(30):
                    raise SystemExit("the other process saw nothing for 30 s")
                seen.append(1000 * ours_end.recv())
        finally:
            watcher.join(10)
            watcher.kill()
    return seen


# --- tables --------------------------------------------------------------------------------------


def rows(times: Times, against: str, scale: float = 1000) -> list[Row]:
    """A row a subject in microseconds, the cheapest first, with its ratio to ``against``."""
    found = []
    for name, samples in times.items():
        cost = summary(samples)
        ratio = versus(times, name, against).median if against in times else None
        release = {DISKCACHE: version("diskcache"), SQLITE: sqlite3.sqlite_version}.get(name, "")
        low, high = cost.low / scale, cost.high / scale
        found.append(Row(name, cost.median / scale, low, high, release, "", ratio))
    return sorted(found, key=lambda row: row.value)


def control(times: Times, subject: str, again: str) -> str:
    ratio = versus(times, again, subject)
    return f"A/A control: again / once {ratio.median:.3f} ({ratio.low:.3f}..{ratio.high:.3f})"


def measure(quick: bool, folder: Path) -> Report:
    settings = size(quick)
    report = Report("disk", settings, versions={"diskcache": version("diskcache")})
    add = report.sections.append
    with ExitStack() as stack:
        reads, writes = one_process(settings, folder / "one", stack)
    note = control(reads, OURS, AGAIN)
    add(Section("A read from disk, called", "us", "x ours", rows(reads, OURS), note, 2))
    note = control(writes, OURS, AGAIN)
    add(Section("A write to disk, called", "us", "x ours", rows(writes, OURS), note, 1))
    tasks = many_tasks(settings, folder)
    add(Section(f"One call among {TASKS} tasks, awaited", "us", "", rows(tasks, ""), "", 1))
    with ExitStack() as stack:
        near = near_tier(settings, folder, stack)
    note = control(near, "memory backend", "memory backend again")
    title = "A hit of the near tier over disk, called"
    add(Section(title, "ns", "x memory", rows(near, "memory backend", 1), note))
    noise = spread(near, "memory backend", "memory backend again")
    ratio = versus(near, "near tier", "memory backend").median
    report.verdicts.append(judge("near", "near hit / memory hit", ratio, "<=", 1.2, noise))
    kinds = [OURS, NEAR, SQLITE, *([DISKCACHE] if version("diskcache") else [])]
    shared: Times = {
        kind: [
            several(kind, settings, folder / f"{kind} {turn}") for turn in range(1 if quick else 3)
        ]
        for kind in kinds
    }
    title = f"{WORKERS} processes, nine reads to a write: each operation of all together"
    add(Section(title, "us", "x ours", rows(shared, OURS), "", 1))
    seen = sorted(seen_by_another(20 if quick else 300, folder))
    add(Section("Until another process, which has the old value near, sees a change", "ms", "",
                seen_rows(seen), "", 2))  # fmt: skip
    return report


def seen_rows(seen: Sequence[float]) -> list[Row]:
    low, median, high = statistics.quantiles(seen, n=4, method="inclusive")
    last = seen[int(0.99 * (len(seen) - 1))]
    return [
        Row("median", median, low, high),
        Row("99th percentile", last, last, last),
        Row("longest", seen[-1], seen[-1], seen[-1]),
    ]


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory(prefix="clusterdb-bench-") as folder:
        report = measure(options.quick, Path(folder))
    print(report.text())
    target = options.output or (None if options.quick else RESULTS / "disk.json")
    if target is not None:
        report.write(target)


if __name__ == "__main__":
    sys.exit(main())
