"""What the backend knows of its regions, by all processes that ever used it.

A command is a process of its own, whose counters have just begun; what a person asks for are the
totals that the backend keeps. Asking counts as no read.
"""

from __future__ import annotations

from typing import Any

import msgspec

from clusterdb.cache import CacheStats
from clusterdb.monitoring import Metric

from ..measures import WHOLE
from ..overview import Overview, RegionLimits
from ..protocols import RegionInfo
from ..samples import backend_samples, region_samples
from ..stats import Counters, LoadCounters, RegionStats

__all__ = ["RegionFigures", "metrics_of", "regions_of"]


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


def regions_of(seen: Overview) -> list[RegionFigures]:
    """The figures of each region."""
    return [_figures(limits, seen.backend.regions[limits.name]) for limits in seen.regions]


def _figures(limits: RegionLimits, found: RegionInfo) -> RegionFigures:
    totals = found.totals or found.counters
    reads = totals.hits + totals.misses
    return RegionFigures(
        name=limits.name,
        policy=limits.policy,
        ttl=limits.ttl,
        items=found.items,
        max_items=limits.max_items,
        weight=found.weight,
        max_memory=limits.max_weight,
        hit_ratio=totals.hits / reads if reads else None,
        totals=totals,
    )


def metrics_of(seen: Overview) -> list[Metric]:
    """The totals as samples, named as :meth:`Cache.get_metrics` names them, and what is known of
    the backend and its servers; what only a process that works has counted is left out.
    """
    info, regions = seen.backend, {each.name: _stats(each) for each in regions_of(seen)}
    stats = CacheStats(
        name=seen.cache, backend=info.kind, uptime=0.0, tags=info.tags, regions=regions
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
