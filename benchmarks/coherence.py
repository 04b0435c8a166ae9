"""What several processes are shown while servers, networks and processes fail: every fault on every
topology, seeds in turn, for as many minutes as it is told; then every guard removed once.

Each read of each process is checked against all writes (`tests/coherence` has the checkers, and
docs/explanation/coherence.md says what they check). A run that fails is told with the command that
plays it again. Its history stays below build/coherence.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import time
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from _report import RESULTS, ROOT, Report, Table, judge
from _report import Verdict as Figure

# The runs are those of the tests.
sys.path.insert(0, str(ROOT))
runs = import_module("tests.coherence.run")
faults = import_module("tests.coherence.faults")
mutants = import_module("tests.coherence.mutants")
Verdict = import_module("tests.coherence.judge").Verdict

PLACE = ROOT / "build" / "coherence"
BOUND = 1.0
MUTANT_SEEDS = 4
HEADER = (
    *("fault", "runs", "operations", "reads checked", "in the fault", "violations"),
    *("worst staleness", "undone", "near hits"),
)


def arguments() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for the faults; mutants extra")
    parser.add_argument("--topology", choices=faults.TOPOLOGIES, action="append")
    parser.add_argument("--fault", choices=faults.FAULTS, action="append")
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--no-mutants", action="store_true")
    parser.add_argument("--quick", action="store_true", help="three runs; writes no result")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    return parser.parse_args()


def wanted(given: Namespace) -> list[Any]:
    """One run for each fault of each topology."""
    topologies = given.topology or faults.TOPOLOGIES
    made = [
        runs.Run(
            topology=topology,
            fault=fault.name,
            bound=BOUND,
            rates={"writes": 4.0} if fault.fails_over else {},
        )
        for topology in topologies
        for fault in faults.faults_of(topology)
        if not given.fault or fault.name in given.fault
    ]
    if not given.quick:
        return made
    small = {"before": 0.3, "during": 1.0, "hold": 1.0, "after": 0.3, "bound": 0.5}
    chosen = [("standalone", "none"), ("standalone", "black-hole"), ("disk", "client-stop")]
    return [replace(run, **small) for run in made if (run.topology, run.fault) in chosen]


def rounds(made: list[Any], given: Namespace) -> Iterator[Any]:
    """The runs with growing seeds, until the time is over; each at least once."""
    end = time.monotonic() + given.minutes * 60
    seed = given.seed
    while True:
        for run in made:
            if seed > given.seed and (given.quick or time.monotonic() > end):
                return
            yield replace(run, seed=seed)
        seed += 1


def played(run: Any) -> Any:
    """Play a run; the history stays only where something was violated."""
    place = PLACE / str(os.getpid())  # the path of a socket has room for 108 bytes
    shutil.rmtree(place, ignore_errors=True)
    verdict = asyncio.run(runs.play(run, place))
    if verdict.violated and not run.mutant:
        kept = PLACE / run.name.replace(" ", "-")
        shutil.rmtree(kept, ignore_errors=True)
        place.rename(kept)
    shutil.rmtree(place, ignore_errors=True)
    return verdict


def of_faults(given: Namespace) -> tuple[dict[str, Any], dict[tuple[str, str], Any], list[str]]:
    """The verdicts by fault, and by topology and fault; what was violated."""
    by_fault: dict[str, Any] = {}
    cells: dict[tuple[str, str], Any] = defaultdict(Verdict)
    told: list[str] = []
    for run in rounds(wanted(given), given):
        verdict = played(run)
        print(f"{run.name}: {summary(verdict)}", flush=True)
        if verdict.violated:
            again = f"python -m tests.coherence.run --topology {run.topology} --fault {run.fault}"
            told += [f"{again} --seed {run.seed}", *[f"  {text}" for text in verdict.examples]]
        by_fault.setdefault(run.fault, Verdict()).merge(verdict)
        by_fault[run.fault].runs += 1
        cells[run.topology, run.fault].merge(verdict)
        cells[run.topology, run.fault].runs += 1
    return by_fault, cells, told


def summary(verdict: Any) -> str:
    broken = ", ".join(f"{name} {count}" for name, count in sorted(verdict.violations.items()))
    return f"{verdict.reads:,} reads, {broken or 'no violation'}"


def row(name: str, verdict: Any) -> tuple[str, ...]:
    return (
        name,
        str(verdict.runs),
        f"{verdict.operations:,}",
        f"{verdict.reads:,}",
        f"{verdict.reads_in_faults:,}",
        f"{verdict.violated:,}",
        f"{verdict.worst_staleness * 1000:,.0f} ms",
        f"{verdict.undone:,}",
        f"{verdict.near_share:.1%}" if verdict.near_capable else "",
    )


def total_of(by_fault: dict[str, Any]) -> Any:
    total = Verdict()
    for verdict in by_fault.values():
        total.merge(verdict)
        total.runs += verdict.runs
    return total


def none_of(target: str, what: str, found: int) -> Figure:
    return Figure(target, what, "<= 0", found, 0.0, f"missed by {found}" if found else "met")


def fault_table(by_fault: dict[str, Any], total: Any) -> Table:
    rows = [row(name, verdict) for name, verdict in by_fault.items()]
    title = f"Faults, all topologies (a near entry may be {BOUND:g} s old)"
    return Table(title, HEADER, [*rows, row("all", total)])


def cell_table(cells: dict[tuple[str, str], Any]) -> Table:
    header = (
        *("topology, fault", "violations", "reads in the fault", "failed", "unknown"),
        *("longest gap", "worst call"),
    )
    rows = [
        (
            f"{topology}, {fault}",
            f"{verdict.violated:,}",
            f"{verdict.reads_in_faults:,}",
            f"{verdict.outcomes['failed']:,}",
            f"{verdict.outcomes['unknown']:,}",
            f"{verdict.longest_gap:.2f} s",
            f"{verdict.worst_call:.2f} s",
        )
        for (topology, fault), verdict in cells.items()
    ]
    title = (
        "By topology: the longest time without an answer of the backend, the longest single call"
    )
    return Table(title, header, rows)


def mutant_table(quick: bool) -> tuple[Table, int]:
    """Each guard removed, until it is noticed or the seeds are used up; how many survived."""
    rows, survived = [], 0
    for name, mutant in list(mutants.MUTANTS.items())[: 1 if quick else None]:
        noticed: list[str] = []
        verdict, seed = Verdict(), 0
        while not noticed and seed < MUTANT_SEEDS:
            seed += 1
            verdict = played(runs.of_mutant(name, seed=seed, bound=BOUND))
            noticed = sorted(mutant.noticed & verdict.violations.keys())
        survived += not noticed
        print(f"{name}: {', '.join(noticed) or 'NOT NOTICED'}", flush=True)
        by = ", ".join(f"{each} {verdict.violations[each]:,}" for each in noticed)
        where = f"{mutant.topology}, {mutant.fault}"
        staleness = f"{verdict.worst_staleness * 1000:,.0f} ms"
        rows.append((name, where, str(seed), by or "survived", staleness))
    header = ("guard removed", "where", "seeds", "noticed by", "worst staleness")
    return Table("Mutants", header, rows), survived


def main() -> int:
    given = arguments()
    began = time.monotonic()
    by_fault, cells, told = of_faults(given)
    report = Report("coherence", {"bound": BOUND, "seed": given.seed, "processes": 3})
    total = total_of(by_fault)
    report.tables += [fault_table(by_fault, total), cell_table(cells)]
    report.verdicts += [
        none_of("C1", "violations in all runs", total.violated),
        judge("C2", "reads checked, in millions", total.reads / 1e6, ">=", 1, 0.0),
        judge("C3", "near hits while no fault runs", total.near_share, ">=", 0.95, 0.0),
    ]
    survived = 0
    if not given.no_mutants:
        table, survived = mutant_table(given.quick)
        report.tables.append(table)
        report.verdicts.append(none_of("C4", "guards removed unnoticed", survived))
    report.settings["minutes"] = round((time.monotonic() - began) / 60, 1)
    print(f"\n{report.text()}")
    if told:
        print("\nViolations\n" + "\n".join(told))
    if given.output or not given.quick:
        report.write(given.output or RESULTS / "coherence.json")
    return 1 if told or survived else 0


if __name__ == "__main__":
    sys.exit(main())
