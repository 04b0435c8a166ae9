"""Which entries are in: the index, the limits, the eviction order and the expiry of one table.

Everything here runs under the table's guard. ``entries`` is read without it by the hit path, so an
entry is changed in single steps, value first: a reader between two steps sees the new value under
the old deadline and tags, which at worst is a miss.

Limits hold at every moment: room is made before an entry is put in.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .guard import Guard
from .policy.base import Policy
from .stats import Counters
from .tags import TagStates
from .types import Entry, RemovalCause, TagState, Version
from .wheel import TimerWheel

__all__ = ["Removal", "Residents"]

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
        self.counters = Counters()
        self.removals: list[Removal] | None = None
        self._tags = tags
        self._wheel = TimerWheel(now)

    def insert(
        self, key: str, value: object, weight: int, tags: tuple[TagState, ...], deadline: float
    ) -> Entry:
        """Put in a new entry, after making room; ``tags`` are already counted as used."""
        self.make_room(1, weight)
        entry = Entry(key, value)
        entry.tags = tags
        entry.weight = weight
        entry.resident = True
        entry.deadline = deadline
        self.entries[key] = entry
        self.weight += weight
        self.policy.insert(entry)
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
        if self.max_weight is not None and self.weight + growth > self.max_weight:
            self.policy.remove(entry)  # not to evict the very entry we make room for
            self.make_room(0, growth)
            self.policy.insert(entry)
        else:
            self.policy.touch(entry)
        self._guard.dropped.append(entry.value)
        entry.value = value
        self._tags.release(entry.tags)
        entry.tags = tags
        entry.weight = weight
        self.weight += growth
        self.schedule(entry, deadline)

    def schedule(self, entry: Entry, deadline: float) -> None:
        """Change when an entry expires."""
        self._wheel.remove(entry)
        entry.deadline = deadline
        self._wheel.add(entry, deadline + self.grace)

    def make_room(self, items: int, weight: int) -> None:
        """Evict until ``items`` more entries of ``weight`` in all fit."""
        while (self.max_items is not None and len(self.entries) + items > self.max_items) or (
            self.max_weight is not None and self.weight + weight > self.max_weight
        ):
            victim = self.policy.victim()
            if victim is None:
                return
            self.discard(victim, RemovalCause.EVICTED)

    def expire(self, now: float, limit: int) -> int:
        """Discard at most ``limit`` entries that are past their deadline and grace."""
        due = self._wheel.advance(now, self.grace, limit)
        for entry in due:
            self.discard(entry, RemovalCause.EXPIRED)
        return len(due)

    def discard(self, entry: Entry, cause: RemovalCause) -> None:
        """Take an entry out and count why."""
        del self.entries[entry.key]
        self._guard.dropped.append(entry)
        entry.resident = False
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

    def configure(
        self, policy: Policy, max_items: int | None, max_weight: int | None, grace: float
    ) -> None:
        """Change limits and policy; entries stay, as many as fit, in the old policy's order."""
        if policy.name != self.policy.name:
            for entry in self.policy.ordered():
                self.policy.remove(entry)
                policy.insert(entry)
            self.policy = policy
        self.max_items, self.max_weight = max_items, max_weight
        if grace != self.grace:
            self.grace = grace
            for entry in self.entries.values():
                self.schedule(entry, entry.deadline)
        self.make_room(0, 0)

    def reweigh(self, weights: Mapping[str, tuple[Version, int]]) -> None:
        """Set the weight of each entry that still has the version it was weighed at."""
        for key, (version, weight) in weights.items():
            entry = self.entries.get(key)
            if entry is not None and entry.version == version:
                self.weight += weight - entry.weight
                entry.weight = weight
