"""ARC: two recency lists, of entries used once and used again, whose share follows their ghosts.

Keys that left either list are remembered. One that comes back says that its list was too short,
and the target length of the first list moves. Source: N. Megiddo and D. S. Modha, "ARC: A
Self-Tuning, Low Overhead Replacement Cache", FAST 2003.

Bad at: loops longer than the cache, and popularity that is steady: an entry used twice in a burst
counts as much as one that is used all the time. Remembers as many keys as it holds entries.
"""

from __future__ import annotations

from ..entries import Entry
from .base import Policy, Segment
from .ghosts import Ghosts

__all__ = ["Arc"]


class Arc(Policy):
    """Adaptive replacement."""

    name = "arc"

    def __init__(self) -> None:
        self._once = Segment()
        self._again = Segment()
        self._once_ghosts = Ghosts()
        self._again_ghosts = Ghosts()
        self._capacity = 0
        self._target = 0.0
        self._returning = ""
        self._from_again = False
        self._forgets = False

    def resize(self, capacity: int) -> None:
        self._capacity = capacity
        self._target = min(self._target, float(capacity))
        self._once_ghosts.trim(capacity)
        self._again_ghosts.trim(capacity)

    def expect(self, key: str) -> None:
        once, again = len(self._once_ghosts), len(self._again_ghosts)
        self._returning, self._from_again, self._forgets = "", False, False
        if key in self._once_ghosts:
            self._target = min(float(self._capacity), self._target + max(1.0, again / once))
            self._once_ghosts.discard(key)
            self._returning = key
        elif key in self._again_ghosts:
            self._target = max(0.0, self._target - max(1.0, once / again))
            self._again_ghosts.discard(key)
            self._returning, self._from_again = key, True
        else:
            self._make_history()

    def _make_history(self) -> None:
        """Keep the ghosts within their bounds, for a key that is none."""
        capacity = self._capacity
        once = self._once.count + len(self._once_ghosts)
        if once >= capacity:
            if len(self._once_ghosts):
                self._once_ghosts.pop()
            else:
                self._forgets = True  # the first list fills the cache: its oldest just leaves
        elif (
            len(self._again_ghosts)
            and once + self._again.count + len(self._again_ghosts) >= 2 * capacity
        ):
            self._again_ghosts.pop()

    def insert(self, entry: Entry) -> None:
        (self._again if entry.key == self._returning else self._once).append(entry)
        self._returning, self._from_again, self._forgets = "", False, False

    def touch(self, entry: Entry) -> None:
        home: Segment = entry.home
        if home is self._again:
            home.renew(entry)
        else:
            home.unlink(entry)
            self._again.append(entry)

    def remove(self, entry: Entry) -> None:
        home: Segment = entry.home
        home.unlink(entry)

    def evict(self, entry: Entry) -> None:
        if entry.home is self._again:
            self._again_ghosts.add(entry.key, self._capacity)
        elif not self._forgets:
            self._once_ghosts.add(entry.key, self._capacity)
        self.remove(entry)

    def victim(self, spared: Entry | None = None) -> Entry | None:
        once, again = self._once.first(spared), self._again.first(spared)
        if once is None or again is None:
            return again if once is None else once
        count = self._once.count
        first = count > self._target or (self._from_again and count == self._target)
        return once if first or self._forgets else again

    def ordered(self) -> list[Entry]:
        return self._once.entries() + self._again.entries()
