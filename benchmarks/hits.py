"""What a hit costs: targets P1 (awaited) and P2 (called), beside the peers.

100 000 keys with a TTL and two tags, all in; requests by Zipf's law; metrics on. Under four minutes
on two slow cores.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from _peers import AWAITED, CALLED, Await, Call, Peer, fill_ours, fill_ours_async
from _report import RESULTS, ROOT, Report, Row, Section, Verdict, build, judge
from _rounds import Times, alternate, spread, summary, time_calls, versus
from _workload import SEED, make_keys, make_values, zipf

OURS, AGAIN = "clusterdb", "clusterdb again"
NOOP = "await noop()"
PURE = "clusterdb pure"
FEW = 1000
FEW_PEERS = ("dict.get", "cachebox VTTLCache", "cachetools LRUCache", "cachetools TTLCache")


def arguments(argv: Sequence[str] | None = None) -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and rough, writes no result")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    parser.add_argument("--pure", action="store_true", help="measure the pure part, print JSON")
    return parser.parse_args(argv)


def size(quick: bool) -> dict[str, int]:
    if quick:
        return {"keys": 1000, "requests": 2000, "rounds": 3, "seed": SEED}
    return {"keys": 100_000, "requests": 200_000, "rounds": 15, "seed": SEED}


class Workload:
    """Keys, values and requests; a subject gets the requests it has time for."""

    def __init__(self, keys: int, requests: int, rounds: int, seed: int) -> None:
        names = make_keys(keys)
        self.data: dict[str, Any] = dict(zip(names, make_values(keys), strict=True))
        self.requests = zipf(names, requests, seed)
        self.rounds = rounds

    def some(self, slower: int) -> list[str]:
        """The first requests for a subject that is ``slower`` times as slow as the fast ones."""
        return self.requests[: len(self.requests) // slower]

    def check(self, name: str, found: object, key: str) -> None:
        """Refuse to time a subject that gives something else than what was put in."""
        found = found[0] if isinstance(found, tuple) else found  # theine: value, whether found
        if found != self.data[key]:
            raise SystemExit(f"{name} lost {key!r}: it would be timed for misses")


# --- called --------------------------------------------------------------------------------------


def called(work: Workload, peers: Sequence[Peer], stack: ExitStack) -> Times:
    """Time ours, ours again, the peers and two baselines."""
    calls: dict[str, tuple[Call, int]] = {"empty call": (_nothing, 1)}
    for name in (OURS, AGAIN):
        calls[name] = fill_ours(work.data, stack), 1
    for peer in peers:
        calls[peer.name] = peer.fill(work.data, stack), peer.slower
    subjects: dict[str, Callable[[], float]] = {"empty loop": lambda: _loop(work.requests)}
    for name, (call, slower) in calls.items():
        requests = work.some(slower)
        if name != "empty call":
            for key in set(requests):
                work.check(name, call(key), key)
        subjects[name] = _timed(call, requests)
    return alternate(subjects, work.rounds)


def _timed(call: Call, requests: list[str]) -> Callable[[], float]:
    return lambda: time_calls(call, requests)


def _nothing(key: str) -> None:
    del key


def _loop(requests: list[str]) -> float:
    start = perf_counter_ns()
    for _ in requests:
        pass
    return (perf_counter_ns() - start) / len(requests)


# --- awaited -------------------------------------------------------------------------------------


def awaited(work: Workload, peers: Sequence[Peer]) -> Times:
    """Time ours, ours again, the peers and ``await noop()``, all in one loop."""
    with asyncio.Runner() as runner:
        waits: dict[str, tuple[Await, int]] = {NOOP: (_noop, 1)}
        for name in (OURS, AGAIN):
            waits[name] = runner.run(fill_ours_async(work.data)), 1
        for peer in peers:
            waits[peer.name] = runner.run(peer.fill(work.data)), peer.slower
        subjects: dict[str, Callable[[], float]] = {}
        for name, (wait, slower) in waits.items():
            requests = work.some(slower)
            if name != NOOP:
                runner.run(_check_all(work, name, wait, requests))
            subjects[name] = _run(runner, wait, requests)
        times = alternate(subjects, work.rounds)
        for name in (OURS, AGAIN):
            runner.run(waits[name][0].__self__.aclose())  # type: ignore[attr-defined]
        return times


def _run(runner: asyncio.Runner, wait: Await, requests: list[str]) -> Callable[[], float]:
    return lambda: runner.run(_time_awaits(wait, requests))


async def _check_all(work: Workload, name: str, wait: Await, requests: list[str]) -> None:
    for key in set(requests):
        work.check(name, await wait(key), key)


async def _time_awaits(wait: Await, requests: list[str]) -> float:
    start = perf_counter_ns()
    for key in requests:
        await wait(key)
    return (perf_counter_ns() - start) / len(requests)


async def _noop(key: str) -> None:
    del key


# --- pure, in a process of its own ---------------------------------------------------------------

PURE_PEERS = ("dict.get", "cachetools LRUCache", "cachetools TTLCache")


def measure_pure(work: Workload) -> Times:
    """Time the sources as they are, in this process, with the cachetools beside them."""
    peers = [peer for peer in CALLED if peer.name in PURE_PEERS and peer.installed]
    with ExitStack() as stack:
        return called(work, peers, stack)


def pure_times(quick: bool) -> Times | None:
    """Run :func:`measure_pure` in an interpreter that finds the sources first."""
    command = [sys.executable, __file__, "--pure", *(["--quick"] if quick else [])]
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(  # noqa: S603
        command, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(f"the pure part could not be measured:\n{done.stderr}", file=sys.stderr)
        return None
    found: dict[str, Any] = json.loads(done.stdout)
    if found["build"] != "pure":
        print("the pure part could not be measured: src/ holds a build", file=sys.stderr)
        return None
    times: Times = found["times"]
    return times


# --- tables --------------------------------------------------------------------------------------


def section(title: str, times: Times, peers: Sequence[Peer], label: str) -> Section:
    """A section with each subject's cost, and its ratio to ours, the cheapest first."""
    known = {peer.name: peer for peer in peers}
    rows = []
    for name, samples in times.items():
        peer, costs = known.get(name), summary(samples)
        version, note = (peer.version, peer.written_in) if peer else ("", "")
        shown = name.replace(OURS, label)
        ratio = versus(times, name, OURS).median
        rows.append(Row(shown, costs.median, costs.low, costs.high, version, note, ratio))
    rows.sort(key=lambda row: row.value)
    again = versus(times, AGAIN, OURS)
    control = (
        f"A/A control: ours again / ours {again.median:.3f} ({again.low:.3f}..{again.high:.3f})"
    )
    return Section(title, "ns", "x ours", rows, control)


def verdicts_awaited(times: Times) -> list[Verdict]:
    noise = spread(times, OURS, AGAIN)
    what = versus(times, OURS, NOOP).median
    found = [judge("P1", "await cache.get / await noop()", what, "<=", 3, noise)]
    for name, bound in (("cashews memory", 15), ("aiocache memory", 60)):
        if name in times:
            times_ours = versus(times, name, OURS).median
            found.append(judge("P1", f"{name} / await cache.get", times_ours, ">=", bound, noise))
    return found


def verdicts_called(times: Times) -> list[Verdict]:
    noise = spread(times, OURS, AGAIN)
    found = []
    if "cachebox VTTLCache" in times:
        ratio = versus(times, OURS, "cachebox VTTLCache").median
        found.append(judge("P2", "sync.get / cachebox VTTLCache", ratio, "<=", 2, noise))
    written = [peer.name for peer in CALLED if peer.written_in.startswith("Python")]
    pure = {name: versus(times, name, OURS).median for name in written if name in times}
    if pure:
        best = min(pure, key=pure.__getitem__)
        what = f"fastest peer in Python ({best}) / sync.get"
        found.append(judge("P2", what, pure[best], ">=", 1, noise))
    return found


def verdicts_pure(times: Times) -> list[Verdict]:
    if "cachetools TTLCache" not in times:
        return []
    ratio = versus(times, OURS, "cachetools TTLCache").median
    noise = spread(times, OURS, AGAIN)
    return [judge("P2", "pure sync.get / cachetools TTLCache", ratio, "<=", 0.5, noise)]


def few_keys(settings: dict[str, int], label: str) -> list[Section]:
    """The same with keys so few that the processor's caches hold them all: what is left is work,
    where the difference to many keys is waiting for memory.
    """
    work = Workload(**{**settings, "keys": FEW})
    peers = [peer for peer in CALLED if peer.name in FEW_PEERS and peer.installed]
    with ExitStack() as stack:
        times = called(work, peers, stack)
    return [
        section(f"A hit, awaited, with {FEW:,} keys", awaited(work, []), [], label),
        section(f"A hit, called, with {FEW:,} keys", times, peers, label),
    ]


def measure(quick: bool) -> Report:
    settings = size(quick)
    report = Report("hits", settings)
    work = Workload(**settings)
    waited = [peer for peer in AWAITED if peer.installed]
    plain = [peer for peer in CALLED if peer.installed]
    report.versions = {p.distribution: p.version for p in (*plain, *waited) if p.distribution}
    label = f"clusterdb {build()}"

    times = awaited(work, waited)
    report.sections.append(section("P1  a hit, awaited", times, waited, label))
    report.verdicts += verdicts_awaited(times)
    with ExitStack() as stack:
        times = called(work, plain, stack)
    report.sections.append(section("P2  a hit, called", times, plain, label))
    report.verdicts += verdicts_called(times)
    report.sections += few_keys(settings, label)
    pure = pure_times(quick)
    if pure is not None:
        title = "P2  a hit, called, without the compiled modules"
        report.sections.append(section(title, pure, plain, PURE))
        report.verdicts += verdicts_pure(pure)
    return report


def main() -> None:
    options = arguments()
    if options.pure:
        print(
            json.dumps({"build": build(), "times": measure_pure(Workload(**size(options.quick)))})
        )
        return
    report = measure(options.quick)
    print(report.text())
    target = options.output or (None if options.quick else RESULTS / "hits.json")
    if target is not None:
        report.write(target)


if __name__ == "__main__":
    main()
