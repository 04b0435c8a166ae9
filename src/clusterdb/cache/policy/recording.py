"""The orders of a near tier: they also tell what was used since they were last asked.

The backend behind the near tier sees only what the near tier misses. So that its own eviction
knows what is in use, it takes the used keys from time to time. ``RecentLru`` tells which keys, at
no cost to a hit: they are those behind a mark in the order of recency. ``Reporting`` does it for
any policy, and tells how often, which an LFU needs, for a third more of a hit.
"""

from __future__ import annotations

from ..entries import Entry
from .base import Policy
from .lru import Lru

__all__ = ["RecentLru", "Reporting"]


class RecentLru(Lru):
    """LRU that tells what was used since :meth:`take`."""

    name = "recent_lru"

    def __init__(self) -> None:
        super().__init__()
        self._mark = Entry("", None)
        self._recency.append(self._mark)

    def victim(self, spared: Entry | None = None) -> Entry | None:
        found = self._recency.first(spared)
        if found is not self._mark:
            return found
        found = self._recency.after(self._mark)
        return found if found is not spared or found is None else self._recency.after(found)

    def ordered(self) -> list[Entry]:
        return [entry for entry in self._recency.entries() if entry is not self._mark]

    def take(self) -> dict[str, int]:
        """The keys used since the last call, in the order of their last use, each once."""
        used: dict[str, int] = {}
        entry = self._recency.after(self._mark)
        while entry is not None:
            used[entry.key] = 1
            entry = self._recency.after(entry)
        self._recency.unlink(self._mark)
        self._recency.append(self._mark)
        return used


class Reporting(Policy):
    """Another policy, whose uses are told: which keys were used since :meth:`take`, how often."""

    def __init__(self, policy: Policy) -> None:
        self.name = f"reporting {policy.name}"
        self._policy = policy
        self._used: dict[str, int] = {}

    def resize(self, capacity: int) -> None:
        self._policy.resize(capacity)

    def expect(self, key: str) -> None:
        self._policy.expect(key)

    def insert(self, entry: Entry) -> None:
        self._policy.insert(entry)

    def touch(self, entry: Entry) -> None:
        self._policy.touch(entry)
        self._used[entry.key] = self._used.pop(entry.key, 0) + 1

    def remove(self, entry: Entry) -> None:
        self._policy.remove(entry)

    def evict(self, entry: Entry) -> None:
        self._policy.evict(entry)

    def victim(self, spared: Entry | None = None) -> Entry | None:
        return self._policy.victim(spared)

    def ordered(self) -> list[Entry]:
        return self._policy.ordered()

    def heat(self, entry: Entry) -> int:
        return self._policy.heat(entry)

    def promise(self, key: str) -> int:
        return self._policy.promise(key)

    def take(self) -> dict[str, int]:
        """The keys used since the last call, in the order of their last use, and how often."""
        used, self._used = self._used, {}
        return used
