"""What other processes change, as events."""

from __future__ import annotations

from .events import (
    Cleared,
    EntryDeleted,
    EntryEvicted,
    EntrySet,
    Event,
    EventGap,
    Invalidated,
    NodeDown,
    NodeUp,
    TagInvalidated,
)
from .protocols import RemoteChange

__all__ = ["remote_event"]


def remote_event(change: RemoteChange, here: str) -> Event | None:
    """The event of a change; ``None`` for one that is no event, such as a new expiry, or is of
    what the cache keeps for itself. What becomes of a server is seen from ``here``.
    """
    region, key, time, origin = change.region, change.key, change.time, change.origin
    if region.startswith("#"):
        return None
    match change.kind:
        case "set":
            return EntrySet(
                region=region, key=key, version=change.version, time=time, origin=origin
            )
        case "delete":
            return EntryDeleted(region=region, key=key, time=time, origin=origin)
        case "invalidate":
            return Invalidated(region=region, key=key, time=time, origin=origin)
        case "evict":
            return EntryEvicted(region=region, key=key, time=time, origin=origin)
        case "invalidate_tag":
            return TagInvalidated(tag=key, time=time, origin=origin)
        case "clear":
            return Cleared(region=region, time=time, origin=origin)
        case "node_down":
            return NodeDown(node=key, reason=change.text, time=time, origin=here)
        case "node_up":
            return NodeUp(node=key, time=time, origin=here)
        case "gap":
            return EventGap(count=change.count, reason="log", time=time, origin=origin)
        case "touch" | "nothing":
            return None
