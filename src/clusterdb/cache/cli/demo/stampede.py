"""Chapter: many callers miss the same key in the same moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

import msgspec
from rich.console import RenderableType

from ..output import plain_table
from .chapter import Chapter
from .figures import count, duration, percentile
from .naive import NaiveCache
from .origin import Facts, Module
from .stage import Stage

__all__ = ["CHAPTER", "Rush", "Stampede", "measure"]


class Rush(msgspec.Struct, frozen=True):
    """How one cache took it; ``seconds`` each caller waited, in order of size."""

    name: str
    callers: int
    loads: int
    different: int
    seconds: list[float]
    total: float


class Stampede(msgspec.Struct, frozen=True):
    """Both caches; ``joined`` callers of ours shared the load of another."""

    module: str
    joined: int
    ours: Rush
    naive: Rush


async def measure(stage: Stage) -> Stampede:
    """Let all callers ask for one module that is not cached."""
    module = _middling(stage.origin.modules)
    await stage.modules.invalidate(module.name)
    before = await _joined(stage)
    ours = await _rush(stage, "clusterdb.cache", lambda: stage.load(module))
    joined = await _joined(stage) - before
    plain: NaiveCache[Facts] = NaiveCache()

    async def load() -> Facts:
        return await asyncio.to_thread(stage.origin.load, module)

    naive = await _rush(stage, "get, load, set", lambda: plain.get_or_load(module.name, load))
    return Stampede(module.name, joined, ours, naive)


def _middling(modules: list[Module]) -> Module:
    """The module of median length, so that a thousand loads of it end in seconds."""
    return sorted(modules, key=lambda module: module.lines)[len(modules) // 2]


async def _joined(stage: Stage) -> int:
    return (await stage.cache.get_statistics()).regions["modules"].joined_loads


async def _rush(stage: Stage, name: str, ask: Callable[[], Awaitable[Facts]]) -> Rush:
    callers = stage.size.callers
    before = stage.origin.calls
    with stage.progress(f"{callers} callers, {name}", callers) as advance:

        async def call() -> tuple[float, Facts]:
            started = time.perf_counter()
            facts = await ask()
            advance(1)
            return time.perf_counter() - started, facts

        started = time.perf_counter()
        answers = await asyncio.gather(*[call() for _ in range(callers)])
        total = time.perf_counter() - started
    seconds = sorted([waited for waited, _ in answers])
    different = len({id(facts) for _, facts in answers})
    return Rush(name, callers, stage.origin.calls - before, different, seconds, total)


def show(found: Stampede) -> Iterable[RenderableType]:
    """Both side by side."""
    table = plain_table(found.module, "callers", "loads", "wait p50", "longest", "in all")
    for rush in (found.ours, found.naive):
        table.add_row(
            rush.name,
            count(rush.callers),
            count(rush.loads),
            duration(percentile(rush.seconds, 0.5)),
            duration(rush.seconds[-1]),
            duration(rush.total),
        )
    yield table
    yield (
        f"{count(found.joined)} callers joined the load of the first and got its result. The "
        "other row is a dict with get, load and set: everyone who misses loads."
    )


CHAPTER = Chapter(
    title="A stampede",
    about="One entry is gone, and a thousand callers want it at once.",
    measure=measure,
    show=show,
)
