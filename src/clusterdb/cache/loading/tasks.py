"""Background tasks with one owner, who ends them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

__all__ = ["Tasks"]

R = TypeVar("R")

_END_WITHIN: Final = 1.0


class Tasks:
    """The running tasks of one owner."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        """Start ``work``. Its exception is for those who wait for the task, if anybody does."""
        task = asyncio.create_task(work, name=self._name)
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen, so that nothing is logged for a task nobody waits for

    async def aclose(self) -> None:
        """Cancel what runs, and wait for it at most a second."""
        running = [task for task in self._running if not task.get_loop().is_closed()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=_END_WITHIN)
