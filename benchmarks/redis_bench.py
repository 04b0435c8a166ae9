"""A cache on Redis beside the Redis clients: 256 tasks and one, reads and writes, on one server and
on a Cluster of three primaries; and what thousands of commands under way need. Starts the servers
itself; under eight minutes.

Values are dicts of four fields. Ours does the whole work of a cache: an envelope with its checksum,
the expiry of each read. The others store the MessagePack of the value and read it back; that is all
they do. The near tier is off: it is the way to the server that is measured.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from _clients import (
    AGAIN,
    GLIDE,
    OURS,
    PEERS,
    PIPELINE,
    REDIS_PY,
    Get,
    Holder,
    Subject,
)
from _report import RESULTS, ROOT, Report, Row, Section, judge, version
from _rounds import Times, alternate, spread, summary, versus
from _under_way import measure_under_way
from _workload import SEED, make_keys, zipf

# The servers are those of the tests.
sys.path.insert(0, str(ROOT))
start = import_module("tests.redis.servers").start

TASKS = 256
_ATTEMPTS = 10
PIPELINED = 100
PRIMARIES = 3


def arguments() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and rough, writes no result")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    return parser.parse_args()


def size(quick: bool) -> dict[str, int]:
    if quick:
        return {"keys": 500, "requests": 2_000, "rounds": 2, "under way": 1_000, "seed": SEED}
    return {
        "keys": 10_000, "requests": 20_000, "rounds": 7, "under way": 10_000, "seed": SEED,
    }  # fmt: skip


def value_of(number: int) -> dict[str, Any]:
    """About 100 bytes as MessagePack."""
    return {"id": number, "name": f"user {number}", "mail": "x" * 60, "active": True}


# --- the work ------------------------------------------------------------------------------------


async def spread_out(
    work: Callable[[Any], Awaitable[Any]], items: Sequence[Any], tasks: int
) -> None:
    """Let ``tasks`` tasks do the work of all items."""
    queue = iter(items)

    async def worker() -> None:
        for item in queue:
            await work(item)

    await asyncio.gather(*[worker() for _ in range(tasks)])


class Costs:
    """Rounds of subjects: how long a call took, and beside it what this process computed for it."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._rounds: dict[str, Callable[[], float]] = {}
        self._spent: Times = {}

    def add(self, name: str, work: Any, items: Sequence[Any], tasks: int, each: int = 1) -> None:
        """A subject whose work of one item is ``each`` calls."""
        self._rounds[name] = partial(self._once, name, work, items, tasks, len(items) * each)

    def _once(self, name: str, work: Any, items: Sequence[Any], tasks: int, calls: int) -> float:
        before, started = time.process_time_ns(), perf_counter_ns()
        self._runner.run(spread_out(work, items, tasks))
        took, spent = perf_counter_ns() - started, time.process_time_ns() - before
        self._spent.setdefault(name, []).append(spent / calls)
        return took / calls

    def measure(self, rounds: int) -> tuple[Times, Times]:
        """Nanoseconds a call, and nanoseconds of this process's processors."""
        times = alternate(self._rounds, rounds)
        return times, {name: spent[-rounds:] for name, spent in self._spent.items()}


class Work:
    """The rounds of one kind of servers."""

    def __init__(
        self, runner: asyncio.Runner, made: dict[str, Subject], settings: dict[str, int]
    ) -> None:
        self.runner = runner
        self.made = made
        self.rounds = settings["rounds"]
        self.keys = make_keys(settings["keys"])
        self.requests = zipf(self.keys, settings["requests"], settings["seed"])
        self.values = {key: value_of(number) for number, key in enumerate(self.keys)}

    def fill(self) -> None:
        """Store every value by every subject, and read one back.

        By one task first, and again where that fails: while it opens hundreds of connections at
        once, redis-py's client of a Cluster may trip over one of its own (AttributeError).
        """
        for name, subject in self.made.items():
            for attempt in range(_ATTEMPTS):
                try:
                    for tasks in (1, TASKS):
                        self.runner.run(spread_out(self.putting(subject), self.keys, tasks))
                    break
                except AttributeError:
                    if attempt == _ATTEMPTS - 1:
                        raise
            if self.runner.run(read_one(subject, self.keys[7])) != self.values[self.keys[7]]:
                raise SystemExit(f"{name} lost {self.keys[7]!r}")

    def putting(self, subject: Subject) -> Get:
        put, values = subject.put, self.values
        return lambda key: put(key, values[key])

    def reads(self, tasks: int, share: int = 1) -> tuple[Times, Times]:
        requests = self.requests[: len(self.requests) // share]
        costs = Costs(self.runner)
        for name, subject in self.made.items():
            costs.add(name, subject.get, requests, tasks)
        for subject in self.made.values():
            if subject.many is not None and tasks > 1:
                starts = range(0, len(requests), PIPELINED)
                chunks = [requests[at : at + PIPELINED] for at in starts]
                costs.add(PIPELINE, subject.many, chunks, 4, PIPELINED)
        return costs.measure(self.rounds)

    def writes(self) -> tuple[Times, Times]:
        requests = self.requests[: len(self.requests) // 2]
        costs = Costs(self.runner)
        for name, subject in self.made.items():
            costs.add(name, self.putting(subject), requests, TASKS)
        return costs.measure(self.rounds)


async def read_one(subject: Subject, key: str) -> Any:
    return await subject.get(key)


# --- tables --------------------------------------------------------------------------------------


def rows(times: Times, made: dict[str, Subject], per_second: bool = True) -> list[Row]:
    """A row a subject in microseconds, the cheapest first, with its ratio to ours."""
    found = []
    for name, samples in times.items():
        cost, ratio = summary(samples), versus(times, name, OURS).median
        subject = made.get(REDIS_PY if name == PIPELINE else name)
        release = version(subject.distribution) if subject and subject.distribution else ""
        note = f"{1e9 / cost.median:,.0f}/s" if per_second else ""
        figures = (cost.median / 1000, cost.low / 1000, cost.high / 1000)
        found.append(Row(name, *figures, release, note, ratio))
    return sorted(found, key=lambda row: row.value)


def control(times: Times) -> str:
    ratio = versus(times, AGAIN, OURS)
    return f"A/A control: again / once {ratio.median:.3f} ({ratio.low:.3f}..{ratio.high:.3f})"


def add(report: Report, title: str, times: Times, made: dict[str, Subject], **options: Any) -> None:
    section = Section(title, "us", "x ours", rows(times, made, **options), control(times), 1)
    report.sections.append(section)


def target(report: Report, name: str, times: Times, peer: str, bound: float, what: str) -> None:
    if peer in times:
        ratio = versus(times, peer, OURS).median
        noise = spread(times, OURS, AGAIN)
        report.verdicts.append(judge(name, f"{what}: {peer} / ours", ratio, ">=", bound, noise))


def measure_on(report: Report, kind: str, settings: dict[str, int]) -> None:
    cluster = kind == "cluster"
    where = f"a Cluster of {PRIMARIES} primaries" if cluster else "one server"
    with tempfile.TemporaryDirectory(prefix="clusterdb-bench-") as folder:
        deployment = start(kind, Path(folder))
        try:
            ports = [server.port for server in deployment.servers[: PRIMARIES if cluster else 1]]
            with asyncio.Runner() as runner:
                holder = Holder(ports, cluster)
                made = runner.run(holder.open())
                work = Work(runner, made, settings)
                work.fill()
                reads, reading = work.reads(TASKS)
                writes, writing = work.writes()
                alone, _ = work.reads(1, share=10)
                runner.run(holder.aclose())
        finally:
            deployment.stop()
    add(report, f"A get among {TASKS} tasks, {where}", reads, made)
    add(report, f"A set among {TASKS} tasks, {where}", writes, made)
    add(report, f"A get of one task alone, {where}", alone, made)
    for verb, spent in (("get", reading), ("set", writing)):
        title = f"Processor time of a {verb} among {TASKS} tasks, {where}"
        add(report, title, spent, made, per_second=False)
    target(report, "P3", reads, REDIS_PY, 5 if cluster else 6, f"get, {where}")
    if not cluster:
        target(report, "P3", reads, GLIDE, 3, f"get, {where}")
    target(report, "P4", writes, REDIS_PY, 5, f"set, {where}")
    target(report, "P5", alone, REDIS_PY, 1, f"one task, {where}")


def measure(quick: bool) -> Report:
    settings = size(quick)
    versions = {distribution: version(distribution) for distribution, _ in PEERS.values()}
    report = Report("redis", settings, versions=versions)
    for kind in ("standalone", "cluster"):
        measure_on(report, kind, settings)
    report.sections.append(measure_under_way(settings["under way"], min(3, settings["rounds"])))
    return report


def main() -> None:
    options = arguments()
    report = measure(options.quick)
    print(report.text())
    path = options.output or (None if options.quick else RESULTS / "redis.json")
    if path is not None:
        report.write(path)


if __name__ == "__main__":
    main()
