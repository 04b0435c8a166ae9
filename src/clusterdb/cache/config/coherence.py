"""Coherence: what a read may return, how writes reach storage, how others learn of a change."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta

from .backend import Redis
from .quantities import Count, Duration, Items, OptionalPath, preset
from .settings import Settings, require
from .storage import StorageBackend

__all__ = [
    "CacheCoherence",
    "CoherenceMode",
    "EventKind",
    "InvalidationConfig",
    "NotificationBackend",
    "NotificationConfig",
    "ReadThrough",
    "RedisChannel",
    "RedisStream",
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

    `durability`: ``journal`` (a local synced file), ``replicated`` (kept by the cache's Redis
    servers until it is flushed, acknowledged by as many as `replication` asks for) or ``memory``
    (lost if the process dies). At most `batch_size` rows, at the latest after `flush_interval`.
    `journal` is the directory of the journals: by default ``clusterdb-cache/<name of the cache>``
    where the system keeps state of programs (``$XDG_STATE_HOME``, else ``~/.local/state``).
    """

    backend: StorageBackend
    durability: Literal["journal", "replicated", "memory"] = "journal"
    batch_size: Count = 500
    flush_interval: Duration = preset("1s")
    journal: OptionalPath = preset(None)

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
    """Events over a Redis channel: whoever is away meanwhile misses them, and is told so.

    `server` is where the channel is; by default where the entries are.
    """

    channel: str
    server: Redis | None = None

    def _check(self) -> None:
        """Check that the channel has a name."""
        require(0 < len(self.channel) <= 1024, "channel", "needs 1 to 1024 characters")


class RedisStream(Settings, frozen=True, kw_only=True, tag_field="type", tag="redis_stream"):
    """Events over a Redis stream: whoever was away reads what it missed, as far as the last
    `max_length` messages or so reach.

    `server` is where the stream is; by default where the entries are.
    """

    stream: str
    max_length: Count = 10_000
    server: Redis | None = None

    def _check(self) -> None:
        """Check that the stream has a name."""
        require(0 < len(self.stream) <= 1024, "stream", "needs 1 to 1024 characters")


NotificationBackend: TypeAlias = RedisChannel | RedisStream

EventKind: TypeAlias = Literal[
    "set",
    "delete",
    "invalidate",
    "invalidate_matching",
    "invalidate_tag",
    "clear",
    "evict",
    "expire",
    "load",
    "node_down",
    "node_up",
]
"""The kinds of events that can be sent to other processes."""

_CHANGES: Final = ("set", "delete", "invalidate", "invalidate_matching", "invalidate_tag", "clear")


class NotificationConfig(Settings, frozen=True, kw_only=True):
    """Where events are sent, and which: by default whatever changes an entry."""

    backend: NotificationBackend
    events: Items[EventKind] = preset(_CHANGES)

    def _check(self) -> None:
        """Check that something is sent."""
        require(bool(self.events), "events", "needs at least one kind of event")


class InvalidationConfig(Settings, frozen=True, kw_only=True):
    """How invalidations are carried out, and how others learn of them.

    `mode`: ``versioned``: a receiver drops only what is older than the event; ``plain``: what it
    has. With ``CacheCoherence(invalidation="deferred")`` invalidations of a key wait at most
    `delay` to be carried out together, with ``"lazy"`` at most `linger` for the next read; at most
    `queue` of them wait.
    """

    mode: Literal["versioned", "plain"] = "versioned"
    notification: NotificationConfig | None = None
    delay: Duration = preset(0.1)
    linger: Duration = preset(60.0)
    queue: Annotated[int, Meta(ge=1, le=1_000_000)] = 10_000

    def _check(self) -> None:
        """Check that what waits waits for something."""
        for name in ("delay", "linger"):
            require(getattr(self, name) > 0, name, "must be above 0 seconds")
