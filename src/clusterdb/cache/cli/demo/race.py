"""Chapter: an invalidation arrives while a load of the old value is under way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import msgspec
from rich.console import RenderableType

from ..output import plain_table
from .chapter import Chapter
from .figures import count
from .naive import NaiveCache
from .origin import Facts, analyse
from .stage import Stage

__all__ = ["CHAPTER", "Outcome", "Race", "measure"]

_ADDED = b"\n\ndef added_while_loading():\n    pass\n"


class _Cache(Protocol):
    """What both caches can do."""

    async def get_or_load(self, key: str, loader: Callable[[], Awaitable[Facts]]) -> Facts: ...

    async def invalidate(self, key: str) -> object: ...


class Outcome(msgspec.Struct, frozen=True):
    """What one cache answered: functions found, by the one who raced and by the next reader."""

    racing: int
    next: int


class Race(msgspec.Struct, frozen=True):
    """Functions at the origin before and after the change, and what both caches made of it."""

    module: str
    before: int
    after: int
    ours: Outcome
    naive: Outcome
    lost_fills: int


class _Document:
    """A source that can be edited, and a load of it that waits in the middle to be raced."""

    def __init__(self, name: str, source: bytes) -> None:
        self.name = name
        self.source = source
        self.was_read = asyncio.Event()
        self.was_changed = asyncio.Event()

    async def load(self) -> Facts:
        """Read the source, then take a while to analyse what was read."""
        source = self.source
        self.was_read.set()
        await self.was_changed.wait()
        return analyse(self.name, source)


async def measure(stage: Stage) -> Race:
    """Run the same race with both caches."""
    module = next(each for each in stage.origin.modules if each.lines > 0)
    source = module.path.read_bytes()
    region = stage.cache.region("race", type=Facts)
    ours = await _race(region, _Document(module.name, source))
    stats = (await stage.cache.get_statistics()).regions["race"]
    naive = await _race(NaiveCache[Facts](), _Document(module.name, source))
    return Race(
        module=module.name,
        before=analyse(module.name, source).functions,
        after=analyse(module.name, source + _ADDED).functions,
        ours=ours,
        naive=naive,
        lost_fills=stats.lost_fills,
    )


async def _race(cache: _Cache, document: _Document) -> Outcome:
    key = document.name
    reader = asyncio.create_task(_read(cache, document))
    await document.was_read.wait()
    document.source += _ADDED  # the writer changes the origin, then invalidates, as it should
    await cache.invalidate(key)
    document.was_changed.set()
    racing = await reader
    after = await _read(cache, document)
    return Outcome(racing.functions, after.functions)


async def _read(cache: _Cache, document: _Document) -> Facts:
    return await cache.get_or_load(document.name, document.load)


def show(found: Race) -> Iterable[RenderableType]:
    """The story, step by step."""
    table = plain_table("", "origin", "clusterdb.cache", "naive")
    before, after = count(found.before), count(found.after)
    table.add_row("1 a load reads the origin", before, "", "")
    table.add_row("2 a writer changes it, invalidates", after, "", "")
    table.add_row("3 the load ends; its reader gets", after, *_cells(found, "racing", before))
    table.add_row("4 the next reader gets", after, *_cells(found, "next", after))
    yield f"The value is the number of functions in {found.module}; the writer adds one."
    yield table
    yield (
        "What was read before the invalidation went to the reader who waited for it, and was not "
        f"stored: lost_fills = {found.lost_fills}. {_verdict(found)}"
    )


def _cells(found: Race, step: str, right: str) -> list[str]:
    cells = [count(getattr(outcome, step)) for outcome in (found.ours, found.naive)]
    return [cell if cell == right else f"[red]{cell} (stale)[/]" for cell in cells]


def _verdict(found: Race) -> str:
    if found.naive.next == found.after:
        return "The naive cache happened to be right this time."
    return "The naive cache stored it, and serves it until something else removes it."


CHAPTER = Chapter(
    title="An invalidation that races a load",
    about=(
        "The hardest moment of a cache: a load has read the old value, and the origin changes "
        "before the load ends."
    ),
    measure=measure,
    show=show,
)
