"""One region's calls to the backend: started first, failures in one place, events told.

The faces check arguments and shape results; what lies between them and the backend is here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import UnsetType

from .batch import BatchSet
from .errors import BackendUnavailable, BatchError, CacheError, InvalidArgument
from .events import Cleared, EntryDeleted, EntrySet, Invalidated, TagInvalidated
from .loading import BlockingRunner, Loader, LoadPlan
from .options import TTL, GetOptions, SetOptions, resolve_tags, resolve_ttl
from .protocols import Change, Check, Drop, Put, Touch, Written
from .runtime import RegionState, Runtime
from .table import When
from .types import Missing, Record, RemovalCause

__all__ = ["Access"]


class Access:
    """The calls of one region."""

    def __init__(self, runtime: Runtime, state: RegionState) -> None:
        self.runtime = runtime
        self.state = state
        self.region = state.settings.name

    # -- reading

    async def read(self, keys: Sequence[str], options: GetOptions | None) -> dict[str, Record]:
        """The records found, by key; none where the backend is away and the region says so."""
        try:
            await self.runtime.ready()
            records = await self.runtime.backend.read(
                self.region,
                keys,
                stale=options is not None and options.allow_stale,
                consistent=options is not None and options.consistent,
            )
        except BackendUnavailable:
            if self.state.settings.on_unavailable == "miss":
                return {}
            raise
        return {record.key: record for record in records if record is not None}

    async def exists(self, key: str) -> bool:
        """Whether a live entry is under ``key``."""
        try:
            await self.runtime.ready()
            [record] = await self.runtime.backend.peek(self.region, [key])
        except BackendUnavailable:
            if self.state.settings.on_unavailable == "miss":
                return False
            raise
        return record is not None

    async def load(
        self,
        keys: list[str],
        loader: Loader,
        ttl: TTL | UnsetType,
        tags: Iterable[str],
        runner: BlockingRunner | None = None,
    ) -> dict[str, Any]:
        """The values of ``keys``, as stored, the missing ones loaded."""
        state = self.state
        plan = LoadPlan(
            region=state.settings,
            counters=state.loads,
            loader=loader,
            ttl=resolve_ttl(ttl, state.settings.ttl),
            tags=resolve_tags(tags),
            store_ttl=state.store_ttl,
            enter=state.entered,
            leave=state.left,
            runner=runner,
        )
        try:
            records = await self.read(keys, None)
        except BackendUnavailable:
            if state.settings.on_unavailable == "raise":
                raise
            records = {}
        values = {key: record.value for key, record in records.items()}
        missing = [key for key in keys if key not in values]
        return values | await self.runtime.loads.load(missing, plan) if missing else values

    # -- writing

    def change(self, change: BatchSet) -> Put | Drop:
        """What a collected change comes to."""
        if change.options is None:
            return Drop(change.key)
        return self.put(change.key, change.value, change.options)

    def put(self, key: str, value: object, options: SetOptions) -> Put:
        """The change that stores ``value``."""
        if isinstance(value, Missing):
            raise InvalidArgument(f"MISSING can't be stored under {key!r}: it means absence")
        state = self.state
        ttl = state.store_ttl(resolve_ttl(options.ttl, state.settings.ttl))
        when: When = "absent" if options.nx else "present" if options.xx else "always"
        return Put(key, state.entered(value), ttl, options.tags, when, options.keep_ttl)

    async def write(self, changes: Sequence[Change]) -> list[Written]:
        """Make the changes. Raises the error of an only change, else :class:`BatchError`."""
        await self.runtime.ready()
        write = self.runtime.backend.write
        if not self.runtime.events.active:
            return self._results(changes, await write(self.region, changes))
        with self.runtime.telling():
            return self._results(changes, await write(self.region, changes))

    def _results(
        self, changes: Sequence[Change], outcomes: Sequence[Written | CacheError]
    ) -> list[Written]:
        done: list[Written] = []
        failed: dict[str, Exception] = {}
        for change, outcome in zip(changes, outcomes, strict=True):
            if isinstance(outcome, CacheError):
                failed[change.key] = outcome
            else:
                done.append(outcome)
                self._made(change, outcome)
        if not failed:
            return done
        if len(changes) == 1:
            raise failed[changes[0].key]
        raise BatchError(
            {
                change.key: outcome.applied
                for change, outcome in zip(changes, outcomes, strict=True)
                if isinstance(outcome, Written)
            },
            failed,
        )

    async def commit(self, checks: Sequence[Check], changes: Sequence[Put | Drop]) -> bool:
        """Make all changes if all checks hold."""
        await self.runtime.ready()
        with self.runtime.telling():
            committed = await self.runtime.backend.commit(self.region, checks, changes)
            if committed is None:
                return False
            for change, outcome in zip(changes, committed.outcomes, strict=True):
                self._made(change, outcome)
        return True

    async def clear(self, regions: Sequence[str]) -> int:
        """Remove every entry of ``regions``."""
        await self.runtime.ready()
        count = await self.runtime.backend.clear(regions)
        self.runtime.forget_all()
        for region in regions:
            self.runtime.publish(Cleared, region=region)
        return count

    async def invalidate_tag(self, tag: str) -> int:
        """End the present state of ``tag``."""
        await self.runtime.ready()
        count = await self.runtime.backend.invalidate_tags([tag])
        self.runtime.forget_all()
        self.runtime.publish(TagInvalidated, tag=tag, entries=count)
        return count

    def _made(self, change: Change, outcome: Written) -> None:
        """A change was made: its key's negative window ends, and listeners are told."""
        runtime, region, key = self.runtime, self.region, change.key
        runtime.forget(region, key)
        if not runtime.events.active:
            return
        if isinstance(change, Drop):
            if change.cause is RemovalCause.INVALIDATED:
                runtime.publish(Invalidated, region=region, key=key)
            elif outcome.applied:
                runtime.publish(EntryDeleted, region=region, key=key)
        elif outcome.applied and not isinstance(change, Touch):
            tags = change.tags if isinstance(change, Put) else ()
            version = outcome.version
            runtime.publish(EntrySet, region=region, key=key, version=version, tags=tags)
