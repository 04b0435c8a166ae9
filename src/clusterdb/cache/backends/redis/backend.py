"""The Redis backend: entries on servers that processes share.

**Reading** is one round trip, and one more where an entry has tags, unless the near tier has it
(:mod:`.nearby`). **Writing** is a command or a script a key, one round trip a server: what it
changes leaves the near tier before it is sent, and again when the outcome is known. **Claims** are
stored under the very keys they are for. What leaves a server by itself (evicted, expired) is not
told to observers, and what other processes change not to followers.

Counters are those of this process. How many entries a region has is known of those that have limits
of their own (:mod:`.limits`); of the others `describe` leaves it open.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Final, Literal, Protocol, TypeVar

from msgspec.structs import asdict, replace

from ...claims import Claim
from ...clock import Clock
from ...config import CacheConfig, Redis
from ...errors import CacheError, NotSupportedOnRing
from ...protocols import (
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
    Written,
)
from ...settings import RegionSettings
from ...stats import Counters, NearFigures
from ...table import Table
from ...types import Record, Version
from ...versions import Versions
from .claiming import Claiming
from .clearing import Clearing
from .confirming import Confirming
from .describing import described
from .effects import Effects
from .exporting import Exporting
from .health import check_version, look_at, problems
from .levels import Levels
from .limits import Limits
from .link import Link
from .membership import Membership
from .names import Names
from .nearby import Nearby
from .nonces import REGION_TAG, Nonces
from .reading import Reading
from .replicas import Replicas
from .restoring import Restoring
from .scanning import Scanning
from .succession import Succession
from .upkeep import redis_upkeep
from .watching import Watching
from .writing import Writing

__all__ = ["RedisBackend"]

C = TypeVar("C", bound=Change)

_OF_COPIES: Final[frozenset[Capability]] = frozenset({"multi_process", "near"})
_CAPABILITIES: Final[frozenset[Capability]] = _OF_COPIES | {"atomic"}
_LOG: Final = logging.getLogger("clusterdb.cache")
_SHARDS: Final = 16
"""Into how many shards the index of a region is cut where there are several servers."""


class _Part(Protocol):
    """What has to be let go of in the child of a fork."""

    def forked(self) -> None: ...


class RedisBackend:
    """A cache on the servers of ``redis``; ``config`` is the whole configuration it is part of."""

    kind: ClassVar[str] = "redis"

    def __init__(self, redis: Redis, config: CacheConfig, clock: Clock) -> None:
        self._eviction = config.policy.eviction
        self._settings: dict[str, RegionSettings] = {}
        self._counters: dict[str, Counters] = {}
        names, versions = Names(config.name), Versions(clock)
        self._names = names
        link = self._link = Link(redis, config.partitioning, clock, names)
        self._on_each = self._link.on_each
        nonces = self._nonces = Nonces(link, names)
        self._claiming = Claiming(self._link, names, self._nonces, versions, self._settings)
        held = self._claiming.claims
        self._reading = Reading(self._link, names, self._nonces, held, self._settings)
        self._writing = Writing(self._link, names, self._nonces, versions, self._settings)
        self._scanning = Scanning(self._link, names, self._nonces, self._settings)
        self.upkeep = redis_upkeep(redis, config.partitioning, link, names, nonces, self._settings)
        shards = _SHARDS if redis.cluster or redis.is_ring else 1
        self._limits = Limits(self._link, names, self._nonces, clock, self._counters, shards)
        self._replicas: Replicas | None = None
        if redis.read_replicas:
            self._replicas = Replicas(self._link, redis.max_replica_lag)
            self._link.on_written = self._replicas.wrote
        self._succession = Succession(self._link, clock, self._scanning.clear)
        self._confirming = Confirming(self._link, self._confirm_every)
        self._nearby = Nearby(
            link, names, nonces, self._reading, self._confirming, self._settings, self._used, redis
        )
        self._effects = Effects(
            *(names, self._nearby.tier, self._claiming, self._limits, self._succession),
            *(self._counters, link.now),
        )
        self._clearing = Clearing(
            *(self._nearby, self._limits, nonces, self._scanning, self._claiming),
            *(self._succession, self._replicas, self._settings),
        )
        self._exporting = Exporting(link, names, nonces, self._reading, self._settings)
        self._restoring = Restoring(
            *(link, names, nonces, versions, self._settings, self._limits),
            *(self._effects, self._succession),
        )
        self._levels = Levels(
            *(link, names, self._reading, self._nearby, self._confirming, self._succession),
            *(self._claiming, self._replicas, self._settings),
        )
        self._watching = Watching(self._link, clock)
        self._membership = Membership(self._link, names, clock, self._figures)
        self._said: set[str] = set()
        self._parts: list[_Part] = [
            *(self._claiming, self._limits, self._nearby, self._watching, self._succession),
            *([] if self._replicas is None else [self._replicas]),
            *(self._membership, self._link),
        ]

    @property
    def capabilities(self) -> frozenset[Capability]:
        return _OF_COPIES if self._on_each > 1 else _CAPABILITIES

    # -- life

    async def open(self) -> None:
        self._claiming.claims.drop_all()
        self._confirming.start()
        await self._link.open()
        servers = await look_at(self._link)
        check_version(servers)
        for problem in problems(servers, self._eviction):
            if problem not in self._said:
                self._said.add(problem)
                _LOG.warning("%s", problem)
        self._succession.start()
        self._limits.start()
        self._nearby.start()
        if self._replicas is not None:
            self._replicas.start()
        self._watching.start()
        self._membership.start()

    async def aclose(self) -> None:
        await self._membership.aclose()
        await self._watching.aclose()
        await self._succession.aclose()
        if self._replicas is not None:
            await self._replicas.aclose()
        await self._nearby.aclose()
        await self._confirming.aclose()
        await self._limits.aclose()
        await self._claiming.aclose()
        await self._link.aclose()

    @property
    def inline(self) -> bool:
        return False

    def configure(self, regions: Mapping[str, RegionSettings]) -> None:
        self._settings.update(regions)
        for name, settings in regions.items():
            self._counters.setdefault(name, Counters())
            if not settings.internal:
                self._link.copies, self._confirming.by = settings.copies, settings.confirm
        self._nearby.configure(regions)
        self._limits.configure(regions)

    def table(self, region: str) -> Table | None:
        return self._nearby.table(region)

    def observe(self, observer: Observer | None) -> None:
        """Nobody tells us of what leaves a server by itself."""

    def order(self, versions: Iterator[Version]) -> bool:
        del versions  # ours are drawn in the same order
        return True

    def follow(self, follower: Follower | None) -> None:
        """Told are servers that come and go; nobody tells us of what other processes change."""
        self._watching.follow(follower)

    def fork(self, moment: Literal["before", "parent", "child"]) -> None:
        if moment == "before":
            self._nearby.tier.hold()
        elif moment == "parent":
            self._nearby.tier.resume()
        else:
            self._confirming.abandon()
            for part in self._parts:
                part.forked()

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
        if consistent and self._on_each > 1:
            raise NotSupportedOnRing("a consistent read", self._on_each)
        records = await self._levels.read(
            region, keys, stale=stale, consistent=consistent, brief=brief
        )
        counters = self._counters[region]
        for record in records:
            if record is None:
                counters.misses += 1
            elif record.tier == "near":
                continue  # counted by its table
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
        return await self._reading.read(region, keys, stale=stale)

    def last_known(self, region: str, keys: Sequence[str]) -> list[Record | None]:
        return self._nearby.tier.last_known(region, keys, self._link.now())

    def keep(self, region: str, record: Record, value: object) -> None:
        self._nearby.keep(region, record, value)

    def drop_near(self, region: str, keys: Sequence[str]) -> None:
        self._nearby.drop(region, keys)

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
        instant = self._settings[region].instant_clear
        return list(map(_with_region_tag, changes)) if instant else changes

    async def _write(self, region: str, changes: Sequence[Change]) -> list[Written | CacheError]:
        if self._succession.due:
            await self._succession.repeat()
        with self._effects.beginning(region, changes) as since:
            outcomes = await self._writing.write(region, self._marked(region, changes))
        self._effects.made(region, changes, outcomes, since)
        return outcomes

    async def commit(
        self, region: str, checks: Sequence[Check], changes: Sequence[Put | Drop]
    ) -> Committed | None:
        if self._on_each > 1:
            raise NotSupportedOnRing("an atomic operation", self._on_each)
        for change in changes if region in self._limits else ():
            if (refusal := self._limits.refusal(region, change)) is not None:
                raise refusal
        if self._succession.due:
            await self._succession.repeat()
        with self._effects.beginning(region, changes) as since:
            marked = self._marked(region, changes)
            committed = await self._writing.commit(region, checks, marked)
        if committed is not None:
            self._effects.made(region, changes, committed.outcomes, since)
        return committed

    async def invalidate_tags(self, tags: Sequence[str]) -> int:
        since = self._succession.version
        self._nearby.end_tags(tags)
        try:
            await self._nonces.change(tags)
        finally:
            self._nearby.end_tags(tags)
            self._succession.note("nonce", [self._names.tag(tag) for tag in tags], since)
            self._claiming.claims.end_tags(tags)
        return 0

    def scan(
        self, region: str, glob: str, batch_size: int, *, dead: bool = False
    ) -> AsyncGenerator[list[str], None]:
        return self._scanning.scan(region, glob, batch_size, dead=dead)

    def parts(self, region: str) -> list[str]:
        del region
        return self._link.topology.shares()

    def export(
        self,
        region: str,
        *,
        part: str | None = None,
        glob: str = "*",
        batch_size: int = 1000,
        values: bool = True,
    ) -> AsyncGenerator[list[Exported | NotExported], None]:
        return self._exporting.export(region, part, glob, batch_size, values)

    async def restore(
        self, region: str, entries: Sequence[Exported], *, overwrite: Overwrite = "older"
    ) -> list[Written | CacheError]:
        return await self._restoring.restore(region, entries, overwrite)

    async def clear(self, regions: Sequence[str]) -> int:
        return await self._clearing.clear(regions)

    async def describe(self) -> BackendInfo:
        return await described(
            self.kind,
            self._link,
            self._membership,
            self._limits,
            self._nearby,
            self._settings,
            self._total,
            lambda servers: (
                *problems(servers, self._eviction),
                *self._link.problems,
                *self._succession.problems,
                *self._nearby.problems,
                *self._levels.problems,
            ),
        )

    def _figures(self) -> NearFigures:
        return self._nearby.tier.figures(map(self._total, self._settings), self._link.now())

    def _total(self, region: str) -> Counters:
        """What this process counted: reads of servers, and hits of the near tier."""
        total = Counters(**asdict(self._counters[region]))
        total.hits += self._nearby.tier.table(region).counters.hits
        return total

    def _used(self, region: str, keys: Iterable[str]) -> None:
        """Keys were used near."""
        if region in self._limits:
            self._limits.used(region, list(keys))

    def _confirm_every(self) -> float:
        """Seconds between two confirmations of a primary."""
        bounds = [each.max_staleness for each in self._settings.values() if not each.internal]
        return min(bounds, default=1.0) / 3

    # -- claims

    async def claim(
        self, region: str, keys: Sequence[str], tags: tuple[str, ...], lease: float
    ) -> list[Record | Claim | None]:
        if self._settings[region].instant_clear:
            tags = (REGION_TAG, *tags)
        answers = await self._levels.claim(region, keys, tags, lease)
        if region in self._limits:
            self._limits.used(region, [each.key for each in answers if isinstance(each, Record)])
        return answers

    async def fence(self, region: str, keys: Sequence[str], lease: float) -> list[Claim]:
        if self._succession.due:
            await self._succession.repeat()
        with self._effects.fencing(region, keys):
            fences = await self._claiming.fence(region, keys, lease)
        if self._settings[region].instant_clear:
            await self._claiming.extend(region, fences, (REGION_TAG,))
        return fences

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
        puts = [put for _, put in able]
        with self._effects.beginning(region, puts) as since:
            filled = await self._claiming.fill(region, able) if able else []
        self._effects.made(region, puts, filled, since)
        left = iter(filled)
        return [next(left) if no is None else no for no in refused]

    async def release(self, region: str, claims: Sequence[Claim]) -> None:
        await self._claiming.release(region, claims)


def _with_region_tag(change: C) -> C:
    if not isinstance(change, Put):
        return change
    return replace(change, tags=(REGION_TAG, *change.tags))
