"""What changed one key, and until when each of its values can have been the current one.

A change starts, is *placed* (the latest moment at which it can have taken effect) and is *done*:
from then on everything before it is out of date. A value dies when the first change that began
after it was placed is done. So a value is never called stale that may have been current, and with
one writer to a key the figure is exact to the length of a call.

A change with an unknown outcome may take effect at any time or never: it ends nothing, unless its
value was read; then it took effect before that read ended.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tests.coherence.history import ABSENT, NEVER, ORIGIN, Call, Kind, Outcome, Value

__all__ = ["Change", "Timeline", "changes_of"]


class Change(NamedTuple):
    """One change; ``value`` is ``ABSENT`` for a removal, ``ends`` the latest end of its TTL."""

    start: int
    placed: int
    done: int
    value: Value
    process: int
    kind: int
    ends: int = NEVER


def changes_of(calls: Iterable[Call], reads: Iterable[Call]) -> list[Change]:
    """The changes of one key by their start; ``reads`` tell which unknown ones took effect."""
    seen: dict[Value, int] = {}
    for read in reads:
        if read.outcome == Outcome.OK:
            seen[read.value] = min(read.end, seen.get(read.value, NEVER))
    changes = []
    for call in calls:
        bumps = call.kind in (Kind.BUMP, Kind.BUMP_TAG)
        known = call.outcome == Outcome.OK
        if bumps:  # the origin has changed, however the invalidation ended
            done = call.end if known else NEVER
            changes.append(
                Change(call.start, call.start, done, call.value, call.process, call.kind)
            )
        elif call.outcome in (Outcome.OK, Outcome.UNKNOWN):
            removes = call.kind in (Kind.DELETE, Kind.INVALIDATE)
            value = ABSENT if removes else call.value
            done = call.end if known else NEVER
            if not known and not removes:
                done = max(call.start, seen.get(value, NEVER))
            ends = done + call.ttl * 1_000_000 if call.ttl and done < NEVER else NEVER
            changes.append(Change(call.start, done, done, value, call.process, call.kind, ends))
    changes.sort()
    return changes


class Timeline:
    """The changes of one key, or of one process to one key, in order."""

    def __init__(self, changes: Sequence[Change]) -> None:
        self.changes = changes
        self.by_value = {change.value: change for change in changes if change.value != ABSENT}
        self._starts = [change.start for change in changes]
        self._first_done: list[Change] = []
        first: Change | None = None
        for change in reversed(changes):
            first = change if first is None or change.done < first.done else first
            self._first_done.append(first)
        self._first_done.reverse()

    def written(self, value: Value) -> Change | None:
        """The change that brought ``value``; the first version of the origin was always there."""
        if value == (ORIGIN, 0):
            return Change(-NEVER, -NEVER, -NEVER, value, -1, Kind.BUMP)
        return self.by_value.get(value)

    def killer(self, after: int) -> Change | None:
        """Of the changes that began after a moment, the one that was done first."""
        at = bisect_right(self._starts, after)
        return self._first_done[at] if at < len(self._first_done) else None
