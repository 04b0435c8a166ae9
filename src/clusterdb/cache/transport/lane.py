"""Connections to one server that share one kind of work, opened when needed.

The first connection that is not crowded takes a call, so few connections fill up before the next
one is used, and commands of one turn leave in few writes. When all are crowded one more is opened
beside them; what then is unused for ``idle_timeout`` is closed again.

When the server can't be reached the lane is *down*: calls fail at once with the reason, while one
task tries again and again, with jittered pauses. So a caller never waits for a server that is
known to be away, and work goes on by itself once it is back.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final, Protocol

from ..backoff import Backoff
from ..errors import BackendUnavailable
from .connection import Connection

__all__ = ["Lane", "Opener"]

_CROWDED: Final = 4096
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 1.0
_STEADY: Final = 1.0
_SILENT: Final = (
    "no connection was open in time: nothing there answered; does the server want TLS "
    "where the URL has none (redis://), or have none where the URL wants it (rediss://)?"
)
_FLAPPING_PAUSE: Final = 0.05


class Opener(Protocol):
    """Opens a connection to the lane's server, or raises `BackendUnavailable`."""

    def __call__(self, on_lost: Callable[[Connection], None]) -> Awaitable[Connection]: ...


class Lane:
    """``least`` to ``most`` connections; above the least they are closed when idle."""

    def __init__(
        self,
        opener: Opener,
        now: Callable[[], float],
        *,
        least: int,
        most: int,
        idle_timeout: float,
    ) -> None:
        self.connections: list[Connection] = []
        self.down: BackendUnavailable | None = None
        self.down_since = inf
        self._opener = opener
        self._now = now
        self._least = least
        self._most = most
        self._idle_timeout = idle_timeout
        self._backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        self._opening: asyncio.Task[None] | None = None
        self._attempt: asyncio.Future[None] | None = None
        self._tidying: asyncio.TimerHandle | None = None
        self._opened_at = -_STEADY
        self._begun = 0
        self._leaving: list[Connection] = []
        self._closed = False

    @property
    def reconnects(self) -> int:
        """How often a connection was opened when none was left of those before."""
        return max(0, self._begun - 1)

    @property
    def busy(self) -> bool:
        """Whether a connection is open or being opened."""
        leaving = any(connection.lost is None for connection in self._leaving)
        return leaving or bool(self.connections) or self._opening is not None

    def pick(self) -> Connection | None:
        """The connection for the next call; none when none is open."""
        for connection in self.connections:
            if connection.load < _CROWDED:
                return connection
        if not self.connections:
            return None
        if len(self.connections) < self._most:
            self._grow()
        return min(self.connections, key=_load)

    async def wait(self, deadline: float) -> Connection:
        """A connection, as soon as one is open.

        Raises `BackendUnavailable` at once when the server is known to be away, else when the
        attempt to reach it fails, or at the deadline.
        """
        while (connection := self.pick()) is None:
            if self.down is not None:
                raise BackendUnavailable(str(self.down)) from self.down.__cause__
            self._grow()
            if self._attempt is None:
                self._attempt = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(deadline - self._now()):
                    await asyncio.shield(self._attempt)
            except TimeoutError:
                raise BackendUnavailable(_SILENT) from None
        return connection

    def _grow(self) -> None:
        if self._closed:
            raise BackendUnavailable("the connections to this server were closed")
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), name="clusterdb-cache: connect")

    async def _open(self) -> None:
        """Open one connection, and more up to the least; try until there is at least one."""
        try:
            if self._now() - self._opened_at < _STEADY and not self.connections:
                # a server that ends connections as fast as we open them is not to be hammered
                await asyncio.sleep(_FLAPPING_PAUSE * random.uniform(0.5, 1))
            while True:
                opened: Connection | None = None
                try:
                    opened = await self._opener(self._on_lost)
                except BackendUnavailable as error:
                    if self.connections:
                        return  # one more was wanted; those that are there do
                    self.down = error
                    self.down_since = min(self.down_since, self._now())
                    self._announce()
                if opened is None or opened.lost is not None:
                    await asyncio.sleep(self._backoff.pause())
                    continue
                self._begun += not self.connections
                self.connections.append(opened)
                self._opened_at = self._now()
                self.down, self.down_since = None, inf
                self._backoff.reset()
                self._announce()
                if len(self.connections) > self._least:
                    self._watch_idle()
                if len(self.connections) >= self._least:
                    return
        finally:
            self._opening = None
            self._announce()

    def _announce(self) -> None:
        """Wake those who wait for the end of this attempt."""
        if self._attempt is not None and not self._attempt.done():
            self._attempt.set_result(None)
        self._attempt = None

    def _on_lost(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.remove(connection)
            if len(self.connections) < self._least and not self._closed:
                self._grow()

    def _watch_idle(self) -> None:
        if self._tidying is None:
            loop = asyncio.get_running_loop()
            self._tidying = loop.call_later(self._idle_timeout / 2, self._close_idle)

    def _close_idle(self) -> None:
        self._tidying = None
        before = self._now() - self._idle_timeout
        for connection in self.connections[self._least :]:
            if not connection.load and connection.heard_at <= before:
                self.connections.remove(connection)
                connection.retire()
        if len(self.connections) > self._least:
            self._watch_idle()

    def retire(self) -> None:
        """Take no more calls; those under way may end."""
        self._stop()
        self._leaving, self.connections = self.connections, []
        for connection in self._leaving:
            connection.retire()

    async def aclose(self) -> None:
        """Close every connection at once, and end the task that opens them."""
        opening = self._opening
        self._stop()
        for connection in [*self.connections, *self._leaving]:
            await connection.aclose()
        if opening is not None:
            await asyncio.wait([opening])

    def forked(self) -> None:
        """In the child of a fork: forget what belongs to the parent."""
        for connection in self.connections:
            connection.forked()
        self.connections.clear()
        self._opening = self._attempt = self._tidying = self.down = None
        self.down_since = inf

    def _stop(self) -> None:
        self._closed = True
        if self._tidying is not None:
            self._tidying.cancel()
        if self._opening is not None:
            self._opening.cancel()


def _load(connection: Connection) -> int:
    return connection.load
