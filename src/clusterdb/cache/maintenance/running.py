"""One run: its jobs one after the other, each from where it stopped."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from math import inf
from typing import Final

from msgspec import structs

from ..clock import Clock
from ..errors import CacheError
from .job import Job, JobContext, Stopped, Why
from .lease import Lease
from .plan import Plan
from .state import LostLease, MaintenanceRun, Outcome, Progress
from .store import StateStore
from .throttle import Throttle

__all__ = ["Running"]

_LOG: Final = logging.getLogger("clusterdb.cache")


class Running:
    """A run of ``plan`` under way in this process, under ``lease``; ``is_paused`` is asked before
    each step.
    """

    def __init__(
        self,
        plan: Plan,
        run: MaintenanceRun,
        lease: Lease,
        store: StateStore,
        clock: Clock,
        is_paused: Callable[[], bool],
    ) -> None:
        self._plan = plan
        self._run = run
        self._lease = lease
        self._store = store
        self._clock = clock
        self._is_paused = is_paused
        budget = inf if plan.time_budget is None else plan.time_budget
        spent = sum([job.seconds for job in run.jobs])
        self._deadline = clock.now() + budget - spent
        self.task = asyncio.create_task(self._work(), name=f"clusterdb-cache: {plan.name}")

    async def _work(self) -> None:
        """Run what is left of the run, and end it, unless it has to be left to somebody else."""
        try:
            for progress in self._run.jobs:
                if progress.outcome in ("waiting", "running"):
                    await self._do(progress)
            run = self._run
            await self._store.update(
                lambda state: state.ended(self._lease.token, run, self._clock.wall())
            )
        except LostLease:
            self._lease.lose()
        except Stopped:
            return  # kept in the backend; whoever leads when it may go on goes on
        except CacheError as error:  # the next tick finds the run, and takes it up
            _LOG.warning("maintenance: what %r did can't be stored: %s", self._plan.name, error)

    async def _do(self, progress: Progress) -> None:
        """Run one job. Raises :class:`Stopped` where the run may not go on."""
        job = self._plan.job(progress.job)
        if job is None:
            error = (
                f"there is no task {progress.job!r} in the configuration of {self._run.by}, which "
                f"leads: add it there"
            )
            self._run = self._run.with_job(structs.replace(progress, outcome="failed", error=error))
            return
        context = JobContext(
            structs.replace(progress, outcome="running"),
            Throttle(self._plan.rate),
            self._clock.now,
            self._save,
            self._halted,
            self._deadline,
            asked=self._run.asked,
            options=self._run.options,
        )
        outcome, error = await self._outcome(job, context)
        cursor = "" if outcome == "done" else context.progress.cursor
        done = structs.replace(context.progress, outcome=outcome, error=error, cursor=cursor)
        self._run = self._run.with_job(done)

    async def _outcome(self, job: Job, context: JobContext) -> tuple[Outcome, str]:
        try:
            await self._save(context.progress)
            await job.run(context)
        except Stopped as stopped:
            if stopped.why == "out of time":
                return "out of time", ""
            if stopped.why == "paused":
                await self._save(context.progress)
            raise
        except (LostLease, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - a job may be anybody's, and must not end others
            _LOG.warning("maintenance: job %r failed: %s", job.name, error)
            text = str(error) if isinstance(error, CacheError) else repr(error)
            return "failed", text[:500]
        return "done", ""

    async def _save(self, progress: Progress) -> None:
        run = self._run = self._run.with_job(progress)
        await self._store.update(lambda state: state.progressed(self._lease.token, run))

    def _halted(self) -> Why | None:
        if not self._lease.holds(self._clock.now()):
            return "lost"
        return "paused" if self._is_paused() else None
