"""What a job is, and what it is given: a cursor to go on from, and a checkpoint after each step.

A job works in small steps, each of which may be done twice without harm, and says after each step
how far it is. The checkpoint waits as long as the rate allows, keeps the cursor in the backend
about once a second, and ends the job where it has to stop: paused, out of time, or no longer the
leader's. The next run, or the next process, goes on from the cursor that was kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal, Protocol, TypeAlias

from msgspec import structs

from .state import LostLease, Progress
from .throttle import Throttle

__all__ = ["Job", "JobContext", "Stopped", "Why"]

Why: TypeAlias = Literal["paused", "out of time", "lost"]

_SAVE_EVERY: Final = 1.0
_NOTES: Final = 10
_LONGEST: Final = 300


class Stopped(Exception):
    """A job has to stop here; what it did is kept."""

    def __init__(self, why: Why) -> None:
        super().__init__(why)
        self.why = why


class Job(Protocol):
    """Something that is done now and then, by one process of all that share a backend."""

    @property
    def name(self) -> str:
        """Its name, as ``cache maintenance run`` takes it; one job of a plan has it."""
        ...

    async def run(self, context: JobContext) -> None:
        """Go on from ``context.cursor`` to the end. Calls ``context.checkpoint`` after each step,
        and lets what that raises pass. A :class:`CacheError` ends it as failed; it is tried again
        when it is due next.
        """
        ...


class JobContext:
    """What a job is given. ``save`` keeps its progress in the backend, ``halted`` says why it has
    to stop, if so; ``deadline`` is when its time is over. Times are of the clock ``now``.
    ``asked``: a person named this job, with ``options`` for this run.
    """

    def __init__(
        self,
        progress: Progress,
        throttle: Throttle,
        now: Callable[[], float],
        save: Callable[[Progress], Awaitable[None]],
        halted: Callable[[], Why | None],
        deadline: float,
        *,
        asked: bool = False,
        options: Mapping[str, float] | None = None,
    ) -> None:
        self.asked = asked
        self.options: Mapping[str, float] = {} if options is None else options
        self.progress = progress
        self._throttle = throttle
        self._now = now
        self._save = save
        self._halted = halted
        self._deadline = deadline
        self._began = now() - progress.seconds
        self._saved_at = self._stepped_at = now()

    @property
    def cursor(self) -> str:
        """Where to go on; empty at the beginning."""
        return self.progress.cursor

    @property
    def batch(self) -> int:
        """How many keys a step should look at."""
        return self._throttle.batch

    def note(self, text: str) -> None:
        """Add a sentence for a person; one that is there already is not added again."""
        notes, text = self.progress.notes, text[:_LONGEST]
        if text not in notes and len(notes) < _NOTES:
            self.progress = structs.replace(self.progress, notes=(*notes, text))

    async def checkpoint(
        self,
        cursor: str,
        *,
        looked: int = 0,
        removed: int = 0,
        moved: int = 0,
        freed: int = 0,
        total: int | None = None,
        keep: bool = False,
        paced: bool = True,
    ) -> None:
        """A step is done: add what it did, and wait for the next one's turn, unless the job has a
        pace of its own (not ``paced``). ``keep``: the cursor is to be stored before the job goes
        on, whatever that costs. Raises :class:`Stopped`.
        """
        before = self.progress
        self.progress = structs.replace(
            before,
            cursor=cursor,
            looked=before.looked + looked,
            removed=before.removed + removed,
            moved=before.moved + moved,
            freed=before.freed + freed,
            total=before.total if total is None else total,
            seconds=self._now() - self._began,
        )
        self._stop_if_halted()
        if keep or self._now() - self._saved_at >= _SAVE_EVERY:
            await self._keep()
        pause = self._throttle.pause(looked + moved, self._now() - self._stepped_at)
        if pause and paced:
            await asyncio.sleep(pause)
        self._stop_if_halted()
        self._stepped_at = self._now()

    async def _keep(self) -> None:
        try:
            await self._save(self.progress)
        except LostLease:
            raise Stopped("lost") from None
        self._saved_at = self._now()

    def _stop_if_halted(self) -> None:
        why = self._halted()
        if why is None and self._now() >= self._deadline:
            why = "out of time"
        if why is not None:
            raise Stopped(why)
