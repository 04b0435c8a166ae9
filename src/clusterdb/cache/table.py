"""The in-process table: entries with expiry, limits, an eviction policy, tags and claims.

The memory backend keeps one for each region; the near tier of a shared backend is the same table.
It is synchronous and knows no clock: ``now`` is an argument, seconds of one monotonic clock.

**The hit path** (``get``) waits for no lock. It looks up, compares a deadline, looks at the tags'
states, reads the value once and appends the entry to a list: single steps that the interpreter
does not interrupt. Every 512 hits the list is drained into the policy and the counters, unless
another thread holds the lock just then (the read buffer of B. Manes's Caffeine, without its
losses: an order that is at most a batch old costs no hit ratio that could be measured). Rejected:
reordering a linked list on each hit without a lock, which breaks it under threads. Everything that
changes the table takes the lock and drains first, so a table used by one thread is exact.
A near tier's table answers only until its ``lease``, which who owns it renews.

**Expiry** is exact for readers, who compare the deadline. The memory of expired entries is given
back by ``sweep``, which the backend calls; every write does a little of it.

Every write of a key ends the claim on it (see :mod:`clusterdb.cache.claims`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal, TypeVar

from .claims import Claim, Claims
from .entries import Entry, TagState
from .errors import CacheError
from .guard import Guard, TableLock
from .policy.admission import Gate
from .policy.base import Policy
from .profile import Profile
from .residents import Removal, Residents, valid
from .stats import Counters
from .tags import TagStates
from .types import FOREVER, MISSING, Record, RemovalCause, Tier, Version

__all__ = ["Check", "Overwrite", "Removal", "Stored", "Table", "When", "hottest", "ordered"]

T = TypeVar("T")

_BATCH: Final = 512
_EXPIRE_A_WRITE: Final = 16

When = Literal["always", "absent", "present"]
"""The condition of a write on its key."""

Overwrite = Literal["older", "always", "never"]
"""What a restored entry may replace: what has a lower version, whatever is there, or nothing."""

Stored = tuple[str, object, float, int, tuple[str, ...]]
"""What is stored under a key: key, value, deadline, weight, tags."""

Check = tuple[str, Version | None]
"""A key and the version it must have; ``None``: it must be absent."""


class Table:
    """Entries of one region. The lock is shared by all tables whose tags are."""

    def __init__(
        self,
        *,
        lock: TableLock,
        tags: TagStates,
        versions: Iterator[Version],
        policy: Policy,
        now: float,
        tier: Tier = "memory",
    ) -> None:
        self._guard = Guard(lock)
        self._tags, self.versions, self._tier = tags, versions, tier
        self._residents = Residents(self._guard, tags, policy, now)
        self._entries = self._residents.entries
        self._claims = Claims(tags)
        self._touched: list[Entry] = []
        self.lease: float = FOREVER

    def get(self, key: str, now: float) -> object:
        """The live value under ``key``, else ``MISSING``, which is not yet counted as a miss."""
        entry = self._entries.get(key)
        if entry is None or entry.deadline <= now or now > self.lease:
            return MISSING
        for state in entry.tags:
            if not state.live:
                return MISSING
        value = entry.value
        self._touched.append(entry)
        if len(self._touched) >= _BATCH and self._guard.lock.try_acquire():
            try:
                self._drain()
            finally:
                self._guard.__exit__(None, None, None)
        return value

    def expires_by(self, key: str, moment: float) -> bool:
        """Whether an entry under ``key``, dead or alive, has its expiry before ``moment``."""
        return (entry := self._entries.get(key)) is not None and entry.deadline <= moment

    def read(self, key: str, now: float, stale: bool = False) -> Record | None:
        """What is under ``key``, counted as a hit or a miss; ``stale`` takes expired ones too."""
        with self._guard:
            self._drain()
            counters = self._residents.counters
            entry = self._residents.present(key, now)
            if entry is None or (entry.deadline <= now and not stale):
                counters.misses += 1
                return None
            if entry.deadline <= now:
                counters.stale_hits += 1
            else:
                counters.hits += 1
            self._residents.policy.touch(entry)
            return _record(entry, now, self._tier)

    def peek(
        self, key: str, now: float, stale: bool = False, ignored: str | None = None
    ) -> Record | None:
        """As :meth:`read`, leaving no trace in counters and policy. ``ignored``: see `valid`."""
        with self._guard:
            if (entry := self._entries.get(key)) is None or not valid(entry, ignored):
                return None
            limit = entry.deadline + self._residents.grace if stale else entry.deadline
            return _record(entry, now, self._tier) if limit > now else None

    def keys(self, claimed: bool = False) -> list[str]:
        """The keys of all resident entries, dead ones among them, and of claims, in no order."""
        with self._guard:
            return [*self._entries, *(self._claims.keys() if claimed else ())]

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def weight(self) -> int:
        """The weights of all entries added up."""
        return self._residents.weight

    @property
    def counters(self) -> Counters:
        """What happened so far, every hit counted."""
        self.drain()
        return self._residents.counters

    def look(self, work: Callable[[Profile, Mapping[str, Entry]], T]) -> T:
        """What ``work`` makes of the profile of the requests and of the entries, under the lock."""
        with self._guard:
            self._drain()
            return work(self._residents.profile, self._entries)

    def drain(self) -> None:
        """Bring counters and policy up to date."""
        with self._guard:
            self._drain()

    def put(
        self,
        key: str,
        value: object,
        *,
        deadline: float,
        weight: int,
        now: float,
        tags: tuple[str, ...] = (),
        when: When = "always",
        keep_deadline: bool = False,
    ) -> Version:
        """Store; the new version, or 0 where ``when`` forbids it. Raises as :meth:`commit`."""
        with self._guard:
            self._residents.intake.check(key, weight)
            if when != "always" or keep_deadline:
                old = self._residents.alive(key, now)
                if when != "always" and (old is None) != (when == "absent"):
                    return 0
                if keep_deadline and old is not None:
                    deadline = old.deadline
            return self._store(key, value, deadline, weight, self._tags.acquire(tags), now)

    def touch(self, key: str, deadline: float, now: float) -> Version:
        """Give a live entry a new deadline; its version, or 0 where there is none."""
        with self._guard:
            self._drain()
            entry = self._residents.alive(key, now)
            if entry is None:
                return 0
            self._residents.schedule(entry, deadline)
            self._residents.policy.touch(entry)
            return entry.version

    def swap(
        self, key: str, seen: Version, value: object, *, deadline: float, weight: int, now: float
    ) -> Version:
        """Give the entry at version ``seen`` (0: a new one) a new value, keeping its expiry and
        tags. The new version, or 0 where the key is at another by now.
        """
        with self._guard:
            self._drain()
            entry = self._residents.alive(key, now)
            if seen != (0 if entry is None else entry.version):
                return 0
            self._residents.intake.check(key, weight)
            tags, until = ((), deadline) if entry is None else (entry.tags, entry.deadline)
            self._tags.retain(tags)
            return self._store(key, value, until, weight, tags, now)

    def remove(self, key: str, cause: RemovalCause, now: float) -> bool:
        """Remove ``key`` and end the claim on it; whether a live entry was there."""
        with self._guard:
            return self._remove(key, cause, now)

    def commit(
        self,
        checks: Sequence[Check],
        puts: Sequence[Stored],
        drops: Sequence[str],
        now: float,
    ) -> dict[str, Version] | None:
        """All of ``puts`` and ``drops``, if every check holds:
        the new version of each key, 0 for one that was dropped. ``None`` if a check failed.
        Raises :class:`EntryTooLarge` or :class:`OutOfMemory` before anything changes.
        """
        with self._guard:
            for key, version in checks:
                entry = self._residents.alive(key, now)
                if (None if entry is None else entry.version) != version:
                    return None
            for key, _, _, weight, _ in puts:
                self._residents.intake.check(key, weight)
            done = {key: 0 for key in drops if self._remove(key, RemovalCause.DELETED, now)}
            for key, value, until, weight, tags in puts:
                done[key] = self._store(key, value, until, weight, self._tags.acquire(tags), now)
            return done

    def restore(self, stored: Stored, version: Version, over: Overwrite, now: float) -> bool:
        """Store as ``version`` where no live claim is on the key and ``over`` allows it; whether it
        did. Raises as :meth:`commit`.
        """
        key, value, until, weight, tags = stored
        with self._guard:
            old = self._residents.alive(key, now)
            lower = over == "older" and old is not None and old.version < version
            if self._claims.held(key) or not (old is None or lower or over == "always"):
                return False
            self._residents.intake.check(key, weight)
            self._store(key, value, until, weight, self._tags.acquire(tags), now, version)
            return True

    def clear(self) -> int:
        """Remove every entry and claim; how many entries there were."""
        with self._guard:
            self._drain()
            self._claims.clear()
            return self._residents.clear()

    def sweep(self, now: float, limit: int, *, thorough: bool = False) -> int:
        """Give back the memory of expired and dead entries, ``limit`` of each looked at; how many.
        ``thorough``: look for dead ones even if they are few.
        """
        with self._guard:
            self._drain()
            return self._residents.sweep(now, limit, thorough)

    @property
    def sweeping(self) -> bool:
        """Whether a look for dead or expired entries, or a change of policy, is under way."""
        return self._residents.looking

    def claim(self, key: str, tags: tuple[str, ...], now: float) -> Record | Claim | None:
        """The live entry; else a claim; else ``None``, as another holds one."""
        with self._guard:
            entry = self._residents.alive(key, now)
            return _record(entry, now, self._tier) if entry else self._claims.take(key, tags)

    def fence(self, key: str, now: float) -> Claim:
        """Remove the entry and claim the key, whoever holds it."""
        with self._guard:
            self._remove(key, RemovalCause.REPLACED, now)
            return self._claims.fence(key)

    def extend(self, claim: Claim, tags: tuple[str, ...]) -> None:
        """Let ``claim`` depend on the present states of more tags."""
        with self._guard:
            self._claims.extend(claim, tags)

    def fill(
        self,
        claim: Claim,
        value: object,
        deadline: float,
        weight: int,
        now: float,
        version: Version = 0,
    ) -> Version:
        """Store over a claim, as ``version`` if one is given, and end it; 0 where it was lost."""
        with self._guard:
            if not self._claims.holds(claim):
                self._claims.release(claim)
                return 0
            try:
                self._residents.intake.check(claim.key, weight)
            except CacheError:
                self._claims.release(claim)
                raise
            self._tags.retain(claim.tags)
            return self._store(claim.key, value, deadline, weight, claim.tags, now, version)

    def release(self, claims: Sequence[Claim] | None) -> None:
        """Give claims back unfilled; ``None``: all, as those who took them are gone."""
        with self._guard:
            if claims is None:
                self._claims.clear()
            for claim in claims or ():
                self._claims.release(claim)

    def configure(
        self,
        policy: Policy,
        max_items: int | None,
        max_weight: int | None,
        grace: float,
        max_entry: int | None = None,
        gate: Gate | None = None,
    ) -> None:
        """Change limits, policy and admission; entries stay, as many as fit, in the old order."""
        with self._guard:
            self._drain()
            self._residents.intake.configure(max_entry, gate)
            self._residents.configure(policy, max_items, max_weight, grace)

    def limit(self, max_weight: int, evict: int) -> int:
        """Change the limit of the weight, for which at most ``evict`` entries leave: the limit that
        is in force now, above ``max_weight`` where more has to leave.
        """
        with self._guard:
            self._drain()
            return self._residents.limit(max_weight, evict)

    def press(self, budget: tuple[int, int] | None, admitting: bool, evict: float = 0.0) -> int:
        """Give way as memory is short (:class:`.Intake`), and evict a share; how many it was."""
        with self._guard:
            self._drain()
            self._residents.intake.press(budget, not admitting)
            return self._residents.shrink(int(len(self._entries) * evict))

    def within(self, work: Callable[[Residents], T]) -> T:
        """What ``work``, which must not call the table, does with the residents, under the lock."""
        with self._guard:
            self._drain()
            return work(self._residents)

    def record_removals(self, on: bool) -> None:
        """Begin or end to remember the entries that leave by themselves."""
        with self._guard:
            self._residents.removals = [] if on else None

    def removals(self) -> list[Removal]:
        """The entries that left by themselves since the last call."""
        return self._residents.take_removals() if self._residents.removals else []

    def forked(self, lock: TableLock) -> None:
        """In a child process: go on with a lock of our own."""
        self._guard.lock = lock

    # -- under the lock

    def _drain(self) -> None:
        count = len(self._touched)
        if not count:
            return
        batch = self._touched[:count]
        del self._touched[:count]
        self._guard.dropped.append(batch)  # it may hold the last reference to what just left
        self._residents.used(batch)

    def _store(
        self,
        key: str,
        value: object,
        deadline: float,
        weight: int,
        tags: tuple[TagState, ...],
        now: float,
        version: Version = 0,
    ) -> Version:
        """Put in or overwrite; ``tags`` are already counted as used."""
        self._claims.drop(key)
        self._drain()
        self._residents.expire(now, _EXPIRE_A_WRITE)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._residents.insert(key, value, weight, tags, deadline, now)
        else:
            self._residents.overwrite(entry, value, weight, tags, deadline)
        entry.version = version or next(self.versions)
        self._residents.counters.sets += 1
        return entry.version

    def _remove(self, key: str, cause: RemovalCause, now: float) -> bool:
        self._claims.drop(key, unless_fence=cause is RemovalCause.INVALIDATED)
        self._drain()
        entry = self._residents.present(key, now)
        if entry is None:
            return False
        alive = entry.deadline > now
        self._residents.discard(entry, cause if alive else RemovalCause.EXPIRED)
        return alive


def _record(entry: Entry, now: float, tier: Tier) -> Record:
    return Record(
        key=entry.key,
        value=entry.value,
        version=entry.version,
        expires_in=None if entry.deadline == FOREVER else entry.deadline - now,
        tags=tuple([state.name for state in entry.tags]),
        tier=tier,
    )


def ordered(table: Table, now: float) -> list[Record]:
    """Every live entry of a table, the next victim first. O(n)."""
    return table.within(
        lambda residents: [
            _record(entry, now, "memory")
            for entry in residents.policy.ordered()
            if entry.deadline > now and valid(entry)
        ]
    )


def hottest(table: Table, now: float, count: int) -> list[str]:
    """The keys of at most ``count`` live entries, beginning with what would be evicted last.
    O(n).
    """
    keys: list[str] = table.within(
        lambda residents: [
            entry.key
            for entry in residents.policy.ordered()
            if entry.deadline > now and valid(entry)
        ]
    )
    return keys[: -count - 1 : -1]
