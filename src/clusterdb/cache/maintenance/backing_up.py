"""A backup as a job: made when it is due, and those that are past their time removed after it.

A backup is one call, with a pace of its own, and not steps: it is watched once in a while, and
given up where the job has to stop. What was begun then is no backup, and a later one removes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from .job import JobContext, Stopped

__all__ = ["BackupJob", "BackupMaker"]

_LOOK: Final = 0.5


class BackupMaker(Protocol):
    """What makes backups, and removes old ones."""

    async def create(self, *, progress: Callable[[int], None]) -> Any:
        """Make one; ``progress`` is told how many entries more are done."""
        ...

    async def prune(self) -> Any:
        """Remove those that are past their time."""
        ...


class BackupJob:
    """Makes a backup by what ``maker`` gives."""

    name = "backup"

    def __init__(self, maker: Callable[[], BackupMaker]) -> None:
        self._maker = maker

    async def run(self, context: JobContext) -> None:
        maker, entries = self._maker(), [0]

        def count(more: int) -> None:
            entries[0] += more

        creating = asyncio.ensure_future(maker.create(progress=count))
        try:
            told = 0
            while not creating.done():
                await asyncio.wait([creating], timeout=_LOOK)
                await context.checkpoint("", looked=entries[0] - told, paced=False)
                told = entries[0]
        except (Stopped, asyncio.CancelledError):
            creating.cancel()
            await asyncio.wait([creating])
            raise
        await creating
        await context.checkpoint("", looked=entries[0] - told, paced=False)
        await maker.prune()
