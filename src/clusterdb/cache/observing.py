"""What a cache says of itself: statistics, metrics and health, from one look at the backend."""

from __future__ import annotations

import msgspec

from clusterdb.monitoring import Metric
from clusterdb.monitoring.metrics import fold, selected

from .errors import BackendUnavailable
from .protocols import BackendInfo, RegionInfo
from .runtime import RegionState, Runtime
from .samples import (
    backend_samples,
    circuit_samples,
    region_samples,
    storage_samples,
    traffic_samples,
)
from .stats import CacheStats, Counters, RegionStats, StorageStats
from .units import ByteSize

__all__ = ["collect_metrics", "collect_statistics", "take_sample"]


async def collect_statistics(runtime: Runtime) -> CacheStats:
    """The figures of every region."""
    await runtime.ready()
    return _statistics(runtime, await runtime.backend.describe(), await _storages(runtime))


async def _storages(runtime: Runtime) -> dict[str, StorageStats]:
    return {} if runtime.stored is None else await runtime.stored.storages()


def _statistics(
    runtime: Runtime, info: BackendInfo, storages: dict[str, StorageStats]
) -> CacheStats:
    uptime = 0.0 if runtime.started is None else runtime.clock.now() - runtime.started
    seen = {name: info.regions[name] for name in runtime.states if name in info.regions}
    regions = {name: _region(runtime.state(name), each) for name, each in seen.items()}
    return CacheStats(
        name=runtime.name,
        backend=info.kind,
        uptime=uptime,
        tags=info.tags,
        regions=regions,
        circuits={circuit.name: circuit.stats() for circuit in runtime.circuits},
        rates=runtime.sampling.rates,
        storages=storages,
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


async def take_sample(runtime: Runtime) -> tuple[CacheStats, list[Metric]]:
    """The figures, and all of them as samples. While the backend is away its last ones are given,
    and what only this process knows is as it is now.
    """
    sampling, up = runtime.sampling, True
    try:
        await runtime.ready()
        info = sampling.latest = await runtime.backend.describe()
    except BackendUnavailable:
        info, up = sampling.latest or _unknown(runtime), False
    storages = await _storages(runtime) if sampling.latest is not None else {}
    stats, name = _statistics(runtime, info, storages), runtime.name
    return stats, [
        *region_samples(stats),
        *circuit_samples(name, stats.circuits),
        *backend_samples(stats, info, up=up),
        *storage_samples(name, storages),
        *traffic_samples(name, runtime.exchange.traffic),
        *sampling.samples(name),
    ]


def _unknown(runtime: Runtime) -> BackendInfo:
    """A backend that never answered."""
    regions = {name: RegionInfo(None, None, Counters()) for name in runtime.states}
    return BackendInfo(runtime.backend.kind, 0, regions)


async def collect_metrics(runtime: Runtime) -> list[Metric]:
    """The samples that are to be shown."""
    config = runtime.sampling.shown
    if config is None:
        runtime.check_open()
        return []
    _, samples = await take_sample(runtime)
    chosen = fold(selected(samples, config.metrics), config.max_regions)
    return fold(chosen, config.max_regions + 1, label="circuit")  # one is the backend's
