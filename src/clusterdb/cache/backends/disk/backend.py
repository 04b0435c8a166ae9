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
import random
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from typing import ClassVar, Final, Literal

from msgspec.structs import asdict, replace

from ...claims import Claim
from ...clock import Clock
from ...codec import Encoded, RegionCodec
from ...config import Disk
from ...errors import CacheError, Undecodable
from ...keys import matcher
from ...near import NearTier
from ...protocols import (
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
    Written,
)
from ...residents import Removal
from ...settings import RegionSettings
from ...stats import Counters
from ...table import Table
from ...types import FOREVER, MISSING, Record, Version
from ..restoring import ALL, check_part
from .attached import Attached
from .attachment import Attachment
from .cleaning import DiskUpkeep
from .describing import described
from .file import CacheFile
from .moving import codec_of, export_rows, restore_rows
from .rows import AliveRow, Effects
from .schema import tags_column
from .transaction import Token, Transaction

__all__ = ["DiskBackend"]

_AT_ONCE: Final = 256


class DiskBackend:
    """A cache in one file; ``boot`` names the run of the machine, for tests."""

    kind: ClassVar[str] = "disk"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {"atomic", "multi_process", "persistent", "near"}
    )

    def __init__(self, config: Disk, clock: Clock, boot: str | None = None) -> None:
        self._clock = clock
        self._near = NearTier(clock.now(), config.near_total)
        self._settings: dict[str, RegionSettings] = {}
        self._counters: dict[str, Counters] = {}
        self._observer: Observer | None = None
        file = CacheFile(config.path, config.synchronous, config.timeout, clock, boot)
        self._attachment = Attachment(
            file,
            clock,
            self._near,
            self._settings,
            self._total,
            self._delivered,
        )
        self.upkeep = DiskUpkeep(self._attachment)

    # -- life

    async def open(self) -> None:
        await self._attachment.open()

    async def aclose(self) -> None:
        await self._attachment.aclose()

    @property
    def inline(self) -> bool:
        return self._attachment.inline

    def configure(self, regions: Mapping[str, RegionSettings]) -> None:
        for name, settings in regions.items():
            if self._settings.get(name) != settings:
                outage = settings.loads.stale_if_error
                counted = settings.policy == "lfu"
                self._near.add(name, settings.near, counted=counted, outage=outage)
                self._settings[name] = settings
                self._counters.setdefault(name, Counters())
                self._attachment.unapplied[name] = settings

    def table(self, region: str) -> Table | None:
        return self._near.table(region)

    def observe(self, observer: Observer | None) -> None:
        self._observer = observer

    def order(self, versions: Iterator[Version]) -> bool:
        del versions  # the file counts changes
        return False

    def follow(self, follower: Follower | None) -> None:
        self._attachment.follow(follower)

    def fork(self, moment: Literal["before", "parent", "child"]) -> None:
        self._attachment.fork(moment)

    async def tidy(self) -> None:
        """Do all upkeep that is due now, however much it is."""
        attached = await self._attachment.get()
        await attached.settle()
        while attached.upkeep.busy:
            await attached.settle()

    # -- entries

    async def read(
        self,
        region: str,
        keys: Sequence[str],
        *,
        stale: bool = False,
        consistent: bool = False,
        brief: bool = False,  # noqa: ARG002 - it costs nothing to say all
    ) -> list[Record | None]:
        attached = await self._attachment.get()
        now, counters = self._clock.now(), self._counters[region]
        if not self._near.answers(region, now) and not attached.elsewhere:
            attached.poll()
        records: list[Record | None] = []
        try:
            for at, key in enumerate(keys):
                if at and not at % _AT_ONCE:
                    await asyncio.sleep(0)
                    attached, now = await self._attachment.get(), self._clock.now()
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
        except BaseException:  # failed or cancelled: nobody will keep what was read
            for found in records:
                if found is not None:
                    self.keep(region, found, MISSING)
            raise
        return records

    async def peek(
        self, region: str, keys: Sequence[str], *, stale: bool = False
    ) -> list[Record | None]:
        attached, now = await self._attachment.get(), self._clock.now()
        return [self._look(attached, region, key, now, stale=stale) for key in keys]

    def last_known(self, region: str, keys: Sequence[str]) -> list[Record | None]:
        return self._near.last_known(region, keys, self._clock.now())

    def keep(self, region: str, record: Record, value: object) -> None:
        self._near.keep(region, record, value, self._clock.now())

    def drop_near(self, region: str, keys: Sequence[str]) -> None:
        for key in keys:
            self._near.drop(region, key, self._clock.now())

    async def write(self, region: str, changes: Sequence[Change]) -> list[Written | CacheError]:
        def job(transaction: Transaction) -> list[Written | CacheError]:
            outcomes: list[Written | CacheError] = []
            for change in changes:
                try:
                    outcomes.append(transaction.write(region, change))
                except CacheError as error:
                    outcomes.append(error)
            return outcomes

        return await self._attachment.do(job, region)

    async def commit(
        self, region: str, checks: Sequence[Check], changes: Sequence[Put | Drop]
    ) -> Committed | None:
        return await self._attachment.do(lambda it: it.commit(region, checks, changes), region)

    async def invalidate_tags(self, tags: Sequence[str]) -> int:
        await self._attachment.do(lambda transaction: transaction.end_tags(tags))
        return 0

    async def scan(
        self, region: str, glob: str, batch_size: int, *, dead: bool = False
    ) -> AsyncGenerator[list[str], None]:
        matches, last = matcher(glob), ""
        while True:
            attached = await self._attachment.get()
            moment = -FOREVER if dead else attached.stored_now()
            keys = attached.reader.keys(region, last, moment, batch_size, claimed=dead)
            if not keys:
                return
            last = keys[-1]
            yield [key for key in keys if matches(key)]
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
        codec = codec_of(self._settings[region])

        def record(key: str, row: AliveRow) -> Record:
            return self._record(region, key, row, self._clock.now())

        return export_rows(self._attachment, region, codec, record, glob, batch_size, values)

    async def restore(
        self, region: str, entries: Sequence[Exported], *, overwrite: Overwrite = "older"
    ) -> list[Written | CacheError]:
        codec = codec_of(self._settings[region])
        return await restore_rows(self._attachment, region, codec, entries, overwrite)

    async def clear(self, regions: Sequence[str]) -> int:
        return await self._attachment.do(
            lambda found: sum([found.clear(region) for region in regions])
        )

    async def describe(self) -> BackendInfo:
        return await described(
            self.kind, self._attachment, self._settings, self._near, self._clock, self._total
        )

    # -- claims

    async def claim(
        self, region: str, keys: Sequence[str], tags: tuple[str, ...], lease: float
    ) -> list[Record | Claim | None]:
        taken = [self._attachment.claims.take(region, key, tags) for key in keys]
        asked = {claim: random.getrandbits(62) for claim in taken if claim is not None}

        def job(transaction: Transaction) -> dict[Claim, AliveRow | Token | None]:
            return {
                claim: transaction.claim(region, claim.key, tags, lease, number)
                for claim, number in asked.items()
            }

        with self._attachment.claims.asking(region, asked):
            found = await self._attachment.do(job, region)
        now = self._clock.now()
        answers: list[Record | Claim | None] = []
        for key, claim in zip(keys, taken, strict=True):
            answer = None if claim is None else found[claim]
            if claim is None or isinstance(answer, Token):
                answers.append(claim)
            else:
                answers.append(answer and self._record(region, key, answer, now))
        for claim, answer in found.items():
            if isinstance(answer, Token):
                self._attachment.claims.hold(claim, region, answer)
            else:
                self._attachment.claims.cancel(region, [claim])
        return answers

    async def fence(self, region: str, keys: Sequence[str], lease: float) -> list[Claim]:
        asked = {
            self._attachment.claims.fence(region, key): -1 - random.getrandbits(62) for key in keys
        }
        numbered = [(claim.key, number) for claim, number in asked.items()]
        with self._attachment.claims.asking(region, asked):
            tokens = await self._attachment.do(lambda it: it.fence(region, numbered, lease), region)
        for claim, token in zip(asked, tokens, strict=True):
            self._attachment.claims.hold(claim, region, token)
        return list(asked)

    async def extend(self, region: str, claims: Sequence[Claim], tags: tuple[str, ...]) -> None:
        held = [
            (claim, found) for claim in claims if (found := self._attachment.claims.held(claim))
        ]
        if not held:
            return
        tokens = await self._attachment.do(
            lambda transaction: [
                transaction.extend(region, claim.key, found.token, tags) for claim, found in held
            ]
        )
        for (claim, _), token in zip(held, tokens, strict=True):
            self._attachment.claims.extend(claim, token, tags)

    async def fill(
        self, region: str, fills: Sequence[tuple[Claim, Put]]
    ) -> list[Written | CacheError]:
        held = [(self._attachment.claims.give(claim), put) for claim, put in fills]

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

        with self._attachment.claims.giving_back(
            region, [(put.key, found) for found, put in held if found]
        ):
            return await self._attachment.do(job, region)

    async def release(self, region: str, claims: Sequence[Claim]) -> None:
        held = [
            (claim.key, found) for claim in claims if (found := self._attachment.claims.give(claim))
        ]
        if held:
            with self._attachment.claims.giving_back(region, held):
                await self._attachment.do(
                    lambda transaction: [
                        transaction.release(region, key, found.token.number) for key, found in held
                    ]
                )

    # -- inside

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
        epoch = self._near.epoch  # another thread may drop while this one reads
        row = attached.reader.entry(region, key)
        if row is None:
            return None
        record = self._record(region, key, row, now)
        left = record.expires_in
        if left is not None and left <= 0:
            grace = self._settings[region].grace
            return record if stale and left + grace > 0 else None
        if near and self._near.keeps(region) and isinstance(record.value, Encoded):
            claim = self._near.claim(region, key, record.version, record.tags, now)
            if claim is not None and epoch != self._near.epoch:
                self._near.release(region, claim)
            elif claim is not None:
                return replace(record, near=(claim, FOREVER if left is None else now + left))
        return record

    def _record(self, region: str, key: str, row: AliveRow, now: float) -> Record:
        version, deadline, _, _ = row
        value, names = _opened(codec_of(self._settings[region]), key, row)
        expires_in = None if deadline is None else deadline - self._attachment.file.shift - now
        return Record(key, value, version, expires_in, names, "disk")

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
        if (observer := self._observer) is not None:
            by_region: dict[str, list[Removal]] = {}
            for region, removal in effects.removals:
                by_region.setdefault(region, []).append(removal)
            for region, removals in by_region.items():
                observer(region, removals)


def _opened(codec: RegionCodec, key: str, row: AliveRow) -> tuple[object, tuple[str, ...]]:
    """What is in an envelope, or why it can't be opened, and its tags."""
    version, _, tags, data = row
    try:
        sealed = codec.unseal(key, data)
    except Undecodable as error:
        return error, ()
    names = tuple([name for name, _ in sealed.tags])
    if sealed.version != version or tags_column(names) != tags:
        return Undecodable("swapped: its version or tags are not those of its row"), names
    return sealed.encoded, names
