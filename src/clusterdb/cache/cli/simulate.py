"""``cache simulate``: what policies would have hit on a trace, beside the best possible one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, TypeAlias

import msgspec
import typer

from clusterdb.cache import InvalidArgument

from ..policy import POLICIES
from ..replay import optimum, replay
from .output import make_console, plain_table, print_json, progress
from .target import AsJson
from .traces import read_requests

__all__ = ["TRACE_HELP", "Simulated", "Simulation", "Trace", "simulate", "size_in"]

TRACE_HELP: Final = "A trace: *.u32 or *.u32.gz, CSV of keys, or a recording."
Trace: TypeAlias = Annotated[Path, typer.Argument(help=TRACE_HELP)]
_SIZES = ["1%", "5%", "10%", "20%"]


class Simulated(msgspec.Struct, frozen=True):
    """One replay; ``share`` is that of the optimum's hits."""

    policy: str
    size: int
    hits: int
    hit_ratio: float
    share: float | None


class Simulation(msgspec.Struct, frozen=True):
    """All replays of a trace. ``sample``: the share of all keys that the trace holds."""

    trace: str
    requests: int
    keys: int
    sample: float
    optimum: dict[int, float]
    runs: list[Simulated]


def simulate(
    trace: Trace,
    policy: Annotated[
        list[str] | None,
        typer.Option(
            "--policy", help="A policy, or 'all'; may be given again.", show_default=False
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(
            "--size",
            help="Entries, or a share of the keys as 5%; may be given again.",
            show_default=False,
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Replay a trace through the engine and show the hit ratios, beside Belady's optimum.

    Each request is a get, and on a miss a set, in a cache that is empty at first.
    """
    requests, sample = read_requests(trace)
    names = _policies(policy or ["adaptive", "lru"])
    keys = len(set(requests))
    sizes = sorted({size_in(text, keys) for text in size or _SIZES})
    best: dict[int, int] = {}
    runs: list[Simulated] = []
    with progress("replaying") as advance:
        for capacity in sizes:
            best[capacity] = optimum(requests, capacity)
            for name in names:
                hits = replay(requests, name, capacity, advance)
                share = hits / best[capacity] if best[capacity] else None
                runs.append(Simulated(name, capacity, hits, hits / len(requests), share))
    ratios = {capacity: hits / len(requests) for capacity, hits in best.items()}
    found = Simulation(trace.name, len(requests), keys, sample, ratios, runs)
    if json:
        print_json(msgspec.to_builtins(found, str_keys=True))
    else:
        _show(found)


def _policies(wanted: list[str]) -> list[str]:
    names = list(POLICIES) if "all" in wanted else list(dict.fromkeys(wanted))
    for name in names:
        if name not in POLICIES:
            raise InvalidArgument(f"there is no policy {name!r}: known are {', '.join(POLICIES)}")
    return names


def size_in(text: str, keys: int) -> int:
    """A size in entries from ``500`` or ``5%`` of ``keys``; at least 1."""
    number, percent = (text[:-1], True) if text.endswith("%") else (text, False)
    try:
        given = float(number) if percent else int(number.replace("_", ""))
    except ValueError:
        given = -1
    if not 0 < given < 1e12:
        raise InvalidArgument(f"a size is a number of entries, or a share as 5%: got {text!r}")
    return max(1, round(given / 100 * keys)) if percent else int(given)


def _show(found: Simulation) -> None:
    console = make_console()
    of = "" if found.sample == 1.0 else f", a sample of {found.sample:.2%} of all keys"
    console.print(f"{found.trace}: {found.requests:,} requests for {found.keys:,} keys{of}\n")
    names = list(dict.fromkeys(run.policy for run in found.runs))
    table = plain_table("entries", "of keys", "optimum", *names, texts=0)
    for size, ratio in found.optimum.items():
        cells = [
            f"{run.hit_ratio:.2%}" + ("" if run.share is None else f" ({run.share:.1%})")
            for run in found.runs
            if run.size == size
        ]
        table.add_row(f"{size:,}", f"{size / found.keys:.1%}", f"{ratio:.2%}", *cells)
    console.print(table)
    console.print("\nIn parentheses: the share of what the best possible cache hits (Belady).")
