"""Calling a loader: within its hard deadline, within its region's limits, and counted."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from ..backoff import Backoff
from ..circuit import Circuit
from ..clock import Clock
from ..errors import LoadCancelled, LoadError, LoaderSuspended, LoadTimeout
from ..settings import RegionSettings
from ..traced import Tracing
from .flight import LoadPlan, inside
from .loader import LoadContext
from .tasks import Tasks
from .threads import ThreadLimit

__all__ = ["Calls", "OnLoaded"]

Outcome: TypeAlias = Literal["ok", "failed", "timeout", "cancelled"]

OnLoaded: TypeAlias = Callable[[str, Sequence[str], float, Outcome], None]
"""Told of each loader call that ended: region, keys, seconds, outcome."""


_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0


class _Limits:
    """How much one region may load at once: in threads, and while its backend is away."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.threads = ThreadLimit(most)
        self.without_backend = asyncio.Semaphore(most)


class Calls:
    """The loader calls of one cache."""

    def __init__(self, clock: Clock, tasks: Tasks, tracing: Tracing, on_loaded: OnLoaded) -> None:
        self._now = clock.now
        self._tasks = tasks
        self._tracing = tracing
        self._on_loaded = on_loaded
        self._limits: dict[str, _Limits] = {}

    async def call(self, context: LoadContext, plan: LoadPlan) -> Mapping[str, Any]:
        """The loader's values. Raises what it raises, :class:`LoadTimeout` past the hard deadline,
        and :class:`LoadCancelled` where it was cancelled from inside.

        A loader that raised is called again, as often as the region says and its hard deadline has
        time for; that holds for all its calls together.
        """
        loads = plan.region.loads
        end = math.inf if loads.hard_deadline is None else self._now() + loads.hard_deadline
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        for _ in range(loads.retries):
            try:
                return await self._attempt(context, plan, end)
            except LoadError:  # it was ended, or waits for itself
                raise
            except Exception:
                pause = backoff.pause()
                if self._now() + pause >= end:
                    raise
                plan.counters.load_retries += 1
                await asyncio.sleep(pause)
        return await self._attempt(context, plan, end)

    async def _attempt(self, context: LoadContext, plan: LoadPlan, end: float) -> Mapping[str, Any]:
        """One call of the loader, until ``end``."""
        with self._tracing.loader(plan.region.name, len(context.keys)):
            return await self._counted(context, plan, end)

    async def _counted(self, context: LoadContext, plan: LoadPlan, end: float) -> Mapping[str, Any]:
        started = self._now()
        outcome: Outcome = "cancelled"
        counters, circuit = plan.counters, plan.circuit
        if circuit is not None and not circuit.admits():
            counters.refused_loads += 1
            raise LoaderSuspended(plan.region.name, circuit.in_row, circuit.retry_in)
        counters.loads += 1
        try:
            limit = None if end == math.inf else max(0.0, end - started)
            task = await self._within_deadline(context, plan, limit)
            if task is None:
                outcome = "timeout"
                counters.load_timeouts += 1
                raise LoadTimeout(context.keys, plan.region.loads.hard_deadline or 0.0)
            if task.cancelled():
                raise LoadCancelled(context.keys)
            if task.exception() is not None:
                outcome = "failed"
                counters.load_failures += 1
            else:
                outcome = "ok"
            return task.result()
        finally:
            seconds = self._now() - started
            counters.load_seconds += seconds
            if outcome == "ok":
                plan.pace.note(seconds)
            if circuit is not None:
                _told(circuit, outcome)
            self._on_loaded(plan.region.name, context.keys, seconds, outcome)

    async def call_without_backend(self, context: LoadContext, plan: LoadPlan) -> Mapping[str, Any]:
        """As :meth:`call`, at most ``max_concurrent_loads`` at once.

        A load inside another does not wait for a place: those who hold the places may be waiting
        for it.
        """
        if len(inside()) > 1:
            return await self.call(context, plan)
        async with self._limit(plan.region).without_backend:
            return await self.call(context, plan)

    async def _within_deadline(
        self, context: LoadContext, plan: LoadPlan, hard: float | None
    ) -> asyncio.Task[Mapping[str, Any]] | None:
        """The ended loader call; ``None`` for one that was cancelled at its deadline."""
        threads = plan.runner or self._limit(plan.region).threads
        nested = len(inside()) > 1
        task = self._tasks.spawn(plan.loader.call(context, threads, nested=nested))
        try:
            await asyncio.wait({task}, timeout=hard)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if task.done():
            return task
        task.cancel()
        return None

    def _limit(self, region: RegionSettings) -> _Limits:
        most = region.loads.max_concurrent_loads
        limit = self._limits.get(region.name)
        if limit is None or limit.most != most:
            limit = self._limits[region.name] = _Limits(most)
        return limit


def _told(circuit: Circuit, outcome: Outcome) -> None:
    if outcome == "ok":
        circuit.succeeded()
    elif outcome == "cancelled":
        circuit.left()
    else:
        circuit.failed()
