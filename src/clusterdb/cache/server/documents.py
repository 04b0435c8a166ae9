"""What goes over the wire: the bodies of requests and answers, from which OpenAPI is made too."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from clusterdb.monitoring import Alert, HealthCheck, HealthStatus, Metric
from clusterdb.monitoring.alerts import PastAlert

from ..overview import Overview

__all__ = [
    "AlertReport",
    "ChangedCount",
    "ClearedCount",
    "CounterBody",
    "CounterSum",
    "Entry",
    "EntryBody",
    "HealthReport",
    "InvalidateBody",
    "InvalidateTagsBody",
    "KeyList",
    "MetricList",
    "Nothing",
    "ServedOverview",
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
    tags: Annotated[tuple[str, ...], Meta(max_length=1000)] = ()
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
    """Keys, and globs of keys. So many at most that a request is no burden for the others."""

    keys: Annotated[tuple[str, ...], Meta(max_length=10_000)] = ()
    matching: Annotated[tuple[str, ...], Meta(max_length=100)] = ()


class InvalidateTagsBody(Body, frozen=True, kw_only=True):
    """Tags, whose entries are in any region."""

    tags: Annotated[tuple[str, ...], Meta(min_length=1, max_length=1000)]


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


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """The worst status, what it means for an orchestrator, and each thing that was looked at."""

    status: HealthStatus
    live: bool
    ready: bool
    checks: tuple[HealthCheck, ...]


class AlertReport(msgspec.Struct, frozen=True, kw_only=True):
    """The alerts that fire, and those that are over, the latest first."""

    firing: tuple[Alert, ...]
    over: tuple[PastAlert, ...]


class MetricList(msgspec.Struct, frozen=True, kw_only=True):
    """The figures as samples."""

    metrics: tuple[Metric, ...]


class ServedOverview(Overview, frozen=True, kw_only=True):
    """The cache and where it lives. ``read_only``: this server refuses changes."""

    read_only: bool
