"""The events: one frozen struct a kind, ready for the wire by their ``kind`` tag.

``time`` is seconds since the Unix epoch, ``origin`` the process that caused it.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

__all__ = [
    "INVALIDATIONS",
    "AlertTurned",
    "CircuitTurned",
    "Cleared",
    "EntryDeleted",
    "EntryEvicted",
    "EntryExpired",
    "EntrySet",
    "Event",
    "EventGap",
    "Invalidated",
    "KeyEvent",
    "Loaded",
    "MatchingInvalidated",
    "NodeDown",
    "NodeUp",
    "TagInvalidated",
    "event_kinds",
    "every_kind",
]


EventVersion = Annotated[int, Meta(ge=0)]
EventCount = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """Base of the events."""

    time: float = 0.0
    origin: str = ""


class KeyEvent(Event, frozen=True, kw_only=True):
    """Base of the events of one key."""

    region: str
    key: str


class EntrySet(KeyEvent, frozen=True, kw_only=True, tag="set"):
    """A value was stored."""

    version: EventVersion = 0
    tags: tuple[str, ...] = ()


class EntryDeleted(KeyEvent, frozen=True, kw_only=True, tag="delete"):
    """An entry was deleted. What is stored later has a higher ``version``; 0 says nothing."""

    version: EventVersion = 0


class Invalidated(KeyEvent, frozen=True, kw_only=True, tag="invalidate"):
    """A cached copy was removed. What is stored later has a higher ``version``; 0 says nothing."""

    version: EventVersion = 0


class TagInvalidated(Event, frozen=True, kw_only=True, tag="invalidate_tag"):
    """Every entry with this tag is dead; ``entries`` counts them where the backend knows."""

    tag: str
    entries: int = 0


class MatchingInvalidated(Event, frozen=True, kw_only=True, tag="invalidate_matching"):
    """Every entry of a region whose key matches the glob ``pattern`` was removed, ``entries`` of
    them.
    """

    region: str
    pattern: str
    entries: int = 0


class Cleared(Event, frozen=True, kw_only=True, tag="clear"):
    """A region was emptied."""

    region: str


class EntryEvicted(KeyEvent, frozen=True, kw_only=True, tag="evict"):
    """An entry left to make room."""

    version: EventVersion = 0


class EntryExpired(KeyEvent, frozen=True, kw_only=True, tag="expire"):
    """An entry's time was over, and its memory was given back."""

    version: EventVersion = 0


class Loaded(KeyEvent, frozen=True, kw_only=True, tag="load"):
    """A loader ended, after ``seconds``."""

    seconds: float
    outcome: Literal["ok", "failed", "timeout", "cancelled"]


class NodeDown(Event, frozen=True, kw_only=True, tag="node_down"):
    """A server that holds entries can't be reached, for the ``reason`` given."""

    node: str
    reason: str = ""


class NodeUp(Event, frozen=True, kw_only=True, tag="node_up"):
    """A server that holds entries can be reached again, or is a new one."""

    node: str


class CircuitTurned(Event, frozen=True, kw_only=True, tag="circuit"):
    """A circuit breaker turned: that of the ``backend``, or of the loaders of a region,
    ``loads.<region>``. ``retry_in`` is seconds until an open one lets a call through.
    """

    circuit: str
    state: Literal["closed", "open", "half_open"]
    retry_in: float = 0.0


class AlertTurned(Event, frozen=True, kw_only=True, tag="alert"):
    """An alert of the configuration fires, or is over. ``value`` is what was read of the
    ``region``, ``None`` where there is nothing to read any more; ``limit`` is what was configured,
    ``text`` says it in a line, with what to do.
    """

    alert: str
    state: Literal["firing", "resolved"]
    region: str = ""
    value: float | None = None
    limit: float = 0.0
    text: str = ""


class EventGap(Event, frozen=True, kw_only=True, tag="gap"):
    """``count`` events were lost to this subscriber; 0 where nobody knows how many.

    ``reason``: its own ``queue`` was full; the channel was away and ``reconnect``ed; messages of
    ``origin`` were ``lost`` on their way; the ``log`` that others write had been cut; or an event
    was too ``large`` for the channel. What was lost may have been of any kind, region and key.
    """

    count: EventCount
    reason: Literal["queue", "reconnect", "lost", "log", "large"] = "queue"


def event_kinds() -> dict[str, type[Event]]:
    """The kinds of events that other processes can be told of, by their words."""
    kinds = (EntrySet, EntryDeleted, Invalidated, MatchingInvalidated, TagInvalidated, Cleared)
    others = (EntryEvicted, EntryExpired, Loaded, NodeDown, NodeUp, EventGap)
    return {str(kind.__struct_config__.tag): kind for kind in (*kinds, *others)}


def every_kind() -> dict[str, type[Event]]:
    """All kinds of events, also those of the process itself: its circuit breakers and alerts."""
    own = (CircuitTurned, AlertTurned)
    return event_kinds() | {str(kind.__struct_config__.tag): kind for kind in own}


INVALIDATIONS: Final[tuple[type[Event], ...]] = (
    EntryDeleted,
    Invalidated,
    MatchingInvalidated,
    TagInvalidated,
    Cleared,
    EventGap,
)
"""The events after which a copy kept elsewhere may be worthless."""
