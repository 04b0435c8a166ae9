"""Event routing: events of this process to the others over a channel, and theirs to us.

**Sending.** Chosen events wait in a bounded queue and leave together, one pipeline at a time; a
writer never waits for the channel. While it is away they stay, as many as fit, and are sent again
when it is back: who gets one twice drops nothing that matters. What does not fit is lost, and the
running number of events tells the receivers how many it was. A message without events follows when
it has become quiet, so that the loss of the last one is seen too.

**Receiving.** Only while somebody wants to hear. What can't be used is counted by its reason, and
costs no more than a look: a message of another cache, an echo of our own, one too large, of another
version, or no message at all. A hole in the numbers of a sender, and a channel that was away, are
told as an :class:`EventGap`. How many senders are remembered is bounded.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from threading import Lock
from typing import Final

import msgspec

from ..clock import Clock
from ..errors import BackendUnavailable, CacheError
from ..protocols import Channel
from .types import Event, EventGap
from .wire import Refused, pack, unpack

__all__ = ["Router", "Traffic"]

_LOG: Final = logging.getLogger("clusterdb.cache")
_QUEUE: Final = 10_000
_SENDERS: Final = 1024
_QUIET: Final = 2.0
_LONGEST_PAUSE: Final = 1.0
_END_WITHIN: Final = 1.0


class Traffic(msgspec.Struct):
    """What went over a channel. Events: ``sent``, ``received``, and ``dropped`` before they could
    be sent. Messages: ``echoes`` of our own, of a ``foreign`` cache, ``oversized``, of an
    ``unknown`` version, ``garbage``. ``gaps`` that were told, and ``failures`` of the channel.
    """

    sent: int = 0
    received: int = 0
    dropped: int = 0
    echoes: int = 0
    foreign: int = 0
    oversized: int = 0
    unknown: int = 0
    garbage: int = 0
    gaps: int = 0
    failures: int = 0


class Router:
    """Between the cache called ``cache`` in this process, ``origin``, and the same in others.

    ``kinds`` are the events that are sent; ``deliver`` gets those that come, in order.
    """

    def __init__(
        self,
        channel: Channel,
        kinds: Iterable[type[Event]],
        deliver: Callable[[Sequence[Event]], None],
        *,
        cache: str,
        origin: str,
        clock: Clock,
    ) -> None:
        self._channel = channel
        self._kinds = tuple(kinds)
        self._deliver = deliver
        self._cache = cache
        self._origin = origin
        self._wall = clock.wall
        self._sender = secrets.token_hex(8)
        self._lock = Lock()
        self._queue: deque[Event] = deque()
        self._dropped = 0
        self._sent = 0
        self._senders: OrderedDict[str, int] = OrderedDict()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._settled = asyncio.Event()
        self._sending: asyncio.Task[None] | None = None
        self._hearing: asyncio.Task[None] | None = None
        self._wanted = False
        self._closing = False
        self.traffic = Traffic()
        self._not_sent = self._not_heard = ""

    @property
    def problem(self) -> str:
        """Why the channel does not work; empty while it does."""
        return self._not_heard or self._not_sent

    # -- life

    def start(self) -> None:
        """Send, and hear if that is wanted, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._wake, self._settled = asyncio.Event(), asyncio.Event()
        self._hearing = None
        self._sending = self._loop.create_task(self._send(), name="clusterdb-cache: events out")
        self._set_hearing()

    def listen(self, wanted: bool) -> None:
        """Hear the others from now on, or no more; from any thread."""
        self._wanted = wanted
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._set_hearing)

    async def settled(self) -> None:
        """Wait until the others are heard, or the first attempt to has failed."""
        if self._loop is asyncio.get_running_loop():
            self._set_hearing()
            if self._hearing is not None:
                await self._settled.wait()

    async def aclose(self) -> None:
        """Send what waits, for at most a second, and close the channel."""
        loop, self._loop, self._closing = self._loop, None, True
        tasks = [task for task in (self._sending, self._hearing) if task is not None]
        if loop is asyncio.get_running_loop() and tasks:
            self._wake.set()
            if self._sending is not None:
                await asyncio.wait([self._sending], timeout=_END_WITHIN)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=_END_WITHIN)
            await self._channel.aclose()

    def forked(self, origin: str) -> None:
        """In the child of a fork: a sender of our own, which has nothing to send yet."""
        self._origin, self._sender = origin, secrets.token_hex(8)
        self._lock = Lock()
        self._queue.clear()
        self._senders.clear()
        self._sent = self._dropped = 0
        self._loop = self._sending = self._hearing = None
        self._channel.forked()

    # -- sending

    def offer(self, event: Event) -> None:
        """Send ``event`` if its kind is chosen; from any thread."""
        if not isinstance(event, self._kinds):
            return
        with self._lock:
            if len(self._queue) >= _QUEUE:
                self._dropped += 1
                self.traffic.dropped += 1
                return
            self._queue.append(event)
            first = len(self._queue) == 1
        loop = self._loop
        if first and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._wake.set)

    def _take(self) -> list[bytes]:
        """The messages for what waits; afterwards the number of events counts the dropped too."""
        with self._lock:
            events, self._queue = self._queue, deque()
            dropped, self._dropped = self._dropped, 0
        messages = list(pack(self._cache, self._sender, self._origin, self._sent, events))
        self._sent += len(events) + dropped
        return messages

    async def _send(self) -> None:
        said = True
        while True:
            if not self._queue and not self._dropped:
                if self._closing:
                    return
                try:
                    async with asyncio.timeout(None if said else _QUIET):
                        await self._wake.wait()
                except TimeoutError:
                    said = True
                    await self._deliver_out(self._take())
                    continue
            self._wake.clear()
            waiting = len(self._queue)
            if waiting or self._dropped:
                said = False
                if await self._deliver_out(self._take()):
                    self.traffic.sent += waiting

    async def _deliver_out(self, messages: Sequence[bytes]) -> bool:
        """Send until it is done; whether it was, and not refused."""
        pause = 0.02
        while True:
            try:
                await self._channel.send(messages)
            except BackendUnavailable as error:
                self._fail(error)
                if self._closing:
                    return False
                await asyncio.sleep(pause * random.uniform(0.5, 1))
                pause = min(_LONGEST_PAUSE, pause * 2)
            except CacheError as error:  # a server that refuses them will refuse them again
                self._fail(error)
                return False
            else:
                self._not_sent = ""
                return True

    def _fail(self, error: CacheError) -> None:
        self.traffic.failures += 1
        if not self._not_sent:
            _LOG.warning("events can't be sent to other processes: %s", error)
        self._not_sent = f"events can't be sent to other processes: {error}"

    # -- hearing

    def _set_hearing(self) -> None:
        loop = self._loop
        if loop is None:
            return
        if self._wanted and self._hearing is None:
            self._settled.clear()
            hearing = self._channel.listen(self)
            self._hearing = loop.create_task(hearing, name="clusterdb-cache: events in")
        elif not self._wanted and self._hearing is not None:
            self._hearing.cancel()
            self._hearing = None
            self._senders.clear()  # who hears again later has missed what came meanwhile

    def connected(self, *, missed: bool) -> None:
        """See :class:`ChannelReceiver`."""
        self._not_heard = ""
        self._settled.set()
        if missed:
            self._senders.clear()
            self._tell([self._gap(0, "reconnect", self._origin)])

    def disconnected(self, reason: str) -> None:
        """See :class:`ChannelReceiver`."""
        self.traffic.failures += 1
        if not self._not_heard:
            _LOG.warning("events of other processes can't be heard: %s", reason)
        self._not_heard = f"events of other processes can't be heard: {reason}"
        self._settled.set()

    def received(self, messages: Sequence[bytes]) -> None:
        """See :class:`ChannelReceiver`."""
        events: list[Event] = []
        for data in messages:
            events += self._events_of(data)
        if events:
            self._tell(events)

    def _events_of(self, data: bytes) -> list[Event]:
        try:
            message = unpack(data)
        except Refused as refused:
            name = refused.reason
            setattr(self.traffic, name, getattr(self.traffic, name) + 1)
            return []
        if message.cache != self._cache:
            self.traffic.foreign += 1
            return []
        if message.sender == self._sender:
            self.traffic.echoes += 1
            return []
        self.traffic.received += len(message.events)
        missing = message.sent - self._senders.pop(message.sender, message.sent)
        self._senders[message.sender] = message.sent + len(message.events)
        if len(self._senders) > _SENDERS:
            self._senders.popitem(last=False)
        if missing <= 0:  # below 0: it was sent twice
            return message.events
        origin = message.events[0].origin if message.events else ""
        return [self._gap(missing, "lost", origin), *message.events]

    def _gap(self, count: int, reason: str, origin: str) -> EventGap:
        return EventGap(count=count, reason=reason, time=self._wall(), origin=origin)  # type: ignore[arg-type]

    def _tell(self, events: Sequence[Event]) -> None:
        self.traffic.gaps += sum([isinstance(event, EventGap) for event in events])
        self._deliver(events)
