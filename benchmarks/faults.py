"""How long calls fail when something breaks, and how far the longest one goes past its deadline:
the runs of `./dev bench coherence`, every fault on every topology, told as an operator would ask.

Unavailable is the longest time in which a process had no answer of the backend, run by run. It is
at least as long as the fault holds a server or a link; what comes on top is ours.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from _report import RESULTS, Report, Table
from coherence import faults, played, rounds, summary, wanted

DEADLINE = 0.5  # of a call, as the runs configure it
HEADER = (
    *("topology, fault", "n", "unavailable, median", "longest", "worst call / deadline"),
    *("failed", "unknown", "violations"),
)


def arguments() -> Namespace:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--topology", choices=faults.TOPOLOGIES, action="append")
    parser.add_argument("--fault", choices=faults.FAULTS, action="append")
    parser.add_argument("--seed", type=int, default=1, help="of the first round")
    parser.add_argument("--quick", action="store_true", help="three runs; writes no result")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    return parser.parse_args()


def row(cell: tuple[str, str], verdicts: list[Any]) -> tuple[str, ...]:
    gaps = [verdict.longest_gap for verdict in verdicts]
    worst = max(verdict.worst_call for verdict in verdicts)
    return (
        ", ".join(cell),
        str(len(verdicts)),
        f"{median(gaps):.2f} s",
        f"{max(gaps):.2f} s",
        f"{worst / DEADLINE:.1f}",
        f"{sum(verdict.outcomes['failed'] for verdict in verdicts):,}",
        f"{sum(verdict.outcomes['unknown'] for verdict in verdicts):,}",
        f"{sum(verdict.violated for verdict in verdicts):,}",
    )


def main() -> int:
    given = arguments()
    cells: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for run in rounds(wanted(given), given):
        verdict = played(run)
        print(f"{run.name}: {summary(verdict)}", flush=True)
        cells[run.topology, run.fault].append(verdict)
    settings = {"deadline": DEADLINE, "seed": given.seed, "minutes": given.minutes}
    report = Report("faults", settings)
    rows = [row(cell, verdicts) for cell, verdicts in cells.items()]
    report.tables.append(Table("Faults", HEADER, rows))
    print(f"\n{report.text()}")
    if given.output or not given.quick:
        report.write(given.output or RESULTS / "faults.json")
    return 1 if any(verdict.violated for each in cells.values() for verdict in each) else 0


if __name__ == "__main__":
    sys.exit(main())
