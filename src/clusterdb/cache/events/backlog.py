"""The queue of one subscriber: bounded, and what is lost is said by an :class:`EventGap`.

**Overflow.** ``drop_newest``: what comes while the queue is full is lost, and the gap stands behind
what was queued. ``drop_oldest``: the oldest make room, and the gap stands before what is left; for
who wants to know how things are, not how they came about. ``close``: the subscription ends with the
gap; for who can't go on after a loss. There is no rule that waits: the publisher is a cache that
answers others.

Pure; appends and pops are atomic, so that events may come from several threads.
"""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, Literal, TypeAlias, TypeVar, get_args

from ..errors import InvalidArgument
from .types import Event, EventGap

__all__ = ["Backlog", "Overflow"]

E = TypeVar("E", bound=Event)

Overflow: TypeAlias = Literal["drop_newest", "drop_oldest", "close"]

_MOST: Final = 1_000_000


class Backlog(Generic[E]):
    """At most ``capacity`` events."""

    def __init__(self, capacity: int, overflow: Overflow) -> None:
        if type(capacity) is not int or not 1 <= capacity <= _MOST:
            raise InvalidArgument(f"a queue holds 1 to {_MOST:,} events, not {capacity!r}")
        if overflow not in get_args(Overflow):
            rules = ", ".join([repr(rule) for rule in get_args(Overflow)])
            raise InvalidArgument(f"overflow is one of {rules}, not {overflow!r}")
        self._capacity = capacity
        self._overflow = overflow
        self._queue: deque[E] = deque()
        self._lost = 0
        self._uncounted = False
        self._last_lost: Event | None = None
        self.closed = False

    def __len__(self) -> int:
        return len(self._queue)

    def offer(self, event: E) -> None:
        """Queue ``event``, or what the rule says where there is no room."""
        if len(self._queue) < self._capacity and not (self._lost and self._gap_is_last):
            self._queue.append(event)
            return
        if self._overflow == "drop_oldest":
            self._queue.append(event)
            event = self._queue.popleft()
        elif self._overflow == "close":
            self.closed = True
        self._lose(event)

    def take(self) -> E | EventGap | None:
        """The next event; ``None`` where there is none yet."""
        if self._queue and (self._gap_is_last or not self._lost):
            return self._queue.popleft()
        return self._gap() if self._lost else None

    @property
    def _gap_is_last(self) -> bool:
        return self._overflow != "drop_oldest"

    def _lose(self, event: Event) -> None:
        self._last_lost = event
        if isinstance(event, EventGap):
            self._uncounted = self._uncounted or not event.count
            self._lost += max(1, event.count)
        else:
            self._lost += 1

    def _gap(self) -> EventGap:
        last = self._last_lost or EventGap(count=0)
        lost, uncounted = self._lost, self._uncounted
        self._lost, self._uncounted = 0, False
        count = 0 if uncounted else lost
        return EventGap(count=count, time=last.time, origin=last.origin)
