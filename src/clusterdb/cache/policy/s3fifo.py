"""S3-FIFO: a small queue on probation, a main queue, and ghosts of what left the small one.

A new entry waits in the small queue, a tenth of the room; used twice there, it moves to the main
queue when its turn comes, else it leaves and its key becomes a ghost. A key that comes back while
it is a ghost goes straight to the main queue, where an entry goes round again for each use, three
times at most. A hit only counts. Until the first eviction, what the small queue has no room for
goes to the main one. Source: J. Yang, Y. Zhang, Z. Qiu, Y. Yue and K. V. Rashmi, "FIFO queues are
all you need for cache eviction", SOSP 2023, and its authors' libCacheSim.

Bad at: entries whose second use comes just after they left the small queue and its ghosts, and
traffic where recency is all that matters.
"""

from __future__ import annotations

from ..entries import Entry
from .base import Policy, Segment
from .ghosts import Ghosts

__all__ = ["S3Fifo"]

_SMALL = 0.1
_GHOSTS = 0.9
_PROMOTED_AT = 2
_MOST = 3


class S3Fifo(Policy):
    """Three static queues."""

    name = "s3fifo"

    def __init__(self) -> None:
        self._small = Segment()
        self._main = Segment()
        self._ghosts = Ghosts()
        self._small_size = self._main_size = self._ghost_size = 0
        self._returning = ""
        self._full = False
        self._chosen: Entry | None = None

    def resize(self, capacity: int) -> None:
        self._small_size = int(capacity * _SMALL)
        self._main_size = capacity - self._small_size
        self._ghost_size = int(capacity * _GHOSTS)
        self._ghosts.trim(self._ghost_size)

    def expect(self, key: str) -> None:
        self._returning = key if self._ghosts.discard(key) else ""

    def insert(self, entry: Entry) -> None:
        entry.uses = 0
        returns = entry.key == self._returning
        filling = not self._full and self._small.count >= self._small_size > 0
        (self._main if returns or filling else self._small).append(entry)
        self._returning, self._chosen = "", None

    def touch(self, entry: Entry) -> None:
        if entry.uses < _MOST:
            entry.uses += 1
        if entry is self._chosen:
            self._chosen = None

    def remove(self, entry: Entry) -> None:
        home: Segment = entry.home
        home.unlink(entry)
        self._chosen = None

    def evict(self, entry: Entry) -> None:
        self._full = True
        if entry.home is self._small:
            self._ghosts.add(entry.key, self._ghost_size)
        self.remove(entry)

    def victim(self, spared: Entry | None = None) -> Entry | None:
        chosen = self._chosen
        if chosen is None or chosen is spared:
            chosen = self._from_small(spared) if self._main.count <= self._main_size else None
            chosen = chosen or self._from_main(spared) or self._small.first(spared)
            self._chosen = chosen
        return chosen

    def _from_small(self, spared: Entry | None) -> Entry | None:
        """The first that was not used twice, after promoting those before it."""
        while True:
            entry = self._small.first(spared)
            if entry is None or entry.uses < _PROMOTED_AT:
                return entry
            self._small.unlink(entry)
            entry.uses = 0
            self._main.append(entry)

    def _from_main(self, spared: Entry | None) -> Entry | None:
        """The first that was not used, after a round for each that was."""
        while True:
            entry = self._main.first(spared)
            if entry is None or not entry.uses:
                return entry
            entry.uses -= 1
            self._main.renew(entry)

    def ordered(self) -> list[Entry]:
        return self._small.entries() + self._main.entries()

    def heat(self, entry: Entry) -> int:
        return entry.uses
