"""The scheduler: in every process that shares a backend, and at work in one of them.

Each process looks at the shared state (:mod:`.state`) a few times in a lease. One leads
(:mod:`.lease`): it takes up what another left, runs what somebody asked for, and starts what is
due, each plan in a task of its own. A due time is taken in the state before its run starts, so that
it runs once, whoever leads. The others watch, and take over when the leader falls silent.

Times of day are the leader's. A clock that is set back makes nothing run twice, as taken times stay
taken; one that was a day ahead and is put right begins anew from the present.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, TypeAlias

from ..clock import Clock
from ..errors import BackendUnavailable, CacheError, InvalidArgument, NotSupported
from .lease import Lease, Watch
from .plan import Plan, due_next
from .running import Running
from .state import LostLease, MaintenanceRun, MaintenanceState, Wanted
from .store import StateStore

__all__ = ["Duties", "Maintenance"]

Duties: TypeAlias = Literal["all", "asked", "none"]

_LOG: Final = logging.getLogger("clusterdb.cache")
_LOOKS: Final = 5
"""So many looks in a lease, at least."""

_LONGEST: Final = 3.0
_CLOSE_WITHIN: Final = 2.0
_FOLLOW: Final = 0.1
_LEASES: Final = 4


class Maintenance:
    """The scheduler of one process. ``cache`` is the cache's name, ``name`` the process's.

    Its ``duties`` are to run what is due and what is asked for, or what is asked for only, or
    nothing: a command that only looks leads nobody.
    """

    def __init__(self, cache: str, name: str, store: StateStore, clock: Clock) -> None:
        self._cache = cache
        self.name = name
        self._store = store
        self._clock = clock
        self._plans: tuple[Plan, ...] = ()
        self._seconds = 15.0
        self._watch = Watch(self._seconds)
        self._lease: Lease | None = None
        self._paused = False
        self._loop: asyncio.AbstractEventLoop | None = None
        """Where the cache lives, once it is open."""
        self._running: dict[str, Running] = {}
        self._task: asyncio.Task[None] | None = None
        self._woken: asyncio.Event | None = None
        self.duties: Duties = "all"
        self.problem = ""
        """Why nothing is started here, if so."""

    # -- life

    def configure(self, plans: Sequence[Plan], lease: float) -> None:
        """Run ``plans`` from now on, and only these. Runs under way go on as they began."""
        self._plans = tuple(plans)
        if lease != self._seconds:
            self._seconds, self._watch = lease, Watch(lease)
        if plans:
            self._store.configure()
        loop = self._loop
        if plans and self._task is None and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self.start)  # whoever configures may be in another thread

    def start(self) -> None:
        """Work in the running loop, if there is something to run."""
        task, loop = self._task, asyncio.get_running_loop()
        self._loop = loop
        if not self._plans or (task is not None and task.get_loop() is loop and not task.done()):
            return
        self._lease, self._running, self._woken = None, {}, asyncio.Event()
        self._task = loop.create_task(self._work(), name="clusterdb-cache: maintenance")

    async def aclose(self) -> None:
        """Stop what runs, to be gone on with by another process, and give the lead away."""
        task, self._task, self._loop = self._task, None, None
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            return
        tasks = [task, *[running.task for running in self._running.values()]]
        for each in tasks:
            each.cancel()
        await asyncio.wait(tasks)
        try:
            async with asyncio.timeout(_CLOSE_WITHIN):
                await self._resign()
        except (CacheError, TimeoutError):
            return  # the lease ends by itself

    async def _resign(self) -> None:
        lease, self._lease = self._lease, None
        if lease is not None:
            await self._store.update(lambda state: state.resigned(lease.token))

    def forked(self, name: str) -> None:
        """In the child of a fork, which is process ``name``: the parent leads."""
        self.name = name
        self._loop = self._task = self._lease = self._woken = None
        self._running = {}

    def wake(self) -> None:
        """Look at the state now."""
        if self._woken is not None:
            self._woken.set()

    @property
    def leads(self) -> bool:
        """Whether this process runs the tasks."""
        return self._lease is not None and self._lease.holds(self._clock.now())

    # -- what people ask for

    async def state(self) -> MaintenanceState:
        """The shared state. One round trip."""
        self._check()
        return await self._store.read()

    async def pause(self) -> MaintenanceState:
        """Let nothing run in any process, and stop what runs after the step it is at."""
        self._check()
        now = self._clock.wall()
        state = await self._store.update(lambda found: found.paused(self.name, now))
        self.wake()
        return state

    async def resume(self) -> MaintenanceState:
        """Let tasks run again."""
        self._check()
        state = await self._store.update(MaintenanceState.resumed)
        self.wake()
        return state

    async def ask(
        self, plan: str, jobs: Sequence[str] = (), options: Mapping[str, float] | None = None
    ) -> str:
        """Ask whoever leads to run a plan now, or some jobs of it, with ``options`` for this run;
        the number of the request.
        """
        self._check(plan)
        known = [job.name for each in self._plans if each.name == plan for job in each.jobs]
        for job in jobs:
            if job not in known:
                listed = ", ".join(known) or "none"
                raise InvalidArgument(f"there is no task {job!r} in the configuration; of {listed}")
        state = await self._store.read()
        if state.pause is not None:
            raise CacheError(f"maintenance was paused by {state.pause.by}: resume it first")
        request = Wanted(os.urandom(8).hex(), self.name, tuple(jobs), dict(options or {}))
        state = await self._store.update(lambda found: found.asked(plan, request))
        self.wake()
        return state.wanted[plan].number

    async def finished(
        self, request: str, look: Callable[[MaintenanceState], None] | None = None
    ) -> MaintenanceRun:
        """The run that was asked for, once it has ended; ``look`` is shown the state meanwhile.
        Raises :class:`CacheError` where nobody begins it in four leases, or it is paused or lost,
        and :class:`BackendUnavailable` where the backend is away for so long.
        """
        patience = _LEASES * self._seconds
        since = self._clock.now()  # when it was last heard of, or of a run that is before it
        while True:
            try:
                state = await self._store.read()
            except BackendUnavailable:
                if self._clock.now() - since > patience:
                    raise
            else:
                if look is not None:
                    look(state)
                for run in state.history:
                    if run.request == request:
                        return run
                if state.runs:
                    since = self._clock.now()
                why = _stuck(state, request, self._clock.now() - since, patience)
                if why:
                    raise CacheError(why)
            await asyncio.sleep(_FOLLOW)

    def _check(self, plan: str = "") -> None:
        if not self._plans or (plan and plan not in [each.name for each in self._plans]):
            raise NotSupported(
                f"no {plan or 'maintenance'} is configured for this cache: give its file a section "
                f"{plan or 'maintenance'!r}"
            )

    # -- at work

    async def _work(self) -> None:
        assert self._woken is not None
        while True:
            pause = self._seconds / _LOOKS
            try:
                pause = await self._tick()
                self.problem = ""
            except LostLease:
                self._lose()
            except CacheError as error:
                if not self.problem:
                    _LOG.warning("maintenance is not scheduled for now: %s", error)
                self.problem = str(error)
            try:
                async with asyncio.timeout(min(pause, self._seconds / _LOOKS, _LONGEST)):
                    await self._woken.wait()
            except TimeoutError:
                continue
            self._woken.clear()

    async def _tick(self) -> float:
        """Lead or watch; start what there is to start. Seconds until something may be due."""
        for name, running in list(self._running.items()):
            if running.task.done():
                del self._running[name]
        if not (self._plans or self._running):
            await self._resign()
            return _LONGEST
        if self._lease is None:
            state = await self._take_lead()
        else:
            state = await self._renew(self._lease)
        self._paused = state.pause is not None
        if self._lease is None or self._paused:
            return _LONGEST
        lease, idle = self._lease, [plan for plan in self._plans if plan.name not in self._running]
        return min([await self._start(lease, plan, state) for plan in idle], default=_LONGEST)

    async def _take_lead(self) -> MaintenanceState:
        state = await self._store.read()
        seen = state.leader
        if not self._watch.is_free(seen, self._clock.now()) or not self._has_work(state):
            return state
        lease, sent_at = Lease(self.name, self._seconds), self._clock.now()

        def take(found: MaintenanceState) -> MaintenanceState:
            if found.leader != seen:
                raise LostLease
            return found.led_by(lease.leader)

        state = await self._store.update(take)
        lease.renew(sent_at)
        self._lease = lease
        return state

    def _has_work(self, state: MaintenanceState) -> bool:
        """Whether there is a reason to lead, by our duties."""
        if self.duties != "asked":
            return self.duties == "all"
        ours = {plan.name for plan in self._plans}
        return bool(ours & (state.wanted.keys() | state.runs.keys()))

    async def _renew(self, lease: Lease) -> MaintenanceState:
        sent_at = self._clock.now()
        state = await self._store.update(lambda found: found.renewed(lease.token))
        lease.renew(sent_at)
        return state

    def _lose(self) -> None:
        """Another leads: what runs here finds out at its next step."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.lose()
            _LOG.info("maintenance: another process leads now")

    async def _start(self, lease: Lease, plan: Plan, state: MaintenanceState) -> float:
        """Start a run of a plan, if it is time; else in how many seconds it may be."""
        token, name, now = lease.token, plan.name, self._clock.wall()
        jobs, due = [job.name for job in plan.jobs], None
        if name in state.runs:
            state = await self._store.update(lambda found: found.taken_up(token, name))
        else:
            if name not in state.wanted:
                wait, due = await self._due(token, plan, state, now)
                if due is None:
                    return wait
            state = await self._store.update(lambda found: found.begun(token, name, jobs, due, now))
        run, store, clock = state.runs[name], self._store, self._clock
        running = Running(plan, run, lease, store, clock, lambda: self._paused)
        running.task.add_done_callback(lambda _: self.wake())
        self._running[name] = running
        return _LONGEST

    async def _due(
        self, token: str, plan: Plan, state: MaintenanceState, now: float
    ) -> tuple[float, float | None]:
        """Seconds until a plan is due, and the due time that is now."""
        if self.duties != "all" or plan.schedule is None:
            return _LONGEST, None
        moment = state.anchor(plan.name, now)
        if moment is not None:
            state = await self._store.update(lambda found: found.anchored(token, plan.name, moment))
        due, starts = due_next(plan.schedule, state.covered[plan.name], self._cache)
        return max(0.0, starts - now), due if starts <= now else None


def _stuck(state: MaintenanceState, request: str, waited: float, patience: float) -> str:
    """Why a run that was asked for does not come to its end, if so."""
    if state.pause is not None:
        return f"maintenance was paused by {state.pause.by}: it goes on once it is resumed"
    if request not in state.requests:
        return "the request was lost with the entries of the cache: ask again"
    if waited > patience:
        who = "nobody" if state.leader is None else state.leader.name
        return (
            f"the run was not begun within {patience:g} s ({who} leads): look whether its "
            f"configuration has this maintenance"
        )
    return ""
