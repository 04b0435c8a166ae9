"""Chapter: the same requests without a cache, with an empty one, and with a full one."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

import msgspec
from rich.console import RenderableType

from ..output import plain_table
from .chapter import Chapter
from .figures import count, duration, percent, percentile, ratio
from .origin import Facts, Module
from .stage import Stage

__all__ = ["CHAPTER", "Latency", "Pass", "measure"]

_SHOWN = 5


class Pass(msgspec.Struct, frozen=True):
    """One pass over the requests; ``seconds`` of each, in order of size."""

    name: str
    loads: int
    seconds: list[float]

    @property
    def total(self) -> float:
        return sum(self.seconds)


class Latency(msgspec.Struct, frozen=True):
    """The passes, and the modules that were asked for most often."""

    passes: list[Pass]
    modules: int
    popular: list[tuple[int, Facts]]


async def measure(stage: Stage) -> Latency:
    """Ask for the first modules of the trace three times over."""
    wanted = [stage.asked(key) for key in stage.trace[: stage.size.requests]]

    async def direct(module: Module) -> Facts:
        return stage.origin.load(module)

    passes = [
        await _ask(stage, "no cache", wanted, direct),
        await _ask(stage, "empty cache", wanted, stage.load),
        await _ask(stage, "warm cache", wanted, stage.load),
    ]
    counted = Counter(module.name for module in wanted)
    popular = [(times, await _facts(stage, name)) for name, times in counted.most_common(_SHOWN)]
    return Latency(passes, len(counted), popular)


async def _ask(
    stage: Stage, name: str, wanted: list[Module], ask: Callable[[Module], Awaitable[Facts]]
) -> Pass:
    seconds: list[float] = []
    before = stage.origin.calls
    with stage.progress(f"{len(wanted)} requests, {name}", len(wanted)) as advance:
        for module in wanted:
            started = time.perf_counter()
            await ask(module)
            seconds.append(time.perf_counter() - started)
            advance(1)
            await asyncio.sleep(0)  # parsing never waits: let an interrupt in
    return Pass(name, stage.origin.calls - before, sorted(seconds))


async def _facts(stage: Stage, name: str) -> Facts:
    facts = await stage.modules.get(name)
    assert facts is not None
    return facts


def show(found: Latency) -> Iterable[RenderableType]:
    """The passes side by side, the time saved, and some of what was computed."""
    table = plain_table("", "requests", "loads", "p50", "p95", "p99", "total")
    for each in found.passes:
        table.add_row(
            each.name,
            count(len(each.seconds)),
            count(each.loads),
            *[duration(percentile(each.seconds, share)) for share in (0.5, 0.95, 0.99)],
            duration(each.total),
        )
    yield table
    without, cold, warm = [each.total for each in found.passes]
    yield (
        f"Time saved: {duration(without - cold)} of {duration(without)} "
        f"({percent(1 - cold / without)}) from an empty cache, which loaded {found.modules} modules"
        f" once each. Once warm, the same requests take {duration(warm)}: "
        f"{ratio(without, warm)} faster."
    )
    yield _popular(found)


def _popular(found: Latency) -> RenderableType:
    table = plain_table("most requested", "requests", "lines", "functions", "documented")
    for times, facts in found.popular:
        documented = facts.documented / facts.documentable if facts.documentable else 0.0
        table.add_row(
            facts.name,
            count(times),
            count(facts.lines),
            count(facts.functions),
            percent(documented),
        )
    return table


CHAPTER = Chapter(
    title="Cold and warm",
    about=(
        "The first requests of the trace, each for the analysis of one module: parsed for every "
        "request, then through get_or_load() of an empty cache, then again of the same cache."
    ),
    measure=measure,
    show=show,
)
