"""The embedded default: entries in this process, as objects, in one table a region.

No call here waits, so each is atomic in its event loop; the tables' lock makes it safe from
threads too. The only background work is the sweeper, which once a second gives back the memory
of entries that expired or whose tags ended.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from typing import ClassVar, Final, Literal

from msgspec.structs import replace

from ..claims import Claim
from ..clock import Clock
from ..codec import RegionCodec, bounded, region_codec
from ..config import SerializationConfig
from ..errors import CacheError, TypeMismatch
from ..guard import Guard, TableLock
from ..isolation import plain
from ..keys import matcher
from ..policy import POLICIES, Gate
from ..protocols import (
    Add,
    BackendInfo,
    Capability,
    Change,
    Check,
    Committed,
    Drop,
    Exported,
    Follower,
    NotExported,
    Observer,
    Overwrite,
    Put,
    RegionInfo,
    Written,
)
from ..residents import Residents
from ..settings import RegionSettings
from ..shares import Shares
from ..table import Table
from ..tags import TagStates
from ..types import FOREVER, Record, Version
from ..versions import above, first_version
from .moving import Restoring, export_table
from .pressure import Pressure
from .restoring import ALL, check_part, highest
from .tidying import MemoryUpkeep
from .weighing import sound, weight_of, weights_in, weights_of

__all__ = ["MemoryBackend"]

_SWEEP_EVERY: Final = 1.0
_SWEEP_BATCH: Final = 1000
_THOROUGH_EVERY: Final = 60


class MemoryBackend:
    """A cache in the memory of this process."""

    kind: ClassVar[str] = "memory"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {"objects", "atomic", "near", "immediate"}
    )

    def __init__(self, clock: Clock, budget: int | None = None, total: int | None = None) -> None:
        self.pressure = None if budget is None else Pressure(int(budget))
        self.shares = None if total is None else Shares(int(total))
        self._now = clock.now
        self._lock = TableLock()
        self._guard = Guard(self._lock)
        self._tags = TagStates()
        self._versions: Iterator[Version] = count(first_version(clock.wall()))
        self._dated = False
        self._tables: dict[str, Table] = {}
        self._settings: dict[str, RegionSettings] = {}
        self._observer: Observer | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self.upkeep = MemoryUpkeep(weakref.proxy(self))

    # -- life

    async def open(self) -> None:
        for table in self._tables.values():
            table.release(None)
        self._sweeper = asyncio.create_task(
            _sweep(weakref.ref(self)), name="clusterdb-cache-sweeper"
        )

    async def aclose(self) -> None:
        sweeper, self._sweeper = self._sweeper, None
        if sweeper is not None and not sweeper.get_loop().is_closed():
            sweeper.cancel()
            await asyncio.wait({sweeper})

    @property
    def inline(self) -> bool:
        return True

    def configure(self, regions: Mapping[str, RegionSettings]) -> None:
        changed = {
            name: settings
            for name, settings in regions.items()
            if self._settings.get(name) != settings
        }
        # All weights first: a user's weigher may raise, and then nothing has changed.
        now, tables = self._now(), self._tables
        weights = {name: weights_in(tables.get(name), changed[name], now) for name in changed}
        known = {**self._settings, **changed}
        limits = {name: settings.max_weight for name, settings in known.items()}
        if self.shares is not None:
            limits |= self.shares.arrange(limits, self._tables)
        for name, settings in changed.items():
            table = self._tables.get(name)
            if table is None:
                table = self._tables[name] = self._make_table(settings)
            self._settings[name] = settings
            table.within(partial(_reweigh, weights=weights[name]))
            table.configure(
                POLICIES[settings.policy](),
                settings.max_items,
                limits[name],
                settings.grace,
                settings.admission.max_entry_size,
                _gate(settings, self._now()),
            )

    def table(self, region: str) -> Table | None:
        return self._tables[region]

    def observe(self, observer: Observer | None) -> None:
        self._observer = observer
        for table in self._tables.values():
            table.record_removals(observer is not None)

    def order(self, versions: Iterator[Version]) -> bool:
        self._dated = True
        self._draw(versions)
        return True

    def _draw(self, versions: Iterator[Version]) -> None:
        self._versions = versions
        for table in self._tables.values():
            table.versions = versions

    def follow(self, follower: Follower | None) -> None:
        del follower  # there are no other processes

    def fork(self, moment: Literal["before", "parent", "child"]) -> None:
        if moment == "before":
            self._lock.acquire()
        elif moment == "parent":
            self._lock.release()
        else:
            self._lock, self._sweeper = TableLock(), None
            self._guard.lock = self._lock
            for table in self._tables.values():
                table.forked(self._lock)

    def sweep(self, *, thorough: bool = False) -> int:
        """Give back the memory of some expired and dead entries; how many it was."""
        given = 0
        if self.shares is not None:
            self.shares.settle(self._tables, _SWEEP_BATCH)
        for name, table in list(self._tables.items()):
            given += table.sweep(self._now(), _SWEEP_BATCH, thorough=thorough)
            self._report(name, table)
        return given

    def relieve(self) -> None:
        """Keep to the memory budget, and share the total, if there is one."""
        if self.shares is not None:
            self.shares.look(self._tables, self._now())
        if self.pressure is not None:
            self.pressure.apply(list(self._tables.values()))
            for name, table in list(self._tables.items()):
                self._report(name, table)

    @property
    def sweeping(self) -> bool:
        """Whether a look for dead entries, or a move of shares, is under way."""
        moving = self.shares is not None and self.shares.moving
        return moving or any(table.sweeping for table in list(self._tables.values()))

    # -- entries

    async def read(
        self,
        region: str,
        keys: Sequence[str],
        *,
        stale: bool = False,
        consistent: bool = False,
        brief: bool = False,
    ) -> list[Record | None]:
        del consistent, brief  # every read is consistent, and it costs nothing to say all
        table, now = self._tables[region], self._now()
        records = [table.read(key, now, stale) for key in keys]
        self._report(region, table)
        return records

    async def peek(
        self, region: str, keys: Sequence[str], *, stale: bool = False
    ) -> list[Record | None]:
        table, now = self._tables[region], self._now()
        return [table.peek(key, now, stale) for key in keys]

    def last_known(self, region: str, keys: Sequence[str]) -> list[Record | None]:
        table, now = self._tables[region], self._now()
        return [table.peek(key, now, True) for key in keys]

    def keep(self, region: str, record: Record, value: object) -> None:
        """Nothing is nearer than here."""

    def drop_near(self, region: str, keys: Sequence[str]) -> None:
        """Nothing is nearer than here."""

    async def write(self, region: str, changes: Sequence[Change]) -> list[Written | CacheError]:
        table, now = self._tables[region], self._now()
        weights = weights_of(self._settings[region], changes)
        outcomes: list[Written | CacheError] = []
        for change, weight in zip(changes, weights, strict=True):
            try:
                outcomes.append(self._apply(region, change, sound(weight), now))
            except CacheError as error:
                outcomes.append(error)
        self._report(region, table)
        return outcomes

    async def commit(
        self, region: str, checks: Sequence[Check], changes: Sequence[Put | Drop]
    ) -> Committed | None:
        table, now = self._tables[region], self._now()
        weights = weights_of(self._settings[region], changes)
        puts = [
            (change.key, change.value, _deadline(now, change.ttl), sound(weight), change.tags)
            for change, weight in zip(changes, weights, strict=True)
            if isinstance(change, Put)
        ]
        drops = [change.key for change in changes if isinstance(change, Drop)]
        done = table.commit(checks, puts, drops, now)
        self._report(region, table)
        if done is None:
            return None
        return Committed(
            tuple([Written(change.key in done, done.get(change.key, 0)) for change in changes])
        )

    async def invalidate_tags(self, tags: Sequence[str]) -> int:
        with self._guard:
            return sum([self._tags.invalidate(tag) for tag in tags])

    async def scan(
        self, region: str, glob: str, batch_size: int, *, dead: bool = False
    ) -> AsyncGenerator[list[str], None]:
        table, matches = self._tables[region], matcher(glob)
        keys = list(dict.fromkeys(table.keys(claimed=dead)))
        for start in range(0, len(keys), batch_size):
            now = self._now()
            yield [
                key
                for key in keys[start : start + batch_size]
                if matches(key) and (dead or table.peek(key, now) is not None)
            ]
            await asyncio.sleep(0)

    def parts(self, region: str) -> list[str]:
        del region
        return [ALL]

    def export(
        self,
        region: str,
        *,
        part: str | None = None,
        glob: str = "*",
        batch_size: int = 1000,
        values: bool = True,
    ) -> AsyncGenerator[list[Exported | NotExported], None]:
        check_part(part)
        table, codec = self._tables[region], self._codec(region)
        return export_table(table, codec, self._now, glob, batch_size, values)

    async def restore(
        self, region: str, entries: Sequence[Exported], *, overwrite: Overwrite = "older"
    ) -> list[Written | CacheError]:
        table, settings, codec = self._tables[region], self._settings[region], self._codec(region)
        with self._guard:
            self._draw(above(self._versions, highest(entries)))
        keeps = "objects" in self.capabilities and settings.mode is None
        restoring = Restoring(table, settings, codec, keeps, overwrite, self._now())
        outcomes = [restoring.restored(entry, self._versions) for entry in entries]
        self._report(region, table)
        return outcomes

    async def clear(self, regions: Sequence[str]) -> int:
        return sum([self._tables[region].clear() for region in regions])

    async def describe(self) -> BackendInfo:
        regions: dict[str, RegionInfo] = {}
        for name, table in self._tables.items():
            counters = replace(table.counters)
            share = None if self.shares is None else self.shares.limits[name]
            regions[name] = RegionInfo(len(table), table.weight, counters, share=share)
        problem = None if self.pressure is None else self.pressure.problem
        return BackendInfo(
            kind=self.kind,
            tags=len(self._tags),
            regions=regions,
            problems=() if problem is None else (problem,),
        )

    # -- claims

    async def claim(
        self, region: str, keys: Sequence[str], tags: tuple[str, ...], lease: float
    ) -> list[Record | Claim | None]:
        del lease  # holders are of this process, and give back what they claimed
        table, now = self._tables[region], self._now()
        answers = [table.claim(key, tags, now) for key in keys]
        self._date([answer for answer in answers if isinstance(answer, Claim)])
        return answers

    async def fence(self, region: str, keys: Sequence[str], lease: float) -> list[Claim]:
        del lease  # as in `claim`
        table, now = self._tables[region], self._now()
        fences = [table.fence(key, now) for key in keys]
        self._date(fences)
        return fences

    def _date(self, claims: Sequence[Claim]) -> None:
        """Give what will be filled the version of now, where that counts."""
        if self._dated:
            for claim in claims:
                claim.version = next(self._versions)

    async def extend(self, region: str, claims: Sequence[Claim], tags: tuple[str, ...]) -> None:
        for claim in claims:
            self._tables[region].extend(claim, tags)

    async def fill(
        self, region: str, fills: Sequence[tuple[Claim, Put]]
    ) -> list[Written | CacheError]:
        table, now = self._tables[region], self._now()
        weights = weights_of(self._settings[region], [put for _, put in fills])
        outcomes: list[Written | CacheError] = []
        for (claim, put), weight in zip(fills, weights, strict=True):
            try:
                deadline = _deadline(now, put.ttl)
                good = sound(weight)
                version = table.fill(claim, put.value, deadline, good, now, claim.version)
                outcomes.append(Written(applied=version > 0, version=version))
            except CacheError as error:
                table.release([claim])
                outcomes.append(error)
        self._report(region, table)
        return outcomes

    async def release(self, region: str, claims: Sequence[Claim]) -> None:
        self._tables[region].release(claims)

    # -- inside

    def _make_table(self, settings: RegionSettings) -> Table:
        table = Table(
            lock=self._lock,
            tags=self._tags,
            versions=self._versions,
            policy=POLICIES[settings.policy](),
            now=self._now(),
        )
        table.record_removals(self._observer is not None)
        return table

    def _codec(self, region: str) -> RegionCodec:
        """That of the region, or the usual one where nothing was to become bytes so far."""
        found = self._settings[region].codec
        return found or region_codec(region, SerializationConfig(), None)

    def _apply(self, region: str, change: Change, weight: int, now: float) -> Written:
        table, settings = self._tables[region], self._settings[region]
        if isinstance(change, Drop):
            return Written(applied=table.remove(change.key, change.cause, now))
        deadline = _deadline(now, change.ttl)
        if isinstance(change, Add):
            return _add(table, settings, change, deadline, now)
        if isinstance(change, Put):
            version = table.put(
                change.key,
                change.value,
                deadline=deadline,
                weight=weight,
                now=now,
                tags=change.tags,
                when=change.when,
                keep_deadline=change.keep_ttl,
            )
        else:
            version = table.touch(change.key, deadline, now)
        return Written(applied=version > 0, version=version)

    def _report(self, region: str, table: Table) -> None:
        if self._observer is not None:
            removals = table.removals()
            if removals:
                self._observer(region, removals)


async def _sweep(backend: weakref.ref[MemoryBackend]) -> None:
    """Once a second give back memory; ends with the backend, of which it keeps nothing alive."""
    for second in count(1):
        await asyncio.sleep(_SWEEP_EVERY)
        pressed = backend()
        if pressed is not None:
            pressed.relieve()
        del pressed
        while True:
            swept = backend()
            if swept is None:
                return
            more = swept.sweep(thorough=second % _THOROUGH_EVERY == 0) or swept.sweeping
            del swept
            if not more:
                break
            await asyncio.sleep(0)


def _gate(settings: RegionSettings, now: float) -> Gate | None:
    admission = settings.admission
    if admission.filter is None and admission.max_rate is None:
        return None
    return Gate(admission.filter or "", admission.max_rate or 0, now)


def _reweigh(residents: Residents, weights: Mapping[str, tuple[Version, int]]) -> None:
    residents.reweigh(weights)


def _deadline(now: float, ttl: float | None) -> float:
    return FOREVER if ttl is None else now + ttl


def _add(
    table: Table, settings: RegionSettings, change: Add, deadline: float, now: float
) -> Written:
    """Read, add, and swap if no other thread was faster; the weigher runs outside the lock."""
    while True:
        record = table.peek(change.key, now)
        value: object = change.initial
        seen = 0
        if record is not None:
            value, seen = plain(record.value), record.version
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeMismatch(
                f"increment needs an int: {change.key!r} holds a {type(value).__name__}"
            )
        total = bounded(change.key, int(value) + change.delta)
        weight = weight_of(settings, change.key, total) if settings.weighs else 0
        version = table.swap(change.key, seen, total, deadline=deadline, weight=weight, now=now)
        if version:
            return Written(applied=True, version=version, total=total)
