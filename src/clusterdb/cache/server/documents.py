"""What goes over the wire: the bodies of requests and answers, from which OpenAPI is made too."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from clusterdb.monitoring import HealthStatus

from ..protocols import Member, ServerInfo

__all__ = [
    "ChangedCount",
    "ClearedCount",
    "CounterBody",
    "CounterSum",
    "Entry",
    "EntryBody",
    "HealthReport",
    "HotKey",
    "HotKeys",
    "InvalidateBody",
    "InvalidateTagsBody",
    "KeyList",
    "NearTier",
    "Nothing",
    "Overview",
    "RegionLimits",
    "StoredEntry",
    "TouchBody",
]

ValueType = Literal["text", "bytes", "json"]
Seconds = Annotated[float, Meta(gt=0)]
TimeToLive = Seconds | str | None


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what a client sends."""


class EntryBody(Body, frozen=True, kw_only=True):
    """An entry to store. ``type``: ``text`` for a string, ``bytes`` for base64, ``json`` for any
    other. ``ttl``: seconds, ``"1h30m"``, or null for no expiry; left out, that of the region.
    """

    value: Any
    type: ValueType = "json"
    ttl: TimeToLive | UnsetType = UNSET
    tags: tuple[str, ...] = ()
    keep_ttl: bool = False


class TouchBody(Body, frozen=True, kw_only=True):
    """A new time to live."""

    ttl: TimeToLive


class CounterBody(Body, frozen=True, kw_only=True):
    """What is added to a whole number; ``initial`` and ``ttl`` count where the key is new."""

    delta: int = 1
    initial: int = 0
    ttl: TimeToLive | UnsetType = UNSET


class InvalidateBody(Body, frozen=True, kw_only=True):
    """Keys, and globs of keys."""

    keys: tuple[str, ...] = ()
    matching: tuple[str, ...] = ()


class InvalidateTagsBody(Body, frozen=True, kw_only=True):
    """Tags, whose entries are in any region."""

    tags: Annotated[tuple[str, ...], Meta(min_length=1)]


class Nothing(Body, frozen=True, kw_only=True):
    """An empty object."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry. ``size`` is that of the value as text, in bytes; where it is over the limit that
    was asked for, ``truncated`` is true and ``value`` is the beginning of that text.
    """

    region: str
    key: str
    type: ValueType
    value: Any
    size: int
    truncated: bool
    version: int
    expires_in: float | None
    age_bound: float
    tags: tuple[str, ...]
    tier: str


class StoredEntry(msgspec.Struct, frozen=True, kw_only=True):
    """An entry was stored. ``version`` is null where it was stored under ``If-Match``."""

    region: str
    key: str
    version: int | None


class CounterSum(msgspec.Struct, frozen=True, kw_only=True):
    """The sum."""

    region: str
    key: str
    value: int


class ChangedCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many copies were removed, as far as the backend counts them."""

    invalidated: int


class ClearedCount(msgspec.Struct, frozen=True, kw_only=True):
    """How many entries were removed."""

    removed: int


class KeyList(msgspec.Struct, frozen=True, kw_only=True):
    """Keys that match. ``complete``: these are all."""

    region: str
    keys: tuple[str, ...]
    complete: bool


class HotKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key, and its share of the hits: 0 to 1."""

    key: str
    share: float


class HotKeys(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a region that are asked for most, of a sample."""

    region: str
    keys: tuple[HotKey, ...]


class RegionLimits(msgspec.Struct, frozen=True, kw_only=True):
    """A region's settings; ``ttl`` in seconds, ``max_weight`` in bytes, null: no limit."""

    name: str
    policy: str
    ttl: float | None
    max_items: int | None
    max_weight: int | None


class NearTier(msgspec.Struct, frozen=True, kw_only=True):
    """How old an answer of the near tier may be, in seconds, and the level of consistency."""

    max_staleness: float
    consistency: str


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """The worst status, and each thing that was looked at."""

    status: HealthStatus
    checks: tuple[dict[str, str], ...]


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """The cache and where it lives: regions, servers, processes. ``size``: bytes on disk."""

    cache: str
    version: str
    backend: str
    read_only: bool
    size: int | None
    near: NearTier | None
    regions: tuple[RegionLimits, ...]
    servers: tuple[ServerInfo, ...]
    processes: tuple[Member, ...]
    problems: tuple[str, ...]
