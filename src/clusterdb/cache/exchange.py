"""Event routing of one cache: what is sent to other processes, and what becomes of what they send.

A backend that processes share was changed by whoever sent the event: subscribers hear of it, and
that is all. A backend in the memory of this process is brought up to date by
:class:`clusterdb.cache.invalidation.Receiving` first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .clock import Clock
from .events import INVALIDATIONS, EntryDeleted, EntrySet, Event, EventGap, Events, Invalidated
from .events.routing import Router, Traffic
from .invalidation import Receiving
from .protocols import Backend, Channel
from .types import Version
from .versions import Versions

__all__ = ["Exchange"]


class Exchange:
    """The channel of the cache called ``name``, if it has one. ``regions`` are those it knows,
    ``forget`` is called with a key that something happened to, or with ``None`` for all of them.
    """

    def __init__(
        self,
        name: str,
        backend: Backend,
        clock: Clock,
        events: Events,
        regions: Callable[[], Iterable[str]],
        forget: Callable[[str | None, str], None],
    ) -> None:
        self._name = name
        self._backend = backend
        self._clock = clock
        self._events = events
        self._regions = regions
        self._forget = forget
        self._router: Router | None = None
        self._receiving: Receiving | None = None
        self._versions: Versions | None = None

    @property
    def connected(self) -> bool:
        """Whether there is a channel."""
        return self._router is not None

    @property
    def applies(self) -> bool:
        """Whether what others change has to be done here too."""
        return self._receiving is not None

    @property
    def traffic(self) -> Traffic | None:
        """What went over the channel."""
        return None if self._router is None else self._router.traffic

    @property
    def problem(self) -> str:
        """Why the channel does not work; empty while it does."""
        return "" if self._router is None else self._router.problem

    def version(self) -> Version:
        """A version for an event that has none: above all versions so far; 0 where nobody would
        compare it.
        """
        return 0 if self._versions is None else self._versions.draw()

    # -- the channel

    def connect(
        self, channel: Channel, kinds: Iterable[type[Event]], versioned: bool, origin: str
    ) -> None:
        """Send events of ``kinds`` over ``channel`` and hear those of others, from the next start
        on. ``versioned``: where they have to be applied, only to what is older.
        """
        versions = Versions(self._clock)
        self._versions = versions if self._backend.order(versions) else None
        self._router = Router(
            channel, kinds, self._heard, cache=self._name, origin=origin, clock=self._clock
        )
        if "multi_process" not in self._backend.capabilities:
            self._receiving = Receiving(
                self._backend,
                versions,
                self._regions,
                self._events.tell,
                self._forget,
                versioned=versioned and self._versions is not None,
            )
        self._events.route(self._router.offer)
        self.listen()

    async def start(self, origin: str) -> None:
        """Send and hear in the running loop. A backend of this process begins once it hears."""
        router = self._router
        if router is None:
            return
        router.start()
        if self._receiving is not None:
            if "persistent" in self._backend.capabilities:  # it missed what was sent meanwhile
                self._receiving.take([EventGap(count=0, reason="reconnect", origin=origin)])
            await router.settled()

    def listen(self) -> None:
        """Hear the others while somebody wants to."""
        if self._router is not None:
            self._router.listen(self._events.heard or self._receiving is not None)

    async def settled(self) -> None:
        """Wait until the others are heard, or the first attempt to has failed."""
        if self._router is not None:
            await self._router.settled()

    async def disconnect(self) -> None:
        """Send what waits, for at most a second, and leave the channel."""
        router, self._router = self._router, None
        receiving, self._receiving = self._receiving, None
        self._events.route(None)
        if router is not None:
            await router.aclose()
        if receiving is not None:
            await receiving.aclose()

    def forked(self, origin: str) -> None:
        """In the child of a fork: a sender of its own."""
        if self._router is not None:
            self._router.forked(origin)

    # -- what others sent

    def _heard(self, events: Sequence[Event]) -> None:
        if self._receiving is not None:
            self._receiving.take(events)
            return
        for event in events:
            if isinstance(event, EntrySet | EntryDeleted | Invalidated):
                self._forget(event.region, event.key)
            elif isinstance(event, INVALIDATIONS):
                self._forget(None, "")
            self._events.tell(event)
