"""Flights: how a load is shared, and how it loses to whatever happened meanwhile.

A miss starts a *flight*: it claims its keys in the backend, calls the loader, and fills the claims.
Whatever happens to a key meanwhile (set, delete, invalidation of it or of a tag, clear) ends its
claim, so the value is returned to those who waited and stored nowhere: a value that was read
before an invalidation is never visible after it. The protocol is the lease of memcached
(R. Nishtala et al., "Scaling Memcache at Facebook", NSDI 2013) with tags added.

* A later caller joins a flight only while its claim lives; after an invalidation it starts its own.
* A flight is a task of its own. Waiters are counted: one that is cancelled harms nobody, the last
  one to leave cancels the flight, and nothing is stored.
* A loader's exception reaches all its waiters once. With a negative window it is kept that long.
* Past the hard deadline the loader is cancelled and the claims are given back, even if the loader
  won't end. Past the soft one a waiter takes the stale value, if its region keeps one, and the
  flight goes on.
* A loader that waits, through others, for its own flight is told so (:class:`ReentrantLoad`).

Rejected: a lock a key (waiters queue up behind a cancelled or failed holder, and a load that
races an invalidation still wins); remembering versions of absent keys (memory without a bound).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final, Literal, TypeAlias

import msgspec

from ..claims import Claim
from ..clock import Clock
from ..errors import BackendUnavailable, CacheClosed, LoadCancelled, LoadTimeout, ReentrantLoad
from ..options import TTL
from ..protocols import Backend, Put
from ..settings import RegionSettings
from ..stats import LoadCounters
from ..types import Record, Stale
from .loader import LoadContext, Loader
from .threads import ThreadLimit

__all__ = ["LoadPlan", "Loads", "OnLoaded"]

Outcome: TypeAlias = Literal["ok", "failed", "timeout", "cancelled"]

OnLoaded: TypeAlias = Callable[[str, Sequence[str], float, Outcome], None]
"""Told of each loader call that ended: region, keys, seconds, outcome."""

_MAX_FAILURES: Final = 10_000
_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.1
_CLOSE_WITHIN: Final = 1.0


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What one caller wants loaded.

    ``store_ttl`` turns a TTL as a person writes it into the seconds to store; ``enter`` is what is
    done to a value on its way into the cache.
    """

    region: RegionSettings
    counters: LoadCounters
    loader: Loader
    ttl: TTL
    tags: tuple[str, ...]
    store_ttl: Callable[[TTL], float | None]
    enter: Callable[[object], object]


class _Flight:
    """One running load of one or more keys."""

    __slots__ = (
        "abandoned",
        "claims",
        "detached",
        "keys",
        "region",
        "task",
        "waiters",
        "waits_for",
    )

    task: asyncio.Task[dict[str, object]]

    def __init__(self, region: str, keys: Sequence[str]) -> None:
        self.region = region
        self.keys = list(keys)
        self.claims: dict[str, Claim] = {}
        self.waiters = 0
        self.waits_for: set[_Flight] = set()
        self.abandoned = False
        self.detached = False

    def joinable(self, key: str) -> bool:
        """Whether a caller that came just now may have this flight's value for ``key``."""
        if self.abandoned or self.task.done():
            return False
        claim = self.claims.get(key)
        return claim is None or claim.live()


_CHAIN: ContextVar[tuple[_Flight, ...]] = ContextVar("clusterdb_cache_loads", default=())
"""The flights whose loaders we are inside of, outermost first."""


class _Limits:
    """How much one region may load at once: in threads, and while its backend is away."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.threads = ThreadLimit(most)
        self.without_backend = asyncio.Semaphore(most)


class Loads:
    """The loads of one cache in one event loop."""

    def __init__(self, name: str, backend: Backend, clock: Clock, on_loaded: OnLoaded) -> None:
        self._name = name
        self._backend = backend
        self._now = clock.now
        self._on_loaded = on_loaded
        self._flights: dict[tuple[str, str], _Flight] = {}
        self._failures: dict[tuple[str, str], tuple[Exception, float]] = {}
        self._limits: dict[str, _Limits] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False

    async def load(self, keys: Sequence[str], plan: LoadPlan) -> dict[str, object]:
        """Values of ``keys`` by loading, each key once however many callers wait for it.

        Keys the loader gave no value for are absent from the result.
        """
        if self._closing:
            raise CacheClosed(self._name)
        region = plan.region.name
        fresh: list[str] = []
        flights: dict[_Flight, list[str]] = {}
        for key in keys:
            self._raise_recent_failure(region, key)
            flight = self._flights.get((region, key))
            if flight is not None and flight.joinable(key):
                _refuse_cycle(flight)
                flights.setdefault(flight, []).append(key)
                plan.counters.joined_loads += 1
            else:
                fresh.append(key)
        if fresh:
            flights[self._start(fresh, plan)] = fresh
        return await self._wait(flights, plan)

    def forget_failure(self, region: str, key: str) -> None:
        """End the negative window of a key: it was written, deleted or invalidated."""
        if self._failures:
            self._failures.pop((region, key), None)

    def forget_failures(self) -> None:
        """End all negative windows."""
        self._failures.clear()

    async def aclose(self) -> None:
        """Cancel what runs; waiters get :class:`CacheClosed`. At most a second."""
        self._closing = True
        running = [task for task in self._tasks if not task.get_loop().is_closed()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=_CLOSE_WITHIN)

    # -- waiting

    async def _wait(
        self, flights: Mapping[_Flight, Sequence[str]], plan: LoadPlan
    ) -> dict[str, object]:
        chain = _CHAIN.get()
        holder = chain[-1] if chain else None
        for flight in flights:
            flight.waiters += 1
            if holder is not None:
                holder.waits_for.add(flight)
        try:
            tasks = {flight.task for flight in flights}
            if plan.region.loads.soft_deadline is not None and plan.region.grace > 0:
                _, late = await asyncio.wait(tasks, timeout=plan.region.loads.soft_deadline)
                stale = await self._stale_values(flights, plan) if late else None
                if stale is not None:
                    return stale
            await asyncio.wait(tasks)
        finally:
            for flight in flights:
                self._leave(flight, holder)
        values: dict[str, object] = {}
        for flight, keys in flights.items():
            found = self._result(flight)
            values.update({key: found[key] for key in keys if key in found})
        return values

    def _leave(self, flight: _Flight, holder: _Flight | None) -> None:
        flight.waiters -= 1
        if holder is not None:
            holder.waits_for.discard(flight)
        if not flight.waiters and not flight.detached and not flight.task.done():
            flight.abandoned = True
            self._unregister(flight)
            flight.task.cancel()

    def _result(self, flight: _Flight) -> dict[str, object]:
        if flight.task.cancelled():
            raise CacheClosed(self._name) if self._closing else LoadCancelled(flight.keys)
        error = flight.task.exception()
        if error is not None:
            raise error.with_traceback(error.__traceback__)
        return flight.task.result()

    async def _stale_values(
        self, flights: Mapping[_Flight, Sequence[str]], plan: LoadPlan
    ) -> dict[str, object] | None:
        """The expired values of all keys, if each has one; the flights then go on alone."""
        keys = [key for asked in flights.values() for key in asked]
        records = await self._backend.read(plan.region.name, keys, stale=True)
        values = {record.key: record.value for record in records if record is not None}
        if len(values) < len(keys):
            return None
        for flight in flights:
            flight.detached = True
        return values

    def _raise_recent_failure(self, region: str, key: str) -> None:
        failure = self._failures.get((region, key))
        if failure is None:
            return
        error, until = failure
        if until > self._now():
            raise error.with_traceback(None)
        del self._failures[region, key]

    # -- flying

    def _start(self, keys: Sequence[str], plan: LoadPlan) -> _Flight:
        flight = _Flight(plan.region.name, keys)
        flight.task = self._spawn(self._fly(flight, plan))
        for key in keys:
            self._flights[flight.region, key] = flight
        flight.task.add_done_callback(lambda _: self._unregister(flight))
        return flight

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name="clusterdb-cache-load")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen here; its waiters, if any are left, raise it

    def _unregister(self, flight: _Flight) -> None:
        for key in flight.keys:
            if self._flights.get((flight.region, key)) is flight:
                del self._flights[flight.region, key]

    async def _fly(self, flight: _Flight, plan: LoadPlan) -> dict[str, object]:
        """Claim, load and fill until every key is there, by us or by another claimant."""
        _CHAIN.set((*_CHAIN.get(), flight))
        region, pause = plan.region, _FIRST_PAUSE
        pending = flight.keys
        found: dict[str, object] = {}
        while True:
            try:
                answers = await self._backend.claim(
                    region.name, pending, plan.tags, region.loads.lease
                )
            except BackendUnavailable:
                if region.on_unavailable == "raise":
                    raise
                return found | await self._load_without_backend(pending, plan)
            claims: dict[str, Claim] = {}
            busy: list[str] = []
            for key, answer in zip(pending, answers, strict=True):
                if answer is None:
                    busy.append(key)
                elif isinstance(answer, Record):
                    found[key] = answer.value
                else:
                    claims[key] = answer
            if claims:
                flight.claims.update(claims)
                found |= await self._load_claimed(claims, plan)
            if not busy:
                return found
            await asyncio.sleep(pause)
            pending, pause = busy, min(2 * pause, _LONGEST_PAUSE)

    async def _load_claimed(self, claims: dict[str, Claim], plan: LoadPlan) -> dict[str, object]:
        try:
            keys, tags = list(claims), plan.tags
            context = LoadContext(keys, plan.ttl, tags, await self._stale(keys, plan.region))
            values = await self._call(context, plan)
            if context.tags != tags and not context.skipped:
                tags = context.tags
                await self._backend.extend(
                    plan.region.name, list(claims.values()), tags[len(plan.tags) :]
                )
                context = LoadContext(keys, plan.ttl, tags, context.stale)
                values = await self._call(context, plan)
            entered = {key: plan.enter(value) for key, value in values.items()}
            if context.tags == tags and not context.skipped:
                await self._fill(claims, entered, context, plan)
            return entered
        finally:
            await self._release(plan.region.name, claims)

    async def _stale(self, keys: Sequence[str], region: RegionSettings) -> Stale[Any] | None:
        if region.grace <= 0 or len(keys) > 1:
            return None
        [record] = await self._backend.peek(region.name, keys, stale=True)
        return record.as_stale(record.value) if record is not None and record.stale else None

    async def _fill(
        self,
        claims: Mapping[str, Claim],
        values: Mapping[str, object],
        context: LoadContext,
        plan: LoadPlan,
    ) -> None:
        ttl = context.ttl
        fills = [
            (claims[key], Put(key, value, plan.store_ttl(ttl), context.tags))
            for key, value in values.items()
        ]
        try:
            outcomes = await self._backend.fill(plan.region.name, fills)
        except BackendUnavailable:
            plan.counters.lost_fills += len(fills)
            return
        for outcome in outcomes:
            if isinstance(outcome, Exception) or not outcome.applied:
                plan.counters.lost_fills += 1

    async def _release(self, region: str, claims: Mapping[str, Claim]) -> None:
        held = [claim for claim in claims.values() if not claim.dropped]
        if not held:
            return
        try:
            await self._backend.release(region, held)
        except BackendUnavailable:
            return  # their lease ends them

    async def _load_without_backend(self, keys: Sequence[str], plan: LoadPlan) -> dict[str, object]:
        """Fail open: load and store nothing, at most ``max_concurrent_loads`` at once."""
        plan.counters.unavailable_loads += len(keys)
        async with self._limit(plan.region).without_backend:
            values = await self._call(LoadContext(keys, plan.ttl, plan.tags, None), plan)
        return {key: plan.enter(value) for key, value in values.items()}

    # -- calling

    async def _call(self, context: LoadContext, plan: LoadPlan) -> Mapping[str, Any]:
        """Run the loader within its hard deadline, and count how it went."""
        started = self._now()
        outcome: Outcome = "cancelled"
        counters = plan.counters
        counters.loads += 1
        try:
            values = await self._within_deadline(context, plan)
            outcome = "ok"
        except LoadTimeout:
            outcome = "timeout"
            counters.load_timeouts += 1
            raise
        except LoadCancelled:
            raise
        except Exception as error:
            outcome = "failed"
            counters.load_failures += 1
            self._remember_failure(context.keys, error, plan.region)
            raise
        finally:
            seconds = self._now() - started
            counters.load_seconds += seconds
            self._on_loaded(plan.region.name, context.keys, seconds, outcome)
        return values

    async def _within_deadline(self, context: LoadContext, plan: LoadPlan) -> Mapping[str, Any]:
        hard = plan.region.loads.hard_deadline
        task = self._spawn(plan.loader.call(context, self._limit(plan.region).threads))
        try:
            await asyncio.wait({task}, timeout=hard)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if not task.done():
            task.cancel()
            raise LoadTimeout(context.keys, float(hard or 0))
        if task.cancelled():
            raise LoadCancelled(context.keys)
        values: Mapping[str, Any] = task.result()
        return values

    def _remember_failure(
        self, keys: Sequence[str], error: Exception, region: RegionSettings
    ) -> None:
        window = region.loads.negative_ttl
        if not window:
            return
        while self._failures and len(self._failures) + len(keys) > _MAX_FAILURES:
            del self._failures[next(iter(self._failures))]
        for key in keys:
            self._failures[region.name, key] = (error, self._now() + window)

    def _limit(self, region: RegionSettings) -> _Limits:
        most = region.loads.max_concurrent_loads
        limit = self._limits.get(region.name)
        if limit is None or limit.most != most:
            limit = self._limits[region.name] = _Limits(most)
        return limit


def _refuse_cycle(target: _Flight) -> None:
    """Raise where ``target`` waits, directly or through others, for a load we are inside of."""
    chain = _CHAIN.get()
    seen: set[_Flight] = set()
    todo = [target] if chain else []
    while todo:
        flight = todo.pop()
        if flight in chain:
            raise ReentrantLoad([*[held.keys[0] for held in chain], target.keys[0]])
        if flight not in seen:
            seen.add(flight)
            todo += flight.waits_for
