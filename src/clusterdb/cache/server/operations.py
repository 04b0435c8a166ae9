"""The one table of operations. Routing, the description in OpenAPI and the reference are made of
it, or held against it by tests.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Literal, TypeAlias

import msgspec

from ..advice import Advice
from ..stats import CacheStats
from ..tally import HotKeys
from . import changes, documents, entries, figures, streaming
from .asking import Asked

__all__ = ["OPERATIONS", "Handler", "Operation", "Parameter"]

Handler: TypeAlias = Callable[[Asked], Awaitable[object]]
"""Gives a document, ``None`` for no body, or a whole response."""


class Parameter(msgspec.Struct, frozen=True):
    """A parameter of the query or a header; ``schema`` is a JSON Schema."""

    name: str
    text: str
    schema: dict[str, Any] = msgspec.field(default_factory=lambda: {"type": "string"})
    place: Literal["query", "header"] = "query"
    required: bool = False


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One method of one address. ``name`` is its id, ``answers`` the document of each good status
    (``None``: no body; a str: its media type), the usual one first; ``problems`` are the kinds of
    problems beside those of every operation. ``writes``: refused by a server that only reads.
    """

    method: Literal["GET", "PUT", "POST", "PATCH", "DELETE"]
    path: str
    name: str
    text: str
    handler: Handler
    parameters: tuple[Parameter, ...] = ()
    body: type[msgspec.Struct] | None = None
    answers: dict[int, Any]
    problems: tuple[str, ...] = ()
    writes: bool = False
    streams: bool = False


_KEY: Final = Parameter(
    "key", "the key", {"type": "string", "minLength": 1, "maxLength": 65_536}, required=True
)
_IF_MATCH: Final = Parameter("If-Match", "a version in quotes, or *", place="header")
_IF_NONE_MATCH: Final = Parameter("If-None-Match", "* where there is no entry", place="header")
_KNOWN: Final = Parameter("If-None-Match", "versions that the client has", place="header")
_ENTRY: Final = "/v1/regions/{region}/entry"
_NAMES: Final = {"type": "array", "items": {"type": "string"}}
_FLAG: Final = {"type": "string", "enum": ["true", "false"]}


def _count(most: int) -> dict[str, Any]:
    return {"type": "integer", "minimum": 1, "maximum": most}


OPERATIONS: Final[tuple[Operation, ...]] = (
    Operation(
        method="GET",
        path=_ENTRY,
        name="getEntry",
        text="The entry under a key: value, version, expiry, tags and tier. Counts as a read.",
        handler=entries.get_entry,
        parameters=(
            _KEY,
            _KNOWN,
            Parameter("peek", "count as no read", _FLAG),
            Parameter("limit", "the longest value, in bytes of text", _count(entries.MOST_SHOWN)),
        ),
        answers={200: documents.Entry, 304: None},
        problems=("no-entry", "unknown-region", "undecodable"),
    ),
    Operation(
        method="PUT",
        path=_ENTRY,
        name="putEntry",
        text="Store a value.",
        handler=entries.put_entry,
        parameters=(_KEY, _IF_MATCH, _IF_NONE_MATCH),
        body=documents.EntryBody,
        answers={200: documents.StoredEntry},
        problems=(
            "unknown-region",
            "precondition-failed",
            "out-of-memory",
            "row-refused",
            "overloaded",
        ),
        writes=True,
    ),
    Operation(
        method="PATCH",
        path=_ENTRY,
        name="touchEntry",
        text="Give an entry a new time to live.",
        handler=entries.touch,
        parameters=(_KEY,),
        body=documents.TouchBody,
        answers={204: None},
        problems=("no-entry", "unknown-region"),
        writes=True,
    ),
    Operation(
        method="DELETE",
        path=_ENTRY,
        name="deleteEntry",
        text="Delete an entry.",
        handler=entries.delete_entry,
        parameters=(_KEY, _IF_MATCH),
        answers={204: None},
        problems=("no-entry", "unknown-region", "precondition-failed", "overloaded"),
        writes=True,
    ),
    Operation(
        method="POST",
        path="/v1/regions/{region}/increment",
        name="incrementEntry",
        text="Add to a whole number, atomically.",
        handler=entries.increment,
        parameters=(_KEY,),
        body=documents.CounterBody,
        answers={200: documents.CounterSum},
        problems=("unknown-region", "type-mismatch", "out-of-memory"),
        writes=True,
    ),
    Operation(
        method="GET",
        path="/v1/regions/{region}/keys",
        name="listKeys",
        text="Keys that match a glob, in no order.",
        handler=entries.list_keys,
        parameters=(
            Parameter("pattern", "a glob; by default all"),
            Parameter("limit", "at most so many; 1000", _count(entries.MOST_KEYS)),
        ),
        answers={200: documents.KeyList},
        problems=("unknown-region", "timeout"),
    ),
    Operation(
        method="POST",
        path="/v1/regions/{region}/invalidate",
        name="invalidateKeys",
        text="Make entries misses, by key or glob.",
        handler=changes.invalidate,
        body=documents.InvalidateBody,
        answers={200: documents.ChangedCount},
        problems=("unknown-region", "timeout"),
        writes=True,
    ),
    Operation(
        method="POST",
        path="/v1/invalidate",
        name="invalidateTags",
        text="Make every entry with one of the tags a miss, in all regions.",
        handler=changes.invalidate_tags,
        body=documents.InvalidateTagsBody,
        answers={200: documents.ChangedCount},
        writes=True,
    ),
    Operation(
        method="POST",
        path="/v1/regions/{region}/clear",
        name="clearRegion",
        text="Remove every entry of a region. The body is an empty object.",
        handler=changes.clear_region,
        body=documents.Nothing,
        answers={200: documents.ClearedCount},
        problems=("unknown-region",),
        writes=True,
    ),
    Operation(
        method="POST",
        path="/v1/clear",
        name="clearCache",
        text="Remove every entry of all regions. The body is an empty object.",
        handler=changes.clear,
        body=documents.Nothing,
        answers={200: documents.ClearedCount},
        writes=True,
    ),
    Operation(
        method="GET",
        path="/v1/overview",
        name="getOverview",
        text="The cache, its regions, and the servers and processes that share it.",
        handler=figures.overview,
        answers={200: documents.ServedOverview},
    ),
    Operation(
        method="GET",
        path="/v1/statistics",
        name="getStatistics",
        text="What was counted, by region, since this process began.",
        handler=figures.statistics,
        answers={200: CacheStats},
    ),
    Operation(
        method="GET",
        path="/v1/health",
        name="getHealth",
        text="Each thing that was looked at, with what is wrong and what to do.",
        handler=figures.health,
        answers={200: documents.HealthReport},
    ),
    Operation(
        method="GET",
        path="/v1/alerts",
        name="getAlerts",
        text="The alerts that fire, and the last ones that are over.",
        handler=figures.alerts,
        answers={200: documents.AlertReport},
    ),
    Operation(
        method="GET",
        path="/v1/metrics",
        name="getSamples",
        text="The figures as samples, also of loads, latencies and alerts.",
        handler=figures.metrics,
        parameters=(Parameter("name", "of this name; may be given again", _NAMES),),
        answers={200: documents.MetricList},
    ),
    Operation(
        method="GET",
        path="/v1/regions/{region}/advice",
        name="getAdvice",
        text="What other sizes and policies would do for a region. Up to a second of work.",
        handler=figures.advice,
        answers={200: Advice},
        problems=("unknown-region", "not-supported", "busy"),
    ),
    Operation(
        method="GET",
        path="/v1/regions/{region}/hot-keys",
        name="getHotKeys",
        text="The keys that are read most: of a sample of this process, or counted on Redis.",
        handler=figures.hot_keys,
        parameters=(
            Parameter("seconds", "count so long, on Redis", _count(figures.LONGEST_COUNT)),
            Parameter("count", "at most so many; 10", _count(figures.MOST_KEYS)),
        ),
        answers={200: HotKeys},
        problems=("unknown-region", "not-supported", "busy"),
    ),
    Operation(
        method="GET",
        path="/v1/events",
        name="streamEvents",
        text="Server-sent events: what happens in the cache from now on.",
        handler=streaming.events,
        parameters=(
            Parameter("region", "of one region"),
            Parameter("kind", "of this kind; may be given again", _NAMES),
            Parameter("key", "of keys that match a glob"),
        ),
        answers={200: "text/event-stream"},
        problems=("unknown-region", "too-many-streams"),
        streams=True,
    ),
    Operation(
        method="GET",
        path="/metrics",
        name="getMetrics",
        text="The figures in the text format of Prometheus.",
        handler=figures.metrics_text,
        answers={200: "text/plain"},
    ),
    Operation(
        method="GET",
        path="/healthz",
        name="isAlive",
        text="Whether the process answers. Takes no token.",
        handler=figures.alive,
        answers={200: dict[str, str]},
    ),
    Operation(
        method="GET",
        path="/readyz",
        name="isReady",
        text="Whether the cache can do its work; 503 where it can't. Takes no token.",
        handler=figures.ready,
        answers={200: dict[str, str], 503: dict[str, str]},
    ),
)
"""Every operation, in the order of the reference."""
