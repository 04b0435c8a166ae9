"""Which entries are in: the index, the limits, the eviction order and the expiry of one table.

Everything here runs under the table's guard. ``entries`` is read without it by the hit path, so an
entry is changed in single steps, value first: a reader between two steps sees the new value under
the old deadline and tags, which at worst is a miss.

Limits hold at every moment: room is made before an entry is put in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from .entries import Entry, TagState
from .guard import Guard
from .intake import Intake
from .policy.base import Policy
from .policy.handover import Handover
from .profile import Profile
from .stats import Counters
from .tags import TagStates
from .types import RemovalCause, Version
from .wheel import TimerWheel

__all__ = ["Removal", "Residents", "valid"]

_LOOK_AT: Final = 16
_WORTH_IT: Final = 16
_LARGE: Final = 4
_PATIENCE: Final = 4
_FOLLOW_AT_ONCE: Final = 1_000
_FOLLOW_A_WRITE: Final = 8

Removal = tuple[str, Version, RemovalCause]
"""A key that left by itself: key, version, why."""

_BY_ITSELF: Final = (RemovalCause.EXPIRED, RemovalCause.EVICTED)


class Residents:
    """The entries of one table."""

    def __init__(self, guard: Guard, tags: TagStates, policy: Policy, now: float) -> None:
        self._guard = guard
        self.entries: dict[str, Entry] = {}
        self.policy = policy
        self.weight = 0
        self.grace = 0.0
        self.max_items: int | None = None
        self.max_weight: int | None = None
        self._capacity = 0
        self._weighed = False
        self.counters = Counters()
        self.intake = Intake(self.counters)
        self.profile = Profile()
        self.removals: list[Removal] | None = None
        self._tags = tags
        self._wheel = TimerWheel(now)
        self._round: list[str] = []

    def insert(
        self,
        key: str,
        value: object,
        weight: int,
        tags: tuple[TagState, ...],
        deadline: float,
        now: float,
    ) -> Entry:
        """Put in a new entry, after making room; ``tags`` are already counted as used. One that is
        refused is not resident, and leaves as if it was evicted at once.
        """
        entry = Entry(key, value)
        if self._refused(key, weight, now):
            self._tags.release(tags)
            return entry
        entry.tags = tags
        entry.weight = weight
        entry.resident = True
        entry.deadline = deadline
        self.entries[key] = entry
        self.weight += weight
        self.hand_over(_FOLLOW_A_WRITE)
        self.policy.insert(entry)
        self.profile.came(entry)
        self._wheel.add(entry, deadline + self.grace)
        return entry

    def overwrite(
        self,
        entry: Entry,
        value: object,
        weight: int,
        tags: tuple[TagState, ...],
        deadline: float,
    ) -> None:
        """Give an entry new contents; ``tags`` are already counted as used."""
        growth = weight - entry.weight
        self.policy.touch(entry)
        if growth > 0:
            self.make_room(0, growth, entry)
        self._guard.dropped.append(entry.value)
        entry.value = value
        self._tags.release(entry.tags)
        entry.tags = tags
        entry.weight = weight
        self.weight += growth
        self.schedule(entry, deadline)

    def used(self, batch: list[Entry]) -> None:
        """These entries were hit; some may have left since."""
        self.counters.hits += len(batch)
        policy, profile = self.policy, self.profile
        profile.passed(batch)
        for entry in batch:
            if entry.resident:
                policy.touch(entry)
            if entry.watched:
                profile.hit(entry)
        self.intake.used(batch)

    def schedule(self, entry: Entry, deadline: float) -> None:
        """Change when an entry expires."""
        self._wheel.remove(entry)
        entry.deadline = deadline
        self._wheel.add(entry, deadline + self.grace)

    def _refused(self, key: str, weight: int, now: float) -> bool:
        """Whether a new entry stays out, counted; room is made for one that does not, by what is
        expired first.
        """
        while self._lacks_room(1, weight) and self.expire(now, _LOOK_AT):
            pass
        victim = self.policy.victim() if self._lacks_room(1, weight) else None
        if self.intake.keeps_out(key, victim, now):
            return True
        policy, count = self.policy, len(self.entries)
        policy.expect(key)
        if self.max_weight is None or weight * count <= _LARGE * self.weight:
            self.make_room(1, weight)
            return False
        # So much larger than the mean that many would leave for it: not more of the hot ones than
        # it was used itself.
        if self.make_room(1, weight, patience=_PATIENCE + policy.promise(key)):
            return False
        self.counters.refused_by_weight += 1
        return True

    def make_room(
        self, items: int, weight: int, spared: Entry | None = None, patience: int = -1
    ) -> bool:
        """Evict until ``items`` more entries of ``weight`` in all fit, but never ``spared``; dead
        entries go first, as far as a short look finds them. False where that would take entries
        that were used more than ``patience`` times in all, beyond their first use.
        """
        while self._lacks_room(items, weight):
            self._measure_capacity()
            if self.purge(_LOOK_AT, spared) and not self._lacks_room(items, weight):
                return True
            victim = self.policy.victim(spared)
            if victim is None:
                return True
            if patience >= 0:
                patience -= max(0, self.policy.heat(victim) - 1)
                if patience < 0:
                    return False
            self.discard(victim, RemovalCause.EVICTED)
        return True

    def shrink(self, count: int) -> int:
        """Evict as many entries, in the policy's order; how many it were."""
        for number in range(count):
            victim = self.policy.victim()
            if victim is None:
                return number
            self.discard(victim, RemovalCause.EVICTED)
        return count

    def limit(self, max_weight: int, evict: int) -> int:
        """Come as near to a limit of the weight as evicting so many entries brings it."""
        self.intake.limit(max_weight)
        while self.weight > max_weight and evict > 0 and self.shrink(1):
            evict -= 1
        self.max_weight = max(max_weight, self.weight)
        self._measure_capacity()
        return self.max_weight

    def _measure_capacity(self) -> None:
        """Where the weights are what limits, tell the policy how many entries fit, about."""
        count = len(self.entries)
        if self.max_weight is None or count == self.max_items:
            return
        known = self._capacity
        if count and not 7 * known <= 8 * count <= 9 * known:
            self._resize(count)

    def _resize(self, capacity: int) -> None:
        self._capacity = capacity
        self.policy.resize(capacity)
        self.intake.resize(capacity)

    def _lacks_room(self, items: int, weight: int) -> bool:
        return (self.max_items is not None and len(self.entries) + items > self.max_items) or (
            self.max_weight is not None and self.weight + weight > self.max_weight
        )

    def purge(self, limit: int, spared: Entry | None = None, now_and_then: bool = False) -> int:
        """Look at the next ``limit`` entries and discard those whose tags have ended.

        A round over all entries begins only where one in sixteen or more may be dead, so that
        each found costs at most sixteen looks, or after a while (``now_and_then``).
        """
        found = 0
        for _ in range(limit):
            if not self._round:
                dead = self._tags.dead
                if not dead or (dead * _WORTH_IT < len(self.entries) and not now_and_then):
                    break
                now_and_then = False
                self._round = list(self.entries)
                if not self._round:
                    break
            entry = self.entries.get(self._round.pop())
            if entry is not None and entry is not spared and not valid(entry):
                self.discard(entry, RemovalCause.INVALIDATED)
                found += 1
        return found

    def sweep(self, now: float, limit: int, thorough: bool) -> int:
        """Look at ``limit`` entries each for what has expired or is dead, and hand over as many to
        a new policy; how many were discarded.
        """
        self.hand_over(limit)
        return self.expire(now, limit) + self.purge(limit, None, thorough)

    def alive(self, key: str, now: float) -> Entry | None:
        """The entry if it is live."""
        entry = self.entries.get(key)
        return entry if entry is not None and entry.deadline > now and valid(entry) else None

    def present(self, key: str, now: float) -> Entry | None:
        """The entry if it is live or within its grace; one that is neither is discarded."""
        entry = self.entries.get(key)
        if entry is None:
            return None
        if not valid(entry):
            self.discard(entry, RemovalCause.INVALIDATED)
        elif entry.deadline + self.grace <= now:
            self.discard(entry, RemovalCause.EXPIRED)
        else:
            return entry
        return None

    def expire(self, now: float, limit: int) -> int:
        """Discard at most ``limit`` entries that are past their deadline and grace."""
        due = self._wheel.advance(now, self.grace, limit)
        for entry in due:
            self.discard(entry, RemovalCause.EXPIRED)
        return len(due)

    def clear(self) -> int:
        """Discard every entry; how many there were."""
        entries = list(self.entries.values())
        for entry in entries:
            self.discard(entry, RemovalCause.CLEARED)
        self._round = []
        return len(entries)

    def discard(self, entry: Entry, cause: RemovalCause) -> None:
        """Take an entry out and count why."""
        del self.entries[entry.key]
        self._guard.dropped.append(entry)
        entry.resident = False
        if cause is RemovalCause.EVICTED:
            self.policy.evict(entry)
        else:
            self.policy.remove(entry)
        self._wheel.remove(entry)
        self._tags.release(entry.tags)
        self.weight -= entry.weight
        counters = self.counters
        if cause is RemovalCause.DELETED:
            counters.deletes += 1
        elif cause is RemovalCause.INVALIDATED:
            counters.invalidations += 1
        elif cause is RemovalCause.EVICTED:
            counters.evictions += 1
        elif cause is RemovalCause.EXPIRED:
            counters.expirations += 1
        if self.removals is not None and cause in _BY_ITSELF:
            self.removals.append((entry.key, entry.version, cause))

    def take_removals(self) -> list[Removal]:
        """The remembered removals, once; takes the guard."""
        with self._guard:
            found, self.removals = self.removals or [], None if self.removals is None else []
            return found

    def configure(
        self,
        policy: Policy,
        max_items: int | None,
        max_weight: int | None,
        grace: float,
    ) -> None:
        """Change limits and policy; entries stay, as many as fit, in the old policy's order."""
        self.intake.limit(max_weight)
        if policy.name != self.policy.name:
            policy.resize(self._room(max_items, max_weight))
            entries = self.entries.values()
            self.policy = Handover(self.policy, policy, entries)
            self.hand_over(_FOLLOW_AT_ONCE)
            self._capacity = 0
        weighs = self.intake.weighs
        if not weighs:
            self.weight = 0
            for entry in self.entries.values() if self._weighed else ():
                entry.weight = 0
        self._weighed = weighs
        self.max_items, self.max_weight = max_items, max_weight
        self._resize(self._room(max_items, max_weight))
        if grace != self.grace:
            self.grace = grace
            for entry in self.entries.values():
                self.schedule(entry, entry.deadline)
        self.make_room(0, 0)

    def hand_over(self, limit: int) -> None:
        """Give the new policy at most ``limit`` of the entries that the old one still has."""
        policy = self.policy
        if isinstance(policy, Handover) and policy.move(limit):
            self.policy = policy.new

    def _room(self, max_items: int | None, max_weight: int | None) -> int:
        """How many entries fit, about; 0 is no limit."""
        if max_weight is None or not self.weight:
            return max_items or 0
        fitting = max(1, max_weight * len(self.entries) // self.weight)
        return fitting if max_items is None else min(fitting, max_items)

    @property
    def looking(self) -> bool:
        """Whether a round of :meth:`purge`, of expiry or of handing over is under way."""
        under_way = isinstance(self.policy, Handover) or self._wheel.pending
        return under_way or len(self._round) > 0

    def convert(self, function: Callable[[object], object]) -> None:
        """Replace every value by what ``function`` makes of it."""
        for entry in self.entries.values():
            self._guard.dropped.append(entry.value)
            entry.value = function(entry.value)

    def reweigh(self, weights: Mapping[str, tuple[Version, int]]) -> None:
        """Set the weight of each entry that still has the version it was weighed at."""
        for key, (version, weight) in weights.items():
            entry = self.entries.get(key)
            if entry is not None and entry.version == version:
                self.weight += weight - entry.weight
                entry.weight = weight


def valid(entry: Entry, ignored: str | None = None) -> bool:
    """Whether none of the entry's tags has ended since it was written, but for those whose names
    begin with ``ignored``.
    """
    for state in entry.tags:
        if not state.live and (ignored is None or not state.name.startswith(ignored)):
            return False
    return True
