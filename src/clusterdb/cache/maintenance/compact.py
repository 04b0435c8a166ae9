"""Compaction: space that holds nothing is given back, where it is more than a share of all.

Of a database behind the cache it is only said: when to vacuum it is its owner's to decide.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ..rows import Storage
from ..upkeep import Compactable, Space
from .job import JobContext

__all__ = ["CompactJob"]

_MOST_STEPS: Final = 100_000


class CompactJob:
    """Gives dead space back where its share is above ``threshold``."""

    def __init__(
        self,
        name: str,
        upkeep: object,
        storages: Callable[[], Sequence[Storage]],
        threshold: float,
    ) -> None:
        self.name = name
        self._upkeep = upkeep
        self._storages = storages
        self._threshold = threshold

    async def run(self, context: JobContext) -> None:
        upkeep = self._upkeep
        if isinstance(upkeep, Compactable):
            for space in await upkeep.space():
                await context.checkpoint("")
                if self._wastes(space, context) and not space.advice:
                    await self._compact(upkeep, space.name, context)
        else:
            context.note("this backend has no space to give back: it frees what it drops")
        for storage in self._storages():
            for space in await storage.space():
                self._wastes(space, context)
            await context.checkpoint("")

    def _wastes(self, space: Space, context: JobContext) -> bool:
        """Whether a part has too much dead space, which is told."""
        if space.share <= self._threshold:
            return False
        told = f"{space.name}: {space.share:.0%} is dead space"
        context.note(f"{told}; {space.advice}" if space.advice else told)
        return True

    async def _compact(self, upkeep: Compactable, name: str, context: JobContext) -> None:
        for _ in range(_MOST_STEPS):
            freed, why_not = await upkeep.compact(name, context.batch)
            if why_not:
                context.note(f"{name}: {why_not}")
            await context.checkpoint("", looked=context.batch if freed else 0, freed=freed)
            if not freed:
                return
