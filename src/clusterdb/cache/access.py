"""One region's calls to the backend: started first, failures in one place, events told.

The faces check arguments and shape results; what lies between them and the backend is here.
"""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from .batch import BatchSet
from .codec import TYPED
from .decoding import Decoding
from .errors import (
    BackendUnavailable,
    BatchError,
    CacheError,
    InvalidArgument,
    TypeMismatch,
    TypeRequired,
    Undecodable,
)
from .events import Cleared, EntryDeleted, EntrySet, Invalidated, TagInvalidated
from .loading import BlockingRunner, Loader, LoadPlan, known_lately, returned_type
from .options import TTL, GetOptions, SetOptions, resolve_tags, resolve_ttl
from .protocols import Change, Check, Drop, Put, Touch, Written
from .runtime import RegionState, Runtime
from .table import When
from .types import MISSING, Record, RemovalCause, Version

__all__ = ["Access"]


class Access:
    """The calls of one face of a region; ``type`` is what all its values are, if that was said."""

    def __init__(self, runtime: Runtime, state: RegionState, type: Any = None) -> None:
        self.runtime = runtime
        self.state = state
        self.region = state.settings.name
        self._decoding = Decoding(runtime, state)
        self._of_region = type

    @property
    def encodes(self) -> bool:
        """Whether values become bytes on their way to the backend."""
        return self.state.codec is not None

    # -- reading

    async def get(self, key: str, options: GetOptions | None, type: Any = None) -> Any:
        """The value that :meth:`read` gives for one key, else ``MISSING``."""
        if options is not None or self.state.codec is None or self.runtime.waiting:
            record = (await self.read([key], options, type, brief=True)).get(key)
            return MISSING if record is None else record.value
        try:
            if self.runtime.home is not _loop():
                await self.runtime.ready()
            [record] = await self.runtime.backend.read(self.region, [key], brief=True)
        except BackendUnavailable:
            if self.state.settings.on_unavailable == "miss":
                return MISSING
            raise
        if record is None:
            return MISSING
        wanted = self._of_region if type is None else type
        try:
            value = self._decoding.value(record, wanted)
        except (TypeMismatch, Undecodable):
            value = MISSING
        if value is not MISSING:
            return value
        found = await self._decoded([replace(record, near=None)], None, wanted, loading=False)
        return found[key].value if key in found else MISSING

    async def read(
        self,
        keys: Sequence[str],
        options: GetOptions | None,
        type: Any = None,
        *,
        brief: bool = False,
    ) -> dict[str, Record]:
        """The records found, by key; none where the backend is away and the region says so.

        Values are as they are stored; those of a backend that encodes are decoded as ``type``, or
        as the region's type. ``brief``: see :meth:`Backend.read`.
        """
        records = await self._records(keys, options, brief=brief)
        if self.state.codec is None:
            return {record.key: record for record in records}
        return await self._decoded(records, options, self._wanted(type), loading=False)

    async def _decoded(
        self,
        records: Sequence[Record],
        options: GetOptions | None,
        wanted: Any,
        *,
        loading: bool,
    ) -> dict[str, Record]:
        found, again = await self._decoding.open(records, wanted, loading=loading)
        if not again:
            return found
        stale = options is not None and options.allow_stale
        past = await self._records(again, GetOptions(consistent=True, allow_stale=stale))
        found |= (await self._decoding.open(past, wanted, loading=loading))[0]
        return {record.key: found[record.key] for record in records if record.key in found}

    async def matching(self, values: Mapping[str, object]) -> dict[str, Version] | None:
        """The version at which each key holds its value, of the same type and ``==``; ``None``
        where one does not.
        """
        records = await self._records(list(values), GetOptions(consistent=True), brief=True)
        self._decoding.release(records)
        found = {record.key: record for record in records}
        for key, value in values.items():
            if key not in found or not self._holds(found[key], value):
                return None
        return {key: record.version for key, record in found.items()}

    def _holds(self, record: Record, value: object) -> bool:
        if self.state.codec is not None:
            return self._decoding.holds(record, value, self._of_region)
        held: Any = self.state.left(record.key, record.value)
        return type(held) is type(value) and held == value

    async def _records(
        self, keys: Sequence[str], options: GetOptions | None, *, brief: bool = False
    ) -> list[Record]:
        """What the backend gave."""
        try:
            await self.runtime.ready()
            if self.runtime.waiting:
                keys = await self.runtime.waiting.readable(self.region, keys)
            records = await self.runtime.backend.read(
                self.region,
                keys,
                stale=options is not None and options.allow_stale,
                consistent=options is not None and options.consistent,
                brief=brief,
            )
        except BackendUnavailable:
            known = self._last_known(keys, options)
            if len(known) == len(keys) or self.state.settings.on_unavailable == "miss":
                return known
            raise
        return [record for record in records if record is not None]

    def _last_known(self, keys: Sequence[str], options: GetOptions | None) -> list[Record]:
        """While the backend is away: what a read may take that allows what is stale, counted."""
        if options is None or options.consistent or not options.allow_stale:
            return []
        window = self.state.settings.loads.stale_if_error
        known = known_lately(self.runtime.backend, self.region, keys, window)
        self.state.loads.stale_on_outage += len(known)
        return known

    async def exists(self, key: str) -> bool:
        """Whether a live entry is under ``key``."""
        try:
            await self.runtime.ready()
            waiting = self.runtime.waiting
            if waiting and not await waiting.readable(self.region, [key]):
                return False
            [record] = await self.runtime.backend.peek(self.region, [key])
        except BackendUnavailable:
            if self.state.settings.on_unavailable == "miss":
                return False
            raise
        if record is None or self.state.codec is None:
            return record is not None
        return await self._decoding.exists(record, self._of_region)

    # -- loading

    async def load(
        self,
        keys: list[str],
        loader: Loader,
        ttl: TTL | UnsetType,
        tags: Iterable[str],
        runner: BlockingRunner | None = None,
        type: Any = None,
    ) -> dict[str, Any]:
        """The values of ``keys``, the missing ones loaded, as :meth:`read` gives them. A value of
        a backend that encodes may also have the type that the loader is annotated with.
        """
        state, encodes = self.state, self.encodes
        wanted = self._wanted(type) if encodes else None
        if encodes and wanted is None:
            wanted = loader.returns
        plan = LoadPlan(
            region=state.settings,
            counters=state.loads,
            pace=state.pace,
            circuit=state.circuit,
            loader=loader,
            ttl=resolve_ttl(ttl, state.settings.ttl),
            tags=resolve_tags(tags),
            store_ttl=state.store_ttl,
            enter=_entering(state, loader, wanted) if encodes else state.entered,
            leave=partial(self._decoding.leave, wanted=wanted) if encodes else state.left,
            unreadable=partial(self._decoding.unreadable, wanted=wanted) if encodes else None,
            remove=self._decoding.remove,
            runner=runner,
        )
        known: dict[str, object] = {}
        try:
            records = await self._records(keys, None, brief=not state.pace.horizon)
            if encodes:
                found = await self._decoded(records, None, wanted, loading=True)
                records = list(found.values())
        except BackendUnavailable:
            known = self.runtime.loads.last_values(keys, plan)
            if state.settings.on_unavailable == "raise" and len(known) < len(keys):
                raise
            records = []
        if state.pace.horizon:
            self.runtime.loads.refresh_ahead(records, plan)
        values = {record.key: record.value for record in records}
        missing = [key for key in keys if key not in values and key not in known]
        if not missing and not known:
            return values
        if self.runtime.waiting:
            await self.runtime.waiting.settle(self.region, missing)
        loaded = known | (await self.runtime.loads.load(missing, plan) if missing else {})
        if encodes:
            loaded = {
                key: self._decoding.leave(key, stored, wanted) for key, stored in loaded.items()
            }
        return values | loaded

    def returned(self, function: Callable[..., Any], *, many: bool) -> Any:
        """The type that a decorated function's results are stored as, where bytes are stored and
        the region does not say it; else ``None``.
        """
        known = not self.encodes or self._of_region is not None
        return None if known else returned_type(function, many=many)

    def _wanted(self, type: Any) -> Any:
        """The call's type, else the region's."""
        return self._of_region if type is None else type

    # -- writing

    def change(self, change: BatchSet) -> Put | Drop:
        """What a collected change comes to."""
        if change.options is None:
            return Drop(change.key)
        return self.put(change.key, change.value, change.options)

    def put(self, key: str, value: object, options: SetOptions) -> Put:
        """The change that stores ``value``."""
        if value is MISSING:
            raise InvalidArgument(f"MISSING can't be stored under {key!r}: it means absence")
        state = self.state
        settings, codec = state.settings, state.codec
        ttl = resolve_ttl(options.ttl, settings.ttl)
        ttl = state.store_ttl(ttl) if settings.ttl_jitter else ttl
        when: When = "absent" if options.nx else "present" if options.xx else "always"
        stored = state.entered(value) if codec is None else codec.encode(value)
        return Put(key, stored, ttl, options.tags, when, options.keep_ttl, options.ttl is UNSET)

    async def write_one(self, change: Change) -> Written:
        """Make one change. Raises its error."""
        runtime = self.runtime
        if runtime.home is not _loop():
            await runtime.ready()
        if runtime.events.active or runtime.waiting:
            [written] = await self.write([change])
            return written
        [outcome] = await runtime.backend.write(self.region, [change])
        if isinstance(outcome, CacheError):
            raise outcome
        self.made(change, outcome)
        return outcome

    async def write(self, changes: Sequence[Change]) -> list[Written]:
        """Make the changes. Raises the error of an only change, else :class:`BatchError`."""
        await self.runtime.ready()
        if self.runtime.waiting:
            await self.runtime.waiting.settle(self.region, [change.key for change in changes])
        write = self.runtime.backend.write
        if not self.runtime.events.active:
            return self._results(changes, await write(self.region, changes))
        with self.runtime.departures.telling():
            return self._results(changes, await write(self.region, changes))

    async def invalidate(self, keys: Sequence[str]) -> int:
        """Invalidate keys as the strategy says; of how many a copy was there, and where nobody
        looked how many they are.
        """
        await self.runtime.ready()
        waiting = self.runtime.waiting
        if waiting.strategy == "immediate":
            drops = [Drop(key, RemovalCause.INVALIDATED) for key in keys]
            return sum([written.applied for written in await self.write(drops)])
        await waiting.add(self.region, keys)
        self.runtime.backend.drop_near(self.region, keys)
        return len(keys)

    async def drop(self, keys: Sequence[str]) -> int:
        """Invalidate keys without telling of each; how many entries were there."""
        drops = [Drop(key, RemovalCause.INVALIDATED) for key in keys]
        outcomes = await self.runtime.backend.write(self.region, drops) if drops else []
        failed = [outcome for outcome in outcomes if isinstance(outcome, CacheError)]
        if failed:
            raise failed[0]
        return sum([outcome.applied for outcome in outcomes if isinstance(outcome, Written)])

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
                self.made(change, outcome)
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
        if self.runtime.waiting:
            keys = [*[key for key, _ in checks], *[change.key for change in changes]]
            await self.runtime.waiting.settle(self.region, keys)
        with self.runtime.departures.telling():
            committed = await self.runtime.backend.commit(self.region, checks, changes)
            if committed is None:
                return False
            for change, outcome in zip(changes, committed.outcomes, strict=True):
                self.made(change, outcome)
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

    def made(self, change: Change, outcome: Written) -> None:
        """A change was made: its key's negative window ends, and listeners are told."""
        runtime, region, key = self.runtime, self.region, change.key
        runtime.forget(region, key)
        if not runtime.events.active:
            return
        if isinstance(change, Drop):
            if change.cause is RemovalCause.INVALIDATED:
                version = runtime.exchange.version()
                runtime.publish(Invalidated, region=region, key=key, version=version)
            elif outcome.applied:
                version = runtime.exchange.version()
                runtime.publish(EntryDeleted, region=region, key=key, version=version)
        elif outcome.applied and not isinstance(change, Touch):
            tags = change.tags if isinstance(change, Put) else ()
            version = outcome.version
            runtime.publish(EntrySet, region=region, key=key, version=version, tags=tags)


def _loop() -> object:
    """The running loop; ``MISSING`` where there is none, which is nobody's home."""
    try:
        return get_running_loop()
    except RuntimeError:
        return MISSING


def _entering(state: RegionState, loader: Loader, wanted: Any) -> Callable[[object], object]:
    """Encodes what was loaded, and refuses what nobody could read back: the next call would be
    a hit, and fail.
    """

    def enter(value: object) -> object:
        encoded: Any = state.entered(value)
        if encoded.flags & TYPED and wanted is None:
            raise TypeRequired(
                f"{loader.name} gave a {type(value).__qualname__}, whose type can't be told "
                f"from its bytes when it is read back: annotate what {loader.name} returns, "
                f"pass type=, or give the region a type, region({state.settings.name!r}, type=...)"
            )
        return encoded

    return enter
