"""How fast a backup may read, so that those who use the cache don't feel it.

A schedule of what may be done when, in two measures at once: entries and bytes. What was done is
put on the schedule; whoever is ahead of it waits. At most a tenth of a second of work may be done
at once after a pause, so that there are no bursts. Pure but for the two functions it is given.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

__all__ = ["Pace", "Throttle"]

_BURST: Final = 0.1


class Pace(Protocol):
    """Decides when the next step of a backup may come, and whether: what it raises ends it."""

    async def spend(self, entries: int, size: int) -> None:
        """So much was read, or is to be written: wait until more may be."""
        ...


class Throttle:
    """At most so many entries and bytes a second, of all tasks that share it; ``None``: any."""

    def __init__(
        self,
        entries: float | None,
        size: float | None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._cost_of_entry = 0.0 if entries is None else 1 / entries
        self._cost_of_byte = 0.0 if size is None else 1 / size
        self._now, self._sleep = now, sleep
        self._free_at = now()

    async def spend(self, entries: int, size: int) -> None:
        cost = max(entries * self._cost_of_entry, size * self._cost_of_byte)
        now = self._now()
        self._free_at = max(self._free_at, now - _BURST) + cost
        if self._free_at > now:
            await self._sleep(self._free_at - now)
