"""Invalidations of keys that wait to be carried out: the strategies ``deferred`` and ``lazy``.

A key that waits is a miss for this process at once, and whatever else this process does with it is
preceded by its removal: so it reads its own invalidations and its own writes. What others see until
then is the old value. ``deferred`` removes what waits together, after a delay; ``lazy`` removes a
key when it is read next, and what nobody reads after a longer while, so that no mark stays.

Keys are marked once, however often they are invalidated, and at most so many: beyond that the
caller waits until room was made. A removal that fails is tried again; its keys stay misses.

Tags, patterns and regions never wait: they are one step, or must be seen through to their end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Literal, TypeAlias

from ..errors import CacheError

__all__ = ["Strategy", "Waiting"]

_LOG: Final = logging.getLogger("clusterdb.cache")
_AGAIN_AFTER: Final = 0.5
_AT_ONCE: Final = 1000
_END_WITHIN: Final = 2.0

Strategy: TypeAlias = Literal["immediate", "deferred", "lazy"]
Place: TypeAlias = tuple[str, str]
"""Region and key."""


class Waiting:
    """The marks of one cache. ``carry_out`` removes keys of a region, or raises."""

    def __init__(self, carry_out: Callable[[str, Sequence[str]], Awaitable[None]]) -> None:
        self._carry_out = carry_out
        self._marks: dict[Place, object] = {}
        self._flying: dict[Place, asyncio.Task[None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._said = False
        self.configure("immediate", 0.1, 10_000)

    def configure(self, strategy: Strategy, delay: float, limit: int) -> None:
        """``delay``: seconds until what waits is removed; ``limit``: how much may wait."""
        self.strategy = strategy
        self._delay = delay
        self._limit = limit
        if self._timer is not None:  # by the new delay, and at once where nothing waits any more
            self._timer.cancel()
            self._timer = None
            self._arm(0.0 if strategy == "immediate" else delay)

    def __len__(self) -> int:
        return len(self._marks)

    def holds(self, region: str, key: str) -> bool:
        """Whether the removal of a key waits."""
        return (region, key) in self._marks

    # -- marking

    async def add(self, region: str, keys: Sequence[str]) -> None:
        """Mark ``keys``. Where there is no room for them, make it first, or raise why not."""
        for start in range(0, len(keys), self._limit):
            chunk = keys[start : start + self._limit]
            if len(self._marks) + len(chunk) > self._limit:
                await self.flush()
            mark = object()
            for key in chunk:
                self._marks[region, key] = mark
            self._arm(self._delay)

    async def readable(self, region: str, keys: Sequence[str]) -> Sequence[str]:
        """Which of ``keys`` are worth a look; with ``lazy`` those that wait are removed now."""
        if self.strategy == "lazy":
            await self.settle(region, keys)
        return [key for key in keys if (region, key) not in self._marks]

    # -- carrying out

    async def settle(self, region: str, keys: Iterable[str]) -> None:
        """Remove those of ``keys`` that wait, or raise why it can't be done."""
        await self._settle([(region, key) for key in keys if (region, key) in self._marks])

    async def flush(self) -> int:
        """Remove all that waits, or raise why it can't be done; how many keys it was."""
        places = list(self._marks)
        await self._settle(places)
        return len(places)

    async def _settle(self, places: Sequence[Place]) -> None:
        while True:
            flying = {self._flying[place] for place in places if place in self._flying}
            if flying:  # one that was sent before would come after what the caller does next
                await asyncio.wait(flying)
                continue
            tasks = self._launch([place for place in places if place in self._marks])
            if not tasks:
                return
            await asyncio.wait(tasks)
            for task in tasks:
                error = asyncio.CancelledError() if task.cancelled() else task.exception()
                if error is not None:
                    raise error

    def _launch(self, places: Sequence[Place]) -> list[asyncio.Task[None]]:
        """Tasks that remove ``places``; they go on when their caller is cancelled."""
        by_region: dict[str, list[str]] = {}
        for region, key in places:
            by_region.setdefault(region, []).append(key)
        tasks: list[asyncio.Task[None]] = []
        for region, keys in by_region.items():
            for start in range(0, len(keys), _AT_ONCE):
                chunk = keys[start : start + _AT_ONCE]
                task = asyncio.create_task(
                    self._remove(region, chunk), name="clusterdb-cache: invalidations"
                )
                self._tasks.add(task)
                task.add_done_callback(self._ended)
                self._flying.update({(region, key): task for key in chunk})
                tasks.append(task)
        return tasks

    async def _remove(self, region: str, keys: Sequence[str]) -> None:
        marks = {key: self._marks[region, key] for key in keys}
        try:
            await self._carry_out(region, keys)
            for key, mark in marks.items():  # one that was invalidated again meanwhile stays
                if self._marks.get((region, key)) is mark:
                    del self._marks[region, key]
        finally:
            for key in keys:
                self._flying.pop((region, key), None)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen; who waits for the task raises it

    # -- by itself

    def start(self) -> None:
        """In a new loop: what still waits goes on waiting."""
        self._timer = None
        self._flying.clear()
        self._tasks.clear()
        if self._marks:
            self._arm(self._delay)

    def _arm(self, delay: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        self._timer = None
        task = asyncio.get_running_loop().create_task(
            self._flush_now(), name="clusterdb-cache: invalidations"
        )
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def _flush_now(self) -> None:
        try:
            await self.flush()
        except CacheError as error:
            if not self._said:
                self._said = True
                _LOG.warning("%d invalidations wait for the backend: %s", len(self._marks), error)
            self._arm(_AGAIN_AFTER)
        else:
            self._said = False

    async def aclose(self) -> None:
        """Carry out what waits, for at most two seconds; the log says what could not be."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        reason = "the backend did not answer in time"
        if self._marks:
            try:
                async with asyncio.timeout(_END_WITHIN):
                    await self.flush()
            except (TimeoutError, CacheError) as error:
                reason = str(error) or reason
        if self._marks:
            _LOG.error(
                "%d invalidations were lost when the cache was closed: %s", len(self._marks), reason
            )
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_END_WITHIN)

    def forked(self) -> None:
        """In the child of a fork: what waits is the parent's to carry out."""
        self._marks.clear()
        self._flying.clear()
        self._tasks.clear()
        self._timer = None
