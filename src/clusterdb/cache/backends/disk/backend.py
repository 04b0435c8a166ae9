"""The disk backend: one SQLite file, shared by the processes of a machine, and a near tier.

**Reading.** Point reads run in the event loop on a connection of their own: a hit of the page cache
costs a few microseconds, less than a thread would. What was read is kept near, over a claim.
**Writing.** One thread, one transaction for all calls that wait (:mod:`.writer`).
**Coherence.** Every change has a row in the file's bounded log of changes. Each process reads the
new rows at least three times in a staleness bound, and at once when a hint comes, drops what they
name from its near tier, and renews the lease to the moment before it looked plus the bound. A
process that can't look, or finds rows missing, serves nothing near.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import ClassVar, Final, Literal, TypeVar

from msgspec.structs import asdict, replace

from ...claims import Claim
from ...clock import Clock
from ...codec import Encoded
from ...config import Disk
from ...errors import BackendUnavailable, CacheError, Undecodable
from ...keys import matcher
from ...near import NearTier
from ...protocols import (
    BackendInfo,
    Capability,
    Change,
    Check,
    Committed,
    Drop,
    Follower,
    Observer,
    Put,
    RegionInfo,
    Written,
)
from ...residents import Removal
from ...settings import RegionSettings
from ...stats import Counters
from ...table import Table
from ...types import FOREVER, MISSING, Record
from .attached import Attached
from .claiming import DiskClaims
from .file import CacheFile
from .rows import AliveRow, Effects
from .schema import shown_tag
from .transaction import Token, Transaction
from .writer import Job

__all__ = ["DiskBackend"]

T = TypeVar("T")

_AT_ONCE: Final = 256


class DiskBackend:
    """A cache in one file. ``max_staleness`` in seconds bounds how long another process's change
    may go unseen by the near tier; ``boot`` names the run of the machine, for tests.
    """

    kind: ClassVar[str] = "disk"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {"atomic", "multi_process", "persistent", "near"}
    )

    def __init__(
        self, config: Disk, clock: Clock, max_staleness: float = 1.0, boot: str | None = None
    ) -> None:
        self._clock = clock
        self._file = CacheFile(config.path, config.synchronous, config.timeout, clock, boot)
        self._near = NearTier(config.near_size if config.near else 0, clock.now())
        self._keeps = config.near
        self._max_staleness = max_staleness
        self._settings: dict[str, RegionSettings] = {}
        self._unapplied: set[str] = set()
        self._counters: dict[str, Counters] = {}
        self._claims = DiskClaims()
        self._observer: Observer | None = None
        self._follower: Follower | None = None
        self._attached: Attached | None = None
        self._attaching: asyncio.Task[Attached] | None = None
        self._open = False

    # -- life

    async def open(self) -> None:
        self._open = True
        self._claims.drop_all()
        self._unapplied.update(self._settings)
        if self._attached is not None and not self._attached.usable:
            self._detach()
        await self._apply()

    async def aclose(self) -> None:
        attached, self._attached, self._open = self._attached, None, False
        self._near.lapse()
        if attached is not None:
            await attached.aclose()

    def configure(self, regions: Mapping[str, RegionSettings]) -> None:
        for name, settings in regions.items():
            if self._settings.get(name) != settings:
                self._near.add(name)
                self._settings[name] = settings
                self._counters.setdefault(name, Counters())
                self._unapplied.add(name)

    def table(self, region: str) -> Table | None:
        return self._near.table(region)

    def observe(self, observer: Observer | None) -> None:
        self._observer = observer

    def follow(self, follower: Follower | None) -> None:
        self._follower = follower
        if self._attached is not None:
            self._attached.follower = follower

    def fork(self, moment: Literal["before", "parent", "child"]) -> None:
        if moment == "before":
            if self._attached is not None:
                self._attached.hold()
            self._near.hold()
        elif moment == "parent":
            self._near.resume()
            if self._attached is not None:
                self._attached.resume()
        else:
            self._near.forked()
            self._claims.drop_all()
            if self._attached is not None:
                self._attached.abandon()
            self._attached = self._attaching = None

    async def tidy(self) -> None:
        """Do all upkeep that is due now, however much it is."""
        attached = await self._apply()
        await attached.settle()
        while attached.upkeep.busy:
            await attached.settle()

    # -- entries

    async def read(
        self, region: str, keys: Sequence[str], *, stale: bool = False, consistent: bool = False
    ) -> list[Record | None]:
        attached = await self._apply()
        now, counters = self._clock.now(), self._counters[region]
        if now > self._near.lease:
            attached.poll()
        records: list[Record | None] = []
        for at, key in enumerate(keys):
            if at and not at % _AT_ONCE:
                await asyncio.sleep(0)
                attached, now = await self._apply(), self._clock.now()
            record = None if consistent else self._near.read(region, key, now)
            if record is None:
                record = self._look(attached, region, key, now, stale=stale, near=True)
                if record is None:
                    counters.misses += 1
                elif record.stale:
                    counters.stale_hits += 1
                else:
                    counters.hits += 1
                    attached.upkeep.use(region, key)
            records.append(record)
        return records

    async def peek(
        self, region: str, keys: Sequence[str], *, stale: bool = False
    ) -> list[Record | None]:
        attached, now = await self._apply(), self._clock.now()
        return [self._look(attached, region, key, now, stale=stale) for key in keys]

    def keep(self, region: str, record: Record, value: object) -> None:
        claim = record.near
        if claim is None:
            return
        if value is MISSING or not isinstance(record.value, Encoded):
            self._near.release(region, claim)
            return
        now = self._clock.now()
        self._near.keep(
            region,
            claim,
            value,
            version=record.version,
            deadline=FOREVER if record.expires_in is None else now + record.expires_in,
            weight=len(record.value.payload) + len(record.key),
            now=now,
        )

    async def write(self, region: str, changes: Sequence[Change]) -> list[Written | CacheError]:
        def job(transaction: Transaction) -> list[Written | CacheError]:
            outcomes: list[Written | CacheError] = []
            for change in changes:
                try:
                    outcomes.append(transaction.write(region, change))
                except CacheError as error:
                    outcomes.append(error)
            return outcomes

        return await self._do(job, region)

    async def commit(
        self, region: str, checks: Sequence[Check], changes: Sequence[Put | Drop]
    ) -> Committed | None:
        return await self._do(lambda found: found.commit(region, checks, changes), region)

    async def invalidate_tags(self, tags: Sequence[str]) -> int:
        await self._do(lambda transaction: transaction.end_tags(tags))
        return 0

    async def scan(
        self, region: str, glob: str, batch_size: int
    ) -> AsyncGenerator[list[str], None]:
        matches, last = matcher(glob), ""
        while True:
            attached = await self._apply()
            keys = attached.reader.keys(region, last, attached.stored_now(), batch_size)
            if not keys:
                return
            last = keys[-1]
            yield [key for key in keys if matches(key)]
            await asyncio.sleep(0)

    async def clear(self, regions: Sequence[str]) -> int:
        return await self._do(lambda found: sum([found.clear(region) for region in regions]))

    async def describe(self) -> BackendInfo:
        attached = await self._apply()
        await attached.settle()
        regions: dict[str, RegionInfo] = {}
        found = attached.reader.regions()
        for name in self._settings:
            items, weight, totals = found[name]
            regions[name] = RegionInfo(items, weight, self._total(name), totals)
        members = attached.reader.members(attached.stored_now(), self._clock.wall())
        return BackendInfo(
            kind=self.kind,
            tags=0,
            regions=regions,
            size=self._file.size(),
            members=tuple([member for _, _, member in members]),
        )

    # -- claims

    async def claim(
        self, region: str, keys: Sequence[str], tags: tuple[str, ...], lease: float
    ) -> list[Record | Claim | None]:
        taken = [self._claims.take(region, key, tags) for key in keys]
        try:
            found = await self._do(
                lambda transaction: [
                    None if claim is None else transaction.claim(region, claim.key, tags, lease)
                    for claim in taken
                ],
                region,
            )
        except BaseException:
            self._claims.cancel(region, [claim for claim in taken if claim is not None])
            raise
        now = self._clock.now()
        answers: list[Record | Claim | None] = []
        for claim, answer in zip(taken, found, strict=True):
            if claim is None or answer is None:
                self._claims.cancel(region, [] if claim is None else [claim])
                answers.append(None)
            elif isinstance(answer, Token):
                self._claims.hold(claim, region, answer)
                answers.append(claim)
            else:
                self._claims.cancel(region, [claim])
                answers.append(self._record(region, claim.key, answer, now))
        return answers

    async def extend(self, region: str, claims: Sequence[Claim], tags: tuple[str, ...]) -> None:
        held = [(claim, found) for claim in claims if (found := self._claims.held(claim))]
        if not held:
            return
        tokens = await self._do(
            lambda transaction: [
                transaction.extend(region, claim.key, found.token, tags) for claim, found in held
            ]
        )
        for (claim, _), token in zip(held, tokens, strict=True):
            self._claims.extend(claim, token, tags)

    async def fill(
        self, region: str, fills: Sequence[tuple[Claim, Put]]
    ) -> list[Written | CacheError]:
        held = [(self._claims.give(claim), put) for claim, put in fills]

        def job(transaction: Transaction) -> list[Written | CacheError]:
            outcomes: list[Written | CacheError] = []
            for found, put in held:
                try:
                    lost = Written(applied=False)
                    outcomes.append(
                        transaction.fill(region, found.token, put, found.tags) if found else lost
                    )
                except CacheError as error:
                    outcomes.append(error)
            return outcomes

        return await self._do(job, region)

    async def release(self, region: str, claims: Sequence[Claim]) -> None:
        held = [(claim.key, found) for claim in claims if (found := self._claims.give(claim))]
        if held:
            await self._do(
                lambda transaction: [
                    transaction.release(region, key, found.token) for key, found in held
                ]
            )

    # -- inside

    async def _apply(self) -> Attached:
        """The file, open, with the latest settings of the regions applied."""
        attached = self._attached
        if attached is None or not attached.usable:
            attached = await self._attach()
        if self._unapplied:
            names = sorted(self._unapplied)
            uses = {name: attached.upkeep.uses(name) for name in names}
            self._unapplied.clear()

            def job(transaction: Transaction) -> None:
                for name in names:
                    transaction.rows.apply_settings(name, uses[name])

            try:
                await attached.do(job)
            except BaseException:
                self._unapplied.update(names)
                raise
        return attached

    async def _attach(self) -> Attached:
        if not self._open:
            raise BackendUnavailable(f"cache file {str(self._file.path)!r} was closed")
        if self._attaching is None:
            self._attaching = asyncio.create_task(self._make_attached())
        return await asyncio.shield(self._attaching)

    async def _make_attached(self) -> Attached:
        try:
            if self._attached is not None:
                self._detach()
            attached = await Attached.open(
                self._file,
                self._clock,
                self._near,
                self._claims,
                self._settings,
                self._total,
                self._delivered,
                self._max_staleness,
            )
            attached.follower = self._follower
            self._attached = attached
            self._unapplied.update(self._settings)
            return attached
        finally:
            self._attaching = None

    def _detach(self) -> None:
        """Let go of a file that was replaced, or of a loop that ended."""
        attached, self._attached = self._attached, None
        if attached is not None:
            attached.drop()

    async def _do(self, job: Job[T], region: str | None = None) -> T:
        attached = await self._apply()
        uses = {} if region is None else attached.upkeep.uses(region)
        if region is None or not uses:
            return await attached.do(job)

        def with_uses(transaction: Transaction) -> T:
            transaction.rows.used(region, uses)
            return job(transaction)

        return await attached.do(with_uses)

    def _look(
        self,
        attached: Attached,
        region: str,
        key: str,
        now: float,
        *,
        stale: bool = False,
        near: bool = False,
    ) -> Record | None:
        row = attached.reader.entry(region, key)
        if row is None:
            return None
        record = self._record(region, key, row, now)
        left = record.expires_in
        if left is not None and left <= 0:
            grace = self._settings[region].grace
            return record if stale and left + grace > 0 else None
        if near and self._keeps and isinstance(record.value, Encoded):
            claim = self._near.claim(region, key, record.tags, now)
            return replace(record, near=claim)
        return record

    def _record(self, region: str, key: str, row: AliveRow, now: float) -> Record:
        version, deadline, tags, data = row
        codec = self._settings[region].codec
        assert codec is not None, "a region of an encoding backend has a codec"
        try:
            value: object = codec.unseal(key, data).encoded
        except Undecodable as error:
            value = error
        return Record(
            key=key,
            value=value,
            version=version,
            expires_in=None if deadline is None else deadline - self._file.shift - now,
            tags=tuple([shown_tag(tag) for tag in json.loads(tags)]) if tags else (),
            tier="disk",
        )

    def _total(self, region: str) -> Counters:
        """What this process counted: reads of the file, and hits of the near tier."""
        total = Counters(**asdict(self._counters[region]))
        total.hits += self._near.table(region).counters.hits
        return total

    def _delivered(self, effects: Effects) -> None:
        """What a transaction of ours did, told before its callers go on."""
        for region, new in effects.counters.items():
            known = self._counters[region]
            for name, count in asdict(new).items():
                setattr(known, name, getattr(known, name) + count)
        observer = self._observer
        if observer is not None:
            by_region: dict[str, list[Removal]] = {}
            for region, removal in effects.removals:
                by_region.setdefault(region, []).append(removal)
            for region, removals in by_region.items():
                observer(region, removals)
