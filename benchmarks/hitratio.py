"""How often each policy hits on real traces, beside other caches and the best possible: target P7.

Each request is a get, and on a miss a set, in a cache that is empty at first, of 1, 5, 10 and 20%
of the keys. The traces are those of the directory that CLUSTERDB_TRACES names (NAME.u32.gz);
without it only the one that the package ships. Several minutes for two million requests.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from importlib import import_module, resources
from pathlib import Path
from time import perf_counter
from typing import Any

from _report import RESULTS, Report, Row, Section, Verdict, judge, table, version

from clusterdb.cache.cli.traces import read_requests
from clusterdb.cache.policy import POLICIES
from clusterdb.cache.replay import optimum, replay

SIZES = (1, 5, 10, 20)
RIVALS = ("lru", "s3fifo", "w_tinylfu")
TARGET, WITHIN = 86.5, 2.0
QUICK = 30_000

Hits = Callable[[Sequence[str], int], int]


def arguments(argv: Sequence[str] | None = None) -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short traces, writes no result")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    return parser.parse_args(argv)


def traces(quick: bool) -> dict[str, list[str]]:
    """The requests of each trace, by its name."""
    folder = os.environ.get("CLUSTERDB_TRACES", "")
    paths = sorted(Path(folder).glob("*.u32.gz")) if folder else []
    if not paths:
        print("CLUSTERDB_TRACES names no traces: only the shipped one is replayed", file=sys.stderr)
        shipped = resources.files("clusterdb.cache") / "data" / "orm-busy-200k.u32.gz"
        paths = [Path(str(shipped))]
    found = {path.name.removesuffix(".u32.gz"): read_requests(path)[0] for path in paths}
    return {name: requests[:QUICK] if quick else requests for name, requests in found.items()}


# --- subjects ------------------------------------------------------------------------------------


def ours(policy: str) -> Hits:
    return lambda requests, size: replay(requests, policy, size)


def mapping(module: str, kind: str) -> Hits:
    """A cache that is a mapping."""

    def hits(requests: Sequence[str], size: int) -> int:
        cache = getattr(import_module(module), kind)(size)
        found = 0
        for key in requests:
            if cache.get(key) is None:
                cache[key] = True
            else:
                found += 1
        return found

    return hits


def theine(requests: Sequence[str], size: int) -> int:
    cache = import_module("theine").Cache(size)
    found = 0
    for key in requests:
        _, hit = cache.get(key)
        if hit:
            found += 1
        else:
            cache.set(key, True)
    cache.close()
    return found


def moka(requests: Sequence[str], size: int) -> int:
    cache = import_module("moka_py").Moka(size)
    found = 0
    for key in requests:
        if cache.get(key) is None:
            cache.set(key, True)
        else:
            found += 1
    return found


PEERS: dict[str, tuple[str, Hits]] = {
    "theine": ("theine", theine),
    "moka-py": ("moka-py", moka),
    "cachetools LRUCache": ("cachetools", mapping("cachetools", "LRUCache")),
    "cachetools LFUCache": ("cachetools", mapping("cachetools", "LFUCache")),
    "cachebox LRUCache": ("cachebox", mapping("cachebox", "LRUCache")),
    "cachebox LFUCache": ("cachebox", mapping("cachebox", "LFUCache")),
}


def subjects() -> dict[str, tuple[str, Hits]]:
    """Our policies, and the peers that are installed, with their versions."""
    found: dict[str, tuple[str, Hits]] = {name: ("", ours(name)) for name in POLICIES}
    for name, (distribution, hits) in PEERS.items():
        if version(distribution):
            found[name] = version(distribution), hits
    return found


# --- measuring -----------------------------------------------------------------------------------


class Cell:
    """One trace at one size: what the best possible cache hits, and what each subject does."""

    def __init__(self, trace: str, percent: int, size: int, requests: int, best: int) -> None:
        self.name = f"{trace} {percent}%"
        self.size, self.requests, self.best = size, requests, best
        self.hits: dict[str, int] = {}
        self.seconds: dict[str, float] = {}

    def share(self, name: str) -> float:
        """Percent of the optimum's hits."""
        return 100 * self.hits[name] / self.best if self.best else 100.0

    def ratio(self, name: str) -> float:
        """Percent of the requests that hit."""
        return 100 * self.hits[name] / self.requests


def measure_cells(quick: bool) -> list[Cell]:
    cells = []
    for trace, requests in traces(quick).items():
        keys = len(set(requests))
        for percent in SIZES:
            size = max(1, round(keys * percent / 100))
            cell = Cell(trace, percent, size, len(requests), optimum(requests, size))
            for name, (_, hits) in subjects().items():
                start = perf_counter()
                cell.hits[name] = hits(requests, size)
                cell.seconds[name] = perf_counter() - start
            cells.append(cell)
            print(f"{cell.name}: done", file=sys.stderr)
    return cells


def summary(cells: Sequence[Cell]) -> Section:
    """The mean share of each subject over all cells, and what a request cost."""
    rows = []
    for name, (known, _) in subjects().items():
        shares = [cell.share(name) for cell in cells]
        mean = sum(shares) / len(shares)
        cost = sum([cell.seconds[name] for cell in cells]) / sum([cell.requests for cell in cells])
        note = f"{cost * 1e9:,.0f} ns a request"
        rows.append(Row(name, mean, min(shares), max(shares), known, note))
    rows.sort(key=lambda row: -row.value)
    return Section("P7  share of the best possible hits, mean of all cells (worst..best)",
                   "% of Belady", "", rows, digits=1)  # fmt: skip


def of_cell(cell: Cell) -> Section:
    rows = [
        Row(name, cell.ratio(name), cell.share(name), cell.share(name), compared=None)
        for name in cell.hits
    ]
    title = f"{cell.name}: {cell.size:,} entries, {cell.requests:,} requests"
    return Section(title, "% hit (% of Belady)", "", rows, digits=2)


def verdicts(cells: Sequence[Cell]) -> list[Verdict]:
    shares = [cell.share("adaptive") for cell in cells]
    mean = sum(shares) / len(shares)
    behind = max(
        max(cell.ratio(rival) for rival in RIVALS) - cell.ratio("adaptive") for cell in cells
    )
    what = "adaptive: mean share of Belady, %"
    most = "adaptive: points of hit ratio under the best of LRU, S3-FIFO, W-TinyLFU, at worst"
    return [
        judge("P7", what, mean, ">=", TARGET, 0.0),
        judge("P7", most, max(0.0, behind), "<=", WITHIN, 0.0),
    ]


def cells_text(cells: Sequence[Cell]) -> str:
    """Every cell in one table: percent of the optimum's hits."""
    names = list(cells[0].hits)
    header = ["% of Belady", *[cell.name for cell in cells]]
    lines = [[name, *[f"{cell.share(name):.1f}" for cell in cells]] for name in names]
    lines.append(["optimum, % hit", *[f"{100 * cell.best / cell.requests:.1f}" for cell in cells]])
    return table(header, lines)


def main() -> None:
    options = arguments()
    settings: dict[str, Any] = {"sizes": ", ".join(f"{size}%" for size in SIZES)}
    report = Report("hitratio", settings)
    cells = measure_cells(options.quick)
    report.settings["traces"] = len(cells) // len(SIZES)
    report.versions = {
        distribution: version(distribution)
        for distribution, _ in PEERS.values()
        if version(distribution)
    }
    report.sections.append(summary(cells))
    report.verdicts = verdicts(cells)
    print(report.text())
    print(f"\n{cells_text(cells)}")
    report.sections += [of_cell(cell) for cell in cells]
    target = options.output or (None if options.quick else RESULTS / "hitratio.json")
    if target is not None:
        report.write(target)


if __name__ == "__main__":
    main()
