"""Being woken by commits: a connection of its own that listens, made when it is first needed."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from .faults import LOST
from .sessions import Session, Sessions

__all__ = ["Listener"]


class Listener:
    """Wakes who waits. A wake says only that there may be something to read."""

    def __init__(self, sessions: Sessions, channel: str) -> None:
        self._sessions = sessions
        self._channel = channel
        self._session: Session = None
        self._woken = asyncio.Event()

    def clear(self) -> None:
        """Before a look: what was told until now is read by it."""
        self._woken.clear()

    async def wait(self, timeout: float) -> None:
        """Return when there may be something, and at once where nobody listened until now. Raises
        :class:`StorageUnavailable`.
        """
        if self._session is None or self._session.is_closed():
            await self._listen()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._woken.wait()

    async def _listen(self) -> None:
        session = await self._sessions.connect()
        try:
            session.add_termination_listener(self._wake)  # what came then was not heard
            await session.add_listener(self._channel, self._wake)
            self._session = session
            self._woken.set()  # what was committed before is still to be read
        except LOST as error:
            raise self._sessions.unavailable(error) from error
        finally:
            if self._session is not session:  # it was refused, or who waits was cancelled
                session.terminate()

    def _wake(self, *_: Any) -> None:
        self._woken.set()

    async def aclose(self) -> None:
        """Listen no more. Idempotent."""
        session, self._session = self._session, None
        self._woken.set()
        if session is not None:
            with contextlib.suppress(*LOST):
                await session.close(timeout=1)
