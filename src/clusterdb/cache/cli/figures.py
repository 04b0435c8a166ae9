"""What the backend knows of its regions, by all processes that ever used it.

A command is a process of its own, whose counters have just begun; what a person asks for are the
totals that the backend keeps. Asking counts as no read.
"""

from __future__ import annotations

from typing import Any

import msgspec

from clusterdb.cache import Cache, CacheStats
from clusterdb.monitoring import Metric

from ..measures import WHOLE
from ..protocols import BackendInfo, RegionInfo
from ..samples import backend_samples, region_samples
from ..stats import Counters, LoadCounters, RegionStats

__all__ = ["RegionFigures", "describe", "metrics_of", "regions_of"]


class RegionFigures(msgspec.Struct, frozen=True, kw_only=True):
    """A region: what it holds, its limits (``None``: no limit; ``max_memory`` and ``weight`` in
    bytes, ``ttl`` in seconds), and what happened to it. ``hit_ratio`` is ``None`` before the first
    read, ``items`` and ``weight`` where the backend does not know them without counting.
    """

    name: str
    policy: str
    ttl: float | None
    items: int | None
    max_items: int | None
    weight: int | None
    max_memory: int | None
    hit_ratio: float | None
    totals: Counters


async def describe(cache: Cache) -> BackendInfo:
    """The backend, asked now."""
    return await cache.access.runtime.backend.describe()


def regions_of(cache: Cache, info: BackendInfo) -> list[RegionFigures]:
    """The figures of each region."""
    shown = [name for name in info.regions if name in cache.regions]
    return [_figures(cache, name, info.regions[name]) for name in shown]


def _figures(cache: Cache, name: str, found: RegionInfo) -> RegionFigures:
    settings = cache.region(name).access.state.settings
    totals = found.totals or found.counters
    reads = totals.hits + totals.misses
    return RegionFigures(
        name=name,
        policy=settings.policy,
        ttl=settings.ttl,
        items=found.items,
        max_items=settings.max_items,
        weight=found.weight,
        max_memory=None if settings.max_weight is None else int(settings.max_weight),
        hit_ratio=totals.hits / reads if reads else None,
        totals=totals,
    )


def metrics_of(cache: Cache, info: BackendInfo) -> list[Metric]:
    """The totals as samples, named as :meth:`Cache.get_metrics` names them, and what is known of
    the backend and its servers; what only a process that works has counted is left out.
    """
    regions = {each.name: _stats(each) for each in regions_of(cache, info)}
    stats = CacheStats(
        name=cache.config.name, backend=info.kind, uptime=0.0, tags=info.tags, regions=regions
    )
    own = {f"cache_{name}" for name in (*LoadCounters.__struct_fields__, "undecodable")}
    own |= {WHOLE[field].name for field in ("uptime", "near_age")}
    found = [*region_samples(stats), *backend_samples(stats, info, up=True)]
    return [metric for metric in found if metric.name not in own]


def _stats(figures: RegionFigures) -> RegionStats:
    loads: dict[str, Any] = msgspec.structs.asdict(LoadCounters())
    return RegionStats(
        name=figures.name,
        items=figures.items,
        weight=figures.weight,
        max_items=figures.max_items,
        max_weight=figures.max_memory,
        undecodable=0,
        **msgspec.structs.asdict(figures.totals),
        **loads,
    )
