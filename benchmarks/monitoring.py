"""What monitoring costs: a hit in memory and near, and a read that leaves the process, with metrics
on and off. On means all of it: latencies, a sample ten times a second, alerts, and a scrape by
Prometheus's client after each round. Then what the admin server does in a second, and how long its
page takes. Two minutes.

A hit is only counted, so that on and off should not differ. A read of a file is the cheapest call
that is timed: what the clock and the histogram add shows there the most.
"""

from __future__ import annotations

import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import _admin as admin
from _report import RESULTS, Report, Row, Section, judge
from _rounds import Times, alternate, spread, summary, time_calls, versus
from _workload import SEED, make_keys, zipf
from prometheus_client import CollectorRegistry, generate_latest

from clusterdb.cache import (
    LRU,
    AlertConfig,
    Cache,
    CacheConfig,
    CachePolicy,
    CacheStatistics,
    Disk,
    Memory,
    MetricsConfig,
    MonitoringConfig,
)
from clusterdb.cache.sync import SyncCache
from clusterdb.monitoring import Monitor

ON, AGAIN, OFF = "metrics on", "metrics on again", "metrics off"
ALL = MonitoringConfig(metrics=True, statistics=CacheStatistics(interval=0.1))
NONE = MonitoringConfig(metrics=False, statistics=CacheStatistics(enabled=False))
ALERTS = MetricsConfig(alerts=AlertConfig(max_memory_usage=0.99, max_eviction_rate=1_000_000))
MOST = 1.15


def arguments() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and rough, writes no result")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    return parser.parse_args()


def made(name: str, backend: Memory | Disk, keys: Sequence[str], stack: ExitStack) -> SyncCache:
    """A cache with all keys in it."""
    on = name != OFF
    config = CacheConfig(
        backend=backend,
        policy=CachePolicy(eviction=LRU(max_items=2 * len(keys))),
        monitoring=ALL if on else NONE,
        metrics=ALERTS if on else None,
    )
    cache = stack.enter_context(Cache(config).sync)
    for at in range(0, len(keys), 1000):
        cache.set_many({key: {"key": key} for key in keys[at : at + 1000]}, ttl=3600)
    for key in keys:
        cache.get(key)  # what is read is near from here on
    return cache


def timed(cache: SyncCache, requests: Sequence[str], *, on: bool) -> Callable[[], float]:
    """Nanoseconds of a get; then a scrape, which is not timed but leaves its traces."""
    registry = CollectorRegistry()
    if on:
        Monitor(cache).register(registry)

    def run() -> float:
        taken = time_calls(cache.get, requests)
        generate_latest(registry)
        return taken

    return run


def compare(
    backend: Callable[[str], Memory | Disk], settings: dict[str, int], requests: int, tier: str
) -> Times:
    """The three subjects in turn."""
    keys = make_keys(settings["keys"])
    asked = zipf(keys, requests, settings["seed"])
    with ExitStack() as stack:
        caches = {name: made(name, backend(name), keys, stack) for name in (ON, AGAIN, OFF)}
        for cache in caches.values():
            cache.get(keys[0])  # what is near may need a look at the file after the pause
            found = cache.lookup(keys[0])
            if getattr(found, "tier", None) != tier:
                raise SystemExit(f"{keys[0]} was not answered by {tier}: {found!r}")
        subjects = {name: timed(cache, asked, on=name != OFF) for name, cache in caches.items()}
        return alternate(subjects, settings["rounds"])


def rows(times: Times) -> list[Row]:
    return [row(name, each, versus(times, name, OFF).median) for name, each in times.items()]


def measure(*, quick: bool) -> Report:
    settings = {"keys": 10_000, "requests": 200_000, "reads": 10_000, "rounds": 15}
    if quick:
        settings = {"keys": 500, "requests": 20_000, "reads": 1_000, "rounds": 3}
    settings["seed"] = SEED
    report = Report("monitoring", settings)
    with tempfile.TemporaryDirectory(prefix="clusterdb-bench-") as folder:

        def disk(name: str, *, near: bool) -> Disk:
            return Disk(path=Path(folder, f"{name} {near}.db"), near=near)

        measured = {
            "A hit of the memory backend": compare(
                lambda _: Memory(), settings, settings["requests"], "memory"
            ),
            "A hit of the near tier": compare(
                lambda name: disk(name, near=True), settings, settings["requests"], "near"
            ),
            "A read of a file": compare(
                lambda name: disk(name, near=False), settings, settings["reads"], "disk"
            ),
        }
    for title, times in measured.items():
        report.sections.append(Section(title, "ns", "x off", rows(times), digits=0))
        if "hit" in title:
            ratio = versus(times, ON, OFF).median
            what = f"{title[0].lower()}{title[1:]}: metrics on / off"
            noise = spread(times, ON, AGAIN)
            report.verdicts.append(judge("monitoring", what, ratio, "<=", MOST, noise))
    add_admin(report, count=400 if quick else 4_000, rounds=2 if quick else 7)
    return report


def add_admin(report: Report, count: int, rounds: int) -> None:
    """The admin server: microseconds a request beside a bare route, milliseconds until a page is
    painted, and until it shows figures.
    """
    report.settings |= {"admin_requests": count, "admin_rounds": rounds}
    times = {
        name: [nanoseconds / 1000 for nanoseconds in samples]
        for name, samples in admin.requests(count, rounds).items()
    }
    answered = [
        row(
            name, samples, versus(times, name, admin.BARE).median, f"{1e6 / median(samples):,.0f}/s"
        )
        for name, samples in times.items()
    ]
    title = f"A request to the admin server, {admin.CONNECTIONS} clients"
    control = f"the same entry twice differs by {spread(times, admin.ENTRY, admin.ENTRY_AGAIN):.1%}"
    report.sections.append(Section(title, "us", "x bare", answered, control=control, digits=0))
    for what, paints in zip(("painted", "full of figures"), admin.paints(rounds), strict=True):
        found = [
            row(name, samples, versus(paints, name, admin.QUIET).median)
            for name, samples in paints.items()
        ]
        noise = spread(paints, admin.LOADED, admin.LOADED_AGAIN)
        control = f"the loaded page twice differs by {noise:.1%}"
        title = f"The admin page in Chromium, until it is {what}"
        report.sections.append(Section(title, "ms", "x quiet", found, control=control, digits=0))


def row(name: str, samples: Sequence[float], compared: float, note: str = "") -> Row:
    cost = summary(samples)
    return Row(name, cost.median, cost.low, cost.high, note=note, compared=compared)


def main() -> None:
    options = arguments()
    report = measure(quick=options.quick)
    print(report.text())
    path = options.output or (None if options.quick else RESULTS / "monitoring.json")
    if path is not None:
        report.write(path)


if __name__ == "__main__":
    main()
