"""Chapter: how often each eviction policy hits, by cache size."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

import msgspec
from rich.console import RenderableType

from clusterdb.cache import (
    LFU,
    LRU,
    MISSING,
    S3FIFO,
    Adaptive,
    Cache,
    CacheConfig,
    CachePolicy,
    EvictionPolicy,
    WTinyLFU,
)

from ...replay import optimum
from ..output import plain_table
from .chapter import Chapter
from .figures import count, duration, percent
from .plot import Bars
from .stage import Stage

__all__ = ["CHAPTER", "Policies", "Run", "measure", "replay"]

_POLICIES: Final[dict[str, Callable[[int], EvictionPolicy]]] = {
    "adaptive": lambda capacity: Adaptive(max_items=capacity),
    "lru": lambda capacity: LRU(max_items=capacity),
    "lfu": lambda capacity: LFU(max_items=capacity),
    "s3fifo": lambda capacity: S3FIFO(max_items=capacity),
    "w_tinylfu": lambda capacity: WTinyLFU(max_items=capacity),
}
_AT_ONCE: Final = 5000


class Run(msgspec.Struct, frozen=True):
    """One replay of the trace."""

    policy: str
    capacity: int
    hits: int
    misses: int
    evictions: int
    seconds: float

    @property
    def hit_ratio(self) -> float:
        return self.hits / (self.hits + self.misses)


class Policies(msgspec.Struct, frozen=True):
    """All replays; ``keys`` is how many different keys the requests are for."""

    requests: int
    keys: int
    runs: list[Run]
    best: dict[int, float]
    """What the best possible cache of each capacity would have hit."""


async def measure(stage: Stage) -> Policies:
    """Replay the trace for each policy and capacity."""
    ids = stage.trace[: stage.size.trace]
    keys = [f"object:{key}" for key in ids]
    runs: list[Run] = []
    steps = len(_POLICIES) * len(stage.size.capacities) * len(keys)
    with stage.progress("replaying the trace", steps) as advance:
        for capacity in stage.size.capacities:
            runs += [await replay(name, capacity, keys, advance) for name in _POLICIES]
    best = {capacity: optimum(keys, capacity) / len(keys) for capacity in stage.size.capacities}
    return Policies(len(keys), len(set(ids)), runs, best)


async def replay(
    policy: str, capacity: int, keys: list[str], advance: Callable[[int], None]
) -> Run:
    """Get each key of the trace from a new cache, and set it on a miss."""
    config = CacheConfig(policy=CachePolicy(eviction=_POLICIES[policy](capacity)))
    seconds = 0.0
    async with Cache(config) as cache:
        for at in range(0, len(keys), _AT_ONCE):
            part = keys[at : at + _AT_ONCE]
            started = time.perf_counter()
            for key in part:
                if await cache.get(key, MISSING) is MISSING:
                    await cache.set(key, at)
            seconds += time.perf_counter() - started
            advance(len(part))
            await asyncio.sleep(0)  # an embedded cache never waits: let an interrupt in
        stats = (await cache.get_statistics()).total
    return Run(policy, capacity, stats.hits, stats.misses, stats.evictions, seconds)


def show(found: Policies) -> Iterable[RenderableType]:
    """The ratios as a table and as bars; the best of each size is bold."""
    table = plain_table("entries", "of all keys", "optimum", *_POLICIES, "a request")
    groups: list[tuple[str, list[tuple[str, float]]]] = []
    for capacity in dict.fromkeys(run.capacity for run in found.runs):
        runs = [run for run in found.runs if run.capacity == capacity]
        best = max(run.hit_ratio for run in runs)
        shown = [_marked(percent(run.hit_ratio), run.hit_ratio == best) for run in runs]
        each = sum(run.seconds for run in runs) / len(runs) / found.requests
        share = percent(capacity / found.keys)
        optimal = percent(found.best[capacity])
        table.add_row(count(capacity), share, optimal, *shown, duration(each))
        groups.append((count(capacity), [(run.policy, run.hit_ratio) for run in runs]))
    yield table
    yield Bars(groups)
    yield (
        f"\n{len(found.runs)} replays of {count(found.requests)} requests for "
        f"{count(found.keys)} keys, through get() and set() of the asynchronous cache. The first "
        f"request of each key must miss, so no cache of any size reaches more than "
        f"{percent(1 - found.keys / found.requests)}. The optimum knows the future (Belady)."
    )


def _marked(text: str, best: bool) -> str:
    return f"[bold]{text}[/]" if best else text


CHAPTER = Chapter(
    title="Hit ratio by eviction policy",
    about=(
        "The trace again, now with its own keys: object accesses of an e-commerce site. On a miss "
        "the object is stored; a full cache evicts what its policy names."
    ),
    measure=measure,
    show=show,
)
