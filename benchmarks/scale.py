"""What work costs as the cache grows: the in-process part of target P9.

A hit less ``dict.get`` on the same keys in the same order, from 10^4 to 10^6 entries (10^7 with
``--large``); ending a tag of 1 to 10^6 members; giving back the memory of expired entries; and the
longest pause of somebody else's operations while a million entries expire, or a tag of a million
ends. Under eight minutes on two slow cores.
"""

from __future__ import annotations

import asyncio
import gc
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from _peers import Call, fill_ours, ours
from _report import RESULTS, Report, Row, Section, Verdict, figure, judge
from _rounds import Summary, Times, alternate, summary, time_calls
from _workload import SEED, TTL, make_keys, make_values, tagged_chunks, uniform, zipf

from clusterdb.cache import Cache
from clusterdb.cache.backends.memory import MemoryBackend
from clusterdb.cache.testing import ManualClock

GROWTH = 1.5
PAIRS = (("clusterdb", "dict.get"), ("clusterdb again", "dict.get again"))
NARROW, WIDE, MANY = 4, 9, 1000


@dataclass(frozen=True)
class Size:
    """How much of everything."""

    entries: list[int]
    members: list[int]
    requests: int
    rounds: int
    repeats: int


def arguments(argv: Sequence[str] | None = None) -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and rough, writes no result")
    parser.add_argument("--large", action="store_true", help="hits up to 10^7 entries (16 GB)")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    return parser.parse_args(argv)


def size(quick: bool, large: bool) -> Size:
    if quick:
        return Size([100, 1000], [1, 100, 1000], 1000, 3, 2)
    entries = [10**4, 10**5, 10**6]
    members = [10**power for power in range(7)]
    return Size([*entries, *([10**7] if large else [])], members, 200_000, 11, 5)


# --- hits ----------------------------------------------------------------------------------------


def time_hits(entries: int, plan: Size) -> dict[str, Times]:
    """Time hits and ``dict.get`` for both orders of requests."""
    keys = make_keys(entries)
    data: dict[str, Any] = dict(zip(keys, make_values(entries), strict=True))
    orders = {"zipf": zipf(keys, plan.requests), "uniform": uniform(keys, plan.requests)}
    with ExitStack() as stack:
        pair: tuple[Call, Call] = fill_ours(data, stack), dict(data).get
        calls = dict(zip(PAIRS[0] + PAIRS[1], pair + pair, strict=True))
        found = {}
        for order, requests in orders.items():
            subjects = {name: _timed(call, requests) for name, call in calls.items()}
            found[order] = alternate(subjects, plan.rounds)
        return found


def _timed(call: Callable[[str], object], requests: list[str]) -> Callable[[], float]:
    return lambda: time_calls(call, requests)


def own_cost(times: Times) -> Summary:
    """What a hit costs beyond ``dict.get``, round by round."""
    ours_, plain = PAIRS[0]
    return summary([a - b for a, b in zip(times[ours_], times[plain], strict=True)])


def own_spread(times: Times) -> float:
    """How far that cost strays from itself when it is measured twice in one round."""
    first, second = (
        [a - b for a, b in zip(times[pair[0]], times[pair[1]], strict=True)] for pair in PAIRS
    )
    ratio = summary([b / a for a, b in zip(first, second, strict=True)])
    return max(abs(ratio.low - 1), abs(ratio.high - 1))


def hits(report: Report, plan: Size) -> None:
    measured = {entries: time_hits(entries, plan) for entries in plan.entries}
    for order in ("zipf", "uniform"):
        costs = {entries: own_cost(measured[entries][order]) for entries in plan.entries}
        noise = max(own_spread(measured[entries][order]) for entries in plan.entries)
        first = costs[plan.entries[0]].median
        rows = []
        for entries, cost in costs.items():
            plain = summary(measured[entries][order]["dict.get"]).median
            whole = summary(measured[entries][order]["clusterdb"]).median
            note = f"hit {whole:.0f}, dict.get {plain:.0f} ns"
            ratio = cost.median / first
            row = Row(f"{entries:,}", cost.median, cost.low, cost.high, note=note, compared=ratio)
            rows.append(row)
        title = f"P9  a hit less dict.get, {order} requests, by number of entries"
        control = f"A/A control: the same difference twice strays by {noise:.1%}"
        report.sections.append(Section(title, "ns", "x smallest", rows, control))
        grown = rows[-1].compared or 0.0
        what = f"hit less dict.get, {order}, {rows[-1].name} / {rows[0].name} entries"
        report.verdicts.append(judge("P9", what, grown, "<=", GROWTH, noise))


# --- tags ----------------------------------------------------------------------------------------


def time_tag(members: int) -> list[float]:
    """Nanoseconds to end each of a few tags that all ``members`` have."""
    tags = [f"tag:{number}" for number in range(WIDE)]
    keys = make_keys(members)
    with ours(members + 1).sync as cache:
        for start in range(0, members, MANY):
            cache.set_many(dict.fromkeys(keys[start : start + MANY], 0), ttl=TTL, tags=tags)
        cache.set("warm", 0, tags=("warm",))
        cache.invalidate_tag("warm")
        gc.collect()
        costs = []
        for tag in tags:
            start = perf_counter_ns()
            count = cache.invalidate_tag(tag)
            costs.append(float(perf_counter_ns() - start))
            if count != members:
                raise SystemExit(f"{tag} ended {count} entries, not {members}")
        return costs


def tags(report: Report, plan: Size) -> None:
    costs: dict[int, list[float]] = {members: [] for members in plan.members}
    again: dict[int, list[float]] = {members: [] for members in plan.members}
    for members in plan.members:
        costs[members] += time_tag(members)
    for members in plan.members[:NARROW]:
        again[members] += time_tag(members)
    report.sections.append(_growth("P9  invalidate_tag, by number of members", costs, "ns"))
    noise = _twice(costs, again, plan.members[:NARROW])
    report.verdicts.append(_flat("invalidate_tag", "members", costs, noise))


# --- expiry --------------------------------------------------------------------------------------


async def time_expiry(entries: int) -> float:
    """Nanoseconds an entry to give back ``entries`` that have expired, whoever does it."""
    clock = ManualClock()
    backend = MemoryBackend(clock)
    async with Cache(clock=clock, backend=backend) as cache:
        await _fill(cache, make_keys(entries))
        clock.advance(TTL + 1)
        gc.collect()
        start = perf_counter_ns()
        given = 0
        while found := backend.sweep():
            given += found
        spent = perf_counter_ns() - start
        if given != entries:
            raise SystemExit(f"{given} of {entries} expired entries were given back")
        return spent / entries


async def _fill(cache: Cache, keys: list[str]) -> None:
    for batch, names in tagged_chunks(keys, keys):
        await cache.set_many(batch, ttl=TTL, tags=names)


def expiry(report: Report, plan: Size) -> None:
    sizes = plan.entries[:3]
    costs: dict[int, list[float]] = {entries: [] for entries in sizes}
    asyncio.run(time_expiry(sizes[0]))  # the first one warms up
    for _ in range(plan.repeats):
        for entries in sizes:
            costs[entries].append(asyncio.run(time_expiry(entries)))
    title = "P9  expiry: giving back an entry's memory, by number of entries that expire at once"
    report.sections.append(_growth(title, costs, "ns an entry"))
    noise = max(_stray(found) for found in costs.values())
    report.verdicts.append(_flat("expiry an entry", "entries", costs, noise))


# --- pauses --------------------------------------------------------------------------------------


@dataclass
class Foreground:
    """Somebody else's hits and writes, one in each turn of the loop, and how long each took."""

    cache: Cache
    turns: list[int]

    async def run(self, done: Callable[[], bool]) -> None:
        while not done():
            start = perf_counter_ns()
            await self.cache.get("hot")
            await self.cache.set("written", 0)
            await asyncio.sleep(0)
            self.turns.append(perf_counter_ns() - start)


async def time_pauses(entries: int, event: str) -> dict[str, float]:
    """Milliseconds a turn of the loop took while nothing, or something big, happens."""
    clock = ManualClock()
    backend = MemoryBackend(clock)
    async with Cache(clock=clock, backend=backend) as cache:
        await cache.set("hot", 0, ttl=None)
        await _fill(cache, make_keys(entries))
        gc.collect()
        collected: list[float] = []
        watch = _watch(collected)
        gc.callbacks.append(watch)
        foreground = Foreground(cache, [])
        try:
            start = perf_counter_ns()
            if event == "expire":
                clock.advance(TTL + 1)
            elif event == "tag":
                await cache.invalidate_tag("users")
            elif event == "collect":
                gc.collect()
                foreground.turns.append(perf_counter_ns() - start)
            await foreground.run(await _until(backend, event, start))
        finally:
            gc.callbacks.remove(watch)
        turns = sorted(foreground.turns)
        return {
            "longest": turns[-1] / 1e6,
            "p99.9": turns[int(len(turns) * 0.999)] / 1e6,
            "median": turns[len(turns) // 2] / 1e6,
            "collector": max(collected, default=0.0),
            "all": (perf_counter_ns() - start) / 1e9,
        }


async def _until(backend: MemoryBackend, event: str, start: int) -> Callable[[], bool]:
    """When to stop: at the end of a second of nothing, or when all memory was given back."""
    table = backend.table("default")
    assert table is not None
    if event in {"nothing", "collect"}:
        return lambda: perf_counter_ns() - start > 1e9
    return lambda: len(table) <= 2 or perf_counter_ns() - start > 60e9


def _watch(collected: list[float]) -> Callable[[str, dict[str, int]], None]:
    """Write down how long each run of the collector takes, in milliseconds."""
    began = 0

    def watch(phase: str, _: dict[str, int]) -> None:
        nonlocal began
        if phase == "start":
            began = perf_counter_ns()
        else:
            collected.append((perf_counter_ns() - began) / 1e6)

    return watch


EVENTS = {
    "nothing": "nothing happens",
    "expire": "all expire at once",
    "tag": "a tag that all have ends",
    "collect": "Python looks for garbage everywhere",
}


def pauses(report: Report, plan: Size) -> None:
    entries = plan.entries[:3][-1]
    rows = []
    for event, text in EVENTS.items():
        runs = [asyncio.run(time_pauses(entries, event)) for _ in range(min(plan.repeats, 3))]
        longest = summary([run["longest"] for run in runs])
        worst = max(runs, key=lambda run: run["longest"])
        note = (
            f"99.9%: {worst['p99.9']:.2f}, half: {worst['median']:.3f}, "
            f"collector: {worst['collector']:.2f} ms, over after {worst['all']:.1f} s"
        )
        rows.append(Row(text, longest.median, longest.low, longest.high, note=note))
    title = f"P9  longest pause of a get and a set in the same loop, {entries:,} entries"
    control = "collector: its longest run, which is part of the pause it fell into"
    report.sections.append(Section(title, "ms", "", rows, control, digits=2))


# --- shapes that expiry and tags share -----------------------------------------------------------


def _growth(title: str, costs: dict[int, list[float]], unit: str) -> Section:
    least = summary(costs[min(costs)]).median
    rows = []
    for count, samples in costs.items():
        cost = summary(samples)
        ratio = cost.median / least
        rows.append(Row(f"{count:,}", cost.median, cost.low, cost.high, compared=ratio))
    return Section(title, unit, "x smallest", rows)


def _flat(what: str, things: str, costs: dict[int, list[float]], noise: float) -> Verdict:
    medians = {count: summary(samples).median for count, samples in costs.items()}
    least = min(medians)
    worst = max((count for count in medians if count > least), key=medians.__getitem__)
    grown = medians[worst] / medians[least]
    text = f"{what}, {figure(worst, 0)} (the dearest) / {figure(least, 0)} {things}"
    return judge("P9", text, grown, "<=", GROWTH, noise)


def _stray(samples: Sequence[float]) -> float:
    """How far a repeated measurement strays from its median: the farther of its quartiles."""
    found = summary(samples)
    return max(1 - found.low / found.median, found.high / found.median - 1)


def _twice(
    costs: dict[int, list[float]], again: dict[int, list[float]], counts: Sequence[int]
) -> float:
    ratios = [summary(again[count]).median / summary(costs[count]).median for count in counts]
    return max(abs(ratio - 1) for ratio in ratios)


def measure(quick: bool, large: bool) -> Report:
    plan = size(quick, large)
    settings = {
        "entries up to": plan.entries[-1],
        "requests": plan.requests,
        "rounds": plan.rounds,
        "seed": SEED,
    }
    report = Report("scale", settings)
    for part in (hits, tags, expiry, pauses):
        part(report, plan)
        gc.collect()
    return report


def main() -> None:
    options = arguments()
    report = measure(options.quick, options.large)
    print(report.text())
    target = options.output or (None if options.quick else RESULTS / "scale.json")
    if target is not None:
        report.write(target)


if __name__ == "__main__":
    main()
