"""Subscriptions: who gets which events.

``Events.publish`` never waits and never fails: see :mod:`.backlog` for what a subscriber loses that
does not keep up. While nobody wants events none is made: callers ask ``events.active`` before they
build one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from threading import get_ident
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ..errors import InvalidArgument
from ..keys import matcher
from .backlog import Backlog, Overflow
from .types import Event, EventGap, KeyEvent

__all__ = ["Events", "Subscription"]

E = TypeVar("E", bound=Event)


class Subscription(Generic[E]):
    """An asynchronous iterator over events, used with ``async with``.

    Events count from ``__aenter__`` on; the iteration ends when the cache closes. One consumer.
    """

    def __init__(
        self,
        events: Events,
        wanted: Callable[[Event], bool],
        capacity: int,
        overflow: Overflow = "drop_newest",
    ) -> None:
        self._events = events
        self._wanted = wanted
        self._backlog: Backlog[E] = Backlog(capacity, overflow)
        self._entered = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._ended = False
        self._wake = asyncio.Event()

    async def __aenter__(self) -> Self:
        self.enter()
        self.bind()
        try:
            await self._events.prepare()
        except BaseException:
            self.leave()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()

    def enter(self) -> None:
        """Let events count from now on."""
        if self._entered:
            raise InvalidArgument("a subscription is entered once: make another")
        self._entered = True
        self._events.add(self)

    def bind(self) -> None:
        """Let the consumer be of the loop that runs now."""
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._wake = asyncio.Event()

    def leave(self) -> None:
        """Let no more events come, and the iteration end after those that are queued."""
        self._events.remove(self)
        self.end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E | EventGap:
        if not self._entered:
            raise InvalidArgument("events count from 'async with' on: enter the subscription first")
        while True:
            self._wake.clear()  # before the look: what another thread offers after it sets it again
            event = self._backlog.take()
            if event is not None:
                return event
            if self._ended:
                raise StopAsyncIteration
            await self._wake.wait()

    def offer(self, event: E) -> None:
        """Queue ``event`` if it is wanted and fits, else count it as lost."""
        if self._ended or not self._wanted(event):
            return
        self._backlog.offer(event)
        if self._backlog.closed:
            self.leave()
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


async def _ready() -> None:
    """Nothing has to be prepared."""


class Events:
    """The subscribers of one cache.

    ``on_change`` is called when ``active`` or ``heard`` changes. ``prepare`` is awaited by who
    begins to listen, and ends when events of other processes are heard too, where they are sent.
    """

    def __init__(
        self,
        on_change: Callable[[], None],
        prepare: Callable[[], Awaitable[None]] = _ready,
    ) -> None:
        self._subscriptions: tuple[Subscription[Any], ...] = ()
        self._on_change = on_change
        self._route: Callable[[Event], None] | None = None
        self._ended = False
        self.prepare = prepare
        self.active = False
        self.heard = False

    def subscribe(
        self,
        kinds: Iterable[type[Event]] = (),
        *,
        region: str | None = None,
        pattern: str | None = None,
        capacity: int = 1024,
        overflow: Overflow = "drop_newest",
    ) -> Subscription[Event]:
        """A subscription to events of these kinds (all when empty), of one region, of keys that
        match a glob. Events without a region or key pass those filters, and gaps pass all.
        """
        accepted = tuple(kinds)
        for kind in accepted:
            if not isinstance(kind, type) or not issubclass(kind, Event):
                raise InvalidArgument(f"a kind is a class of events, not {kind!r}")
        if region is not None and not isinstance(region, str):
            raise InvalidArgument(f"region is a name, not {region!r}")
        matches = matcher(pattern) if pattern is not None else None

        def wanted(event: Event) -> bool:
            if isinstance(event, EventGap):
                return True  # nobody knows what was lost
            if accepted and not isinstance(event, accepted):
                return False
            if region is not None and getattr(event, "region", region) != region:
                return False
            return matches is None or not isinstance(event, KeyEvent) or matches(event.key)

        return Subscription(self, wanted, capacity, overflow)

    def publish(self, event: Event) -> None:
        """Offer ``event``, of this process, to every subscriber, and to the route."""
        route = self._route
        if route is not None:
            route(event)
        self.tell(event)

    def tell(self, event: Event) -> None:
        """Offer ``event``, of whatever process, to every subscriber."""
        for subscription in self._subscriptions:
            subscription.offer(event)

    def route(self, route: Callable[[Event], None] | None) -> None:
        """Give every event of this process to ``route`` too."""
        self._route = route
        self._changed()

    def add(self, subscription: Subscription[Any]) -> None:
        """Start giving events to ``subscription``."""
        if self._ended:
            subscription.end()
            return
        self._subscriptions += (subscription,)
        self._changed()

    def remove(self, subscription: Subscription[Any]) -> None:
        """Stop giving events to ``subscription``."""
        kept = tuple([each for each in self._subscriptions if each is not subscription])
        if len(kept) < len(self._subscriptions):
            self._subscriptions = kept
            self._changed()

    def end(self) -> None:
        """Let every subscription end, later ones too."""
        self._ended = True
        for subscription in self._subscriptions:
            subscription.end()

    def _changed(self) -> None:
        heard = bool(self._subscriptions)
        active = heard or self._route is not None
        if (active, heard) != (self.active, self.heard):
            self.active, self.heard = active, heard
            self._on_change()
