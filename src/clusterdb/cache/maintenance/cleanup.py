"""Clean-up: what nobody will ask for again goes, in the backend and in the storage behind it.

First the backend's entries, step by step; then, in each storage, the lines of the outbox and the
marks of deleted rows that are older. Limits of regions need no clean-up: each backend keeps to them
itself, as it does with the lifetimes of entries, placeholders and fences.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ..rows import Storage
from ..upkeep import Cleanable
from .job import JobContext

__all__ = ["CleanupJob"]

_STORAGE: Final = "storage:"


class CleanupJob:
    """Removes what is ``older_than`` so many seconds. ``upkeep`` is what the backend offers."""

    def __init__(
        self,
        name: str,
        upkeep: object,
        storages: Callable[[], Sequence[Storage]],
        older_than: float,
    ) -> None:
        self.name = name
        self._upkeep = upkeep
        self._storages = storages
        self._older_than = older_than

    async def run(self, context: JobContext) -> None:
        if not context.cursor.startswith(_STORAGE):
            await self._clean_backend(context)
        for storage in self._storages():
            removed = await storage.prune(self._older_than)
            await context.checkpoint(_STORAGE, looked=removed, removed=removed)

    async def _clean_backend(self, context: JobContext) -> None:
        upkeep = self._upkeep
        if not isinstance(upkeep, Cleanable):
            context.note("this backend can't be cleaned: it keeps to itself what it holds")
            return
        total = await upkeep.count()
        cursor = context.cursor
        while True:
            done = await upkeep.clean(cursor, self._older_than, context.batch)
            for note in done.notes:
                context.note(note)
            cursor = done.cursor
            await context.checkpoint(
                cursor or _STORAGE,
                looked=done.looked,
                removed=done.removed,
                freed=done.freed,
                total=total,
            )
            if not cursor:
                return
