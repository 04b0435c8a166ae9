"""Callers and flights: who starts a load, who joins it, and who waits how long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from itertools import islice
from typing import Any, Final

from msgspec import structs

from ..clock import Clock
from ..errors import CacheClosed, LoadCancelled, ReentrantLoad
from ..protocols import Backend
from ..traced import Tracing
from ..types import Record
from .ahead import Ahead
from .behind import Behind
from .calling import Calls, OnLoaded
from .flight import Flight, LoadPlan, inside, refuse_cycle, refuse_repeat
from .flying import Flying, OnStored
from .stale import count_served, expired_at_most, last_values
from .tasks import Tasks

__all__ = ["Loads"]

_MAX_FAILURES: Final = 10_000
_PRUNE: Final = 1_000


class Loads:
    """The loads of one cache in one event loop."""

    def __init__(
        self,
        name: str,
        backend: Backend,
        clock: Clock,
        tracing: Tracing,
        on_loaded: OnLoaded,
        on_stored: OnStored,
    ) -> None:
        self._name = name
        self._backend = backend
        self._now = clock.now
        self._tasks = Tasks("clusterdb-cache-load")
        self._tracing = tracing
        calls = Calls(clock, self._tasks, tracing, on_loaded)
        self._behind = Behind(clock.now)
        self._ahead = Ahead(backend, calls, self._tasks, self._behind, tracing, on_stored)
        self._flying = Flying(
            backend, calls, self._tasks, tracing, on_stored, self._remember_failure
        )
        self._flights: dict[tuple[str, str], Flight] = {}
        self._failures: dict[tuple[str, str], tuple[Exception, float]] = {}
        self._closing = False

    async def load(self, keys: Sequence[str], plan: LoadPlan) -> dict[str, object]:
        """Values of ``keys`` by loading, each key once however many callers wait for it.

        Keys that our own loader gave no value for are absent from the result.
        """
        region = plan.region.name
        found = await self._revalidating(keys, plan)
        missing = [key for key in keys if key not in found]
        while missing:
            await self._settled(region, missing)
            if self._closing:
                raise CacheClosed(self._name)
            failed = self._failed_lately(region, missing)
            if failed:
                error = next(iter(failed.values()))
                found |= await self._instead(error, list(failed), plan)
                missing = [key for key in missing if key not in found]
                continue
            joined, fresh = self._sort(region, missing)
            plan.counters.joined_loads += len(missing) - len(fresh)
            flights = dict(joined)
            started = self._start(fresh, plan) if fresh else None
            if started is not None:
                flights[started] = fresh
            waiting = self._wait(flights, plan)
            stale = await (self._joined(joined, waiting, region) if joined else waiting)
            if stale is not None:
                return found | stale
            missing = []
            for flight, wanted in flights.items():
                try:
                    values = self._result(flight)
                except Exception as error:
                    if error is not flight.failure:
                        raise
                    values = await self._instead(error, wanted, plan)
                for key in wanted:
                    if key in values and (flight is started or not flight.private):
                        found[key] = values[key]
                    elif flight is not started:
                        missing.append(key)  # another's loader had none for us: ask our own
        return found

    def use(self, backend: Backend) -> None:
        """Call ``backend`` from now on, which is the same one in another coat."""
        self._backend = self._flying.backend = self._ahead.backend = backend

    def refresh_ahead(self, records: Sequence[Record], plan: LoadPlan) -> None:
        """These were hits: begin to load again, behind the caller, what is soon to expire."""
        if not self._closing:
            self._ahead.consider(records, _apart(plan))

    def last_values(self, keys: Sequence[str], plan: LoadPlan) -> dict[str, object]:
        """What may be given of ``keys`` while the backend is away, counted."""
        return last_values(self._backend, keys, plan)

    def forget(self, region: str, key: str) -> None:
        """A key was written, deleted or invalidated: its negative window ends, and a load of it
        that has no claim, as the backend was away, is no longer joined.
        """
        if self._failures:
            self._failures.pop((region, key), None)
        flight = self._flights.get((region, key))
        if flight is not None and key not in flight.claims:
            flight.open.discard(key)

    def forget_all(self) -> None:
        """As :meth:`forget`, for every key: a tag ended, or a region was cleared."""
        self._failures.clear()
        for region, key in list(self._flights):
            self.forget(region, key)

    async def aclose(self) -> None:
        """Cancel what runs; waiters get :class:`CacheClosed`. At most a second."""
        self._closing = True
        await self._tasks.aclose()

    # -- joining

    async def _settled(self, region: str, keys: Sequence[str]) -> None:
        """Wait while a flight is asking for the claim on one of ``keys``: an invalidation may have
        passed between its question and the answer.
        """
        while True:
            flights = [self._flights.get((region, key)) for key in keys]
            asking = [f.claiming for f in flights if f is not None and f.claiming is not None]
            if not asking:
                return
            await asking[0].wait()

    def _sort(self, region: str, keys: Sequence[str]) -> tuple[dict[Flight, list[str]], list[str]]:
        """Which keys join which flights, and which need a new one. Nothing happens in between."""
        joined: dict[Flight, list[str]] = {}
        fresh: list[str] = []
        for key in keys:
            flight = self._flights.get((region, key))
            if flight is not None and flight.joinable(key):
                refuse_cycle(flight)
                joined.setdefault(flight, []).append(key)
            else:
                refuse_repeat(self, region, key)
                fresh.append(key)
        return joined, fresh

    def _start(self, keys: Sequence[str], plan: LoadPlan, *, behind: bool = False) -> Flight:
        flight = Flight(self, plan.region.name, keys, behind=behind)
        flight.task = self._tasks.spawn(self._flying.fly(flight, plan))
        for key in keys:
            self._flights[flight.region, key] = flight
        flight.task.add_done_callback(lambda _: self._ended(flight))
        return flight

    def _ended(self, flight: Flight) -> None:
        self._unregister(flight)
        if not flight.task.cancelled() and (error := flight.task.exception()) is not None:
            flight.traceback = error.__traceback__

    def _unregister(self, flight: Flight) -> None:
        for key in flight.keys:
            if self._flights.get((flight.region, key)) is flight:
                del self._flights[flight.region, key]

    # -- waiting

    async def _wait(
        self, flights: Mapping[Flight, Sequence[str]], plan: LoadPlan
    ) -> dict[str, object] | None:
        """Wait for all ``flights``; past the soft deadline their stale values, if there are any."""
        chain = inside()
        for flight in flights:
            flight.waiters += 1
            if chain:
                chain[-1].waits_for[flight] += 1
        try:
            tasks = {flight.task for flight in flights}
            if plan.region.loads.soft_deadline is not None and plan.region.grace > 0:
                _, late = await asyncio.wait(tasks, timeout=plan.region.loads.soft_deadline)
                stale = await self._overdue(flights, plan) if late else None
                if stale is not None:
                    return stale
            await asyncio.wait(tasks)
        finally:
            for flight in flights:
                if chain:
                    chain[-1].waits_for[flight] -= 1
                self._leave(flight)
        return None

    async def _joined(
        self,
        joined: Mapping[Flight, Sequence[str]],
        waiting: Coroutine[Any, Any, dict[str, object] | None],
        region: str,
    ) -> dict[str, object] | None:
        """``waiting`` for flights that others had begun, among them."""
        began = time.time_ns()
        try:
            return await waiting
        finally:
            count = sum(map(len, joined.values()))
            self._tracing.joined(region, [flight.span for flight in joined], began, count)

    def _leave(self, flight: Flight) -> None:
        flight.waiters -= 1
        if not flight.waiters and not flight.detached and not flight.task.done():
            flight.abandoned = True
            self._unregister(flight)
            flight.task.cancel()

    def _result(self, flight: Flight) -> dict[str, object]:
        if flight.task.cancelled():
            raise CacheClosed(self._name) if self._closing else LoadCancelled(flight.keys)
        error = flight.task.exception()
        if error is not None:
            raise error.with_traceback(flight.traceback)
        return flight.task.result()

    # -- values past their time

    async def _revalidating(self, keys: Sequence[str], plan: LoadPlan) -> dict[str, object]:
        """The values of ``keys`` that may be given while they are renewed, which is begun here."""
        window = plan.region.loads.stale_while_revalidate
        if not window:
            return {}
        records = await expired_at_most(self._backend, keys, window, plan)
        count_served(plan.counters, records.values(), "while_revalidating")
        self._start_behind([key for key, record in records.items() if record.stale], plan)
        return {key: record.value for key, record in records.items()}

    def _start_behind(self, keys: Sequence[str], plan: LoadPlan) -> None:
        """Load what nobody is loading, or failed to a moment ago, behind the caller's back; as many
        at once as the region may load. Beyond them the next caller tries again.
        """
        region = plan.region.name
        flights = [(key, self._flights.get((region, key))) for key in keys]
        fresh = [
            key
            for key, flight in flights
            if (flight is None or not flight.joinable(key))
            and self._recent_failure(region, key) is None
        ]
        if fresh and self._behind.admits(plan.region) and not self._closing:
            flight = self._start(fresh, _apart(plan), behind=True)
            self._behind.began(plan.region, flight.task)

    async def _instead(
        self, error: Exception, keys: Sequence[str], plan: LoadPlan
    ) -> dict[str, object]:
        """The last values of ``keys``, whose loader failed; raises ``error`` where one is missing,
        or too old.
        """
        window = plan.region.loads.stale_if_error
        if not window or isinstance(error, ReentrantLoad):
            raise error
        records = await expired_at_most(self._backend, keys, window, plan)
        if len(records) < len(keys):
            raise error
        count_served(plan.counters, records.values(), "on_error")
        return {key: record.value for key, record in records.items()}

    async def _overdue(
        self, flights: Mapping[Flight, Sequence[str]], plan: LoadPlan
    ) -> dict[str, object] | None:
        """The expired values of all keys, if each has one; the flights then go on alone."""
        keys = [key for wanted in flights.values() for key in wanted]
        records = await expired_at_most(self._backend, keys, plan.region.grace, plan)
        if len(records) < len(keys):
            return None
        for flight in flights:
            flight.detached = True
        count_served(plan.counters, records.values(), "past_deadline")
        return {key: record.value for key, record in records.items()}

    # -- failures

    def _remember_failure(self, plan: LoadPlan, keys: Sequence[str], error: Exception) -> None:
        window = plan.region.loads.negative_ttl
        if not window:
            return
        for oldest in list(islice(self._failures, _PRUNE)):
            full = len(self._failures) + len(keys) > _MAX_FAILURES
            if full or self._failures[oldest][1] <= self._now():
                del self._failures[oldest]
        for key in keys:
            self._failures[plan.region.name, key] = (error, self._now() + window)

    def _failed_lately(self, region: str, keys: Sequence[str]) -> dict[str, Exception]:
        failures = [(key, self._recent_failure(region, key)) for key in keys]
        return {key: error for key, error in failures if error is not None}

    def _recent_failure(self, region: str, key: str) -> Exception | None:
        """What the loader of ``key`` raised, while its negative window is open."""
        failure = self._failures.get((region, key))
        if failure is None:
            return None
        error, until = failure
        if until > self._now():
            return error.with_traceback(None)
        del self._failures[region, key]
        return None


def _apart(plan: LoadPlan) -> LoadPlan:
    """``plan`` for a load that its caller, and the caller's thread, does not wait for."""
    return plan if plan.runner is None else structs.replace(plan, runner=None)
