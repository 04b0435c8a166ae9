"""Backups of one Redis: how fast one is made, checked and put back, beside `redis-cli --rdb` and a
plain loop of SCAN, DUMP and RESTORE; what it needs in memory as entries grow; and what it costs
those who read meanwhile. Starts the servers itself; about ten minutes with a million entries.

Values are dicts of four fields, about 100 bytes, with a TTL. Every backup is made by a process of
its own, into a directory of the machine, and without limits of speed but where readers are
measured: there it has the limits that a configuration has by default.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from _report import RESULTS, ROOT, Report, Row, Section, judge, version
from _rounds import Times, alternate, spread, summary, versus
from _under_way import forget_peak, peak
from memory import resident

from clusterdb.cache import BackupConfig, Cache, CacheConfig, Directory, Redis

# The servers are those of the tests.
sys.path.insert(0, str(ROOT))
start = import_module("tests.redis.servers").start

FULL, AGAIN, INCREMENTAL = "clusterdb, full", "clusterdb, full, again", "clusterdb, incremental"
VERIFY, RESTORE = "clusterdb, verify", "clusterdb, restore"
RDB, LOOP, LOOP_BACK = "redis-cli --rdb", "SCAN and DUMP, a key a call", "RESTORE, a key a call"
CHANGED = 0.01
LOAD = 0.2
TTL = 86_400
SEED = 7919
"""Readers ask for every so manieth key, round and round: a prime, so that they come to all."""


def arguments() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and rough, writes no result")
    parser.add_argument("--entries", type=int, help="how many (by default a million)")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    parser.add_argument("--work", nargs=4, help="inside: operation, port, place, limited or free")
    return parser.parse_args()


def size(quick: bool, entries: int | None) -> dict[str, int]:
    if quick:
        settings = {"entries": entries or 5_000, "rounds": 1, "seconds": 2, "loop": 1_000}
    else:
        settings = {"entries": entries or 1_000_000, "rounds": 3, "seconds": 30, "loop": 50_000}
    return settings | {"seed": SEED}


def value_of(number: int) -> dict[str, Any]:
    return {"id": number, "name": f"user {number}", "mail": "x" * 60, "active": True}


def config(port: int, place: Path, *, limited: bool = False) -> CacheConfig:
    free: dict[str, Any] = {"entries_per_second": None, "bytes_per_second": None}
    return CacheConfig(
        backend=Redis(urls=[f"redis://127.0.0.1:{port}"], near=False),
        backup=BackupConfig(
            schedule="0 0 * * *",
            retention="7d",
            storage=Directory(path=place),
            **({} if limited else free),
        ),
    )


def make(port: int, place: Path, *, limited: bool = False) -> Cache:
    return Cache(config(port, place, limited=limited))


# --- inside a process of its own -----------------------------------------------------------------


async def operate(operation: str, port: int, place: Path, limited: bool) -> dict[str, float]:
    """Do one thing: how long it took, how many bytes came of it, and how much memory it needed."""
    async with make(port, place, limited=limited) as cache:
        await cache.get("key:0")
        before = resident()
        forget_peak()
        began = time.perf_counter()
        match operation:
            case "restore":
                report = await cache.backups.restore(overwrite="always")
                assert report.failed == 0, report.failures
                size = 0
            case "verify":
                checked = await cache.backups.verify()
                assert checked.good, checked.problems
                size = checked.size
            case "full" | "incremental" as kind:
                size = (await cache.backups.create(kind=kind)).size
            case _:
                raise SystemExit(f"unknown: {operation}")
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "bytes": size, "memory": peak(), "grew": peak() - before}


def worker(operation: str, port: int, place: Path, limited: bool = False) -> subprocess.Popen[str]:
    words = [operation, str(port), str(place), "limited" if limited else "free"]
    return subprocess.Popen(  # noqa: S603 - this very file
        [sys.executable, __file__, "--work", *words], stdout=subprocess.PIPE, text=True
    )


def work(operation: str, port: int, place: Path) -> dict[str, float]:
    with worker(operation, port, place) as process:
        out, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"{operation} failed")
    told: dict[str, float] = json.loads(out)
    return told


# --- how fast ------------------------------------------------------------------------------------


async def fill(port: int, place: Path, numbers: Sequence[int]) -> None:
    async with make(port, place) as cache:
        for at in range(0, len(numbers), 5_000):
            some = numbers[at : at + 5_000]
            await cache.set_many({f"key:{each}": value_of(each) for each in some}, ttl=TTL)


def change(port: int, place: Path, entries: int) -> None:
    """Write some entries anew."""
    some = range(0, entries, round(1 / CHANGED))
    asyncio.run(fill(port, place, some))


def dump_rdb(port: int, place: Path) -> float:
    began = time.perf_counter()
    command = ["redis-cli", "-p", str(port), "--rdb", str(place / "dump.rdb")]
    subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - Redis's own tool
    return time.perf_counter() - began


class PlainLoop:
    """What one would write by hand: keys by SCAN, then DUMP and PTTL of each; and back by RESTORE.
    It is timed for some keys only, as it takes long.
    """

    def __init__(self, port: int, keys: int, entries: int) -> None:
        self._client = import_module("redis").Redis(port=port)
        self._keys, self._scale = min(keys, entries), entries / min(keys, entries)
        self._dumped: list[tuple[bytes, int, bytes]] = []

    def dump(self) -> float:
        began = time.perf_counter()
        self._dumped = []
        for key in self._client.scan_iter(count=1000):
            self._dumped.append((key, self._client.pttl(key), self._client.dump(key)))
            if len(self._dumped) == self._keys:
                break
        return (time.perf_counter() - began) * self._scale

    def restore(self) -> float:
        began = time.perf_counter()
        for key, left, value in self._dumped:
            self._client.restore(key, max(left, 0), value, replace=True)
        return (time.perf_counter() - began) * self._scale


def speeds(report: Report, port: int, place: Path, settings: dict[str, int]) -> None:
    entries = settings["entries"]
    sizes: dict[str, float] = {}

    def ours(name: str, operation: str) -> Callable[[], float]:
        def once() -> float:
            if operation == "incremental":
                change(port, place, entries)
            told = work(operation, port, place)
            sizes[name] = told["bytes"]
            return told["seconds"]

        return once

    subjects = {
        FULL: ours(FULL, "full"),
        AGAIN: ours(AGAIN, "full"),
        INCREMENTAL: ours(INCREMENTAL, "incremental"),
        VERIFY: ours(VERIFY, "verify"),
        RESTORE: ours(RESTORE, "restore"),
        RDB: lambda: dump_rdb(port, place),
    }
    if version("redis"):
        loop = PlainLoop(port, settings["loop"], entries)
        subjects |= {LOOP: loop.dump, LOOP_BACK: loop.restore}
    work("full", port, place)  # what the first rounds build on
    if version("redis"):
        loop.dump()
    times = alternate(subjects, settings["rounds"], warm_up=False)
    sizes[RDB] = (place / "dump.rdb").stat().st_size
    report.sections.append(
        Section(
            title=f"{entries:,} entries of one Redis",
            unit="entries/s",
            against="time / that of a full backup",
            rows=[_speed(name, times, sizes, entries) for name in times],
            control=f"A/A control: {spread(times, FULL, AGAIN):.1%}",
        )
    )
    if version("redis"):
        ratio = versus(times, LOOP, FULL).median
        report.verdicts.append(
            judge("B1", f"full backup: {LOOP} / ours", ratio, ">=", 3, spread(times, FULL, AGAIN))
        )


def _speed(name: str, times: Times, sizes: dict[str, float], entries: int) -> Row:
    found = summary([entries / seconds for seconds in times[name]])
    megabytes = sizes.get(name, 0) / 1e6
    seconds = statistics.median(times[name])
    note = f"{megabytes:,.1f} MB, {megabytes / seconds:,.1f} MB/s" if megabytes else ""
    ratio = versus(times, name, FULL).median
    return Row(name, found.median, found.low, found.high, note=note, compared=ratio)


# --- in how much memory --------------------------------------------------------------------------


def memories(
    report: Report, port: int, place: Path, entries: int, clear: Callable[[], None]
) -> None:
    """The peak of the process that makes a backup, at a tenth of the entries and at all of them."""
    found: dict[tuple[str, int], float] = {}
    for count in (entries // 10, entries):
        clear()
        asyncio.run(fill(port, place, range(count)))
        for operation in ("full", "incremental", "restore"):
            found[operation, count] = work(operation, port, place)["memory"] / 1e6
    rows = [
        Row(f"{operation}, {count:,} entries", value, value, value)
        for (operation, count), value in found.items()
    ]
    title = "The most memory that the process of a backup had"
    report.sections.append(Section(title=title, unit="MB", against="", rows=rows, digits=1))
    for operation in ("full", "incremental", "restore"):
        ratio = found[operation, entries] / found[operation, entries // 10]
        what = f"memory of {operation}: {entries:,} entries / {entries // 10:,}"
        report.verdicts.append(judge("B2", what, ratio, "<=", 1.1, 0.0))


# --- what readers feel ---------------------------------------------------------------------------


async def capacity(cache: Cache, entries: int, seconds: float) -> float:
    """Reads a second among 256 tasks."""
    end, done = time.perf_counter() + seconds, 0

    async def read(number: int) -> None:
        nonlocal done
        while time.perf_counter() < end:
            number = (number * SEED + 1) % entries
            await cache.get(f"key:{number}")
            done += 1

    await asyncio.gather(*[read(number) for number in range(256)])
    return done / seconds


async def latencies(cache: Cache, entries: int, rate: float, seconds: float) -> list[float]:
    """How long reads took, counted from when each was due: they come whether others are done or
    not.
    """
    found: list[float] = []
    began = time.perf_counter()

    async def read(number: int, due: float) -> None:
        await cache.get(f"key:{number}")
        found.append(time.perf_counter() - due)

    async with asyncio.TaskGroup() as group:
        sent = 0
        while (passed := time.perf_counter() - began) < seconds:
            while sent < passed * rate:
                sent += 1
                group.create_task(read(sent * SEED % entries, began + sent / rate))
            await asyncio.sleep(0.001)
    return found


async def readers(port: int, place: Path, settings: dict[str, int]) -> dict[str, list[float]]:
    """The 99th percentile of each round, without a backup, twice, and with one."""
    found: dict[str, list[float]] = {"no backup": [], "no backup, again": [], "a backup": []}
    entries, seconds = settings["entries"], settings["seconds"]
    async with make(port, place) as cache:
        rate = LOAD * await capacity(cache, entries, min(seconds, 5))
        for _ in range(settings["rounds"]):
            for name, values in found.items():
                process = worker("full", port, place, limited=True) if name == "a backup" else None
                times = await latencies(cache, entries, rate, seconds)
                if process is not None:
                    process.kill()
                    process.wait()
                    assert process.stdout is not None
                    process.stdout.close()
                values.append(statistics.quantiles(times, n=100)[98] * 1000)
    return found


def felt(report: Report, port: int, place: Path, settings: dict[str, int]) -> None:
    times = asyncio.run(readers(port, place, settings))
    rows = []
    for name, each in times.items():
        seen = summary(each)
        ratio = versus(times, name, "no backup").median
        rows.append(Row(name, seen.median, seen.low, seen.high, compared=ratio))
    noise = spread(times, "no backup", "no backup, again")
    title = f"The 99th percentile of reads that come at {LOAD:.0%} of what one process can do"
    report.sections.append(
        Section(
            title=title,
            unit="ms",
            against="/ no backup",
            rows=rows,
            control=f"A/A control: {noise:.1%}",
            digits=2,
        )
    )
    ratio = versus(times, "a backup", "no backup").median
    what = "99th percentile of reads: during a backup with the default limits / without"
    report.verdicts.append(judge("B3", what, ratio, "<=", 1.5, noise))


def measure(quick: bool, entries: int | None) -> Report:
    settings = size(quick, entries)
    report = Report("backup", settings, versions={"redis": version("redis")})
    with tempfile.TemporaryDirectory(prefix="clusterdb-bench-") as folder:
        place = Path(folder, "backups")
        place.mkdir()
        deployment = start("standalone", Path(folder))
        server = deployment.servers[0]
        try:
            memories(
                report, server.port, place, settings["entries"], lambda: server.ask("FLUSHALL")
            )
            speeds(report, server.port, place, settings)
            felt(report, server.port, place, settings)
        finally:
            deployment.stop()
    return report


def main() -> None:
    options = arguments()
    if options.work:
        operation, port, place, limited = options.work
        done = asyncio.run(operate(operation, int(port), Path(place), limited == "limited"))
        print(json.dumps(done))
        return
    report = measure(options.quick, options.entries)
    print(report.text())
    path = options.output or (None if options.quick else RESULTS / "backup.json")
    if path is not None:
        report.write(path)


if __name__ == "__main__":
    main()
