"""Connections of a pool, lent at the price of a list.

The driver's pool makes a task to take a connection back, and another to lend it within a time,
which costs as much as a small statement. So what comes back is kept at hand for the next, unless
somebody waits for the pool. Once a second all that is at hand goes back to the pool, which knows
when a connection has been idle for too long, or has served enough.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import asyncpg

from .faults import LOST

__all__ = ["Lender", "Session", "is_usable"]

Session: TypeAlias = Any
"""A connection of the pool; the driver has no annotations."""

_AT_HAND: Final = 1.0
"""Seconds until what is at hand goes back to the pool."""

_GRACE: Final = 1.0
"""Seconds that the pool may take to take a connection back."""


class Lender:
    """Lends the connections of ``pool``; a caller waits for one at most ``timeout`` seconds."""

    def __init__(self, pool: Any, timeout: float) -> None:
        self._pool = pool
        self._timeout = timeout
        self._at_hand: list[Session] = []
        self._waiting = 0
        self._timer: asyncio.TimerHandle | None = None
        self._returning: set[asyncio.Task[None]] = set()

    async def borrow(self) -> Session:
        """A connection, which is the caller's until it gives it back. Raises :class:`TimeoutError`
        and the driver's errors.
        """
        while self._at_hand:
            session = self._at_hand.pop()
            if is_usable(session):
                return session
            await self._return(session)
        with self._counted():
            async with asyncio.timeout(self._timeout):
                return await self._pool.acquire()

    async def give_back(self, session: Session) -> None:
        """Take a connection back; one that is left in a transaction is closed, as nobody can say
        in which state.
        """
        usable = is_usable(session)
        if usable and session.is_in_transaction():
            session.terminate()
        elif usable and not self._waiting:
            self._at_hand.append(session)
            if self._timer is None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(_AT_HAND, self._return_all)
            return
        await self._return(session)

    async def aclose(self) -> None:
        """Close all connections, once those that are lent are given back."""
        self._return_all()
        if self._returning:
            await asyncio.wait(self._returning)
        await self._pool.close()

    def terminate(self) -> None:
        """Close all connections, come what may."""
        self._pool.terminate()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    def _return_all(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        kept, self._at_hand = self._at_hand, []
        for session in kept:
            task = asyncio.create_task(self._return(session))
            self._returning.add(task)
            task.add_done_callback(self._returning.discard)

    async def _return(self, session: Session) -> None:
        with contextlib.suppress(*LOST):
            await self._pool.release(session, timeout=_GRACE)


def is_usable(session: Session) -> bool:
    """Whether a connection is open; the pool takes one back at once that is not."""
    try:
        return not session.is_closed()
    except asyncpg.InterfaceError:
        return False
