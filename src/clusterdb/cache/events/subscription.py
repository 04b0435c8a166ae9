"""Subscriptions: bounded queues that say when they lost something.

``Events.publish`` never waits and never fails: a subscriber whose queue is full loses the event
and later gets an :class:`EventGap` that counts what it lost. While nobody subscribes nothing is
made: callers ask ``events.active`` before they build an event.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from threading import get_ident
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ..errors import InvalidArgument
from ..keys import matcher
from .types import Event, EventGap, KeyEvent

__all__ = ["Events", "Subscription"]

E = TypeVar("E", bound=Event)


class Subscription(Generic[E]):
    """An asynchronous iterator over events, used with ``async with``.

    Events count from ``__aenter__`` on; the iteration ends when the cache closes. One consumer.
    """

    def __init__(self, events: Events, wanted: Callable[[Event], bool], capacity: int) -> None:
        if type(capacity) is not int or not 1 <= capacity <= 1_000_000:
            raise InvalidArgument(f"a queue holds 1 to 1,000,000 events, not {capacity!r}")
        self._events = events
        self._wanted = wanted
        self._capacity = capacity
        self._queue: deque[E] = deque()
        self._lost = 0
        self._last_lost: Event | None = None
        self._entered = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._ended = False
        self._wake = asyncio.Event()

    async def __aenter__(self) -> Self:
        if self._entered:
            raise InvalidArgument("a subscription is entered once: make another")
        self._entered = True
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._events.add(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._events.remove(self)
        self.end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E | EventGap:
        if not self._entered:
            raise InvalidArgument("events count from 'async with' on: enter the subscription first")
        while True:
            self._wake.clear()  # before the look: what another thread offers after it sets it again
            if self._queue or self._lost:
                break
            if self._ended:
                raise StopAsyncIteration
            await self._wake.wait()
        if self._queue:
            return self._queue.popleft()
        lost, self._lost = self._lost, 0
        last = self._last_lost or EventGap(count=lost)
        return EventGap(count=lost, time=last.time, origin=last.origin)

    def offer(self, event: E) -> None:
        """Queue ``event`` if it is wanted and fits, else count it as lost."""
        if not self._wanted(event):
            return
        if self._lost or len(self._queue) >= self._capacity:
            self._lost += 1
            self._last_lost = event
        else:
            self._queue.append(event)
        self._notify()

    def end(self) -> None:
        """Let the iteration end after what is queued."""
        self._ended = True
        self._notify()

    def _notify(self) -> None:
        """Wake the consumer, from whatever thread."""
        loop = self._loop
        if loop is None or self._wake.is_set():
            return
        if self._thread == get_ident():
            self._wake.set()
        elif not loop.is_closed():
            loop.call_soon_threadsafe(self._wake.set)


class Events:
    """The subscribers of one cache."""

    def __init__(self, on_change: Callable[[bool], None]) -> None:
        self._subscriptions: list[Subscription[Any]] = []
        self._on_change = on_change
        self._ended = False
        self.active = False

    def subscribe(
        self,
        kinds: Iterable[type[Event]] = (),
        *,
        region: str | None = None,
        pattern: str | None = None,
        capacity: int = 1024,
    ) -> Subscription[Event]:
        """A subscription to events of these kinds (all when empty), of one region, of keys that
        match a glob. Events without a region or key pass those filters.
        """
        accepted = tuple(kinds)
        for kind in accepted:
            if not isinstance(kind, type) or not issubclass(kind, Event):
                raise InvalidArgument(f"a kind is a class of events, not {kind!r}")
        if region is not None and not isinstance(region, str):
            raise InvalidArgument(f"region is a name, not {region!r}")
        matches = matcher(pattern) if pattern is not None else None

        def wanted(event: Event) -> bool:
            if accepted and not isinstance(event, accepted):
                return False
            if region is not None and getattr(event, "region", region) != region:
                return False
            return matches is None or not isinstance(event, KeyEvent) or matches(event.key)

        return Subscription(self, wanted, capacity)

    def publish(self, event: Event) -> None:
        """Offer ``event`` to every subscriber."""
        for subscription in self._subscriptions:
            subscription.offer(event)

    def add(self, subscription: Subscription[Any]) -> None:
        """Start giving events to ``subscription``."""
        if self._ended:
            subscription.end()
            return
        self._subscriptions.append(subscription)
        self._set_active()

    def remove(self, subscription: Subscription[Any]) -> None:
        """Stop giving events to ``subscription``."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
        self._set_active()

    def end(self) -> None:
        """Let every subscription end, later ones too."""
        self._ended = True
        for subscription in self._subscriptions:
            subscription.end()

    def _set_active(self) -> None:
        active = bool(self._subscriptions)
        if active != self.active:
            self.active = active
            self._on_change(active)
