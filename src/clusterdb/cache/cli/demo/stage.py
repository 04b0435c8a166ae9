"""What every chapter is given: the cache, the origin, the trace, and how much to do."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from clusterdb.cache import LRU, Cache, CacheConfig, CacheRegion, Region

from .origin import Facts, Module, Origin, find_modules
from .trace import read_trace

__all__ = ["FULL", "QUICK", "Size", "Stage", "set_up"]


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much each chapter does."""

    requests: int
    """Requests answered with and without the cache."""
    trace: int
    """Requests replayed for each policy and cache size."""
    capacities: tuple[int, ...]
    tagged: tuple[int, ...]
    """Entries under one tag."""
    callers: int
    workers: int
    modules_tallied: int
    processes: int
    """Processes that share a Redis."""
    reads: int
    """Reads from a Redis, by each client."""


FULL: Final = Size(
    requests=1000,
    trace=200_000,
    capacities=(64, 256, 1024, 4096, 16384),
    tagged=(10, 1000, 20_000),
    callers=1000,
    workers=8,
    modules_tallied=240,
    processes=3,
    reads=5000,
)
QUICK: Final = Size(
    requests=120,
    trace=10_000,
    capacities=(64, 256, 1024),
    tagged=(10, 100, 1000),
    callers=1000,
    workers=4,
    modules_tallied=40,
    processes=2,
    reads=1000,
)


class Stage:
    """One run of the demo."""

    def __init__(
        self,
        console: Console,
        size: Size,
        cache: Cache,
        origin: Origin,
        trace: array[int],
        redis: str | None = None,
    ) -> None:
        self.console = console
        self.size = size
        self.cache = cache
        self.origin = origin
        self.trace = trace
        self.redis = redis
        self.modules: Region[Facts] = cache.region("modules", type=Facts)

    def asked(self, key: int) -> Module:
        """The module that a key of the trace stands for."""
        return self.origin.modules[key % len(self.origin.modules)]

    async def load(self, module: Module) -> Facts:
        """A module through the cache, tagged by its package."""
        return await self.modules.get_or_load(
            module.name, lambda: self.origin.load(module), tags=(f"package:{module.package}",)
        )

    @contextmanager
    def progress(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        """A bar while something long runs, gone when it is done; nothing without a terminal.

        Gives a function that is told how many steps more are done.
        """
        with Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        ) as progress:
            task = progress.add_task(text, total=total)
            yield lambda steps: progress.advance(task, steps)


@asynccontextmanager
async def set_up(
    console: Console, seed: int, size: Size, redis: str | None = None
) -> AsyncIterator[Stage]:
    """Find the modules, read the trace, open the cache; close it in the end. ``redis`` is the URL
    of a server that the user named.
    """
    config = CacheConfig(
        name="demo",
        regions=(
            CacheRegion("modules", policy=LRU(max_items=5000), ttl="1h"),
            CacheRegion("tagged"),
            CacheRegion("counters"),
            CacheRegion("race"),
        ),
    )
    with console.status("reading the standard library", spinner="line"):
        origin = Origin(find_modules(seed))
        trace = read_trace()
    async with Cache(config) as cache:
        yield Stage(console, size, cache, origin, trace, redis)
