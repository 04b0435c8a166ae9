"""What a flight does: claim its keys, call the loader, fill the claims, give them back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from ..backoff import Backoff
from ..claims import Claim
from ..errors import BackendUnavailable, CacheError, LoadCancelled, LoaderSuspended
from ..failpoints import FAILPOINTS, hit
from ..protocols import Backend, Put, Written
from ..traced import Tracing
from ..types import Record, Stale
from .calling import Calls
from .flight import CHAIN, Flight, LoadPlan, inside
from .loader import LoadContext
from .stale import last_values
from .tasks import Tasks

__all__ = ["Flying", "OnFailed", "OnStored"]

OnStored: TypeAlias = Callable[[str, Put, Written], None]
"""Told of each loaded value that was stored: region, change, outcome."""

OnFailed: TypeAlias = Callable[[LoadPlan, Sequence[str], Exception], None]
"""Told of a loader that raised while its claims on these keys lived."""

_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.1


class Flying:
    """How the flights of one cache are flown."""

    def __init__(
        self,
        backend: Backend,
        calls: Calls,
        tasks: Tasks,
        tracing: Tracing,
        on_stored: OnStored,
        on_failed: OnFailed,
    ) -> None:
        self.backend = backend
        self._calls = calls
        self._tasks = tasks
        self._tracing = tracing
        self._on_stored = on_stored
        self._on_failed = on_failed

    async def fly(self, flight: Flight, plan: LoadPlan) -> dict[str, object]:
        """Claim, load and fill until every key is there, by us or by another claimant.

        A flight that nobody waits for leaves to others what they are loading, and what could not
        be stored.
        """
        CHAIN.set((flight,) if flight.behind else (*inside(), flight))
        region, keys = flight.region, len(flight.keys)
        with self._tracing.load(region, keys, behind=flight.behind) as flight.span:
            return await self._fly(flight, plan)

    async def _fly(self, flight: Flight, plan: LoadPlan) -> dict[str, object]:
        backoff = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        pending = flight.keys
        found: dict[str, object] = {}
        while True:
            try:
                answers = await self._claim(flight, pending, plan)
            except BackendUnavailable as away:
                return found | await self._without_backend(away, flight, pending, plan)
            claims: dict[str, Claim] = {}
            busy: list[str] = []
            refused: list[tuple[Record, CacheError]] = []
            for key, answer in zip(pending, answers, strict=True):
                if answer is None:
                    busy.append(key)
                elif isinstance(answer, Record):
                    error = plan.refuses(answer)
                    if error is None:
                        found[key] = answer.value
                        flight.open.discard(key)
                    else:
                        refused.append((answer, error))
                else:
                    claims[key] = answer
            if claims:
                flight.claims.update(claims)
                found |= await self._load_claimed(flight, claims, plan)
                flight.open.difference_update(claims)
            for record, error in refused:
                await plan.remove(record, error)
                busy.append(record.key)
            if not busy or flight.unattended:
                return found
            await asyncio.sleep(backoff.pause())
            pending = busy

    # -- claims

    async def _claim(
        self, flight: Flight, keys: Sequence[str], plan: LoadPlan
    ) -> list[Record | Claim | None]:
        """Ask the backend for claims. A cancelled call gives back what it gets after all."""
        region = plan.region
        asked = self.backend.claim(region.name, keys, plan.tags, region.loads.lease)
        if "immediate" in self.backend.capabilities:
            return await asked
        flight.claiming = asyncio.Event()
        task = self._tasks.spawn(asked)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._tasks.spawn(self._give_back(region.name, task))
            raise
        finally:
            flight.claiming.set()
            flight.claiming = None

    async def _give_back(
        self, region: str, task: asyncio.Task[list[Record | Claim | None]]
    ) -> None:
        await asyncio.wait({task})
        if not task.cancelled() and task.exception() is None:
            claims = [answer for answer in task.result() if isinstance(answer, Claim)]
            await self._release(region, claims)

    async def _release(self, region: str, claims: Sequence[Claim]) -> None:
        held = [claim for claim in claims if not claim.dropped]
        if not held:
            return
        try:
            await self.backend.release(region, held)
        except BackendUnavailable:
            return  # their lease ends them

    # -- loading

    async def _load_claimed(
        self, flight: Flight, claims: dict[str, Claim], plan: LoadPlan
    ) -> dict[str, object]:
        keys, held = list(claims), list(claims.values())
        try:
            context = LoadContext(keys, plan.ttl, plan.tags, await self._stale(keys, plan))
            values = await self._call(flight, context, claims, plan)
            depends_on = plan.tags
            if context.tags != plan.tags and await self._extend(context, held, plan):
                depends_on = context.tags
                context = LoadContext(keys, plan.ttl, depends_on, context.stale)
                values = await self._call(flight, context, claims, plan)
            flight.private = context.tags != depends_on
            entered = {key: plan.enter(value) for key, value in values.items()}
            if FAILPOINTS:
                await hit("after-load-before-fill")
            if not flight.private and not context.skipped:
                await self._fill(claims, entered, context, plan)
            return entered
        finally:
            await self._release(plan.region.name, held)

    async def _call(
        self, flight: Flight, context: LoadContext, claims: Mapping[str, Claim], plan: LoadPlan
    ) -> Mapping[str, Any]:
        try:
            return await self._calls.call(context, plan)
        except (LoadCancelled, LoaderSuspended) as error:
            flight.failure = error
            raise
        except Exception as error:
            flight.failure = error
            still = [key for key, claim in claims.items() if claim.live()]
            self._on_failed(plan, still, error)
            raise

    async def _extend(self, context: LoadContext, claims: Sequence[Claim], plan: LoadPlan) -> bool:
        """Let the claims depend on tags learnt while loading, so that loading once more is safe."""
        try:
            await self.backend.extend(plan.region.name, claims, context.tags[len(plan.tags) :])
        except BackendUnavailable:
            return False
        return True

    async def _stale(self, keys: Sequence[str], plan: LoadPlan) -> Stale[Any] | None:
        if plan.region.grace <= 0 or len(keys) > 1:
            return None
        try:
            [record] = await self.backend.peek(plan.region.name, keys, stale=True)
        except BackendUnavailable:
            return None
        if record is None or not record.stale or plan.refuses(record) is not None:
            return None
        return record.as_stale(plan.leave(record.key, record.value))

    async def _fill(
        self,
        claims: Mapping[str, Claim],
        values: Mapping[str, object],
        context: LoadContext,
        plan: LoadPlan,
    ) -> None:
        fills = [
            (claims[key], Put(key, value, plan.store_ttl(context.ttl), context.tags))
            for key, value in values.items()
        ]
        try:
            outcomes = await self.backend.fill(plan.region.name, fills)
        except BackendUnavailable:
            plan.counters.lost_fills += len(fills)
            return
        for (_, put), outcome in zip(fills, outcomes, strict=True):
            if isinstance(outcome, Exception) or not outcome.applied:
                plan.counters.lost_fills += 1
            else:
                self._on_stored(plan.region.name, put, outcome)

    # -- without the backend

    async def _without_backend(
        self, away: BackendUnavailable, flight: Flight, keys: Sequence[str], plan: LoadPlan
    ) -> dict[str, object]:
        """What this process last knew, where the region may give it. For the rest as the region
        says: raise ``away``, or fail open: load, and store nothing.
        """
        if flight.unattended:
            return {}
        known = last_values(self.backend, keys, plan)
        keys = [key for key in keys if key not in known]
        if not keys:
            return known
        if plan.region.on_unavailable == "raise":
            raise away
        plan.counters.unavailable_loads += len(keys)
        context = LoadContext(keys, plan.ttl, plan.tags, None)
        try:
            values = await self._calls.call_without_backend(context, plan)
        except (LoadCancelled, LoaderSuspended) as failure:
            flight.failure = failure
            raise
        except Exception as failure:
            flight.failure = failure
            self._on_failed(plan, keys, failure)
            raise
        return known | {key: plan.enter(value) for key, value in values.items()}
