"""The orders of a near tier: LRU that also tells what was used since it was last asked.

The backend behind the near tier sees only what the near tier misses. So that its own eviction
knows what is in use, it takes the used keys from time to time. ``RecentLru`` tells which keys, at
no cost to a hit: they are those behind a mark in the order of recency. ``CountingLru`` also tells
how often, which an LFU needs, for a third more of a hit.
"""

from __future__ import annotations

from ..entries import Entry
from .lru import Lru

__all__ = ["CountingLru", "RecentLru"]


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


class CountingLru(RecentLru):
    """LRU that tells how often each key was used since :meth:`take`."""

    name = "counting_lru"

    def __init__(self) -> None:
        super().__init__()
        self._used: dict[str, int] = {}

    def touch(self, entry: Entry) -> None:
        super().touch(entry)
        self._used[entry.key] = self._used.pop(entry.key, 0) + 1

    def take(self) -> dict[str, int]:
        """The keys used since the last call, in the order of their last use, and how often."""
        used, self._used = self._used, {}
        return used
