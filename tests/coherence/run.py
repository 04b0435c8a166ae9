"""One run: a cache, a topology, a fault that comes and goes, and what the checkers say.

As a program it plays one run and tells what it found, or checks a history again:

    python -m tests.coherence.run --topology standalone --fault black-hole --seed 3 --keep HERE
    python -m tests.coherence.run --check HERE
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from argparse import ArgumentParser
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
from tests.coherence.faults import FAULTS, Fault
from tests.coherence.history import finished, read_file
from tests.coherence.judge import Terms, Verdict, judge
from tests.coherence.mutants import MUTANTS
from tests.coherence.orders import Orders
from tests.coherence.scene import Scene

__all__ = ["Run", "judged_again", "of_mutant", "play"]


@dataclass(frozen=True)
class Run:
    """What to play. ``before``, ``during`` and ``after`` are seconds: without the fault, with it as
    often as fits, and without it again.
    """

    topology: str = "standalone"
    fault: str = "none"
    seed: int = 1
    before: float = 1.0
    during: float = 3.0
    after: float = 1.5
    hold: float = 2.0
    bound: float = 1.0
    processes: int = 3
    subject: str = "ours"
    mutant: str = ""
    rates: dict[str, float] = field(default_factory=dict)
    layout: dict[str, int] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.topology} {self.mutant or self.subject} {self.fault} seed {self.seed}"


def of_mutant(name: str, **changes: Any) -> Run:
    """The run in which a missing guard has to be noticed."""
    mutant = MUTANTS[name]
    run = Run(
        topology=mutant.topology,
        fault=mutant.fault,
        mutant=name,
        rates=mutant.rates,
        layout=mutant.layout,
    )
    return replace(run, **changes)


async def play(run: Run, place: Path) -> Verdict:
    """Play it below ``place``, where the history stays, and judge."""
    fault = FAULTS[run.fault]
    terms, calls, keys = await _played(run, fault, place)
    return await asyncio.to_thread(judge, calls, keys, terms)


async def _played(run: Run, fault: Fault, place: Path) -> tuple[Terms, Any, Any]:
    async with Scene.open(
        place,
        run.topology,
        seed=run.seed,
        bound=run.bound,
        processes=run.processes,
        subject=run.subject,
        mutant=run.mutant,
        rates=run.rates,
        layout=run.layout,
        settings=run.settings,
        through_proxies=fault.proxies,
        apart=fault.apart,
        pool=fault.pool,
    ) as scene:
        loop = asyncio.get_running_loop()
        scene.everybody("go")
        await asyncio.sleep(run.before)
        end = loop.time() + run.during
        while loop.time() < end:
            await fault.play(scene, min(run.hold, run.during))
        await asyncio.sleep(run.after)
        await scene.quiet()
        scene.find_failovers()
        terms = Terms(
            bound=run.bound,
            lossy=fault.lossy,
            exact=run.subject == "ours" and run.topology in ("standalone", "ring"),
            windows=tuple(scene.windows),
        )
        (place / "terms.json").write_bytes(msgspec.json.encode(terms))
        return terms, scene.calls(), scene.started[0].keys


def judged_again(place: Path) -> Verdict:
    """Check a history that was kept."""
    terms = msgspec.json.decode((place / "terms.json").read_bytes(), type=Terms)
    records = [record for path in sorted(place.glob("calls-*")) for record in read_file(path)]
    return judge(finished(records), Orders.read(place / "orders-0.json").keys, terms)


def main() -> int:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--topology", default="standalone")
    parser.add_argument("--fault", default="none", choices=FAULTS)
    parser.add_argument("--mutant", default="", choices=["", *MUTANTS])
    parser.add_argument("--subject", default="ours")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--during", type=float, default=4.0)
    parser.add_argument("--bound", type=float, default=1.0)
    parser.add_argument("--keep", type=Path, help="where the history stays")
    parser.add_argument("--check", type=Path, help="only check the history that was kept there")
    given = vars(parser.parse_args())
    keep, check = given.pop("keep"), given.pop("check")
    if check is not None:
        return told(str(check), judged_again(check))
    run = of_mutant(given["mutant"]) if given["mutant"] else Run(**given)
    with tempfile.TemporaryDirectory() as place:
        verdict = asyncio.run(play(run, keep or Path(place)))
    return told(run.name, verdict)


def told(name: str, verdict: Verdict) -> int:
    """Print a verdict; the exit code."""
    print(name)
    for figure, value in vars(verdict).items():
        if figure != "examples":
            print(f"  {figure}: {dict(value) if isinstance(value, dict) else value}")
    print(f"  near share: {verdict.near_share:.3f}")
    for example in verdict.examples:
        print(f"  {example}")
    return 1 if verdict.violated else 0


if __name__ == "__main__":
    sys.exit(main())
