"""The Event Manager: what happened, told to whoever subscribed."""

from __future__ import annotations

from .backlog import Overflow
from .subscription import Events, Subscription
from .types import (
    INVALIDATIONS,
    AlertTurned,
    CircuitTurned,
    Cleared,
    EntryDeleted,
    EntryEvicted,
    EntryExpired,
    EntrySet,
    Event,
    EventGap,
    Invalidated,
    KeyEvent,
    Loaded,
    MatchingInvalidated,
    NodeDown,
    NodeUp,
    TagInvalidated,
)

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
    "Events",
    "Invalidated",
    "KeyEvent",
    "Loaded",
    "MatchingInvalidated",
    "NodeDown",
    "NodeUp",
    "Overflow",
    "Subscription",
    "TagInvalidated",
]
