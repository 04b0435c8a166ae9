"""Chapter: concurrent updates of the same entries."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

import msgspec
from rich.console import RenderableType

from clusterdb.cache import Region

from ..output import plain_table
from .chapter import Chapter
from .figures import count, duration
from .stage import Stage

__all__ = ["CHAPTER", "Tally", "Updates", "measure"]

_Add = Callable[[Region[int], int], Awaitable[int]]
"""Adds lines of one module to the tally; returns how often it had to try again."""


class Tally(msgspec.Struct, frozen=True):
    """What one way of adding up ended with."""

    name: str
    lines: int
    modules: int
    retries: int
    seconds: float


class Updates(msgspec.Struct, frozen=True):
    """All ways, and what the right answer is."""

    workers: int
    lines: int
    modules: int
    tallies: list[Tally]


async def measure(stage: Stage) -> Updates:
    """Add up the lines of modules with several workers, in each way."""
    lines = [module.lines for module in stage.origin.modules[: stage.size.modules_tallied]]
    ways: dict[str, _Add] = {
        "get, then set": _get_then_set,
        "atomic().check().set()": _check_and_set,
        "increment()": _increment,
    }
    tallies = [await _tally(stage, name, add, lines) for name, add in ways.items()]
    return Updates(stage.size.workers, sum(lines), len(lines), tallies)


async def _tally(stage: Stage, name: str, add: _Add, lines: list[int]) -> Tally:
    region: Region[int] = stage.cache.region("counters", type=int)
    await region.set_many({"lines": 0, "modules": 0})
    workers = stage.size.workers

    async def work(worker: int) -> int:
        return sum([await add(region, number) for number in lines[worker::workers]])

    started = time.perf_counter()
    retries = sum(await asyncio.gather(*[work(worker) for worker in range(workers)]))
    seconds = time.perf_counter() - started
    found = await region.get_many(["lines", "modules"])
    return Tally(name, found["lines"], found["modules"], retries, seconds)


async def _get_then_set(region: Region[int], lines: int) -> int:
    found = await region.get_many(["lines", "modules"])
    await asyncio.sleep(0)  # whatever a program awaits between reading and writing
    await region.set_many({"lines": found["lines"] + lines, "modules": found["modules"] + 1})
    return 0


async def _check_and_set(region: Region[int], lines: int) -> int:
    retries = 0
    while True:
        found = await region.get_many(["lines", "modules"])
        await asyncio.sleep(0)
        update = region.atomic()
        update.check("lines", found["lines"]).set("lines", found["lines"] + lines)
        update.check("modules", found["modules"]).set("modules", found["modules"] + 1)
        if await update.execute():
            return retries
        retries += 1


async def _increment(region: Region[int], lines: int) -> int:
    await region.increment("lines", lines)
    await asyncio.sleep(0)
    await region.increment("modules")
    return 0


def show(found: Updates) -> Iterable[RenderableType]:
    """Each way against the right answer."""
    table = plain_table("", "lines", "modules", "updates lost", "retries", "time")
    for tally in found.tallies:
        table.add_row(
            tally.name,
            count(tally.lines),
            count(tally.modules),
            count(found.modules - tally.modules),
            count(tally.retries),
            duration(tally.seconds),
        )
    table.add_section()
    table.add_row("right answer", count(found.lines), count(found.modules), "", "", "")
    yield table
    yield (
        "The atomic update changes both keys or neither, and only if both are still what the "
        "worker read; else the worker reads again."
    )


CHAPTER = Chapter(
    title="Atomic updates",
    about=(
        "Several workers add the lines of the modules to one total and count the modules, each "
        "reading, waiting a moment, and writing."
    ),
    measure=measure,
    show=show,
)
