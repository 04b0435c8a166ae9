"""What is known of a cache as samples, by the table in :mod:`clusterdb.cache.measures`."""

from __future__ import annotations

from collections.abc import Mapping

from clusterdb.monitoring import Metric

from .events.routing import Traffic
from .measures import CHANNEL, CIRCUIT, REGION, SERVER, STORAGE, WHOLE
from .protocols import BackendInfo, ServerInfo
from .stats import CacheStats, CircuitStats, RegionStats, StorageStats

__all__ = [
    "backend_samples",
    "circuit_samples",
    "region_samples",
    "storage_samples",
    "traffic_samples",
]


def region_samples(stats: CacheStats) -> list[Metric]:
    """The figures of each region; those that nobody knows are left out."""
    return [
        sample for region in stats.regions.values() for sample in _of_region(stats.name, region)
    ]


def _of_region(cache: str, region: RegionStats) -> list[Metric]:
    values = {field: getattr(region, field) for field in REGION}
    return [
        REGION[field].sample(float(value), cache, region.name)
        for field, value in values.items()
        if value is not None
    ]


def circuit_samples(cache: str, circuits: Mapping[str, CircuitStats]) -> list[Metric]:
    """The circuit breakers."""
    found = []
    for name, circuit in circuits.items():
        found += [
            CIRCUIT["open"].sample(float(circuit.state != "closed"), cache, name),
            CIRCUIT["opened"].sample(float(circuit.opened), cache, name),
            CIRCUIT["refused"].sample(float(circuit.refused), cache, name),
        ]
    return found


def backend_samples(stats: CacheStats, info: BackendInfo, *, up: bool) -> list[Metric]:
    """The cache as a whole, and its servers. ``up``: the backend has just answered."""
    values = {
        "up": float(up),
        "uptime": stats.uptime,
        "tags": info.tags,
        "size": info.size,
        "members": len(info.members) or None,
        "near_age": info.near_age,
        "problems": len(info.problems),
    }
    found = [
        WHOLE[field].sample(float(value), stats.name)
        for field, value in values.items()
        if value is not None
    ]
    for server in info.servers:
        found += _of_server(stats.name, server, up=up)
    return found


def _of_server(cache: str, server: ServerInfo, *, up: bool) -> list[Metric]:
    answers = up and not server.problem
    found = [SERVER["up"].sample(float(answers), cache, server.name)]
    always = {"connections": server.connections, "reconnects": server.reconnects}
    asked: dict[str, float | None] = {}
    if answers:
        asked = {field: getattr(server, field) for field in SERVER if field not in {"up", *always}}
        asked["max_memory"] = server.max_memory or None
    return found + [
        SERVER[field].sample(float(value), cache, server.name)
        for field, value in (asked | always).items()
        if value is not None
    ]


def storage_samples(cache: str, storages: Mapping[str, StorageStats]) -> list[Metric]:
    """The storages behind the cache."""
    return [
        described.sample(float(known), cache, name)
        for name, storage in storages.items()
        for field, described in STORAGE.items()
        if (known := getattr(storage, field)) is not None
    ]


def traffic_samples(cache: str, traffic: Traffic | None) -> list[Metric]:
    """What went over the channel."""
    if traffic is None:
        return []
    return [
        described.sample(float(getattr(traffic, field)), cache)
        for field, described in CHANNEL.items()
    ]
