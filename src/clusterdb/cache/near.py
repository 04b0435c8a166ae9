"""The near tier: decoded values kept in this process in front of a shared backend.

One table a region, as the memory backend has them, with two rules on top. A table answers only
while its **lease** stands: the backend renews it each time it has seen all changes that others made
up to some moment, to that moment plus the region's staleness bound. And a value comes in only over
a **claim** that was taken when it was read: what drops a key or ends a tag meanwhile ends the claim
too, so that a value read before a change is never kept after it. Nothing is kept from a write.

Where several servers tell of changes, each entry also has the tag of its **source**: a server that
is lost takes its entries with it in O(1), in flight or kept. Such tags are hidden from users.

A lapse ends what the tables answer. In a region that may give old values in an outage, what they
hold stays as the last that was known: only :meth:`NearTier.last_known` gives it, with its age.
Before the lease stands again all of it goes.

``epoch`` grows before anything is dropped: who reads in one thread while another drops looks at it
before the read and after the claim, and keeps nothing where it grew.

Pure and synchronous: the backend decides when; ``now`` is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Final

from msgspec.structs import replace

from .claims import Claim
from .codec import Encoded
from .guard import Guard, TableLock
from .policy import POLICIES, RecentLru, Reporting
from .settings import NearSettings
from .shares import Shares
from .stats import Counters, NearFigures
from .table import Table
from .tags import TagStates
from .types import FOREVER, MISSING, Record, RemovalCause, Version

__all__ = ["HIDDEN", "NearTier"]

_NEVER: Final = -FOREVER
_OFF: Final = NearSettings(max_items=None, max_weight=0, max_staleness=0.0)

HIDDEN: Final = "\0"
"""What the names of tags begin with that are ours, and no user's."""


class NearTier:
    """The near tables of one backend. ``total`` is what they may weigh together, if there is such a
    limit: see :class:`.Shares`.
    """

    def __init__(self, now: float, total: int | None = None) -> None:
        self._shares = None if total is None else Shares(int(total))
        self._lock = TableLock()
        self._guard = Guard(self._lock)
        self._tags = TagStates()
        self._versions = count(1)
        self._now = now
        self._verified = self._sure_at = _NEVER
        self.epoch = 0
        self._lapsed = False
        self._outages: dict[str, float] = {}
        self._settings: dict[str, NearSettings] = {}
        self._wanted: dict[str, tuple[NearSettings, float, bool]] = {}
        self._policies: dict[str, RecentLru | Reporting] = {}
        self._tables: dict[str, Table] = {}

    def add(
        self, region: str, settings: NearSettings | None, *, counted: bool, outage: float = 0.0
    ) -> None:
        """Make the table of a region, or change it; without ``settings`` it keeps nothing.
        ``counted``: its backend wants to know how often a key was used, not only that it was.
        ``outage`` is for how many seconds past its lease, or its expiry, a value may be given while
        the backend can't be reached.
        """
        if settings is None:
            settings = _OFF
        wanted = settings, outage, counted
        if self._wanted.get(region) == wanted:
            return
        self._wanted[region] = wanted
        self._outages[region] = outage
        policy, known = _order(settings.policy, counted), self._policies.get(region)
        if known is not None and known.name == policy.name:
            policy = known  # the table goes on with it
        self._policies[region] = policy
        table = self._tables.get(region)
        if table is None:
            table = self._tables[region] = Table(
                lock=self._lock,
                tags=self._tags,
                versions=self._versions,
                policy=policy,
                now=self._now,
                tier="near",
            )
        self._settings[region] = settings
        if self._shares is not None:
            sharing = self._sharing()
            most = {name: self._settings[name].max_weight for name in sharing}
            self._shares.arrange(most, sharing)
        table.configure(policy, settings.max_items, self._limit(region), outage)
        if settings is _OFF:
            table.clear()  # of claims, too: nobody looks into it any more
        self._grant(region, table)

    def _sharing(self) -> dict[str, Table]:
        """The tables that keep something."""
        return {name: table for name, table in self._tables.items() if self.keeps(name)}

    def _limit(self, region: str) -> int | None:
        """What a region may weigh now."""
        usual = self._settings[region].max_weight
        return usual if self._shares is None else self._shares.limits.get(region, usual)

    def table(self, region: str) -> Table:
        """The table of a region."""
        return self._tables[region]

    def tables(self) -> Iterable[tuple[str, Table]]:
        """Every region and its table."""
        return self._tables.items()

    # -- the lease

    @property
    def max_staleness(self) -> float:
        """The least bound of all regions that keep something; infinity where none does."""
        bounds = [each.max_staleness for each in self._settings.values() if each is not _OFF]
        return min(bounds, default=FOREVER)

    def figures(self, totals: Iterable[Counters], now: float) -> NearFigures:
        """How the tier does, of all that was counted by region."""
        reads = sum([each.hits + each.misses + each.stale_hits for each in totals])
        hits = sum([table.counters.hits for table in self._tables.values()])
        kept = any(map(self.keeps, self._tables))
        lag = round(now - self._sure_at, 3) if kept and self._sure_at != _NEVER else None
        return NearFigures(near_hits=hits, near_misses=max(0, reads - hits), lag=lag)

    def age(self, now: float) -> float | None:
        """How long ago all changes by others were surely known; ``None`` where that never was so,
        or nothing is kept.
        """
        never = self._sure_at == _NEVER or self.max_staleness == FOREVER
        return None if never else max(0.0, now - self._sure_at)

    def keeps(self, region: str) -> bool:
        """Whether anything of a region is kept."""
        return self._settings.get(region, _OFF) is not _OFF

    def answers(self, region: str, now: float) -> bool:
        """Whether the region's lease stands."""
        return now <= self._tables[region].lease

    def renew(self, verified: float) -> None:
        """Every change that was made before ``verified`` was applied."""
        if self._lapsed:
            self.drop_all()
            self._lapsed = False
        self._sure_at = verified
        self._vouch(verified)

    def suspend(self) -> None:
        """Answer nothing until the next :meth:`renew`; what is kept stays."""
        self._vouch(_NEVER)

    def _vouch(self, verified: float) -> None:
        self._verified = verified
        for region, table in self._tables.items():
            self._grant(region, table)

    def _grant(self, region: str, table: Table) -> None:
        settings = self._settings[region]
        table.lease = _NEVER if settings is _OFF else self._verified + settings.max_staleness

    def lapse(self) -> None:
        """Answer nothing until the next :meth:`renew`, and forget everything, at last then."""
        self.epoch += 1
        self._lapsed = True
        self.suspend()
        for region, table in self._tables.items():
            if self._outages[region]:
                table.release(None)
            else:
                table.clear()

    # -- what is kept

    def read(self, region: str, key: str, now: float) -> Record | None:
        """The entry kept near, counted as a hit, and how long ago its value was surely current;
        ``None`` where there is none to answer.
        """
        table = self._tables[region]
        if now > table.lease:
            return None
        record = table.peek(key, now)
        if record is None:
            return None
        table.get(key, now)
        return replace(record, tags=_shown(record.tags), age_bound=max(0.0, now - self._verified))

    def last_known(self, region: str, keys: Sequence[str], now: float) -> list[Record | None]:
        """What is kept near, whether the lease stands or not and whether its source is there or
        not, as past its time, and how long ago it was surely current.
        """
        age = max(0.0, now - self._sure_at)
        found = [self._tables[region].peek(key, now, True, HIDDEN) for key in keys]
        return [
            record
            and replace(
                record,
                tags=_shown(record.tags),
                age_bound=age,
                expires_in=min(0.0, record.expires_in or 0.0),
            )
            for record in found
        ]

    def mark(self, region: str, key: str, source: str, now: float) -> Claim | None:
        """The right to keep what a read that is sent now will bring from ``source``; ``None``
        while another read of the key has it, or its value is kept.
        """
        if not self.keeps(region):  # since the read began
            return None
        answer = self._tables[region].claim(key, (source,), now)
        return answer if isinstance(answer, Claim) else None

    def depend(self, region: str, claim: Claim, tags: tuple[str, ...]) -> None:
        """Let a claim depend on the present states of more tags."""
        self._tables[region].extend(claim, tags)

    def claim(
        self, region: str, key: str, version: Version, tags: tuple[str, ...], now: float
    ) -> Claim | None:
        """The right to keep a value that was read just now; ``None`` while another has it, or the
        value is kept. An older one makes room: reads of one process never go back.
        """
        if not self.keeps(region):
            return None
        table = self._tables[region]
        answer = table.claim(key, tags, now)
        if isinstance(answer, Record) and answer.version < version:
            table.remove(key, RemovalCause.INVALIDATED, now)
            answer = table.claim(key, tags, now)
        return answer if isinstance(answer, Claim) else None

    def keep(self, region: str, record: Record, value: object, now: float) -> None:
        """Keep ``value``, decoded from ``record``, unless something happened to its key or tags
        since it was claimed. ``MISSING`` gives the claim back.
        """
        if record.near is None:
            return
        claim, deadline = record.near
        table, limit = self._tables[region], self._limit(region)
        if value is MISSING or not isinstance(record.value, Encoded):
            table.release([claim])
            return
        weight = len(record.value.payload) + len(record.key)
        if limit is not None and weight > limit:
            table.release([claim])
        else:
            table.fill(claim, value, deadline, weight, now, record.version)

    def release(self, region: str, claim: Claim) -> None:
        """Give a claim back."""
        self._tables[region].release([claim])

    # -- what happened

    def drop(self, region: str, key: str, now: float) -> None:
        """Something happened to a key."""
        self.epoch += 1
        if self.keeps(region):
            self._tables[region].remove(key, RemovalCause.INVALIDATED, now)

    def end_tag(self, name: str) -> None:
        """A tag was invalidated: O(1), whatever the number of entries."""
        self.epoch += 1
        with self._guard:
            self._tags.invalidate(name)

    def clear(self, region: str) -> None:
        """A region was cleared."""
        self.epoch += 1
        table = self._tables.get(region)
        if table is not None:
            table.clear()

    def drop_all(self) -> None:
        """Anything may have happened."""
        self.epoch += 1
        for table in self._tables.values():
            table.clear()

    def used(self, region: str) -> dict[str, int]:
        """The keys that were used since the last call, in the order of their last use, and where it
        is counted how often: as many as there are keys, however many hits.
        """
        table = self._tables[region]
        table.drain()
        with self._guard:
            return self._policies[region].take()

    def sweep(self, now: float, limit: int) -> None:
        """Give back the memory of some expired and dead entries, and share the total."""
        for table in self._tables.values():
            table.sweep(now, limit)
        if self._shares is not None:
            sharing = self._sharing()
            self._shares.look(sharing, now)
            self._shares.settle(sharing, limit)

    # -- around a fork

    def hold(self) -> None:
        """Before a fork: nobody is in the middle of a change."""
        self._lock.acquire()

    def resume(self) -> None:
        """After it, in the parent."""
        self._lock.release()

    def forked(self) -> None:
        """After it, in the child: a lock of our own, and nothing kept."""
        self._lock = TableLock()
        self._guard.lock = self._lock
        for table in self._tables.values():
            table.forked(self._lock)
        self.lapse()


def _order(policy: str, counted: bool) -> RecentLru | Reporting:
    return RecentLru() if policy == "lru" and not counted else Reporting(POLICIES[policy]())


def _shown(tags: tuple[str, ...]) -> tuple[str, ...]:
    """``tags`` without those that are hidden, which come first."""
    if tags and tags[0].startswith(HIDDEN):
        return tuple([tag for tag in tags if not tag.startswith(HIDDEN)])
    return tags
