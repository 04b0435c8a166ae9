"""Refreshing ahead: a live entry is loaded again shortly before it expires, by one for all.

Which hit begins it is drawn (:mod:`clusterdb.cache.pace`). A claim can't be used as for a missing
key: it stands where the entry does, and the entry shall go on answering. Instead:

1. *one refresher*: a claim on a key beside the entry's own, which holds nothing ever. It is kept
   alive, lapses and is given back like any other, so it holds between processes too;
2. *the entry is looked at again*: another may have refreshed it just before;
3. *the loader runs*, with its deadlines and limits;
4. *the value is committed on condition that the entry is still at the version that was looked at*.

Whatever happens to the key meanwhile (set, delete, invalidation of it or of a tag it has, clear,
expiry) changes or ends that version, and the refresh loses, as a fill does. A tag that the entry
did not have is no part of that condition, and may have been invalidated meanwhile: a value that
needs one is not stored, and the entry expires as if nobody had looked ahead.

A version is tried once in a process: a loader that fails is not asked again by each hit.

Rejected: a claim that wraps the live entry. Every reader would have to look through it, and every
near tier would be told of it twice.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

from ..claims import Claim
from ..errors import BackendUnavailable, CacheError
from ..failpoints import FAILPOINTS, hit
from ..protocols import Backend, Put
from ..traced import Tracing
from ..types import Record, Version
from .behind import Behind
from .calling import Calls
from .flight import CHAIN, LoadPlan
from .flying import OnStored
from .loader import LoadContext
from .tasks import Tasks

__all__ = ["Ahead"]

_BESIDE: Final = "\0refresh"
_MAX_TRIED: Final = 10_000
_PRUNE: Final = 1_000


class Ahead:
    """What one cache refreshes ahead."""

    def __init__(
        self,
        backend: Backend,
        calls: Calls,
        tasks: Tasks,
        behind: Behind,
        tracing: Tracing,
        on_stored: OnStored,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.backend = backend
        self._calls = calls
        self._tasks = tasks
        self._behind = behind
        self._tracing = tracing
        self._on_stored = on_stored
        self._draw = draw
        self._tried: dict[tuple[str, str], Version] = {}

    def consider(self, records: Sequence[Record], plan: LoadPlan) -> None:
        """These were hits: begin to load again those that are due."""
        region, due = plan.region, {}
        for record in records:
            left = record.expires_in
            if left is not None and plan.pace.due(left, self._draw()):
                place = region.name, record.key
                if self._tried.get(place) != record.version:
                    due[record.key] = record
        if due and self._behind.admits(region):
            self._remember(region.name, due.values())
            self._behind.began(region, self._tasks.spawn(self._refresh(due, plan)))

    def _remember(self, region: str, records: Iterable[Record]) -> None:
        if len(self._tried) > _MAX_TRIED:
            for oldest in list(islice(self._tried, _PRUNE)):
                del self._tried[oldest]
        for record in records:
            self._tried[region, record.key] = record.version

    async def _refresh(self, due: dict[str, Record], plan: LoadPlan) -> None:
        CHAIN.set(())
        with self._tracing.load(plan.region.name, len(due), behind=True):
            await self._claimed(due, plan)

    async def _claimed(self, due: dict[str, Record], plan: LoadPlan) -> None:
        """Load those that nobody else is refreshing."""
        name, lease = plan.region.name, plan.region.loads.lease
        try:
            answers = await self.backend.claim(name, [key + _BESIDE for key in due], (), lease)
        except BackendUnavailable:
            return
        claims = [answer for answer in answers if isinstance(answer, Claim)]
        try:
            ours = [key for key in due if key + _BESIDE in {claim.key for claim in claims}]
            await self._load([due[key] for key in ours], plan)
        finally:
            await self._give_back(name, claims)

    async def _load(self, seen: Sequence[Record], plan: LoadPlan) -> None:
        region = plan.region.name
        try:
            present = await self.backend.peek(region, [record.key for record in seen])
        except BackendUnavailable:
            return
        still = {
            record.key: record
            for record, now in zip(seen, present, strict=True)
            if now is not None and now.version == record.version
        }
        if not still:
            return
        context = LoadContext(list(still), plan.ttl, plan.tags, None)
        values = await self._calls.call(context, plan)
        if FAILPOINTS:
            await hit("after-load-before-fill")
        if context.skipped:
            return
        for key, value in values.items():
            stored = plan.enter(value)
            put = Put(key, stored, plan.store_ttl(context.ttl), context.tags)
            if not set(context.tags) <= set(still[key].tags) or not await self._commit(
                region, put, still[key].version
            ):
                plan.counters.lost_fills += 1
            else:
                plan.counters.refreshes += 1

    async def _commit(self, region: str, put: Put, version: Version) -> bool:
        try:
            committed = await self.backend.commit(region, [(put.key, version)], [put])
        except CacheError:  # away, or the value is too large: counted as not stored
            return False
        if committed is None:
            return False
        self._on_stored(region, put, committed.outcomes[0])
        return True

    async def _give_back(self, region: str, claims: Sequence[Claim]) -> None:
        held = [claim for claim in claims if not claim.dropped]
        if held:
            try:
                await self.backend.release(region, held)
            except BackendUnavailable:
                return  # their lease ends them
