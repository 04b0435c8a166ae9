"""The Stats Collector: counters of a region, and the snapshots users read.

Counters are plain ints changed under the table's lock; a hit is counted when its batch is
drained, so that the hit path does no arithmetic. A snapshot is frozen and adds up.
"""

from __future__ import annotations

from typing import Any

import msgspec

from .breaker import CircuitState

__all__ = [
    "CacheStats",
    "CircuitStats",
    "Counters",
    "LoadCounters",
    "NearFigures",
    "ReadCounters",
    "RegionRates",
    "RegionStats",
    "StorageStats",
]


class Counters(msgspec.Struct):
    """What happened to the entries of one table. Units: calls and entries."""

    hits: int = 0
    stale_hits: int = 0
    misses: int = 0
    sets: int = 0
    deletes: int = 0
    invalidations: int = 0
    evictions: int = 0
    expirations: int = 0
    rejections: int = 0
    refused_by_filter: int = 0
    refused_by_rate: int = 0
    refused_by_weight: int = 0
    refused_by_memory: int = 0


class LoadCounters(msgspec.Struct):
    """What happened to the loads of one region. Units: loads, callers, seconds."""

    loads: int = 0
    load_failures: int = 0
    load_timeouts: int = 0
    load_retries: int = 0
    load_seconds: float = 0.0
    joined_loads: int = 0
    lost_fills: int = 0
    unavailable_loads: int = 0
    refused_loads: int = 0
    refreshes: int = 0
    stale_while_revalidating: int = 0
    stale_past_deadline: int = 0
    stale_on_error: int = 0
    stale_on_outage: int = 0


class ReadCounters(msgspec.Struct):
    """What decoding found out about reads that the backend had counted. Units: entries.

    ``undecodable`` could not be read. Of the reads that the backend counted, ``hits`` and
    ``stale_hits`` were none, and ``misses`` were misses after all.
    """

    undecodable: int = 0
    hits: int = 0
    stale_hits: int = 0
    misses: int = 0


class NearFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How one process does. Of its reads ``near_hits`` were answered by the near tier, and
    ``near_misses`` went to the backend. ``lag`` is how many seconds ago its near tier was surely
    up to date, ``None`` where it keeps nothing near.
    """

    near_hits: int = 0
    near_misses: int = 0
    lag: float | None = None

    @property
    def near_ratio(self) -> float | None:
        """The share of the reads that the near tier answered; ``None`` before the first."""
        reads = self.near_hits + self.near_misses
        return self.near_hits / reads if reads else None


class RegionStats(msgspec.Struct, frozen=True, kw_only=True):
    """A region at one moment.

    ``stale_hits`` are reads answered by an expired value within its grace. ``rejections`` were too
    large for their region, or came when memory was out: their write failed. The ``refused_by`` are
    new entries that were written and not kept: by the admission filter, by the rate limit, because
    hotter entries would have had to leave for a large one, and because memory was short.
    ``joined_loads`` are callers that shared another's load, ``lost_fills``
    loads whose result was not stored because the key was written or invalidated meanwhile,
    ``unavailable_loads`` loads run because the backend could not be reached, ``refused_loads``
    those that were not, as the circuit breaker was open, ``refreshes`` entries loaded again before
    they expired. ``stale_...`` are values that a load gave although they had
    expired, or could not be verified: while another was under way, past its soft deadline, as its
    loader failed, as the backend could not be reached; ``stale_served`` adds them up.
    ``undecodable`` were
    stored and could not be read: their reads count as misses. ``items`` and ``weight`` are ``None``
    where the backend does not know them without counting. ``weight`` is in bytes (or the
    weigher's unit); 0 where the region has no ``max_memory`` and weighs nothing. Where the regions
    share ``max_total_memory``, ``max_weight`` is the region's present share.
    """

    name: str
    items: int | None
    weight: int | None
    max_items: int | None
    max_weight: int | None
    hits: int
    stale_hits: int
    misses: int
    sets: int
    deletes: int
    invalidations: int
    evictions: int
    expirations: int
    rejections: int
    refused_by_filter: int
    refused_by_rate: int
    refused_by_weight: int
    refused_by_memory: int
    loads: int
    load_failures: int
    load_timeouts: int
    load_retries: int
    load_seconds: float
    joined_loads: int
    lost_fills: int
    unavailable_loads: int
    refused_loads: int
    refreshes: int
    stale_while_revalidating: int
    stale_past_deadline: int
    stale_on_error: int
    stale_on_outage: int
    undecodable: int

    @property
    def hit_ratio(self) -> float:
        """Hits over reads; 0 before the first read."""
        reads = self.hits + self.misses
        return self.hits / reads if reads else 0.0

    @property
    def stale_served(self) -> int:
        """Values that loads gave although they were past their time, for whatever reason."""
        return (
            self.stale_while_revalidating
            + self.stale_past_deadline
            + self.stale_on_error
            + self.stale_on_outage
        )


class RegionRates(msgspec.Struct, frozen=True, kw_only=True):
    """What happened in a region a second, over the last interval, which took ``seconds``.
    ``hit_ratio`` is that of the interval, ``None`` where nothing was read.
    """

    seconds: float
    hit_ratio: float | None
    hits: float
    misses: float
    sets: float
    deletes: float
    invalidations: float
    evictions: float
    expirations: float
    loads: float
    load_failures: float


class CircuitStats(msgspec.Struct, frozen=True, kw_only=True):
    """A circuit breaker at one moment: how often it opened, how many calls it refused, how many
    failed since the last success, and seconds until the next is let through.
    """

    state: CircuitState
    opened: int
    refused: int
    in_row: int
    retry_in: float


class StorageStats(msgspec.Struct, frozen=True, kw_only=True):
    """A storage behind the cache at one moment, as this process has used it.

    ``queries`` gave ``rows_read``; ``commits`` of write-throughs, and flushes, wrote
    ``rows_written``. ``waiting`` rows wait for a transaction, ``pending`` are to be written behind,
    ``refused`` were put aside as the database does not take them. ``relayed`` keys were invalidated
    because their rows changed, ``lag`` seconds (the last time) after that. ``outbox`` is how many
    changes the database keeps, where it knows; ``problems`` are sentences with the remedy.
    """

    kind: str
    regions: tuple[str, ...]
    queries: int
    rows_read: int
    commits: int
    rows_written: int
    waiting: int
    pending: int
    refused: int
    relayed: int
    lag: float | None
    outbox: int | None
    problems: tuple[str, ...] = ()


class CacheStats(msgspec.Struct, frozen=True, kw_only=True):
    """A cache at one moment; ``total`` adds up its regions. ``uptime`` is in seconds. ``circuits``
    are those with a breaker: ``backend``, and ``loads.<region>``. ``storages`` are those behind the
    cache, by kind and a hash of their configuration. ``rates`` are over the last interval, by
    region; none before its end, and none where statistics over time are off.
    """

    name: str
    backend: str
    uptime: float
    tags: int
    regions: dict[str, RegionStats]
    circuits: dict[str, CircuitStats] = {}
    storages: dict[str, StorageStats] = {}
    rates: dict[str, RegionRates] = {}

    @property
    def total(self) -> RegionStats:
        """All regions added up; a limit is ``None`` unless every region has one."""
        summed: dict[str, Any] = {}
        for field in RegionStats.__struct_fields__[1:]:
            values = [getattr(region, field) for region in self.regions.values()]
            summed[field] = None if None in values else sum(values)
        return RegionStats(name="total", **summed)

    @property
    def hit_ratio(self) -> float:
        """Hits over reads of all regions."""
        return self.total.hit_ratio
