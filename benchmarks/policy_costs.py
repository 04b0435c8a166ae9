"""What the policies cost: a hit and an insertion that evicts, beside our own LRU's, by the size of
the cache; how long a change of policy holds up everybody else; and the memory of what a policy
keeps beyond the entries (ghosts, sketches, shadows). A few minutes.

Hits and insertions go through ``cache.sync`` with keys of a Zipf distribution, as a user's do.
"""

from __future__ import annotations

import gc
import sys
import tracemalloc
from argparse import ArgumentParser, Namespace
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from time import perf_counter_ns

from _report import RESULTS, Report, Row, Section, judge
from _rounds import Times, alternate, spread, summary, time_calls, versus
from _workload import SEED, make_keys, zipf

from clusterdb.cache import Cache, CacheConfig
from clusterdb.cache.config import LRU, Adaptive, CachePolicy
from clusterdb.cache.guard import TableLock
from clusterdb.cache.policy import POLICIES
from clusterdb.cache.table import Table
from clusterdb.cache.tags import TagStates
from clusterdb.cache.types import FOREVER

OURS, AGAIN, BASE = "adaptive", "adaptive again", "lru"
HIT, INSERT, STATE, PAUSE = 1.5, 3.0, 40.0, 10.0


def arguments() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and rough, writes no result")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    return parser.parse_args()


# --- through the cache ---------------------------------------------------------------------------


def caches(stack: ExitStack, size: int) -> dict[str, Cache]:
    kinds = {OURS: Adaptive, AGAIN: Adaptive, BASE: LRU}
    made = {}
    for name, kind in kinds.items():
        policy = CachePolicy(eviction=kind(max_items=size))
        cache = Cache(CacheConfig(policy=policy))
        stack.enter_context(cache.sync)
        made[name] = cache
    return made


def hits(size: int, requests: int, rounds: int) -> Times:
    """All keys are there."""
    keys = make_keys(size)
    wanted = zipf(keys, requests, SEED)
    with ExitStack() as stack:
        made = caches(stack, size)
        for cache in made.values():
            for key in keys:
                cache.sync.set(key, key)
        return alternate(
            {name: lambda c=cache: time_calls(c.sync.get, wanted) for name, cache in made.items()},  # type: ignore[misc]
            rounds,
        )


def insertions(size: int, requests: int, rounds: int) -> Times:
    """Every key is new, and the cache is full."""
    numbers = {name: count() for name in (OURS, AGAIN, BASE)}

    def run(name: str, cache: Cache) -> float:
        keys = [f"{next(numbers[name])}" for _ in range(requests)]
        put = cache.sync.set
        return time_calls(lambda key: put(key, 1), keys)

    with ExitStack() as stack:
        made = caches(stack, size)
        for name, cache in made.items():
            for _ in range(size):
                cache.sync.set(f"{next(numbers[name])}", 1)
        return alternate(
            {name: lambda n=name, c=cache: run(n, c) for name, cache in made.items()},  # type: ignore[misc]
            rounds,
        )


# --- of the table alone --------------------------------------------------------------------------


def full_table(policy: str, size: int) -> Table:
    table = Table(
        lock=TableLock(), tags=TagStates(), versions=count(1), policy=POLICIES[policy](), now=0.0
    )
    table.configure(POLICIES[policy](), size, None, 0.0)
    for number in range(2 * size):  # so that there is something to remember of what left
        table.put(str(number), None, deadline=FOREVER, weight=0, now=0.0)
        table.get(str(number // 2), 0.0)
    return table


def state(policy: str, size: int) -> float:
    """Bytes an entry that a full table takes, less what one of FIFO does, which keeps nothing."""

    def taken(name: str) -> int:
        gc.collect()
        tracemalloc.start()
        table = full_table(name, size)
        gc.collect()
        used, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        del table
        return used

    return (taken(policy) - taken("fifo")) / size


def pauses(policy: str, size: int) -> tuple[float, float]:
    """Milliseconds a change to ``policy`` takes, and the longest of the steps that follow it."""
    table = full_table("lru" if policy != "lru" else "fifo", size)
    new = POLICIES[policy]()
    gc.collect()
    began = perf_counter_ns()
    table.configure(new, size, None, 0.0)
    change, longest = perf_counter_ns() - began, 0
    while table.sweeping:
        began = perf_counter_ns()
        table.sweep(0.0, 1000)
        longest = max(longest, perf_counter_ns() - began)
    return change / 1e6, longest / 1e6


# --- the report ----------------------------------------------------------------------------------


def rows(times: Times) -> list[Row]:
    made = []
    for name in (OURS, BASE):
        cost = summary(times[name])
        ratio = versus(times, name, BASE).median
        made.append(Row(name, cost.median, cost.low, cost.high, "", "", ratio))
    return made


def measure(quick: bool) -> Report:
    sizes = [100, 1000] if quick else [100, 1000, 4000, 100_000]
    requests, rounds, entries = (20_000, 3, 10_000) if quick else (300_000, 7, 100_000)
    settings = {"requests": requests, "rounds": rounds, "entries": entries, "seed": SEED}
    report = Report("policy_costs", settings)
    for what, took, bound in (("hit", hits, HIT), ("insertion that evicts", insertions, INSERT)):
        for size in sizes:
            print(f"{what}, {size:,} entries", file=sys.stderr)
            times = took(size, requests if took is hits else requests // 10, rounds)
            title = (
                f"A {what}, {size:,} entries" if what == "hit" else f"An {what}, {size:,} entries"
            )
            report.sections.append(Section(title, "ns", "x lru", rows(times), "", 0))
            ratio = versus(times, OURS, BASE).median
            told = f"{what} at {size:,} entries, adaptive / lru"
            noise = spread(times, OURS, AGAIN)
            report.verdicts.append(judge("policy", told, ratio, "<=", bound, noise))
    kept = [Row(name, bytes_, bytes_, bytes_) for name in POLICIES if name != "fifo"
            for bytes_ in (state(name, entries),)]  # fmt: skip
    title = f"What a policy keeps beyond the entries, {entries:,} entries, as many left"
    report.sections.append(Section(title, "bytes an entry", "", kept, "", 1))
    [own] = [row.value for row in kept if row.name == OURS]
    report.verdicts.append(
        judge("policy", "state of adaptive, bytes an entry", own, "<=", STATE, 0.0)
    )
    held = {name: pauses(name, entries) for name in POLICIES}
    title = f"Change to a policy: pause at once (longest step after it), {entries:,} entries"
    report.sections.append(
        Section(title, "ms", "", [Row(name, at, at, after) for name, (at, after) in held.items()],
                "", 2)
    )  # fmt: skip
    worst = max(max(pair) for pair in held.values())
    told = f"longest pause of a change of policy, ms ({entries:,} entries)"
    report.verdicts.append(judge("policy", told, worst, "<=", PAUSE, 0.0))
    return report


def main() -> None:
    options = arguments()
    report = measure(options.quick)
    print(report.text())
    path = options.output or (None if options.quick else RESULTS / "policy_costs.json")
    if path is not None:
        report.write(path)


if __name__ == "__main__":
    main()
