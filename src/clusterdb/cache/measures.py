"""Every metric of a cache: the one table that what is measured, shown and documented come from.

Names end in the unit where there is one but entries and calls. A counter has no ``_total`` here:
the exposition adds it.
"""

from __future__ import annotations

from typing import Final, Literal

from clusterdb.monitoring.catalogue import OWN_METRICS
from clusterdb.monitoring.metrics import Described

__all__ = [
    "CHANNEL",
    "CIRCUIT",
    "LATENCY",
    "LOAD_LATENCY",
    "METRICS",
    "REGION",
    "SERVER",
    "STORAGE",
    "STORAGE_LATENCY",
    "WHOLE",
]

_COUNTERS: Final = {
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
_GAUGES: Final = {
    "items": ("size", "Entries resident"),
    "weight": ("weight", "Weight of the entries, in bytes unless a weigher has another unit"),
    "max_items": ("max_size", "Entries at most"),
    "max_weight": ("max_weight", "Weight of the entries at most"),
}
_TRAFFIC: Final = {
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
_STORAGE: Final[dict[str, tuple[str, Literal["counter", "gauge"], str]]] = {
    "queries": ("queries", "counter", "Queries of what was not cached"),
    "rows_read": ("rows_read", "counter", "Rows that they gave"),
    "commits": ("commits", "counter", "Transactions of write-throughs"),
    "rows_written": ("rows_written", "counter", "Rows written through and behind"),
    "relayed": ("relayed", "counter", "Keys invalidated because their rows changed"),
    "waiting": ("waiting", "gauge", "Rows that wait for a transaction"),
    "pending": ("pending", "gauge", "Rows to be written behind"),
    "refused": ("refused", "gauge", "Rows put aside because the database refused them"),
    "lag": ("lag_seconds", "gauge", "From the last change of a row to its invalidation"),
    "outbox": ("outbox", "gauge", "Changes that the database keeps"),
}
_OF_REGION: Final = ("cache", "region")
_OF_CIRCUIT: Final = ("cache", "circuit")
_OF_SERVER: Final = ("cache", "server")

REGION: Final = {
    field: Described(f"cache_{field}", "counter", _OF_REGION, text)
    for field, text in _COUNTERS.items()
} | {
    field: Described(f"cache_{name}", "gauge", _OF_REGION, text)
    for field, (name, text) in _GAUGES.items()
}
"""What a region has, by the field of :class:`RegionStats`."""

STORAGE: Final = {
    field: Described(f"cache_storage_{name}", kind, ("cache", "storage"), text)
    for field, (name, kind, text) in _STORAGE.items()
}
"""What a storage behind the cache has, by the field of :class:`StorageStats`."""

CHANNEL: Final = {
    field: Described(f"cache_channel_{field}", "counter", ("cache",), text)
    for field, text in _TRAFFIC.items()
}
"""What went over the channel, by the field of :class:`Traffic`."""

CIRCUIT: Final = {
    "open": Described("cache_circuit_open", "gauge", _OF_CIRCUIT, "0 while calls go as usual"),
    "opened": Described(
        "cache_circuit_opened", "counter", _OF_CIRCUIT, "Times the circuit breaker opened"
    ),
    "refused": Described(
        "cache_circuit_refused", "counter", _OF_CIRCUIT, "Calls an open circuit breaker refused"
    ),
}
"""What a circuit breaker has."""

SERVER: Final = {
    "up": Described("cache_server_up", "gauge", _OF_SERVER, "1 while the server answers"),
    "latency": Described(
        "cache_server_latency_seconds", "gauge", _OF_SERVER, "One round trip, just now"
    ),
    "memory": Described(
        "cache_server_memory_bytes", "gauge", _OF_SERVER, "Memory that the server uses"
    ),
    "max_memory": Described(
        "cache_server_max_memory_bytes",
        "gauge",
        _OF_SERVER,
        "The server's own limit, if it has one",
    ),
    "evictions": Described(
        "cache_server_evictions", "counter", _OF_SERVER, "Keys of all users that it evicted"
    ),
    "clients": Described(
        "cache_server_clients", "gauge", _OF_SERVER, "Connections of all users to it"
    ),
    "replicas": Described("cache_server_replicas", "gauge", _OF_SERVER, "Replicas it has"),
    "lag": Described(
        "cache_server_lag_bytes", "gauge", _OF_SERVER, "How far its slowest replica is behind"
    ),
    "connections": Described(
        "cache_connections", "gauge", _OF_SERVER, "Connections of this process to it"
    ),
    "reconnects": Described(
        "cache_reconnects",
        "counter",
        _OF_SERVER,
        "Times this process had lost them all, and came back",
    ),
}
"""What a server has, by the field of :class:`ServerInfo`."""

WHOLE: Final = {
    "up": Described("cache_up", "gauge", ("cache",), "1 while the backend answers"),
    "uptime": Described("cache_uptime_seconds", "gauge", ("cache",), "Seconds since the first use"),
    "tags": Described("cache_tags", "gauge", ("cache",), "Tags the backend knows of"),
    "size": Described(
        "cache_disk_bytes", "gauge", ("cache",), "Size of the file, where there is one"
    ),
    "members": Described("cache_members", "gauge", ("cache",), "Processes that share the backend"),
    "near_age": Described(
        "cache_near_age_seconds",
        "gauge",
        ("cache",),
        "How long ago all changes by others were surely known",
    ),
    "problems": Described(
        "cache_problems", "gauge", ("cache",), "Problems that get_health() tells"
    ),
}
"""What the cache has as a whole."""

LATENCY: Final = Described(
    "cache_operation_seconds",
    "histogram",
    ("cache", "tier", "operation", "region", "outcome"),
    "Calls of the backend, by what they came to; hits in process are not among them",
)
LOAD_LATENCY: Final = Described(
    "cache_load_duration_seconds",
    "histogram",
    ("cache", "region", "outcome"),
    "Calls of loaders, by what they came to: ok, failed, timeout, cancelled",
)
STORAGE_LATENCY: Final = Described(
    "cache_storage_operation_seconds",
    "histogram",
    ("cache", "storage", "operation", "region", "outcome"),
    "Calls of a storage, by what they came to: ok, refused, unavailable, error, cancelled",
)

METRICS: Final[dict[str, Described]] = {
    each.name: each
    for each in (
        *REGION.values(), *WHOLE.values(), *CIRCUIT.values(), *SERVER.values(),
        *STORAGE.values(), STORAGE_LATENCY, *CHANNEL.values(), LATENCY, LOAD_LATENCY, *OWN_METRICS,
    )
}  # fmt: skip
"""Every metric by its name."""
