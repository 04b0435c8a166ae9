"""What a cache says of itself: statistics and metrics, from one look at the backend."""

from __future__ import annotations

from typing import Literal

import msgspec

from clusterdb.monitoring import Metric

from .events.routing import Traffic
from .protocols import RegionInfo
from .runtime import RegionState, Runtime
from .stats import CacheStats, RegionStats
from .units import ByteSize

__all__ = ["collect_metrics", "collect_statistics", "collect_traffic"]

_COUNTERS = {
    "hits": "Reads answered by a live entry",
    "misses": "Reads that found no live entry",
    "stale_hits": "Reads answered by an expired entry within its grace",
    "sets": "Values stored",
    "deletes": "Entries deleted",
    "invalidations": "Entries removed because they were invalidated",
    "evictions": "Entries removed to make room",
    "expirations": "Entries removed because their time was over",
    "rejections": "Writes that failed: values too large, or memory out",
    "refused_by_filter": "New entries not kept, by the admission filter",
    "refused_by_rate": "New entries not kept, by the rate limit",
    "refused_by_weight": "Large new entries not kept, as hotter ones would have left for them",
    "refused_by_memory": "New entries not kept, as memory was short",
    "loads": "Loader calls",
    "load_failures": "Loader calls that raised",
    "load_timeouts": "Loader calls cancelled at their deadline",
    "load_retries": "Loader calls made because the one before raised",
    "load_seconds": "Seconds spent in loaders",
    "joined_loads": "Callers that shared the load of another",
    "lost_fills": "Loaded values not stored because something happened meanwhile",
    "unavailable_loads": "Loads run because the backend could not be reached",
    "refused_loads": "Loader calls not made because the circuit breaker was open",
    "refreshes": "Entries loaded again before they expired",
    "stale_while_revalidating": "Expired values given at once while a load renewed them",
    "stale_past_deadline": "Expired values given past the soft deadline of a load",
    "stale_on_error": "Expired values given because the loader failed",
    "stale_on_outage": "Last known values given because the backend could not be reached",
    "undecodable": "Stored values that could not be read, and count as misses",
}
_TRAFFIC = {
    "sent": "Events sent to other processes",
    "received": "Events received from other processes",
    "dropped": "Events that could not be sent, as too many waited",
    "echoes": "Messages of this process that came back",
    "foreign": "Messages of caches of another name",
    "oversized": "Messages refused because they were too large",
    "unknown": "Messages refused because their version is not known",
    "garbage": "Messages refused because they are none",
    "gaps": "Losses of events that were told to subscribers",
    "failures": "Attempts to send or to listen that failed",
}
_STORAGE: dict[str, tuple[Literal["counter", "gauge"], str]] = {
    "queries": ("counter", "Queries of what was not cached"),
    "rows_read": ("counter", "Rows that they gave"),
    "commits": ("counter", "Transactions of write-throughs"),
    "rows_written": ("counter", "Rows written through and behind"),
    "relayed": ("counter", "Keys invalidated because their rows changed"),
    "waiting": ("gauge", "Rows that wait for a transaction"),
    "pending": ("gauge", "Rows to be written behind"),
    "refused": ("gauge", "Rows put aside because the database refused them"),
    "lag": ("gauge", "Seconds from the last change of a row to its invalidation"),
    "outbox": ("gauge", "Changes that the database keeps"),
}
_GAUGES = {"items": ("size", "Entries resident"), "weight": ("weight", "Weight of the entries")}


async def collect_statistics(runtime: Runtime) -> CacheStats:
    """The figures of every region."""
    await runtime.ready()
    info = await runtime.backend.describe()
    uptime = 0.0 if runtime.started is None else runtime.clock.now() - runtime.started
    regions = {name: _region(runtime.state(name), seen) for name, seen in info.regions.items()}
    return CacheStats(
        name=runtime.name,
        backend=info.kind,
        uptime=uptime,
        tags=info.tags,
        regions=regions,
        circuits={circuit.name: circuit.stats() for circuit in runtime.circuits},
        storages={} if runtime.stored is None else await runtime.stored.storages(),
    )


def _region(state: RegionState, info: RegionInfo) -> RegionStats:
    settings, reads = state.settings, state.unreadable.counters
    counters = msgspec.structs.replace(
        info.counters,
        hits=info.counters.hits - reads.hits,
        stale_hits=info.counters.stale_hits - reads.stale_hits,
        misses=info.counters.misses + reads.misses,
    )
    return RegionStats(
        name=settings.name,
        items=info.items,
        weight=info.weight,
        max_items=settings.max_items,
        max_weight=settings.max_weight if info.share is None else ByteSize(info.share),
        undecodable=reads.undecodable,
        **msgspec.structs.asdict(counters),
        **msgspec.structs.asdict(state.loads),
    )


def collect_metrics(stats: CacheStats) -> list[Metric]:
    """The statistics as samples, one a region."""
    metrics: list[Metric] = []
    for region in stats.regions.values():
        labels = {"cache": stats.name, "region": region.name}
        for field, text in _COUNTERS.items():
            value = float(getattr(region, field))
            name = f"cache_{field}"
            metrics.append(Metric(name=name, kind="counter", value=value, labels=labels, help=text))
        for field, (short, text) in _GAUGES.items():
            known = getattr(region, field)
            if known is not None:
                name, value = f"cache_{short}", float(known)
                gauge = Metric(name=name, kind="gauge", value=value, labels=labels, help=text)
                metrics.append(gauge)
    for name, circuit in stats.circuits.items():
        labels = {"cache": stats.name, "circuit": name}
        metrics += [
            Metric(
                name="cache_circuit_closed",
                kind="gauge",
                value=float(circuit.state == "closed"),
                labels=labels,
                help="Whether calls are made as usual",
            ),
            Metric(
                name="cache_circuit_opened",
                kind="counter",
                value=float(circuit.opened),
                labels=labels,
                help="How often the circuit breaker opened",
            ),
            Metric(
                name="cache_circuit_refused",
                kind="counter",
                value=float(circuit.refused),
                labels=labels,
                help="Calls not made because the circuit breaker was open",
            ),
        ]
    for name, storage in stats.storages.items():
        labels = {"cache": stats.name, "storage": name}
        for field, (kind, text) in _STORAGE.items():
            known = getattr(storage, field)
            if known is not None:
                sample, value = f"cache_storage_{field}", float(known)
                metrics.append(
                    Metric(name=sample, kind=kind, value=value, labels=labels, help=text)
                )
    return metrics


def collect_traffic(name: str, traffic: Traffic | None) -> list[Metric]:
    """What went over the channel of the cache called ``name``, as samples."""
    if traffic is None:
        return []
    return [
        Metric(
            name=f"cache_channel_{field}",
            kind="counter",
            value=float(getattr(traffic, field)),
            labels={"cache": name},
            help=text,
        )
        for field, text in _TRAFFIC.items()
    ]
