"""What an entry costs in memory beside its key and value: target P8.

Each subject fills a process of its own with a million entries: keys and values of 100 bytes are
made first, so that the growth of the resident set (after a collection, and after giving free
memory back to the system) is what the cache itself needs. Under five minutes on two slow cores.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

from _peers import CALLED, Peer, fill_ours, ours
from _report import RESULTS, ROOT, Report, Row, Section, Verdict, build, judge
from _rounds import Times, alternate, spread, summary, versus
from _workload import SEED, TTL, make_keys, make_values

OURS, AGAIN, PURE = "clusterdb", "clusterdb again", "clusterdb pure"
OWN_TAG = "clusterdb, a tag of its own for each entry"
BESIDE = (
    "dict.get",
    "cachetools TTLCache",
    "cachebox VTTLCache",
    "theine",
    "moka-py",
    "lru-dict",
)


def arguments(argv: Sequence[str] | None = None) -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small and rough, writes no result")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    parser.add_argument("--fill", metavar="SUBJECT", help="fill this one and print its growth")
    parser.add_argument("--entries", type=int, default=1_000_000)
    return parser.parse_args(argv)


# --- inside a subject's own process --------------------------------------------------------------


def resident() -> int:
    """Bytes this process has in memory, with no garbage in it and nothing held in reserve."""
    gc.collect()
    with suppress(OSError, AttributeError):  # not every C library can
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def fill_own_tag(data: dict[str, Any], stack: ExitStack) -> Callable[[str], Any]:
    """Fill ours with two tags of which one is the entry's own."""
    cache = stack.enter_context(ours(len(data)).sync)
    for number, (key, value) in enumerate(data.items()):
        cache.set(key, value, ttl=TTL, tags=("users", f"user:{number}"))
    return cache.get


def fillers() -> dict[str, Callable[..., Any]]:
    known: dict[str, Callable[..., Any]] = {peer.name: peer.fill for peer in CALLED}
    return {**known, OURS: fill_ours, AGAIN: fill_ours, PURE: fill_ours, OWN_TAG: fill_own_tag}


def grow(subject: str, entries: int) -> dict[str, Any]:
    """Fill one cache and see by how much the process grew."""
    keys = make_keys(entries)
    data = dict(zip(keys, make_values(entries), strict=True))
    fill = fillers()[subject]
    with ExitStack() as stack:
        fill(dict(islice(data.items(), 1000)), stack)  # imports, threads, the first blocks
        before = resident()
        start = perf_counter()
        call = fill(data, stack)
        seconds = perf_counter() - start
        grown = resident() - before
        missing = sum(not call(key) for key in keys[:: max(1, entries // 1000)])
    return {"bytes": grown / entries, "seconds": seconds, "missing": missing, "build": build()}


# --- outside -------------------------------------------------------------------------------------


def measure_one(subject: str, entries: int) -> dict[str, Any]:
    """Run :func:`grow` in an interpreter of its own."""
    command = [sys.executable, __file__, "--fill", subject, "--entries", str(entries)]
    variables = dict(os.environ)
    if subject == PURE:
        variables["PYTHONPATH"] = str(ROOT / "src")
    done = subprocess.run(  # noqa: S603
        command, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{subject} could not be measured:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    if found["missing"]:
        raise SystemExit(f"{subject} lost {found['missing']} of a thousand entries")
    if subject == PURE and found["build"] != "pure":
        raise SystemExit("the pure sources could not be measured: src/ holds a build")
    return found


class Fills:
    """Bytes an entry of each fill, and beside them the seconds it took."""

    def __init__(self, entries: int) -> None:
        self.entries = entries
        self.seconds: Times = {}

    def subject(self, name: str) -> Callable[[], float]:
        """A subject for the rounds."""

        def measured() -> float:
            found = measure_one(name, self.entries)
            self.seconds.setdefault(name, []).append(found["seconds"])
            return float(found["bytes"])

        return measured


def section(times: Times, fills: Fills, peers: Sequence[Peer], label: str) -> Section:
    known = {peer.name: peer for peer in peers}
    rows = []
    for name, samples in times.items():
        grown, peer = summary(samples), known.get(name)
        each = summary(fills.seconds[name]).median / fills.entries * 1e9
        shown = name if name in known or name == PURE else name.replace(OURS, label)
        ratio = versus(times, name, OURS).median
        version = peer.version if peer else ""
        note = f"filled at {each:,.0f} ns an entry"
        shown = "dict" if name == "dict.get" else shown
        rows.append(Row(shown, grown.median, grown.low, grown.high, version, note, ratio))
    rows.sort(key=lambda row: row.value)
    again = versus(times, AGAIN, OURS)
    control = (
        f"A/A control: ours again / ours {again.median:.3f} ({again.low:.3f}..{again.high:.3f})"
    )
    title = f"P8  memory beside keys and values, {fills.entries:,} entries"
    return Section(title, "bytes an entry", "x ours", rows, control)


def verdicts(times: Times) -> list[Verdict]:
    noise = spread(times, OURS, AGAIN)
    found = []
    for name in (OURS, PURE):
        if "cachetools TTLCache" in times:
            ratio = versus(times, name, "cachetools TTLCache").median
            what = f"{'compiled' if name == OURS else 'pure'} / cachetools TTLCache"
            found.append(judge("P8", what, ratio, "<=", 0.9, noise))
    return found


def measure(quick: bool) -> Report:
    entries, rounds = (20_000, 1) if quick else (1_000_000, 3)
    settings = {"entries": entries, "value bytes": 100, "rounds": rounds, "seed": SEED}
    report = Report("memory", settings)
    peers = [peer for peer in CALLED if peer.name in BESIDE and peer.installed]
    report.versions = {peer.distribution: peer.version for peer in peers if peer.distribution}
    fills = Fills(entries)
    names = [OURS, AGAIN, PURE, OWN_TAG, *[peer.name for peer in peers]]
    times = alternate({name: fills.subject(name) for name in names}, rounds, warm_up=False)
    report.sections.append(section(times, fills, peers, f"clusterdb {build()}"))
    report.verdicts += verdicts(times)
    return report


def main() -> None:
    options = arguments()
    if options.fill:
        print(json.dumps(grow(options.fill, options.entries)))
        return
    report = measure(options.quick)
    print(report.text())
    target = options.output or (None if options.quick else RESULTS / "memory.json")
    if target is not None:
        report.write(target)


if __name__ == "__main__":
    main()
