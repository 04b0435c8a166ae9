"""Coherence: what a read may return, how writes reach storage, how others learn of a change."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from .quantities import Count, Duration, preset
from .settings import Settings, require
from .storage import StorageBackend

__all__ = [
    "CacheCoherence",
    "CoherenceMode",
    "InvalidationConfig",
    "NotificationBackend",
    "NotificationConfig",
    "ReadThrough",
    "RedisChannel",
    "ReplicationConfig",
    "WriteAround",
    "WriteBehind",
    "WriteThrough",
]


class WriteThrough(Settings, frozen=True, kw_only=True, tag_field="type", tag="write_through"):
    """A write goes to storage and to the cache before it returns."""

    backend: StorageBackend


class WriteBehind(Settings, frozen=True, kw_only=True, tag_field="type", tag="write_behind"):
    """A write is made durable, then the cache is written, then storage in batches.

    `durability`: ``journal`` (a local synced file), ``replicated`` (acknowledged by replicas) or
    ``memory`` (lost if the process dies). At most `batch_size` rows, at the latest after
    `flush_interval`.
    """

    backend: StorageBackend
    durability: Literal["journal", "replicated", "memory"] = "journal"
    batch_size: Count = 500
    flush_interval: Duration = preset("1s")

    def _check(self) -> None:
        """Check that flushes have a distance."""
        require(self.flush_interval > 0, "flush_interval", "must be above 0 seconds")


class WriteAround(Settings, frozen=True, kw_only=True, tag_field="type", tag="write_around"):
    """A write goes to storage and invalidates the cached copy."""

    backend: StorageBackend


class ReadThrough(Settings, frozen=True, kw_only=True, tag_field="type", tag="read_through"):
    """A miss is loaded from storage; writes go to the cache only."""

    backend: StorageBackend


CoherenceMode: TypeAlias = WriteThrough | WriteBehind | WriteAround | ReadThrough


class ReplicationConfig(Settings, frozen=True, kw_only=True):
    """How many servers acknowledge a write. `factor` counts the primary."""

    mode: Literal["synchronous", "asynchronous"] = "asynchronous"
    factor: Annotated[int, Meta(ge=1, le=16)] = 1
    consistency: Literal["quorum", "one", "all"] = "quorum"


class CacheCoherence(Settings, frozen=True, kw_only=True):
    """Coherence of the cache; `mode` None means that there is no storage behind it.

    `consistency` is what a read may return: ``strong`` the latest completed write, ``bounded`` what
    was current at most `max_staleness` ago (1 s unless the backend or a region says otherwise),
    ``eventual`` the same with 5 s. `confirm` is how a primary that could have been replaced shows
    that it was not: its ``replicas`` acknowledge a write, a ``quorum`` of the sentinels or of the
    other primaries names it, or ``none``: then a failover has no bound.
    """

    mode: CoherenceMode | None = None
    consistency: Literal["strong", "bounded", "eventual"] = "bounded"
    confirm: Literal["replicas", "quorum", "none"] = "replicas"
    invalidation: Literal["immediate", "deferred", "lazy"] = "immediate"
    replication: ReplicationConfig | None = None


class RedisChannel(Settings, frozen=True, kw_only=True, tag_field="type", tag="redis"):
    """Invalidation events over a Redis channel."""

    channel: str

    def _check(self) -> None:
        """Check that the channel has a name."""
        require(0 < len(self.channel) <= 1024, "channel", "needs 1 to 1024 characters")


NotificationBackend: TypeAlias = RedisChannel


class NotificationConfig(Settings, frozen=True, kw_only=True):
    """Where invalidation events are sent."""

    backend: NotificationBackend


class InvalidationConfig(Settings, frozen=True, kw_only=True):
    """`versioned`: a receiver drops only what is older than the event; `plain`: what it has."""

    mode: Literal["versioned", "plain"] = "versioned"
    notification: NotificationConfig | None = None
