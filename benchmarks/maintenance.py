"""What maintenance costs those who use the cache meanwhile, and how much a rebalancing moves.

**Foreground.** One process reads from Redis, its near tier off, at a fifth of what it can do at
most, as an open loop: requests come when they come, and a late answer delays none of them. Beside
it, in the same process and on the same server, a clean-up goes through all entries at the default
rate; then not; and so on in turn. Without, it is measured twice. About two minutes.

**Rebalancing.** A cluster of three primaries, one of which has all the keys, and a ring of which
one server has two thirds: how many move, over the least that have to. On the ring keys are read
meanwhile, as an open loop like the one above, and before.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from time import perf_counter
from typing import Any

from _report import RESULTS, ROOT, Report, Row, Section, judge
from _rounds import Times, rotation, spread, summary, versus
from _workload import SEED, make_keys, zipf

from clusterdb.cache import (
    Cache,
    CacheConfig,
    Cleanup,
    Consistent,
    MaintenanceConfig,
    PartitioningConfig,
    Rebalance,
    Redis,
)

sys.path.insert(0, str(ROOT))  # the tests know how to start servers
servers: Any = import_module("tests.redis.servers")
slot_of = import_module("clusterdb.cache.transport").slot_of

DURING, WITHOUT, AGAIN = "during a clean-up", "without", "without, again"
LOAD = 0.2
MOST_SLOWER, MOST_MOVED = 1.5, 1.1
LOPSIDED = Consistent(weights=(4.0, 1.0, 1.0))
BEFORE, MEANWHILE = "before", "while keys move"
WEEK = MaintenanceConfig(
    schedule="0 0 1 1 *", tasks=[Cleanup(older_than="7d"), Rebalance(threshold=0.2)]
)


def arguments() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and rough, writes no result")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    return parser.parse_args()


@asynccontextmanager
async def opened(kind: str) -> AsyncIterator[Cache]:
    """A maintained cache on servers of its own."""
    with tempfile.TemporaryDirectory(prefix="clusterdb-bench-") as folder:
        deployment = servers.start(kind, Path(folder))
        try:
            backend = Redis(urls=deployment.urls, cluster=kind == "cluster", near=False)
            placing = PartitioningConfig(strategy=LOPSIDED if kind == "ring" else Consistent())
            config = CacheConfig(backend=backend, maintenance=WEEK, partitioning=placing)
            async with Cache(config) as cache:
                cache.access.runtime.maintenance.duties = "asked"
                yield cache
        finally:
            deployment.stop()


async def fill(cache: Cache, keys: list[str]) -> None:
    for at in range(0, len(keys), 1000):
        await cache.set_many({key: {"key": key} for key in keys[at : at + 1000]}, tags=("t",))


# -- foreground


async def capacity(cache: Cache, asked: list[str]) -> float:
    """Reads a second with 64 tasks that wait for nothing else."""
    started = perf_counter()

    async def client(mine: list[str]) -> None:
        for key in mine:
            await cache.get(key)

    await asyncio.gather(*[client(asked[at::64]) for at in range(64)])
    return len(asked) / (perf_counter() - started)


async def open_loop(cache: Cache, asked: list[str], rate: float) -> float:
    """The 99th percentile, in microseconds, of the time from when a request was to be made until
    its answer.
    """
    waits: list[float] = []
    began = perf_counter()

    async def request(key: str, at: float) -> None:
        await cache.get(key)
        waits.append(perf_counter() - at)

    async with asyncio.TaskGroup() as group:
        for number, key in enumerate(asked):
            at = began + number / rate
            await asyncio.sleep(max(0.0, at - perf_counter()))
            group.create_task(request(key, at))
    return statistics.quantiles(waits, n=100)[98] * 1e6


async def foreground(settings: dict[str, Any]) -> tuple[Times, float]:
    """The percentiles of each round, and the rate of the requests."""
    keys = make_keys(settings["keys"])
    asked = zipf(keys, settings["requests"], settings["seed"])
    subjects = [DURING, WITHOUT, AGAIN]
    times: Times = {name: [] for name in subjects}
    async with opened("standalone") as cache:
        await fill(cache, keys)
        rate = await capacity(cache, asked) * LOAD
        for turn in range(-1, settings["rounds"]):
            for name in rotation(subjects, turn):
                cleaning = asyncio.create_task(clean(cache)) if name == DURING else None
                cost = await open_loop(cache, asked, rate)
                if cleaning is not None:
                    cleaning.cancel()
                    await asyncio.wait([cleaning])
                if turn >= 0:
                    times[name].append(cost)
    return times, rate


async def clean(cache: Cache) -> None:
    """Clean up, again and again, until cancelled."""
    while True:
        await cache.run_maintenance("cleanup")


# -- rebalancing


async def moved(settings: dict[str, Any]) -> tuple[int, int]:
    """How many keys a rebalancing moved, and the least it had to."""
    async with opened("cluster") as cache:
        keys = [key for key in make_keys(settings["slots"] * 30) if _slot(key) < 5461]
        await fill(cache, keys)
        least = (await cache.get_balance()).least
        run = await cache.run_maintenance("rebalance")
        return run.jobs[0].moved, least


async def ring_moved(settings: dict[str, Any]) -> tuple[Times, int, int]:
    """The percentiles of reads before and while keys of a ring move, how many moved, and the least
    that had to.
    """
    async with opened("ring") as cache:
        keys = make_keys(settings["ring keys"])
        asked = zipf(keys, settings["ring requests"], settings["seed"])
        await fill(cache, keys)
        least = (await cache.get_balance()).least
        rate = await capacity(cache, asked) * LOAD
        times: Times = {BEFORE: [], MEANWHILE: []}
        for _ in range(settings["rounds"]):
            times[BEFORE].append(await open_loop(cache, asked, rate))
        moving = asyncio.create_task(cache.run_maintenance("rebalance"))
        while not moving.done():
            times[MEANWHILE].append(await open_loop(cache, asked, rate))
        return times, (await moving).jobs[0].moved, least


def _slot(key: str) -> int:
    return int(slot_of(f"main:default:{key}".encode()))


async def measure(*, quick: bool) -> Report:
    settings: dict[str, Any] = {"keys": 50_000, "requests": 20_000, "rounds": 7, "slots": 500}
    settings |= {"ring keys": 30_000, "ring requests": 2_000}
    if quick:
        settings = {"keys": 500, "requests": 500, "rounds": 3, "slots": 10}
        settings |= {"ring keys": 300, "ring requests": 200}
    settings["seed"] = SEED
    times, rate = await foreground(settings)
    count, least = await moved(settings)
    ring_times, ring_count, ring_least = await ring_moved(settings)
    settings["requests a second"] = round(rate)
    report = Report("maintenance", settings)
    rows = []
    for name, samples in times.items():
        cost, ratio = summary(samples), versus(times, name, WITHOUT).median
        rows.append(Row(name, cost.median, cost.low, cost.high, compared=ratio))
    title = "The 99th percentile of reads from Redis at a fifth of the most"
    report.sections.append(Section(title, "us", "x without", rows, digits=0))
    report.sections.append(_ring_section(ring_times))
    ratio, noise = versus(times, DURING, WITHOUT).median, spread(times, WITHOUT, AGAIN)
    what = "reads during a clean-up: 99th percentile / without"
    report.verdicts.append(judge("maintenance", what, ratio, "<=", MOST_SLOWER, noise))
    what = "keys that a rebalancing moved / the least that have to"
    report.verdicts.append(judge("maintenance", what, count / least, "<=", MOST_MOVED, 0.0))
    what = "keys of a ring that a rebalancing moved / the least that have to"
    ratio = ring_count / ring_least
    report.verdicts.append(judge("maintenance", what, ratio, "<=", MOST_MOVED, 0.0))
    return report


def _ring_section(times: Times) -> Section:
    """There are as many samples of the move as it took, so medians are compared."""
    before = summary(times[BEFORE]).median
    rows = []
    for name, samples in times.items():
        cost = summary(samples)
        rows.append(Row(name, cost.median, cost.low, cost.high, compared=cost.median / before))
    title = "The 99th percentile of reads from a ring at a fifth of the most"
    return Section(title, "us", "x before", rows, digits=0)


def main() -> None:
    options = arguments()
    report = asyncio.run(measure(quick=options.quick))
    print(report.text())
    path = options.output or (None if options.quick else RESULTS / "maintenance.json")
    if path is not None:
        report.write(path)


if __name__ == "__main__":
    main()
