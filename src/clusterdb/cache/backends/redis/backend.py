"""The Redis backend: entries on servers that processes share.

**Reading** is one round trip, and one more where an entry has tags. **Writing** is a command or a
script a key, one round trip a server. **Claims** are stored under the very keys they are for.
Nothing is kept in this process: each read asks a server. What leaves a server by itself (evicted,
expired) is not told to observers, and what other processes change not to followers.

Counters are those of this process. How many entries a region has is known of those that have limits
of their own (:mod:`.limits`); of the others `describe` leaves it open.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import ClassVar, Final, Literal, TypeVar

from msgspec.structs import asdict, replace

from ...claims import Claim
from ...clock import Clock
from ...config import CacheConfig, Redis
from ...errors import BackendUnavailable, CacheError, NotSupportedOnRing, OutcomeUnknown
from ...protocols import (
    Add,
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
    Touch,
    Written,
)
from ...settings import RegionSettings, kept_order_problems
from ...stats import Counters
from ...table import Table
from ...types import Record, RemovalCause
from .claiming import Claiming
from .health import check_version, look_at, problems
from .limits import Limits
from .link import Link
from .names import Names
from .nonces import REGION_TAG, Nonces
from .reading import Reading
from .scanning import Scanning
from .stored import Versions
from .writing import Writing

__all__ = ["RedisBackend"]

C = TypeVar("C", bound=Change)

_LOG: Final = logging.getLogger("clusterdb.cache")
_SHARDS: Final = 16
"""Into how many shards the index of a region is cut where there are several servers."""


class RedisBackend:
    """A cache on the servers of ``redis``; ``config`` is the whole configuration it is part of."""

    kind: ClassVar[str] = "redis"

    def __init__(self, redis: Redis, config: CacheConfig, clock: Clock) -> None:
        self._eviction = config.policy.eviction
        self._settings: dict[str, RegionSettings] = {}
        self._counters: dict[str, Counters] = {}
        self._names, versions = Names(config.name), Versions(clock)
        names = self._names
        self._link = Link(redis, config.partitioning, clock, names, _copies(config))
        self._on_each = self._link.on_each
        self._nonces = Nonces(self._link, names)
        self._reading = Reading(self._link, names, self._nonces, self._settings)
        self._writing = Writing(self._link, names, self._nonces, versions, self._settings)
        self._claiming = Claiming(self._link, names, self._nonces, versions, self._settings)
        self._scanning = Scanning(self._link, names, self._nonces, self._settings)
        shards = _SHARDS if redis.cluster or redis.is_ring else 1
        self._limits = Limits(self._link, names, self._nonces, clock, self._counters, shards)
        self._said: set[str] = set()

    @property
    def capabilities(self) -> frozenset[Capability]:
        if self._on_each > 1:
            return frozenset({"multi_process"})
        return frozenset({"atomic", "multi_process"})

    # -- life

    async def open(self) -> None:
        self._claiming.claims.drop_all()
        await self._link.open()
        servers = await look_at(self._link)
        check_version(servers)
        for problem in problems(servers, self._eviction):
            if problem not in self._said:
                self._said.add(problem)
                _LOG.warning("%s", problem)
        self._limits.start()

    async def aclose(self) -> None:
        await self._limits.aclose()
        await self._claiming.aclose()
        await self._link.aclose()

    @property
    def inline(self) -> bool:
        return False

    def configure(self, regions: Mapping[str, RegionSettings]) -> None:
        self._settings.update(regions)
        for name in regions:
            self._counters.setdefault(name, Counters())
        self._limits.configure(regions)

    def table(self, region: str) -> Table | None:  # noqa: ARG002 - nothing is near
        return None

    def observe(self, observer: Observer | None) -> None:
        """Nobody tells us of what leaves a server by itself."""

    def follow(self, follower: Follower | None) -> None:
        """Nobody tells us of what other processes change."""

    def fork(self, moment: Literal["before", "parent", "child"]) -> None:
        if moment == "child":
            self._claiming.forked()
            self._limits.forked()
            self._link.forked()

    # -- entries

    async def read(
        self, region: str, keys: Sequence[str], *, stale: bool = False, consistent: bool = False
    ) -> list[Record | None]:
        if consistent and self._on_each > 1:
            raise NotSupportedOnRing("a consistent read", self._on_each)
        records = await self._reading.read(region, keys, stale)
        counters = self._counters[region]
        for record in records:
            if record is None:
                counters.misses += 1
            elif stale and record.stale:
                counters.stale_hits += 1
            else:
                counters.hits += 1
        if region in self._limits:
            self._limits.used(region, [record.key for record in records if record is not None])
        return records

    async def peek(
        self, region: str, keys: Sequence[str], *, stale: bool = False
    ) -> list[Record | None]:
        return await self._reading.read(region, keys, stale)

    def keep(self, region: str, record: Record, value: object) -> None:
        """Nothing is near."""

    async def write(self, region: str, changes: Sequence[Change]) -> list[Written | CacheError]:
        if self._on_each > 1 or region in self._limits:
            return await self._write_allowed(region, changes)
        return await self._write(region, changes)

    async def _write_allowed(
        self, region: str, changes: Sequence[Change]
    ) -> list[Written | CacheError]:
        """As `write`, without what is too large, or what servers that know nothing of each other
        would have to agree on.
        """
        refused: list[CacheError | None] = [self._refusal(region, change) for change in changes]
        able = [change for change, no in zip(changes, refused, strict=True) if no is None]
        outcomes = iter(await self._write(region, able) if able else [])
        return [next(outcomes) if no is None else no for no in refused]

    def _refusal(self, region: str, change: Change) -> CacheError | None:
        if self._on_each > 1 and isinstance(change, Add):
            return NotSupportedOnRing("an increment", self._on_each)
        if self._on_each > 1 and isinstance(change, Put) and change.when != "always":
            return NotSupportedOnRing("a conditional set (nx, xx)", self._on_each)
        return self._limits.refusal(region, change) if region in self._limits else None

    def _marked(self, region: str, changes: Sequence[C]) -> Sequence[C]:
        """The changes, with the tag that a region with ``instant_clear`` gives to its entries."""
        if not self._settings[region].instant_clear:
            return changes
        return [
            replace(each, tags=(REGION_TAG, *each.tags)) if isinstance(each, Put) else each
            for each in changes
        ]

    async def _write(self, region: str, changes: Sequence[Change]) -> list[Written | CacheError]:
        try:
            outcomes = await self._writing.write(region, self._marked(region, changes))
        except BaseException:
            self._may_have_changed(region, changes)
            raise
        self._changed(region, changes, outcomes)
        return outcomes

    async def commit(
        self, region: str, checks: Sequence[Check], changes: Sequence[Put | Drop]
    ) -> Committed | None:
        if self._on_each > 1:
            raise NotSupportedOnRing("an atomic operation", self._on_each)
        for change in changes if region in self._limits else ():
            refusal = self._limits.refusal(region, change)
            if refusal is not None:
                raise refusal
        try:
            marked = self._marked(region, changes)
            committed = await self._writing.commit(region, checks, marked)
        except BaseException:
            self._may_have_changed(region, changes)
            raise
        if committed is not None:
            self._changed(region, changes, committed.outcomes)
        return committed

    async def invalidate_tags(self, tags: Sequence[str]) -> int:
        try:
            await self._nonces.change(tags)
        finally:
            self._claiming.claims.end_tags(tags)
        return 0

    def scan(self, region: str, glob: str, batch_size: int) -> AsyncGenerator[list[str], None]:
        return self._scanning.scan(region, glob, batch_size)

    async def clear(self, regions: Sequence[str]) -> int:
        cleared = 0
        for region in regions:
            instant = self._settings[region].instant_clear
            try:
                await self._limits.cleared(region)
                if instant:
                    await self._nonces.end_region(region)
                else:
                    cleared += await self._scanning.clear(region)
            finally:
                self._claiming.cleared(region, owed=instant)
        return cleared

    async def describe(self) -> BackendInfo:
        servers = await look_at(self._link)
        regions = {}
        for name in self._settings:
            items, weight = None, None
            if name in self._limits:
                items, weight = await self._limits.totals(name)
            regions[name] = RegionInfo(items, weight, Counters(**asdict(self._counters[name])))
        return BackendInfo(
            kind=self.kind,
            tags=0,
            regions=regions,
            problems=(
                *problems(servers, self._eviction),
                *kept_order_problems(self.kind, self._settings.values()),
            ),
            servers=tuple(servers),
        )

    # -- claims

    async def claim(
        self, region: str, keys: Sequence[str], tags: tuple[str, ...], lease: float
    ) -> list[Record | Claim | None]:
        if self._settings[region].instant_clear:
            tags = (REGION_TAG, *tags)
        answers = await self._claiming.claim(region, keys, tags, lease)
        if region in self._limits:
            self._limits.used(region, [each.key for each in answers if isinstance(each, Record)])
        return answers

    async def extend(self, region: str, claims: Sequence[Claim], tags: tuple[str, ...]) -> None:
        await self._claiming.extend(region, claims, tags)

    async def fill(
        self, region: str, fills: Sequence[tuple[Claim, Put]]
    ) -> list[Written | CacheError]:
        limited = region in self._limits
        refused: list[CacheError | None] = [
            self._limits.refusal(region, put) if limited else None for _, put in fills
        ]
        if any(refused):
            large = [fill for fill, no in zip(fills, refused, strict=True) if no is not None]
            await self._claiming.release(region, [claim for claim, _ in large])
        able = [fill for fill, no in zip(fills, refused, strict=True) if no is None]
        filled = iter(await self._claiming.fill(region, able) if able else [])
        outcomes = [next(filled) if no is None else no for no in refused]
        for (_, put), outcome in zip(fills, outcomes, strict=True):
            if isinstance(outcome, Written) and outcome.applied:
                self._counters[region].sets += 1
                if limited:
                    self._limits.changed(region, put, outcome)
            elif limited and isinstance(outcome, OutcomeUnknown):
                self._limits.doubted(region, put)
        return outcomes

    async def release(self, region: str, claims: Sequence[Claim]) -> None:
        await self._claiming.release(region, claims)

    # -- inside

    def _changed(
        self, region: str, changes: Sequence[Change], outcomes: Sequence[Written | CacheError]
    ) -> None:
        """End the claims on what was changed, before the caller goes on; count."""
        counters, claims = self._counters[region], self._claiming.claims
        limited = region in self._limits
        for change, outcome in zip(changes, outcomes, strict=True):
            if isinstance(outcome, CacheError):
                if isinstance(outcome, BackendUnavailable):
                    self._may_have_changed(region, [change])
                continue
            if limited:
                self._limits.changed(region, change, outcome)
            if isinstance(change, Drop):
                claims.drop(region, change.key)
                if outcome.applied and change.cause is RemovalCause.DELETED:
                    counters.deletes += 1
                elif outcome.applied:
                    counters.invalidations += 1
            elif outcome.applied and not isinstance(change, Touch):
                claims.drop(region, change.key)
                counters.sets += 1

    def _may_have_changed(self, region: str, changes: Sequence[Change]) -> None:
        """End the claims on what may have been changed, and give them back if it was not."""
        for change in changes:
            if not isinstance(change, Touch):
                self._claiming.doubt(region, change.key)
            if region in self._limits:
                self._limits.doubted(region, change)


def _copies(config: CacheConfig) -> int:
    """How many servers must have a write before it counts, the primary among them."""
    coherence = config.coherence
    wanted = None if coherence is None else coherence.replication
    if wanted is None or wanted.mode == "asynchronous" or wanted.consistency == "one":
        return 1
    return wanted.factor if wanted.consistency == "all" else wanted.factor // 2 + 1
