"""The Event Manager's face: who wants to hear of what happens in a cache."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from .events import INVALIDATIONS, Event, Overflow, Subscription
from .processing import Handling
from .runtime import Runtime
from .units import seconds

__all__ = ["Listening"]


class Listening:
    """The part of a cache that tells what happens."""

    _runtime: Runtime

    def get_events(self) -> Subscription[Event]:
        """A subscription to every event: ``async with cache.get_events() as events:``."""
        return self.subscribe()

    def subscribe(
        self,
        *kinds: type[Event],
        region: str | None = None,
        pattern: str | None = None,
        capacity: int = 1024,
        overflow: Overflow = "drop_newest",
    ) -> Subscription[Event]:
        """Events of ``kinds`` (all when none is given), of one region, of keys that match a glob.

        At most ``capacity`` wait to be read. Beyond them ``overflow`` says which are lost, the
        newest or the oldest, or that the subscription ends (``close``); an :class:`EventGap` tells
        how many it was.
        """
        return self._runtime.events.subscribe(
            kinds, region=region, pattern=pattern, capacity=capacity, overflow=overflow
        )

    def subscribe_invalidation(
        self, *, capacity: int = 1024, overflow: Overflow = "drop_newest"
    ) -> Subscription[Event]:
        """Every event that makes cached copies worthless: deletions, invalidations, clears."""
        return self.subscribe(*INVALIDATIONS, capacity=capacity, overflow=overflow)

    def on(
        self,
        *kinds: type[Event],
        handler: Callable[[Event], Any],
        region: str | None = None,
        pattern: str | None = None,
        capacity: int = 1024,
        overflow: Overflow = "drop_newest",
        timeout: float | str | timedelta = 10.0,
    ) -> Handling:
        """Call ``handler`` with each event that :meth:`subscribe` would give for these arguments,
        one at a time and in order, until ``stop()`` of what is returned, or the end of the cache.

        A coroutine function runs in the cache's loop, a plain one in a thread. One that raises, or
        takes longer than ``timeout``, is counted there and logged once, and harms nobody else. It
        is given an :class:`EventGap` where it did not keep up.
        """
        events = self.subscribe(
            *kinds, region=region, pattern=pattern, capacity=capacity, overflow=overflow
        )
        handling = Handling(handler, events, seconds(timeout))
        self._runtime.handle(handling)
        return handling
