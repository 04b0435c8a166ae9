"""Answers that last: how many there may be at once, and what ends them.

Such an answer is the work of a task. It ends by itself, when its client goes, and when the server
does, which would otherwise wait for it in vain and then break it off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.types import Receive

from .problems import Refused

__all__ = ["Lasting", "Places"]

T = TypeVar("T")


class Places:
    """``most`` places; ``problem`` is the kind of problem that one more is."""

    def __init__(self, most: int, problem: str) -> None:
        self._most, self._problem = most, problem
        self._taken: set[asyncio.Task[Any]] = set()

    def check(self) -> None:
        """Raise :class:`Refused` where none is free."""
        if len(self._taken) >= self._most:
            detail = f"of {self._most} that may last at once none is free: try again, or end one"
            raise Refused(self._problem, detail, retry_after=5)

    async def take(self, work: Coroutine[Any, Any, T], receive: Receive) -> T | None:
        """What ``work`` comes to; ``None`` where it was ended because the client has gone, or by
        :meth:`end`. Raises :class:`Refused` where no place is free.
        """
        task = asyncio.ensure_future(work)
        gone = asyncio.create_task(_gone(receive))
        try:
            self.check()
            self._taken.add(task)
            await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            task.cancel()  # of one that is done this changes nothing
            await asyncio.gather(task, gone, return_exceptions=True)
            self._taken.discard(task)
        return None if task.cancelled() else task.result()

    def end(self) -> None:
        """End all of them."""
        for task in self._taken:
            task.cancel()


class Lasting:
    """The places of one server: of event streams, of counts of reads, which cost the servers of the
    cache much, and of advice, which costs this process.
    """

    def __init__(self, most_streams: int) -> None:
        self.streams = Places(most_streams, "too-many-streams")
        self.counts = Places(1, "busy")
        self.advice = Places(4, "busy")

    def end(self) -> None:
        """End all that lasts."""
        for places in (self.streams, self.counts, self.advice):
            places.end()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
