"""Chapter: invalidating by tag."""

from __future__ import annotations

import time
from collections.abc import Iterable
from statistics import median
from typing import Final

import msgspec
from rich.console import RenderableType

from ..output import plain_table
from .chapter import Chapter
from .figures import count, duration, ratio
from .origin import Module
from .stage import Stage

__all__ = ["CHAPTER", "Cost", "Tagging", "measure"]

_WANTED: Final = "asyncio"
_TAGS: Final = 5


class Cost(msgspec.Struct, frozen=True):
    """What ending a tag of so many entries takes."""

    entries: int
    ended: int
    seconds: float


class Tagging(msgspec.Struct, frozen=True):
    """One tag ended among others; ``left`` are the entries of other tags that still answer."""

    tag: str
    others: int
    left: int
    tagged: int
    ended: int
    alive: int
    seconds: float
    reload_seconds: float
    reloads: int
    costs: list[Cost]


async def measure(stage: Stage) -> Tagging:
    """End the tag of one package, look who is left, read one module again."""
    mine, others = _split(stage.origin.modules)
    with stage.progress("loading a package", len(mine)) as advance:
        for module in mine:
            await stage.load(module)
            advance(1)
    kept = [module for module in others if await stage.modules.exists(module.name)]
    tag = f"package:{mine[0].package}"
    started = time.perf_counter()
    ended = await stage.cache.invalidate_tag(tag)
    seconds = time.perf_counter() - started
    alive = [module for module in mine if await stage.modules.exists(module.name)]
    left = [module for module in kept if await stage.modules.exists(module.name)]
    before = stage.origin.calls
    started = time.perf_counter()
    await stage.load(mine[0])
    return Tagging(
        tag=tag,
        others=len(kept),
        left=len(left),
        tagged=len(mine),
        ended=ended,
        alive=len(alive),
        seconds=seconds,
        reload_seconds=time.perf_counter() - started,
        reloads=stage.origin.calls - before,
        costs=[await _cost(stage, entries) for entries in stage.size.tagged],
    )


def _split(modules: list[Module]) -> tuple[list[Module], list[Module]]:
    """The modules of one package, and the others."""
    packages = {module.package for module in modules}
    package = _WANTED if _WANTED in packages else modules[0].package
    mine = [module for module in modules if module.package == package]
    return mine, [module for module in modules if module.package != package]


async def _cost(stage: Stage, entries: int) -> Cost:
    """The median of several tags with ``entries`` entries each."""
    region = stage.cache.region("tagged", type=int)
    spent: list[float] = []
    ended = 0
    for number in range(_TAGS):
        tag = f"{entries}:{number}"
        values = {f"{tag}:{at}": at for at in range(entries)}
        await region.set_many(values, tags=(tag,))
        for _ in range(10):  # storing so much emptied the processor's caches: warm them
            await stage.cache.invalidate_tag("unused")
        started = time.perf_counter()
        ended += await stage.cache.invalidate_tag(tag)
        spent.append(time.perf_counter() - started)
    await region.clear()
    return Cost(entries, ended // _TAGS, median(spent))


def show(found: Tagging) -> Iterable[RenderableType]:
    """What happened to the package, and what a tag costs by its size."""
    table = plain_table(f"tag {found.tag}", "entries")
    table.add_row("under the tag", count(found.tagged))
    table.add_row("ended by invalidate_tag()", count(found.ended))
    table.add_row("of these still answered", count(found.alive))
    table.add_row("of other packages, before and after", f"{found.others:,}, {found.left:,}")
    yield table
    yield (
        f"The call took {duration(found.seconds)}. The next read of one of them asked the origin "
        f"({found.reloads} load, {duration(found.reload_seconds)})."
    )
    costs = plain_table("entries under the tag", "ended", "invalidate_tag() takes")
    for cost in found.costs:
        costs.add_row(count(cost.entries), count(cost.ended), duration(cost.seconds))
    yield costs
    few, many = found.costs[0], found.costs[-1]
    yield (
        f"{ratio(many.entries, few.entries)} the entries, {ratio(many.seconds, few.seconds)} the "
        "time: entries share the state of their tag, and ending it is one step (medians of five)."
    )


CHAPTER = Chapter(
    title="Invalidation by tag",
    about=(
        "Each analysis is tagged with its package. A package changes: one call ends all its "
        "entries, in every region, and touches no other."
    ),
    measure=measure,
    show=show,
)
